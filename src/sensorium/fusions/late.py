"""Late fusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion, Task
from sensorium.core.registry import component
from sensorium.heads.late_heads import Panel
from sensorium.nn.streams import shares, vectors


@component
class Late(Fusion):
    """Every stream answers by itself, with its own head and its own loss; the answers are then made one.

    Take it where each stream is nearly enough alone, where streams are few rows each, or where a person must see who said
    what. It never sees two streams together: where the answer lies between them (a question about a picture) take
    ``lowrank`` or ``cross_modal``. A row with one stream is exactly that stream's own model. The vector is the
    weighted mean of the streams' vectors, and the tokens are those vectors.
    Source: sum and majority rule, https://doi.org/10.1109/34.667881; stacked generalization,
    https://doi.org/10.1016/S0893-6080(05)80023-1.

    Args:
        decide: ``mean`` of the chances (or numbers); ``vote``, the most votes (of numbers the median); ``learned``, a mean
            with weights learnt in training; ``stacking``, a small model learnt on the validation rows after training.
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
        return Panel(self.streams, make, decide=self.decide, share=self.share)

    def share(self, here: Tensor) -> Tensor:
        """How much each stream that is there ``[B, S]`` counts ``[B, S]``."""
        score = torch.zeros(len(self.streams), device=here.device) if self.logits is None else self.logits
        return shares(score.expand(here.shape), here)

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Nothing with ``stacking``: there each task has weights of its own, in its ``stacker``."""
        here = torch.stack([parts[s].present for s in self.streams], dim=1)
        return {} if self.decide == "stacking" else {"share": self.share(here)}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, here = vectors(parts, self.streams)  # [B, S, D], [B, S]
        share = self.share(here).to(pooled)
        return Encoded(pooled, here, torch.einsum("bs,bsd->bd", share, pooled), here.any(dim=1))
