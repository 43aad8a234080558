"""Ctrl-C handling: say what was saved and which command resumes the work, if any."""

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
"""The exit status of a command ended by Ctrl-C."""
Run = Callable[..., None]


class Stopped(SystemExit):
    """Exit caused by Ctrl-C.

    Args:
        message: What to tell the user.
    """

    def __init__(self, message: str) -> None:
        super().__init__(CODE)
        self.message = message


def interruptible(command: str, run: Run) -> Run:
    """Wrap the function ``run`` of a ``command`` so that Ctrl-C raises ``Stopped`` with advice on how to resume."""

    @wraps(run)
    def wrapped(**options: Any) -> None:
        began = time.time()
        try:
            run(**options)
        except KeyboardInterrupt:
            raise Stopped(f"stopped. {ADVICE.get(command, _nothing)(options, began)}".strip()) from None

    return wrapped


def exit_interrupted(stopped: SystemExit | None, say: Callable[[str], None]) -> NoReturn:
    """Print the message of ``stopped`` with ``say`` and exit; a second Ctrl-C ends the process at once."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    say(stopped.message if isinstance(stopped, Stopped) else "stopped before it began.")
    sys.exit(CODE)


def resume_command(*, resume: bool = False) -> str:
    """Return the command that resumes this one: without ``--overwrite``, with ``--resume`` if ``resume``."""
    words = [word for word in sys.argv[1:] if word != "--overwrite"]
    more = ["--resume"] if resume and "--resume" not in words else []
    return quoting.command("sensorium", *words, *more)


def _nothing(options: Mapping[str, Any], began: float) -> str:
    return ""


def _fit(options: Mapping[str, Any], began: float) -> str:
    out = Path(options["out"])
    resume = out / "resume"
    parts = [resume / "last.ckpt", resume / "refit" / "last.ckpt"]
    trials = _trials(out / "search.json")
    if _since(out / "manifest.json", began):
        return f"The model is complete, in {out}."
    if (options["search"] is not None or options["quality"] == "best") and trials:
        return (
            f"{counted(trials, 'trial')} of the search {'is' if trials == 1 else 'are'} saved. Resume: {resume_command()}"
        )
    if any(_since(part, began) or (options["resume"] and part.is_file()) for part in parts):
        return f"Resume: {resume_command(resume=True)}"
    older = f" The previous model in {out} is unchanged." if (out / "manifest.json").is_file() else ""
    return f"Nothing was saved: the same command starts from the beginning.{older}{_decoded(options)}"


def _compare(options: Mapping[str, Any], began: float) -> str:
    path = Path(options["out"]) / "runs.jsonl"
    runs = len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0
    if not runs or (options["overwrite"] and not _since(path, began)):
        return f"No run has finished: the same command starts from the beginning.{_decoded(options)}"
    return f"{counted(runs, 'finished run')} {'is' if runs == 1 else 'are'} saved. Resume: {resume_command()}"


def _predict(options: Mapping[str, Any], began: float) -> str:
    out = options["out"]
    if out is None:
        return "The lines written so far are complete."
    if _since(out, began) and Path(out).is_file():
        return f"The predictions are complete, in {out}."
    if (Path(out) / "parts.json").is_file():
        return f"Finished parts are saved. Resume: {resume_command()}"
    return f"Nothing was written: {out} is only written when complete."


def _embed(options: Mapping[str, Any], began: float) -> str:
    if _since(options["out"], began):
        return f"The vectors are complete, in {options['out']}."
    return f"Nothing was written: {options['out']} is only written when complete."


def _evaluate(options: Mapping[str, Any], began: float) -> str:
    return f"The same command starts from the beginning.{_decoded(options)}"


def _pack(options: Mapping[str, Any], began: float) -> str:
    if options["check"]:
        return "Some shards were not checked."
    return "The folder is incomplete and must not be used: the same command packs everything again."


def _demo(options: Mapping[str, Any], began: float) -> str:
    return "The same command starts from the beginning."


def _decoded(options: Mapping[str, Any]) -> str:
    return "" if options.get("stream") else " Decoded media stay in the cache."


def _since(path: Path, began: float) -> bool:
    """Return whether a file was written since the command began."""
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
