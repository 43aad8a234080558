"""The Lightning module: the training step, the learning rate schedule, validation and resuming."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from sensorium.core.batch import Batch, moved
from sensorium.core.forward import Forward
from sensorium.core.objective import Objective
from sensorium.core.recipe import Training
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import Rows, target_fields
from sensorium.data.length_buckets import Cost, cost
from sensorium.data.loader import Loader
from sensorium.data.shards.prefetch import PrefetchedBatches, StreamEpoch
from sensorium.evaluation.score_accumulator import UNWEIGHTED, ScoreAccumulator, TaskAccumulator, scores_of
from sensorium.model import Model
from sensorium.nn.loss_reduction import across, weighted_mean
from sensorium.training.compilation import eager
from sensorium.training.fsdp import shard, zero_loss
from sensorium.training.optimiser import optimiser, rate_shares, turn_betas
from sensorium.training.padding_report import steps_per_unit as steps_of
from sensorium.training.process_group import SINGLE_PROCESS, ProcessGroup

Record = dict[str, float]


class TrainingModule(pl.LightningModule):
    """Trains a model on encoded rows with a list of objectives.

    All randomness of a step (dropout, stream dropout, augmentation) follows from the seed and the step number, and the
    order of rows from the seed and the epoch number, so that a run resumed from a checkpoint ends bit-identically.

    Args:
        model: The model to train.
        objectives: What the loss is the sum of.
        schema: The fitted columns.
        training: The section ``training`` of the resolved recipe.
        rows: Encoded training rows; ``valid`` are the validation rows.
        seed: The random seed.
        clock: Seconds, for the time limit.
        processes: The processes that train together.
        flow: The batches of a stream, if they do not come from ``rows``.
        steps: The number of batches of ``flow`` in an epoch.
    """

    def __init__(
        self,
        model: Model,
        objectives: Iterable[Objective],
        schema: Schema,
        training: Training,
        *,
        rows: Rows,
        valid: Rows,
        seed: int,
        clock: Callable[[], float] = time.monotonic,
        processes: ProcessGroup = SINGLE_PROCESS,
        flow: PrefetchedBatches | None = None,
        steps: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.objectives = model, nn.ModuleList(objectives)
        model.chunk_size = training.chunk_size
        self.schema, self.training_spec = schema, training
        self.rows, self.valid, self.seed, self.clock, self.processes = rows, valid, seed, clock, processes
        self.flow, self.steps = flow, steps
        if processes.several:
            # DDP warns when it looks for unused parameters and finds none: this one is never used.
            self.idle = nn.Parameter(torch.zeros(1))
        self.history: list[Record] = []
        self.seconds_before = 0.0
        """Training time in seconds before this process resumed the run."""
        self.frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        """Names of frozen weights. They are not in checkpoints."""
        self.strict_loading = not self.frozen
        self._began = clock()
        self._agreed_seconds: float | None = None
        self._losses: dict[str, Tensor] = {}
        self._steps = 0
        self._validated: dict[str, tuple[float, float]] = {}
        self._tally: ScoreAccumulator | None = None
        self._baseline_tally: ScoreAccumulator | None = None
        self._generator: torch.Generator | None = None
        self._baselines: dict[str, Any] | None = None
        self._costs: Cost | None = None
        self._is_sharded = False

    @property
    def sharded(self) -> bool:
        """Whether weights are sharded over the processes (FSDP)."""
        return self.training_spec.strategy == "fsdp"

    def configure_model(self) -> None:
        if self.sharded and not self._is_sharded:
            shard(self, self.model, self.device_mesh)
            self._is_sharded = True

    # ── data ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def batch_size(self) -> int:
        """Rows per step in each process."""
        assert self.training_spec.batch_size is not None, "the recipe is resolved"
        return self.training_spec.batch_size

    @property
    def total_steps(self) -> int:
        """Number of steps in the whole run."""
        assert self.training_spec.epochs is not None, "the recipe is resolved"
        return self.training_spec.epochs * len(self.loader(0))

    def loader(self, epoch: int) -> Loader | StreamEpoch:
        """Return the training batches of the epoch numbered ``epoch``."""
        if self.flow is not None:
            return StreamEpoch(self.flow, self.steps, epoch)
        processes, bucket = self.processes, self.training_spec.bucket
        if bucket > 1 and self._costs is None:
            self._costs = cost(self.rows.lengths(), steps_of(self.schema, self.rows))
        return Loader(
            self.rows,
            self.batch_size,
            seed=self.seed,
            epoch=epoch,
            rank=processes.rank,
            ranks=processes.count,
            bucket=bucket,
            costs=self._costs,
        )

    def train_dataloader(self) -> Loader | StreamEpoch:
        return self.loader(self.current_epoch)

    def val_dataloader(self) -> Loader:
        rows = self.valid
        if self.splits_validation:
            rows = rows.take(
                np.array_split(np.arange(len(rows), dtype=np.int64), self.processes.count)[self.processes.rank]
            )
        return Loader(rows, max(64, self.batch_size))

    @property
    def splits_validation(self) -> bool:
        """Whether each process validates a part of the rows.

        With fewer rows than processes, all validate all rows; so do processes of a sharded model, which must run in step.
        """
        return self.processes.several and not self.sharded and len(self.valid) >= self.processes.count

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        if device.type == "cpu":
            return batch
        # Counting on the host, and copying from pinned memory, keeps the host from waiting for the device within a step.
        batch = batch.counted()
        return (batch.map(Tensor.pin_memory) if device.type == "cuda" else batch).to(device, non_blocking=True)

    # ── optimisation ───────────────────────────────────────────────────────────────────────────────────────────────

    def configure_optimizers(self) -> Any:
        spec = self.training_spec
        made = optimiser(self.parameters(), rate_shares(self.model, spec), spec, turn_betas(self.model))
        schedule = torch.optim.lr_scheduler.LambdaLR(made, lambda _step: self.rate())
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Drop the gradients of groups that this step does not update; AdamW then skips them and keeps their moments."""
        for task in self.model.tasks.values():
            for i, turn in enumerate(task.plain.turns):
                for parameter in turn.parameters if i != task.plain.turn else ():
                    parameter.grad = None

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip gradients by norm. Lightning's version refuses fused optimisers, although bfloat16 works with them."""
        nn.utils.clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), self.training_spec.clip)

    def elapsed(self) -> float:
        """Return the training time in seconds, including before a resume; of several processes, that of the first."""
        if self._agreed_seconds is not None:
            return self._agreed_seconds
        return self.seconds_before + (self.clock() - self._began)

    def progress(self) -> float:
        """Return the completed share of the run, 0 to 1, by steps or by time, whichever ends first."""
        done = float(self.global_step / max(1, self.total_steps))
        if self.training_spec.time_limit is not None:
            done = max(done, self.elapsed() / self.training_spec.time_limit)
        return min(1.0, done)

    def rate(self) -> float:
        """Return the learning rate as a share of its peak: linear warm-up, then cosine decay to zero."""
        done, warmup = self.progress(), self.training_spec.warmup
        if done < warmup:
            return (done + 1 / max(1, self.total_steps)) / (warmup + 1 / max(1, self.total_steps))
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))

    def on_train_start(self) -> None:
        self._began = self.clock()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if self.processes.several and self.training_spec.time_limit is not None:
            self._agreed_seconds = None
            self._agreed_seconds = float(self.processes.broadcast(self.elapsed()))
        seed = step_seed(self.seed, self.global_step * self.processes.count + self.processes.rank)
        if self.device.type == "cpu":
            # torch.manual_seed also queues a seed for each unused device, with a traceback: 0.2 ms a step.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        if self.training_spec.augment:
            if self._generator is None:
                self._generator = torch.Generator(self.device)
            self._generator.manual_seed(seed ^ 0x5EED)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        batch = self.schema.prepare(batch, self._generator)
        if self._generator is not None and len(self.model.tasks) == 1:
            (task,) = self.model.tasks.values()
            batch = task.augmented(batch, self._generator)
        for task in self.model.tasks.values():  # by the step's number, so that a resumed run continues with the right group
            task.plain.turn = self.global_step % max(1, len(task.plain.turns))
        run = Forward(self.model, batch)
        terms: dict[str, Tensor] = {}
        for objective in self.objectives:
            # An objective that is not per row may have no term in one process while others have one.
            alone = not self.processes.several or not getattr(objective, "per_row", True)
            with across(None if alone else self.processes.mean):
                terms.update(objective(run))
        for name, value in terms.items():
            self._losses[name] = self._losses.get(name, 0.0) + value.detach()
        self._add_report_losses(run)
        self._steps += 1
        if not terms:
            return sum((p.sum() * 0.0 for p in self.parameters() if p.requires_grad), torch.zeros((), device=self.device))
        total = torch.stack(list(terms.values())).sum()
        return total + zero_loss(self) if self.sharded else total

    @torch.no_grad()
    def _add_report_losses(self, run: Forward) -> None:
        """Accumulate each task's loss for reports, where the objectives computed outputs."""
        if "outputs" not in vars(run):
            return
        with across(self.processes.mean if self.processes.several else None):
            for name, task in self.model.tasks.items():
                target = run.target(name)
                if target is not None:
                    loss = weighted_mean(
                        task.reported_loss(run.outputs[name], target).float(), run.batch.weight * target.present
                    )
                    self._losses[f"{UNWEIGHTED}_{name}"] = self._losses.get(f"{UNWEIGHTED}_{name}", 0.0) + loss.detach()

    def on_after_backward(self) -> None:
        """Average batch-normalisation statistics over the processes; each normalises by its own rows."""
        if self.processes.several:
            norms = [t for name, t in self.named_buffers() if name.rpartition(".")[2] in ("running_mean", "running_var")]
            if norms:
                mean = self.processes.mean(torch.cat([t.flatten() for t in norms]))
                for tensor, part in zip(norms, torch.split(mean, [t.numel() for t in norms]), strict=True):
                    tensor.copy_(part.view_as(tensor))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        limit = self.training_spec.time_limit
        if limit is not None and self.elapsed() > limit:
            self.trainer.should_stop = True

    # ── validation ─────────────────────────────────────────────────────────────────────────────────────────────────

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        batch = self.schema.prepare(batch)
        if self._tally is None:
            self._tally, self._baseline_tally = ScoreAccumulator(self.model.tasks), ScoreAccumulator(self.model.tasks)
        with eager(self.training_spec):
            counted = batch.counting()
            run = Forward(self.model, batch)
            self._tally.update(run.outputs, counted)
            self._add_validated(run, batch_idx)
        if self._baseline_tally is not None and len(self.model.tasks) > 1:
            for name, baseline in self.baselines.items():
                tally = self._baseline_tally.each[name]
                constant = moved(tally.task.constant(baseline, batch.rows), batch.weight.device)
                self._baseline_tally.add(tally, constant, counted)

    def _add_validated(self, run: Forward, batch_idx: int) -> None:
        """Accumulate the terms of objectives that are validated; what is random in them is the same in every epoch."""
        objectives = [objective for objective in self._objectives() if objective.validated]
        if not objectives:
            return
        with torch.random.fork_rng(devices=[] if self.device.type == "cpu" else None), across(None):
            torch.manual_seed(step_seed(self.seed, batch_idx))
            for objective in objectives:
                for name, value in objective(run).items():
                    total, rows = self._validated.get(name, (0.0, 0.0))
                    self._validated[name] = total + float(value) * run.batch.rows, rows + run.batch.rows

    def on_validation_epoch_end(self) -> None:
        """Append the epoch's scores to ``history``; with several processes, all use the first one's."""
        record: Record = {"epoch": self.current_epoch + 1, "step": self.global_step, "seconds": round(self.elapsed(), 3)}
        record["lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        totals = self.processes.gather({name: float(total) for name, total in self._losses.items()})
        for name in dict.fromkeys(name for total in totals for name in total):
            mean = sum(total.get(name, 0.0) for total in totals) / self.processes.count
            record[f"train_{name}"] = mean / max(1, self._steps)
        self._losses, self._steps = {}, 0
        validated, self._validated = self._validated, {}
        if self.splits_validation:
            validated = _summed(self.processes.gather(validated))
        if self._tally is not None and self._baseline_tally is not None:
            tallies = (self._tally, self._baseline_tally)
            self._tally = self._baseline_tally = None
            if self.splits_validation:
                for tally in tallies:
                    tally.load(self.processes.gather_states(tally.state()))
            record |= self._scores(*tallies) if self.processes.first else {}
            for name, (total, rows) in validated.items():
                record[f"valid_{name}"] = total / rows
                record["valid_loss"] = record.get("valid_loss", 0.0) + total / rows
        self.history.append(self.processes.broadcast(record))

    def _scores(self, tally: ScoreAccumulator, baseline: ScoreAccumulator) -> Record:
        record: Record = {}
        total = 0.0
        counts = {name: count for objective in self._objectives() for name, count in objective.importance().items()}
        for name, part in tally.each.items():
            loss = float(weighted_mean(part.loss, part.weight))
            record[f"valid_loss_{name}"] = loss
            record[f"valid_{UNWEIGHTED}_{name}"] = float(weighted_mean(part.reported_loss, part.weight))
            total += loss if len(tally.each) == 1 else loss / _baseline_loss(baseline.each[name]) * counts.get(name, 1.0)
            if part.rows:
                headline = part.task.headline
                record[f"valid_{headline}_{name}"] = scores_of(part.scorer, [headline])[headline]
        record["valid_loss"] = total
        return record

    def _objectives(self) -> Iterator[Objective]:
        return (objective for objective in self.objectives if isinstance(objective, Objective))

    @property
    def baselines(self) -> dict[str, Any]:
        """By task, the baseline prediction from the training targets alone, where the task has one."""
        if self._baselines is None:
            tasks = self.model.tasks.items()
            known = {name: task.baseline(target_fields(self.schema, self.rows, task)) for name, task in tasks}
            self._baselines = {name: baseline for name, baseline in known.items() if baseline is not None}
        return self._baselines

    # ── resume ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in self.frozen:
            checkpoint["state_dict"].pop(name, None)
        checkpoint["sensorium"] = {
            "history": self.history,
            "spent": self.elapsed(),
            # Sums over the current epoch, where it is not over.
            "losses": self._losses,
            "steps": self._steps,
        }
        if self.flow is not None:
            checkpoint["sensorium"]["flow"] = self.processes.gather(self.flow.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        missing = set(self.state_dict()) - set(checkpoint["state_dict"]) - self.frozen
        if missing:
            raise KeyError(f"the checkpoint lacks {sorted(missing)[:3]}")
        self.history = [dict(record) for record in checkpoint["sensorium"]["history"]]
        self.seconds_before = float(checkpoint["sensorium"]["spent"])
        self._losses, self._steps = dict(checkpoint["sensorium"]["losses"]), int(checkpoint["sensorium"]["steps"])
        if self.flow is not None:
            self.flow.load_state_dict(checkpoint["sensorium"]["flow"][self.processes.rank])


def _baseline_loss(tally: TaskAccumulator) -> float:
    """Return the loss of the baseline prediction, which brings losses of different tasks to one scale."""
    loss = float(weighted_mean(tally.loss, tally.weight))
    return loss if math.isfinite(loss) and loss > 1e-6 else 1.0


def _summed(parts: Iterable[dict[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """Add sums and numbers of rows of several processes."""
    totals: dict[str, tuple[float, float]] = {}
    for part in parts:
        for name, (total, rows) in part.items():
            before = totals.get(name, (0.0, 0.0))
            totals[name] = before[0] + total, before[1] + rows
    return totals


def step_seed(seed: int, step: int) -> int:
    """Return a well-mixed seed for step number ``step`` of a run with ``seed``, the same on every machine (splitmix64)."""
    z = (seed * 0x9E3779B97F4A7C15 + step + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return (z ^ z >> 31) & 0x7FFFFFFFFFFFFFFF
