"""A base learnt without a target, and fits that start from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sensorium as sm
from sensorium.artifact import Artifact
from sensorium.cli import app
from sensorium.core.errors import ArtifactError, ConfigError, DataError
from sensorium.evaluation.gain import Gain, Scores
from sensorium.training import base_model
from sensorium.training.callbacks import Checkpoint
from sensorium.training.gain import draw
from sensorium.training.pretraining_methods import METHODS, with_methods

TINY = ["training.epochs=2", "model.size=tiny", "training.batch_size=16", "model.experts=[]", "training.refit=none"]
STREAMS = {"left": "a*", "right": "b*"}
Row = dict[str, Any]


def rows(count: int, seed: int = 0, label: bool = False) -> list[Row]:
    """Rows of two streams that come of the same two numbers, each missing now and then."""
    draw = np.random.default_rng(seed)
    made = []
    for i in range(count):
        hidden = draw.normal(size=2)
        row: Row = {f"a{j}": round(float(hidden[j % 2] + 0.1 * draw.normal()), 4) for j in range(3)}
        row |= {f"b{j}": round(float(hidden.sum() * (j + 1) + 0.1 * draw.normal()), 4) for j in range(2)}
        gone = "a" if i % 9 == 4 else "b" if i % 9 == 7 else ""
        row = {name: None if gone and name.startswith(gone) else value for name, value in row.items()}
        made.append(row | ({"y": "up" if hidden[0] > 0 else "down"} if label else {}))
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "base"
    sm.pretrain(rows(90), streams=STREAMS, overrides=TINY, out=out, quiet=True)
    return out


def started(base: Path, **options: Any) -> Any:
    arguments: dict[str, Any] = {"streams": STREAMS, "overrides": TINY, "quiet": True}
    return sm.fit(rows(30, 1, label=True), target="y", init=base, **arguments | options)


def test_the_base_reports_what_it_learnt(base: Path) -> None:
    trained = sm.load(base)
    record = trained.history[-1]
    assert {"train_pretraining", "valid_loss_pretraining", "valid_explained_pretraining"} <= set(record)
    scores = trained.artifact.report["valid"]["targets"]["pretraining"]
    assert {"explained", "recall_at_1", "median_rank"} <= set(scores)
    page = (base / "report.html").read_text(encoding="utf-8")
    assert "How much of each stream is rebuilt" in page
    assert "left → right" in page
    (answer,) = trained.predict([{"a0": 1.0, "a1": 0.5, "a2": 1.0}])
    assert answer.targets["pretraining"]["value"] >= 0
    assert set(answer.targets["pretraining"]["errors"]) == {"left"}  # the other stream is not known
    index, added = sm.Index.create(base.parent / "idx", trained, rows(20), run=base)
    assert added.rows == 20
    assert len(index.search(row=3, top=1)) == 1


def test_a_run_reads_its_base_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    load = Artifact.load

    def counted(folder: Path, **options: Any) -> Artifact:
        reads.append(folder)
        return load(folder, **options)

    monkeypatch.setattr(Artifact, "load", counted)
    started(base)
    assert reads == [base]


def test_weights_and_columns_are_carried_over(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, Any] = {}
    adopt = base_model.Base.adopt_into

    def watched(self: Any, model: Any, plan: Any) -> None:
        adopt(self, model, plan)
        taken.update({name: t.clone() for name, t in model.state_dict().items()})

    monkeypatch.setattr(base_model.Base, "adopt_into", watched)
    run, before = started(base), sm.load(base)
    for part in ("encoders", "adapters"):
        ours = {name: t for name, t in taken.items() if name.startswith(part)}
        assert ours
        for name, tensor in ours.items():
            assert torch.equal(tensor, before.model.state_dict()[name])
    # Means and deviations are those of the base's rows, not of the few.
    for name in ("a0", "b1"):
        assert run.schema.columns[name].reader.state == before.schema.columns[name].reader.state
    assert run.recipe.init is not None
    assert run.recipe.init.digest == before.artifact.digest
    assert run.recipe.init.streams == {"left": "left", "right": "right"}


def test_the_saved_model_needs_no_base_and_names_no_folder(base: Path, tmp_path: Path) -> None:
    moved = tmp_path / "somewhere" / "base"
    shutil.copytree(base, moved)
    run = started(moved, out=tmp_path / "run")
    shutil.rmtree(moved)
    again = sm.load(tmp_path / "run")
    assert again.recipe.init is not None
    assert again.recipe.init.base == "base"
    for file in tmp_path.joinpath("run").rglob("*"):
        if file.suffix in (".yaml", ".json", ".html"):
            assert str(tmp_path) not in file.read_text(encoding="utf-8"), file.name
    some = rows(5, 2)
    assert [p.targets["y"] for p in again.predict(some)] == [p.targets["y"] for p in run.predict(some)]


def test_freezing_and_slow_rates_are_one_word(base: Path) -> None:
    frozen, before = started(base, init_how="frozen"), sm.load(base)
    for name, tensor in frozen.model.encoders.state_dict().items():
        assert torch.equal(tensor, before.model.encoders.state_dict()[name])
    slow = started(base, init_how="slow")
    assert slow.recipe.training.lr_scale == {"left": 0.1, "right": 0.1}
    with pytest.raises(ConfigError, match="init_how is 'frosen'; did you mean frozen"):
        started(base, init_how="frosen")
    with pytest.raises(ConfigError, match="no model to start from"):
        sm.fit(rows(30, 1, label=True), target="y", init_how="frozen", quiet=True)


def test_a_stream_by_another_name_starts_from_the_base(base: Path) -> None:
    few = [{"y": row["y"], **{k: v for k, v in row.items() if k.startswith("a")}} for row in rows(30, 1, label=True)]
    run = sm.fit(
        few,
        target="y",
        streams={"touch": "a*"},
        init=base,
        init_streams={"touch": "left"},
        init_how="frozen",
        overrides=TINY,
        quiet=True,
    )
    theirs = sm.load(base).model.encoders["left"].state_dict()
    assert all(torch.equal(t, theirs[name]) for name, t in run.model.encoders["touch"].state_dict().items())


def test_a_base_that_does_not_fit_is_refused_in_words(base: Path, tmp_path: Path) -> None:
    few = rows(30, 1, label=True)
    for options, words in (
        ({"overrides": [*TINY, "model.dim=48"]}, "width of 32"),
        ({"overrides": [*TINY, "model.encoders.left=mlp"]}, "leave out model.encoders.left"),
        ({"init_streams": {"left": "middle"}}, "no stream named 'middle'"),
        ({"init_streams": {"centre": "left"}}, "no stream named 'centre'"),
        ({"columns": {"a0": "text"}}, "read"),
        ({"ignore": ["a1"]}, "only in the base: a1"),
    ):
        with pytest.raises(ConfigError, match=words):
            started(base, **options)
    with pytest.raises(ConfigError, match="no stream has the name of one of the base"):
        sm.fit(few, target="y", ignore=[f"b{i}" for i in range(2)], init=base, overrides=TINY, quiet=True)
    with pytest.raises(ArtifactError, match="no such folder"):
        started(tmp_path / "nothing")


def test_a_base_that_was_tampered_with_is_not_read(base: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(base, bad)
    weights = bytearray((bad / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (bad / "model.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactError, match="SHA-256"):
        started(bad)
    (bad / "manifest.json").write_text(json.dumps({"format": 2, "files": {"../../etc/passwd": {}}}))
    with pytest.raises(ArtifactError):
        started(bad)
    recipe = sm.Recipe.parse({"init": {"base": str(base), "digest": "0" * 64}})
    with pytest.raises(ConfigError, match="digests differ"):
        sm.fit(rows(30, 1, label=True), target="y", streams=STREAMS, recipe=recipe, overrides=TINY, quiet=True)


class KilledError(Exception):
    """Stands for a power cut."""


def test_stopped_pretraining_and_fits_resume_bit_identically(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [*TINY[1:], "training.epochs=3", "objectives=[{kind: supervised, subsets: 0}, simclr, vicreg, matching, masked]"]

    def pretrained(**options: Any) -> Any:
        return sm.pretrain(rows(40), streams=STREAMS, overrides=more, quiet=True, **options)

    def fitted(**options: Any) -> Any:
        return started(base, **options)

    save = Checkpoint.on_validation_end
    for number, run in enumerate((pretrained, fitted)):
        whole, out = run(), tmp_path / f"stopped-{number}"

        def killed(self: Any, trainer: Any, module: Any) -> None:
            save(self, trainer, module)
            raise KilledError

        monkeypatch.setattr(Checkpoint, "on_validation_end", killed)
        with pytest.raises(KilledError):
            run(out=out)
        monkeypatch.setattr(Checkpoint, "on_validation_end", save)
        again = run(out=out, resume=True)
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, again.model.state_dict()[name]), name
        for before, after in zip(whole.history, again.history, strict=True):
            assert {k: v for k, v in before.items() if k != "seconds"} == {k: v for k, v in after.items() if k != "seconds"}


def test_methods_become_a_recipe() -> None:
    plan, options = with_methods(sm.Recipe(), None)
    assert options == {}
    assert plan.model.fusion == "single"
    plan, options = with_methods(sm.Recipe(), ["contrastive", "variational", "masked", "vicreg"])
    assert options == {"contrast": 1.0, "rebuild": 1.0, "source": "own", "variational": 0.001}
    assert [o if isinstance(o, str) else o["kind"] for o in plan.objectives] == ["supervised", "masked", "vicreg"]
    _, options = with_methods(sm.Recipe(), ["simclr"])
    assert options == {"contrast": 0.0, "rebuild": 0.0, "source": "own"}
    with pytest.raises(ConfigError, match="contrastive"):
        with_methods(sm.Recipe(), ["contrast"])
    with pytest.raises(ConfigError, match="different vectors"):
        with_methods(sm.Recipe(), ["rebuild", "autoencode"])


def test_rows_without_a_label_take_part_beside_labelled_ones(base: Path) -> None:
    table = [row | {"y": row["y"] if i % 4 == 0 else None} for i, row in enumerate(rows(60, 4, label=True))]
    recipe = {"model": {"tasks": {"y": "classification", "base": {"kind": "pretraining", "target": None}}}}
    both = sm.fit(table, target="y", recipe=recipe, streams=STREAMS, overrides=TINY, quiet=True)
    assert both.artifact.report["rows"] + both.artifact.report["valid"]["rows"] == 60
    assert {"train_y", "train_base", "valid_explained_base"} <= set(both.history[-1])
    plan = {"objectives": ["supervised", "distillation", {"kind": "vicreg", "between": "views"}]}
    beside = sm.fit(table, target="y", recipe=plan, streams=STREAMS, overrides=TINY, quiet=True)
    assert beside.artifact.report["rows"] + beside.artifact.report["valid"]["rows"] == 60
    assert np.isfinite(beside.history[-1]["train_y/distilled"])
    alone = sm.fit(table, target="y", streams=STREAMS, overrides=TINY, quiet=True)
    assert alone.artifact.report["rows"] + alone.artifact.report["valid"]["rows"] == 15


def test_every_method_and_one_stream(base: Path, tmp_path: Path) -> None:
    one = [{k: v for k, v in row.items() if k.startswith("a")} for row in rows(40)]
    alone = sm.pretrain(one, overrides=TINY, quiet=True)
    assert [spec["kind"] for spec in alone.recipe.objectives if isinstance(spec, dict)] == ["supervised", "simclr"]
    assert "valid_simclr" in alone.history[0]
    # All at once: a loss each, finite.
    every = [m for m in METHODS if m not in ("rebuild", "variational")]
    record = sm.pretrain(rows(40), methods=every, streams=STREAMS, overrides=TINY, quiet=True).history[-1]
    for name in ("pretraining/denoised", "masked", "matching", "vicreg", "simclr"):
        assert np.isfinite(record[f"train_{name}"])
    for name in ("masked", "matching", "vicreg", "simclr"):
        assert np.isfinite(record[f"valid_{name}"])


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, table in (("rows.csv", rows(40)), ("few.csv", rows(20, 1, label=True))):
        header = list(table[0])
        lines = [",".join("" if row[key] is None else str(row[key]) for key in header) for row in table]
        Path(name).write_text("\n".join([",".join(header), *lines]) + "\n", encoding="utf-8")
    groups = ["--stream", "left=a*", "--stream", "right=b*", "--quiet"]
    made = CliRunner().invoke(app, ["pretrain", "rows.csv", *TINY, *groups, "--method", "contrastive,vicreg"])
    assert made.exit_code == 0, made.output
    assert "--init base" in made.output
    command = ["fit", "few.csv", "--target", "y", "--init", "base", "--init-how", "frozen", "--map", "left=left", *TINY]
    fitted = CliRunner().invoke(app, [*command, *groups])
    assert fitted.exit_code == 0, (fitted.output, fitted.exception)
    recipe = sm.load("run").recipe
    assert recipe.init is not None
    assert recipe.init.streams == {"left": "left"}


def test_the_gain_is_reported_with_its_spread(base: Path, tmp_path: Path) -> None:
    train = rows(60, 3, label=True)
    train[0]["y"] = None
    gain = sm.gain(base, train, target="y", labels=[12, 100], seeds=2, streams=STREAMS, overrides=TINY)
    assert list(gain.scores) == [12]  # the table has not a hundred
    assert set(gain.scores[12]) == {"", "left", "right"}
    assert all(len(one.scratch) == len(one.base) == 2 for one in gain.scores[12].values())
    assert gain.test_rows == 18
    assert json.loads(json.dumps(gain.to_json())) == gain.to_json()
    assert "all streams" in gain.text()
    with pytest.raises(DataError, match="labelled rows"):
        sm.gain(base, train, target="y", labels=[1000])


def test_evaluate_reports_the_gain_too(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def measured(base: Path, table: str, **options: Any) -> Gain:
        asked.update(base=base, table=table, **options)
        return Gain("y", "accuracy", True, 9, 2, {5: {"": Scores([0.9, 0.8], [0.5, 0.6])}})

    monkeypatch.setattr("sensorium.training.gain.gain", measured)
    command = ["evaluate", str(base), "few.csv", "--gain", "y", "--json", str(tmp_path / "gain.json")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "the base makes worse: all streams" in result.output
    assert (asked["base"], asked["table"], asked["target"]) == (base, "few.csv", "y")
    assert json.loads((tmp_path / "gain.json").read_text())["target"] == "y"
    refused = CliRunner().invoke(app, [*command, "--robustness", "--overwrite"])
    assert refused.exit_code != 0


def test_a_loss_beyond_the_spread_is_reported() -> None:
    worse = Gain(
        "y", "accuracy", True, 9, 2, {5: {"": Scores([0.9, 0.8], [0.5, 0.6]), "a": Scores([0.5, 0.7], [0.6, 0.6])}}
    )
    assert worse.scores[5][""].difference == pytest.approx(-0.3)
    assert worse.scores[5][""].spread == pytest.approx(0.0707, abs=1e-3)
    assert worse.scores[5][""].verdict(True) == "worse"
    assert worse.scores[5][""].verdict(False) == "better"
    assert worse.scores[5]["a"].verdict(True) == "alike"
    assert "the base makes worse: all streams" in worse.text()


def test_labelled_rows_are_drawn_class_by_class() -> None:
    cells = ["a"] * 30 + ["b"] * 3 + ["c"]
    drawn = [cells[i] for i in draw(cells, 8, 0)]
    assert (drawn.count("a"), drawn.count("b"), drawn.count("c")) == (4, 3, 1)
    assert draw(cells, 8, 0) == draw(cells, 8, 0) != draw(cells, 8, 1)
