"""The words of a language model, and the form in which it is talked to: its tokeniser and its chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sensorium.core.errors import ConfigError, MissingExtraError, reason
from sensorium.core.messages import Message
from sensorium.language.tokeniser_limits import check_growth
from sensorium.pretrained.checkpoint import Checkpoint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The template gets placeholders instead of the content: characters of the private use area.
_HOLE = re.compile("\ue000([0-9]+)\ue001")
_NAMES = {"user": "Question", "assistant": "Answer", "system": "Instruction"}


@dataclass(frozen=True)
class Piece:
    """A part of a conversation.

    Args:
        ids: Token ids; empty for a medium.
        learnt: By token, whether it is a part of an answer, or ends one.
        stream: The stream that is inserted instead.
        typed: Whether it is content rather than part of the template: it may be cut where a conversation is too long.
    """

    ids: tuple[int, ...] = ()
    learnt: tuple[bool, ...] = ()
    stream: str | None = None
    typed: bool = False


class ChatTokeniser:
    """Tokeniser and chat template of a language model, from JSON files alone.

    Args:
        file: The contents of ``tokenizer.json``.
        settings: The contents of ``tokenizer_config.json``.
        template: The chat template in Jinja; None: ``Question: ... Answer: ...``.
        ends: Token ids that end a text, by the model's own configuration.
        name: The model's, for messages.
    """

    def __init__(
        self, file: dict[str, Any], settings: Mapping[str, Any], template: str | None, ends: Sequence[int], name: str
    ) -> None:
        self.file, self.settings, self.template, self.name = file, settings, template, name
        self._typed, self._marked = self._made(True), self._made(False)
        known = int(self._marked.get_vocab_size(with_added_tokens=True))
        listed = [i for i in ends if 0 <= i < known]
        text = self._special("eos_token")
        own = None if text is None else self._marked.token_to_id(text)
        closing = self._closing()
        ending = [i for i in (closing, own, *listed) if i is not None]
        if not ending:
            raise ConfigError(f"language model {name!r} names no token that ends a text", fix="eos_token_id in config.json")
        self.end: int = ending[0]
        """The token after an answer."""
        self.ends: tuple[int, ...] = tuple(dict.fromkeys(ending))
        """All tokens that end a text, ``end`` first."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ChatTokeniser:
        """Return the tokeniser of ``checkpoint``."""
        file = checkpoint.json("tokenizer.json")
        if not file:
            raise ConfigError(
                f"language model {checkpoint.name!r} has no tokenizer.json",
                fix="AutoTokenizer.from_pretrained(...).save_pretrained(folder) of transformers writes one",
            )
        settings = checkpoint.json("tokenizer_config.json")
        template = checkpoint.text("chat_template.jinja") or _default(settings.get("chat_template"))
        ends: list[int] = []
        for source in (checkpoint.json("generation_config.json"), checkpoint.config):
            ids = source.get("eos_token_id")
            ends += [i for i in (ids if isinstance(ids, list) else [ids]) if type(i) is int]
        return cls(file, settings, template, ends, checkpoint.name)

    def _made(self, typed: bool) -> Tokenizer:
        from tokenizers import Tokenizer

        try:
            check_growth(self.file)
            made = Tokenizer.from_str(json.dumps(self.file))
            made.no_truncation()
            made.no_padding()
            # What a user types is never a special token, whatever it looks like.
            made.encode_special_tokens = typed
            made.encode("a word", add_special_tokens=False)
        except BaseException as error:  # the library's panics are not subclasses of Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise ConfigError(
                f"language model {self.name!r}: its tokenizer.json cannot be used: {str(error)[:300]}"
            ) from None
        return made

    def _special(self, name: str) -> str | None:
        token = self.settings.get(name)
        token = token.get("content") if isinstance(token, Mapping) else token
        return token if isinstance(token, str) and token else None

    @property
    def size(self) -> int:
        """The number of ids."""
        return int(self._marked.get_vocab_size(with_added_tokens=True))

    def typed(self, text: str) -> list[int]:
        """Return the ids of ``text`` as a user types it: special tokens in it are plain letters."""
        return list(self._typed.encode(text, add_special_tokens=False).ids)

    def answer(self, text: str) -> list[int]:
        """Return the ids of the answer ``text``, without its end."""
        return self.typed(text if self.template is not None else f" {text}")

    def marked(self, text: str) -> list[int]:
        """Return the ids of ``text`` of a template, special tokens in it being what they are."""
        return list(self._marked.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, without special tokens and blanks around it."""
        return self.decode_part(ids).strip()

    def decode_part(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, a part of a text, without special tokens."""
        return str(self._marked.decode(list(ids), skip_special_tokens=True))

    def _begin(self) -> list[int]:
        """The ids before a text without a template: the token that begins texts, where the tokeniser sets one."""
        token = self._special("bos_token")
        own = None if token is None else self._marked.token_to_id(token)
        with_special = self._marked.encode("a", add_special_tokens=True).ids
        return [own] if own is not None and with_special[:1] == [own] else []

    def rendered(self, messages: Sequence[Message], *, reply: bool) -> str:
        """Return ``messages`` as the template writes them, contents and all; ``reply``: up to where an answer begins."""
        if self.template is None:
            lines = [f"{_NAMES[m.role]}:{'' if m.role == 'assistant' else ' '}{m.text}\n" for m in messages]
            return "".join(lines) + ("Answer:" if reply else "")
        try:
            from transformers.utils.chat_template_utils import render_jinja_template
        except ImportError:
            raise MissingExtraError("a language model", "hf") from None
        names = ("bos_token", "eos_token", "unk_token", "pad_token")
        special = {name: self._special(name) or "" for name in names}
        chat = [{"role": m.role, "content": m.text} for m in messages]
        try:
            # Without thoughts: an empty one may be part of the prompt, and is never learnt.
            texts, _ = render_jinja_template(
                [chat], chat_template=self.template, add_generation_prompt=reply, enable_thinking=False, **special
            )
            return str(texts[0])
        except Exception as error:  # whatever a template raises
            if any(m.role == "system" for m in messages):
                return self.rendered(_folded(messages), reply=reply)  # many templates know no system
            raise ConfigError(
                f"the chat template of {self.name!r} does not take this conversation: {reason(error, 200)}",
                fix="turns of user and assistant in turn, the user first",
            ) from None

    def _closing(self) -> int | None:
        """The token that the template writes after an answer, where it is a special one."""
        if self.template is None:
            return None
        chat = [Message("user", "\ue0000\ue001"), Message("assistant", "\ue0001\ue001")]
        after = self.rendered(chat, reply=False).rpartition("\ue001")[2]
        ids = self.marked(after.lstrip())
        special = {int(t["id"]) for t in self.file.get("added_tokens") or [] if t.get("special")}
        return ids[0] if ids and ids[0] in special else None

    def pieces(self, messages: Sequence[Message], streams: Sequence[str]) -> list[Piece]:
        """Return a conversation up to where its answer begins, in pieces.

        Args:
            messages: The turns. Those of the assistant are learnt, each with its end.
            streams: The streams of the row, in order. Each is inserted where a user's turn first names it, ``<photo>``;
                those that no turn names before the first user's turn, in order.
        """
        holes = [Message(m.role, f"\ue000{i}\ue001") for i, m in enumerate(messages)]
        parts = _HOLE.split(self.rendered(holes, reply=True))
        rendered = {int(number) for number in parts[1::2]}
        inner = _placed(messages, streams)
        if any(
            m.role == "system" and i not in rendered for i, m in enumerate(messages)
        ):  # a template may leave it out in silence
            parts = _HOLE.split(self.rendered(_folded(holes), reply=True))
            rendered = {int(number) for number in parts[1::2]}
        if len(rendered) < len(messages):
            lost = next(m.role for i, m in enumerate(messages) if i not in rendered)
            raise ConfigError(f"the chat template of {self.name!r} leaves out a turn of the {lost}")
        pieces: list[Piece] = []
        if self.template is None and (begin := self._begin()):
            pieces.append(Piece(tuple(begin), (False,) * len(begin)))
        after_answer = False
        for k, part in enumerate(parts):
            if k % 2 == 0:
                ids = self.marked(part)
                learnt = [False] * len(ids)
                if after_answer and ids and ids[0] in self.ends:
                    learnt[0] = True
                pieces.append(Piece(tuple(ids), tuple(learnt)))
                after_answer = False
                continue
            i = int(part)
            after_answer = messages[i].role == "assistant"
            for one in inner[i]:
                if isinstance(one, Piece):
                    pieces.append(one)
                else:
                    ids = self.answer(one) if after_answer else self.typed(one)
                    pieces.append(Piece(tuple(ids), (after_answer,) * len(ids), typed=True))
        return [piece for piece in pieces if piece.ids or piece.stream is not None]


def _default(template: Any) -> str | None:
    """The template of a tokeniser's settings, the one named ``default`` where there are several."""
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, Mapping)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _folded(messages: Sequence[Message]) -> list[Message]:
    """``messages`` with the system's text put before the first user's turn."""
    system = "\n\n".join(m.text for m in messages if m.role == "system")
    rest = [m for m in messages if m.role != "system"]
    first = next((i for i, m in enumerate(rest) if m.role == "user"), None)
    if first is None:
        return rest
    rest[first] = Message("user", f"{system}\n\n{rest[first].text}" if system else rest[first].text)
    return rest


def _placed(messages: Sequence[Message], streams: Sequence[str]) -> list[list[str | Piece]]:
    """The content of each message as texts and media."""
    left = list(streams)
    inner: list[list[str | Piece]] = []
    for message in messages:
        parts: list[str | Piece] = []
        text = message.text
        while message.role == "user" and left:
            first_place = min(((text.find(f"<{name}>"), name) for name in left if f"<{name}>" in text), default=None)
            if first_place is None:
                break
            at, name = first_place
            parts += [text[:at], Piece(stream=name)]
            text = text[at + len(name) + 2 :]
            left.remove(name)
        inner.append([*parts, text])
    if left:
        first = next((i for i, m in enumerate(messages) if m.role == "user"), None)
        if first is None:
            raise ConfigError("a conversation has no turn of the user, and so no place for media")
        before: list[str | Piece] = [Piece(stream=name) for name in left]
        inner[first] = [*before, "\n", *inner[first]]
    return inner
