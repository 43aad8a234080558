"""Files of conversations about media, in the forms that language models are trained on, as plain columns."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sensorium.core.errors import DataError
from sensorium.core.messages import Message, conversation, fault, looks_like_turns
from sensorium.core.plurals import counted
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


def spread(columns: dict[str, list[Any]], source: Path | str, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Return a table of conversations as the columns ``question``, ``answer`` and one per medium; other tables unchanged.

    A conversation is a list of turns under ``conversations`` (``{"from": "human", "value": "<image>\\nWhat is it?"}``) or
    ``messages`` (``{"role": "user", "content": ...}``, contents being texts or lists of parts). The answer is the last
    turn, if it is the assistant's; the question is what comes before. Media, named by parts or beside the conversation
    (``image``), become the columns ``image``, ``image_2``, ..., and ``<image>``, ``<image_2>`` their places. A place
    without a medium keeps its number, and is left out where its column is missing or no row has it; where the table has no
    medium of that kind, it is text. Other columns stay.

    Args:
        columns: A table as columns.
        source: The file, for messages.
        add_note: Receives notes of what was done, of places without media, and of what is no conversation and why.

    Raises:
        DataError: A medium is of no known type, not base64, not in a turn of the user, or one of too many.
    """
    if {QUESTION, ANSWER} & set(columns):
        return columns
    listed = {n: [_plain(cell) for cell in columns[n]] for n in _TURNS if n in columns}
    name = next((n for n, cells in listed.items() if _holds_turns(n, cells, source, add_note)), None)
    if name is None:
        return columns
    rows = len(columns[name])
    media_keys = {key for names in _KINDS.values() for key in names if key in columns}
    made: dict[str, list[Any]] = {n: cells for n, cells in columns.items() if n != name and n not in media_keys}
    shown: dict[str, list[Any]] = {}
    questions: list[Any] = [None] * rows
    answers: list[Any] = [None] * rows
    empty: list[int] = []
    placed: dict[int, _Placed] = {}
    for i, cell in enumerate(listed[name]):
        if cell is not None:
            placed[i] = _placed(cell, {key: _plain(columns[key][i]) for key in media_keys}, source, i + 1)
            for column, reference in placed[i].media.items():
                shown.setdefault(column, [None] * rows)[i] = reference
    kinds = {column.partition("_")[0] for column in shown}
    for i, (turns, _, unfilled) in placed.items():
        if any(kind in kinds for kind, _ in unfilled):
            empty.append(i + 1)
        for kind, column in unfilled:
            if column not in shown:
                text = f"<{kind}>" if kind not in kinds else ""
                turns = [turn._replace(text=turn.text.replace(f"<{column}>", text, 1)) for turn in turns]
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
    if empty:
        many = counted(len(empty), "conversation")
        add_note(
            f"{source}: {many} with more places of media than media, the first in row {empty[0]}: they count as missing"
        )
    return {**made, **media_columns, QUESTION: questions, ANSWER: answers}


def holds_turns(row: Mapping[str, Any]) -> bool:
    """Whether ``row`` is a conversation that ``spread`` reads."""
    turns = [_plain(row[name]) for name in _TURNS if name in row]
    return any(conversation(cell) is not None for cell in turns) and not {QUESTION, ANSWER} & set(row)


def _plain(cell: Any) -> Any:
    """``cell`` with lists in place of arrays of objects, as pandas has the lists of Parquet."""
    if str(getattr(cell, "dtype", "")) == "object" and getattr(cell, "ndim", 0) == 1:
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)) and cell and isinstance(cell[0], Mapping):
        return [{k: _plain(v) for k, v in item.items()} if isinstance(item, Mapping) else item for item in cell]
    return cell


def _holds_turns(name: str, cells: list[Any], source: Path | str, add_note: AddNote) -> bool:
    """Whether all filled ``cells`` of the column ``name`` are conversations; where only some are, a note says why."""
    known = {i: conversation(cell) is not None for i, cell in enumerate(cells) if cell is not None}
    if any(known.values()) and not all(known.values()):
        first = next(i for i, is_one in known.items() if not is_one)
        add_note(
            f"{source}: {name} not read as conversations, because of {len(known) - sum(known.values())} of "
            f"{counted(len(known), 'row')}; the first: row {first + 1}, {fault(cells[first])}"
        )
    elif known and not any(known.values()) and looks_like_turns(cells[next(iter(known))]):
        first = next(iter(known))
        add_note(f"{source}: {name} not read as conversations: row {first + 1}, {fault(cells[first])}")
    return bool(known) and all(known.values())


def _order(column: str) -> tuple[int, int]:
    kind, _, number = column.partition("_")
    return list(_KINDS).index(kind), int(number or 1)


class _Placed(NamedTuple):
    """The turns of a conversation with a place for each medium, the media by column, and the kinds and columns of places
    without a medium."""

    turns: list[Message]
    media: dict[str, Any]
    unfilled: list[tuple[str, str]]


def _placed(cell: list[Mapping[str, Any]], row: Mapping[str, Any], source: Path | str, number: int) -> _Placed:
    waiting = {
        kind: [ref for key in keys if row.get(key) is not None for ref in _listed(row[key])]
        for kind, keys in _KINDS.items()
    }
    count = dict.fromkeys(_KINDS, 0)
    media: dict[str, Any] = {}
    unfilled: list[tuple[str, str]] = []

    def place(kind: str, reference: Any = None) -> str:
        if reference is None and waiting[kind]:
            reference = waiting[kind].pop(0)
        count[kind] += 1
        column = kind if count[kind] == 1 else f"{kind}_{count[kind]}"
        if reference is not None:
            if count[kind] > MOST:
                raise DataError(f"a conversation has more than {MOST} media of kind {kind}", file=source, row=number)
            media[column] = reference
        else:
            unfilled.append((kind, column))
        return f"<{column}>"

    turns: list[Message] = []
    for item, turn in zip(cell, conversation(cell) or [], strict=True):
        content = item.get("content", item.get("value"))
        if turn.role != "user":
            if isinstance(content, (list, tuple)) and (other := [p["type"] for p in content if p["type"] != "text"]):
                problem = f"a turn of the {turn.role} has a part of type {other[0]!r:.60}: only text can be learnt there"
                raise DataError(problem, file=source, row=number, fix="put media into turns of the user")
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
        for reference in left:  # named by no turn: inserted before the first question
            if reference is not None:
                place(kind, reference)
            else:
                count[kind] += 1
    return _Placed(turns, media, unfilled)


def _listed(value: Any) -> list[Any]:
    """The media of a cell; a list of numbers is one, a signal."""
    several = isinstance(value, (list, tuple)) and not (value and isinstance(value[0], (int, float)))
    return list(value) if several else [value]


def _first(value: Mapping[str, Any], *names: str) -> Any:
    """The first of the entries ``names`` that is filled: tables of columns fill all entries of any row with nothing."""
    return next((value[name] for name in names if value.get(name) is not None), None)


def _reference(part: Mapping[str, Any], source: Path | str, number: int) -> tuple[str, Any]:
    """The kind of medium of a part, and what it is: a path, or the bytes of a file; None where it names nothing."""
    kind = _PARTS.get(part["type"])
    if kind is None:
        raise DataError(
            f"a part of a conversation is of type {part['type']!r:.60}",
            file=source,
            row=number,
            fix=f"text, {', '.join(_PARTS)}; any other medium is a column beside the conversation, <sensor> its place",
        )
    value = _first(part, part["type"], kind)
    if isinstance(value, Mapping):
        if value.get("data") is not None:
            return kind, _decoded(str(value["data"]), source, number)
        if value.get("bytes") is not None:
            return kind, value  # as data sets of Hugging Face hold media
        value = _first(value, "url", "path")
    value = value if value is not None else _first(part, "path", "url")
    if not isinstance(value, str) or not value:
        return kind, None
    return kind, _decoded(value.partition(",")[2], source, number) if value.startswith("data:") else value


def _decoded(text: str, source: Path | str, number: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise DataError("a medium within a conversation is not base64", file=source, row=number) from None
