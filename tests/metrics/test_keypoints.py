"""Places from heat maps and scores of key points against formulas in double precision and a reference."""

from __future__ import annotations

import io
import itertools
import math
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.metrics.keypoints import (
    COCO_SPREADS,
    THRESHOLDS,
    average_precision,
    box_size,
    mean_distance,
    normalised_error,
    pck,
    similarity,
    spreads,
)
from sensorium.nn.soft_argmax import axis_loss, bell, place_loss, soft_argmax

ONE = torch.ones(1, 6, dtype=torch.float64)


def test_the_soft_argmax_is_the_formula() -> None:
    logits = 3 * torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    for reach in (None, 1, 2):
        places, total = soft_argmax(logits, reach)
        for b, k in itertools.product(range(2), range(3)):
            heat = np.exp(logits[b, k].double().numpy())
            heat /= heat.sum()
            row, column = np.unravel_index(heat.argmax(), heat.shape)
            for i, j in itertools.product(range(5), range(8)):
                if reach is not None and max(abs(i - row), abs(j - column)) > reach:
                    heat[i, j] = 0
            x = (heat.sum(axis=0) * (np.arange(8) + 0.5) / 8).sum() / heat.sum()
            y = (heat.sum(axis=1) * (np.arange(5) + 0.5) / 5).sum() / heat.sum()
            assert places[b, k].tolist() == pytest.approx([x, y], abs=1e-5)
            assert float(total[b, k]) == pytest.approx(heat.sum(), abs=1e-5)


def test_losses_are_the_formulas_and_least_at_the_true_place() -> None:
    logits = torch.randn(1, 1, 6, 7, dtype=torch.float64)
    place = torch.tensor([[[0.4, 0.7]]], dtype=torch.float64)
    wanted = np.array(
        [[math.exp(-(((j + 0.5 - 2.8) ** 2 + (i + 0.5 - 4.2) ** 2) / 2 / 0.8**2)) for j in range(7)] for i in range(6)]
    )
    wanted /= wanted.sum()
    logs = logits[0, 0].flatten().log_softmax(dim=0).reshape(6, 7).numpy()
    assert float(place_loss(logits, place, 0.8)) == pytest.approx(-(wanted * logs).sum(), abs=1e-5)
    heat = torch.zeros(1, 1, 24, 32, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(place_loss(heat, place.float(), 1.0).sum(), heat)
        heat = (heat - 20 * gradient).detach().requires_grad_()
    assert soft_argmax(heat, 3)[0].flatten().tolist() == pytest.approx([0.4, 0.7], abs=0.005)
    bins = bell(place.float(), 16, 2.0)
    assert torch.allclose(bins.sum(dim=3), torch.ones(1, 1, 2))
    assert float(axis_loss(bins.log(), place.float(), 2.0)) == pytest.approx(float(-(bins * bins.log()).sum()), abs=1e-4)


def test_scores_are_those_of_counting() -> None:
    draw = torch.Generator().manual_seed(0)
    distance = 8 * torch.rand(6, 3, generator=draw, dtype=torch.float64)
    known = torch.rand(6, 3, generator=draw) < 0.7
    places = 50 * torch.rand(6, 3, 2, generator=draw)
    within = torch.tensor([2.0, 2.0, 4.0, 4.0, 4.0, 6.0])
    weight = torch.tensor([[1.0] * 6, [2, 0, 1, 1, 0, 3]], dtype=torch.float64)
    diagonal, area = box_size(places, known)
    for r in range(2):
        rows = [i for i in range(6) for _ in range(int(weight[r, i]))]
        cells = [(i, k) for i in rows for k in range(3) if known[i, k]]
        assert float(mean_distance(distance, known, weight)[r]) == pytest.approx(
            np.mean([float(distance[c]) for c in cells])
        )
        share = np.mean([float(distance[i, k] <= within[i]) for i, k in cells])
        assert float(pck(distance, known, within, weight)[r]) == pytest.approx(share)
        shares = []
        for i in rows:
            own = places[i][known[i]].numpy()
            if len(own) > 1:
                size = math.hypot(*(own.max(axis=0) - own.min(axis=0)))
                shares.append(float(distance[i][known[i]].mean()) / size)
                assert float(area[i]) == pytest.approx(np.prod(own.max(axis=0) - own.min(axis=0)), rel=1e-5)
        assert float(normalised_error(distance, known, diagonal, weight)[r]) == pytest.approx(np.mean(shares), rel=1e-5)


def _brute_force(alike: np.ndarray[Any, Any], confidence: np.ndarray[Any, Any]) -> float:
    """COCO's average precision, one threshold and one recall at a time."""
    scores = []
    for threshold in THRESHOLDS:
        order = sorted(range(len(alike)), key=lambda i: -confidence[i])
        curve = []
        for count in range(1, len(order) + 1):
            right = sum(alike[i] >= threshold for i in order[:count])
            curve.append((right / len(order), right / count))
        scores.append(
            np.mean([max((p for r, p in curve if r >= recall), default=0.0) for recall in np.linspace(0, 1, 101)])
        )
    return float(np.mean(scores))


def test_average_precision_is_that_of_brute_force_and_resamples_rows() -> None:
    rng = np.random.default_rng(0)
    alike, confidence = rng.uniform(0.3, 1, 9), rng.permutation(9) / 9
    repeats = rng.multinomial(9, np.full(9, 1 / 9))
    weight = torch.tensor(np.stack([np.ones(9), repeats]))
    whole, drawn = average_precision(torch.tensor(alike), torch.tensor(confidence), weight).tolist()
    assert whole == pytest.approx(_brute_force(alike, confidence), abs=1e-9)
    index = np.repeat(np.arange(9), repeats)
    # Copies of a row have one confidence: they are counted together, not one by one.
    assert drawn == pytest.approx(_brute_force(alike[index], confidence[index]), abs=0.03)


def test_average_precision_is_that_of_coco() -> None:
    faster_coco_eval = pytest.importorskip("faster_coco_eval", reason="the reference is faster-coco-eval")
    rng = np.random.default_rng(1)
    rows, names = 20, list(COCO_SPREADS)
    true = rng.uniform(10, 190, (rows, 17, 2)).round(2)
    seen = rng.integers(0, 3, (rows, 17))
    answered = (true + rng.normal(0, 1, true.shape) * rng.uniform(1, 20, (rows, 1, 1))).round(2)
    confidence = rng.permutation(rows) / rows
    known = torch.tensor(seen > 0)
    _, area = box_size(torch.tensor(true), known)
    flat = [np.concatenate([true[i], seen[i][:, None]], axis=1).flatten().tolist() for i in range(rows)]
    truths = [
        {
            "id": i + 1,
            "image_id": i,
            "category_id": 1,
            "iscrowd": 0,
            "area": float(area[i]),
            "keypoints": flat[i],
            "num_keypoints": int((seen[i] > 0).sum()),
            "bbox": [0, 0, 200, 200],
        }
        for i in range(rows)
    ]
    answers = [
        {
            "image_id": i,
            "category_id": 1,
            "score": float(confidence[i]),
            "keypoints": np.concatenate([answered[i], np.ones((17, 1))], axis=1).flatten().tolist(),
        }
        for i in range(rows)
    ]
    with redirect_stdout(io.StringIO()):
        gold = faster_coco_eval.COCO(
            {
                "images": [{"id": i, "width": 200, "height": 200} for i in range(rows)],
                "annotations": truths,
                "categories": [{"id": 1, "name": "person", "keypoints": names}],
            }
        )
        judge = faster_coco_eval.COCOeval_faster(gold, gold.loadRes(answers), "keypoints")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    distance = torch.tensor(np.linalg.norm(answered - true, axis=2))
    alike = similarity(distance, known, area, spreads(names))
    mine = average_precision(alike, torch.tensor(confidence), torch.ones(1, rows, dtype=torch.float64))
    assert float(mine[0]) == pytest.approx(float(judge.stats[0]), abs=1e-6)
    assert 0.1 < float(mine[0]) < 0.9
