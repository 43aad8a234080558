"""Several columns of a live stream at once: joined by their clock, with a bounded wait."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError
from sensorium.data.synthetic_activities import make
from sensorium.data.synthetic_home import make as make_home
from sensorium.streaming import live_client
from sensorium.streaming.stream_session import Session, Setup

RATE = 2.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("activities")
    tables = make(folder, rows=40)
    quick = ["model.size=tiny", "training.epochs=4", "columns.labels.on=motion"]
    sm.fit(tables["train"], target="labels", overrides=quick, quiet=True, seed=1, out=folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def model(run: Path) -> sm.Trained:
    return sm.load(run)


def recordings(model: sm.Trained, steps: int = 60) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shape = {name: model.schema.columns[name].reader.state["channels"] for name in ("motion", "power")}
    return {name: (rng.normal(size=(steps, count)).astype(np.float32), RATE) for name, count in shape.items()}


def setup(**more: Any) -> Setup:
    columns = {"motion": RATE, "power": RATE}
    return Setup.from_json({"columns": columns, "seconds": 10.0, "hop": 1.0, "delay": 2.0, "keep": True, **more})


def test_windows_of_all_columns_are_one_row(model: sm.Trained) -> None:
    sources = recordings(model)
    *answers, last = live_client.predict_locally(
        model.predictor, setup(), live_client.interleaved(sources, 0.5, paced=False)
    )
    assert [answer["window"] for answer in answers] == list(range(21))
    assert not any("absent" in answer for answer in answers)
    cells = {name: steps[4:24] for name, (steps, _) in sources.items()}
    assert answers[2]["prediction"]["targets"] == model.predict([cells])[0].to_json()["targets"]
    labelled = [span for answer in answers for span in answer["labels"]["labels"]] + last["summary"]["labels"]["labels"]
    assert labelled[0][0] == 0.0
    assert all(one[1] <= other[0] + 1e-6 for one, other in pairwise(labelled)), "once each"
    assert last["summary"]["answered"] == 21
    assert last["summary"]["columns"]["power"]["chunks"] == 60


def test_a_stopped_column_delays_at_most_by_the_wait(model: sm.Trained) -> None:
    sources = recordings(model)
    stopped = {**sources, "power": (sources["power"][0][:24], RATE)}  # off after 12 seconds
    session = Session(model.schema, setup(wait=3.0), {})
    late = []
    for message, end in live_client.messages(setup(), live_client.interleaved(stopped, 0.5, paced=False)):
        for moment in session.push(message):
            late.append((moment.number, len(moment.parts), end - moment.end))
    late += [(moment.number, len(moment.parts), 0.0) for moment in session.end()]
    assert [number for number, _, _ in late] == list(range(21))
    assert [parts for _, parts, _ in late] == [2] * 3 + [1] * 18
    assert max(delay for *_, delay in late) == 3.0
    assert session.summary()["absent"] == {"power": 18}


def test_unequal_rates_and_wrong_settings(model: sm.Trained) -> None:
    session = Session(model.schema, Setup.from_json({"columns": {"motion": 4.0, "power": 2.0}, "seconds": 4, "hop": 1}), {})
    assert session.opening["columns"]["motion"]["window_steps"] == 16
    assert session.opening["columns"]["power"]["window_steps"] == 8
    with pytest.raises(ConfigError, match="no whole number of steps"):
        Session(model.schema, Setup.from_json({"columns": {"motion": 4.0, "power": 3.0}, "seconds": 4, "hop": 0.5}), {})
    with pytest.raises(ConfigError, match="need a length"):
        Session(model.schema, Setup.from_json({"columns": {"motion": 4.0}}), {})
    with pytest.raises(ConfigError, match="the number of its column"):
        session.push(b"\x07" + struct.pack("<IQ", 0, 0) + bytes(8))
    for wrong in (
        {"columns": {}},
        {"columns": ["motion"]},
        {"columns": {"motion": "fast"}},
        {"columns": {"a": 1}, "column": "b"},
    ):
        with pytest.raises(ConfigError):
            Setup.from_json(wrong)


def test_a_home_with_camera_microphone_and_sensors(tmp_path: Path) -> None:
    """Live, second by second; the sensors go off, then the camera: the model answers from what is left."""
    tables = make_home(tmp_path, rows=96)
    recipe = Path(__file__).parents[2] / "recipes" / "smart_home.yaml"
    quick = ["model.size=tiny", "training.epochs=6", "training.lr=0.01", "model.experts=[]"]
    model = sm.fit(tables["train"], recipe=recipe, overrides=quick, quiet=True, seed=0)
    rows = list(sm.Table.read(tables["test"]).rows())[:12]

    def chunks() -> Any:
        for second, row in enumerate(rows):
            sound, rate = live_client.read_recording(tmp_path / row["microphone"], "audio", None)
            whole = np.zeros((round(rate), 1), np.int16)
            whole[: len(sound)] = sound
            if second < 8:
                yield "camera", (tmp_path / row["camera"]).read_bytes()
            if second < 4:
                yield "sensors", np.asarray(json.loads(row["sensors"]), np.float32)
            yield "microphone", whole

    rate = live_client.read_recording(tmp_path / rows[0]["microphone"], "audio", None)[1]
    live = Setup.from_json(
        {
            "columns": {"camera": 1.0, "microphone": rate, "sensors": 8.0},
            "seconds": 1.0,
            "hop": 1.0,
            "wait": 0.5,
            "keep": True,
        }
    )
    *answers, last = live_client.predict_locally(model.predictor, live, chunks())
    assert len(answers) == len(rows)
    assert [answer.get("absent", []) for answer in answers] == [[]] * 4 + [["sensors"]] * 4 + [["camera", "sensors"]] * 4
    assert last["summary"]["absent"] == {"camera": 4, "sensors": 8}
    right = [
        answer["prediction"]["targets"]["activity"]["value"] == row["activity"]
        for answer, row in zip(answers, rows, strict=True)
    ]
    assert sum(right[:4]) >= 3


def test_server_and_local_session_join_columns_alike(model: sm.Trained, make_client: Any) -> None:
    sources = recordings(model, 30)
    local = list(live_client.predict_locally(model.predictor, setup(), live_client.interleaved(sources, 0.5, paced=False)))
    sent = {"columns": {"motion": RATE, "power": RATE}, "seconds": 10.0, "hop": 1.0, "delay": 2.0, "keep": True}
    with make_client({"house": model.predictor}).websocket_connect("/stream") as socket:
        socket.send_json(sent)
        opening = socket.receive_json()
        assert opening["columns"]["power"]["window_steps"] == 20
        for message, _ in live_client.messages(setup(), live_client.interleaved(sources, 0.5, paced=False)):
            socket.send_bytes(message)
        socket.send_text('{"end": true}')
        answers = []
        while "summary" not in (answer := socket.receive_json()):
            assert "error" not in answer, answer
            answers.append(answer)
    assert [one["labels"] for one in answers] == [one["labels"] for one in local[:-1]]
    assert answer["summary"]["answered"] == local[-1]["summary"]["answered"] == 6


def test_recordings_are_streamed_beside_each_other(run: Path, model: sm.Trained, tmp_path: Path, cli: Any) -> None:
    for name, (steps, _) in recordings(model, 30).items():
        np.savetxt(tmp_path / f"{name}.csv", steps, delimiter=",")
    words = ("--file", tmp_path / "motion.csv", "--column", "motion", "--rate", 2, "--seconds", 10, "--hop", 1, "--fast")
    code, out, err = cli("listen", run, *words, "--json", "--beside", f"power={tmp_path / 'power.csv'}@2")
    assert code == 0, err
    *answers, last = map(json.loads, out.splitlines())
    assert len(answers) == 6
    assert set(last["summary"]["columns"]) == {"motion", "power"}
    assert last["summary"]["absent"] == {}
    code, _, err = cli("listen", run, *words, "--beside", "power")
    assert code != 0
    assert "motion=walk.csv@50" in err
