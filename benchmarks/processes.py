"""Speed-up of an epoch with two processes of one thread each, compared with one process.

Each process takes half of the rows, in batches of the same size; gradients are averaged over gloo. Since wall time depends
on other programs on the machine, CPU time is reported as well: that of the single process over that of the busier one of
two. This is the speed-up if each has a core of its own, apart from time spent waiting for the other process.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Measure, Results, Settings, Skipped, compared, python

NAME = "2 processes × 1 thread over 1 × 1"


def run(settings: Settings) -> Results:
    if sys.platform != "linux":
        return [Skipped(NAME, "needs fork and the loopback device lo")]
    document = json.dumps([settings.few(1600, 80), settings.few(4, 3), settings.few(3, 1)])
    # In a new process, which has used no GPU and no threads, since it forks.
    _, out = python(
        "from benchmarks.processes import main; main()",
        document,
        CUDA_VISIBLE_DEVICES="",
        OMP_NUM_THREADS="1",
        GLOO_SOCKET_IFNAME="lo",
    )
    result = json.loads(out.splitlines()[-1])
    size = f"batches of {result['batch']} a process, {result['mb']:.1f} MB of gradients"
    note = f"picture and sound, {result['rows']} rows, {size}"
    results: Results = [
        compared(
            f"{NAME}, {clock}",
            "s",
            result["two"][clock],
            result["one"][clock],
            inverse=True,
            at_least=1.8,
            note=note * (not i),
        )
        for i, clock in enumerate(("wall", "cpu"))
    ]
    ms = 1e3 * result["all_reduce"]
    results.append(Measure("all-reduce of the gradients over gloo, 2 processes", "ms", ms, note="memory to memory here"))
    return results


def main() -> None:
    """Print the costs of one process and of two as one line of JSON."""
    import torch

    from benchmarks.epoch import task
    from sensorium.data.synthetic import make
    from sensorium.testing.processes import forked

    torch.set_num_threads(1)
    rows, epochs, repeats = json.loads(sys.argv[1])
    results: dict[str, Any] = {"one": {"cpu": [], "wall": []}, "two": {"cpu": [], "wall": []}}
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        tables = make(at / "data", rows=rows, valid=0.1, test=0.0)
        job = task(tables, ["when", "room", "note", "sensor", "temperature"], at / "cache", epochs)
        results |= {"rows": len(job.rows), "batch": job.plan.training.batch_size}
        model, _ = job.model()
        results["mb"] = sum(p.numel() for p in model.parameters() if p.requires_grad) * 4 / 1e6
        for i in range(repeats):
            for count in ((1, 2), (2, 1))[i % 2]:
                parts = forked(count, lambda ranks: epoch(job, ranks))
                kept = results["one" if count == 1 else "two"]
                for several in zip(*parts, strict=True):
                    kept["cpu"].append(max(cpu for cpu, _ in several))
                    kept["wall"].append(max(wall for _, wall in several))
        size = int(results["mb"] * 1e6 / 4)
        results["all_reduce"] = max(part[0] for part in forked(2, lambda ranks: [reduced(ranks, size)]))
    print(json.dumps(results))


def epoch(job: Any, ranks: Any) -> list[tuple[float, float]]:
    """Return the seconds (CPU, wall) of each epoch except the first and the last, from the requests for its first batch."""
    from benchmarks.epoch import Ticking, gaps
    from sensorium.reporting.console import Console
    from sensorium.training.network_training import _run

    model, objectives = job.model()
    ticking = Ticking(job.rows.inputs, job.rows.targets, job.rows.weight, job.rows.problems, job.rows.prompts)
    _run(job.plan, job.schema, model, objectives, ticking, job.valid, None, False, Console(quiet=True), ranks)
    epochs = job.plan.training.epochs or 1
    return gaps(ticking.ticks[:: len(ticking.ticks) // epochs])[1:]


def reduced(ranks: Any, size: int) -> float:
    """Return the seconds of one all-reduce."""
    import statistics
    import time

    import torch

    tensor, times = torch.ones(size), []
    for _ in range(20):
        began = time.perf_counter()
        ranks.mean(tensor)
        times.append(time.perf_counter() - began)
    return statistics.median(times)
