"""The judge of made rows: a network trained on real rows that predicts labels and matches rows to their conditions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.learned_buffers import LearnedBuffers
from sensorium.heads.generation_scorer import Judged
from sensorium.metrics.generation import nearest_rows
from sensorium.nn.contrastive_loss import softmax_loss
from sensorium.nn.grid_generator import Trunk

FEATURES = 32
"""Width of the space in which rows are compared: covariances of a few hundred rows are still of full rank."""
SPACE = 32
SCALE = 10.0
"""Scale of cosines in the contrast of rows and conditions: the inverse of its temperature."""
MOST = 20_000
"""Maximum number of training rows whose features are kept."""


class GenerationJudge(nn.Module):
    """Features ``[B, 32]`` of rows, their predicted labels, and an embedding in a common space with conditions.

    Args:
        shapes: Of the values of each column of a row.
        condition: Width of the conditions.
        classes: Number of classes of each label among the conditions.
        width: Channels of the first layer.
    """

    def __init__(self, shapes: Sequence[Sequence[int]], condition: int, classes: Sequence[int], width: int) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(Trunk(shape, 4 * width, width) for shape in shapes)
        self.features = nn.Sequential(nn.GELU(), nn.Dropout(0.2), nn.Linear(4 * width, FEATURES))
        self.heads = nn.ModuleList(nn.Linear(FEATURES, max(1, count)) for count in classes)
        self.own, self.other = nn.Linear(FEATURES, SPACE), nn.Linear(condition, SPACE)
        self.memory = LearnedBuffers()
        self.memory.declare("rows", torch.float32, 2)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Features ``[B, 32]`` of rows by column, ``parts`` ``[B, *shape]``."""
        joint = torch.stack([trunk(part) for trunk, part in zip(self.trunks, parts, strict=True)]).mean(dim=0)
        out: Tensor = self.features(joint).float()
        return out

    def loss(self, parts: Sequence[Tensor], condition: Tensor, codes: Tensor, present: Tensor) -> Tensor:
        """The loss ``[B]`` on real rows: classification of their labels, and matching with their conditions among those of
        the batch (contrast).

        Args:
            parts: Rows by column ``[B, *shape]``.
            condition: Conditions ``[B, C]``, without gradient.
            codes: Labels ``[B, K]``, counted from 1; 0 is unknown.
            present: Which rows have conditions ``[B]``.
        """
        features = self(parts)
        total = torch.zeros(len(codes), device=features.device)
        for k, head in enumerate(self.heads):
            known = codes[:, k] > 0
            losses = F.cross_entropy(head(F.gelu(features)), (codes[:, k] - 1).clamp(min=0), reduction="none")
            total = total + losses * known
        logits = SCALE * _unit(self.own(features)) @ _unit(self.other(condition)).T
        own = torch.eye(len(codes), dtype=torch.bool, device=features.device)
        counted = present.expand(len(codes), -1)
        return total + softmax_loss(logits, own, counted) * present

    def similarity(self, parts: Sequence[Tensor], condition: Tensor) -> Tensor:
        """Cosine ``[B]`` of rows, by column in ``parts``, and their ``condition`` ``[B, C]`` in the common space."""
        return (_unit(self.own(self(parts))) * _unit(self.other(condition))).sum(dim=1)

    def remember(self, parts: Sequence[Tensor]) -> None:
        """Keep the features of the training rows ``parts``, by column, to detect made rows that copy them."""
        with torch.no_grad():
            rows = [self([part[i : i + 256] for part in parts]) for i in range(0, min(MOST, len(parts[0])), 256)]
        self.memory.keep("rows", torch.cat(rows) if rows else torch.zeros(0, FEATURES))

    @torch.no_grad()
    def compare(
        self, real: Sequence[Tensor], made: Sequence[Tensor], condition: Tensor, codes: Tensor, present: Tensor
    ) -> Judged:
        """Judge real and made rows, one made row for each real one under the same conditions.

        Args:
            real: Real rows by column ``[n, *shape]``.
            made: Made rows by column.
            condition: Their conditions ``[n, C]``.
            codes: The labels among them ``[n, K]``, from 1; 0 is unknown.
            present: Which rows have conditions ``[n]``.
        """
        features, made_features = self(real), self(made)
        unknown = torch.full((len(codes),), torch.nan, device=features.device)
        memory = self.memory.get_buffer("rows")
        nears = [nearest_rows(part, memory)[0] if len(memory) else unknown for part in (made_features, features)]
        likeness = [
            torch.where(present, (_unit(self.own(part)) * _unit(self.other(condition))).sum(dim=1), unknown)
            for part in (made_features, features)
        ]
        agrees = [self._agrees(part, codes) for part in (made_features, features)]
        return Judged(
            features, made_features, agrees[0], agrees[1], likeness[0], likeness[1], nears[0], nears[1], codes, condition
        )

    def _agrees(self, features: Tensor, codes: Tensor) -> Tensor:
        """Whether all known labels of a row are predicted correctly ``[n]``: 1, 0, or NaN where none is known."""
        right = torch.ones(len(codes), device=features.device)
        for k, head in enumerate(self.heads):
            answer = head(F.gelu(features)).argmax(dim=1) + 1
            right = right * ((answer == codes[:, k]) | (codes[:, k] == 0))
        return right.masked_fill(~(codes > 0).any(dim=1), torch.nan)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=1)
