"""Files of conversations as columns."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

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
