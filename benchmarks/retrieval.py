"""Retrieval between pictures and sounds, and the speed of exact search.

python -m benchmarks.retrieval digits FOLDER     FOLDER holds train.csv and valid.csv with columns image, audio and label
python -m benchmarks.retrieval search            100,000 rows of 128 numbers

``digits`` trains on the first table and scores the second, for three seeds, with labels (rows of one label match, in the
loss and in the scores) and from pairs alone (labels in the scores only). A hit is an item of the same label, of which one
in ten is one: recall at 1 and mean average precision of chance are about 0.1. Beside it stands ridge regression from the
pixels of a picture to the mean and deviation of a sound's log-mel bands, and back.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

SEEDS = 3


def scores(one: torch.Tensor, other: torch.Tensor, same: list[str]) -> dict[str, float]:
    """Mean scores of both directions; hits are items of equal ``same``."""
    from sensorium.metrics.retrieval import rank_queries

    codes = torch.tensor([sorted(set(same)).index(label) for label in same])
    ways = [rank_queries(a, b, torch.cat([codes, codes]), ("recall", "precision")) for a, b in ((one, other), (other, one))]
    return {name: float(sum(way[name].mean() for way in ways) / 2) for name in ways[0]}


def by_ridge(train: Any, valid: Any, model: Any) -> dict[str, float]:
    """Ridge regression between plain features of both sides, with the strength chosen by cross-validation."""
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    from sensorium.data.files.media_access import LocalFiles

    def features(table: Any) -> list[np.ndarray]:
        media = LocalFiles(table.root, anywhere=True)
        samples = [model.schema.encode(row, media=media) for row in table.rows()]
        results: dict[str, list[np.ndarray]] = {"image": [], "audio": []}
        for start in range(0, len(samples), 64):
            inputs = model.predictor.batch(samples[start : start + 64]).inputs
            results["image"].append(inputs["image"].data.flatten(1).cpu().numpy())
            sound, mask = inputs["audio"].data.flatten(3), inputs["audio"].mask
            sound = sound.amax(dim=3) if sound.dim() == 4 else sound
            real = torch.ones(sound.shape[0], sound.shape[2]) if mask is None else mask.float()
            bands = inputs["audio"].data.flatten(1, 1) if inputs["audio"].data.dim() == 3 else inputs["audio"].data[:, 0]
            weight = real[:, :, None] / real.sum(dim=1)[:, None, None].clamp(min=1)
            mean = (bands * weight).sum(dim=1)
            spread = ((bands - mean[:, None]).square() * weight).sum(dim=1).sqrt()
            results["audio"].append(torch.cat([mean, spread], dim=1).cpu().numpy())
        return [np.concatenate(parts) for parts in results.values()]

    known, requested = features(train), features(valid)
    scaled = [StandardScaler().fit(side) for side in known]
    known = [scale.transform(side) for scale, side in zip(scaled, known, strict=True)]
    requested = [scale.transform(side) for scale, side in zip(scaled, requested, strict=True)]
    regression = RidgeCV(np.logspace(0, 5, 11)).fit(known[0], known[1])
    unit = [
        torch.nn.functional.normalize(torch.tensor(v).float(), dim=1)
        for v in (regression.predict(requested[0]), requested[1])
    ]
    return scores(*unit, [str(label) for label in valid.column("label")])


def digits(folder: Path, epochs: int, temperature: float) -> None:
    """Print the scores and processor seconds of every seed, and their mean and deviation."""
    import sensorium as sm

    train, valid = sm.Table.read(folder / "train.csv"), sm.Table.read(folder / "valid.csv")
    labels = [str(label) for label in valid.column("label")]
    labelled: dict[str, Any] = {"same": "label", "temperature": temperature}
    for name, options in (("labels", labelled), ("pairs", {})):
        results: list[dict[str, float]] = []
        for seed in range(SEEDS):
            with tempfile.TemporaryDirectory() as out:
                begun = time.process_time()
                model = sm.fit(
                    train,
                    task="retrieval",
                    options={"between": ["image", "audio"], **options},
                    ignore=[c for c in train.columns if c not in ("image", "audio", options.get("same"))],
                    seed=seed,
                    overrides=[f"training.epochs={epochs}"],
                    out=Path(out) / "run",
                    quiet=True,
                )
                seconds = time.process_time() - begun
                rows = list(model.predictor.side_vectors(valid.rows(), "retrieval", media=_media(valid)))
            vectors = torch.stack([row.vectors for row in rows])
            results.append({**scores(vectors[:, 0], vectors[:, 1], labels), "seconds": seconds})
            print(name, seed, {key: round(value, 3) for key, value in results[-1].items()}, flush=True)
        print(
            name,
            {key: f"{np.mean(v):.3f} ± {np.std(v):.3f}" for key in results[0] if (v := [f[key] for f in results])},
            flush=True,
        )
        if name == "labels":
            ridge = by_ridge(train, valid, model)
            print("ridge", {key: round(value, 3) for key, value in ridge.items()}, flush=True)


def _media(table: Any) -> Any:
    from sensorium.data.files.media_access import LocalFiles

    return LocalFiles(table.root, anywhere=True)


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
    parser.add_argument("what", choices=["digits", "search"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--temperature", type=float, default=0.2, help="with labels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "search":
        search()
    else:
        digits(arguments.folder, arguments.epochs, arguments.temperature)
