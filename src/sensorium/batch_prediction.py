"""Predictions for folders of shards: a part for each, in as many processes as asked for, and never one twice."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import torch

from sensorium.artifact import MANIFEST, schema_in
from sensorium.core.errors import ConfigError, DataError, SensoriumError, nearest
from sensorium.core.schema import Problem, Schema
from sensorium.data.files.atomic_write import check_writable
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.files.output_path import is_earlier_result
from sensorium.data.inspection.unseen_values import misnamed_hint, missing_columns_note
from sensorium.data.shards.shard_folder import Shard, shards
from sensorium.predictor import Prediction, Predictor
from sensorium.reporting.prediction_files import KeptColumns, write
from sensorium.trained import load

FORMATS = ("csv", "jsonl")
PARTS = "parts.json"


@dataclass(frozen=True)
class Job:
    """What every process needs to know."""

    run: str
    source: str
    out: str
    format: str
    batch_size: int
    threads: int
    keep: tuple[str, ...] = ()
    raw_cells: bool = False


def predict_shards(
    run: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    format: str = "csv",
    processes: int = 1,
    batch_size: int = 64,
    keep: Sequence[str] = (),
    overwrite: bool = False,
    raw_cells: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> list[Problem]:
    """Predict every row of a folder of shards into ``out``: ``shard-00007.csv`` for ``shard-00007.parquet``.

    Rows keep their order. Parts are written atomically and existing ones are kept, so the same call continues a stopped
    one. Memory does not grow with the rows. Under torchrun (or with RANK and WORLD_SIZE set) each rank takes its share
    of the shards, so that several machines can write into one folder.

    Args:
        run: The folder of the trained model.
        source: The folder of shards.
        out: The folder of predictions.
        format: The format of the parts, ``csv`` or ``jsonl``.
        processes: Number of processes; each has its own model and an equal share of torch's threads.
        batch_size: Rows in each pass through the model.
        keep: Columns of the table to write beside the predictions.
        overwrite: Replace predictions of another model or of other rows.
        raw_cells: Write texts into CSV unchanged, although a spreadsheet would interpret some as formulas.
        progress: Called with the number of finished parts and of all parts.
        warn: Called with a sentence on inputs that the shards lack and on columns that may stand for them; None: a
            Python warning.
    """
    if format not in FORMATS:
        raise ConfigError(f"predictions are not written as {format!r}", fix=" or ".join(FORMATS))
    if processes < 1:
        raise ConfigError(f"{processes} processes", fix="one or more")
    parts, folder = shards(Path(source)), Path(out)
    _look(schema_in(run), str(source), parts, keep, warn)
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, _identity(Path(run), parts, format, keep, raw_cells), overwrite)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    mine = [i for i in range(len(parts)) if i % world == rank]
    todo = [i for i in mine if not _part(folder, parts[i], format).exists()]
    done, problems = len(mine) - len(todo), list[Problem]()
    threads = max(1, torch.get_num_threads() // processes) if processes > 1 else torch.get_num_threads()
    job = Job(str(run), str(source), str(out), format, batch_size, threads, tuple(keep), raw_cells)
    for some in _in_turn(job, todo) if processes == 1 or len(todo) < 2 else _at_once(job, todo, processes):
        problems += some
        done += 1
        if progress is not None:
            progress(done, len(mine))
    return sorted(problems, key=lambda problem: problem.row or 0)


def _in_turn(job: Job, todo: Sequence[int]) -> Iterator[list[Problem]]:
    worker: _Worker | None = None
    for i in todo:
        worker = worker or _Worker(job)
        yield worker.predict(i)


def _at_once(job: Job, todo: Sequence[int], processes: int) -> Iterator[list[Problem]]:
    # Spawned, not forked: a fork of a process whose threads hold locks may wait for ever.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(todo)), context, _begin, (job,))
    others = set(multiprocessing.active_children())
    try:
        with _deaf():
            waiting = {pool.submit(_one, i) for i in todo}
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool:
        raise SensoriumError(
            "a process was killed, perhaps for want of memory", fix="run the same command again; finished parts are kept"
        ) from None
    except KeyboardInterrupt:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # a part that is not whole is not there
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started within do not hear Ctrl-C, which is the first one's: it ends the others."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: _Worker | None = None


def _begin(job: Job) -> None:
    global _worker
    torch.set_num_threads(job.threads)
    _worker = _Worker(job)


def _one(i: int) -> list[Problem]:
    assert _worker is not None, "the pool begins with it"
    return _worker.predict(i)


class _Worker:
    """A loaded model that predicts shards by their number."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.predictor: Predictor = load(job.run).predictor
        self.shards = shards(Path(job.source))
        source = Path(job.source).absolute()
        self.media = LocalFiles(source if source.is_dir() else source.parent, anywhere=True)

    def predict(self, i: int) -> list[Problem]:
        """Write the part of one shard, whole or not at all; the cells that could not be used, by row of all shards."""
        shard, problems = self.shards[i], list[Problem]()
        before = sum(len(other) for other in self.shards[:i])

        def reported(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
            for prediction in predictions:
                problems.extend(p._replace(row=None if p.row is None else p.row + before) for p in prediction.problems)
                yield prediction

        rows, again = tee(shard.records(load=True)) if self.job.keep else (shard.records(load=True), iter(()))
        beside = KeptColumns(again, self.job.keep, before + 1)
        predictions = reported(
            self.predictor.stream(rows, batch_size=self.job.batch_size, media=self.media, batch_invariant=True)
        )
        write(
            _part(Path(self.job.out), shard, self.job.format),
            predictions,
            self.predictor.model,
            beside,
            raw_cells=self.job.raw_cells,
        )
        return problems


def _part(folder: Path, shard: Shard, format: str) -> Path:
    return folder / f"{shard.path.stem}.{format}"


def _look(
    schema: Schema, source: str, parts: Sequence[Shard], keep: Sequence[str], warn: Callable[[str], None] | None
) -> None:
    """Raise if a column to keep is missing, and warn of missing inputs. The first shard stands for all."""
    columns = parts[0].columns()
    for name in keep:
        if name not in columns:
            raise DataError(f"no column named {name!r}{nearest(name, columns)}", file=source)
    if warn is not None and (absent := missing_columns_note(schema, source, columns)):
        warn(absent)
    elif warn is None and (meant := misnamed_hint(schema, columns)):
        warnings.warn(f"{source}: {meant}", stacklevel=3)


def _claim(folder: Path, identity: str, overwrite: bool) -> None:
    """Refuse a folder with the parts of another model or of other rows; the finished ones would be taken for these."""
    path = folder / PARTS
    existing = [file for form in FORMATS for file in folder.glob(f"*.{form}")]
    if path.is_file() and json.loads(path.read_text(encoding="utf-8"))["parts"] == identity:
        return
    if path.is_file() and not overwrite:
        fix = "give the same command to go on; or name another --out; or replace them: --overwrite"
        raise ConfigError("the folder holds predictions of another model, or for other rows", file=folder, fix=fix)
    if any(not overwrite or not is_earlier_result(file) for file in existing):
        raise ConfigError("the folder holds other files", file=folder, fix="name another folder")
    if overwrite and int(os.environ.get("WORLD_SIZE", 1)) > 1 and (existing or path.is_file()):
        raise ConfigError("several ranks write here, and none may replace it", file=folder, fix="delete it first")
    for file in existing:
        file.unlink()
    part = folder / f".{PARTS}.{os.getpid()}.part"
    part.write_text(json.dumps({"parts": identity}), encoding="utf-8")
    part.replace(path)


def _identity(run: Path, parts: Sequence[Shard], format: str, keep: Sequence[str], raw_cells: bool) -> str:
    """The model's manifest, and of each shard what is known without reading it."""
    h = hashlib.sha256(format.encode())
    h.update(json.dumps([*keep, raw_cells]).encode())
    manifest = run / MANIFEST
    h.update(manifest.read_bytes() if manifest.is_file() else b"")
    for shard in parts:
        h.update(f"{shard.path.name} {shard.path.stat().st_size} {shard.sha256}\n".encode())
    return h.hexdigest()[:16]
