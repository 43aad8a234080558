"""Masked modelling of patches, steps, words and cells."""

from __future__ import annotations

import math
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core.batch import Field
from sensorium.core.contracts import Encoder, Operable, TokenEncoder
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.forward import Forward, Passable
from sensorium.core.layout import Grid, Ids, Layout, Row
from sensorium.core.objective import Objective
from sensorium.core.registry import component
from sensorium.nn.loss_reduction import weighted_mean
from sensorium.nn.streams import vectors
from sensorium.nn.token_targets import hidden_tokens, patches
from sensorium.nn.views import layouts_of


class Parts(Passable, Operable, Protocol):
    """A model whose encoders can be called in two steps."""


@component
class Masked(Objective):
    """Masked modelling: random patches, steps, words or cells are hidden and predicted from the rest and the other streams.

    Of each stream whose encoder reads tokens (``patch``, ``vit``, ``transformer``, ``cells``): patches, steps and numbers
    of a table are predicted with a squared error, words and categories with cross-entropy, each scaled to 1 for an
    uninformed prediction. The vectors of the row's other streams are context. The prediction layers exist in training
    only. Convolutions before the tokens (the stem of ``vit``) see the edges of hidden patches.
    Sources: words, Devlin et al. 2019 (BERT), https://arxiv.org/abs/1810.04805, § 3.1, without the 10 % of kept and
    exchanged words; patches, He et al. 2022 (MAE), https://arxiv.org/abs/2111.06377, with the encoder reading mask tokens;
    other streams as context, Li et al. 2021 (ALBEF), https://arxiv.org/abs/2107.07651, § 3.2.

    Args:
        weight: Weight of this term.
        streams: The streams; None: all whose encoders read tokens.
        share: Share of the tokens that is hidden.
        hidden: Width of the prediction layers.
    """

    per_row: ClassVar[bool] = False
    unlabelled: ClassVar[bool] = True
    raw: ClassVar[bool] = True
    validated: ClassVar[bool] = True

    def __init__(
        self,
        model: Parts,
        *,
        weight: float = 1.0,
        streams: list[str] | None = None,
        share: float = 0.4,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ConfigError(f"masked: weight is {weight}", fix="a weight is 0 or more")
        if not 0 < share < 1:
            raise ConfigError(f"masked: share is {share}", fix="between 0 and 1; 0.4 is usual")
        self.weight, self.share, self.all = weight, share, list(model.fusion.streams)
        encoders = {stream: model.encoders[stream] for stream in _chosen(model, streams)}
        # In a tuple, so that the model's encoders are not registered, saved and optimised twice.
        self._encoders = (encoders,)
        layouts = layouts_of(model)
        self.layouts = {stream: layouts[stream] for stream in encoders}
        self.hint = nn.ParameterList(nn.Parameter(torch.zeros(encoder.dim)) for encoder in encoders.values())
        self.read = nn.ModuleList(nn.Linear(encoder.dim, hidden) for encoder in encoders.values())
        self.context = nn.ModuleList(nn.Linear(model.fusion.dim, hidden) for _ in encoders)
        self.guess = nn.ModuleList(
            nn.ModuleList(nn.Linear(hidden, size) for size in _sizes(self.layouts[stream], encoder))
            for stream, encoder in encoders.items()
        )

    def forward(self, run: Forward) -> dict[str, Tensor]:
        pooled, presence = vectors(run.streams, self.all)
        terms = []
        for i, (stream, encoder) in enumerate(self._encoders[0].items()):
            rows = (run.inputs[stream].present & (run.batch.weight > 0)).nonzero()[:, 0]
            if not len(rows):
                continue
            assert isinstance(encoder, TokenEncoder)
            others = torch.tensor([name != stream for name in self.all], device=rows.device) & presence[rows]
            mean = (pooled[rows] * others.unsqueeze(2)).sum(dim=1) / others.sum(dim=1, keepdim=True).clamp(min=1)
            losses = self._guessed(i, stream, encoder, run.inputs[stream], rows, mean)
            terms.append(weighted_mean(losses, run.batch.weight[rows]))
        return {"masked": self.weight * torch.stack(terms).mean()} if terms else {}

    def _guessed(self, i: int, stream: str, encoder: TokenEncoder, field: Field, rows: Tensor, others: Tensor) -> Tensor:
        """Return the mean loss of the hidden tokens of each of ``rows`` ``[b]``, given the mean of the other streams."""
        layout = self.layouts[stream]
        data, mask = field.data[rows], None if field.mask is None else field.mask[rows]
        if mask is None and isinstance(layout, Ids):
            mask = data != 0
        tokens, real = encoder.embed(data, mask)
        # What remains of a token without its content: its position, or its column.
        blank, _ = encoder.embed(torch.zeros_like(data), mask)
        hide = hidden_tokens(real, self.share)
        tokens = torch.where(hide.unsqueeze(2), blank + self.hint[i], tokens)
        encoded = encoder.trunk(tokens, real)
        code = F.gelu(self.read[i](encoded) + self.context[i](others).unsqueeze(1))
        guesses = self.guess[i]
        assert isinstance(guesses, nn.ModuleList)
        losses = _losses(layout, encoder, data, hide, code, guesses)
        return (losses * hide).sum(dim=1) / hide.sum(dim=1).clamp(min=1)


def _chosen(model: Parts, streams: list[str] | None) -> list[str]:
    known = list(model.fusion.streams)
    reads = [stream for stream in known if isinstance(model.encoders[stream], TokenEncoder)]
    if streams is None:
        if not reads:
            raise ConfigError(
                "masked: no stream has an encoder of tokens", fix=f"model.encoders.{known[0]}=patch, transformer or cells"
            )
        return reads
    for stream in streams:
        if stream not in known:
            raise ConfigError(f"masked: no stream named {stream!r}{nearest(stream, known)}")
        if stream not in reads:
            raise ConfigError(
                f"masked: the encoder of {stream!r} has no tokens to hide",
                fix=f"model.encoders.{stream}=patch, transformer or cells",
            )
    return streams


def _stride(layout: Grid, encoder: Encoder) -> tuple[int, ...]:
    """Return the number of positions of the data per token, along each axis."""
    return encoder.levels[0].stride if encoder.levels else (1,) * len(layout.size)


def _sizes(layout: Layout, encoder: Encoder) -> list[int]:
    """Return how many numbers are predicted for a token, or for each cell of a table."""
    if isinstance(layout, Grid):
        return [layout.channels * math.prod(_stride(layout, encoder))]
    if isinstance(layout, Row):
        return [max(1, n) for n in layout.cardinalities]
    if isinstance(layout, Ids):
        return [layout.vocabulary]
    raise ConfigError(f"masked: cannot hide parts of {layout}")


def _losses(layout: Layout, encoder: Encoder, data: Tensor, hide: Tensor, code: Tensor, guesses: nn.ModuleList) -> Tensor:
    """Return the loss of predicting each token ``[B, N]`` from ``code`` ``[B, N, H]``; only those in ``hide`` count."""
    if isinstance(layout, Grid):
        target = patches(data, _stride(layout, encoder))
        made: Tensor = guesses[0](code).float()
        return (made - _standard(target, hide)).square().mean(dim=2)
    if isinstance(layout, Ids):
        logits = guesses[0](code).float().transpose(1, 2)
        return F.cross_entropy(logits, data, reduction="none") / math.log(max(layout.vocabulary, 2))
    losses = []
    assert isinstance(layout, Row)
    for cell, (n, guess) in enumerate(zip(layout.cardinalities, guesses, strict=True)):
        guessed, value = guess(code[:, cell]).float(), data[:, cell]
        if n == 0:
            target = _standard(value[:, None, None], hide[:, cell, None])[:, 0, 0]
            losses.append((guessed[:, 0] - target).square())
        else:
            known = value.nan_to_num(0.0).long().clamp(0, n - 1)
            losses.append(F.cross_entropy(guessed, known, reduction="none") / math.log(max(n, 2)))
    return torch.stack(losses, dim=1)


def _standard(values: Tensor, hide: Tensor) -> Tensor:
    """Return ``values`` ``[B, N, F]`` standardised by mean and deviation of the hidden tokens of this batch."""
    chosen = torch.where(hide.unsqueeze(2), values, 0.0)
    count = hide.sum() * values.shape[2]
    mean = chosen.sum() / count.clamp(min=1)
    variance = (torch.where(hide.unsqueeze(2), values - mean, 0.0)).square().sum() / count.clamp(min=1)
    return torch.where(hide.unsqueeze(2), (values - mean) / (variance + 1e-6).sqrt(), 0.0).clamp(-10, 10)
