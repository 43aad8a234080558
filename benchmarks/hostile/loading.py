"""The cases of saved models and checkpoint folders from untrusted sources."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.hostile.case import Case
from benchmarks.hostile.checkpoint_folders import CHECKPOINTS, fitted
from benchmarks.hostile.forging import recipe
from benchmarks.hostile.saved_models import fuzzed, nothing_else, saved


def cases() -> Iterator[Case]:
    """Return all cases, saved models first."""
    import torch

    torch.set_num_threads(1)
    for name, run in saved().items():
        yield Case(name, run, seconds=60.0, megabytes=1024)
    many = recipe(lambda r: r["model"].update(experts=["linear"] * 500_000))
    yield Case("recipe: half a million experts", partial(nothing_else, many), seconds=60.0, megabytes=1024)
    for name, times in (("schema.json", 25), ("recipe.yaml", 25), ("report.json", 10), ("manifest.json", 25)):
        for seed in range(3):
            title = f"{name} with single values changed, {times} times, seed {seed}"
            yield Case(title, partial(fuzzed, name, seed, times), seconds=240.0, megabytes=1024)
    from sensorium.testing.checkpoints import tiny
    from sensorium.training import fit  # noqa: F401  (imported once, for all cases)

    for kind in ("bert", "vit", "lxmert"):
        tiny(kind)  # written once, for all cases
    for name, (kind, forge) in CHECKPOINTS.items():
        yield Case(f"checkpoint: {name}", partial(fitted, kind, forge), seconds=90.0, megabytes=1024)
