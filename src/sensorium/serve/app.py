"""The web application: routes to models. ``create`` returns an ASGI application that any server can run."""

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
from sensorium.core.schema import Record
from sensorium.data.files.attachment_files import with_data_urls
from sensorium.predictor import Prediction, Predictor
from sensorium.reporting.place_files import placed_answers
from sensorium.retrieval.index import Index
from sensorium.serve.api_key import ApiKey
from sensorium.serve.chat_completions import add_chat_routes
from sensorium.serve.host_guard import AllowedHosts, HostGuard, parse_origins
from sensorium.serve.http_errors import RequestError, json_response
from sensorium.serve.limits import Limits
from sensorium.serve.metrics import Metrics
from sensorium.serve.middleware import Middleware
from sensorium.serve.model_service import Merge, ModelService, check_model_name, find_model
from sensorium.serve.openapi import PREDICTION, operation
from sensorium.serve.request_parsing import ParsedRequest, parse_request
from sensorium.serve.search import SEARCH, SearchService, find_index
from sensorium.serve.websocket import StreamEndpoint

_TYPES = {
    "index.html": "text/html",
    "chat.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "chat.js": "text/javascript",
    "recording.js": "text/javascript",
    "search.js": "text/javascript",
}
_EXPLANATION: dict[str, Any] = {"type": "object", "required": ["streams", "targets"]}
_VECTOR: dict[str, Any] = {"type": "array", "items": {"type": "number"}}
Handler = Callable[[Request, ModelService, ParsedRequest, bool], Awaitable[Any]]


def create(
    models: Mapping[str, Predictor],
    *,
    indexes: Mapping[str, Index] | None = None,
    limits: Limits | None = None,
    key: str | None = None,
    merge: Merge = "auto",
    batch: int = 32,
    wait: float = 0.01,
    decoders: int = 2,
    names: AllowedHosts | None = None,
    origins: Sequence[str] = (),
) -> FastAPI:
    """Return the application that serves models.

    Args:
        models: The models by name; the first is used if a request names none.
        indexes: Indexes to search, by the name of their model.
        limits: Limits on requests; None: the defaults.
        key: The API key that clients must send; None: no authentication.
        merge: Whether concurrent requests share forward passes: see ``ModelService``.
        batch: Maximum number of rows per forward pass.
        wait: Maximum seconds that a request waits for others.
        decoders: Number of decoding threads per model.
        names: The accepted host names; None: ``localhost`` and the loopback addresses.
        origins: Origins of other web sites that may send requests (CORS): ``https://app.example``.

    Raises:
        ConfigError: There are no models, or a name, key or origin is invalid.
    """
    if not models:
        raise ConfigError("no model to serve")
    bounds, metrics, pages = limits or Limits(), Metrics(), parse_origins(origins)
    services = {
        check_model_name(name): ModelService(
            name, predictor, bounds, merge=merge, batch=batch, wait=wait, decoders=decoders, on_batch=metrics.record_batch
        )
        for name, predictor in models.items()
    }
    for name, service in services.items():
        metrics.watch_load(name, lambda service=service: service.batcher.load)  # type: ignore[misc]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for service in services.values():
            # In a thread: closing waits for requests that this event loop may still have to cancel.
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="sensorium",
        version=__version__,
        description="Predictions from rows in which any cell may be missing.",
        docs_url=None,  # the standard page loads scripts from another site
        redoc_url=None,
        lifespan=lifespan,
    )
    api_key = None if key is None else ApiKey(key)
    app.add_middleware(Middleware, limits=bounds, key=api_key, metrics=metrics)
    if pages:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(pages),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "X-API-Key"],
            expose_headers=["Retry-After"],
            allow_private_network=True,
        )
    app.add_middleware(
        HostGuard, names=names or AllowedHosts(), allowed=pages, metrics=metrics
    )  # the last one added runs first
    app.add_exception_handler(HTTPException, _router_error)
    app.state.services, app.state.limits = services, bounds
    searches = {name: SearchService(index, services[name]) for name, index in (indexes or {}).items()}
    _add_prediction_routes(app, services, searches)
    _add_information_routes(app, services, searches, metrics)
    StreamEndpoint(services, bounds, api_key, metrics).add_to(app)
    add_chat_routes(app, services)
    _add_page(app)
    return app


class _RequestRoute(APIRoute):
    """A route whose endpoint takes the whole request and returns the whole response: FastAPI fills in no parameters.

    It is in the OpenAPI document like any other. Resolving parameters took more than a tenth of the processor time of a
    small request (docs/performance.md).
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        return cast(Callable[[Request], Coroutine[Any, Any, Response]], self.endpoint)


def _places(service: ModelService, answers: Sequence[Prediction], rows: Sequence[Record]) -> list[dict[str, Any]]:
    """The places that ``answers`` of ``service`` to ``rows`` name on pictures, by task: boxes, regions and points in
    pixels."""
    model = service.predictor.model
    placed = [
        placed_answers(model, service.schema, answer.targets, row, service.media)
        for answer, row in zip(answers, rows, strict=True)
    ]
    return [with_data_urls({places.task: places.to_json() for places in of_row}) for of_row in placed]


def _yes(request: Request, name: str) -> bool:
    """The value of a query parameter that is ``yes`` or ``no``; ``no`` by default."""
    value = request.query_params.get(name, "no")
    if value not in ("yes", "no"):
        raise RequestError(422, f"{name} must be yes or no")
    return value == "yes"


def _add_prediction_routes(app: FastAPI, services: dict[str, ModelService], searches: Mapping[str, SearchService]) -> None:
    """Add the routes that take rows, each with ``?model=`` and with the name of the model in the path."""

    async def predict(request: Request, service: ModelService, parsed: ParsedRequest, lenient: bool) -> Any:
        places = _yes(request, "places")
        answers = await service.predict(parsed.rows, lenient=lenient)
        predictions = parsed.answered(answers)
        if places:
            added = await asyncio.to_thread(_places, service, answers, parsed.rows)
            predictions = [{**answer, "places": part} for answer, part in zip(predictions, added, strict=True)]
        notes = {"notes": parsed.cut.notes} if parsed.cut is not None and parsed.cut.notes else {}
        return predictions[0] if parsed.single else {"predictions": predictions, **notes}

    async def explain(request: Request, service: ModelService, parsed: ParsedRequest, lenient: bool) -> Any:
        about = request.query_params.get("about")
        return await service.explain(parsed.rows, lenient=lenient, where=_yes(request, "where"), about=about)

    async def embed(request: Request, service: ModelService, parsed: ParsedRequest, lenient: bool) -> Any:
        vectors = await service.embed(parsed.rows, request.query_params.get("stream"), lenient=lenient)
        return vectors[0] if parsed.single else {"vectors": vectors}

    async def search(request: Request, service: ModelService, parsed: ParsedRequest, lenient: bool) -> Any:
        return await find_index(searches, service).search(request, parsed, lenient)

    first = next(iter(services.values()))
    routes: list[tuple[str, Handler, dict[str, Any], str]] = [
        ("predict", predict, PREDICTION, "predictions"),
        ("explain", explain, _EXPLANATION, "explanations"),
        ("embed", embed, _VECTOR, "vectors"),
    ]
    if searches:
        routes.append(("search", search, SEARCH, "answers"))
    for name, handler, shape, listed in routes:
        endpoint = _endpoint(services, handler)
        for prefix in ("", "/models/{name}"):
            app.router.add_api_route(
                f"{prefix}/{name}",
                endpoint,
                route_class_override=_RequestRoute,
                methods=["POST"],
                name=name,
                openapi_extra=operation(first, shape, listed, path=bool(prefix), route=name),
                operation_id=f"{name}{'_of' if prefix else ''}",
            )


def _endpoint(services: dict[str, ModelService], handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        service = find_model(services, request.path_params.get("name") or request.query_params.get("model"))
        bad = request.query_params.get("bad", "refuse")
        if bad not in ("refuse", "missing"):
            raise RequestError(422, "bad must be refuse or missing")
        parsed = await parse_request(request, service)
        return json_response(await handler(request, service, parsed, bad == "missing"))

    return endpoint


def _add_information_routes(
    app: FastAPI, services: dict[str, ModelService], searches: Mapping[str, SearchService], metrics: Metrics
) -> None:
    async def healthz() -> Response:
        return json_response({"status": "ok", "version": __version__, "models": list(services)})

    async def schema(request: Request) -> Response:
        service = find_model(services, request.path_params.get("name") or request.query_params.get("model"))
        described = {**service.describe(), "models": list(services)}
        if service.name in searches:
            described["search"] = searches[service.name].describe()
        return json_response(described)

    async def media(request: Request) -> Response:
        return await find_index(searches, find_model(services, request.path_params["name"])).media(request)

    async def metrics_text() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/schema", schema, methods=["GET"], operation_id="schema")
    app.add_api_route("/models/{name}/schema", schema, methods=["GET"], operation_id="schema_of")
    app.add_api_route("/metrics", metrics_text, methods=["GET"])
    if searches:
        app.add_api_route("/models/{name}/media", media, methods=["GET"], operation_id="media_of")


def _add_page(app: FastAPI) -> None:
    folder = files("sensorium.serve") / "page"
    for name, kind in _TYPES.items():
        content = (folder / name).read_bytes()
        path = "/" if name == "index.html" else f"/{name}"
        app.add_api_route(path, _file(content, kind), methods=["GET"], include_in_schema=False)


def _file(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def file() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return file


async def _router_error(_: Request, error: Exception) -> Response:
    """Return the error for an unknown path or a method that is not allowed."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"
    fix = f"use the method {headers['Allow']}" if "Allow" in headers else "/openapi.json lists all paths"
    return RequestError(status, str(getattr(error, "detail", "not found")), fix=fix, headers=headers).response()
