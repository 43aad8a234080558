"""Chat completions in the form of OpenAI: conversations with pictures and sounds as base64, whole or word by word."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from sensorium.core.messages import ROLES
from sensorium.core.task import Task
from sensorium.data.files.media_access import FILE_NAME_REFUSED
from sensorium.serve.http_errors import RequestError, json_response
from sensorium.serve.model_service import ModelService, find_model
from sensorium.serve.request_parsing import parse_json, parse_row
from sensorium.streaming.chat_session import Wish, conversing

MOST_TOKENS = 4096
"""Maximum number of tokens that a request may ask for."""
_MEDIA = {"image_url": "image", "input_audio": "audio"}
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
}
_FIX_MEDIA = 'send the content: {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}'


def add_chat_routes(app: FastAPI, services: Mapping[str, ModelService]) -> None:
    """Add ``/v1/chat/completions`` and ``/v1/models`` to ``app``, for those of ``services`` that converse."""
    talking = {
        name: (service, conversational)
        for name, service in services.items()
        if (conversational := conversing(service.predictor.model)) is not None
    }
    if not talking:
        return

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
        row, wish = _row(document, service, task), _wish(document)
        pieces = service.speak(row, task_name, wish)
        if document.get("stream", False) is True:
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
            "message": {"role": "assistant", "content": text},
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
    return Wish(most, numbers["temperature"], numbers["top_p"] or 1.0, int(numbers["seed"] or 0))


def _row(document: Mapping[str, Any], service: ModelService, task: Task[Any]) -> dict[str, Any]:
    """The row of a conversation: its turns, and each medium in the next free column of its kind."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError(422, "messages must be a list of turns", fix='[{"role": "user", "content": "Hello"}]')
    free = {
        kind: [
            name
            for name, column in service.columns.items()
            if column.spec["kind"] == kind and name not in task.goal.prompts
        ]
        for kind in set(_MEDIA.values())
    }
    cells: dict[str, Any] = {}

    def part_text(part: Mapping[str, Any]) -> str:
        form = str(part.get("type"))
        if form == "text" and isinstance(part.get("text"), str):
            return str(part["text"])
        kind, value = _MEDIA.get(form), part.get(form)
        if kind is None or not isinstance(value, Mapping):
            raise RequestError(422, f"a part of type {form[:40]!r} is not supported", fix="text, image_url, input_audio")
        if not free[kind]:
            raise RequestError(422, f"this model takes no more media of kind {kind}", fix="send fewer of them")
        column = free[kind].pop(0)
        if kind == "image":
            url = value.get("url")
            if not isinstance(url, str) or not url.startswith("data:"):
                raise RequestError(422, f"{FILE_NAME_REFUSED}; no address is fetched", fix=_FIX_MEDIA)
            cells[column] = url
        else:
            cells[column] = {"base64": value.get("data"), "name": f"sound.{str(value.get('format', 'wav'))[:8]}"}
        return f"<{column}>"

    turns = []
    for turn in messages:
        if not isinstance(turn, Mapping) or turn.get("role") not in ROLES:
            raise RequestError(422, "a turn needs a role: system, user or assistant")
        content = turn.get("content")
        if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
            if turn["role"] != "user" and any(part.get("type") != "text" for part in content):
                raise RequestError(422, "media belong to turns of the user")
            content = "\n".join(part_text(part) for part in content)
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
