"""Detection metrics against faster-coco-eval, overlaps against brute force, weights against repeated rows."""

from __future__ import annotations

import contextlib
import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sensorium.core.scorer import Kept
from sensorium.heads.suppression import kept_boxes
from sensorium.metrics.box_overlap import area, box_iou, giou
from sensorium.metrics.detection import MOST, BoxSet, DetectionScorer

CLASSES = ("cat", "dog", "bird")


class FixedPairs(DetectionScorer):
    """A scorer of pairs that are given."""

    def keep(self, output: Any, batch: Any) -> Kept:
        return self.kept_of(output)


def drawn(seed: int, rows: int = 12, most: int = 14, side: int = 220, digits: int = 1) -> list[tuple[BoxSet, BoxSet]]:
    """Answers and true boxes of a few pictures: shifted true boxes, false ones, equal scores, crowds, empty pictures."""
    rng = np.random.default_rng(seed)
    pairs = []
    for row in range(rows):
        count = 0 if row == 3 else int(rng.integers(0, most))
        low = rng.uniform(0, side / 2, (count, 2))
        size = rng.choice([8, 40, 120], (count, 1)) * rng.uniform(0.5, 1.5, (count, 2))
        boxes = np.concatenate([low, low + size], axis=1).round(1)
        kinds = rng.integers(0, len(CLASSES) - (row % 2), count)
        crowd = rng.random(count) < 0.15
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 4, (2 * count, 4))
        more = rng.uniform(0, side / 2, (5, 2))
        answered = np.concatenate([near, np.concatenate([more, more + rng.uniform(5, 90, (5, 2))], axis=1)]).round(1)
        answered[:, 2:] = np.maximum(answered[:, 2:], answered[:, :2] + 1)
        if row == 5:
            answered = answered[:0]
        labels = np.concatenate([np.repeat(kinds, 2), rng.integers(0, 3, 5)])[: len(answered)]
        scores = rng.uniform(0.05, 1, len(answered)).round(digits)  # of one digit, many are equal
        pairs.append((box_set(answered, labels, scores), box_set(boxes, kinds, crowd)))
    return pairs


def box_set(boxes: Any, classes: Any, scores: Any) -> BoxSet:
    return BoxSet(
        torch.tensor(np.asarray(boxes), dtype=torch.float64).reshape(-1, 4),
        torch.tensor(np.asarray(classes), dtype=torch.long),
        torch.tensor(np.asarray(scores), dtype=torch.float32),
    )


def scored(pairs: list[tuple[BoxSet, BoxSet]]) -> DetectionScorer:
    scorer = FixedPairs(CLASSES, 0.5)
    scorer.load(scorer.kept_of(pairs))
    return scorer


def reference(pairs: list[tuple[BoxSet, BoxSet]]) -> dict[str, float]:
    """The scores of faster-coco-eval."""
    library = pytest.importorskip("faster_coco_eval", reason="the reference is faster-coco-eval")

    def listed(boxes: Tensor) -> list[list[float]]:
        return [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes.tolist()]

    truths: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for image, (answer, truth) in enumerate(pairs, 1):
        for box, kind, crowd, size in zip(
            listed(truth.boxes), truth.classes.tolist(), truth.scores.tolist(), area(truth.boxes).tolist(), strict=True
        ):
            one = {"bbox": box, "category_id": kind + 1, "iscrowd": int(crowd), "area": size}
            truths.append({"id": len(truths) + 1, "image_id": image, **one})
        order = answer.scores.argsort(descending=True, stable=True)[:MOST]
        for i in order.tolist():
            one = {"bbox": listed(answer.boxes[i : i + 1])[0], "category_id": int(answer.classes[i]) + 1}
            answers.append({"image_id": image, "score": float(answer.scores[i]), **one})
    with contextlib.redirect_stdout(io.StringIO()):
        images = [{"id": i, "width": 300, "height": 300} for i in range(1, len(pairs) + 1)]
        categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
        true = library.COCO({"images": images, "annotations": truths, "categories": categories})
        run = library.COCOeval_faster(true, true.loadRes(answers), iouType="bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    names = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
    return {**dict(zip(names, run.stats[:6], strict=True)), "recall": float(run.stats[8])}


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_faster_coco_eval(seed: int) -> None:
    pairs = drawn(seed)
    computed = scored(pairs).compute()
    for name, value in reference(pairs).items():
        assert float(computed[name]) == pytest.approx(value, abs=1e-12), name


def test_a_weight_is_a_repeated_row() -> None:
    pairs = drawn(7, rows=6, digits=6)
    weights = torch.tensor([[1.0, 1, 1, 1, 1, 1], [2, 0, 1, 0, 3, 0], [0, 0, 0, 1, 0, 0]], dtype=torch.float64)
    together = scored(pairs).compute(weights)
    for row in range(2):
        again = [pair for pair, times in zip(pairs, weights[row].int().tolist(), strict=True) for _ in range(times)]
        for name, value in scored(again).compute().items():
            assert float(together[name][row]) == pytest.approx(float(value), nan_ok=True), (row, name)
    assert bool(together["map"][2].isnan()), "no picture with a true box has a score"


def test_counts_are_of_answered_boxes() -> None:
    answer = box_set([[0, 0, 9, 9], [20, 20, 30, 30], [50, 50, 60, 60]], [0, 0, 1], [0.9, 0.6, 0.4])
    scorer = scored([(answer, box_set([[0, 0, 9, 9]], [0], [0]))])
    assert [count.tolist() for count in scorer.counts()] == [[[2, 0, 0]], [[1, 0, 0]]]
    assert float(scorer.compute()["count_error"]) == pytest.approx(1 / 3)


def test_overlaps_are_those_of_counted_cells() -> None:
    draw = torch.Generator().manual_seed(0)
    low = torch.randint(0, 12, (40, 2), generator=draw)
    boxes = torch.cat([low, low + torch.randint(1, 9, (40, 2), generator=draw)], dim=1)
    cells = torch.zeros(40, 24, 24, dtype=torch.bool)
    for i, (left, top, right, bottom) in enumerate(boxes.tolist()):
        cells[i, top:bottom, left:right] = True
    one, other = boxes[:20].double(), boxes[20:].double()
    overlap, general = box_iou(one, other), giou(one[:, None], other[None])
    for i in range(20):
        for j in range(20):
            shared = float((cells[i] & cells[20 + j]).sum())
            either = float((cells[i] | cells[20 + j]).sum())
            hull = float(
                (max(one[i, 2], other[j, 2]) - min(one[i, 0], other[j, 0]))
                * (max(one[i, 3], other[j, 3]) - min(one[i, 1], other[j, 1]))
            )
            assert float(overlap[i, j]) == pytest.approx(shared / either)
            assert float(general[i, j]) == pytest.approx(shared / either - (hull - either) / hull)


def test_suppression_is_that_of_the_plain_loop() -> None:
    draw = torch.Generator().manual_seed(1)
    for _ in range(20):
        low = 20 * torch.rand(30, 2, generator=draw)
        boxes = torch.cat([low, low + 4 + 12 * torch.rand(30, 2, generator=draw)], dim=1)
        scores = (10 * torch.rand(30, generator=draw)).round()
        kinds = torch.randint(0, 2, (30,), generator=draw)
        kept: list[int] = []
        for i in sorted(range(30), key=lambda i: (-float(scores[i]), i)):
            if all(kinds[i] != kinds[j] or float(box_iou(boxes[[i]], boxes[[j]])) <= 0.3 for j in kept):
                kept.append(i)
        assert kept_boxes(boxes, scores, kinds, 0.3).nonzero()[:, 0].tolist() == sorted(kept)


def test_only_the_surest_boxes_count() -> None:
    many = MOST + 20
    boxes = [[i, 0, i + 1, 1] for i in range(many)]
    answer = box_set(boxes, [0] * many, np.linspace(0.2, 0.9, many))
    kept = scored([(answer, box_set([], [], []))]).kept
    assert int((kept["classes"] >= 0).sum()) == MOST
    assert all(one >= other for one, other in pairwise(kept["scores"][0].tolist()))
