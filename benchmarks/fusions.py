"""Time and memory of a training step (forward and backward) of every fusion, compared with a plain implementation of its
equation and with one built from ``torch.nn.MultiheadAttention``, and their growth with streams, tokens and width."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Cost, Results, Settings, compared, interleaved
from benchmarks.plain import PLAIN
from benchmarks.torch_fusions import TORCH

DEPTH, HEADS = 2, 4
Step = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """Size of a batch: rows, streams, tokens per stream, width."""

    rows: int = 32
    streams: int = 3
    tokens: int = 32
    dim: int = 64


def run(settings: Settings) -> Results:
    # The profiler, which counts memory, otherwise logs every start and stop.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch

    from sensorium.core.registry import kinds

    case = Case(4, 2, 4, 16) if settings.smoke else Case()
    repeats = settings.few(5, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results: Results = []
        for kind in kinds("fusions"):
            if kind in PLAIN:
                results += _beside(kind, case, repeats, "plain")
            if kind in TORCH:
                results += _beside(kind, case, repeats, "MultiheadAttention")
        for kind in kinds("fusions")[: settings.few(99, 2)]:
            if kind in PLAIN:
                results += _growth(kind, case, settings.few(3, 1))
        return results
    finally:
        torch.set_num_threads(before)


def _beside(kind: str, case: Case, repeats: int, what: str) -> Results:
    ours, plain, built = _steps(kind, case)
    other = plain if what == "plain" else built
    assert other is not None
    mine, theirs = interleaved(lambda: _timed(ours), lambda: _timed(other), repeats)
    return [
        compared(f"{kind} step, beside {what}", "ms", [1e3 * c.cpu for c in mine], [1e3 * c.cpu for c in theirs]),
        compared(f"{kind} memory, beside {what}", "MB", [_peak(ours)], [_peak(other)]),
    ]


def _growth(kind: str, case: Case, repeats: int) -> Results:
    """Return the growth of time and memory when one size doubles; the reference column is the growth of the plain form."""
    results: Results = []
    larger = {
        "streams": Case(case.rows, 2 * case.streams, case.tokens, case.dim),
        "tokens": Case(case.rows, case.streams, 2 * case.tokens, case.dim),
        "width": Case(case.rows, case.streams, case.tokens, 2 * case.dim),
    }
    once, plain, _ = _steps(kind, case)
    for name, big in larger.items():
        twice, plain_twice, _ = _steps(kind, big)
        grown, start = interleaved(lambda s=twice: _timed(s), lambda: _timed(once), repeats)  # type: ignore[misc]
        plainly, plain_start = interleaved(lambda s=plain_twice: _timed(s), lambda: _timed(plain), repeats)  # type: ignore[misc]
        mine = [a.cpu / b.cpu for a, b in zip(grown, start, strict=True)]
        other = [a.cpu / b.cpu for a, b in zip(plainly, plain_start, strict=True)]
        results.append(compared(f"{kind} time, twice the {name}", "×", mine, other))
        grown_by, plainly_by = _peak(twice) / _peak(once), _peak(plain_twice) / _peak(plain)
        results.append(compared(f"{kind} memory, twice the {name}", "×", [grown_by], [plainly_by]))
    return results


def _steps(kind: str, case: Case) -> tuple[Step, Step, Step | None]:
    """Return a step of the fusion, of the plain form with the same weights, and of the torch form, if any."""
    import torch

    from sensorium.core.batch import Encoded
    from sensorium.core.registry import build, options

    torch.manual_seed(0)
    names = [f"s{i}" for i in range(case.streams)]
    known = {"depth": DEPTH, "heads": HEADS, "dropout": 0.0} if kind != "concat" else {}
    settings = {name: value for name, value in known.items() if name in options("fusions", kind).model_fields}
    fusion: Any = build("fusions", {"kind": kind, **settings}, names, case.dim).eval()
    present = torch.ones(case.rows, dtype=torch.bool)
    mask = torch.ones(case.rows, case.tokens, dtype=torch.bool)
    vectors = {s: torch.randn(case.rows, case.dim, requires_grad=True) for s in names}
    tokens = {s: torch.randn(case.rows, case.tokens, case.dim, requires_grad=True) for s in names}
    parts = {s: Encoded(tokens[s], mask, vectors[s], present) for s in names}
    plainly = {s: (vectors[s], tokens[s]) for s in names}
    with torch.no_grad():
        if not torch.allclose(fusion(parts).pooled, PLAIN[kind](fusion, plainly), atol=1e-4):
            raise AssertionError(f"{kind}: the two forms disagree")

    def ours() -> None:
        fusion(parts).pooled.sum().backward()

    def plain() -> None:
        PLAIN[kind](fusion, plainly).sum().backward()

    if kind not in TORCH:
        return ours, plain, None
    hand = TORCH[kind](case.streams, case.dim, DEPTH, HEADS).train()
    padding = [~mask for _ in names]

    def built() -> None:
        hand(torch.stack([*vectors.values()], dim=1), [*tokens.values()], padding).sum().backward()

    return ours, plain, built


def _timed(step: Step) -> Cost:
    """Return the cost of the fastest of a few steps after a warm-up, since other work runs on this machine."""
    step()
    costs = []
    for _ in range(2):
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        costs.append(Cost(time.process_time() - cpu, time.perf_counter() - wall))
    return min(costs)


def _peak(step: Step) -> float:
    """Return the peak tensor memory during a step above that before it, in MB."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    step()  # allocates the gradients
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as result:
        step()
    held = most = 0
    for event in result.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]" and event.device_type() == torch.autograd.DeviceType.CPU:
            held += event.nbytes()
            most = max(most, held)
    return max(most, 1) / 2**20
