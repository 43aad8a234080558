"""Averaging of weights over the last steps."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from sensorium.training.fsdp import join_parts, local_part, shard_like
from sensorium.training.lightning_module import TrainingModule


class Average(pl.Callback):
    """Keeps a running mean of the weights and validates with it; the best epoch's weights are such a mean.

    A step on a small batch adds noise to the weights, which the mean reduces. The mean covers the last ``share`` of the
    steps so far: few at first, when weights change fast and an early epoch may be the best. Must come after callbacks that
    copy weights at the end of a validation. Source: polynomial-decay averaging, Shamir & Zhang 2013,
    https://arxiv.org/abs/1212.1824, § 4.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.mean: list[Tensor] = []
        """The mean; of a sharded model this process's part, but full tensors between loading a checkpoint and the start."""
        self._live: list[Tensor] = []
        self._learnt: list[Tensor] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        # Batch-normalisation statistics are averaged with the weights they belong to; buffers fitted before training
        # (document frequencies, directions) do not change.
        learnt = [p.detach() for p in pl_module.model.parameters() if p.requires_grad]
        statistics = [
            t for name, t in pl_module.model.named_buffers() if name.rpartition(".")[2] in ("running_mean", "running_var")
        ]
        self._learnt = learnt + statistics
        self._live = [local_part(t) for t in self._learnt]
        if self.mean:
            self.mean = [shard_like(m, t) for m, t in zip(self.mean, self._learnt, strict=True)]
        else:
            self.mean = [t.clone() for t in self._live]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        reach = max(1.0, self.share * pl_module.global_step)
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, self._live, 1 / reach)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swap()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for mean, live in zip(self.mean, self._live, strict=True):
                kept = live.clone()
                live.copy_(mean)
                mean.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": [join_parts(m, t) for m, t in zip(self.mean, self._learnt, strict=True)]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.mean = list(state_dict["mean"])
