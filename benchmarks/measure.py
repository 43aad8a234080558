"""Results of a benchmark, and interleaved timing of two alternatives on a shared machine."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """Settings of a benchmark run.

    Args:
        smoke: Small data and one repeat, to check that a benchmark runs; its times mean nothing.
        data: The folder of real data sets.
    """

    smoke: bool = False
    data: Path = REPOSITORY.parent / "shared" / "data"

    def few(self, full: int, smoke: int) -> int:
        return smoke if self.smoke else full


@dataclass(frozen=True)
class Measure:
    """One line of the table. Targets apply to ``value``: the ratio to the reference, or the value itself without one."""

    name: str
    unit: str
    ours: float
    reference: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    """Smallest and largest ratio (or value of ours) among the repeats."""
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def value(self) -> float:
        return self.ours if self.ratio is None else self.ratio

    @property
    def target(self) -> str:
        return (
            f"≤ {self.at_most:g}"
            if self.at_most is not None
            else f"≥ {self.at_least:g}"
            if self.at_least is not None
            else ""
        )

    @property
    def met(self) -> bool | None:
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "value": self.value, "target": self.target, "met": self.met}


@dataclass(frozen=True)
class Skipped:
    """A benchmark that could not be run, and why."""

    name: str
    why: str


Results = list[Measure | Skipped]


class Cost(NamedTuple):
    """CPU time of all threads and wall time, in seconds."""

    cpu: float
    wall: float


def cost(work: Callable[[], Any]) -> Cost:
    """Return the cost of one call."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def interleaved(ours: Callable[[], Cost], reference: Callable[[], Cost], repeats: int) -> tuple[list[Cost], list[Cost]]:
    """Run both alternately, swapping the order every time, so that slow phases of the machine affect both."""
    mine: list[Cost] = []
    other: list[Cost] = []
    for i in range(repeats):
        for first in (i % 2 == 0, i % 2 == 1):
            (mine if first else other).append((ours if first else reference)())
    return mine, other


def compared(
    name: str, unit: str, ours: Sequence[float], reference: Sequence[float], *, inverse: bool = False, **rest: Any
) -> Measure:
    """Return the medians of both, and median and range of the paired ratios (``inverse``: reference over ours, a speed)."""
    pairs = list(zip(ours, reference, strict=True))
    ratios = [r / o if inverse else o / r for o, r in pairs]
    return Measure(
        name,
        unit,
        statistics.median(ours),
        statistics.median(reference),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        **rest,
    )


def child(arguments: Sequence[str], **environment: str) -> tuple[Cost, str]:
    """Run a new process; return its cost and its output."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        arguments, check=True, capture_output=True, text=True, cwd=REPOSITORY, env={**os.environ, **environment}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.perf_counter() - wall), done.stdout


def python(code: str, *arguments: str, **environment: str) -> tuple[Cost, str]:
    """Run ``code`` in a new Python process."""
    return child([sys.executable, "-c", code, *arguments], **environment)


def photos(folder: Path, count: int, size: tuple[int, int], ending: str, seed: int = 0) -> list[str]:
    """Write pictures of ``size`` (width, height) of blurred noise, which compress like photographs; return their names."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = []
    for i in range(count):
        rough = rng.integers(0, 256, (max(size[1] // 8, 4), max(size[0] // 8, 4), 3), dtype=np.uint8)
        picture = Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)
        noisy = np.asarray(picture, dtype=np.int16) + rng.integers(-8, 9, (size[1], size[0], 1), dtype=np.int16)
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        names.append(f"{i:06d}{ending}")
        (picture if ending == ".jpg" else picture.convert("L")).save(folder / names[-1])
    return names


def sounds(folder: Path, count: int, seconds: float, rate: int, seed: int = 0) -> list[str]:
    """Write recordings of a tone in noise; return their names."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    time_axis = np.arange(round(seconds * rate)) / rate
    names = []
    for i in range(count):
        tone = np.sin(2 * np.pi * rng.uniform(100, 2000) * time_axis) * 0.3 + rng.normal(0, 0.05, len(time_axis))
        names.append(f"{i:06d}.wav")
        soundfile.write(folder / names[-1], tone.astype(np.float32), rate, subtype="PCM_16")
    return names
