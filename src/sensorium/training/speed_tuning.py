"""``--tune-speed``: a short measurement of which settings train this run faster on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from sensorium.core.cpu_cores import process_cores
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe, Training
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import Rows
from sensorium.data.store.store import Store
from sensorium.reporting.console import Console, span
from sensorium.training.feature_cache import with_stored_outputs
from sensorium.training.network_training import build
from sensorium.training.padding_report import WINDOW, padding_shares
from sensorium.training.resume import load_speed, run_description, run_name, save_speed
from sensorium.training.shard_source import ShardSource
from sensorium.training.shard_training import shard_identity
from sensorium.training.step_timing import Job, StepTimer, relative_difference, speed_ratios
from sensorium.training.surgery_scope import frozen_streams

SECONDS = 3.0
"""Approximate time of a comparison of two settings."""
BATCHES, FEW = 50, 8
"""Batches of training rows to measure on; fewer if outputs of a frozen encoder must be computed first."""
MARGIN, BATCH_MARGIN = 1.08, 1.15
"""Minimum speed ratio of a setting to be taken."""
SAME = 1e-4
"""Maximum relative change of losses and gradients by settings that change nothing but rounding."""
HALF = 0.02, 0.1
"""The same in half precision: for the loss, and for the gradient as a vector (a cosine above 0.995)."""
WORTH_COMPILING = 600.0
"""Minimum training time in seconds for compiling to be tried: compiling itself takes a minute or more."""
WASTE = 0.05
"""Minimum saving of padding by bucketing, as a share of what encoders read, for it to be measured."""


@dataclass(frozen=True)
class SpeedTrial:
    """The result of one setting: the speed ratio (None: not measured), and why it was taken or left."""

    setting: str
    times: float | None
    taken: bool
    why: str

    def line(self) -> str:
        """Return the result as a line of text."""
        times = "" if self.times is None else f"{self.times:.2f} ×"
        return f"    {self.setting:<20} {times:>7}  {'taken' if self.taken else 'left'}: {self.why}"


def tune(
    plan: Recipe,
    fixed: Collection[str],
    schema: Schema,
    rows: Rows,
    valid: Rows,
    store: Store,
    out: Path | None,
    resume: bool,
    console: Console,
    stream: ShardSource | None = None,
) -> tuple[Recipe, dict[str, Any]]:
    """Measure settings of ``training``, and return the recipe with the faster ones and the measurements.

    The run that follows is that of a recipe with these settings. A resumed run keeps the settings that it started with.

    Args:
        plan: The resolved recipe.
        fixed: The keys of ``training`` that the user set; these are not varied.
        schema: The fitted columns.
        rows: Encoded training rows, to measure on; ``valid`` are the validation rows.
        store: The cache, for the outputs of frozen encoders.
        out: The run's folder, where the measurements are kept; None keeps none.
        resume: Whether to reuse the measurements of an interrupted run.
        console: Where progress and results are printed.
        stream: Shards that training batches come from, if not from ``rows``.
    """
    if plan.training.devices * plan.training.nodes > 1:
        raise ConfigError("speed is tuned in one process", fix="leave out tune_speed, or train in one process")
    run = run_name(run_description(plan, schema, rows, valid, of=shard_identity(stream))) if out is not None else ""
    if out is not None and resume and (known := load_speed(out, run)) is not None:
        console.note(f"  speed: as measured at the start of this run: {_settings(known['chosen'])}")
        return _with(plan, known["chosen"]), known
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            tuner = SpeedTuner(plan, fixed, schema, rows, store, console, stream)
            result = tuner.run()
    finally:
        torch.set_num_threads(threads)
    console.step("measuring speed", 1.0, 1.0)
    console.note(f"  speed, measured in {span(result['seconds'])} on {tuner.batches} batches of training rows:")
    for trial in tuner.trials:
        console.note(trial.line())
    console.note(f"  {_settings(result['chosen'])}")
    if out is not None:
        save_speed(out, run, result)
    return _with(plan, result["chosen"]), result


def _with(plan: Recipe, chosen: Mapping[str, Any]) -> Recipe:
    return plan.model_copy(update={"training": plan.training.model_copy(update=dict(chosen))})


def _settings(chosen: Mapping[str, Any]) -> str:
    return " ".join(f"training.{name}={value}" for name, value in chosen.items()) or "no setting is faster"


class SpeedTuner:
    """One measurement: settings are tried in turn, each against the best so far."""

    def __init__(
        self,
        plan: Recipe,
        fixed: Collection[str],
        schema: Schema,
        rows: Rows,
        store: Store,
        console: Console,
        stream: ShardSource | None,
    ) -> None:
        self.plan, self.fixed, self.schema, self.rows, self.console = plan, set(fixed), schema, rows, console
        self.stream, self.spec = stream, plan.training
        self.trials: list[SpeedTrial] = []
        self.began = time.perf_counter()
        few = bool(frozen_streams(plan.model.surgery, schema.streams))
        size = self.spec.batch_size or 1
        index = np.random.default_rng(plan.seed).permutation(len(rows))[: size * (FEW if few else BATCHES)]
        sample = rows.take(np.sort(index).astype(np.int64))
        self.batches = math.ceil(len(sample) / size)
        torch.manual_seed(plan.seed)
        torch.set_num_threads(self.spec.threads or 1)
        quiet = Console(quiet=True)
        model, objectives = build(plan, schema, sample, quiet)
        if stream is None:
            sample, _ = with_stored_outputs(model, schema, plan, (sample, sample), store, objectives, quiet)
        self.job = Job(model, objectives, schema, sample, plan.seed, _device(self.spec.accelerator))

    def run(self) -> dict[str, Any]:
        """Measure, and return the chosen settings and the measurements as plain data."""
        start = self.spec
        with StepTimer(self.job, start) as timer:
            timer.steps(2)
            first = median(timer.steps(2) for _ in range(3))
        trials = (self._threads, self._half, self._bucket, self._batch, self._compile)
        for i, trial in enumerate(trials):
            self.console.step("measuring speed", i, len(trials))
            trial()
        gain = math.prod(f.times for f in self.trials if f.taken and f.times is not None)
        changed = {name: value for name, value in self.spec.model_dump().items() if value != getattr(start, name)}
        return {
            "seconds": round(time.perf_counter() - self.began, 1),
            "rows_per_second": [round(1 / first, 1), round(gain / first, 1)],
            "found": [asdict(trial) for trial in self.trials],
            "chosen": changed,
        }

    # ── what is tried ──────────────────────────────────────────────────────────────────────────────────────────────

    def _threads(self) -> None:
        cores = process_cores()
        counts = sorted({2**i for i in range(cores.bit_length()) if 2**i <= cores} | {cores})
        if "threads" in self.fixed or cores == 1:
            return
        now = self.spec.threads or 1
        for count in [n for n in counts if n > now] + [n for n in reversed(counts) if n < now]:
            if not self._try(f"threads {count}", {"threads": count}) and (self.spec.threads or 1) != now:
                return  # slower again: past the optimum

    def _half(self) -> None:
        if "precision" not in self.fixed and self.job.device.type in ("cpu", "cuda"):
            self._try("bf16-mixed", {"precision": "bf16-mixed"}, within=HALF)

    def _bucket(self) -> None:
        if "bucket" in self.fixed or self.stream is not None:
            return
        padding = padding_shares(self.schema, self.rows, self.spec, self.plan.seed)
        if padding is not None and padding[0].share - padding[1].share > WASTE:
            saved = f"padding {padding[0].share:.0%} to {padding[1].share:.0%}"
            # On four data sets it made models worse, on one of them by more than seeds differ: docs/speed.md.
            refuse = f"{saved}, but it may cost accuracy; training.bucket={WINDOW} takes it"
            self._try(f"bucket {WINDOW}", {"bucket": WINDOW}, within=None, least=16, refuse=refuse)

    def _batch(self) -> None:
        size = self.spec.batch_size or 1
        if "batch_size" not in self.fixed and 4 * size <= len(self.job.rows):
            refuse = f"it changes the training, with half the steps; training.batch_size={2 * size} takes it"
            self._try(f"batch {2 * size}", {"batch_size": 2 * size}, within=None, margin=BATCH_MARGIN, refuse=refuse)

    def _compile(self) -> None:
        if "compile" in self.fixed:
            return
        with StepTimer(self.job, self.spec) as timer:
            timer.steps(2)
            step = median(timer.steps(2) for _ in range(3)) * (self.spec.batch_size or 1)
        steps = self._steps(self.spec)
        left = min(steps * step, self.spec.time_limit or math.inf)
        if left < WORTH_COMPILING:
            self.trials.append(
                SpeedTrial("compile", None, False, f"the run takes about {span(left)}; compiling takes minutes")
            )
            return
        began = time.perf_counter()

        def pays(times: float) -> str:
            cost = took - 6 * step
            need = cost / (step * (1 - 1 / times)) if times > 1 else math.inf
            verdict = f"after {span(cost)} of compiling; pays back after {need:,.0f} of {steps:,} steps"
            return verdict if need < 0.5 * steps else f"!{verdict}"

        took = 0.0

        def compiled(timer: StepTimer) -> None:
            nonlocal took
            timer.steps(6)
            took = time.perf_counter() - began

        self._try("compile", {"compile": True}, warm=compiled, training=True, judge=pays)

    # ── how ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _steps(self, spec: Training) -> int:
        """Return the number of steps of the whole run."""
        rows = len(self.rows) if self.stream is None else self.plan.data.epoch_rows or self.stream.rows
        return (spec.epochs or 1) * math.ceil(rows / (spec.batch_size or 1))

    def _try(
        self,
        name: str,
        update: dict[str, Any],
        *,
        within: tuple[float, float] | None = (SAME, SAME),
        margin: float = MARGIN,
        least: int = 1,
        training: bool = False,
        refuse: str = "",
        warm: Callable[[StepTimer], Any] = lambda timer: timer.steps(2),
        judge: Callable[[float], str] | None = None,
    ) -> bool:
        """Return whether a setting was taken: it must change nothing beyond ``within``, and be faster than the current
        one.
        """
        changed = self.spec.model_copy(update=update)
        try:
            with StepTimer(self.job, self.spec) as now, StepTimer(self.job, changed) as other:
                if within is not None:
                    moved = relative_difference(now.gradient(training=training), other.gradient(training=training))
                    if not (moved[0] <= within[0] and moved[1] <= within[1]):
                        change = f"changes the loss by {moved[0]:.1g}, the gradient by {moved[1]:.1g}"
                        return self._note(SpeedTrial(name, None, False, change))
                now.steps(2)
                warm(other)
                ratios = speed_ratios(now, other, SECONDS, least)
        except (ConfigError, RuntimeError) as error:
            problem = error.problem if isinstance(error, ConfigError) else str(error)
            first = next(iter(problem.strip().splitlines()), type(error).__name__)
            return self._note(SpeedTrial(name, None, False, f"fails here: {first}"))
        times = median(ratios)
        sure = sum(ratio > 1 for ratio in ratios) >= 0.75 * len(ratios)
        if times < margin or not sure:
            unsure = f"varies between {min(ratios):.2f} and {max(ratios):.2f}: too much to be sure"
            reason = "slower" if times < 1 else unsure if times >= margin else f"not {margin - 1:.0%} faster"
            return self._note(SpeedTrial(name, times, False, reason))
        if refuse:
            return self._note(SpeedTrial(name, times, False, refuse))
        verdict = judge(times) if judge is not None else "faster"
        if verdict.startswith("!"):
            return self._note(SpeedTrial(name, times, False, verdict[1:]))
        self.spec = changed
        return self._note(SpeedTrial(name, times, True, verdict))

    def _note(self, trial: SpeedTrial) -> bool:
        self.trials.append(trial)
        return trial.taken


def _device(accelerator: str) -> torch.device:
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
