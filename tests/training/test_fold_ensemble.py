"""Ensembles of networks by folds: predictions, out-of-fold scores, saving, missing streams, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sensorium as sm
from sensorium.core.batch import Batch
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.stream_subsets import coalitions
from sensorium.data.tables.table import Table
from sensorium.nn.ensemble import NETWORK, Ensemble
from sensorium.training import fold_ensemble

IGNORE = ["cost", "tags", "sound", "photo"]
THREE = ("model.networks=3", "model.experts=[linear]")
NUMBERS = {
    "a": [float(i % 7) for i in range(60)],
    "who": [f"p{i // 5}" for i in range(60)],
    "y": ["yes" if (i % 7) > 3 else "no" for i in range(60)],
}


@pytest.fixture(scope="module")
def three(quick_fit: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("three") / "run"
    return quick_fit(ignore=IGNORE, overrides=THREE, out=out), out


def first(trained: Any, scenes: Path) -> Batch:
    return next(iter(trained.batches(trained.encode(sm.Table.read(scenes / "test.csv")))))


def test_ensemble_prediction_is_the_mean(three: Any, scenes: Path) -> None:
    trained, _ = three
    model, batch = trained.predictor.model, first(trained, scenes)
    assert len(model.others) == 2
    with torch.inference_mode():
        for some in [tuple(model.streams), *coalitions(model.streams)]:
            run = Forward(model, batch).only(*some)
            absent = [s for s in model.streams if s not in some]
            each = [Forward(one, batch.without(*absent)).own["event"] for one in (_bare(model), *model.others)]
            mean = torch.stack([one.double().softmax(dim=1) for one in each]).mean(dim=0)
            torch.testing.assert_close(run.own["event"].double().softmax(dim=1), mean, atol=1e-6, rtol=1e-5)
    apart = [one.own["event"] for one in (Forward(_bare(model), batch), *Forward(model, batch).others)]
    assert not torch.allclose(apart[0], apart[1]), "the networks differ"


def _bare(model: Any) -> Any:
    """The first network of a model by itself."""
    return fold_ensemble._model_with(model, None)


def test_saved_ensemble_predicts_bit_identically(three: Any, scenes: Path) -> None:
    trained, out = three
    again = sm.load(out)
    before, after = (one.predict(scenes / "test.csv") for one in (trained, again))
    assert [p.targets for p in before] == [p.targets for p in after]
    assert again.recipe.model.networks == 3
    assert len(again.model.others) == 2
    mine, theirs = trained.model.state_dict(), again.model.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_scores_are_out_of_fold(three: Any, scenes: Path) -> None:
    _, out = three
    document = json.loads((out / "report.json").read_text())
    rows = len(sm.Table.read(scenes / "train.csv"))
    assert document["valid"]["rows"] == document["rows"] == rows
    assert [one["rows"] for one in document["networks"]] == [rows - rows // 3 - (k < rows % 3) for k in range(3)]
    assert all(one["best_epoch"] > 0 and one["history"] for one in document["networks"])
    assert "refit" not in document
    floor = document["floor"]["event"]
    assert set(floor["share"]) <= {NETWORK, "linear"}
    assert floor["scores"]["together"] == pytest.approx(document["valid"]["targets"]["event"]["accuracy"])
    assert not list((out / "resume").glob("network-*"))
    assert (out / "logs" / "network-3").is_dir()


def test_each_row_is_scored_by_the_network_that_held_it_out(quick_fit: Any, monkeypatch: Any) -> None:
    """A table whose rows can only be known by heart: seen rows would be answered well, unseen ones by chance."""
    rng = np.random.default_rng(0)
    table = {"id": rng.normal(size=90).tolist(), "y": rng.choice(["a", "b"], 90).tolist()}
    kept: list[fold_ensemble.FoldEnsemble] = []
    several = fold_ensemble.train_folds

    def watched(*args: Any, **named: Any) -> Any:
        kept.append(several(*args, **named))
        return kept[-1]

    monkeypatch.setattr("sensorium.training.fit.train_folds", watched)
    trained = quick_fit(table, target="y", ignore=[], overrides=["model.networks=3", "training.epochs=4"])
    (folded,) = kept
    assert sorted(folded.table.number(i) for i in range(len(folded.table))) == list(range(1, 91))
    with torch.inference_mode():
        predicted = torch.cat([run.outputs["y"] for run in folded.passes()])
        for k, held in enumerate(folded.held):
            own = torch.cat([folded.models[k](b)["y"] for b in trained.batches(held)])
            start = sum(len(one) for one in folded.held[:k])
            assert torch.equal(predicted[start : start + len(held)], own)
    ids = [folded.table.column("id")[i] for i in range(90)]
    stored = torch.cat([b.inputs["table"].data[:, 0] for b in trained.batches(folded.rows)])
    order = np.argsort(np.argsort(np.array(ids)))
    assert order.tolist() == np.argsort(np.argsort(stored.numpy())).tolist(), "the table's rows are those that were scored"


def test_folds_keep_groups_whole_and_stratify_classes() -> None:
    from sensorium.core.recipe import Recipe
    from sensorium.core.schema import Schema
    from sensorium.training.table_splits import TableSplits

    schema = Schema.declare({"a": {"kind": "number"}, "y": {"kind": "category", "role": "target"}})
    table = Table(NUMBERS)
    parts = TableSplits(schema, table.take(range(50)), table.take(range(50, 60)), 50)
    plan = Recipe.parse({"model": {"networks": 4}, "data": {"split": {"kind": "group", "by": "who"}}})
    for rest, held in fold_ensemble.fold_indices(plan, parts, separate_valid=False):
        assert not {NUMBERS["who"][i] for i in rest} & {NUMBERS["who"][i] for i in held}
    plain = fold_ensemble.fold_indices(Recipe.parse({"model": {"networks": 4}}), parts, separate_valid=False)
    shares = [np.mean([NUMBERS["y"][i] == "yes" for i in held]) for _, held in plain]
    assert max(shares) - min(shares) < 0.1
    assert sorted(np.concatenate([held for _, held in plain]).tolist()) == list(range(60))
    apart = fold_ensemble.fold_indices(plan, parts, separate_valid=True)
    assert max(max(held) for _, held in apart) < 50, "a table that was set apart stays apart"


def test_validation_table_is_in_no_fold(quick_fit: Any, scenes: Path) -> None:
    trained = quick_fit(valid=scenes / "valid.csv", ignore=IGNORE, overrides=THREE)
    report = trained.artifact.report
    assert report["rows"] == len(sm.Table.read(scenes / "train.csv"))
    assert report["valid"]["rows"] == len(sm.Table.read(scenes / "valid.csv"))
    again = trained.evaluate(scenes / "valid.csv").targets["event"].metrics["accuracy"]
    assert report["valid"]["targets"]["event"]["accuracy"] == pytest.approx(again)


def test_stopped_ensemble_resumes_at_the_interrupted_network(
    quick_fit: Any, scenes: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    whole = quick_fit(ignore=IGNORE, overrides=THREE)
    begun: list[int] = []
    train = fold_ensemble.train

    def stopped(plan: Any, *rest: Any) -> Any:
        begun.append(plan.seed)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return train(plan, *rest)

    out = tmp_path / "run"
    monkeypatch.setattr(fold_ensemble, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        quick_fit(ignore=IGNORE, overrides=THREE, out=out)
    monkeypatch.setattr(fold_ensemble, "train", train)
    fitted: list[int] = []
    from sensorium.training import lightning_training

    first = lightning_training.pl.Trainer.fit
    monkeypatch.setattr(lightning_training.pl.Trainer, "fit", lambda *a, **k: (fitted.append(1), first(*a, **k))[1])
    again = quick_fit(ignore=IGNORE, overrides=THREE, out=out, resume=True)
    assert len(fitted) == 1, "two networks were finished"
    mine, theirs = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    quick_fit(ignore=IGNORE, overrides=THREE, out=out, resume=True)
    assert len(fitted) == 1, "a finished run is read"
    with pytest.raises(ConfigError, match="another run"):
        quick_fit(ignore=IGNORE, overrides=[*THREE, "training.lr=0.01"], out=out, resume=True)


def test_single_network_is_unchanged(quick_fit: Any) -> None:
    plain, overrides = (quick_fit(ignore=IGNORE, overrides=more) for more in ([], ["model.networks=1"]))
    mine, theirs = plain.model.state_dict(), overrides.model.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not any(name.startswith("others") for name in mine)
    assert "networks" not in plain.artifact.report


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["model.networks=3", "data.split.kind=time", "data.split.by=when"], "split by time"),
        (["model.networks=3", "training.devices=2"], "several processes"),
        (["model.networks=200"], "200 folds"),
        (["model.networks=3", "model.tasks.y=svm"], "validation rows"),
    ],
)
def test_unsupported_ensembles_are_refused(
    quick_fit: Any, write_csv: Any, tmp_path: Path, more: list[str], why: str
) -> None:
    rows = [{"a": str(a), "y": y, "when": str(i)} for i, (a, y) in enumerate(zip(NUMBERS["a"], NUMBERS["y"], strict=True))]
    with pytest.raises(ConfigError, match=why) as error:
        quick_fit(write_csv(tmp_path / "t.csv", rows), target="y", ignore=["when"], overrides=more)
    assert "model.networks=1" in str(error.value)


def test_quality_best_falls_back_to_one_network(quick_fit: Any) -> None:
    table = {**NUMBERS, "when": list(range(60))}
    pytest.importorskip("optuna")
    trained = quick_fit(
        table,
        target="y",
        ignore=["who"],
        quality="best",
        search=1,
        overrides=["data.split.kind=time", "data.split.by=when", "training.epochs=1"],
    )
    assert trained.recipe.model.networks == 1
    assert not len(trained.model.others)


def test_ensemble_with_number_targets_and_explanations(quick_fit: Any, scenes: Path) -> None:
    trained = quick_fit(
        target=["cost", "tags"],
        ignore=["event", "sound", "photo"],
        overrides=["model.networks=2", "training.epochs=1", "columns.cost.kind=number", "columns.cost.scale=standard"],
    )
    evaluation = trained.evaluate(scenes / "test.csv").targets
    assert np.isfinite(evaluation["cost"].metrics["mae"])
    assert evaluation["tags"].subsets
    (answer,) = trained.predict([dict(sm.Table.read(scenes / "test.csv").row(1))], media=scenes)
    for one in trained.explain(scenes / "test.csv", row=2).maps:
        if one.explainer and one.target == "cost":
            assert one.value == pytest.approx(answer.targets["cost"]["value"], rel=1e-4)
    assert trained.predictor.embed(sm.Table.read(scenes / "test.csv").rows()).isfinite().all()
    assert not isinstance(trained.model.experts, Ensemble)
