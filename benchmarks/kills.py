"""``python -m benchmarks.kills [--count 50] [--seed 0]``: check that runs which are killed and resumed end with the same
result as an undisturbed one.

Runs are killed with SIGKILL, half of the times at a random time and half at a random critical moment: while arrays are
written to the store, before a file is flushed to the disk, and before and after it is renamed. The same command with
``--resume`` then continues, until it finishes. Its weights, schema, recipe, store and report (times left out) must equal
those of the undisturbed run bit for bit; and after every kill, the model and the checkpoint must be complete or absent.

Runs are forked from a process that has imported everything, so that a kill costs no start of Python. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a process that has used a GPU cannot be forked

OPTIONS = (
    "model.size=tiny",
    "training.batch_size=8",
    "training.epochs=3",
    "training.checkpoint_every=0.001",
    "training.threads=1",
    "model.experts=[linear]",
)
FILES = ("model.safetensors", "schema.json", "recipe.yaml")


class Moments:
    """Counter of critical moments that kills this process at a given one."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.seen = at, 0

    def pass_by(self) -> bool:
        self.seen += 1
        return self.seen == self.at

    def __enter__(self) -> Moments:
        from sensorium.data.store import array_file

        self.kept = (os.replace, os.fsync, array_file._write_all)
        replace, fsync, write_all = self.kept

        def replacing(source: Any, target: Any) -> None:
            if self.pass_by():
                die()
            replace(source, target)
            if self.pass_by():
                die()

        def syncing(file: int) -> None:
            if self.pass_by():
                die()
            fsync(file)

        def writing(file: Any, data: bytes) -> None:
            if data and self.pass_by():
                file.write(data[: len(data) // 2])
                die()
            write_all(file, data)

        os.replace, os.fsync, array_file._write_all = replacing, syncing, writing  # type: ignore[assignment]
        return self

    def __exit__(self, *error: object) -> None:
        from sensorium.data.store import array_file

        os.replace, os.fsync, array_file._write_all = self.kept


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fit(table: Path, out: Path, cache: Path) -> None:
    import sensorium as sm
    from sensorium.training import callbacks

    callbacks.CHECKPOINT_INTERVAL = 0  # as many checkpoints as possible, so that some kills hit one
    sm.fit(
        table / "train.csv",
        target="event",
        ignore=["cost", "tags", "when"],
        valid=table / "valid.csv",
        overrides=OPTIONS,
        out=out,
        cache=cache,
        resume=True,
        quiet=True,
    )


def killed(work: Callable[[], None], after: float | None, at: int | None) -> bool:
    """Run the work in a process that is killed after some seconds or at a moment; return whether it was killed before its
    end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with Moments(at):
                work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + (after if after is not None else 3600)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                return True
            if status != 0:
                raise AssertionError("a resumed run failed: its traceback is above")
            return False
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.002)


def left(out: Path) -> str:
    """Check that the files a kill left are complete or absent; return a description of them."""
    from sensorium.artifact import Artifact
    from sensorium.core.errors import ArtifactError

    checkpoint = out / "resume" / "last.ckpt"
    if checkpoint.exists():
        with zipfile.ZipFile(checkpoint) as archive:
            if archive.testzip() is not None:
                raise AssertionError("a checkpoint is half-written")
    if (out / "manifest.json").exists():
        Artifact.load(out)
        return "a saved model"
    try:
        Artifact.load(out)
    except ArtifactError:
        return "a checkpoint" if checkpoint.exists() else "no checkpoint yet"
    raise AssertionError("a model without a manifest was read")


def document(out: Path) -> Any:
    """Return the report without times."""
    result = json.loads((out / "report.json").read_text())
    for record in result["history"]:
        del record["seconds"]
    return result


def arrays(cache: Path) -> dict[tuple[str, bytes], bytes]:
    """Return the bytes of all arrays of a store, by cache and digest."""
    results = {}
    for index in cache.glob("*/index.sqlite"):
        values = (index.parent / "values.bin").read_bytes()
        with sqlite3.connect(index) as db:
            places = sorted(db.execute("SELECT offset, digest FROM cells WHERE offset >= 0"))
            (end,) = db.execute("SELECT bytes FROM extent").fetchone()
        db.close()
        for (offset, digest), (stop, _) in zip(places, [*places[1:], (end, b"")], strict=True):
            results[index.parent.name, digest] = values[offset:stop]
    return results


def same(out: Path, cache: Path, undisturbed: Path, undisturbed_cache: Path) -> None:
    for name in FILES:
        if (out / name).read_bytes() != (undisturbed / name).read_bytes():
            raise AssertionError(f"{name} differs from that of the undisturbed run")
    if document(out) != document(undisturbed):
        raise AssertionError("the report differs from that of the undisturbed run")
    if arrays(cache) != arrays(undisturbed_cache):
        raise AssertionError("the store differs from that of the undisturbed run")


def run(count: int, seed: int, folder: Path, rows: int = 60, say: Callable[[str], None] = print) -> Counter[str]:
    """Kill and resume runs until there were ``count`` kills; return the number of kills by what they left."""
    import torch

    from sensorium.data.synthetic import make

    torch.set_num_threads(1)
    table = folder / "table"
    make(table, rows=rows, holes=0.15, targets=("event", "cost", "tags"), valid=0.2, test=0.0)
    fit(table, folder / "warm", folder / "warm-cache")
    began = time.monotonic()
    with Moments() as moments:
        fit(table, folder / "whole", folder / "whole-cache")
    seconds, most = time.monotonic() - began, moments.seen
    say(f"an undisturbed run takes {seconds:.1f} s and passes {most} critical moments")
    chance, kills, runs = random.Random(seed), 0, 0
    result: Counter[str] = Counter()
    while kills < count:
        runs += 1
        out, cache = folder / f"run-{runs}", folder / f"cache-{runs}"
        while True:
            aimed = kills % 2 == 1
            after = None if aimed or kills >= count else chance.uniform(0.0, 1.1 * seconds)
            at = chance.randint(1, most) if aimed and kills < count else None
            if not killed(lambda out=out, cache=cache: fit(table, out, cache), after, at):  # type: ignore[misc]
                break
            kills += 1
            result[left(out)] += 1
        same(out, cache, folder / "whole", folder / "whole-cache")
        say(f"run {runs} ended with the same result as the undisturbed one, {kills} kills so far")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(arguments.count, arguments.seed, Path(folder), arguments.rows)
    print(", ".join(f"{n} left {what}" for what, n in result.items()))


if __name__ == "__main__":
    main()
