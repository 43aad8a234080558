"""Control of a headless Chromium over the Chrome DevTools protocol, which measures the time until a page is painted."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync remote-debugging-port=0"
)
PATIENCE = 60  # seconds


def executable() -> str | None:
    """Return the path of a browser on this machine, if any."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page of a browser."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.count, self.session = socket, 0, ""
        self.seen: list[str] = []
        (page,) = [target for target in self.ask("Target.getTargets")["targetInfos"] if target["type"] == "page"]
        self.session = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        self.ask("Page.enable")

    def ask(self, method: str, **options: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self.count += 1
        session = {"sessionId": self.session} if self.session else {}
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": options, **session}))
        while True:
            message = json.loads(self.socket.recv(PATIENCE))
            if message.get("id") == self.count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self.seen.append(message["method"])

    def run(self, program: str) -> Any:
        """Return the value of an expression in the page."""
        document = self.ask("Runtime.evaluate", expression=program, awaitPromise=True, returnByValue=True)
        return document["result"].get("value")

    def opened(self, url: str) -> float:
        """Open a page and return the seconds until it is loaded, laid out and painted."""
        self.ask("Page.navigate", url="about:blank")
        self.seen.clear()
        start = time.perf_counter()
        self.ask("Page.navigate", url=url)
        while "Page.loadEventFired" not in self.seen:
            self.seen.append(json.loads(self.socket.recv(PATIENCE)).get("method", ""))
        # The second frame begins after the first was painted.
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.perf_counter() - start


@contextmanager
def page() -> Iterator[Page]:
    """Start a browser, yield one page of it and close it at the end."""
    from websockets.sync.client import connect

    path = executable()
    if path is None:
        raise RuntimeError("no browser")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as closing:
        process = subprocess.Popen(
            [path, *(f"--{flag}" for flag in FLAGS.split()), f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        closing.callback(process.wait, 20)
        closing.callback(process.terminate)
        result = Path(folder, "DevToolsActivePort")
        until = time.monotonic() + PATIENCE
        while not (result.is_file() and len(result.read_text().split()) == 2):
            if time.monotonic() > until:
                raise RuntimeError("the browser did not start")
            time.sleep(0.05)
        port, at = result.read_text().split()
        yield Page(closing.enter_context(connect(f"ws://127.0.0.1:{port}{at}", max_size=None, proxy=None)))
