"""The league is fair: every way sees the same folds and nothing of the rows that are scored, and a stopped run goes on."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import league, league_rivals
from benchmarks.league_sets import Package, Set, Sources, described, read_ts

from sensorium.data.splitting import folds
from sensorium.data.tables.table import Table


def mixed(tmp_path: Path, classes: bool) -> Set:
    """A set with a column of each kind that the rivals are fed, and gaps in all."""
    import soundfile

    draw = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {name: [] for name in ("size", "colour", "note", "course", "photo", "sound", "label")}
    for i in range(40):
        name = ["low", "high"][i % 2]
        tone = np.sin(np.arange(800) * (0.1 if i % 2 else 0.8)) * 0.5
        soundfile.write(tmp_path / f"{i}.wav", tone + draw.normal(0, 0.01, 800), 8000)
        columns["size"].append(None if i % 7 == 0 else draw.normal())
        columns["colour"].append("" if i % 7 == 1 else "red" if i == 39 else "blue")
        columns["note"].append("" if i % 7 == 2 else f"it is {name} today")
        columns["course"].append(None if i % 7 == 3 else draw.normal(size=(10 + i % 3, 2)).astype(np.float32))
        columns["photo"].append(None if i % 7 == 4 else draw.integers(0, 256, (20, 30), dtype=np.uint8))
        columns["sound"].append("" if i % 7 == 5 else f"{i}.wav")
        columns["label"].append(name if classes else float(i % 2) + draw.normal(0, 0.1))
    kinds: Any = {"size": "number", "colour": "category", "note": "text", "course": "series", "photo": "image"}
    return Set("mixed", Table(columns, root=tmp_path), classes, {**kinds, "sound": "audio"})


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("way", league_rivals.WAYS)
def test_rivals_learn_of_every_kind_and_nothing_of_the_rows_that_are_scored(
    tmp_path: Path, way: str, classes: bool
) -> None:
    which = mixed(tmp_path, classes)
    learn, check = np.arange(20, 40), np.arange(20)
    names = ["high", "low"]
    truth = np.array(which.table.column("label"), dtype=object if classes else np.float64)
    plain = league_rivals.Plain(which)
    predicted = league_rivals.answer(way, plain, which, learn, check, truth, names, 0)
    other = truth.copy()
    other[check] = truth[check][::-1]
    assert np.array_equal(predicted, league_rivals.answer(way, plain, which, learn, check, other, names, 0))
    if classes:
        assert predicted.shape == (20, 2)
        assert predicted.sum(axis=1) == pytest.approx(1)
    else:
        assert predicted.shape == (20,)
    if way != "boosting":  # which splits no 20 rows
        assert league.scores(which, truth[check], predicted, names)[("r2", "auroc")[classes]] > 0.6


def test_a_rival_gives_a_class_it_has_no_row_of_no_chance(tmp_path: Path) -> None:
    which = mixed(tmp_path, True)
    truth = np.array(which.table.column("label"), dtype=object)
    truth[0] = "middle"
    plain = league_rivals.Plain(which)
    names = ["high", "low", "middle"]
    predicted = league_rivals.answer("forest", plain, which, np.arange(20, 40), np.arange(20), truth, names, 0)
    assert (predicted[:, 2] == 0).all()
    result = league.scores(which, truth[:20], predicted, names)
    assert np.isfinite(result["log_loss"])
    assert next(iter(result)) == "accuracy"


def test_scores_are_those_of_scikit_learn_and_the_first_follows_the_rule() -> None:
    draw = np.random.default_rng(0)
    names = ["a", "b"]
    truth = np.array([names[i % 2] for i in range(30)], dtype=object)
    predicted = draw.dirichlet([1, 1], 30)
    which = Set("two", Table({"x": [0] * 30}), True, {})
    result = league.scores(which, truth, predicted, names)
    assert list(result) == ["auroc", "accuracy", "log_loss", "macro_f1"]
    best = np.array(names)[predicted.argmax(axis=1)]
    assert result["auroc"] == pytest.approx(metrics.roc_auc_score(truth == "b", predicted[:, 1]))
    assert result["accuracy"] == pytest.approx(metrics.accuracy_score(truth.tolist(), best.tolist()))
    assert result["log_loss"] == pytest.approx(metrics.log_loss(truth.tolist(), predicted, labels=names))
    assert result["macro_f1"] == pytest.approx(metrics.f1_score(truth.tolist(), best.tolist(), average="macro"))
    numbers = league.scores(Set("n", which.table, False, {}), np.array([1.0, 2, 4]), np.array([1.0, 2, 3]), [])
    assert numbers == pytest.approx({"r2": 1 - 1 / (14 / 3), "mae": 1 / 3})


def test_it_runs_and_goes_on_where_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "league.jsonl"
    requested = ["--sets", "iris", "--rows", "60", "--folds", "2", "--set", "training.epochs=1", "--out", str(out)]
    league.main([*requested, "--ways", "linear,forest"])
    before = out.read_text()
    assert len(before.splitlines()) == 4
    # Stopped in the middle: the last line is made again, the same.
    out.write_text("".join(before.splitlines(keepends=True)[:-1]))
    league.main(requested)
    lines = league.read(out)
    assert sorted(line["key"][1] for line in lines) == sorted(2 * ["default", *league_rivals.WAYS])
    again = {tuple(line["key"]): line["scores"] for line in lines}
    assert all(again[tuple(line["key"])] == line["scores"] for line in map(json.loads, before.splitlines()))
    capsys.readouterr()
    league.main(
        [*requested, "--name", "other", "--out", str(tmp_path / "new.jsonl"), "--beside", str(out), "--ways", "linear"]
    )
    assert not (tmp_path / "new.jsonl").exists()
    league.main(["--table", str(out)])
    printed = capsys.readouterr().out
    assert "| iris | accuracy |" in printed
    assert "Mean rank of 4 over the 1 sets" in printed


def test_sensorium_answers_numbers_with_the_same_folds(tmp_path: Path) -> None:
    (which,) = [one.thinned(40) for one in Sources(only=frozenset({"iris_width"})).sets().values()]
    learn, check = folds(which.table, 2)[0]
    predicted = league.ours(which, learn, check, [], 0, league.TrainingSettings(overrides=("training.epochs=1",)))
    assert predicted.shape == (20,)
    assert np.isfinite(predicted).all()


def line(name: str, way: str, fold: int, score: float, measure: str = "accuracy") -> dict[str, Any]:
    return {"key": [name, way, 100, 3, 0, fold], "scores": {measure: score, "log_loss": 1.0}, "seconds": 1.0}


def test_differences_are_paired_and_ranks_are_shared_by_those_that_are_level() -> None:
    options = {
        "default": (0.8, 0.7, 0.6),
        "linear": (0.9, 0.8, 0.6),
        "forest": (0.7, 0.7, 0.7),
        "boosting": (0.1, 0.9, 0.5),
    }
    lines = [line("x", way, fold, score) for way, scores in options.items() for fold, score in enumerate(scores)]
    lines.append(line("x", "linear", 3, 0.0))  # a fold that others have not answered counts for none
    one = league.standings(lines)["x"]
    best, ahead, error = one.difference("default") or ("", 0.0, 0.0)
    assert best == "linear"
    assert ahead == pytest.approx(-0.2 / 3)
    assert error == pytest.approx(np.std([-0.1, -0.1, 0.0], ddof=1) / 3**0.5)
    assert one.ranks == {"default": 2.5, "linear": 1, "forest": 2.5, "boosting": 4}
    text = league.table(lines)
    assert "| x | accuracy | 0.700 ± 0.100 | **0.767** ± 0.153 | 0.700" in text
    assert "below the best rival: x (-0.067 ± 0.033)." in text
    assert "default 2.50, linear 1.00, forest 2.50, boosting 4.00" in text


def test_series_files_are_read_as_time_by_channels() -> None:
    series, answers = read_ts("# a comment\n@classLabel true a b\n@data\n1,2,?:4,5,6:a\n\n7,8:9,10:b\n")
    assert answers == ["a", "b"]
    assert series[0].tolist()[:2] == [[1, 4], [2, 5]]
    assert np.isnan(series[0][2, 0])
    assert series[1].shape == (2, 2)
    assert read_ts("@data\n1,2,3:0.5\n")[0][0].shape == (3,)
    with pytest.raises(ValueError, match="line 2: the channels"):
        read_ts("@data\n1,2:3:a\n")
    with pytest.raises(ValueError, match="timestamps"):
        read_ts("@timeStamps true\n@data\n(0,1),(1,2):a\n")


def test_a_package_is_read_from_a_wheel_and_from_a_folder_without_being_installed(tmp_path: Path) -> None:
    choice = "individual;mode;choice;ttme;invc;invt;gc;hinc;psize\n"
    choice += "".join(f"1;{mode};{int(mode == 2)};6{mode};59;100;70;35;1\n" for mode in range(1, 5))
    inner = "statsmodels/datasets/modechoice/modechoice.csv"
    (tmp_path / inner).parent.mkdir(parents=True)
    (tmp_path / inner).write_text(choice)
    wheel = tmp_path / "statsmodels-1.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr(inner, choice)
    for place in (wheel, tmp_path, tmp_path / "statsmodels"):
        results = Sources(statsmodels=place, only=frozenset({"modechoice"})).sets()["modechoice"]
        assert results.table.row(0)["label"] == "train"
        assert results.table.row(0)["ttme_car"] == "64"
        assert len(results.kinds) == 18
    assert "| modechoice | 1 | 1 classes | 18 number |" in described([results])
    assert Package("statsmodels", wheel).read("datasets/none.csv") is None
    assert Package("no_such_package").read("datasets/none.csv") is None
    with pytest.raises(SystemExit, match="the files of fair were not found"):
        Sources(statsmodels=wheel, only=frozenset({"fair"})).sets()
    with pytest.raises(SystemExit, match="no set named nothing; there are: iris"):
        Sources(only=frozenset({"nothing"})).sets()


def test_a_folder_gives_its_training_rows_and_what_is_no_input_is_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "mustard"
    folder.mkdir()
    (folder / "train.csv").write_text("id,text,speaker,context,show,label\n1,oh,A,so,B,1\n2,ah,A,so,B,\n3,hm,A,so,B,0\n")
    (folder / "test.csv").write_text("id,text,speaker,context,show,label\n9,oh,A,so,B,1\n")
    results = Sources(data=tmp_path, only=frozenset({"mustard"})).sets()["mustard"]
    assert results.ignore == ["id"]
    assert results.thinned(None).table.column("id") == ["1", "3"]


def test_a_recording_under_other_noise_is_never_on_both_sides_of_a_fold(tmp_path: Path) -> None:
    import soundfile

    folder = tmp_path / "av_hard"
    folder.mkdir()
    draw = np.random.default_rng(0)
    lines = ["id,image,audio,speaker,label"]
    for i in range(24):  # eight takes of one speaker, each three times
        soundfile.write(folder / f"{i}.wav", draw.normal(0, 0.1, 400 + i // 3), 8000)
        lines.append(f"{i},{i}.png,{i}.wav,ann,{i // 12}")
    lines += ["24,24.png,,ann,0", "25,25.png,,ann,0"]
    (folder / "train.csv").write_text("\n".join(lines))
    results = Sources(data=tmp_path, only=frozenset({"av_hard"})).sets()["av_hard"]
    assert results.group == "take"
    assert "take" not in (*results.kinds, *results.ignore)
    takes = np.array(results.table.column("take"))
    assert len(set(takes)) == 10
    assert len({*takes[0:3]}) == 1
    for learn, check in folds(results.table, 4, kind="group", by="take"):
        assert not set(takes[learn]) & set(takes[check])
