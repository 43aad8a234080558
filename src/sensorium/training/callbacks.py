"""Lightning callbacks: keep the best epoch, stop early, write checkpoints, report progress, write logs."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from sensorium.data.files.atomic_write import partial_path, readable_disk_errors, sync_folder, write
from sensorium.training.fsdp import full_tensor
from sensorium.training.lightning_module import Record, TrainingModule
from sensorium.training.process_group import SINGLE_PROCESS, ProcessGroup
from sensorium.training.tensorboard_events import EventFile

Better = Callable[[Record], tuple[float, ...]]
"""Key of a validation record for comparison: larger is better."""


CHECKPOINT_INTERVAL = 20
"""Minimum time between checkpoints within an epoch, as a multiple of the time that writing one takes."""


AGREE_EVERY = 16
"""Number of steps between two decisions of several processes whether a checkpoint is due."""


class KeepBest(pl.Callback):
    """Keeps the trained weights of the best epoch, and stops when ``patience`` epochs brought no improvement.

    Frozen weights never change and are not kept, so that a large frozen encoder costs nothing.
    """

    def __init__(self, better: Better, patience: int) -> None:
        self.better, self.patience = better, patience
        self.best: tuple[float, ...] | None = None
        self.weights: dict[str, Tensor] = {}
        self.epoch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        # Resumed from the last checkpoint of a run that had already stopped early.
        if pl_module.history and pl_module.history[-1]["epoch"] - self.epoch >= self.patience:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        record = pl_module.history[-1]
        score = self.better(record)
        if self.best is None or score > self.best:
            self.best, self.epoch = score, int(record["epoch"])
            self.weights = {
                name: full_tensor(t.detach()).cpu().clone()
                for name, t in pl_module.state_dict().items()
                if name not in pl_module.frozen
            }
        elif record["epoch"] - self.epoch >= self.patience:
            trainer.should_stop = True

    def weights_under(self, prefix: str) -> dict[str, Tensor]:
        """Return the kept weights of one part of the module, ``prefix`` (``model``, ``objectives``), without the prefix."""
        return {n.removeprefix(f"{prefix}."): t for n, t in self.weights.items() if n.startswith(f"{prefix}.")}

    def state_dict(self) -> dict[str, Any]:
        return {"best": list(self.best or ()), "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = tuple(state_dict["best"]) or None
        self.epoch, self.weights = state_dict["epoch"], state_dict["weights"]


class Checkpoint(pl.Callback):
    """Writes a resumable checkpoint atomically: after every epoch and, in a long epoch, every few minutes.

    Within an epoch, checkpoints take at most a twentieth of the time. Must come after all callbacks that have state.

    Args:
        path: The checkpoint file.
        every: Minimum seconds between checkpoints within an epoch.
        clock: Seconds, for measuring.
        processes: The processes that train together.
    """

    def __init__(
        self,
        path: Path,
        every: float,
        clock: Callable[[], float] = time.monotonic,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.path, self.every, self.clock, self.processes = path, every, clock, processes
        self._written, self._cost = 0.0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._written = self.clock()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # The last batch is followed by validation and by the checkpoint of the epoch.
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        due = self.clock() - self._written > max(self.every, CHECKPOINT_INTERVAL * self._cost)
        if self.processes.several:  # all must write at the same step, and agreeing costs communication
            due = batch_idx % AGREE_EVERY == 0 and self.processes.broadcast(due)
        if due:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        began = self.clock()
        part = partial_path(self.path)
        with readable_disk_errors(self.path.parent):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                trainer.save_checkpoint(part)  # all processes take part; the first one writes
                if not self.processes.first:
                    return
                with open(part, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(part, self.path)
                sync_folder(self.path.parent)
            except OSError:
                part.unlink(missing_ok=True)
                raise
        self._written = self.clock()
        self._cost = self._written - began


class ReportProgress(pl.Callback):
    """Calls ``say`` with the training progress every few batches and after each validation."""

    def __init__(self, say: Callable[[Progress], None]) -> None:
        self.say = say

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        if batch_idx % 4 == 0:
            self.say(Progress(pl_module.progress(), pl_module.elapsed(), pl_module.current_epoch + 1, None))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        record = pl_module.history[-1]
        self.say(Progress(pl_module.progress(), pl_module.elapsed(), int(record["epoch"]), record))


class TellNotes(pl.Callback):
    """Calls ``say`` with the notes of the tasks on the first epoch, early enough to stop and to change settings."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._told = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        for name, task in () if self._told else pl_module.model.tasks.items():
            if note := task.plain.training_note():
                self.say(f"  {name}: {note}")
        self._told = True


class Progress:
    """Training progress: completed share, seconds so far, epoch, and the scores where an epoch has just ended."""

    def __init__(self, done: float, seconds: float, epoch: int, record: Record | None) -> None:
        self.done, self.seconds, self.epoch, self.record = done, seconds, epoch, record

    @property
    def left(self) -> float:
        """Estimated seconds to go."""
        return self.seconds * (1 - self.done) / self.done if self.done > 0 else float("inf")


class Logs(pl.Callback):
    """Writes the scores of all epochs to ``metrics.csv`` and, if ``tensorboard`` is installed, to an event file."""

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        self.folder = folder
        self.writer: EventFile | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if tensorboard:
            self.writer = EventFile(folder)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        names = list(dict.fromkeys(name for record in pl_module.history for name in record))
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, names)
        table.writeheader()
        table.writerows(pl_module.history)
        write(self.folder / "metrics.csv", text.getvalue().encode())
        if self.writer is not None:
            record = pl_module.history[-1]
            for name, value in record.items():
                if name not in ("epoch", "step"):
                    self.writer.add(name, float(value), int(record["step"]))
