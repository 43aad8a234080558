"""N-grams with Witten-Bell smoothing: sums, a case by hand, and what a file may hold."""

from __future__ import annotations

import itertools

import pytest
import torch

from sensorium.nn.ngram_model import NgramModel

TEXTS = [[2, 3, 2], [3, 2], [2, 3, 4], [4]]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_probabilities_after_any_context_sum_to_one(order: int) -> None:
    model = NgramModel(6, order)
    model.learn(TEXTS)
    for length in range(4):
        for context in itertools.product(range(1, 6), repeat=length):
            chances = model.after(context)
            assert float(chances.sum()) == pytest.approx(1.0, abs=1e-12)
            assert bool((chances > 0).all())


def test_a_case_by_hand() -> None:
    model = NgramModel(6, 2)
    model.learn(TEXTS)
    # 13 single units with the ends: four ends, four 2, three 3, two 4; four different ones.
    one = (4 + 4 / 6) / (13 + 4)
    assert float(model.after([1])[0]) == pytest.approx(one), "never seen: the single units decide"
    # After 2: 3 twice, the end twice.
    assert float(model.after([2])[0]) == pytest.approx((2 + 2 * one) / (4 + 2))


def test_it_is_saved_and_refuses_what_could_not_be_learnt() -> None:
    model, other = NgramModel(6, 3), NgramModel(6, 3)
    model.learn(TEXTS)
    other.load_state_dict(model.state_dict())
    other.check()
    assert torch.equal(other.after([2, 3]), model.after([2, 3]))
    other.grams[0, 0] = 6
    with pytest.raises(ValueError, match="outside the vocabulary"):
        other.check()
    small = NgramModel(6, 2)
    small.keep("grams", model.grams)
    small.keep("counts", model.counts)
    with pytest.raises(ValueError, match="n-grams of order 2"):
        small.check()
