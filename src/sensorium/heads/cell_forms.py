"""Generation of cells by kind of column: conversion to network values, the likelihood, and conversion back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Attachment
from sensorium.core.batch import Field
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.core.modality import Modality
from sensorium.core.registry import kind_of
from sensorium.signal.griffin_lim import from_mel
from sensorium.signal.mel import log_mel
from sensorium.signal.stft import Framing, frames

LARGEST = 65_536
"""Maximum number of values of a made cell."""
FARTHEST = 6.0
"""Bound of generated standardised values, in deviations from the mean."""
FLOOR = 1e-5
"""Energy of silence in a mel band."""
LIKELY = (-4.0, 2.0)
"""Bounds of the learnt log standard deviation of the residual."""


class CellForm(nn.Module):
    """The cells of one column as ``size`` numbers of about unit variance, in the ``shape`` of a network output.

    Base of the forms below; this one serves numbers and vectors: a standardised value each, sampled with Gaussian noise of
    the learnt deviation, so that generated columns vary as much as real ones.

    Args:
        modality: The fitted modality of the column.
        size: Numbers in a cell.
    """

    mean: Tensor
    scale: Tensor
    noisy = True
    """Whether residual noise is added to generated values; False for media, which it would make grainy."""

    def __init__(self, modality: Modality, size: int) -> None:
        super().__init__()
        self.modality = modality
        self.shape: tuple[int, ...] = (size,)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(1, size))
        self.register_buffer("scale", torch.ones(1, size))

    @property
    def size(self) -> int:
        """Number of network outputs for a cell."""
        return math.prod(self.shape)

    def values(self, field: Field) -> Tensor:
        """The numbers ``[B, *shape]`` of the cells of ``field``, as the modality stores targets."""
        return (field.data.reshape(len(field.present), -1).float() - self.mean) / self.scale

    def fit(self, values: Tensor) -> None:
        """Learn mean and deviation from the training ``values`` ``[B, *shape]``, which were read without them."""
        if len(values):
            deviation = values.std(dim=0, correction=0, keepdim=True)
            self._standardise(values.mean(dim=0, keepdim=True), deviation)

    def _standardise(self, mean: Tensor, deviation: Tensor) -> None:
        self.mean = mean.clone()
        self.scale = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))

    def bounded(self, raw: Tensor) -> Tensor:
        """The network output ``raw`` ``[B, *shape]`` limited to the range of the values."""
        return FARTHEST * torch.tanh(raw / FARTHEST)

    def error(self, raw: Tensor, values: Tensor) -> Tensor:
        """The negative log-likelihood ``[B]`` in nats, up to a constant, of ``values`` given the network output ``raw``,
        both ``[B, *shape]``: Gaussian, with one learnt deviation (Rybkin et al. 2021, https://arxiv.org/abs/2006.13202)."""
        return self._gaussian(self.bounded(raw) - values, torch.ones_like(values))

    def _gaussian(self, residual: Tensor, real: Tensor) -> Tensor:
        log_scale = self.log_scale.clamp(*LIKELY)
        losses = residual.square() * (-2 * log_scale).exp() / 2 + log_scale
        return (losses * real).flatten(1).sum(dim=1)

    def drawn(self, raw: Tensor, noise: Tensor) -> Tensor:
        """Values ``[B, *shape]`` sampled given the network output ``raw``; ``noise`` ``[B, size]`` is standard normal."""
        made = self.bounded(raw)
        return made + noise.reshape(made.shape) * self.log_scale.clamp(*LIKELY).exp() if self.noisy else made

    def cell(self, values: Tensor) -> Any:
        """The cell of one row's ``values`` ``[*shape]``: plain data or an ``Attachment``."""
        numbers = (values.reshape(1, -1) * self.scale + self.mean)[0].cpu().numpy()
        return self.modality.decode(numbers) if len(numbers) == 1 else [float(f"{x:.6g}") for x in numbers.tolist()]

    def truth(self, values: Tensor) -> Any:
        """The cell of a real row's ``values`` ``[*shape]``; None where it would take long to produce."""
        return self.cell(values)


class ClassForm(CellForm):
    """A category: a network gives a logit for each class, and a class is drawn from their probabilities.

    Args:
        modality: The fitted modality of the column.
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality, len(modality.classes))

    def values(self, field: Field) -> Tensor:
        codes = field.data.reshape(len(field.present), -1)[:, 0].nan_to_num(0.0).long()
        return F.one_hot(codes.clamp(0, self.size - 1), self.size).float()

    def fit(self, values: Tensor) -> None:
        """Nothing is learnt: ``values`` are 0 and 1."""

    def bounded(self, raw: Tensor) -> Tensor:
        return raw.softmax(dim=1)

    def error(self, raw: Tensor, values: Tensor) -> Tensor:
        return -(raw.log_softmax(dim=1) * values).sum(dim=1)

    def drawn(self, raw: Tensor, noise: Tensor) -> Tensor:
        # Gumbel-max trick; the uniform numbers are computed from standard normal ones.
        uniform = torch.special.ndtr(noise.double()).clamp(1e-12, 1 - 1e-12)
        gumbel = -(-uniform.log()).log()
        return F.one_hot((raw.log_softmax(dim=1) + gumbel).argmax(dim=1), self.size).float()

    def cell(self, values: Tensor) -> Any:
        return self.modality.decode(np.array([int(values.argmax())]))


class PictureForm(CellForm):
    """A picture: every pixel from -1 to 1.

    Args:
        modality: The fitted modality of the column.
    """

    noisy = False

    def __init__(self, modality: Modality) -> None:
        layout = modality.layout
        assert isinstance(layout, Grid)
        super().__init__(modality, 1)
        self.shape = (layout.channels, *layout.size)

    def values(self, field: Field) -> Tensor:
        return field.data.float() / 127.5 - 1

    def fit(self, values: Tensor) -> None:
        """Nothing is learnt: ``values`` have fixed bounds."""

    def bounded(self, raw: Tensor) -> Tensor:
        return raw.tanh()

    def cell(self, values: Tensor) -> Any:
        pixels: NDArray[np.uint8] = ((values.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
        return Attachment(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)), "image")


class StepsForm(CellForm):
    """Steps along time: standardised channels, and a channel that is 1 where the cell has a step and -1 past its end.

    Args:
        modality: The fitted modality of the column.
        channels: Channels of a step.
        steps: Maximum number of steps of a cell.
    """

    noisy = False

    def __init__(self, modality: Modality, channels: int, steps: int) -> None:
        super().__init__(modality, 1)
        self.channels, self.steps = channels, steps
        self.shape = (channels + 1, steps)
        self.mean = torch.zeros(1, channels, 1)
        self.scale = torch.ones(1, channels, 1)

    def values(self, field: Field) -> Tensor:
        mask = torch.ones(field.data.shape[:2], dtype=torch.bool) if field.mask is None else field.mask
        return self._padded(field.data.float().transpose(1, 2), mask.to(field.data.device))

    def _padded(self, steps: Tensor, mask: Tensor) -> Tensor:
        """``steps`` ``[B, C, T]`` standardised, cut or padded to the longest, with the channel of ``mask`` ``[B, T]``."""
        steps = (steps.nan_to_num(0.0) - self.mean) / self.scale
        room = self.steps - steps.shape[2]
        steps, mask = F.pad(steps, (0, room))[:, :, : self.steps], F.pad(mask, (0, room))[:, : self.steps]
        return torch.cat([steps * mask[:, None], mask[:, None].to(steps) * 2 - 1], dim=1)

    def fit(self, values: Tensor) -> None:
        real = values[:, -1:] > 0
        count = real.sum().clamp(min=1)
        mean = (values[:, :-1] * real).sum(dim=(0, 2), keepdim=True) / count
        square = (values[:, :-1].square() * real).sum(dim=(0, 2), keepdim=True) / count
        self._standardise(mean, (square - mean.square()).clamp(min=0).sqrt())

    def bounded(self, raw: Tensor) -> Tensor:
        flag = raw[:, -1:].tanh()
        steps = FARTHEST * torch.tanh(raw[:, :-1] / FARTHEST)
        # Past the end there is nothing: a critic would otherwise tell made rows by what is there.
        return torch.cat([steps * (flag + 1) / 2, flag], dim=1)

    def error(self, raw: Tensor, values: Tensor) -> Tensor:
        real = (values[:, -1:] > 0).expand(-1, self.channels, -1)
        steps = FARTHEST * torch.tanh(raw[:, :-1] / FARTHEST)
        ends = F.softplus(-2 * raw[:, -1] * values[:, -1]).sum(dim=1)
        return self._gaussian(steps - values[:, :-1], real) + ends

    def length(self, values: Tensor) -> int:
        """The number of steps before the first that is past the end, at least 1, of ``values`` ``[C + 1, T]``."""
        over = (values[-1] <= 0).nonzero()
        return max(1, int(over[0])) if len(over) else self.steps

    def own_units(self, values: Tensor) -> Tensor:
        """The steps ``[T, C]`` of ``values`` ``[C + 1, T]`` in the column's units."""
        flag = ((values[-1:] + 1) / 2).clamp_min(0.5)
        return ((values[:-1] / flag) * self.scale[0] + self.mean[0])[:, : self.length(values)].T

    def cell(self, values: Tensor) -> Any:
        steps = [[float(f"{x:.6g}") for x in step] for step in self.own_units(values).tolist()]
        return [step[0] for step in steps] if self.channels == 1 else steps


class SoundForm(StepsForm):
    """A recording: its log-mel spectrogram, inverted by the Griffin-Lim algorithm.

    Args:
        modality: The fitted modality of the column.
    """

    def __init__(self, modality: Modality) -> None:
        state = modality.state
        self.rate = int(state["rate"])
        window = 1 << max(5, round(math.log2(self.rate * 0.032)))
        self.framing = Framing(window, window // 4)
        self.mels = int(state["mels"])
        super().__init__(modality, self.mels, frames(int(state["length"]), window, window // 4))

    def values(self, field: Field) -> Tensor:
        signal = field.data.float() / 32768
        mask = torch.ones(signal.shape, dtype=torch.bool, device=signal.device) if field.mask is None else field.mask
        window, hop = self.framing.window, self.framing.hop
        bands = log_mel(signal * mask, self.rate, window, hop, self.mels, FLOOR)
        count = frames(mask.sum(dim=1), window, hop)
        return self._padded(bands.transpose(1, 2), torch.arange(bands.shape[1], device=signal.device) < count[:, None])

    def truth(self, values: Tensor) -> Any:
        return None

    def cell(self, values: Tensor) -> Any:
        bands = self.own_units(values)
        energy = (bands.clamp(max=12.0).exp() - FLOOR).clamp_min(0)[None].cpu()
        length = (energy.shape[1] - 1) * self.framing.hop + self.framing.window
        signal = from_mel(energy, self.rate, self.framing, length)[0].numpy()
        loudest = float(np.abs(signal).max())
        return Attachment((signal / max(1.0, loudest)).astype(np.float32), "audio", rate=self.rate)


def form_of(name: str, modality: Modality) -> CellForm:
    """The form of the column ``name`` of ``modality``, fitted.

    Raises:
        ConfigError: Cells of this kind cannot be made, or are too large.
    """
    kind, layout = kind_of(modality), modality.layout
    form: CellForm | None = None
    if modality.single:
        form = ClassForm(modality)
    elif kind == "number":
        form = CellForm(modality, 1)
    elif kind == "vector" and isinstance(layout, Grid):
        form = CellForm(modality, layout.channels)
    elif kind == "image":
        form = PictureForm(modality)
    elif kind == "series":
        form = StepsForm(modality, int(modality.state["channels"]), int(modality.state["length"]))
    elif kind == "audio":
        form = SoundForm(modality)
    if form is None:
        raise ConfigError(
            f"column {name!r}: cells of kind {kind} cannot be made", fix=f"name columns of {alternatives(KINDS)}"
        )
    if form.size > LARGEST:
        raise ConfigError(
            f"column {name!r}: a cell has {form.size:,} values, and at most {LARGEST:,} are made",
            fix=_SMALLER.get(kind, "declare smaller cells").format(name=name),
        )
    return form


KINDS = ("image", "series", "audio", "number", "category", "vector")
"""The kinds of column whose cells can be made."""
_SMALLER = {
    "image": "--as '{name}={{kind: image, size: 64}}'",
    "series": "--as '{name}={{kind: series, length: 512}}'",
    "audio": "--as '{name}={{kind: audio, seconds: 2}}'",
}


def alternatives(names: Sequence[str]) -> str:
    """``names`` as a list in a sentence."""
    return ", ".join(names[:-1]) + f" or {names[-1]}"
