"""A run's folder: checked and locked before any work, so that nothing is lost and no two processes write into it."""

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
from sensorium.data.files.atomic_write import check_writable, readable_disk_errors
from sensorium.training.resume import LAST

if sys.platform != "win32":
    import fcntl

MODEL = (*FILES, OBJECTIVES, "report.html")
"""Files that a run writes, besides the manifest."""
COMPARISON = ("compare.html", "compare.svg", "compare.md", "compare.json", "winner.yaml")


@contextlib.contextmanager
def for_run(folder: Path, *, resume: bool, overwrite: bool, search: bool) -> Iterator[None]:
    """Context that locks the folder of one ``fit``.

    Args:
        folder: The run's folder.
        resume: Whether the run continues from what is there; whether it is the same run is checked later.
        overwrite: Whether existing results may be replaced.
        search: Whether the run is a search, which continues from existing trials by itself.

    Raises:
        ConfigError: A finished model, a stopped training or unrelated files would be lost, or another process writes here.
    """
    if resume and overwrite:
        raise ConfigError("--resume continues what --overwrite would replace", fix="leave out one of the two")
    with _exclusive(folder):
        trials = (folder / "search.json").is_file()
        if overwrite:
            with readable_disk_errors(folder):
                (folder / "search.json").unlink(missing_ok=True)
                shutil.rmtree(folder / "search", ignore_errors=True)
        elif not (search and trials):
            _refuse(folder, resume, trials)
        yield


@contextlib.contextmanager
def for_comparison(folder: Path, *, overwrite: bool) -> Iterator[None]:
    """Context that locks the ``folder`` of one ``compare``; runs in it are continued, or replaced with ``overwrite``.

    Raises:
        ConfigError: Unrelated files would be lost, or another process writes here.
    """
    with _exclusive(folder):
        runs = folder / "runs.jsonl"
        if overwrite:
            with readable_disk_errors(folder):
                runs.unlink(missing_ok=True)
                shutil.rmtree(folder / "answers", ignore_errors=True)
        elif not runs.is_file():
            _refuse_foreign(folder, COMPARISON, "a comparison")
        yield


def _refuse(folder: Path, resume: bool, trials: bool) -> None:
    """Refuse to lose results, and name the ways to keep or continue them."""
    finished = (folder / MANIFEST).is_file()
    begun = (folder / "resume" / "run.json").is_file()
    parts = folder / "resume" / "last.ckpt", folder / "resume" / LAST / "last.ckpt"
    other = quoting.option("--out", str(free_name(folder)))
    keep = f"keep it: {other}; or replace it: --overwrite (in Python: overwrite=True)"
    if resume and finished and not begun:
        problem = "holds a finished model without a record of its run: there is nothing to resume"
        raise ConfigError(problem, file=folder, fix=keep)
    if resume:
        return
    if finished:
        raise ConfigError("holds a finished model, which this run would replace", file=folder, fix=keep)
    if any(part.is_file() for part in parts):
        raise ConfigError("holds a training that was stopped", file=folder, fix=f"continue it: --resume; {keep}")
    if trials:
        fix = f"continue it: --search or --quality as before; {keep}"
        raise ConfigError("holds a search that was stopped", file=folder, fix=fix)
    if not begun:
        _refuse_foreign(folder, MODEL, "a model")


def _refuse_foreign(folder: Path, names: Sequence[str], what: str) -> None:
    """Refuse a folder with unrelated files of the same names."""
    existing = [name for name in names if (folder / name).exists()]
    if existing:
        fix = f"name another folder: {quoting.option('--out', str(free_name(folder)))}; or replace them: --overwrite"
        raise ConfigError(f"holds {', '.join(existing)}, which {what} would replace", file=folder, fix=fix)


def free_name(folder: Path) -> Path:
    """Return a path next to ``folder`` that does not exist: ``run-2``."""
    name = folder.name or "run"
    return next(path for i in count(2) if not (path := folder.with_name(f"{name}-{i}")).exists())


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Check that the folder can be written, and lock it. Created folders that stay empty are removed at the end."""
    check_writable(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with readable_disk_errors(folder):
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
    """Lock the folder itself; the system releases it if the process is killed. None where locks are not supported."""
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
