"""Files of conversations about media, in the forms that language models are trained on, as plain columns."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError
from sensorium.core.messages import Message, conversation
from sensorium.data.tables.text_encoding import AddNote

QUESTION, ANSWER = "question", "answer"
_TURNS = ("conversations", "messages")
_KINDS = {"image": ("image", "images"), "audio": ("audio", "audios", "sound"), "video": ("video", "videos")}
_PARTS = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "audio_url": "audio",
    "video": "video",
    "video_url": "video",
}
_MARK = re.compile(r"<(image|audio|video)>")
MOST = 16
"""Maximum number of media of one kind in a conversation: each is a column."""


def spread(columns: dict[str, list[Any]], source: Path, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Return a table of conversations as the columns ``question``, ``answer`` and one per medium; other tables unchanged.

    A conversation is a list of turns under ``conversations`` (``{"from": "human", "value": "<image>\\nWhat is it?"}``) or
    ``messages`` (``{"role": "user", "content": ...}``, contents being texts or lists of parts). The answer is the last
    turn, if it is the assistant's; the question is what comes before. Media, named by parts or beside the conversation
    (``image``), become the columns ``image``, ``image_2``, ..., and ``<image>``, ``<image_2>`` their places.

    Args:
        columns: A table as columns.
        source: The file, for messages.
        add_note: Receives a note of what was done.
    """
    name = next((n for n in _TURNS if n in columns and _holds_turns(columns[n])), None)
    if name is None or {QUESTION, ANSWER} & set(columns):
        return columns
    rows = len(columns[name])
    media_keys = {key for names in _KINDS.values() for key in names if key in columns}
    made: dict[str, list[Any]] = {n: cells for n, cells in columns.items() if n != name and n not in media_keys}
    shown: dict[str, list[Any]] = {}
    questions: list[Any] = [None] * rows
    answers: list[Any] = [None] * rows
    for i, cell in enumerate(columns[name]):
        if cell is None:
            continue
        row = {key: columns[key][i] for key in media_keys}
        turns, media = _placed(cell, row, source, i + 1)
        for column, reference in media.items():
            shown.setdefault(column, [None] * rows)[i] = reference
        if turns and turns[-1].role == "assistant":
            answers[i] = turns.pop().text
        if [turn.role for turn in turns] == ["user"]:
            questions[i] = turns[0].text
        elif turns:
            questions[i] = json.dumps([{"role": t.role, "content": t.text} for t in turns], ensure_ascii=False)
    media_columns = {column: shown[column] for column in sorted(shown, key=_order)}
    add_note(
        f"{source}: {name} read as columns {', '.join([*media_columns, QUESTION, ANSWER])}: "
        f"--target {ANSWER} --prompt {QUESTION}"
    )
    return {**made, **media_columns, QUESTION: questions, ANSWER: answers}


def _holds_turns(cells: list[Any]) -> bool:
    filled = [cell for cell in cells if cell is not None]
    return bool(filled) and all(isinstance(cell, list) and conversation(cell) is not None for cell in filled)


def _order(column: str) -> tuple[int, int]:
    kind, _, number = column.partition("_")
    return list(_KINDS).index(kind), int(number or 1)


def _placed(
    cell: list[Mapping[str, Any]], row: Mapping[str, Any], source: Path, number: int
) -> tuple[list[Message], dict[str, Any]]:
    """The turns of a conversation with a place for each medium, and the media by column."""
    waiting = {
        kind: [ref for key in keys if row.get(key) is not None for ref in _listed(row[key])]
        for kind, keys in _KINDS.items()
    }
    count = dict.fromkeys(_KINDS, 0)
    media: dict[str, Any] = {}

    def place(kind: str, reference: Any = None) -> str:
        if reference is None:
            reference = waiting[kind].pop(0) if waiting[kind] else None
        if reference is None:
            return f"<{kind}>"  # no medium for this place: it stays text
        count[kind] += 1
        if count[kind] > MOST:
            raise DataError(f"a conversation has more than {MOST} media of kind {kind}", file=source, row=number)
        column = kind if count[kind] == 1 else f"{kind}_{count[kind]}"
        media[column] = reference
        return f"<{column}>"

    turns: list[Message] = []
    for item, turn in zip(cell, conversation(cell) or [], strict=True):
        content = item.get("content", item.get("value"))
        if turn.role != "user":
            turns.append(turn)
        elif isinstance(content, str):
            turns.append(Message(turn.role, _MARK.sub(lambda match: place(match[1]), content)))
        else:
            parts = [
                str(part["text"]) if part["type"] == "text" else place(*_reference(part, source, number))
                for part in content or ()
            ]
            turns.append(Message(turn.role, "\n".join(parts)))
    for kind, left in waiting.items():
        while left:
            place(kind)  # named by no turn: inserted before the first question
    return turns, media


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _reference(part: Mapping[str, Any], source: Path, number: int) -> tuple[str, Any]:
    """The kind of medium of a part, and what it is: a path, or the bytes of a file; None where it names nothing."""
    kind = _PARTS.get(part["type"])
    if kind is None:
        raise DataError(
            f"a part of a conversation is of type {part['type']!r:.60}", file=source, row=number, fix=", ".join(_PARTS)
        )
    value = part.get(part["type"], part.get(kind))
    if isinstance(value, Mapping):
        if "data" in value:
            return kind, _decoded(str(value["data"]), source, number)
        value = value.get("url", value.get("path"))
    value = value if value is not None else part.get("path", part.get("url"))
    if not isinstance(value, str) or not value:
        return kind, None
    return kind, _decoded(value.partition(",")[2], source, number) if value.startswith("data:") else value


def _decoded(text: str, source: Path, number: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise DataError("a medium within a conversation is not base64", file=source, row=number) from None
