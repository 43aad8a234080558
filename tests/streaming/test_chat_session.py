"""A chat about every kind of input: what is shown is read, and what is not read is said."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core.errors import ConfigError, DataError
from sensorium.core.messages import unplaced
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.predictor import Predictor
from sensorium.streaming.chat_session import Chat
from sensorium.testing import tiny_language_model

av = pytest.importorskip("av", reason="videos need sensorium[video]")
ROWS = 24
QUICK = ["model.size=tiny", "training.epochs=1", "training.refit=none", "objectives=[{kind: supervised, subsets: 0}]"]


def write_video(path: Path, level: int) -> None:
    """A second of grey frames with a tone."""
    with av.open(str(path), "w", format="mp4") as out:
        frames, sound = out.add_stream("mpeg4", rate=8), out.add_stream("aac", rate=16000, layout="mono")
        frames.width, frames.height, frames.pix_fmt = 32, 32, "yuv420p"
        for _ in range(8):
            out.mux(frames.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), format="rgb24")))
        out.mux(frames.encode())
        tone = 0.3 * np.sin(2 * np.pi * (200 + 4 * level) * np.arange(16000) / 16000)
        piece = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], format="fltp", layout="mono")
        piece.sample_rate = 16000
        out.mux(sound.encode(piece))
        out.mux(sound.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, a video with sound, a series, a point cloud and table cells for each row, by their names."""
    from PIL import Image

    made = tmp_path_factory.mktemp("media 文件")
    tiny_language_model.write(made / "tiny", steps=0)
    noise = np.random.default_rng(0)
    for i in range(ROWS):
        for name in ("左", "right side"):
            Image.fromarray(noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(made / f"{name} {i}.png")
        np.save(made / f"s{i}.npy", noise.normal(size=(20, 2)).astype(np.float32))
        np.save(made / f"p{i}.npy", noise.normal(size=(30, 3)).astype(np.float32))
    for i in range(4):
        write_video(made / f"v{i}.mp4", 50 * i)
    return made


def cells(folder: Path, i: int) -> dict[str, Any]:
    return {
        "image": str(folder / f"左 {i}.png"),
        "image_2": str(folder / f"right side {i}.png"),
        "clip": str(folder / f"v{i % 4}.mp4"),
        "sensor": str(folder / f"s{i}.npy"),
        "cloud": str(folder / f"p{i}.npy"),
        "age": 20 + 2 * i,
        "sex": ("female", "male")[i % 2],
    }


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    asked = ["is it red?", "is <image> like <image_2> at <age>?", "is <foto> red? <b>please</b>"]
    # Every medium is missing in one row of seven.
    rows = [
        {
            **{name: None if i % 7 == k else cell for k, (name, cell) in enumerate(cells(folder, i).items())},
            "question": asked[i % 3],
            "answer": "yes" if i % 2 else "no",
        }
        for i in range(ROWS)
    ]
    options = {"prompt": "question", "lm": str(folder / "tiny")}
    return sm.fit(rows, target="answer", task="conversation", options=options, overrides=QUICK, quiet=True,
                  out=folder / "run")  # fmt: skip


@pytest.fixture
def chat(model: Any) -> tuple[Chat, list[str]]:
    notes: list[str] = []
    return Chat(model.predictor, warn=notes.append), notes


def test_everything_shown_is_read(model: Any, folder: Path, chat: tuple[Chat, list[str]]) -> None:
    """Each input changes the answer's likelihood, and the answer is that of the same row of a table."""
    talk, notes = chat
    shown = cells(folder, 1)
    talk.attach("image", shown["image"])
    talk.attach("image", shown["image_2"])
    talk.attach("video", shown["clip"])
    talk.show({name: shown[name] for name in ("sensor", "cloud", "age", "sex")})
    whole = talk.choose("is it red?", ["yes", "no"])
    assert not notes
    for name in shown:
        blind = Chat(model.predictor)
        blind.show({other: cell for other, cell in shown.items() if other != name})
        assert blind.choose("is it red?", ["yes", "no"])["yes"] != pytest.approx(whole["yes"], abs=1e-7), name
    again = Chat(model.predictor)
    again.show(shown)
    row = {**shown, "question": "is it red?"}
    assert "".join(again.ask("is it red?")) == model.predict([row])[0].value


def test_what_does_not_fit_is_refused(folder: Path, chat: tuple[Chat, list[str]]) -> None:
    talk, _ = chat
    shown = cells(folder, 0)
    talk.attach("image", shown["image"])
    talk.attach("image", shown["image_2"])
    with pytest.raises(ConfigError, match=r"takes 2 inputs of kind image: image, image_2"):
        talk.attach("image", shown["image"])
    with pytest.raises(ConfigError, match=r"takes no audio; its inputs are image \(image\).*clip \(video\)"):
        talk.attach("audio", shown["clip"])
    with pytest.raises(ConfigError, match="'clip_sound' is read from the cells of 'clip'"):
        talk.show({"clip_sound": shown["clip"]})
    with pytest.raises(ConfigError, match="did you mean sensor"):
        talk.show({"senso": shown["sensor"]})


@pytest.mark.parametrize(
    ("name", "cell", "problem"),
    [
        ("image", "nowhere 图.png", "nowhere 图.png, column 'image': no such file"),
        ("image", "s0.npy", "not a picture of a known format"),
        ("clip", "左 0.png", "not a video of a known format"),
        ("sensor", "p0.npy", "3 channels, in training they had 2"),
        ("cloud", "s0.npy", "not a point cloud"),
        ("image", "cut.png", "damaged or cut short"),
        ("image", "empty.png", r"empty \(0 bytes\)\n  → copy it again"),
        ("age", "old", "'old' is not a finite number"),
    ],
)
def test_unusable_media_name_column_and_file(
    folder: Path, chat: tuple[Chat, list[str]], name: str, cell: str, problem: str
) -> None:
    (folder / "cut.png").write_bytes((folder / "左 0.png").read_bytes()[:200])
    (folder / "empty.png").write_bytes(b"")
    talk, _ = chat
    talk.show({name: cell if name == "age" else str(folder / cell)})
    with pytest.raises(DataError, match=problem):
        list(talk.ask("is it red?"))


def test_what_is_overlooked_is_said_once(folder: Path, chat: tuple[Chat, list[str]]) -> None:
    talk, notes = chat
    talk.show({"image": cells(folder, 0)["image"], "sex": "unknown"})
    list(talk.ask("is <image> like <image> or <image_2>, <foto>, <age>?"))
    places = "<image>, <image_2>, <clip>, <sensor>, <cloud>, <table>, <clip_sound>"
    assert sorted(notes) == sorted([
        "column 'sex': 'unknown' was not seen in training; there are: female, male",
        "a second <image> is read as text",
        f"<foto> is read as text: places of media are {places}",
        f"<age> is read as text: places of media are {places}",
        "<image_2> is left out: nothing is shown there",
    ])  # fmt: skip
    list(talk.ask("and <foto>?"))
    assert len(notes) == 5
    list(talk.ask("is the <table> right?"))
    assert len(notes) == 5, "a place of what is shown is none to warn of"


def test_names_without_a_place() -> None:
    assert unplaced("<a> <b> <a> <c> <c> 1 < 2 > 0 <i>x</i> <图>", ["a", "d"]) == ["b", "a", "c", "图"]
    assert unplaced("<a> and <d>", ["a", "d"]) == []


def test_fit_says_which_names_are_no_places(model: Any) -> None:
    task = model.model.tasks["answer"]
    note = task.speech.rows.note_on(["<foto> <foto>?", "<image> <age>", "<foto>"], [10, 10**6, 10])
    assert note.startswith("1 of 3 conversations have more than 512 tokens, without media: texts are cut; ")
    assert (
        "names read as text, in 3 questions: <foto> (2), <age> (1); places of media are the first of each of <image>"
        in note
    )
    assert task.speech.rows.note_on(["<image>", "is it red?"], [10, 10]) == ""


def test_pictures_in_one_column_are_shown_together(folder: Path) -> None:
    rows = [
        {"photos": f"左 {i}.png;right side {i}.png", "question": "is it red?", "answer": "yes" if i % 2 else "no"}
        for i in range(ROWS)
    ]
    options = {"prompt": "question", "lm": str(folder / "tiny")}
    table = sm.Table.read(rows, root=folder)
    made = sm.fit(table, target="answer", task="conversation", options=options, overrides=QUICK, quiet=True)
    talk = Chat(made.predictor)
    for name in ("左 1.png", "right side 1.png", "左 2.png"):
        talk.attach("image", str(folder / name))
    assert len(talk.cells["photos"]) == 3
    three = talk.choose("is it red?", ["yes", "no"])["yes"]
    talk.cells["photos"].pop()
    assert talk.choose("is it red?", ["yes", "no"])["yes"] != pytest.approx(three, abs=1e-7)

    fresh = Chat(made.predictor)
    fresh.show(talk.cells)
    expected = fresh.choose("<photos>\nis it red?", ["yes", "no"])
    assert answered(made, talk.cells["photos"], {}) == pytest.approx(expected, abs=1e-5)
    from sensorium.serve.chat_completions import MOST_MEDIA

    both = answered(made, talk.cells["photos"][:1], {"photos": talk.cells["photos"][0]}, 422)
    assert "row has the column photos" in both["problem"]
    many = answered(made, talk.cells["photos"][:1] * (MOST_MEDIA + 1), {}, 413)
    assert f"more than {MOST_MEDIA} media of kind image" in many["problem"]
    talk.show({"photos": "a.png"})
    with pytest.raises(ConfigError, match="'photos' shows something already"):
        talk.attach("image", "b.png")


def answered(model: Any, media: list[str], row: dict[str, Any], status: int = 200) -> Any:
    """The probabilities of yes and no that chat completions give to a question about ``media`` and ``row``."""
    pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")
    from starlette.testclient import TestClient

    from sensorium.serve.app import create

    def encoded(path: str) -> str:
        return base64.b64encode(Path(path).read_bytes()).decode()

    parts: list[dict[str, Any]] = []
    for path in media:
        form, kind = ("video_url", "video/mp4") if path.endswith("mp4") else ("image_url", "image/png")
        parts.append({"type": form, form: {"url": f"data:{kind};base64,{encoded(path)}"}})
    cells = {
        name: {"base64": encoded(cell), "name": cell} if str(cell).endswith("npy") else cell for name, cell in row.items()
    }
    turn = {"role": "user", "content": [*parts, {"type": "text", "text": "is it red?"}]}
    predictor = Predictor(model.artifact, device="cpu", media=UPLOADS_ONLY)
    with TestClient(create({"m": predictor}), base_url="http://localhost") as client:
        body = {"messages": [turn], "answers": ["yes", "no"], "row": cells}
        response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == status, response.text
    return response.json()["choices"][0]["probabilities"] if status == 200 else response.json()["error"]


def test_every_kind_of_input_is_served(model: Any, folder: Path) -> None:
    shown = cells(folder, 1)
    media = [shown[name] for name in ("image", "image_2", "clip")]
    row = {name: shown[name] for name in ("sensor", "cloud", "age", "sex")}
    talk = Chat(model.predictor)
    talk.show(shown)
    question = "<image>\n<image_2>\n<clip>\nis it red?"
    assert answered(model, media, row) == pytest.approx(talk.choose(question, ["yes", "no"]), abs=1e-5)
    refused = answered(model, [shown["clip"]] * 2, {}, 422)
    assert "no more media of kind video" in refused["problem"]
    assert "by column" in answered(model, [], {"question": "x"}, 422)["problem"]
    assert "no column 'ag'; did you mean age?" in answered(model, [], {"ag": 3}, 422)["problem"]


def test_media_on_the_command_line(folder: Path, model: Any, cli: Any) -> None:
    shown = cells(folder, 1)
    command = ["chat", folder / "run", "--lm", folder / "tiny", "--image", shown["image"], "--image", shown["image_2"],
               "--video", shown["clip"], "--show", f"sensor={shown['sensor']}", "--show", f"cloud={shown['cloud']}",
               "--show", "age=22", "--show", "sex=male", "is it red?"]  # fmt: skip
    code, out, err = cli(*command)
    assert code == 0, err
    assert not err
    assert out.strip() == model.predict([{**shown, "question": "is it red?"}])[0].value
    code, _, err = cli(*command[:-1], "is <foto> red?")
    assert code == 0
    assert "warning: <foto> is read as text" in err
    code, _, err = cli("chat", folder / "run", "--lm", folder / "tiny", "--sound", shown["clip"], "what?")
    assert code == 2
    assert "takes no audio; its inputs are" in err
