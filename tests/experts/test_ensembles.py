"""Tree experts: size limits, missing streams, unseen classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.expert import Expert, Observed, Response
from sensorium.core.registry import build
from sensorium.nn.linear_solvers import prior
from sensorium.testing.experts import RESPONSES, STREAMS, expert_inputs, observed

pytest.importorskip("sklearn.ensemble")
QUICK: dict[str, dict[str, Any]] = {"forest": {"trees": 20}, "boosting": {"iterations": 20}}
KINDS = pytest.mark.parametrize("kind", list(QUICK))


def fitted(kind: str, rows: Observed, response: Response, streams: tuple[str, ...] = STREAMS, **options: Any) -> Expert:
    expert: Expert = build("experts", {"kind": kind, **QUICK[kind], **options}, response, streams)
    expert.fit(rows, 0)
    return expert.eval()


def size(expert: Expert) -> int:
    return sum(part.numel() * part.element_size() for part in expert.state_dict().values())


@KINDS
def test_size_limit_is_respected(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.nn.tree_expert.BYTES", 200_000)
    response = RESPONSES["classes"]
    rows = observed(response, 400)
    expert = fitted(kind, rows, response, **({"trees": 300, "leaf": 1} if kind == "forest" else {"iterations": 200}))
    assert size(expert) < 210_000
    out = expert(*expert_inputs(kind, rows))
    assert float((out.argmax(dim=1).numpy() == rows.target).mean()) > 0.6


@KINDS
def test_empty_columns_have_no_effect(kind: str) -> None:
    response = Response("number", 1)
    rows = observed(response)
    empty = np.concatenate([rows.compact["table"], np.full((len(rows), 1), np.nan, dtype=np.float32)], axis=1)
    other = replace(rows, compact={**rows.compact, "table": empty})
    out = fitted(kind, other, response)(*expert_inputs(kind, other))
    assert bool(out.isfinite().all())
    assert float(np.corrcoef(out[:, 0].numpy(), rows.target)[0, 1]) > 0.7


@KINDS
def test_unseen_classes_get_small_nonzero_probability(kind: str) -> None:
    response = RESPONSES["classes"]
    rows = observed(response)
    for lacking in ([2], [1, 2]):
        present = {
            s: rows.present[s] & ~np.isin(rows.target, lacking) if s == "sound" else rows.present[s] for s in STREAMS
        }
        expert = fitted(kind, replace(rows, present=present), response)
        features, _ = expert_inputs(kind, rows)
        only = {s: torch.full((len(rows),), s == "sound") for s in STREAMS}
        shares = expert(features, only).exp()
        assert bool((shares[:, lacking] > 1e-4).all())
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(len(rows)))


@KINDS
def test_a_label_that_all_rows_have(kind: str) -> None:
    response = RESPONSES["labels"]
    rows = observed(response)
    target = np.stack([np.ones(len(rows)), rows.target[:, 1]], axis=1).astype(np.float32)
    out = fitted(kind, replace(rows, target=target), response)(*expert_inputs(kind, rows))
    known = prior(response, target, rows.weight)
    assert bool(out.isfinite().all())
    assert bool((out[:, 0] > 0.9 * known[0]).all())


@KINDS
def test_trees_are_grown_for_all_all_but_one_and_single_streams(kind: str) -> None:
    response = Response("number", 1)
    rows = observed(response)
    streams = tuple("abcdef")
    draw = np.random.default_rng(0)
    compact = {s: (rows.target[:, None] + draw.normal(size=(len(rows), 1))).astype(np.float32) for s in streams}
    many = Observed(compact, compact, {s: np.ones(len(rows), dtype=bool) for s in streams}, rows.target, rows.weight)
    expert = fitted(kind, many, response, streams)
    features = {s: torch.from_numpy(part) for s, part in compact.items()}

    def error(some: str) -> float:
        present = {s: torch.full((len(rows),), s in some) for s in streams}
        return float((expert(features, present)[:, 0] - torch.from_numpy(rows.target)).square().mean())

    assert len(expert.sets) == 1 + 6 + 6 + 1  # type: ignore[arg-type]
    assert error("abcdef") < error("a") < error("")
    assert error("ab") == error("a")  # there are none for two


def test_boosting_stops_early_when_overfitting() -> None:
    """On noise the folds say so: what all iterations would have learnt by heart is not answered."""
    response = Response("number", 1)
    rows = observed(response)
    noise = replace(rows, target=np.random.default_rng(5).normal(size=len(rows)))
    few = fitted("boosting", noise, response, iterations=200, leaf=2)
    signal = fitted("boosting", rows, response, iterations=200, leaf=2)
    assert len(few.root_0) < len(signal.root_0)  # type: ignore[arg-type]


def test_large_problems_reduce_iterations_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    response = RESPONSES["classes"]
    rows = observed(response)
    monkeypatch.setattr("sensorium.experts.boosting.WORK", 1e5)
    expert = fitted("boosting", rows, response, iterations=200)
    assert len(expert.root_0) <= 20 * response.size  # type: ignore[arg-type]
    assert bool(expert(*expert_inputs("boosting", rows)).isfinite().all())


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [("forest", "share", 1.5), ("forest", "smoothing", 0.0), ("boosting", "leaves", 1), ("boosting", "rate", 0.0)],
)
def test_invalid_options_are_rejected(kind: str, option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option if option != "leaves" else "at least 2"):
        build("experts", {"kind": kind, option: value}, RESPONSES["classes"], STREAMS)
