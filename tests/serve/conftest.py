"""Fixtures: a small model behind HTTP, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")

from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.predictor import Predictor

MEDIA = ("photo", "sound", "sensor")
Make = Callable[..., Any]


@pytest.fixture(scope="session")
def predictor(trained: Any) -> Predictor:
    return Predictor(trained.artifact, device="cpu", media=UPLOADS_ONLY)


@pytest.fixture(scope="session")
def cells(scenes: Path, read_csv: Any) -> list[dict[str, Any]]:
    """Rows of the test table as a client sends them: media as bytes, without missing cells."""
    rows = []
    for row in read_csv(scenes / "test.csv"):
        kept = {name: cell for name, cell in row.items() if cell and name not in ("event", "cost", "tags")}
        rows.append({name: (scenes / cell).read_bytes() if name in MEDIA else cell for name, cell in kept.items()})
    return rows


@pytest.fixture(scope="session")
def make_client(predictor: Predictor) -> Iterator[Make]:
    """``make_client(limits=..., key=...)`` creates a server and returns its client."""
    from starlette.testclient import TestClient

    from sensorium.serve.app import create

    class Local(TestClient):
        def websocket_connect(self, url: str, *args: Any, **kwargs: Any) -> Any:
            return super().websocket_connect(f"ws://localhost{url}", *args, **kwargs)

    with ExitStack() as open_clients:

        def make(models: Any = None, **options: Any) -> TestClient:
            app = create(models or {"house": predictor}, **options)
            return open_clients.enter_context(Local(app, base_url="http://localhost"))

        yield make


@pytest.fixture(scope="session")
def client(make_client: Make) -> Any:
    """A client of a server with default settings."""
    return make_client()


@pytest.fixture(scope="session")
def address(predictor: Predictor) -> Iterator[str]:
    """The address of a server on a real port, for browsers, sockets and streams."""
    from threading import Thread
    from time import monotonic, sleep

    from sensorium.serve.app import create
    from sensorium.serve.server import create_server

    running = create_server(create({"house": predictor}), port=0)
    thread = Thread(target=running.run, daemon=True)
    thread.start()
    deadline = monotonic() + 20
    while not running.started and monotonic() < deadline:
        sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"127.0.0.1:{port}"
    running.should_exit = True
    thread.join(20)
