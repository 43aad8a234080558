"""What happens around the epochs: keep the best, stop early, write a checkpoint, tell the user."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from sensorium.training.lit import Lit, Record

Better = Callable[[Record], tuple[float, ...]]
"""A validation record as something to compare: larger is better."""


class KeepBest(pl.Callback):
    """Keeps the weights of the best epoch, and stops when none was better for ``patience`` epochs."""

    def __init__(self, better: Better, patience: int) -> None:
        self.better, self.patience = better, patience
        self.best: tuple[float, ...] | None = None
        self.weights: dict[str, Tensor] = {}
        self.epoch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Lit)
        # Taken up from the checkpoint of a run that had just stopped: there is nothing left to train.
        if pl_module.history and pl_module.history[-1]["epoch"] - self.epoch >= self.patience:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Lit)
        record = pl_module.history[-1]
        score = self.better(record)
        if self.best is None or score > self.best:
            self.best, self.epoch = score, int(record["epoch"])
            self.weights = {name: t.detach().cpu().clone() for name, t in pl_module.model.state_dict().items()}
        elif record["epoch"] - self.epoch >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": list(self.best or ()), "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = tuple(state_dict["best"]) or None
        self.epoch, self.weights = state_dict["epoch"], state_dict["weights"]


class Checkpoint(pl.Callback):
    """Writes everything needed to go on, after every epoch: all of it or nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        trainer.save_checkpoint(part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, self.path)


class Tell(pl.Callback):
    """Calls ``say`` at most a few times a second with where the training stands."""

    def __init__(self, say: Callable[[Progress], None]) -> None:
        self.say = say

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Lit)
        if batch_idx % 4 == 0:
            self.say(Progress(pl_module.progress(), pl_module.elapsed(), pl_module.current_epoch + 1, None))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Lit)
        record = pl_module.history[-1]
        self.say(Progress(pl_module.progress(), pl_module.elapsed(), int(record["epoch"]), record))


class Progress:
    """Where a training stands: share done, seconds so far, epoch, and the scores where an epoch just ended."""

    def __init__(self, done: float, seconds: float, epoch: int, record: Record | None) -> None:
        self.done, self.seconds, self.epoch, self.record = done, seconds, epoch, record

    @property
    def left(self) -> float:
        """Seconds to go, at the pace so far."""
        return self.seconds * (1 - self.done) / self.done if self.done > 0 else float("inf")


class Logs(pl.Callback):
    """The course of training as ``metrics.csv``, and for TensorBoard where that is installed."""

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        self.folder = folder
        self.writer: Any = None
        folder.mkdir(parents=True, exist_ok=True)
        if tensorboard:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.writer = SummaryWriter(str(folder))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Lit)
        names = list(dict.fromkeys(name for record in pl_module.history for name in record))
        part = self.folder / ".metrics.csv.part"
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, names)
            table.writeheader()
            table.writerows(pl_module.history)
        os.replace(part, self.folder / "metrics.csv")
        if self.writer is not None:
            record = pl_module.history[-1]
            for name, value in record.items():
                if name not in ("epoch", "step"):
                    self.writer.add_scalar(name, value, int(record["step"]))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.writer is not None:
            self.writer.close()
