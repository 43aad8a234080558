"""What a trained model says of values, classes and gaps that training did not have: in a script, a command and a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core.errors import DataError
from sensorium.modalities.number import Number
from sensorium.trained import Trained

Cli = Callable[..., tuple[int, str, str]]


def rows(count: int = 60, label: Callable[[int], str] = lambda i: ("Mild", "Severe")[i % 2]) -> list[dict[str, Any]]:
    return [{"age": i % 7 + 0.5, "drug": ("aspirin", "ibuprofen")[i % 2], "pain": label(i)} for i in range(count)]


@pytest.fixture(scope="module")
def model() -> Trained:
    return sm.fit(rows(), target="pain", overrides=["training.epochs=2"], quiet=True)


@pytest.fixture(scope="module")
def folder(model: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("saved") / "pain")


def test_a_value_that_training_did_not_have_is_no_missing_cell(model: Trained) -> None:
    results, usual = model.predict([{"age": 1.5, "drug": "Asprin"}, {"age": 1.5, "drug": "aspirin"}])
    (problem,) = results.problems
    assert (problem.column, problem.missing, problem.row) == ("drug", False, 1)
    assert "aspirin" in str(problem)
    assert (results.missing, usual.problems) == ([], [])


def test_a_column_that_may_be_meant_for_another_is_named(model: Trained, folder: Path, cli: Cli, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'agee' may be 'age': rename it"):
        model.predict([{"agee": 1.5, "drug": "aspirin"}])
    assert model.predict([{"drug": "aspirin", "colour": "red"}])[0].problems == []  # like none: no word
    table = tmp_path / "misnamed.csv"
    table.write_text("agee,drug\n1.5,aspirin\n", encoding="utf-8")
    code, _, err = cli("predict", folder, table)
    assert code == 0
    assert "no column age: taken as missing in every row ('agee' may be 'age': rename it)" in err


def test_a_command_names_it_once_a_column(folder: Path, cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("age,drug\n" + "1.5,Asprin\n" * 4 + "2,aspirin\n", encoding="utf-8")
    code, _, err = cli("predict", folder, table, "--out", tmp_path / "out.csv")
    assert code == 0
    assert err.count("cells were read as different values") == 1
    assert err.count("did you mean 'aspirin'") <= 3


def test_a_server_answers_such_a_row_and_names_the_value(model: Trained) -> None:
    pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")
    from starlette.testclient import TestClient

    from sensorium.data.files.media_access import UPLOADS_ONLY
    from sensorium.predictor import Predictor
    from sensorium.serve.app import create

    app = create({"pain": Predictor(model.artifact, device="cpu", media=UPLOADS_ONLY)})
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.post("/predict", json={"row": {"age": 1.5, "drug": "Asprin"}})
    assert answer.status_code == 200, answer.text
    assert "aspirin" in answer.text


def test_no_class_that_training_had_is_an_error_with_the_near_one(
    model: Trained, folder: Path, cli: Cli, tmp_path: Path
) -> None:
    shouted = rows(8, lambda i: ("MILD", "SEVERE")[i % 2])
    with pytest.raises(DataError, match="did you mean 'Mild'"):
        model.evaluate(shouted)
    with pytest.raises(DataError, match="no row has a target"):
        model.evaluate(rows(8, lambda i: ""))
    table = tmp_path / "shouted.csv"
    table.write_text("age,drug,pain\n" + "1,aspirin,MILD\n" * 6, encoding="utf-8")
    code, _, err = cli("evaluate", folder, table)
    assert code != 0
    assert "row 1, column 'pain'" in err
    assert "fold: true" in err


def test_gaps_of_the_target_are_told_where_it_is_scored(folder: Path, cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "gaps.csv"
    table.write_text("age,drug,pain\n" + "1,aspirin,Mild\n2,ibuprofen,None\n3,ibuprofen,Severe\n" * 5, encoding="utf-8")
    code, _, err = cli("evaluate", folder, table)
    assert code == 0
    assert "5 are 'None'" in err


def test_rows_of_one_class_get_no_verdict(model: Trained) -> None:
    evaluation = model.evaluate(rows(12, lambda i: "Mild")).targets["pain"]
    assert evaluation.verdict == "unknown"
    assert any("all 12 scored rows have the same target" in text for text in evaluation.findings)
    assert not any("clearly" in text for text in evaluation.findings)


def test_a_number_far_from_all_others_is_told_and_the_baseline_does_not_follow_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cost = [i % 9 + 0.5 for i in range(80)]
    cost[3] = 1e9
    table = [{"x": i * 0.1, "cost": value} for i, value in enumerate(cost)]
    result = sm.fit(table, target="cost", overrides=["training.epochs=1"])
    stderr = capsys.readouterr().err
    assert "1 of 80 numbers lie far from all others (1e+09)" in stderr
    assert "the median 4.5" in stderr
    (prior,) = result.baselines()["cost"]
    assert result.schema.targets[0].modality.decode(prior) < 1e6  # single precision beside a deviation of 1e8


def test_skewed_numbers_are_not_called_far() -> None:
    prices = np.random.default_rng(0).lognormal(3.0, 1.0, 300)
    for values in (prices, np.zeros(50), np.arange(50.0), np.repeat([0.0, 1.0], [49, 1])):
        number = Number()
        number.fit(values)
        assert number.doubts == []
