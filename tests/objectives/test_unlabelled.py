"""Losses without targets against their formulas in float64, row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.registry import build
from sensorium.testing import objectives


def objective(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return build("objectives", {"kind": kind, **options}, objectives.model())


def test_simclr_is_nt_xent() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(10, 4, dtype=torch.float64), dim=1)
    made = objective("simclr", temperature=0.3).compared(vectors)
    similar = (vectors @ vectors.T).numpy() / 0.3
    for i in range(10):
        partner = (i + 5) % 10
        others = [similar[i, j] for j in range(10) if j != i]
        expected = -similar[i, partner] + math.log(sum(math.exp(x) for x in others))
        assert float(made[i]) == pytest.approx(expected, rel=1e-9)


def test_vicreg_is_its_three_terms() -> None:
    one, other = (torch.randn(9, 5, dtype=torch.float64) * s for s in (0.5, 2.0))
    made = objective("vicreg", agree=3.0, vary=2.0, decorrelate=0.7).compared(one, other)
    expected = 3.0 * float(((one - other) ** 2).mean())
    for z in (one.numpy(), other.numpy()):
        expected += 2.0 * np.maximum(0, 1 - np.sqrt(z.var(axis=0, ddof=1) + 1e-4)).mean() / 2
        covariance = np.cov(z.T)
        expected += 0.7 * (np.square(covariance).sum() - np.square(np.diag(covariance)).sum()) / z.shape[1]
    assert float(made) == pytest.approx(expected, rel=1e-9)


def test_matching_draws_other_rows_the_more_similar_the_more_often() -> None:
    torch.manual_seed(0)
    left = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    right = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    part = objective("matching", temperature=0.5)
    counts = torch.zeros(6, 6)
    for _ in range(1000):
        drawn = part.negatives(left, right)
        counts[torch.arange(6), drawn] += 1
    assert float(counts.diagonal().sum()) == 0
    similar = (left @ right.T).double() / 0.5
    similar.fill_diagonal_(-torch.inf)
    torch.testing.assert_close(counts.double() / 1000, similar.softmax(dim=1), atol=0.07, rtol=0)


def test_matching_is_a_cross_entropy_of_true_and_wrong_pairs() -> None:
    learner, batch = objectives.model(), objectives.batch()
    part = objective("matching")
    part.negatives = lambda left, right: torch.arange(len(left)).roll(1)
    run, terms = Forward(learner, batch), []
    names = list(objectives.LAYOUTS)
    for a in range(3):
        for b in range(3):
            if a != b:
                left = part.project[a](run.streams[names[a]].pooled)
                right = part.project[b](run.streams[names[b]].pooled)
                for i in range(batch.rows):
                    for j, truth in ((i, 1), (i - 1, 0)):
                        chance = torch.sigmoid(part.judged(left[i : i + 1], right[j][None]).detach().double())
                        terms.append(-math.log(float(chance if truth else 1 - chance)))
    assert float(part(run)["matching"].detach()) == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_masked_guesses_are_scored_where_something_is_hidden() -> None:
    learner, batch = objectives.model(), objectives.batch()
    part = build("objectives", {"kind": "masked", "streams": ["picture"], "share": 0.5}, learner)
    torch.manual_seed(3)
    before = float(part(Forward(learner, batch))["masked"].detach())
    assert before == pytest.approx(1.0, abs=0.35)  # no information yet
    optimiser = torch.optim.Adam([*learner.parameters(), *part.parameters()], lr=6e-3)
    batch.inputs["picture"].data[:] = torch.linspace(-1, 1, batch.rows).reshape(-1, 1, 1, 1)  # visible in any patch
    for _ in range(30):
        optimiser.zero_grad()
        part(Forward(learner, batch))["masked"].backward()
        optimiser.step()
    assert float(part(Forward(learner, batch))["masked"].detach()) < 0.3


def test_other_streams_are_context_of_what_is_hidden() -> None:
    learner, batch = objectives.model(), objectives.batch()
    part = build("objectives", {"kind": "masked", "streams": ["picture"]}, learner)

    def term(sample: Any) -> Tensor:
        torch.manual_seed(3)
        value: Tensor = part(Forward(learner, sample))["masked"].detach()
        return value

    assert not torch.equal(term(batch), term(batch.without("series")))
    assert part(Forward(learner, batch.without("picture"))) == {}


def test_denoising_asks_for_the_clean_answer() -> None:
    learner, batch = objectives.model(), objectives.batch()
    clean = objective("denoising", strength=0.0, weight=0.5)
    task, target = learner.tasks["class"], batch.targets["class"]
    run = Forward(learner, batch)
    each = task.loss(run.outputs["class"], target)
    expected = 0.5 * float(each.detach()[target.present].mean())
    assert float(clean(Forward(learner, batch))["class/denoised"].detach()) == pytest.approx(expected, rel=1e-5)


def test_each_stream_alone_answers_as_its_teachers() -> None:
    learner, batch = objectives.model(), objectives.batch()
    batch.targets.clear()  # no target is needed
    part = build("objectives", {"kind": "distillation", "teachers": ["picture", "table"], "weight": 0.5}, learner)
    run = Forward(learner, batch)
    aim = run.only("picture", "table").outputs["class"].detach().double()
    spread = float(aim.var(dim=0, unbiased=False).mean())
    each = [
        float((run.only(stream).outputs["class"].detach().double() - aim).square().mean()) / spread
        for stream in objectives.LAYOUTS
    ]
    assert float(part(run)["class/distilled"].detach()) == pytest.approx(0.5 * sum(each) / 3, rel=1e-4)
    # Rows that have one stream only teach nothing.
    assert part(Forward(learner, batch.without("series", "table"))) == {}
    before = run.only("series").outputs["class"].detach()
    optimiser = torch.optim.Adam(learner.encoders["series"].parameters(), lr=3e-3)
    for _ in range(25):
        optimiser.zero_grad()
        part(Forward(learner, batch))["class/distilled"].backward()
        optimiser.step()
    after = Forward(learner, batch).only("series").outputs["class"].detach()
    assert float((after - aim).square().mean()) < 0.8 * float((before - aim).square().mean())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("simclr", {"weight": -1.0}),
        ("simclr", {"streams": ["nowhere"]}),
        ("vicreg", {"vary": -1.0}),
        ("matching", {"temperature": 0.0}),
        ("masked", {"share": 1.0}),
        ("masked", {"streams": ["series"]}),  # a convolutional network has no tokens to hide
        ("denoising", {"strength": -0.1}),
        ("distillation", {"teachers": ["nobody"]}),
    ],
)
def test_bad_options_are_refused(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=kind):
        objective(kind, **options)
