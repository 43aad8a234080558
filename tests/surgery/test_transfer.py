"""Freezing, low-rank updates, layer-wise rates, stored outputs: against formulas, and training without the shortcut."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Training
from sensorium.core.registry import build
from sensorium.model import operate
from sensorium.nn.layer_depth import blocks, depths
from sensorium.nn.lora import attach, merge
from sensorium.testing import checkpoints, objectives
from sensorium.training.optimiser import parameter_groups, rate_shares


def learning(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


# ── low-rank updates ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(6, 5), (3, 6)),
        (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
        (nn.Conv2d(3, 6, 3, padding=1, dilation=2), (2, 3, 9, 9)),
    ],
)
def test_an_update_is_a_change_of_the_weight(layer: nn.Module, inputs: tuple[int, ...]) -> None:
    x = torch.randn(inputs)
    plain = layer(x)
    attach(layer, rank=2, alpha=6.0, dropout=0.0)
    torch.testing.assert_close(layer(x), plain)  # up is zero at the start
    lora: Any = layer.lora
    nn.init.normal_(lora.up.weight)
    down, up = lora.down.weight.detach().double().flatten(1), lora.up.weight.detach().double().flatten(1)
    whole = layer.get_parameter("weight").detach().double() + (6.0 / 2 * up @ down).reshape(
        layer.get_parameter("weight").shape
    )
    changed = layer(x)
    with torch.no_grad():
        assert merge(layer) == 1
    torch.testing.assert_close(layer.get_parameter("weight").detach(), whole.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer(x), changed, rtol=1e-4, atol=1e-4)
    assert "lora" not in dict(layer.named_modules())


def test_lora_trains_its_updates_only_and_names_its_targets() -> None:
    model = operate(objectives.model(), [{"kind": "lora", "streams": ["picture"], "targets": ["query"], "rank": 2}])
    assert learning(model.encoders["picture"]) == {
        "stack.blocks.0.attention.query.lora.down.weight",
        "stack.blocks.0.attention.query.lora.up.weight",
    }
    assert len(learning(model.encoders["series"])) == len(list(model.encoders["series"].parameters()))
    with pytest.raises(ConfigError, match="no such layer") as caught:
        operate(objectives.model(), [{"kind": "lora", "targets": ["nothing"]}])
    assert "query" in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean picture"):
        operate(objectives.model(), [{"kind": "lora", "streams": ["pictures"]}])


# ── freezing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def vit() -> Any:
    from sensorium.core.layout import Grid

    config = {**checkpoints.TINY["vit"], "model_type": "vit", "num_hidden_layers": 4}
    return build("encoders", {"kind": "huggingface", "config": config}, Grid(3, (16, 16)))


def test_blocks_and_depths_of_networks() -> None:
    network = vit()
    assert len(blocks(network)) == 4
    depth, count = depths(network)
    assert count == 4
    by = {name.removeprefix("network."): d for name, d in depth.items()}
    assert by["embeddings.cls_token"] == 0
    assert by["layernorm.weight"] == 5
    assert sorted(set(by.values())) == [0, 1, 2, 3, 4, 5]
    assert [len(blocks(encoder)) for encoder in objectives.model().encoders.values()] == [1, 2, 1]


def test_all_but_the_last_blocks_are_frozen() -> None:
    model = objectives.model()
    encoder = model.encoders["series"]
    operate(model, [{"kind": "freeze", "streams": ["series"], "unfreeze": 1}])
    depth, _ = depths(encoder)
    assert learning(encoder) == {name for name, d in depth.items() if d >= 2}
    with pytest.raises(ConfigError, match="has 2 blocks"):
        operate(objectives.model(), [{"kind": "freeze", "streams": ["series"], "unfreeze": 3}])


def test_what_is_frozen_stays_in_evaluation() -> None:
    model = operate(objectives.model(), [{"kind": "freeze", "streams": ["picture"]}]).train()
    assert not any(module.training for module in model.encoders["picture"].modules())
    assert all(module.training for module in model.encoders["series"].modules())
    assert not any(module.training for module in model.eval().modules())


# ── learning rates ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_rates_fall_with_the_depth() -> None:
    model = objectives.model()
    spec = Training(lr=0.1, lr_scale={"series": 0.5}, layer_decay={"series": 0.8})
    share = rate_shares(model, spec)
    names = {id(p): name for name, p in model.encoders["series"].named_parameters()}
    results = {names[i]: part for i, part in share.items()}
    assert results["stages.0.conv.weight"] == pytest.approx(0.5 * 0.8)
    assert results["stages.1.conv.weight"] == pytest.approx(0.5)
    assert results["token.weight"] == pytest.approx(0.5)
    made = parameter_groups(model.parameters(), share, spec)
    assert sum(len(group["params"]) for group in made) == len(list(model.parameters()))
    for group in made:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(0.1 * share.get(id(parameter), 1.0))
            assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0.0)


# ── whole runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Pictures, words and numbers, some missing."""
    from PIL import Image

    draw = np.random.default_rng(0)
    made: list[dict[str, Any]] = []
    for i in range(60):
        pixels = draw.integers(0, 120, (16, 16, 3), dtype=np.uint8)
        pixels[:8] += np.uint8(100 * (i % 2))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        note = f"{'good' if i % 3 else 'bad'} {'cat' if i % 4 else 'dog'} sat on {'the ' * (i % 3)}mat"
        row = {"photo": file.getvalue() if i % 5 else None, "note": note if i % 7 else None, "size": float(draw.normal())}
        made.append({**row, "label": "yes" if i % 2 else "no"})
    return made


def fitted(rows: list[dict[str, Any]], *overrides: str, **arguments: Any) -> Any:
    options = {"target": "label", "columns": {"photo": "image", "note": "text"}, "quiet": True} | arguments
    return sm.fit(rows, overrides=["model.size=tiny", "training.epochs=2", *overrides], **options)


def weights(trained: Any) -> dict[str, torch.Tensor]:
    results: dict[str, torch.Tensor] = trained.model.state_dict()
    return results


def test_stored_outputs_train_the_same_model(rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: Any) -> None:
    from sensorium.encoders.huggingface import Huggingface

    # Dropout differs with nothing here: a frozen encoder drops nothing, and all other chance follows from the step.
    hf = f"model.encoders.note={{kind: huggingface, checkpoint: '{checkpoints.tiny('bert')}'}}"
    steps = {"note": 0}
    forward = Huggingface.forward

    def counted(self: Any, data: Any, mask: Any = None) -> Any:
        steps["note"] += len(data)
        return forward(self, data, mask)

    monkeypatch.setattr(Huggingface, "forward", counted)

    def run(store: str) -> Any:
        return fitted(rows, hf, f"model.surgery=[{{kind: freeze, streams: [note, photo], store: {store}}}]", cache=tmp_path,
                      columns={"photo": {"kind": "image", "augment": "none"}, "note": "text"})  # fmt: skip

    every = run("false")
    encoded_every, steps["note"] = steps["note"], 0
    once = run("true")
    encoded_once, steps["note"] = steps["note"], 0
    again = run("true")
    available = sum(row["note"] is not None for row in rows)
    distinct = len({row["note"] for row in rows} - {None})
    scored = encoded_once - distinct  # at the end the saved model is scored on the validation rows, encoder and all
    assert 0 < scored < available
    assert encoded_every == 2 * available + scored
    assert steps["note"] == scored, "the second run still encodes what is stored"
    for name, tensor in weights(every).items():
        torch.testing.assert_close(weights(once)[name], tensor, rtol=1e-4, atol=1e-5)
        assert torch.equal(weights(again)[name], weights(once)[name])
    encoder = "encoders.of_note.network.encoder.layer.0.attention.self.query.weight"
    assert encoder in weights(once)


def test_a_column_of_a_frozen_encoder_is_not_augmented_unless_told(rows: list[dict[str, Any]]) -> None:
    frozen = "model.surgery=[{kind: freeze, streams: [photo]}]"
    trained = fitted(rows, frozen, "training.epochs=1")
    assert trained.recipe.columns["photo"]["augment"] == "none"
    options = fitted(rows, frozen, "training.epochs=1", columns={"photo": {"kind": "image", "augment": "light"}})
    assert options.recipe.columns["photo"]["augment"] == "light"


def test_a_model_with_low_rank_updates_is_saved_and_loaded(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    hf = f"model.encoders.note={{kind: huggingface, checkpoint: '{checkpoints.tiny('bert')}'}}"
    trained = fitted(rows, hf, "model.surgery=[{kind: lora, streams: [note], rank: 2}]", out=tmp_path / "run")
    scale = trained.recipe.training.lr_scale["note"]
    assert scale * trained.recipe.training.lr == pytest.approx(5e-4, rel=0.01)
    names = learning(trained.model.encoders["note"])
    assert names
    assert all(".lora." in name for name in names)
    source = checkpoints.tiny("bert") / "model.safetensors"
    from safetensors.torch import load_file

    kept = weights(trained)["encoders.of_note.network.encoder.layer.0.attention.self.query.weight"]
    torch.testing.assert_close(kept, load_file(source)["encoder.layer.0.attention.self.query.weight"])
    again = sm.load(tmp_path / "run")
    before = [p.targets["label"]["probabilities"] for p in trained.predict(rows[:8])]
    assert [p.targets["label"]["probabilities"] for p in again.predict(rows[:8])] == before
    again.artifact.merged().save(tmp_path / "merged")
    merged = sm.load(tmp_path / "merged")
    assert not any("lora" in name for name in weights(merged))
    assert any("lora" in name for name in weights(again))
    after = [p.targets["label"]["probabilities"] for p in merged.predict(rows[:8])]
    for one, other in zip(before, after, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_pretrained_encoders_learn_slowly_unless_told(rows: list[dict[str, Any]]) -> None:
    hf = f"model.encoders.note={{kind: huggingface, checkpoint: '{checkpoints.tiny('bert')}'}}"
    trained = fitted(rows, hf, "training.epochs=1")
    assert trained.recipe.training.lr_scale["note"] * trained.recipe.training.lr == pytest.approx(5e-5, rel=0.01)
    with pytest.raises(ConfigError, match=r"training\.layer_decay\.note: 1\.5"):
        fitted(rows, hf, "training.layer_decay={note: 1.5}")
    with pytest.raises(ConfigError, match="did you mean photo"):
        fitted(rows, "model.surgery=[{kind: freeze, streams: [foto]}]")
    with pytest.raises(ConfigError, match="did you mean note"):
        fitted(rows, hf, "training.lr_scale={notes: 0.5}")


def test_a_run_with_surgery_is_taken_up_where_it_stopped(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensorium.training.callbacks import Checkpoint

    result = (
        f"model.encoders.note={{kind: huggingface, checkpoint: '{checkpoints.tiny('bert')}'}}",
        "model.surgery=[{kind: freeze, streams: [photo]}, {kind: lora, streams: [note], rank: 2}]",
        "training.layer_decay={note: 0.5}",
    )
    whole = fitted(rows, *result)
    real = Checkpoint.on_train_epoch_end

    def killed(self: Any, trainer: Any, module: Any) -> None:
        real(self, trainer, module)
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_epoch_end", killed)
        with pytest.raises(InterruptedError):
            fitted(rows, *result, out=tmp_path / "run")
    again = fitted(rows, *result, out=tmp_path / "run", resume=True)
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(again).items())


def test_a_model_with_fewer_streams_keeps_the_surgery_of_those() -> None:
    from sensorium.training.surgery_scope import surgery_for

    options: list[Any] = [
        {"kind": "freeze", "streams": ["photo"]},
        {"kind": "lora", "streams": ["photo", "note"]},
        "freeze",
    ]
    kept: list[Any] = surgery_for(options, ["note"])
    assert [(spec["kind"], spec["streams"]) for spec in kept] == [("lora", ["note"]), ("freeze", None)]


@pytest.mark.parametrize(("option", "varies"), [({}, False), ({"flip": "horizontal"}, True), ({"colour": 0.2}, True)])
def test_what_is_augmented_is_not_stored(rows: list[dict[str, Any]], option: dict[str, Any], varies: bool) -> None:
    from sensorium.core.schema import Schema
    from sensorium.data.encoded_rows import encode
    from sensorium.data.files.media_access import UPLOADS_ONLY
    from sensorium.data.store.store import Store
    from sensorium.data.tables.table import Table
    from sensorium.training.feature_cache import _is_augmented

    schema = Schema.declare({"photo": {"kind": "image", "augment": "none", **option}})
    schema.columns["photo"].reader.fit([row["photo"] for row in rows if row["photo"]])
    encoded = encode(schema, Table.read(rows), media=UPLOADS_ONLY, store=Store(), targets=False)
    assert _is_augmented(schema, "photo", encoded) == varies


def test_pictures_keep_their_ratio_unless_a_square_is_asked_for() -> None:
    wide = [np.zeros((20, 60, 3), np.uint8)] * 3
    for option, frame in (({}, (20, 60)), ({"share": 0.9}, (60, 60)), ({"stretch": True}, (60, 60))):
        modality: Any = build("modalities", {"kind": "image", **option})
        modality.fit(iter(wide))
        assert modality.layout.size == frame
