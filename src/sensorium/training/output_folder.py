"""A run's folder, taken before any work: what would be lost in it is said, and no two processes write into it at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from sensorium.artifact import FILES, MANIFEST, OBJECTIVES
from sensorium.core import quoting
from sensorium.core.errors import ConfigError
from sensorium.data.files.atomic_write import check_writable, told
from sensorium.training.resume import LAST

if sys.platform != "win32":
    import fcntl

MODEL = (*FILES, OBJECTIVES, "report.html")
"""Files that a run writes besides the manifest."""
COMPARISON = ("compare.html", "compare.svg", "compare.md", "compare.json", "winner.yaml")


@contextlib.contextmanager
def for_run(folder: Path, *, resume: bool, overwrite: bool, search: bool) -> Iterator[None]:
    """The folder of one ``fit``, while it lasts.

    Raises ``ConfigError`` where a finished model, a training that was stopped or files of other origin would be lost.

    Args:
        resume: Whether the run goes on from what is there; whether it is the same run is found out later.
        overwrite: Whether what is there may be replaced.
        search: Whether it is a search, which goes on by itself from the trials that are there.
    """
    if resume and overwrite:
        raise ConfigError("--resume goes on with what --overwrite replaces", fix="leave out one of the two")
    with _exclusive(folder):
        trials = (folder / "search.json").is_file()
        if overwrite:
            with told(folder):
                (folder / "search.json").unlink(missing_ok=True)
                shutil.rmtree(folder / "search", ignore_errors=True)
        elif not (search and trials):
            _refuse(folder, resume, trials)
        yield


@contextlib.contextmanager
def for_comparison(folder: Path, *, overwrite: bool) -> Iterator[None]:
    """The folder of one ``compare``, while it lasts; the runs of the same comparison are gone on with."""
    with _exclusive(folder):
        runs = folder / "runs.jsonl"
        if overwrite:
            with told(folder):
                runs.unlink(missing_ok=True)
                shutil.rmtree(folder / "answers", ignore_errors=True)
        elif not runs.is_file():
            _refuse_foreign(folder, COMPARISON, "a comparison")
        yield


def _refuse(folder: Path, resume: bool, trials: bool) -> None:
    """Say what would be lost, and how to keep it or to go on with it."""
    finished = (folder / MANIFEST).is_file()
    begun = (folder / "resume" / "run.json").is_file()
    parts = folder / "resume" / "last.ckpt", folder / "resume" / LAST / "last.ckpt"
    keep = f"keep it: {quoting.option('--out', str(free_name(folder)))}; or replace it: --overwrite (in Python: overwrite=True)"
    if resume and finished and not begun:
        problem = "holds a finished model, and nothing says of which run: there is nothing to go on with"
        raise ConfigError(problem, file=folder, fix=keep)
    if resume:
        return
    if finished:
        raise ConfigError("holds a finished model, which this run would replace", file=folder, fix=keep)
    if any(part.is_file() for part in parts):
        raise ConfigError("holds a training that was stopped", file=folder, fix=f"go on with it: --resume; {keep}")
    if trials:
        fix = f"go on with it: --search or --quality as before; {keep}"
        raise ConfigError("holds a search that was stopped", file=folder, fix=fix)
    if not begun:
        _refuse_foreign(folder, MODEL, "a model")


def _refuse_foreign(folder: Path, names: Sequence[str], what: str) -> None:
    """Refuse a folder with files that happen to be named like ours."""
    there = [name for name in names if (folder / name).exists()]
    if there:
        fix = f"name another folder: {quoting.option('--out', str(free_name(folder)))}; or replace them: --overwrite"
        raise ConfigError(f"holds {', '.join(there)}, which {what} would replace", file=folder, fix=fix)


def free_name(folder: Path) -> Path:
    """A folder beside it that is not there: ``run-2``."""
    name = folder.name or "run"
    return next(path for i in count(2) if not (path := folder.with_name(f"{name}-{i}")).exists())


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Whether the folder can be written, and by this process alone. What was made for it and stays empty goes again."""
    check_writable(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    descriptor = _lock(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
        for path in missing:
            with contextlib.suppress(OSError):  # something was written
                path.rmdir()


def _lock(folder: Path) -> int | None:
    """A lock on the folder itself, which the system takes back where its holder is killed; None where there are none."""
    if sys.platform == "win32":
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        fix = f"wait until it is done, or name another folder: {quoting.option('--out', str(free_name(folder)))}"
        raise ConfigError("another process is writing here", file=folder, fix=fix) from None
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor
