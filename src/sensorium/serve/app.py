"""The application: routes to models. ``create`` gives an ASGI application that any server can run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from sensorium import __version__
from sensorium.core.errors import ConfigError
from sensorium.predictor import Predictor
from sensorium.serve.api_key import Key
from sensorium.serve.host_guard import Guard, Names
from sensorium.serve.host_guard import origins as allowed
from sensorium.serve.http_errors import RefusedError, answer
from sensorium.serve.limits import Limits
from sensorium.serve.metrics import Metrics
from sensorium.serve.middleware import Door
from sensorium.serve.model_service import Merge, Served, check_name, named
from sensorium.serve.openapi import PREDICTION, operation
from sensorium.serve.request_parsing import Asked, read
from sensorium.serve.websocket import Live

_TYPES = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_EXPLANATION: dict[str, Any] = {"type": "object", "required": ["streams", "targets"]}
_VECTOR: dict[str, Any] = {"type": "array", "items": {"type": "number"}}
Way = Callable[[Request, Served, Asked, bool], Awaitable[Any]]


def create(
    models: Mapping[str, Predictor],
    *,
    limits: Limits | None = None,
    key: str | None = None,
    merge: Merge = "auto",
    batch: int = 32,
    wait: float = 0.01,
    decoders: int = 2,
    names: Names | None = None,
    origins: Sequence[str] = (),
) -> FastAPI:
    """The application that serves these models by name; the first answers where a request names none.

    Args:
        key: What clients must show; None: anybody may ask.
        merge: See ``Served``; so are ``batch``, ``wait`` and ``decoders``.
        names: By which the server may be asked (``Host``); None: those of this machine's loopback, as ``localhost``.
        origins: Of other sites' pages that may ask too, as ``https://app.example``; browsers are told so (CORS).
    """
    if not models:
        raise ConfigError("there is no model to serve")
    bounds, metrics, pages = limits or Limits(), Metrics(), allowed(origins)
    served = {
        check_name(name): Served(
            name, predictor, bounds, merge=merge, batch=batch, wait=wait, decoders=decoders, seen=metrics.batch
        )
        for name, predictor in models.items()
    }
    for name, one in served.items():
        metrics.watch(name, lambda one=one: one.batcher.load)  # type: ignore[misc]

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        for one in served.values():
            # In a thread: what it waits for may still have to be told by this loop that it was given up.
            await asyncio.to_thread(one.close)

    app = FastAPI(
        title="sensorium",
        version=__version__,
        description="Predictions from rows of which any part may be missing.",
        docs_url=None,  # the usual page loads its parts from elsewhere
        redoc_url=None,
        lifespan=life,
    )
    lock = None if key is None else Key(key)
    app.add_middleware(Door, limits=bounds, key=lock, metrics=metrics)
    if pages:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(pages),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "X-API-Key"],
            expose_headers=["Retry-After"],
            allow_private_network=True,
        )
    app.add_middleware(Guard, names=names or Names(), allowed=pages, metrics=metrics)  # the last one added comes first
    app.add_exception_handler(HTTPException, _unknown)
    app.state.served, app.state.limits = served, bounds
    _answers(app, served)
    _facts(app, served, metrics)
    Live(served, bounds, lock, metrics).routes(app)
    _page(app)
    return app


class _Whole(APIRoute):
    """A route whose endpoint takes the whole request and gives the whole response: FastAPI has no parameter to fill in.

    It is in the OpenAPI document as any other. Looking for parameters took more than a tenth of a small request's processor
    time (docs/performance.md).
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        return cast(Callable[[Request], Coroutine[Any, Any, Response]], self.endpoint)


def _answers(app: FastAPI, served: dict[str, Served]) -> None:
    """The routes that take rows, each for the model of ``?model=`` and under a model's own address."""

    async def predict(_: Request, one: Served, asked: Asked, lenient: bool) -> Any:
        found = [prediction.to_json() for prediction in await one.predict(asked.rows, lenient=lenient)]
        return found[0] if asked.single else {"predictions": found}

    async def explained(request: Request, one: Served, asked: Asked, lenient: bool) -> Any:
        where = request.query_params.get("where", "no")
        if where not in ("yes", "no"):
            raise RefusedError(422, "where is yes or no")
        return await one.explain(asked.rows, lenient=lenient, where=where == "yes")

    async def embed(request: Request, one: Served, asked: Asked, lenient: bool) -> Any:
        found = await one.embed(asked.rows, request.query_params.get("stream"), lenient=lenient)
        return found[0] if asked.single else {"vectors": found}

    first = next(iter(served.values()))
    ways: list[tuple[str, Way, dict[str, Any], str]] = [
        ("predict", predict, PREDICTION, "predictions"),
        ("explain", explained, _EXPLANATION, "explanations"),
        ("embed", embed, _VECTOR, "vectors"),
    ]
    for name, way, shape, listed in ways:
        endpoint = _endpoint(served, way)
        for prefix in ("", "/models/{name}"):
            app.router.add_api_route(
                f"{prefix}/{name}",
                endpoint,
                route_class_override=_Whole,
                methods=["POST"],
                name=name,
                openapi_extra=operation(first, shape, listed, path=bool(prefix), route=name),
                operation_id=f"{name}{'_of' if prefix else ''}",
            )


def _endpoint(served: dict[str, Served], way: Way) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        one = named(served, request.path_params.get("name") or request.query_params.get("model"))
        bad = request.query_params.get("bad", "refuse")
        if bad not in ("refuse", "missing"):
            raise RefusedError(422, "bad is refuse or missing")
        asked = await read(request, one)
        return answer(await way(request, one, asked, bad == "missing"))

    return endpoint


def _facts(app: FastAPI, served: dict[str, Served], metrics: Metrics) -> None:
    async def healthz() -> Response:
        return answer({"status": "ok", "version": __version__, "models": list(served)})

    async def schema(request: Request) -> Response:
        one = named(served, request.path_params.get("name") or request.query_params.get("model"))
        return answer({**one.form(), "models": list(served)})

    async def told() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/schema", schema, methods=["GET"], operation_id="schema")
    app.add_api_route("/models/{name}/schema", schema, methods=["GET"], operation_id="schema_of")
    app.add_api_route("/metrics", told, methods=["GET"])


def _page(app: FastAPI) -> None:
    folder = files("sensorium.serve") / "page"
    for name, kind in _TYPES.items():
        content = (folder / name).read_bytes()
        path = "/" if name == "index.html" else f"/{name}"
        app.add_api_route(path, _file(content, kind), methods=["GET"], include_in_schema=False)


def _file(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def file() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return file


async def _unknown(_: Request, error: Exception) -> Response:
    """What the router itself refuses: an address or a method that is not there."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"
    fix = f"send it by {headers['Allow']}" if "Allow" in headers else "all addresses: /openapi.json"
    return RefusedError(status, str(getattr(error, "detail", "not found")), fix=fix, headers=headers).response()
