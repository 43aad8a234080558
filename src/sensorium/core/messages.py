"""Contents of message cells: a text, several equally valid texts, or a conversation of several turns."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
"""Roles of speakers, by the names that files use."""

_NAMED = re.compile(r"<([^\W\d][\w.-]{0,63})>")


class Message(NamedTuple):
    """One turn of a conversation.

    Args:
        role: ``system``, ``user`` or ``assistant``.
        text: The content; ``<photo>`` is the place of the stream ``photo``.
    """

    role: str
    text: str


def conversation(value: Any) -> list[Message] | None:
    """Return the turns of ``value``, a list of ``{role, content}`` or of ``{from, value}``; None for anything else.

    A content may be a list of parts, ``{"type": "text", "text": ...}``; of other parts the name of their type is kept as a
    place: ``{"type": "image"}`` is ``<image>``.
    """
    if not isinstance(value, (list, tuple)) or not value:
        return None
    turns = []
    for item in value:
        if not isinstance(item, Mapping):
            return None
        role = item.get("role", item.get("from"))
        text = _text(item.get("content", item.get("value")))
        if not isinstance(role, str) or role not in ROLES or text is None:
            return None
        turns.append(Message(ROLES[role], text))
    return turns


def looks_like_turns(value: Any) -> bool:
    """Whether ``value`` has the form of a conversation: a list of mappings, each with a speaker and a content."""
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(
            isinstance(item, Mapping) and ("role" in item or "from" in item) and ("content" in item or "value" in item)
            for item in value
        )
    )


def fault(value: Any) -> str:
    """Return why ``value`` is no conversation, for messages."""
    if not looks_like_turns(value):
        return "no list of turns, each with a role and a content"
    for i, item in enumerate(value):
        role = item.get("role", item.get("from"))
        if not isinstance(role, str) or role not in ROLES:
            return f"turn {i + 1} has the role {role!r:.40}, which is none of {', '.join(ROLES)}"
    turn = next((i + 1 for i, item in enumerate(value) if _text(item.get("content", item.get("value"))) is None), 1)
    return f"the content of turn {turn} is neither a text nor a list of parts, each with a type"


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        return None
    parts = []
    for part in content:
        if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            return None
        if part["type"] == "text":
            if not isinstance(part.get("text"), str):
                return None
            parts.append(part["text"])
        else:
            parts.append(f"<{part['type']}>")
    return "\n".join(parts)


def unplaced(text: str, places: Collection[str]) -> list[str]:
    """Return the names in angle brackets in ``text`` that are read as plain text: those that are not among ``places``, and
    those that occur a second time. Markup with a closing tag, ``<b>...</b>``, is left out."""
    left = list(places)
    names: list[str] = []
    for name in _NAMED.findall(text):
        if name in left:
            left.remove(name)
        elif name not in names and f"</{name}>" not in text:
            names.append(name)
    return names


def read(cell: Any) -> str | list[str] | list[Message] | None:
    """Return the content of ``cell``: a text, several equally valid texts, or the turns of a conversation; None if it is
    none of these. Lists may be written as JSON."""
    if isinstance(cell, str) and cell.lstrip()[:1] == "[" and cell.rstrip()[-1:] == "]":
        try:
            listed = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        parsed = read(listed) if isinstance(listed, list) else None
        return cell if parsed is None else parsed
    if isinstance(cell, bool) or not isinstance(cell, (str, int, float, list, tuple)):
        return None
    if isinstance(cell, (str, int, float)):
        return str(cell)
    if cell and all(isinstance(item, str) for item in cell):
        return list(cell)
    return conversation(cell)


def pack(value: str | list[str] | list[Message]) -> bytes:
    """Return ``value`` as UTF-8 JSON, in which no byte is 0."""
    plain: Any = value
    if isinstance(value, list) and value and isinstance(value[0], Message):
        plain = [{"role": m.role, "content": m.text} for m in value if isinstance(m, Message)]
    return json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")


def unpack(data: bytes) -> str | list[str] | list[Message]:
    """Return the value that ``pack`` encoded as ``data``; an empty text if it is damaged."""
    try:
        value = read(json.loads(data.decode("utf-8"))) if data[:1] == b"[" else json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return ""
    return value if isinstance(value, (str, list)) else ""
