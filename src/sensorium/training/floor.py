"""What each part of a model reaches by itself: whether the network earned its time beside what is fitted in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from sensorium.console import Console
from sensorium.core.contracts import Task
from sensorium.core.forward import Forward
from sensorium.core.scorer import Scorer, plain_scores
from sensorium.nn.ensemble import NETWORK, Ensemble
from sensorium.trained import Trained


def floor(trained: Trained, passes: Iterable[Forward], console: Console) -> dict[str, Any]:
    """The headline of every part on rows that none of them was fitted on, by task: of the network, of each expert, of each
    expert on each stream alone, and of all together; and how much each counts. Empty without experts.

    ``passes``: of the model, or of others of the same parts that were fitted on other rows.
    """
    model = trained.predictor.model
    ensemble = model.experts
    if not isinstance(ensemble, Ensemble):
        return {}
    found: dict[str, dict[str, Scorer[Any]]] = {}
    with torch.inference_mode():
        for run in passes:
            counted, experts = run.batch.counting(), run.model.experts
            assert isinstance(experts, Ensemble)
            for name in ensemble.experts:
                task, scorers = model.tasks[name], found.setdefault(name, {})
                said = {"together": run.outputs[name], **({NETWORK: run.own[name]} if model.network else {})}
                present = {stream: part.present for stream, part in run.kept.items()}
                said |= {k: task.scored(s) for k, s in experts.scores(name, run.read, present).items()}
                for stream in ensemble.heard if len(model.streams) > 1 else ():
                    only = {s: here & (s == stream) for s, here in present.items()}
                    each = experts.scores(name, run.read, only)
                    said |= {f"{kind} on {stream}": task.scored(score) for kind, score in each.items()}
                for part, output in said.items():
                    scorers.setdefault(part, task.scorer()).update(output, counted)
    told: dict[str, Any] = {}
    for name, scorers in found.items():
        task = model.tasks[name]
        scores = {part: plain_scores(scorer)[task.headline] for part, scorer in scorers.items()}
        blend = ensemble.blends[name]
        share = dict(zip(blend.parts, blend.share[0].tolist(), strict=True))
        told[name] = {"metric": task.headline, "scores": scores, "share": share}
        for line in lines(name, told[name], task):
            console.note(f"  {line}")
    return {"floor": told}


def lines(name: str, told: dict[str, Any], task: Task[Any]) -> list[str]:
    """What the floor says, in words."""
    scores, share, metric = told["scores"], told["share"], told["metric"]
    better = max if task.higher_is_better else min
    experts = {kind: scores[kind] for kind in share if kind != NETWORK}
    simple = better(experts, key=lambda kind: experts[kind])
    said = f"{name}: {metric} {scores['together']:.3f} together; best simple method {simple} {experts[simple]:.3f}"
    if NETWORK in share:
        said += f", network {scores[NETWORK]:.3f}"
    found = [said]
    parts = ", ".join(f"{part} {100 * value:.0f} %" for part, value in share.items())
    if NETWORK in share:
        gain = scores["together"] - experts[simple]
        gain = gain if task.higher_is_better else -gain
        earned = share[NETWORK] > 0 and gain > 0
        verdict = "the network earned its time" if earned else "the network added nothing: --quality fast is as good here"
        found.append(f"{name}: {parts}; {verdict}")
    else:
        found.append(f"{name}: {parts}")
    return found
