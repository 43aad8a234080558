"""Likelihood, beam search and alignment against sums and maxima over all alignments of small cases."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from sensorium.nn.ctc import LOWEST, alignment, best_path, log_likelihood, prefix_beam_search
from sensorium.nn.ngram_model import NgramModel


def spelt(path: tuple[int, ...]) -> tuple[int, ...]:
    """The sequence of an alignment: repetitions and then blanks left out."""
    return tuple(unit for unit, _ in itertools.groupby(path) if unit)


def every_sequence(logs: Tensor) -> dict[tuple[int, ...], float]:
    """The log probability of each sequence, summed over all alignments."""
    steps, units = logs.shape
    chances: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(units), repeat=steps):
        chances[spelt(path)] += math.exp(sum(float(logs[t, unit]) for t, unit in enumerate(path)))
    return {ids: math.log(chance) for ids, chance in chances.items()}


def emissions(seed: int, rows: int = 3, steps: int = 5, units: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logs = (2 * torch.randn(rows, steps, units, generator=draw)).log_softmax(dim=2)
    mask = torch.ones(rows, steps, dtype=torch.bool)
    mask[1, 3:] = False
    mask[2, 1] = False  # not at the end
    return logs, mask


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_every_sequence_with_its_probability(seed: int) -> None:
    logs, mask = emissions(seed)
    result = prefix_beam_search(logs, mask, 64)
    for i in range(3):
        wanted = sorted(every_sequence(logs[i][mask[i]]).items(), key=lambda pair: -pair[1])
        live = int((result.score[i] > LOWEST / 2).sum())
        sequences = [tuple(result.ids[i, w, : result.length[i, w]].tolist()) for w in range(live)]
        assert sequences == [ids for ids, _ in wanted]
        assert result.score[i, :live].tolist() == pytest.approx([score for _, score in wanted], abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_likelihood_is_the_sum_over_alignments(seed: int) -> None:
    logs, mask = emissions(seed)
    for i in range(3):
        for ids, score in every_sequence(logs[i][mask[i]]).items():
            padded = torch.tensor([[*ids, 0, 0]])
            assert float(log_likelihood(logs[i : i + 1], mask[i : i + 1], padded)) == pytest.approx(score, abs=1e-4)


def test_what_does_not_fit_has_no_likelihood_and_no_gradient() -> None:
    logs, mask = emissions(0)
    logs.requires_grad_()
    ids = torch.tensor([[1, 1, 1, 0], [1, 2, 1, 2], [1, 0, 0, 0]])  # three equal units take five steps, four take four
    none = mask & torch.tensor([True, True, False])[:, None]
    value = log_likelihood(logs, none, ids)
    assert value[0] > -100
    assert value[1:].tolist() == [-math.inf, -math.inf]
    value[0].backward()
    assert logs.grad is not None
    assert bool(logs.grad.isfinite().all())
    assert not logs.grad[1:].any()


def test_a_narrow_beam_keeps_the_best_and_greedy_takes_the_best_alignment() -> None:
    for seed in range(8):
        logs, mask = emissions(seed, steps=6)
        narrow = prefix_beam_search(logs, mask, 4)
        for i in range(3):
            wanted = every_sequence(logs[i][mask[i]])
            assert float(narrow.score[i, 0]) <= max(wanted.values()) + 1e-6
            path = spelt(tuple(logs[i][mask[i]].argmax(dim=1).tolist()))
            greedy = best_path(logs, mask)
            assert tuple(greedy.ids[i, 0, : greedy.length[i, 0]].tolist()) == path


def test_a_language_model_is_added_unit_by_unit() -> None:
    model = NgramModel(3, 2)
    model.learn([[1, 2, 1], [2, 1], [1, 2]])
    logs, mask = emissions(5)
    result = prefix_beam_search(logs, mask, 64, model.scores)
    for i in range(3):
        expected = {
            ids: score + sum(float(model.after(ids[:n])[unit].log()) for n, unit in enumerate((*ids, 0)))
            for ids, score in every_sequence(logs[i][mask[i]]).items()
        }
        wanted = sorted(expected.items(), key=lambda pair: -pair[1])
        live = int((result.score[i] > LOWEST / 2).sum())
        assert [tuple(result.ids[i, w, : result.length[i, w]].tolist()) for w in range(live)] == [ids for ids, _ in wanted]
        assert result.score[i, :live].tolist() == pytest.approx([score for _, score in wanted], abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_the_alignment_is_the_most_probable_one(seed: int) -> None:
    logs, mask = emissions(seed, rows=3, steps=6, units=4)
    mask[2, 1] = True
    ids = torch.tensor([[1, 2, 2], [3, 1, 0], [2, 0, 0]])
    first, last = alignment(logs, mask, ids)
    for i in range(3):
        steps, wanted = int(mask[i].sum()), [unit for unit in ids[i].tolist() if unit]
        paths = [path for path in itertools.product(range(4), repeat=steps) if list(spelt(path)) == wanted]
        best = max(paths, key=lambda path: sum(float(logs[i, t, unit]) for t, unit in enumerate(path)))
        runs, t = [], 0
        for unit, group in itertools.groupby(best):
            length = len(list(group))
            runs += [(t, t + length - 1)] if unit else []
            t += length
        assert list(zip(first[i].tolist(), last[i].tolist(), strict=True))[: len(wanted)] == runs
        assert first[i, len(wanted) :].eq(-1).all()


def test_an_alignment_that_does_not_fit_has_no_places() -> None:
    logs, mask = emissions(0)
    first, last = alignment(logs, mask, torch.tensor([[1, 1, 1, 1], [1, 2, 1, 2], [0, 0, 0, 0]]))
    assert first.eq(-1).all()
    assert last.eq(-1).all()


def test_no_steps_say_nothing() -> None:
    logs = torch.zeros(2, 0, 3)
    mask = torch.zeros(2, 0, dtype=torch.bool)
    assert log_likelihood(logs, mask, torch.tensor([[1], [0]])).tolist() == [-math.inf, 0.0]
    assert prefix_beam_search(logs, mask, 4).length[:, 0].tolist() == [0, 0]
    assert best_path(logs, mask).length.tolist() == [[0], [0]]
