"""A segmenter and a detector of transformers adopted whole, and encoders of places from checkpoints and own runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sensorium as sm
from sensorium.core.layout import Grid
from sensorium.core.registry import build
from sensorium.data.synthetic_boxes import make as make_boxes
from sensorium.data.synthetic_poses import make as make_poses
from sensorium.data.synthetic_scenes import make as make_masks
from sensorium.nn.drawn_boxes import drawn_boxes
from sensorium.testing.checkpoints import tiny

transformers: Any = pytest.importorskip("transformers")
torch.set_num_threads(1)
QUICK = ["model.size=tiny", "training.epochs=1", "training.batch_size=8", "training.threads=1", "model.experts=[]"]


def part(kind: str, size: tuple[int, int]) -> Any:
    made = build("encoders", {"kind": "huggingface", "checkpoint": str(tiny(kind))}, Grid(3, size)).eval()
    made.gives_pyramid = True
    return made


@pytest.mark.parametrize("size", [(32, 32), (40, 56), (37, 45)])
@pytest.mark.parametrize("kind", ["segformer", "yolos"])
def test_maps_hold_the_predictions_of_the_adopted_network(kind: str, size: tuple[int, int]) -> None:
    network = part(kind, size)
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    auto = {"segformer": "AutoModelForSemanticSegmentation", "yolos": "AutoModelForObjectDetection"}[kind]
    with torch.no_grad():
        ours = network(pixels)
        theirs = getattr(transformers, auto).from_pretrained(tiny(kind)).eval()(pixel_values=pixels)
    assert [(m.shape[1], *m.shape[2:]) for m in ours.pyramid] == [
        (level.channels, *level.size(size)) for level in network.levels
    ]
    if kind == "segformer":
        torch.testing.assert_close(ours.pyramid[0][:, -5:], theirs.logits, rtol=1e-4, atol=1e-4)
    else:
        want = drawn_boxes(theirs.logits, theirs.pred_boxes, ours.pyramid[0].shape[2:])
        torch.testing.assert_close(ours.pyramid[0], want, rtol=1e-4, atol=1e-4)
    assert ours.tokens.shape[1] == ours.grid[0] * ours.grid[1]


def test_boxes_are_drawn_where_they_are() -> None:
    logits = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 0.0, 9.0], [0.0, 9.0, 0.0]]])
    boxes = torch.tensor([[[0.25, 0.75, 0.2, 0.4], [0.5, 0.5, 0.5, 0.5], [0.8, 0.2, 0.3, 0.1]]], requires_grad=True)
    drawn = drawn_boxes(logits, boxes, (20, 20))[0]
    assert float(drawn[0, 15, 5].detach()) > 0.9
    assert float(drawn[0, 4, 16].detach()) < 0.01, "of another class"
    assert float(drawn[:2, 10, 10].detach().max()) < 0.2, "what is nothing is not drawn"
    assert drawn[2:, 15, 5].tolist() == pytest.approx([0.2, 0.4], abs=0.02)
    (gradient,) = torch.autograd.grad(drawn.sum(), boxes)
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path, str]]:
    folder = tmp_path_factory.mktemp("places")
    boxes, masks, poses = (make(folder / make.__module__, rows=24) for make in (make_boxes, make_masks, make_poses))
    return {
        "detection": (boxes["train"], boxes["test"], "image"),
        "segmentation": (masks["train"], masks["test"], "photo"),
        "keypoints": (poses["train"], poses["test"], "photo"),
    }


def fitted(tables: Any, task: str, encoder: str, out: Path, **more: Any) -> Any:
    train, _, on = tables[task]
    target: dict[str, Any] = {"segmentation": {"target": "shapes", "ignore": ["meant"]}, "keypoints": {"target": "points"}}
    spec = [f"model.encoders.{on}={encoder}", f"columns.{on}={{kind: image, size: 32, channels: rgb}}"]
    options = target.get(task, {"task": "detection"})
    return sm.fit(train, overrides=[*QUICK, *([] if not encoder else spec)], out=out, quiet=True, **options, **more)


@pytest.mark.parametrize(
    ("task", "kind"), [("detection", "yolos"), ("segmentation", "segformer"), ("keypoints", "vit"), ("detection", "resnet")]
)
def test_checkpoints_are_adopted_trained_and_saved(tables: Any, tmp_path: Path, task: str, kind: str) -> None:
    model = fitted(tables, task, f"{{kind: huggingface, checkpoint: {tiny(kind)}}}", tmp_path / "run")
    rows, on = tables[task][1], tables[task][2]
    network = model.model.encoders[on]
    fresh = build("encoders", {"kind": "huggingface", "checkpoint": str(tiny(kind))}, Grid(3, (32, 32)))
    moved = [n for n, p in fresh.named_parameters() if not torch.equal(p, dict(network.named_parameters())[n])]
    assert moved, "it is trained"
    if network.family.adopted:
        heads = ("class_labels_classifier", "bbox_predictor", "decode_head")
        assert any(head in name for name in moved for head in heads), "with its head"
    trained = network.state_dict()
    away = max(float((tensor - trained[name]).abs().max().detach()) for name, tensor in fresh.named_parameters())
    assert away < 0.1, "from its own weights"
    again = sm.load(tmp_path / "run")
    first, second = (next(iter(m.predict(rows))).to_json() for m in (model, again))
    assert first == second


@pytest.mark.parametrize("task", ["detection", "segmentation", "keypoints"])
def test_encoder_is_taken_from_an_earlier_run(tables: Any, tmp_path: Path, task: str) -> None:
    base = fitted(tables, task, "", tmp_path / "base")
    on = tables[task][2]
    model = fitted(tables, task, "", tmp_path / "run", init=tmp_path / "base", init_how="frozen")
    one, other = (dict(m.model.encoders[on].named_parameters()) for m in (base, model))
    assert one
    assert all(torch.equal(one[name], other[name]) for name in one)
