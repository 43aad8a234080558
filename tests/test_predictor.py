"""The predictor: the one road from rows to answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.data.files.media_access import UPLOADS_ONLY, LocalFiles
from sensorium.predictor import Prediction, Predictor, settle_threads


@pytest.fixture
def rows(scenes: Path, read_csv: Any) -> list[dict[str, str]]:
    table: list[dict[str, str]] = read_csv(scenes / "test.csv")
    return table


@pytest.fixture
def predictor(trained: Any, scenes: Path) -> Predictor:
    return Predictor(trained.artifact, device="cpu", media=LocalFiles(scenes))


def test_rows_are_read_only_as_they_are_needed(predictor: Predictor, rows: list[dict[str, str]]) -> None:
    taken = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal taken
        while True:
            taken += 1
            yield rows[taken % len(rows)]

    stream = predictor.stream(endless(), batch_size=4)
    for _ in range(9):
        next(stream)
    assert taken <= 9 + 3 * 4
    stream.close()  # type: ignore[attr-defined]


def test_threads_share_a_predictor(predictor: Predictor, rows: list[dict[str, str]]) -> None:
    want = [p.targets for p in predictor.predict(rows)]
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda _: [p.targets for p in predictor.predict(rows)], range(8)):
            assert results == want


def test_predicting_changes_nothing(trained: Any, predictor: Predictor, rows: list[dict[str, str]]) -> None:
    before = {name: t.clone() for name, t in trained.model.state_dict().items()}
    first = [p.targets for p in predictor.predict(rows)]
    torch.manual_seed(1)
    assert [p.targets for p in predictor.predict(rows)] == first
    assert all(torch.equal(t, before[name]) for name, t in trained.model.state_dict().items())
    assert all(parameter.grad is None for parameter in trained.model.parameters())


def test_columns_the_model_does_not_know_are_ignored(predictor: Predictor, rows: list[dict[str, str]]) -> None:
    more = [{"unknown": object(), **row, "event": "never seen"} for row in rows]
    assert [p.targets for p in predictor.predict(more)] == [p.targets for p in predictor.predict(rows)]


def test_a_row_from_a_network_may_not_name_a_file(trained: Any, rows: list[dict[str, str]], scenes: Path) -> None:
    guarded = Predictor(trained.artifact, media=UPLOADS_ONLY)
    row = next(row for row in rows if row["photo"])
    (closed,) = guarded.predict([row])
    assert "photo" in closed.missing
    assert "a file may not be named here" in closed.problems[0].problem
    (opened,) = guarded.predict([{"photo": (scenes / row["photo"]).read_bytes()}])
    assert opened.problems == []
    assert "photo" not in opened.missing


def test_embeddings(predictor: Predictor, rows: list[dict[str, str]], trained: Any) -> None:
    joint = predictor.embed(rows)
    assert joint.shape == (len(rows), trained.model.fusion.dim)
    photo = predictor.embed(rows, stream="photo", batch_size=5)
    for i, row in enumerate(rows):
        assert bool(photo[i].any()) == bool(row["photo"])
    assert predictor.embed([]).shape[0] == 0
    with pytest.raises(ConfigError, match="no stream named 'foto'; did you mean photo"):
        predictor.embed(rows, stream="foto")


def test_steps_agree_with_the_answer(predictor: Predictor, rows: list[dict[str, str]]) -> None:
    for row in rows[:4]:
        steps = {step.name: step for step in predictor.trace(row)}
        (answer,) = predictor.predict([row])
        assert answer.value in steps["answer event"].value
        for stream in ("photo", "sound", "note"):
            assert ("missing" in steps[f"prepare {stream}"].shape) == (stream in answer.missing)
    (bad,) = [s for s in predictor.trace({"photo": "lost.png"}) if s.name.startswith("problem")]
    assert "no such file" in bad.value


def test_the_value_of_several_targets() -> None:
    one = Prediction({"a": {"value": 1}})
    assert one.value == 1
    with pytest.raises(ConfigError, match="the model has 2 targets"):
        _ = Prediction({"a": {"value": 1}, "b": {"value": 2}}).value


def test_the_network_is_a_plain_module(run_folder: Path, scenes: Path, rows: list[dict[str, str]]) -> None:
    """Its own loop, without the predictor, gives the same; dense or gathered."""
    model = sm.load(run_folder)
    batch = model.predictor.batch([model.schema.encode(row, media=LocalFiles(scenes)) for row in rows])
    with torch.no_grad():
        output = model.model(batch)["event"]
        model.model.gather = False
        dense = model.model(batch)["event"]
    torch.testing.assert_close(dense, output, rtol=1e-4, atol=1e-5)
    values = [answer["value"] for answer in model.model.tasks["event"].answers(output, batch)]
    assert values == [p.value for p in model.predict(rows, media=scenes)]


def test_commands_take_the_threads_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    one, many = (Recipe.parse({"training": {"threads": threads}}) for threads in (1, 10_000))
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        settle_threads(one)
        assert torch.get_num_threads() == 2, "the user's word goes before"
        monkeypatch.setenv("OMP_NUM_THREADS", "many")
        settle_threads(one)
        assert torch.get_num_threads() == 1, "no number is no word"
        monkeypatch.delenv("OMP_NUM_THREADS")
        settle_threads(many, one)
        assert torch.get_num_threads() == 1
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 6}, raising=False)
        settle_threads(many)
        assert torch.get_num_threads() == 3, "the cores that this process may run on"
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        settle_threads(many)
        assert torch.get_num_threads() == 2, "a system that does not say has all"
    finally:
        torch.set_num_threads(before)
