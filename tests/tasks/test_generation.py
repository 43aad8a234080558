"""Generation: rows of every kind made under conditions, by seed, saved, resumed, and marked as made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sensorium as sm
from sensorium.core.answer import Attachment
from sensorium.core.errors import ConfigError, DataError
from sensorium.data.made_rows import MARK
from sensorium.heads.cell_forms import SoundForm, form_of
from sensorium.training.lightning_module import TrainingModule

QUICK = ["model.size=tiny", "training.batch_size=16"]
KINDS = {"glyph": "image", "curve": "series", "tone": "audio", "code": "vector", "size": "number", "colour": "category"}


def table(rows: int = 48) -> list[dict[str, Any]]:
    """Two labels, seen in every column: a bar across or down, a rising or falling curve, a low or high tone, ..."""
    draw = np.random.default_rng(0)
    made = []
    for i in range(rows):
        label, shift = i % 2, int(draw.integers(2, 6))
        glyph = np.zeros((8, 8), np.uint8)
        glyph[(slice(None), shift) if label else (shift, slice(None))] = 250
        steps = int(draw.integers(6, 10))
        curve = (np.linspace(0, 4, steps) if label else np.linspace(4, 0, steps)) + draw.normal(0, 0.1, steps)
        tone = 0.4 * np.sin(2 * np.pi * (1200 if label else 300) * np.arange(640) / 4000 + draw.random())
        made.append(
            {
                "glyph": glyph,
                "curve": curve.tolist(),
                "tone": tone.astype(np.float32),
                "code": [float(label) + draw.normal(0, 0.1), float(draw.normal()), 1.0 - label],
                "size": float(10 * label + draw.normal()),
                "colour": ["red", "blue"][label] if draw.random() < 0.9 else "green",
                "label": ["across", "down"][label],
            }
        )
    made[3]["size"] = None  # a row of which a cell is missing is learnt from too
    return made


def fit(target: Any, **arguments: Any) -> Any:
    names = [target] if isinstance(target, str) else target
    options = {"given": ["label"], **arguments.pop("options", {})}
    columns = {name: KINDS[name] for name in names}
    columns["tone"] = {"kind": "audio", "rate": 4000} if "tone" in names else "ignore"
    rate = "training.lr=0.002" if options.get("maker") == "gan" else "training.lr=0.005"
    overrides = [*QUICK, rate, *arguments.pop("overrides", [])]
    data = [{name: row[name] for name in (*names, "label", "tone")} for row in table()]
    arguments = {"task": "generation", "quiet": True, "columns": columns, **arguments}
    return sm.fit(data, target=target, options=options, overrides=overrides, **arguments)


@pytest.fixture(scope="module")
def pictures() -> Any:
    return fit("glyph", epochs=25)


@pytest.fixture(scope="module")
def everything() -> Any:
    return fit(list(KINDS), epochs=30)


def test_made_pictures_follow_their_condition(pictures: Any) -> None:
    scores = pictures.artifact.report["valid"]["targets"]["glyph"]
    assert {"label_coverage", "coverage", "precision", "recall", "density", "frechet", "label_agreement"} <= set(scores)
    for label, axis in (("across", 1), ("down", 0)):
        rows = pictures.sample(12, given={"label": label}, seed=1)
        spread = [np.asarray(row["glyph"], float).mean(axis=axis).std() for row in rows]
        other = [np.asarray(row["glyph"], float).mean(axis=1 - axis).std() for row in rows]
        assert np.mean(np.array(spread) > np.array(other)) > 0.8, label


def test_rows_depend_on_the_seed_and_not_on_each_other(pictures: Any) -> None:
    given = {"label": "down"}
    first, again = pictures.sample(5, given=given, seed=3), pictures.sample(2, given=given, seed=3)
    assert all(np.array_equal(a["glyph"], b["glyph"]) for a, b in zip(first, again, strict=False))
    assert not np.array_equal(first[0]["glyph"], first[1]["glyph"])
    assert not np.array_equal(first[0]["glyph"], pictures.sample(1, given=given, seed=4)[0]["glyph"])
    table_of_conditions = [{"label": "down"}, {"label": "across"}]
    assert [row["label"] for row in pictures.sample(2, rows=table_of_conditions)] == ["down"] * 2 + ["across"] * 2
    assert pictures.sample(1)[0]["glyph"].shape == (16, 16)  # without any condition


def test_conditions_that_cannot_be_met_are_refused(pictures: Any) -> None:
    with pytest.raises(ConfigError, match="'lable' is not an input of the model; did you mean label"):
        pictures.sample(1, given={"lable": "down"})
    with pytest.raises(DataError, match="askew"):
        pictures.sample(1, given={"label": "askew"})


def test_columns_of_every_kind_are_made_together(everything: Any) -> None:
    rows = everything.sample(16, given={"label": "down"}, seed=0)
    for row in rows:
        assert row["glyph"].dtype == np.uint8
        assert 1 <= len(row["curve"]) <= 10
        assert np.abs(row["tone"]).max() <= 1
        assert len(row["code"]) == 3
        assert row["colour"] in ("red", "blue", "green")
        assert row[MARK]
    other = everything.sample(16, given={"label": "across"}, seed=0)
    assert np.mean([row["size"] for row in rows]) > np.mean([row["size"] for row in other]) + 4
    assert np.std([row["size"] for row in rows]) > 0.2  # drawn, and not all the mean
    assert np.mean([row["colour"] == "blue" for row in rows]) > 0.5


def test_a_fit_learns_from_made_rows(everything: Any) -> None:
    rows = [row for label in ("down", "across") for row in everything.sample(12, given={"label": label}, seed=2)]
    model = sm.fit(
        [{name: cell for name, cell in row.items() if name not in ("tone", MARK)} for row in rows],
        target="label",
        columns={name: kind for name, kind in KINDS.items() if name != "tone"},
        overrides=["model.size=tiny", "model.experts=[]"],
        epochs=2,
        quiet=True,
    )
    assert set(model.predictor.model.streams) >= {"glyph", "curve", "code"}


def test_answers_report_and_explanation(everything: Any, tmp_path: Path) -> None:
    (answer,) = everything.predict([{"label": "down"}])
    assert isinstance(answer.value["glyph"], Attachment)
    assert answer.to_json()["targets"]["generation"]["value"]["glyph"].startswith("data:image/png")
    evaluation = everything.evaluate(table(16), report=tmp_path / "report.html")
    assert evaluation.targets["generation"].rows == 15  # one row lacks a cell
    assert "Made: glyph" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert everything.explain(table(16)[:4]).targets


def test_a_saved_model_makes_the_same_rows(pictures: Any, tmp_path: Path, python: Any) -> None:
    pictures.save(tmp_path / "run")
    again = sm.load(tmp_path / "run")
    rows, same = (model.sample(3, given={"label": "down"}, seed=5) for model in (pictures, again))
    assert all(np.array_equal(a["glyph"], b["glyph"]) for a, b in zip(rows, same, strict=True))
    command = ["-m", "sensorium", "sample", tmp_path / "run", "--n", 3, "--given", "label=down", "--seed", 5]
    done = python(*command, "--out", tmp_path / "made")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "made/glyph/00002.png") as picture:
        assert np.array_equal(np.asarray(picture), rows[1]["glyph"])
        assert "made by a model" in picture.text["Comment"]
    assert (tmp_path / "made/rows.csv").read_text(encoding="utf-8").startswith(f"label,glyph,{MARK}")
    assert "holds made rows" in python(*command, "--out", tmp_path / "made").stderr


def test_a_gan_follows_its_condition() -> None:
    made = fit("glyph", epochs=120, options={"maker": "gan"})
    right = []
    for label, axis in (("across", 1), ("down", 0)):
        for row in made.sample(12, given={"label": label}, seed=1):
            cell = np.asarray(row["glyph"], float)
            right.append(cell.mean(axis=axis).std() > cell.mean(axis=1 - axis).std())
    assert np.mean(right) > 0.8


class PowerCutError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("maker", ["vae", "gan"])
def test_a_run_resumes_bit_identically_at_either_network(maker: str, tmp_path: Path, monkeypatch: Any) -> None:
    arguments: dict[str, Any] = {"epochs": 3, "options": {"maker": maker}}
    arguments["overrides"] = ["training.checkpoint_every=0.000001"]
    whole = fit("glyph", **arguments)
    real, turns = TrainingModule.training_step, []

    def step(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        if len(turns) == 4:  # within the second epoch
            raise PowerCutError
        turns.append(self.global_step)
        return real(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr("sensorium.training.callbacks.CHECKPOINT_INTERVAL", 0)
        patched.setattr(TrainingModule, "training_step", step)
        with pytest.raises(PowerCutError):
            fit("glyph", out=tmp_path / "run", **arguments)
    resumed = fit("glyph", out=tmp_path / "run", resume=True, **arguments)
    before, after = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_networks_of_a_gan_are_updated_alternately(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    original = TrainingModule.on_before_optimizer_step

    def spy(self: Any, optimizer: Any) -> None:
        original(self, optimizer)
        (task,) = self.model.tasks.values()
        moved = [any(p.grad is not None for p in turn.parameters) for turn in task.turns]
        seen.append((moved[0], moved[1]))

    monkeypatch.setattr(TrainingModule, "on_before_optimizer_step", spy)
    fit("glyph", epochs=2, options={"maker": "gan"})
    assert seen[:4] == [(True, False), (False, True), (True, False), (False, True)]


def test_a_recording_is_reconstructed_from_its_spectrogram() -> None:
    from sensorium.core.registry import build

    modality = build("modalities", {"kind": "audio", "rate": 4000})
    tones = [row["tone"] for row in table(8)]
    modality.fit(iter(tones))
    form = form_of("tone", modality)
    assert isinstance(form, SoundForm)
    field = modality.collate([modality.encode(tone) for tone in tones])
    form.fit(form.values(field))
    for tone, values in zip(tones, form.values(field), strict=True):
        sound = form.cell(values).data
        peaks = [np.abs(np.fft.rfft(signal, 1024)).argmax() for signal in (tone, sound)]
        assert abs(int(peaks[0]) - int(peaks[1])) <= 4


def test_unsupported_targets_are_refused_before_training() -> None:
    rows = [{"text": f"a line of words number {i}", "label": "ab"[i % 2]} for i in range(20)]
    with pytest.raises(ConfigError, match="predicts"):
        sm.fit(
            rows,
            target="text",
            task="generation",
            options={"given": ["label"]},
            columns={"text": "text"},
            quiet=True,
        )
