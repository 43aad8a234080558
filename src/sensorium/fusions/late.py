"""Late fusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.core.task import Task
from sensorium.heads.late_heads import LateHeads
from sensorium.nn.streams import shares, vectors


@component
class Late(Fusion):
    """Late fusion: each stream has its own head and loss, and the answers are combined.

    Use it where each stream is nearly sufficient alone, where rows are few, or where the answer of each stream must be
    visible. Streams do not interact: where the answer depends on two together (a question about an image) use ``lowrank``
    or ``cross_modal``. A row with one stream is answered by exactly that stream's own model. The vector is the weighted
    mean of the streams' vectors, and the tokens are those vectors.
    Source: sum and majority rule, https://doi.org/10.1109/34.667881; stacked generalization,
    https://doi.org/10.1016/S0893-6080(05)80023-1.

    Args:
        decide: ``mean`` of the probabilities (or numbers); ``vote``, the majority (of numbers the median); ``learned``, a
            mean with weights learned in training; ``stacking``, a small model fitted on the validation rows after
            training.
    """

    def __init__(
        self,
        streams: Sequence[str],
        dim: int,
        *,
        decide: Literal["mean", "vote", "learned", "stacking"] = "mean",
    ) -> None:
        super().__init__(streams, dim)
        self.decide = decide
        self.logits = nn.Parameter(torch.zeros(len(self.streams))) if decide == "learned" else None

    def answering(self, make: Callable[[], Task[Any]]) -> Task[Any]:
        return LateHeads(self.streams, make, decide=self.decide, share=self.share)

    def share(self, presence: Tensor) -> Tensor:
        """The weight ``[B, S]`` of each stream, given which are present (``presence``, ``[B, S]``)."""
        score = torch.zeros(len(self.streams), device=presence.device) if self.logits is None else self.logits
        return shares(score.expand(presence.shape), presence)

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``share`` of the streams of ``parts``; empty with ``stacking``, where each task has weights of its own
        (``stacker``)."""
        presence = torch.stack([parts[s].present for s in self.streams], dim=1)
        return {} if self.decide == "stacking" else {"share": self.share(presence)}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        share = self.share(presence).to(pooled)
        return Encoded(pooled, presence, torch.einsum("bs,bsd->bd", share, pooled), presence.any(dim=1))
