"""Chat completions in the form of OpenAI: conversations with media as base64, whole or word by word."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from sensorium.codecs.speech_synthesis import SpeechSynthesiser
from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.core.messages import ROLES
from sensorium.core.task import Task
from sensorium.data.files.media_access import FILE_NAME_REFUSED
from sensorium.serve.http_errors import RequestError, json_response
from sensorium.serve.model_service import ModelService, find_model
from sensorium.serve.request_parsing import check_surrogates, parse_json, parse_row
from sensorium.streaming.chat_session import Wish, conversing

MOST_TOKENS = 4096
"""Maximum number of tokens that a request may ask for."""
_MEDIA = {"image_url": "image", "video_url": "video", "input_audio": "audio"}
_HEEDED = {
    "model",
    "messages",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "n",
    "user",
    "stop",
    "answers",
    "modalities",
    "audio",
    "row",
}
MOST_MEDIA = 64
"""Maximum number of media of a request in a column that holds several."""
MOST_STOPS = 16
"""Maximum number of stop texts of a request."""
MOST_ANSWERS = 64
"""Maximum number of possible answers of a request."""
_LONGEST_STOP = 200
_LONGEST_ANSWER = 2000
_SPEAKERS = 2  # speech synthesisers that run at the same time
_FIX_MEDIA = {
    "image_url": 'send the content: {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}',
    "video_url": 'send the content: {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,..."}}',
    "input_audio": 'send the content: {"type": "input_audio", "input_audio": {"data": "...", "format": "wav"}}',
}


def add_chat_routes(app: FastAPI, services: Mapping[str, ModelService]) -> None:
    """Add ``/v1/chat/completions`` and ``/v1/models`` to ``app``, for those of ``services`` that converse."""
    talking = {
        name: (service, conversational)
        for name, service in services.items()
        if (conversational := conversing(service.predictor.model)) is not None
    }
    if not talking:
        return

    speakers = asyncio.Semaphore(_SPEAKERS)

    async def models() -> Response:
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "sensorium"} for name in talking]
        return json_response({"object": "list", "data": listed})

    async def completions(request: Request) -> Response:
        body = await request.body()
        service = next(iter(talking.values()))[0]
        document = parse_json(body, service.limits)
        if not isinstance(document, dict):
            raise RequestError(422, "a request is an object with messages")
        name = document.get("model")
        if name is not None and not isinstance(name, str):
            raise RequestError(422, "model must be a text")
        service, (task_name, task) = talking[find_model({n: s for n, (s, _) in talking.items()}, name).name]
        row, wish, synthesiser = _row(document, service, task), _wish(document), _synthesiser(document, service)
        choices, streaming = _answers(document), document.get("stream", False) is True
        if streaming and (choices or synthesiser is not None):
            raise RequestError(422, "answers to choose from and spoken answers are not streamed", fix='"stream": false')
        if choices:
            probabilities = await service.weigh(row, task_name, choices)
            best = next(iter(probabilities))
            message = {"role": "assistant", "content": best, **await _spoken(best, synthesiser, speakers)}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "probabilities": probabilities}
            return json_response({**_head(service.name), "object": "chat.completion", "choices": [choice]})
        pieces = service.speak(row, wish)
        if streaming:
            return StreamingResponse(
                _events(pieces, service.name), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
            )
        text, ended = "", False
        async for piece in pieces:
            if isinstance(piece, bool):
                ended = piece
            else:
                text += piece
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, **await _spoken(text, synthesiser, speakers)},
            "finish_reason": "stop" if ended else "length",
        }
        return json_response({**_head(service.name), "object": "chat.completion", "choices": [choice]})

    app.add_api_route("/v1/models", models, methods=["GET"])
    app.add_api_route("/v1/chat/completions", completions, methods=["POST"])


def _head(name: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}


async def _events(pieces: AsyncIterator[str | bool], name: str) -> AsyncIterator[str]:
    """The answer as server-sent events; an error after the first is an event too."""
    head = {**_head(name), "object": "chat.completion.chunk"}

    def event(delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return f"data: {json.dumps({**head, 'choices': [choice]}, ensure_ascii=True)}\n\n"

    try:
        yield event({"role": "assistant", "content": ""})
        async for piece in pieces:
            if isinstance(piece, bool):
                yield event({}, "stop" if piece else "length")
            else:
                yield event({"content": piece})
        yield "data: [DONE]\n\n"
    except RequestError as error:
        yield f"data: {json.dumps({'error': {'message': str(error), **error.details}}, ensure_ascii=True)}\n\n"


def _wish(document: Mapping[str, Any]) -> Wish:
    """How the client wants its answer generated."""
    unknown = sorted(set(document) - _HEEDED)
    if unknown:
        raise RequestError(422, f"{unknown[0][:40]!r} is not supported", fix=f"leave it out; there are: {sorted(_HEEDED)}")
    if document.get("n") not in (None, 1):
        raise RequestError(422, "n must be 1")
    most = document.get("max_completion_tokens", document.get("max_tokens"))
    if most is not None and (type(most) is not int or not 1 <= most <= MOST_TOKENS):
        raise RequestError(422, f"max_tokens must be an integer from 1 to {MOST_TOKENS}")
    numbers = {}
    for key, low, high in (("temperature", 0, 2), ("top_p", 0, 1), ("seed", 0, 2**63 - 1)):
        value = document.get(key)
        if value is not None and (type(value) not in (int, float) or not low <= value <= high):
            raise RequestError(422, f"{key} must be a number from {low} to {high}")
        numbers[key] = value
    stop = document.get("stop")
    texts = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(texts, list) or not all(isinstance(t, str) and 0 < len(t) <= _LONGEST_STOP for t in texts):
        raise RequestError(422, f"stop must be a text or a list of texts, of 1 to {_LONGEST_STOP} characters")
    if len(texts) > MOST_STOPS:
        raise RequestError(422, f"{len(texts)} stop texts are too many", fix=f"send at most {MOST_STOPS}")
    temperature, top_p, seed = (numbers[key] for key in ("temperature", "top_p", "seed"))
    if top_p == 0:
        temperature = 0.0  # only the most probable token is left, at any temperature
    elif temperature is None and (seed is not None or (top_p is not None and top_p < 1)):
        temperature = 1.0  # OpenAI's default: a greedy answer would ignore the settings of sampling
    return Wish(most, temperature, top_p or 1.0, int(seed or 0), tuple(texts))


def _answers(document: Mapping[str, Any]) -> list[str]:
    """The possible answers of the request, to be returned with probabilities; empty: free text."""
    answers = document.get("answers")
    if answers is None:
        return []
    if not isinstance(answers, list) or not all(isinstance(text, str) and text.strip() for text in answers):
        raise RequestError(422, "answers must be a list of texts", fix='"answers": ["yes", "no"]')
    if not 2 <= len(answers) <= MOST_ANSWERS or len(set(answers)) < len(answers):
        raise RequestError(422, f"answers must be 2 to {MOST_ANSWERS} different texts")
    for text in answers:
        check_surrogates(text)
        if len(text) > _LONGEST_ANSWER:
            raise RequestError(413, f"a possible answer of {len(text)} characters, more than {_LONGEST_ANSWER}")
    return [str(text) for text in answers]


def _synthesiser(document: Mapping[str, Any], service: ModelService) -> SpeechSynthesiser | None:
    """The speech synthesiser, if the request includes audio: ``"modalities": ["text", "audio"]``."""
    modalities, audio = document.get("modalities"), document.get("audio")
    if modalities not in (None, ["text"], ["text", "audio"], ["audio", "text"]):
        raise RequestError(422, "modalities must be text, or text and audio", fix='"modalities": ["text", "audio"]')
    if modalities is None or "audio" not in modalities:
        if audio is not None:
            raise RequestError(422, "audio needs the modality audio", fix='"modalities": ["text", "audio"]')
        return None
    settings = audio if audio is not None else {}
    if not isinstance(settings, Mapping) or not set(settings) <= {"voice", "format", "language"}:
        raise RequestError(422, "audio has a voice, a format and a language", fix='"audio": {"format": "wav"}')
    if settings.get("format", "wav") != "wav":
        raise RequestError(422, "spoken answers are WAV", fix='"audio": {"format": "wav"}')
    voice, language = settings.get("voice", "default"), settings.get("language", "en")
    if not isinstance(voice, str) or not isinstance(language, str):
        raise RequestError(422, "voice and language of audio are texts")
    try:
        return SpeechSynthesiser(
            language=language, voice=None if voice == "default" else voice, seconds=service.limits.seconds
        )
    except ConfigError as error:
        raise RequestError(422, error.problem, fix=error.fix) from None


async def _spoken(text: str, synthesiser: SpeechSynthesiser | None, speakers: asyncio.Semaphore) -> dict[str, Any]:
    """The entry ``audio`` of a message: its ``text`` spoken, as base64; nothing if it is not requested or empty."""
    if synthesiser is None or not text.strip():
        return {}
    async with speakers:
        try:
            wav = (await asyncio.to_thread(synthesiser.speak, text)).wav
        except SensoriumError as error:
            raise RequestError(503, f"the answer cannot be spoken: {error.problem}", fix=error.fix) from None
    data = base64.b64encode(wav).decode()
    return {"audio": {"id": f"audio-{uuid.uuid4().hex}", "data": data, "expires_at": int(time.time()), "transcript": text}}


def _row(document: Mapping[str, Any], service: ModelService, task: Task[Any]) -> dict[str, Any]:
    """The row of a conversation: its turns, each medium in the next free column of its kind, and the cells of ``row``."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError(422, "messages must be a list of turns", fix='[{"role": "user", "content": "Hello"}]')
    cells = document.get("row", {})
    if not isinstance(cells, dict) or set(cells) & set(task.goal.prompts):
        fix = '"row": {"age": 30}; the question is a turn of messages'
        raise RequestError(422, "row must be an object of the other cells, by column", fix=fix)
    cells = dict(cells)
    inputs = {name: str(c.spec["kind"]) for name, c in service.columns.items() if name not in task.goal.prompts}
    free = {
        kind: [name for name, own in inputs.items() if own == kind and name not in cells] for kind in set(_MEDIA.values())
    }

    def part_text(part: Mapping[str, Any]) -> str | None:
        form = str(part.get("type"))
        if form == "text" and isinstance(part.get("text"), str):
            return str(part["text"])
        kind, value = _MEDIA.get(form), part.get(form)
        if kind is None:
            fix = f"text, {', '.join(_MEDIA)}; cells of other columns are sent as row"
            raise RequestError(422, f"a part of type {form[:40]!r} is not supported", fix=fix)
        if not isinstance(value, Mapping):
            raise RequestError(422, f"{form} is not an object", fix=_FIX_MEDIA[form])
        several = next((name for name, own in inputs.items() if own == f"{kind}s"), None)
        if not free[kind] and several is None:
            if kind in inputs.values():
                raise RequestError(422, f"this model takes no more media of kind {kind}", fix="send fewer of them")
            named = ", ".join(f"{name} ({own})" for name, own in inputs.items())
            raise RequestError(422, f"this model takes no {kind}", fix=f"its inputs are {named}")
        if free[kind]:
            column = free[kind].pop(0)
        else:  # one column holds several
            column = str(several)
            if column in document.get("row", {}):
                problem = f"row has the column {column} that parts of type {form} go to"
                raise RequestError(422, problem, fix="send one of them")
            if len(cells.setdefault(column, [])) == MOST_MEDIA:
                raise RequestError(413, f"more than {MOST_MEDIA} media of kind {kind}", fix="send fewer of them")
        if form != "input_audio":
            url = value.get("url")
            if not isinstance(url, str) or not url.startswith("data:"):
                raise RequestError(422, f"{FILE_NAME_REFUSED}; no address is fetched", fix=_FIX_MEDIA[form])
            if column == several:
                cells[column].append(url)
            else:
                cells[column] = url
        else:
            cells[column] = {"base64": value.get("data"), "name": f"sound.{str(value.get('format', 'wav'))[:8]}"}
        # All pictures of a column that holds several have one place.
        return f"<{column}>" if column != several or len(cells[column]) == 1 else None

    turns = []
    for turn in messages:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str) or turn["role"] not in ROLES:
            raise RequestError(422, "a turn needs a role: system, user or assistant")
        content = turn.get("content")
        if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
            if turn["role"] != "user" and any(part.get("type") != "text" for part in content):
                raise RequestError(422, "media belong to turns of the user")
            content = "\n".join(text for part in content if (text := part_text(part)) is not None)
        if not isinstance(content, str):
            raise RequestError(422, "the content of a turn is a text or a list of parts")
        turns.append({"role": ROLES[turn["role"]], "content": content})
    if turns[-1]["role"] != "user":
        raise RequestError(422, "the last turn must be the user's")
    row = parse_row(cells, service)
    prompt = next(iter(task.goal.prompts))
    # Checked as any text of a request is.
    row |= parse_row({prompt: json.dumps(turns, ensure_ascii=False)}, service)
    return row
