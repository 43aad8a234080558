"""The linear-chain CRF compared with an enumeration of all sequences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sensorium.nn.linear_chain import LinearChain


def legal(states: tuple[int, ...], labels: int, background: int | None) -> bool:
    """Whether every span keeps its label."""
    for before, state in zip((None, *states[:-1]), states, strict=True):
        label = state % labels
        if label == background:
            if state >= labels:
                return False
        elif state < labels and (before is None or before % labels != label):
            return False
    return True


@pytest.mark.parametrize("background", [0, None])
def test_likelihood_equals_the_sum_over_all_sequences(background: int | None) -> None:
    torch.manual_seed(0)
    labels, steps = 2, 4
    chain = LinearChain(labels, background)
    torch.nn.init.normal_(chain.transitions)
    chain.requires_grad_(False)
    scores = torch.randn(2, steps + 2, 2 * labels)
    real = torch.arange(steps + 2) < torch.tensor([[steps], [steps - 1]])
    scores = chain.hidden(scores, real)
    for row, count in enumerate((steps, steps - 1)):
        weights = {
            states: sum(float(scores[row, t, s]) for t, s in enumerate(states))
            + sum(float(chain.transitions[a, b]) for a, b in itertools.pairwise(states))
            for states in itertools.product(range(2 * labels), repeat=count)
            if legal(states, labels, background)
        }
        total = math.log(sum(map(math.exp, weights.values())))
        best = max(weights, key=weights.__getitem__)
        assert chain.best(scores, 1.0, real)[row, :count].tolist() == list(best)
        codes = torch.full((2, steps + 2), -100)
        codes[row, :count] = torch.tensor(best)
        assert float(chain.loss(scores, codes)[row]) == pytest.approx((total - weights[best]) / count, abs=1e-4)
        codes[row, 1] = -100  # an unknown label is summed over
        some = [w for s, w in weights.items() if all(s[t] == best[t] for t in range(count) if t != 1)]
        part = math.log(sum(map(math.exp, some)))
        assert float(chain.loss(scores, codes)[row]) == pytest.approx((total - part) / (count - 1), abs=1e-4)
        chances = chain.chances(scores)[row]
        for t, s in itertools.product(range(count), range(2 * labels)):
            share = sum(math.exp(w - total) for states, w in weights.items() if states[t] == s)
            assert float(chances[t, s]) == pytest.approx(share, abs=1e-4)


def test_loss_is_zero_without_known_labels() -> None:
    chain = LinearChain(2, 0)
    assert chain.loss(torch.randn(1, 3, 4), torch.full((1, 3), -100)).tolist() == [0.0]
