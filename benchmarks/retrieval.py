"""Retrieval between streams beside simple methods and chance, and the speed of exact search.

python -m benchmarks.retrieval labels FOLDER     pictures and sounds of digits; rows of one label match in training too
python -m benchmarks.retrieval pairs FOLDER      the same, trained from pairs alone
python -m benchmarks.retrieval indirect FOLDER   pictures and signs; training rows lack one of them
python -m benchmarks.retrieval direct FOLDER     the same, trained on rows that have all three
python -m benchmarks.retrieval nlvr FOLDER       true sentences about pictures
python -m benchmarks.retrieval scenes            drawn scenes and captions
python -m benchmarks.retrieval search            the speed of search in 100,000 rows of 128 numbers

The FOLDER of digits holds train.csv and valid.csv with the columns image, audio, sign_image and label (av_digits), that of
nlvr train.jsonl and valid.jsonl with image, text, group and label. Each trains on the first table and scores the second,
for three seeds. A hit is an item with the same label, group or caption. Beside each model stand the simple methods that
``fit`` fits to the same rows, and ranking at random.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch

SEEDS = (0, 1, 2)
FAST = ["training.batch_size=64", "training.lr=0.006"]
MODEL = "model"


def scores(vectors: torch.Tensor, codes: torch.Tensor, ways: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Mean scores of ``vectors`` ``[N, S, E]`` over the ``ways``, sides of query and gallery; hits have equal ``codes``."""
    from sensorium.metrics.retrieval import rank_queries

    same = torch.cat([codes, codes])
    each = [rank_queries(vectors[:, a], vectors[:, b], same, ("recall", "precision")) for a, b in ways]
    return {name: float(torch.stack([way[name].nanmean() for way in each]).mean()) for name in each[0]}


def run(
    train: Any,
    valid: Any,
    options: Mapping[str, Any],
    seed: int,
    overrides: Sequence[str],
    hits: str,
    ways: Sequence[tuple[int, int]] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, float]]:
    """The scores of a model, of the simple methods beside it and of chance, on rows of ``valid`` that have every side;
    ``hits`` is the column of whose values equal ones are hits. With ``model`` are its processor seconds."""
    import sensorium as sm
    from sensorium.core.forward import Forward
    from sensorium.metrics.retrieval import chance

    read = {stream for side in options["between"] for stream in side.split("+")} | {options.get("same")}
    begun = time.process_time()
    model = sm.fit(
        train,
        task="retrieval",
        options=options,
        columns=columns,
        seed=seed,
        overrides=[*FAST, *overrides],
        quiet=True,
        ignore=[column for column in train.columns if column not in read],
    )
    seconds = time.process_time() - begun
    task: Any = model.model.tasks["retrieval"]
    rows: dict[str, list[torch.Tensor]] = {}
    with torch.inference_mode():
        for batch in model.batches(model.encode(valid)):
            output = Forward(model.model.eval(), batch).outputs["retrieval"]
            for name, each in {MODEL: output, **task.reference_outputs(output, batch)}.items():
                rows.setdefault(name, []).append(each.vectors)
    values = [str(value) for value in valid.column(hits)]
    codes = torch.tensor([sorted(set(values)).index(value) for value in values])
    ways = ways or list(permutations(range(len(options["between"])), 2))
    results = {name: scores(torch.cat(parts), codes, ways) for name, parts in rows.items()}
    random = chance(torch.cat([codes, codes]), len(codes))
    results["chance"] = {name: float(random[name].nanmean()) for name in results[MODEL]}
    results[MODEL]["seconds"] = seconds
    return results


def report(name: str, runs: list[dict[str, dict[str, float]]]) -> None:
    """Print mean and deviation over the runs."""
    for method in runs[0]:
        each = {key: [one[method][key] for one in runs] for key in runs[0][method]}
        shown = ", ".join(f"{key} {np.mean(values):.3f} ± {np.std(values):.3f}" for key, values in each.items())
        print(f"{name}: {method}: {shown}", flush=True)


def each_seed(name: str, seeds: Sequence[int], *arguments: Any, **more: Any) -> None:
    """Run, print and report every seed."""
    runs = []
    for seed in seeds:
        train, valid, options, overrides, hits = arguments
        runs.append(run(train, valid, options, seed, overrides, hits, **more))
        print(name, seed, {m: {k: round(v, 3) for k, v in s.items()} for m, s in runs[-1].items()}, flush=True)
    report(name, runs)


def tables(folder: Path, ending: str) -> tuple[Any, Any]:
    """The training and the validation table of ``folder``."""
    import sensorium as sm

    return sm.Table.read(folder / f"train.{ending}"), sm.Table.read(folder / f"valid.{ending}")


def digits(what: str, folder: Path, seeds: Sequence[int]) -> None:
    """Digits seen, heard and signed: ``labels``, ``pairs``, ``indirect`` or ``direct``."""
    import sensorium as sm

    train, valid = tables(folder, "csv")
    options: dict[str, Any] = {"between": ["image", "audio"], "temperature": 0.2}
    ways = None
    if what == "labels":
        options["same"] = "label"
    elif what in ("indirect", "direct"):
        options["between"], ways = ["image", "audio", "sign_image"], [(0, 2), (2, 0)]
        rows = absolute(train)
        if what == "indirect":
            rows = [{**row, ("sign_image" if i % 2 else "image"): None} for i, row in enumerate(rows)]
        train = sm.Table.read(rows)
    each_seed(what, seeds, train, valid, options, ["training.epochs=16"], "label", ways=ways)


def absolute(table: Any) -> list[dict[str, Any]]:
    """The rows of a table with the full paths of their media."""
    return [
        {
            name: str(table.root / cell) if isinstance(cell, str) and (table.root / cell).is_file() else cell
            for name, cell in row.items()
        }
        for row in table.rows()
    ]


def nlvr(folder: Path, seeds: Sequence[int]) -> None:
    train, valid = (
        table.take([i for i, v in enumerate(table.column("label")) if str(v) == "1"]) for table in tables(folder, "jsonl")
    )
    each_seed("nlvr", seeds, train, valid, {"between": ["image", "text"], "same": "group"}, ["training.epochs=20"], "group")


def scenes(seeds: Sequence[int]) -> None:
    import sensorium as sm
    from sensorium.data.synthetic_captions import make

    with tempfile.TemporaryDirectory() as out:
        made = make(out, rows=2000, seed=0, test=0.25, sentences=True)
        train, valid = (sm.Table.read(made[name]) for name in ("train", "test"))
        columns = {"same_caption": {"of": "caption", "kind": "key"}}
        options = {"between": ["photo", "caption"], "same": "same_caption"}
        each_seed("scenes", seeds, train, valid, options, ["training.epochs=20"], "caption", columns=columns)


def search(rows: int = 100_000, width: int = 128) -> None:
    """Print how long it takes to write, open and search an index."""
    from sensorium.retrieval.index_files import Contents, read_index, write_index
    from sensorium.retrieval.nearest import nearest_rows

    draw = np.random.default_rng(0)
    centres = draw.normal(size=(2_000, width)).astype(np.float32)
    vectors = centres[draw.integers(0, len(centres), rows)] + 0.7 * draw.normal(size=(2, rows, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    ids = [str(i) for i in range(rows)]
    cells: dict[str, list[Any]] = {"title": [f"row {i}" for i in range(rows)], "price": list(range(rows))}
    made = Contents("digest", "", "retrieval", ("a", "b"), ids, cells, 1, np.ones((2, rows), dtype=bool), vectors)
    made = replace(made, approximate=True)
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        write_index(Path(out), made)
        print(f"write {time.perf_counter() - begun:.2f} s")
        begun = time.perf_counter()
        index = read_index(Path(out))
        print(f"open and verify {time.perf_counter() - begun:.2f} s")
        for queries in (1, 64):
            requested = np.array(vectors[:, :queries])
            present = np.zeros((2, queries), dtype=bool)
            present[0] = True
            nearest_rows(index, requested, present)
            begun, rounds = time.perf_counter(), 20 if queries == 1 else 3
            for _ in range(rounds):
                nearest_rows(index, requested, present)
            seconds = (time.perf_counter() - begun) / rounds
            print(f"{queries} queries at a time: {queries / seconds:.0f} a second, {1000 * seconds:.1f} ms")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        present = np.zeros((2, 200), dtype=bool)
        present[0] = True
        requested = np.array(vectors[:, :200])
        exact = nearest_rows(index, requested, present).places
        begun = time.perf_counter()
        nearest_rows(index, requested[:, :1], present[:, :1], exact=False)
        print(f"first approximate query {time.perf_counter() - begun:.2f} s")
        begun = time.perf_counter()
        near = np.concatenate(
            [nearest_rows(index, requested[:, [q]], present[:, [q]], exact=False).places for q in range(200)]
        )
        seconds = (time.perf_counter() - begun) / 200
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), near.tolist(), strict=True)])
        print(f"approximate, one at a time: {1 / seconds:.0f} a second, {1000 * seconds:.1f} ms, recall at 10 {recall:.3f}")
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        print(f"memory of the approximate index {more:.0f} MiB")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB, of which the vectors made here are {vectors.nbytes >> 20}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["labels", "pairs", "indirect", "direct", "nlvr", "scenes", "search"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "search":
        search()
    elif arguments.what == "scenes":
        scenes(arguments.seeds)
    elif arguments.what == "nlvr":
        nlvr(arguments.folder, arguments.seeds)
    else:
        digits(arguments.what, arguments.folder, arguments.seeds)
