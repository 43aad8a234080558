"""Stacking: a small model that combines the outputs of several models, fitted on held-out rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sensorium.core.batch import Field
from sensorium.nn.streams import shares

RIDGE = 1.0
"""Strength of the ridge penalty, in rows' worth of loss per squared unit; regularises fits on few rows."""
SUBSETS = 64


class Stacker(nn.Module):
    """Combines outputs ``[B, S, K]`` of S models: z = exp(γₙ) Σₛ αₛₖ oₛₖ + βₙₖ, where n models are present.

    α is a softmax over the present models. γ₁ = β₁ = 0, so a single model's output is unchanged. γ scales the confidence of
    n models together, β removes their repeated prior. All are buffers, set only by ``learn_stacker``; initially the result
    is the mean. Source: stacked generalization, https://doi.org/10.1016/S0893-6080(05)80023-1; non-negative weights,
    https://doi.org/10.1007/BF00117832.

    Args:
        models: Number of models S.
        width: Width of an output K.
    """

    def __init__(self, models: int, width: int) -> None:
        super().__init__()
        self.score: Tensor
        self.sharpness: Tensor
        self.offset: Tensor
        self.register_buffer("score", torch.zeros(models, width))
        self.register_buffer("sharpness", torch.zeros(models - 1))
        self.register_buffer("offset", torch.zeros(models - 1, width))

    def share(self) -> Tensor:
        """Return the weights α ``[S]`` with all models present, averaged over the outputs."""
        return self.score.softmax(dim=0).mean(dim=1)

    def forward(self, model_outputs: Tensor, presence: Tensor) -> Tensor:
        return stacked(model_outputs, presence, self.score, self.sharpness, self.offset)


def stacked(model_outputs: Tensor, presence: Tensor, score: Tensor, sharpness: Tensor, offset: Tensor) -> Tensor:
    """Combine outputs by the equation of ``Stacker``.

    Args:
        model_outputs: Outputs of the models ``[B, S, K]``.
        presence: Which models are present ``[B, S]``.
        score: Logits of the weights α ``[S, K]``.
        sharpness: γ ``[S - 1]``.
        offset: β ``[S - 1, K]``.
    """
    weight = shares(score.expand(model_outputs.shape), presence)  # [B, S, K]
    count = presence.sum(dim=1).clamp(min=1) - 1
    scale = torch.cat([sharpness.new_zeros(1), sharpness]).exp()[count]
    shift = torch.cat([offset.new_zeros(1, offset.shape[1]), offset])[count]
    return scale.unsqueeze(1) * (weight * model_outputs).sum(dim=1) + shift


def learn_stacker(
    stacker: Stacker,
    model_outputs: tuple[Tensor, Tensor],
    target: Field,
    weight: Tensor,
    loss: Callable[[Tensor, Field], Tensor],
) -> None:
    """Fit a stacker with a ridge penalty towards the mean, on complete rows and with streams removed.

    Args:
        stacker: The stacker to fit in place.
        model_outputs: Outputs ``[B, S, K]`` and which models are present ``[B, S]``.
        target: The targets; rows without one are skipped.
        weight: Weights of the rows ``[B]``.
        loss: The loss ``[B]`` of an output ``[B, K]``.
    """
    outputs, presence = model_outputs
    known = target.present & (weight > 0) & (presence.sum(dim=1) > 1)
    if not bool(known.any()):
        return
    rows = known.nonzero().squeeze(1)
    outputs, presence, weight = outputs[rows].double(), presence[rows], weight[rows].double()
    truth = target.map(lambda tensor: tensor[rows])
    parameters = [t.double().clone().requires_grad_() for t in (stacker.score, stacker.sharpness, stacker.offset)]
    parts = [presence & subset for subset in _subsets(presence.shape[1]).to(presence.device)]
    search = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        search.zero_grad()
        total = sum((value.square().sum() for value in parameters), torch.zeros((), dtype=torch.float64)) * RIDGE
        for part in parts:
            # The parameters do not affect rows with a single model.
            counts = weight * (part.sum(dim=1) > 1)
            total = total + (loss(stacked(outputs, part, *parameters), truth) * counts).sum() / len(parts)
        total.backward()  # type: ignore[no-untyped-call]
        return total.detach()

    with torch.enable_grad():
        search.step(step)  # type: ignore[no-untyped-call]
    if all(bool(value.isfinite().all()) for value in parameters):
        for buffer, value in zip((stacker.score, stacker.sharpness, stacker.offset), parameters, strict=True):
            buffer.copy_(value.detach())


def _subsets(models: int) -> Tensor:
    """Sets of two or more models ``[sets, S]``: all of them if few, else the full set and fixed random ones."""
    if 2**models <= SUBSETS:
        every = torch.arange(2**models).unsqueeze(1) >> torch.arange(models) & 1
        return every[every.sum(dim=1) > 1].bool()
    draw = torch.rand(SUBSETS - 1, models, generator=torch.Generator().manual_seed(0)) < 0.5
    return torch.cat([torch.ones(1, models, dtype=torch.bool), draw])
