"""The most probable sequence, against all sequences."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch

from sensorium.nn.viterbi import order_and_lengths, transition_scores, viterbi


def best_of_all(scores: torch.Tensor, transitions: torch.Tensor) -> tuple[int, ...]:
    steps, classes = scores.shape

    def total(path: tuple[int, ...]) -> float:
        own = sum(float(scores[t, k]) for t, k in enumerate(path))
        return own + sum(float(transitions[a, b]) for a, b in pairwise(path))

    return max(product(range(classes), repeat=steps), key=total)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_best_of_all_sequences(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores, transitions = torch.randn(3, 5, 3, generator=draw), 2 * torch.randn(3, 3, 3, generator=draw)
    shared = viterbi(scores, transitions[0], torch.ones(3, 5, dtype=torch.bool))
    own = viterbi(scores, transitions, torch.ones(3, 5, dtype=torch.bool))
    for row in range(3):
        assert tuple(shared[row].tolist()) == best_of_all(scores[row], transitions[0])
        assert tuple(own[row].tolist()) == best_of_all(scores[row], transitions[row])


def test_padding_and_other_rows_change_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    scores, transitions = torch.randn(2, 6, 3, generator=draw), torch.randn(3, 3, generator=draw)
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    spoilt = scores.clone()
    spoilt[0, 4:] = torch.nan
    path = viterbi(spoilt, transitions, mask)
    assert path[0, :4].tolist() == viterbi(scores[:1, :4], transitions, mask[:1, :4])[0].tolist()
    assert path[1].tolist() == viterbi(scores[1:], transitions, mask[1:])[0].tolist()
    assert viterbi(scores[:, :0], transitions, mask[:, :0]).shape == (2, 0)


def test_transitions_are_probabilities_and_last_as_long_as_seen() -> None:
    order, lengths = order_and_lengths([[(0, 4.0), (1, 8.0), (0, 6.0)], [(1, 12.0), (2, 3.0)], []], 4)
    assert lengths.tolist() == pytest.approx([5.0, 10.0, 3.0, 33 / 5])
    scores = transition_scores(order, torch.stack([lengths, 2 * lengths]))
    assert scores.shape == (2, 4, 4)
    torch.testing.assert_close(scores.exp().sum(dim=2), torch.ones(2, 4, dtype=torch.float64))
    # The mean of a geometric number of steps is one over the chance to leave.
    torch.testing.assert_close(1 / (1 - scores[1].diagonal().exp()), 2 * lengths.double())
    assert scores[0, 1, 0] == pytest.approx(float(scores[0, 1, 2])), "each followed 1 once"
    assert scores[0, 0, 1] > scores[0, 0, 3]
