"""Checks of experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core.expert import Expert, Observed, Response
from sensorium.core.registry import build, find
from sensorium.nn.linear_solvers import loss
from sensorium.testing import option_values
from sensorium.testing.general import assert_same, check_description

STREAMS = ("words", "table", "sound")
ROWS, HELD = 160, 80
RESPONSES = {
    "classes": Response("classes", 3),
    "ordered": Response("ordered", 4),
    "labels": Response("labels", 2),
    "number": Response("number", 1),
    "risk": Response("risk", 1),
}


def check_expert(kind: str) -> None:
    """Check the expert ``kind``: it learns from the streams present, and its answers are the same alone, in a batch and
    after loading, with any stream absent."""
    check_description("experts", kind)
    assert find("experts", kind).cost.strip(), f"experts/{kind}: does not say what fitting it costs"
    for name in find("experts", kind).answers:
        _check_response(kind, RESPONSES[name])


def observed(response: Response, rows: int = ROWS, seed: int = 0) -> Observed:
    """``rows`` synthetic rows of three streams for ``response``, drawn by ``seed``: the first is sparse, any may be
    absent, each is informative."""
    draw = np.random.default_rng(seed)
    hidden = draw.normal(size=rows)
    level = hidden + 0.3 * draw.normal(size=rows)
    words = np.where(draw.random((rows, 30)) < 0.2, 1.0, 0.0) * (1 + (np.arange(30) % 2 * 2 - 1) * hidden[:, None]).clip(0)
    table = np.stack([hidden + 0.5 * draw.normal(size=rows), draw.normal(size=rows), np.abs(hidden)], axis=1)
    sound = 5 + 0.1 * np.stack([hidden * (k + 1) + draw.normal(size=rows) for k in range(4)], axis=1)
    present = {stream: draw.random(rows) < 0.8 for stream in STREAMS}
    present["table"] |= ~np.any([*present.values()], axis=0)
    plain = {"words": words, "table": table, "sound": sound}
    features: dict[str, Any] = {s: (x * present[s][:, None]).astype(np.float32) for s, x in plain.items()}
    compact = {stream: part.copy() for stream, part in features.items()}
    compact["table"][draw.random(rows) < 0.2, 0] = np.nan
    compact["table"][~present["table"]] = 0.0
    return Observed(_stored(features), compact, present, _target(response, level), np.where(level > 0, 1.5, 1.0))


def _stored(features: dict[str, Any]) -> dict[str, Any]:
    """Return the features in the form passed to ``fit``: ``words`` as a CSR matrix."""
    from scipy import sparse

    return {**features, "words": sparse.csr_matrix(features["words"])}


def _target(response: Response, level: NDArray[np.float64]) -> NDArray[Any]:
    if response.kind == "number":
        return 10 + 3 * level
    if response.kind == "risk":
        draw = np.random.default_rng(len(level))
        died, left = draw.exponential(np.exp(-2.5 * level)), draw.exponential(2.0, size=len(level))
        return np.stack([np.minimum(died, left), died <= left], axis=1).astype(np.float64)
    if response.kind == "labels":
        return np.stack([level > 0.3, level < -0.2], axis=1).astype(np.float32)
    edges = np.linspace(-0.8, 0.8, response.size - 1)
    return np.searchsorted(edges, level)


def expert_inputs(kind: str, rows: Observed) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """``rows`` as they are passed to ``forward`` of the expert ``kind``: features and presence by stream."""
    parts: Mapping[str, Any] = rows.compact if find("experts", kind).reads == "compact" else rows.features
    dense = {s: part if isinstance(part, np.ndarray) else part.toarray() for s, part in parts.items()}
    tensors = {s: torch.from_numpy(np.asarray(part, dtype=np.float32)) for s, part in dense.items()}
    return tensors, {s: torch.from_numpy(presence) for s, presence in rows.present.items()}


def subsets() -> Iterator[tuple[str, ...]]:
    """All subsets of the streams, the empty one included."""
    for size in range(len(STREAMS) + 1):
        yield from combinations(STREAMS, size)


def _check_response(kind: str, response: Response) -> None:
    where = f"experts/{kind} ({response.kind})"
    rows, held = observed(response), observed(response, HELD, seed=1)

    def fitted() -> Expert:
        expert: Expert = build("experts", {"kind": kind, **option_values.brief("experts", kind)}, response, STREAMS)
        expert.fit(rows, 3)
        return expert.eval()

    expert = fitted()
    features, present = expert_inputs(kind, held)
    with torch.no_grad():
        out = expert(features, present)
        assert out.shape == (HELD, response.size), f"{where}: answers are {tuple(out.shape)}"
        assert out.dtype == torch.float32, f"{where}: answers are {out.dtype}"
        assert bool(out.isfinite().all()), f"{where}: answers are not finite"
        if response.kind in ("classes", "ordered"):
            assert_same(out.logsumexp(dim=1), torch.zeros(HELD), f"{where}: the classes' shares do not add up to one")
        for i in range(6):
            row_features = {s: part[i : i + 1] for s, part in features.items()}
            alone = expert(row_features, {s: presence[i : i + 1] for s, presence in present.items()})
            assert_same(alone, out[i : i + 1], f"{where}: row {i} depends on its batch")
        other = {s: torch.where(present[s][:, None], part, 1e3) for s, part in features.items()}
        assert_same(expert(other, present), out, f"{where}: what stands in absent rows changes the answer")
        nothing = _check_subsets(expert, where, features, response)
        truth, weight = torch.from_numpy(held.target), torch.from_numpy(held.weight)
        learnt, floor = (loss(response, answer.double(), truth, weight) for answer in (out, nothing))
        # A partial likelihood is that of an order: most of it is chance, however well the risks are known.
        most = 0.93 if response.kind == "risk" else 0.9
        assert learnt < most * floor, f"{where}: a loss of {learnt:.3f} is no better than the {floor:.3f} of the prior"
        again = fitted()(features, present)
        assert torch.equal(again, out), f"{where}: the same rows and seed give other answers"
        twin: Expert = build("experts", {"kind": kind, **option_values.brief("experts", kind)}, response, STREAMS)
        twin.load_state_dict(_saved(expert))
        assert torch.equal(twin.eval()(features, present), out), f"{where}: what is saved answers otherwise"
    _check_cross_predicted(kind, where, expert, replace(rows, weight=np.ones(len(rows))))


def _check_cross_predicted(kind: str, where: str, chosen: Expert, rows: Observed) -> None:
    """Check that ``fit_and_cross_predict`` fits like ``fit``, and that no row's score depends on the targets of its fold.

    Settings are those of ``chosen``: choosing them may look at all rows.
    """

    def alike() -> Expert:
        made = chosen.fresh()
        made.like(chosen)
        return made

    fold = np.arange(len(rows)) % 3
    own = np.flatnonzero(fold == 0)
    target = rows.target.copy()
    target[own] = rows.target[np.roll(own, 1)]  # the same targets in another order: the prior stays
    plain, expert, other = alike(), alike(), alike()
    plain.fit(rows, 3)
    scores = expert.fit_and_cross_predict(rows, fold, 3)
    changed = other.fit_and_cross_predict(replace(rows, target=target), fold, 3)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, expert.state_dict()[name]), f"{where}: fit_and_cross_predict fits {name} otherwise"
    assert () in scores, f"{where}: there are no scores without streams"
    for streams, known in scores.items():
        assert known.shape == (len(rows), chosen.response.size), f"{where}: {streams} has scores {tuple(known.shape)}"
        assert_same(
            known[own], changed[streams][own], f"{where}: with {streams}, scores depend on their own fold's targets"
        )
    whole = max(scores, key=len)
    assert bool((scores[whole][fold != 0] != changed[whole][fold != 0]).any()), f"{where}: scores ignore the other folds"


def _check_subsets(expert: Expert, where: str, features: dict[str, Tensor], response: Response) -> Tensor:
    """Check that every set of streams is answered; return the answer without streams, which depends on targets alone."""
    answers: dict[tuple[str, ...], Tensor] = {}
    for subset in subsets():
        presence = {stream: torch.full((HELD,), stream in subset) for stream in STREAMS}
        answers[subset] = expert(features, presence)
        assert bool(answers[subset].isfinite().all()), f"{where}: with {subset} alone the answer is not finite"
    assert_same(answers[()], answers[()][:1].expand(HELD, -1), f"{where}: rows with nothing get different answers")
    for stream in STREAMS:
        assert bool((answers[(stream,)] != answers[(stream,)][:1]).any()), (
            f"{where}: with {stream!r} alone all rows get the same answer"
        )
    rows = observed(response)
    weight = torch.from_numpy(rows.weight)[:, None]
    if response.kind == "risk":
        share, answer = torch.zeros(len(rows), 1), answers[()][:1]
    elif response.kind == "number":
        share, answer = torch.from_numpy(rows.target)[:, None], answers[()][:1]
    elif response.kind == "labels":
        share, answer = torch.from_numpy(rows.target), answers[()][:1].sigmoid()
    else:
        share, answer = torch.eye(response.size)[torch.from_numpy(rows.target)], answers[()][:1].exp()
    mean = ((share * weight).sum(dim=0) / weight.sum()).float()
    assert bool(((answer[0] - mean).abs() < 0.02).all()), f"{where}: with nothing it answers {answer[0]}, not {mean}"
    return answers[()]


def _saved(expert: Expert) -> dict[str, Tensor]:
    """Return the state as loaded from a file."""
    from safetensors.torch import load, save

    loaded: dict[str, Tensor] = load(save(expert.state_dict()))
    return loaded


def signature(kind: str) -> Any:
    """What options of the expert ``kind`` may change: its answers to rows of two streams, and the shapes of its saved
    tensors."""
    response = RESPONSES[find("experts", kind).answers[0]]
    rows, held = observed(response), observed(response, HELD, seed=1)
    features, present = expert_inputs(kind, held)

    def look(spec: dict[str, Any]) -> Any:
        expert: Expert = build("experts", spec, response, STREAMS[:2])
        expert.fit(rows, 3)
        return expert(features, present), [tuple(value.shape) for value in expert.state_dict().values()]

    return look
