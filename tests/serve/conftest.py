"""Fixtures: a small model behind HTTP, in this process."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="serving needs sensorium[serve]")

from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.predictor import Predictor

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
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


@contextmanager
def listening(models: dict[str, Predictor], **options: Any) -> Iterator[str]:
    """The address of a server of ``models`` on a real port."""
    from threading import Thread
    from time import monotonic, sleep

    from sensorium.serve.app import create
    from sensorium.serve.server import create_server

    running = create_server(create(models, **options), port=0)
    thread = Thread(target=running.run, daemon=True)
    thread.start()
    deadline = monotonic() + 20
    while not running.started and monotonic() < deadline:
        sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"127.0.0.1:{port}"
    running.should_exit = True
    thread.join(20)


@pytest.fixture(scope="session")
def address(predictor: Predictor) -> Iterator[str]:
    """The address of a server on a real port, for browsers, sockets and streams."""
    with listening({"house": predictor}) as place:
        yield place


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny language model, ``tiny``, and a table of questions about pictures and sounds in ``rows``."""
    from sensorium.testing import tiny_language_model

    folder = tmp_path_factory.mktemp("chat")
    tiny_language_model.write(folder / "tiny", steps=10, seed=1)
    tiny_language_model.table(folder / "rows", 30)
    return folder


@pytest.fixture(scope="session")
def chat_model(chat_folder: Path) -> Any:
    """A model that converses about a picture and a sound."""
    import sensorium as sm

    return sm.fit(
        chat_folder / "rows" / "table.csv",
        target="answer",
        task="conversation",
        options={"prompt": "question", "lm": str(chat_folder / "tiny"), "longest": 6},
        overrides=["model.size=tiny", "training.epochs=1", "objectives=[{kind: supervised, subsets: 0}]"],
        quiet=True,
    )


@pytest.fixture(scope="session")
def chat_address(chat_model: Any) -> Iterator[str]:
    """The address of a server of ``chat_model`` on a real port."""
    with listening({"seeing": Predictor(chat_model.artifact, device="cpu", media=UPLOADS_ONLY)}, merge="never") as place:
        yield place


class Browser:
    """One page of a headless browser."""

    FLAGS = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update "
        "disable-sync hide-scrollbars use-fake-device-for-media-stream use-fake-ui-for-media-stream remote-debugging-port=0"
    )

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        self.process = subprocess.Popen(
            [CHROMIUM, *(f"--{flag}" for flag in self.FLAGS.split()), f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.open = ExitStack()
        self.open.callback(self.process.wait, 20)
        self.open.callback(self.process.terminate)
        try:
            self._attach(folder)
        except BaseException:
            self.close()
            raise

    def _attach(self, folder: Path) -> None:
        from websockets.sync.client import connect

        port_file = folder / "DevToolsActivePort"
        self.wait(lambda: port_file.is_file() and len(port_file.read_text().split()) == 2, 30)
        port, path = port_file.read_text().split()
        self.socket = self.open.enter_context(connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None))
        self.count = 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        (page,) = [one for one in self("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        self.session = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **options: Any) -> dict[str, Any]:
        self.count += 1
        session = {} if self.session is None else {"sessionId": self.session}
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": options, **session}))
        while True:
            message: dict[str, Any] = json.loads(self.socket.recv(30))
            if message.get("id") == self.count:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def run(self, program: str) -> Any:
        """The value of an expression in the page."""
        result = self("Runtime.evaluate", expression=program, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: Any, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while not (self.run(condition) if isinstance(condition, str) else condition()):
            if time.monotonic() > until:
                self.picture("never")
                shown = self.run("document.body.innerText") if self.session else ""
                pytest.fail(f"never came: {condition}\n{shown}")
            time.sleep(0.05)

    def picture(self, name: str) -> None:
        """A screenshot for a person to look at, where one is asked for."""
        if folder := os.environ.get("SCREENSHOTS"):
            shot = self("Page.captureScreenshot", format="png", captureBeyondViewport=True)
            Path(folder, f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self.open.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless browser with a microphone that plays beeps."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()
