"""What Ctrl-C says: what is kept, and the command that goes on from it, where there is one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

from sensorium.core import quoting
from sensorium.core.plurals import counted

CODE = 130
"""What a shell expects of a command that Ctrl-C ended."""
Run = Callable[..., None]


class Stopped(SystemExit):
    """Ctrl-C, with what is to be said of it."""

    def __init__(self, said: str) -> None:
        super().__init__(CODE)
        self.said = said


def heeding(verb: str, run: Run) -> Run:
    """A command that says, when it is stopped, what is true of it at that moment."""

    @wraps(run)
    def stoppable(**given: Any) -> None:
        began = time.time()
        try:
            run(**given)
        except KeyboardInterrupt:
            raise Stopped(f"stopped. {ADVICE.get(verb, _nothing)(given, began)}".strip()) from None

    return stoppable


def end(stopped: SystemExit | None, say: Callable[[str], None]) -> NoReturn:
    """Say it and leave. Whoever presses Ctrl-C once more while threads end is done with at once."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    say(stopped.said if isinstance(stopped, Stopped) else "stopped before it began.")
    sys.exit(CODE)


def again(*, resume: bool = False) -> str:
    """The command that was given, as it goes on instead of beginning anew."""
    words = [word for word in sys.argv[1:] if word != "--overwrite"]
    more = ["--resume"] if resume and "--resume" not in words else []
    return quoting.command("sensorium", *words, *more)


def _nothing(given: Mapping[str, Any], began: float) -> str:
    return ""


def _fit(given: Mapping[str, Any], began: float) -> str:
    out = Path(given["out"])
    resume = out / "resume"
    parts = [resume / "last.ckpt", resume / "refit" / "last.ckpt"]
    trials = _trials(out / "search.json")
    if _since(out / "manifest.json", began):
        return f"The model is whole, in {out}."
    if (given["search"] is not None or given["quality"] == "best") and trials:
        return f"{counted(trials, 'trial')} of the search {'is' if trials == 1 else 'are'} kept. Go on: {again()}"
    if any(_since(part, began) or (given["resume"] and part.is_file()) for part in parts):
        return f"Go on where it was: {again(resume=True)}"
    older = f" The model that was in {out} is still there." if (out / "manifest.json").is_file() else ""
    return f"Nothing is saved yet: the same command begins anew.{older}{_decoded(given)}"


def _compare(given: Mapping[str, Any], began: float) -> str:
    path = Path(given["out"]) / "runs.jsonl"
    runs = len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0
    if not runs or (given["overwrite"] and not _since(path, began)):
        return f"No run is finished yet: the same command begins anew.{_decoded(given)}"
    return f"{counted(runs, 'finished run')} {'is' if runs == 1 else 'are'} kept. Go on: {again()}"


def _predict(given: Mapping[str, Any], began: float) -> str:
    out = given["out"]
    if out is None:
        return "The lines so far are whole."
    if _since(out, began) and Path(out).is_file():
        return f"The predictions are whole, in {out}."
    if (Path(out) / "parts.json").is_file():
        return f"Parts that are whole are kept. Go on: {again()}"
    return f"Nothing is written: {out} comes whole or not at all."


def _embed(given: Mapping[str, Any], began: float) -> str:
    if _since(given["out"], began):
        return f"The vectors are whole, in {given['out']}."
    return f"Nothing is written: {given['out']} comes whole or not at all."


def _evaluate(given: Mapping[str, Any], began: float) -> str:
    return f"The same command begins anew.{_decoded(given)}"


def _pack(given: Mapping[str, Any], began: float) -> str:
    if given["check"]:
        return "Not every shard is checked."
    return "What was packed so far is not to be used: the same command packs anew."


def _demo(given: Mapping[str, Any], began: float) -> str:
    return "The same command begins anew."


def _decoded(given: Mapping[str, Any]) -> str:
    return "" if given.get("stream") else " What was decoded is kept."


def _since(path: Path, began: float) -> bool:
    """Whether a file was written by this command."""
    try:
        return path.stat().st_mtime >= began - 1
    except OSError:
        return False


def _trials(path: Path) -> int:
    try:
        return len(json.loads(path.read_text(encoding="utf-8"))["trials"])
    except (OSError, ValueError, LookupError):
        return 0


ADVICE: dict[str, Callable[[Mapping[str, Any], float], str]] = {
    "fit": _fit,
    "compare": _compare,
    "predict": _predict,
    "embed": _embed,
    "evaluate": _evaluate,
    "explain": _evaluate,
    "pack": _pack,
    "demo": _demo,
}
