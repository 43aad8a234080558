"""Experts beside a network: fitting, blending, refitting, saving, missing streams and explanations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.batch import Batch
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.stream_subsets import coalitions, route_rows
from sensorium.nn.ensemble import NETWORK, Ensemble
from sensorium.training import expert_fitting, final_fit
from sensorium.training.blend_weights import blend_shares
from sensorium.training.lightning_module import TrainingModule
from sensorium.training.resume import LAST

BOTH = ("model.experts=[linear]", "training.refit=all")
IGNORE = ["cost", "tags", "sound", "photo"]


@pytest.fixture(scope="module")
def blended(quick_fit: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("blended") / "run"
    return quick_fit(ignore=IGNORE, overrides=BOTH, out=out), out


def first(trained: Any, scenes: Path) -> Batch:
    return next(iter(trained.batches(trained.encode(sm.Table.read(scenes / "test.csv")))))


def test_saved_blend_predicts_like_the_fitted_one(blended: Any, scenes: Path) -> None:
    trained, out = blended
    again = sm.load(out)
    before, after = (one.predict(scenes / "test.csv") for one in (trained, again))
    assert [p.targets for p in before] == [p.targets for p in after]
    assert any(name.startswith("experts.") for name in again.model.state_dict())
    assert again.recipe.model.experts is not None


def test_report_shows_score_and_weight_of_each_part(blended: Any) -> None:
    _, out = blended
    document = json.loads((out / "report.json").read_text())
    floor = document["floor"]["event"]
    assert set(floor["share"]) == {NETWORK, "linear"}
    assert sum(floor["share"].values()) == pytest.approx(1.0, abs=1e-5)
    assert {"together", NETWORK, "linear", "linear on note"} <= set(floor["scores"])
    assert floor["simple"] == "linear"
    assert floor["gain"]["low"] <= floor["gain"]["mean"] <= floor["gain"]["high"]
    assert floor["earned"] in ("yes", "not told apart", "no")
    assert set(floor["calibration_error"]) == {"together", NETWORK, "linear"}
    assert "floor" not in document["valid"], "it is there once"
    assert "Components of the ensemble" in (out / "report.html").read_text()
    assert document["refit"]["rows"] > document["rows"], "the last fit sees the validation rows too"
    assert document["refit"]["epochs"] == math.ceil(document["best_epoch"] / 4) > 0
    assert "linear" in (out / "report.html").read_text()


def test_each_set_of_streams_has_its_own_weights(blended: Any, scenes: Path) -> None:
    trained, _ = blended
    model, batch = trained.predictor.model, first(trained, scenes)
    ensemble = model.experts
    assert isinstance(ensemble, Ensemble)
    blend = ensemble.blends["event"]
    with torch.inference_mode():
        run = Forward(model, batch)
        for some in coalitions(model.streams):
            hidden = run.only(*some)
            direct = model(batch.without(*(s for s in model.streams if s not in some)))["event"]
            torch.testing.assert_close(hidden.outputs["event"], direct, atol=1e-5, rtol=1e-4)
            present = {s: part.present for s, part in hidden.kept.items()}
            which = route_rows(model.streams, blend.sets, present)
            assert all(set(blend.sets[i]) <= set(some) for i in which.tolist())
            assert hidden.outputs["event"].isfinite().all()


def test_values_of_a_missing_stream_have_no_effect(blended: Any, scenes: Path) -> None:
    trained, _ = blended
    rows = [dict(r) for r in sm.Table.read(scenes / "test.csv").rows()][:4]
    bare = [{k: v for k, v in row.items() if k != "note"} for row in rows]
    blank = [row | {"note": ""} for row in rows]
    assert [p.targets for p in trained.predict(bare, media=scenes)] == [
        p.targets for p in trained.predict(blank, media=scenes)
    ]


def test_explanations_cover_the_blend(blended: Any, scenes: Path) -> None:
    trained, _ = blended
    explanation = trained.explain(scenes / "test.csv", row=2)
    maps = [one for one in explanation.maps if one.explainer]
    assert maps
    for one in maps:
        answered = trained.predict([dict(next(iter(sm.Table.read(scenes / "test.csv").take([1]).rows())))], media=scenes)
        chances = answered[0].targets["event"]["probabilities"]
        assert one.value == pytest.approx(max(chances.values()), abs=1e-4)


def test_gradient_explainer_warns_about_experts(blended: Any, scenes: Path) -> None:
    trained, _ = blended
    explanation = trained.explain(scenes / "test.csv", row=2, explainer="integrated_gradients")
    notes = [one.note for one in explanation.maps if one.note and "the row has no" not in one.note]
    assert notes
    assert any("experts" in note for note in notes), notes


def test_quality_fast_trains_no_network(quick_fit: Any, scenes: Path, tmp_path: Path) -> None:
    trained = quick_fit(ignore=IGNORE, overrides=["model.experts=[linear]"], quality="fast", out=tmp_path / "run")
    assert not trained.model.network
    assert not trained.history
    again = sm.load(tmp_path / "run")
    assert [p.targets for p in again.predict(scenes / "test.csv")] == [
        p.targets for p in trained.predict(scenes / "test.csv")
    ]
    evaluation = again.evaluate(scenes / "test.csv")
    assert evaluation.targets["event"].subsets
    assert again.explain(scenes / "test.csv", row=1).maps
    with pytest.raises(ConfigError, match="no network"):
        again.predictor.embed(sm.Table.read(scenes / "test.csv").rows())


def test_without_a_network_nothing_is_said_of_it(scenes: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sm.fit(scenes / "train.csv", target="event", quality="fast", ignore=IGNORE, overrides=["model.experts=[linear]"])
    told = capfd.readouterr().err
    assert "final fit of the experts on all" in told
    assert "experts alone, no network" in told
    for word in ("padding", "model size"):
        assert word not in told, f"the network's {word} is mentioned, and there is none"


@pytest.mark.parametrize("experts", [1, 2])
def test_the_network_is_weighed_as_one_part_of_all(
    experts: int, scenes: Path, quick_fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def spied(*arguments: Any) -> torch.Tensor:
        sizes.append(arguments[5] if len(arguments) > 5 else None)
        return blend_shares(*arguments)

    monkeypatch.setattr(expert_fitting, "blend_shares", spied)
    kinds = ", ".join(("linear", "forest")[:experts])
    quick_fit(ignore=IGNORE, overrides=(f"model.experts=[{kinds}]", "training.refit=none"))
    assert [1, experts] in sizes
    assert all(size in (None, [1, experts]) for size in sizes)


def test_number_and_label_targets_are_supported(quick_fit: Any, scenes: Path) -> None:
    trained = quick_fit(
        target=["cost", "tags"],
        ignore=["event", "sound", "photo"],
        quality="fast",
        overrides=["model.experts=[linear]", "model.network=false"],
    )
    evaluation = trained.evaluate(scenes / "test.csv").targets
    assert evaluation["cost"].baseline is not None
    assert np.isfinite(evaluation["cost"].metrics["mae"])
    assert evaluation["cost"].metrics["mae"] < 2 * evaluation["cost"].baseline["mae"]
    assert np.isfinite(evaluation["tags"].metrics["f1_macro"])


def test_finished_run_is_loaded_not_refitted(quick_fit: Any, blended: Any, monkeypatch: Any) -> None:
    _, out = blended
    before = (out / "model.safetensors").read_bytes()
    monkeypatch.setattr("sensorium.training.expert_fitting.fit_experts", lambda *_: pytest.fail("fitted again"))
    again = quick_fit(ignore=IGNORE, overrides=BOTH, out=out, resume=True)
    assert (out / "model.safetensors").read_bytes() == before
    assert again.model.experts is not None


@pytest.mark.parametrize(
    "moment", ["sensorium.training.expert_fitting.refit_experts", "sensorium.training.final_fit.refit_experts"]
)
def test_run_stopped_in_final_fit_resumes_bit_identically(
    moment: str, quick_fit: Any, blended: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if moment.startswith("sensorium.training.expert_fitting"):
        moment = "sensorium.training.final_fit.train"  # before the network's last training

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(moment, stop)
        with pytest.raises(KeyboardInterrupt):
            quick_fit(ignore=IGNORE, overrides=BOTH, out=tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()
    quick_fit(ignore=IGNORE, overrides=BOTH, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (blended[1] / "model.safetensors").read_bytes()


def test_run_stopped_within_final_training_resumes_bit_identically(
    quick_fit: Any, blended: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, begin = final_fit.train, TrainingModule.on_train_batch_start

    def train(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(TrainingModule, "on_train_batch_start", stop)
        return last(*args, **more)

    def stop(lit: TrainingModule, batch: Any, at: int) -> None:
        if lit.global_step == 2:
            raise KeyboardInterrupt
        begin(lit, batch, at)

    monkeypatch.setattr(final_fit, "train", train)
    often = [*BOTH, "training.checkpoint_every=1e-6"]
    with pytest.raises(KeyboardInterrupt):
        quick_fit(ignore=IGNORE, overrides=often, out=tmp_path / "run")
    monkeypatch.undo()
    assert (tmp_path / "run" / "resume" / LAST / "resume" / "last.ckpt").is_file()
    quick_fit(ignore=IGNORE, overrides=often, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (blended[1] / "model.safetensors").read_bytes()


def test_final_training_starts_from_the_best_epoch(quick_fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = quick_fit(ignore=IGNORE, overrides=[*BOTH, "training.refit=experts"]).model
    monkeypatch.setattr(final_fit, "RATE", 1e-9)
    still = dict(quick_fit(ignore=IGNORE, overrides=BOTH).model.named_parameters())
    for name, tensor in before.named_parameters():  # statistics of batch normalisation move at any rate
        torch.testing.assert_close(still[name], tensor, msg=name)


def test_concatenated_rows_contain_both_parts(scenes: Path, blended: Any) -> None:
    trained, _ = blended
    early, late = (trained.encode(sm.Table.read(scenes / f"{name}.csv")) for name in ("train", "valid"))
    both = early.concatenated(late)
    assert len(both) == len(early) + len(late)
    index = np.array([len(early), 0, len(both) - 1, 3], dtype=np.int64)
    got = both.batch(index)
    for i, at in enumerate(index.tolist()):
        one = (early if at < len(early) else late).batch(
            np.array([at % len(early) if at < len(early) else at - len(early)])
        )
        for stream, field in one.inputs.items():
            assert bool(got.inputs[stream].present[i]) == bool(field.present[0])
            if bool(field.present[0]):
                length = field.data.shape[1]
                assert torch.equal(got.inputs[stream].data[i][:length], field.data[0]), stream


def test_validation_table_is_not_trained_on(quick_fit: Any, scenes: Path) -> None:
    trained = quick_fit(ignore=IGNORE, overrides=BOTH, valid=scenes / "valid.csv")
    assert "refit" not in trained.artifact.report


def test_time_limit_skips_the_final_training(quick_fit: Any) -> None:
    trained = quick_fit(ignore=IGNORE, overrides=BOTH, time_limit=30)
    assert trained.artifact.report["refit"]["epochs"] == 0
