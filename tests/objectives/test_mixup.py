"""Mixtures of rows against the paper's formula, with streams and targets missing here and there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.registry import build
from sensorium.objectives.mixup import Mixup, mixture
from sensorium.testing import objectives, samples

torch.set_num_threads(1)

PRESENT = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1], [0, 0]], dtype=torch.bool)


def test_a_mixture_is_between_its_rows_and_has_the_streams_of_both() -> None:
    streams = samples.streams({"a": 3, "b": 4}, 8, PRESENT)
    other = torch.tensor([3, 0, 1, 4, 2])
    share = torch.tensor([0.9, 0.25, 0.5, 0.5, 0.5])
    made, mixed = mixture(streams, other, share)
    # Rows 0 and 3 share both streams, 1 and 0 share a; 2 and 1, 3 and 4, 4 and 2 share none and stay what they are.
    assert mixed.tolist() == [True, True, False, False, False]
    assert made["a"].present.tolist() == [True, True, False, True, False]
    assert made["b"].present.tolist() == [True, False, True, True, False]
    for name, part in streams.items():
        torch.testing.assert_close(made[name].pooled[0], 0.9 * part.pooled[0] + 0.1 * part.pooled[3])
        torch.testing.assert_close(made[name].tokens[0], 0.9 * part.tokens[0] + 0.1 * part.tokens[3])
        assert torch.equal(made[name].mask[0], part.mask[0] | part.mask[3])
        for row in (2, 3, 4):
            for whole, before in ((made[name].tokens, part.tokens), (made[name].pooled, part.pooled)):
                assert torch.equal(whole[row], before[row])
        assert not made[name].tokens[~made[name].mask].any()
    torch.testing.assert_close(made["a"].pooled[1], 0.25 * streams["a"].pooled[1] + 0.75 * streams["a"].pooled[0])
    assert not made["b"].pooled[1].any()


def test_feature_maps_are_mixed_like_tokens() -> None:
    maps = (torch.randn(5, 2, 4, 3), torch.randn(5, 6, 2))
    part = replace(samples.streams({"a": 3}, 8, PRESENT)["a"], pyramid=maps).hide(PRESENT[:, 0])
    made, _ = mixture({"a": part}, torch.tensor([3, 0, 1, 4, 2]), torch.tensor([0.9, 0.25, 0.5, 0.5, 0.5]))
    for result, before in zip(made["a"].pyramid, part.pyramid, strict=True):
        torch.testing.assert_close(result[0], 0.9 * before[0] + 0.1 * before[3])
        torch.testing.assert_close(result[1], 0.25 * before[1] + 0.75 * before[0])
        assert torch.equal(result[3], before[3])
        assert not result[2].any()


def test_the_loss_is_that_of_both_targets_by_their_share() -> None:
    """Equation of section 2: with one-hot targets, cross-entropy to λ y + (1 - λ) y'."""
    learner, batch = objectives.model(), objectives.batch()
    run = Forward(learner, batch)
    part = Mixup(learner, alpha=0.7)
    torch.manual_seed(3)
    term = part(run)["class/mixup"]
    torch.manual_seed(3)
    other = torch.randperm(batch.rows)
    even = torch.full((batch.rows,), 0.7)
    share = torch.distributions.Beta(even, even).sample()
    streams, _ = mixture(run.streams, other, share)
    logits: Any = learner.answer(learner.fusion(streams), streams, {})["class"]
    assert isinstance(logits, torch.Tensor)
    target = batch.targets["class"]
    classes = target.data.long().reshape(-1)
    soft = torch.nn.functional.one_hot(classes, logits.shape[1]).double()
    soft = share[:, None] * soft + (1 - share[:, None]) * soft[other]
    rows = -(soft * logits.double().log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(term.double(), rows.mean(), atol=1e-5, rtol=1e-5)


def test_a_row_without_a_target_counts_by_its_partner_alone() -> None:
    learner, batch = objectives.model(), objectives.batch()
    target = batch.targets["class"]
    one = torch.arange(batch.rows) == 0
    only = replace(batch, targets={"class": replace(target, present=one)})
    for seed in range(3):
        torch.manual_seed(seed)
        term = Mixup(learner)(Forward(learner, only))["class/mixup"]
        assert term.isfinite()
        assert term > 0
    spoilt = replace(target, data=torch.where(one.reshape(-1, *[1] * (target.data.dim() - 1)), target.data, 0), present=one)
    torch.manual_seed(2)
    again = Mixup(learner)(Forward(learner, replace(batch, targets={"class": spoilt})))["class/mixup"]
    torch.testing.assert_close(again, term)


def test_options_are_refused_in_words() -> None:
    learner = objectives.model()
    for bad in ({"alpha": 0.0}, {"weight": -1.0}):
        with pytest.raises(ConfigError, match="above 0"):
            build("objectives", {"kind": "mixup", **bad}, learner)
