"""``python -m benchmarks.words_out DATA [settings] [--sets easy_vqa,nlvr,scenes] [--seeds 3]``: sentences generated.

``easy_vqa`` (``image``, ``question``, ``label``): the answer is generated; beside it the same question with the
picture of another row, and the answer of a classifier that has no picture. ``nlvr`` (``image``, ``text``, ``label``,
``group``): captions are the sentences that are true of their picture. The pictures of a ``group`` have the same sentence
and the same boxes in another order, so no group is on both sides of a split, and ``gain_by_group`` has intervals over
groups. ``scenes`` are drawn by ``sensorium.data.synthetic_captions``, 1,200 to learn from and 400 to score, with full
sentences; they need no data. Prints one JSON line for each set and seed: scores on held-out rows with their intervals,
those of the controls with the intervals of the gains, and the CPU seconds of training. With ``--held-out`` a fifth of the
training rows is scored instead, to choose settings by.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

import sensorium as sm
from sensorium.data.splitting import split
from sensorium.data.synthetic_captions import make
from sensorium.evaluation.bootstrap import bounds
from sensorium.heads.sentence_scorer import tokens
from sensorium.metrics.bleu import bleu, bleu_statistics
from sensorium.metrics.sentences import cider_d, exact_match, rouge_l, token_f1
from sensorium.metrics.weighting import mean

RESAMPLES = 1000
Score = Callable[[list[str], list[list[str]], Tensor], Tensor]
"""Scores of generated sentences beside their references, for each of several weightings of the rows."""


def true_pairs(path: Path) -> sm.Table:
    """The rows whose sentence is true of their picture."""
    table = sm.Table.read(path)
    labels = [str(cell).strip().lower() for cell in table.column("label")]
    return table.take([i for i, label in enumerate(labels) if label in ("true", "1")])


def fit(train: Any, overrides: Sequence[str], **options: Any) -> tuple[Any, int]:
    """A model, and the CPU seconds of its training."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    model = sm.fit(train, overrides=list(overrides), quiet=True, **options)
    return model, round(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)


def scores(model: Any, table: Any) -> dict[str, Any]:
    """Scores of the only target, with those of the controls."""
    (target,) = model.evaluate(table).targets.values()
    return {
        "metrics": target.metrics,
        "intervals": target.intervals,
        "constant": target.baseline,
        "controls": {name: {"metrics": c.metrics, "gain": c.gain} for name, c in target.controls.items()},
    }


def tables(train: sm.Table, held_out: sm.Table | None) -> tuple[sm.Table, sm.Table]:
    """Rows to learn from and to score: ``train`` itself is divided where there are no ``held_out`` rows."""
    if held_out is not None:
        return train, held_out
    cut = len(train) * 4 // 5
    return train.take(range(cut)), train.take(range(cut, len(train)))


def questions(root: Path, seed: int, overrides: Sequence[str], within: bool) -> dict[str, Any]:
    """Questions about pictures."""
    train, scored = tables(sm.Table.read(root / "train.csv"), None if within else sm.Table.read(root / "valid.csv"))
    common = {"target": "label", "task": "answering", "options": {"prompt": "question"}, "seed": seed}
    ignored = [name for name in train.columns if name not in ("image", "question", "label")]
    model, seconds = fit(train, overrides, ignore=ignored, **common)
    result = {"cpu_seconds": seconds, **scores(model, scored)}
    blind, _ = fit(train, (), target="label", ignore=[*ignored, "image"], columns={"question": "text"}, seed=seed)
    result["blind_accuracy"] = blind.evaluate(scored).targets["label"].metrics["accuracy"]
    return result


def captions(root: Path, seed: int, overrides: Sequence[str], within: bool) -> dict[str, Any]:
    """Captions of pictures of boxes."""
    train = true_pairs(root / "train.jsonl")
    if within:
        known, held_out = split(train, part=0.2, kind="group", by="group", seed=0)
        train, scored = train.take(known.tolist()), train.take(held_out.tolist())
    else:
        scored = true_pairs(root / "valid.jsonl")
    ignored = [name for name in train.columns if name not in ("image", "text", "group")]
    settings = ["data.split={kind: group, by: group, part: 0.15}", "columns.group={role: group}", *overrides]
    model, seconds = fit(train, settings, target="text", task="captioning", ignore=ignored, seed=seed)
    return {"cpu_seconds": seconds, **scores(model, scored), **by_group(model, scored)}


def by_group(model: Any, table: sm.Table) -> dict[str, Any]:
    """Gains over pictures of other groups with intervals over groups, and sentences that were generated most often."""
    groups = [str(cell) for cell in table.column("group")]
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(groups), generator=generator).tolist()
    # The next row of another group, in an order drawn at random.
    other = {row: next(o for o in [*order[i + 1 :], *order[:i]] if groups[o] != groups[row]) for i, row in enumerate(order)}
    pictures = table.column("image")
    shuffled = table.with_column("image", [pictures[other[i]] for i in range(len(groups))])
    references = [[str(cell)] for cell in table.column("text")]
    own, others = ([str(answer.value) for answer in model.predict(rows)] for rows in (table, shuffled))
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    index = torch.tensor([number[group] for group in groups])
    drawn = torch.randint(len(number), (RESAMPLES, len(number)), generator=generator)
    weights = torch.stack([torch.bincount(draw, minlength=len(number)) for draw in drawn])[:, index].double()
    gains = {}
    for name, score in METRICS.items():
        first, second = score(own, references, weights), score(others, references, weights)
        gains[name] = bounds(first - second)
    return {"groups": len(number), "gain_by_group": gains, "most_frequent": Counter(own).most_common(5)}


def _of_rows(metric: Callable[..., float]) -> Score:
    def score(generated: list[str], references: list[list[str]], weights: Tensor) -> Tensor:
        pairs = zip(map(tokens, generated), references, strict=True)
        values = [metric(text, [tokens(sentence) for sentence in row]) for text, row in pairs]
        return mean(torch.tensor(values, dtype=torch.float64), weights)

    return score


def _cider(generated: list[str], references: list[list[str]], weights: Tensor) -> Tensor:
    return mean(cider_d(list(map(tokens, generated)), [list(map(tokens, row)) for row in references]), weights)


METRICS: dict[str, Score] = {
    "cider": _cider,
    "bleu": lambda generated, references, weights: bleu(bleu_statistics(generated, references), weights),
    "rouge_l": _of_rows(rouge_l),
    "token_f1": _of_rows(token_f1),
    "exact_match": _of_rows(exact_match),
}


def scenes(_: Path, seed: int, overrides: Sequence[str], within: bool) -> dict[str, Any]:
    """Captions of drawn pictures, of which each seed has its own."""
    with TemporaryDirectory() as folder:
        paths = make(folder, rows=1600, seed=seed, sentences=True)
        train, scored = tables(sm.Table.read(paths["train"]), None if within else sm.Table.read(paths["test"]))
        ignored = ["question", "answer"]
        model, seconds = fit(train, overrides, target="caption", task="captioning", ignore=ignored, seed=seed)
        return {"cpu_seconds": seconds, **scores(model, scored)}


WAYS = {"easy_vqa": questions, "nlvr": captions, "scenes": scenes}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.words_out", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the sets")
    parser.add_argument("--sets", default=",".join(WAYS), help="names, separated by commas")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--held-out", action="store_true", help="score a fifth of the training rows")
    parser.add_argument("overrides", nargs="*", help="settings of the recipe, as for fit")
    options = parser.parse_intermixed_args()
    for name in options.sets.split(","):
        for seed in range(options.seeds):
            result = WAYS[name](options.data / name, seed, options.overrides, options.held_out)
            print(json.dumps({"set": name, "seed": seed, **result}), flush=True)


if __name__ == "__main__":
    main()
