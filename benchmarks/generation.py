"""Made digits judged by a classifier of their own, and whether made rows help where labels are few.

    python -m benchmarks.generation FOLDER [--seeds 0 1 2] [--parts digits scarce] [--maker vae|gan] [--epochs N]
        [--picture FILE]

``FOLDER`` holds ``train.csv`` and ``valid.csv`` with the columns ``image`` and ``label`` and the pictures (av_digits). The
classifier is a small convolutional network trained on the training rows alone; the generator knows nothing of it.
``scarce`` takes five training rows of each label, trains a classifier on them (a network alone), a generator on the same
rows, and the classifier again with twice as many made rows added; both are scored on ``valid.csv``.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import sensorium as sm
from sensorium.data.made_rows import MARK
from sensorium.metrics import generation as metrics
from sensorium.nn.grid_generator import Trunk

FEW = 5
"""Rows of each label, where labels are few."""


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8") as file:
        return [{"image": str(folder / row["image"]), "label": row["label"]} for row in csv.DictReader(file)]


def pixels(rows: list[dict[str, Any]]) -> Tensor:
    """The pictures of ``rows`` ``[n, 1, H, W]`` from -1 to 1."""
    pictures = [np.asarray(row["image"] if hasattr(row["image"], "shape") else Image.open(row["image"])) for row in rows]
    return torch.from_numpy(np.stack(pictures)).float()[:, None] / 127.5 - 1


class Classifier(nn.Module):
    """A classifier of digits that is independent of the generators; ``features`` are its last hidden layer."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(Trunk((1, size, size), 64, 24), nn.GELU())
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, classes))

    def features(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.eval().trunk(part) for part in torch.split(images, 256)]).double()

    def answers(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.eval().head(self.trunk(part)) for part in torch.split(images, 256)]).argmax(dim=1)

    def learn(self, images: Tensor, labels: Tensor, epochs: int = 12) -> None:
        steps = epochs * (len(images) // 50)
        optimiser = torch.optim.AdamW(self.parameters(), lr=2e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        self.train()
        for step in range(steps):
            index = torch.randint(len(images), (50,), generator=torch.Generator().manual_seed(step))
            loss = nn.functional.cross_entropy(self.head(self.trunk(images[index])), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def draw(model: Any, names: list[str], path: Path, each: int = 8) -> None:
    """Write made pictures to ``path``, a column for each label."""
    made = pixels(model.sample(each, rows=[{"label": name} for name in names], seed=0)).squeeze(1)
    columns = made.reshape(len(names), each, *made.shape[1:])
    grid = columns.permute(1, 2, 0, 3).reshape(each * made.shape[1], len(names) * made.shape[2])
    Image.fromarray(((grid + 1) * 127.5).round().to(torch.uint8).numpy()).save(path, optimize=True)


def digits(folder: Path, seed: int, maker: str, epochs: int | None, picture: Path | None = None) -> dict[str, float]:
    """The scores of pictures made for the labels of ``valid.csv``; some are drawn to ``picture``."""
    training, valid = rows_of(folder, "train.csv"), rows_of(folder, "valid.csv")
    names = sorted({row["label"] for row in training})
    began = time.process_time()
    options = {"given": ["label"], "maker": maker}
    model = sm.fit(training, target="image", task="generation", options=options, seed=seed, epochs=epochs, quiet=True)
    seconds = time.process_time() - began
    if picture is not None:
        draw(model, names, picture)
    real, own = pixels(valid), torch.tensor([names.index(row["label"]) for row in valid])
    made = pixels(model.sample(1, rows=[{"label": row["label"]} for row in valid], seed=seed))
    torch.manual_seed(seed)
    judge = Classifier(real.shape[-1], len(names))
    known = pixels(training)
    judge.learn(known, torch.tensor([names.index(row["label"]) for row in training]))
    a, b, one = judge.features(real), judge.features(made), torch.ones(1, len(real), dtype=torch.float64)
    near = [metrics.nearest_rows(part.flatten(1), known.flatten(1))[0].double() for part in (made, real)]
    return {
        "label agreement": float((judge.answers(made) == own).double().mean()),
        "classifier on real rows": float((judge.answers(real) == own).double().mean()),
        "coverage": float(metrics.coverage(a, b, one)[0]),
        "precision": float(metrics.precision(a, b, one)[0]),
        "recall": float(metrics.recall(a, b, one)[0]),
        "density": float(metrics.density(a, b, one)[0]),
        "frechet": float(metrics.frechet(a, b, one)[0]),
        "nearness (pixels)": float(metrics.memorised(near[0], near[1], one)[0]),
        "CPU s": seconds,
    }


def scarce(folder: Path, seed: int, maker: str, epochs: int | None) -> dict[str, float]:
    """Accuracies on ``valid.csv`` after five rows of each label, without and with made rows."""
    training, valid = rows_of(folder, "train.csv"), rows_of(folder, "valid.csv")
    order = np.random.default_rng(seed).permutation(len(training)).tolist()
    few: list[dict[str, Any]] = []
    for i in order:
        if sum(row["label"] == training[i]["label"] for row in few) < FEW:
            few.append(training[i])
    began = time.process_time()
    options: dict[str, Any] = {"given": ["label"], "maker": maker}
    generator = sm.fit(few, target="image", task="generation", options=options, seed=seed, epochs=epochs, quiet=True)
    made = generator.sample(2, rows=[{"label": row["label"]} for row in few], seed=seed)
    assert all(row[MARK] for row in made)
    scores: dict[str, float] = {}
    for name, rows in (("without", few), ("with 2.0 made", [*few, *made])):
        alone = ["model.experts=[]", "training.refit=none"]
        kinds = {"image": "image"}
        model = sm.fit(rows, target="label", columns=kinds, seed=seed, epochs=30, overrides=alone, quiet=True)
        scores[name] = model.evaluate(valid).targets["label"].metrics["accuracy"]
    return {**scores, "CPU s": time.process_time() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", default=["digits", "scarce"], choices=["digits", "scarce"])
    parser.add_argument("--maker", default="vae", choices=["vae", "gan"])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--picture", type=Path, help="a PNG of made digits, of the first seed")
    asked = parser.parse_args()
    for part in asked.parts:
        results = []
        for seed in asked.seeds:
            if part == "digits":
                picture = asked.picture if seed == asked.seeds[0] else None
                results.append(digits(asked.folder, seed, asked.maker, asked.epochs, picture))
            else:
                results.append(scarce(asked.folder, seed, asked.maker, asked.epochs))
            print(part, "seed", seed, {name: round(value, 3) for name, value in results[-1].items()}, flush=True)
        for name in results[0]:
            values = [result[name] for result in results]
            print(f"{part}: {name} {mean(values):.3f} ± {pstdev(values):.3f}", flush=True)


if __name__ == "__main__":
    main()
