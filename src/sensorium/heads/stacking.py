"""Stacking: a small model of what several models say, learnt on rows that none of them has learnt from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sensorium.core.batch import Field
from sensorium.nn.streams import shares

RIDGE = 1.0
"""How many rows' worth of loss it costs to move a weight by 1: what a few rows say is not believed much."""
SUBSETS = 64


class Stacker(nn.Module):
    """Outputs ``[B, S, K]`` of S models to one ``[B, K]``: z = exp(γₙ) Σₛ αₛₖ oₛₖ + βₙₖ, n the models that are there.

    α is a softmax over those that are there, so an absent model counts nothing. γ₁ = β₁ = 0, so a model that is alone is
    believed as it is. γ says how much surer n models are together than on average, β takes back what each assumed (the
    prior, counted n times). All are buffers: nothing but ``learn_stacker`` changes them. Before that it is the mean.
    Source: stacked generalization, https://doi.org/10.1016/S0893-6080(05)80023-1; shares that are not negative,
    https://doi.org/10.1007/BF00117832.
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
        """α of every model where all are there ``[S]``, the mean over the outputs."""
        return self.score.softmax(dim=0).mean(dim=1)

    def forward(self, said: Tensor, here: Tensor) -> Tensor:
        return stacked(said, here, self.score, self.sharpness, self.offset)


def stacked(said: Tensor, here: Tensor, score: Tensor, sharpness: Tensor, offset: Tensor) -> Tensor:
    """The equation of ``Stacker``: outputs ``said`` ``[B, S, K]`` of the models present (``here`` ``[B, S]``), combined
    with ``score``, ``sharpness`` and ``offset``."""
    weight = shares(score.expand(said.shape), here)  # [B, S, K]
    count = here.sum(dim=1).clamp(min=1) - 1
    scale = torch.cat([sharpness.new_zeros(1), sharpness]).exp()[count]
    shift = torch.cat([offset.new_zeros(1, offset.shape[1]), offset])[count]
    return scale.unsqueeze(1) * (weight * said).sum(dim=1) + shift


def learn_stacker(
    stacker: Stacker,
    said: tuple[Tensor, Tensor],
    target: Field,
    weight: Tensor,
    loss: Callable[[Tensor, Field], Tensor],
) -> None:
    """Fit ``stacker`` by minimising the loss on complete rows and on rows with streams removed, with a ridge penalty
    towards the mean.

    Args:
        stacker: Fitted in place.
        said: Outputs ``[B, S, K]`` and which models are present ``[B, S]``.
        target: The target of each row.
        weight: The weight ``[B]`` of each row; rows without a target are skipped.
        loss: ``[B]`` of an output ``[B, K]``.
    """
    outputs, here = said
    known = target.present & (weight > 0) & (here.sum(dim=1) > 1)
    if not bool(known.any()):
        return
    rows = known.nonzero().squeeze(1)
    outputs, here, weight = outputs[rows].double(), here[rows], weight[rows].double()
    truth = target.map(lambda tensor: tensor[rows])
    found = [t.double().clone().requires_grad_() for t in (stacker.score, stacker.sharpness, stacker.offset)]
    parts = [here & subset for subset in _subsets(here.shape[1]).to(here.device)]
    search = torch.optim.LBFGS(found, max_iter=200, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        search.zero_grad()
        total = sum((value.square().sum() for value in found), torch.zeros((), dtype=torch.float64)) * RIDGE
        for part in parts:
            # A row with one model is answered by that model, whatever is learnt here.
            counts = weight * (part.sum(dim=1) > 1)
            total = total + (loss(stacked(outputs, part, *found), truth) * counts).sum() / len(parts)
        total.backward()  # type: ignore[no-untyped-call]
        return total.detach()

    with torch.enable_grad():
        search.step(step)  # type: ignore[no-untyped-call]
    if all(bool(value.isfinite().all()) for value in found):
        for buffer, value in zip((stacker.score, stacker.sharpness, stacker.offset), found, strict=True):
            buffer.copy_(value.detach())


def _subsets(models: int) -> Tensor:
    """Sets of two or more models ``[sets, S]``: all of few; of many the whole set and random ones, always the same."""
    if 2**models <= SUBSETS:
        every = torch.arange(2**models).unsqueeze(1) >> torch.arange(models) & 1
        return every[every.sum(dim=1) > 1].bool()
    draw = torch.rand(SUBSETS - 1, models, generator=torch.Generator().manual_seed(0)) < 0.5
    return torch.cat([torch.ones(1, models, dtype=torch.bool), draw])
