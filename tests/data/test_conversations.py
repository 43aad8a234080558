"""Files of conversations as columns."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sensorium as sm
from sensorium.core.errors import DataError


def read(tmp_path: Path, rows: list[dict[str, Any]], name: str = "chats.json") -> sm.Table:
    text = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
    (tmp_path / name).write_text(text, encoding="utf-8")
    return sm.Table.read(tmp_path / name)


LLAVA = [
    {
        "id": "1",
        "image": "a.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "A cat."},
            {"from": "human", "value": "What colour?"},
            {"from": "gpt", "value": "Red."},
        ],
    },
    {"id": "2", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]},
    {
        "id": "3",
        "image": ["b.jpg", "c.jpg", "d.jpg"],
        "conversations": [{"from": "human", "value": "Is <image> like <image>?"}, {"from": "gpt", "value": "No."}],
    },
]


@pytest.mark.parametrize("name", ["chats.json", "chats.jsonl"])
def test_the_form_of_llava(tmp_path: Path, name: str) -> None:
    table = read(tmp_path, LLAVA, name)
    assert list(table.columns) == ["id", "image", "image_2", "image_3", "question", "answer"]
    assert table.column("answer") == ["Red.", "Hi.", "No."]
    assert table.column("image") == ["a.jpg", None, "b.jpg"]
    assert table.column("image_3") == [None, None, "d.jpg"]
    first, second, third = table.column("question")
    assert json.loads(first) == [
        {"role": "user", "content": "<image>\nWhat is it?"},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "What colour?"},
    ]
    assert second == "Hello"
    assert third == "Is <image> like <image_2>?"
    assert any("--target answer --prompt question" in note for note in table.notes)


def test_messages_with_parts(tmp_path: Path) -> None:
    png = b"\x89PNG"
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "input_audio",
                            "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"},
                        },
                        {"type": "text", "text": "Like"},
                        {"type": "image_url", "image_url": {"url": url}},
                        {"type": "image", "image": "x.png"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
            ]
        }
    ]
    table = read(tmp_path, rows, "chats.jsonl")
    assert table.row(0)["image"] == png
    assert table.row(0)["image_2"] == "x.png"
    assert table.row(0)["audio"] == b"RIFF"
    turns = json.loads(table.row(0)["question"])
    assert turns[0] == {"role": "system", "content": "Be brief."}
    assert turns[1]["content"] == "<audio>\nLike\n<image>\n<image_2>"


def test_what_is_no_conversation_stays(tmp_path: Path) -> None:
    rows = [{"messages": ["a", "b"], "y": 1}, {"messages": ["c"], "y": 2}]
    assert list(read(tmp_path, rows).columns) == ["messages", "y"]
    named = [{"messages": LLAVA[1]["conversations"], "question": "mine", "answer": "x"}]
    assert list(read(tmp_path, named).columns) == ["messages", "question", "answer"]


def test_bad_parts_name_the_row(tmp_path: Path) -> None:
    def request(part: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"messages": [{"role": "user", "content": [part]}]}]

    with pytest.raises(DataError, match=r"row 1: a part of a conversation is of type 'hologram'"):
        read(tmp_path, request({"type": "hologram"}))
    with pytest.raises(DataError, match="not base64"):
        read(tmp_path, request({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}}))
    many = [{"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}] * 20}]}]
    with pytest.raises(DataError, match="more than 16 media"):
        read(tmp_path, many)


PARTS = [
    {
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": f"Which? {i}"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Both."}]},
        ],
        "images": [{"bytes": None, "path": f"{i}.png"}, {"bytes": b"\x89PNG", "path": None}],
        "sensor": f"{i}.npy",
    }
    for i in range(3)
]


@pytest.mark.parametrize("form", ["rows", "columns", "parquet", "arrow", "pandas", "polars"])
def test_conversations_of_any_table(tmp_path: Path, form: str) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    frame = pa.Table.from_pylist(PARTS)
    parquet.write_table(frame, tmp_path / "chats.parquet")
    source: Any = {"rows": PARTS, "arrow": frame, "parquet": tmp_path / "chats.parquet"}.get(form)
    if form == "columns":
        source = {name: [row[name] for row in PARTS] for name in PARTS[0]}
    elif form in ("pandas", "polars"):
        source = pytest.importorskip(form).read_parquet(tmp_path / "chats.parquet")
    table = sm.Table.read(source)
    assert list(table.columns) == ["sensor", "image", "image_2", "question", "answer"]
    assert table.row(2)["question"] == "<image>\n<image_2>\nWhich? 2"
    assert table.row(2)["answer"] == "Both."
    assert table.row(2)["image"]["path"] == "2.png"
    assert table.row(2)["image_2"]["bytes"] == b"\x89PNG"
    assert table.row(2)["sensor"] == "2.npy"


def test_a_part_may_hold_the_bytes_of_a_file(tmp_path: Path) -> None:
    part = {"type": "image", "image": {"bytes": b"\x89PNG", "path": None}}
    table = sm.Table.read([{"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]}])
    assert table.row(0)["image"]["bytes"] == b"\x89PNG"


def test_places_without_media_are_those_of_missing_ones(tmp_path: Path) -> None:
    rows = [
        {"image": ["a.png", "b.png"], "conversations": [{"from": "human", "value": "<image> or <image>?"}]},
        {"image": ["a.png"], "conversations": [{"from": "human", "value": "<image> or <image>?"}]},
        {"image": [None, "b.png"], "conversations": [{"from": "human", "value": "<image> or <image>?"}]},
    ]
    table = read(tmp_path, rows)
    assert table.column("question") == ["<image> or <image_2>?"] * 3
    assert table.column("image") == ["a.png", "a.png", None]
    assert table.column("image_2") == ["b.png", None, "b.png"]
    assert any("2 conversations with more places of media than media, the first in row 2" in note for note in table.notes)
    assert not any("more places" in note for note in read(tmp_path, LLAVA).notes)


def test_places_that_no_row_fills_are_text_or_left_out(tmp_path: Path) -> None:
    def row(value: str, **media: Any) -> dict[str, Any]:
        return {**media, "conversations": [{"from": "human", "value": value}]}

    table = read(tmp_path, [row("Does <video> play <video>?"), row("<image><image> Same?", image="a.png")])
    assert table.column("question") == ["Does <video> play <video>?", "<image> Same?"]
    assert any("1 conversation with more places of media than media, the first in row 2" in note for note in table.notes)
    table = read(tmp_path, [row("Hello", images=[None])])
    assert table.column("question") == ["Hello"]
    assert not any("more places" in note for note in table.notes)


def test_entries_that_a_columnar_file_filled_with_nothing_are_absent() -> None:
    def row(**source: Any) -> dict[str, Any]:
        part = {"type": "image", "image": {"data": None, "bytes": None, "url": None, "path": None, **source}}
        return {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]}

    table = sm.Table.read([row(url="a.png"), row(path="b.png"), row(data="aGVsbG8=")])
    assert table.column("image") == ["a.png", "b.png", b"hello"]


def test_a_signal_is_one_medium() -> None:
    rows = [{"messages": [{"role": "user", "content": "What?"}], "audio": [0.0, 0.5] * 20}]
    assert sm.Table.read(rows).column("audio") == [[0.0, 0.5] * 20]
    signal = np.zeros(40, np.float32)
    assert sm.Table.read([{**rows[0], "audio": signal}]).column("audio")[0] is signal


@pytest.mark.parametrize("role", ["assistant", "system"])
def test_media_that_no_user_shows_are_refused(tmp_path: Path, role: str) -> None:
    turns = [{"role": "user", "content": "Draw it."}, {"role": role, "content": [{"type": "image", "image": "a.png"}]}]
    with pytest.raises(DataError, match=f"row 2: a turn of the {role} has a part of type 'image'"):
        read(tmp_path, [{"messages": turns[:1]}, {"messages": turns}])


def test_a_note_says_why_messages_are_no_conversations(tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "Hello"}]}
    tool = {"messages": [{"role": "user", "content": "Hello"}, {"role": "tool", "content": "42"}]}
    odd = {"messages": [{"role": ["user"], "content": "Hello"}]}
    assert "turn 1 has the role ['user'], which is none of" in read(tmp_path, [odd]).notes[0]
    number = {"messages": [{"role": "user", "content": 5}]}
    assert "because of 1 of 2 rows; the first: row 2, turn 2 has the role 'tool'" in read(tmp_path, [good, tool]).notes[0]
    assert "row 1, turn 2 has the role 'tool'" in read(tmp_path, [tool, tool]).notes[0]
    assert "row 1, the content of turn 1 is neither a text nor" in read(tmp_path, [number]).notes[0]
    assert not read(tmp_path, [{"messages": [{"from": "a@b.org", "subject": "x"}]}]).notes
