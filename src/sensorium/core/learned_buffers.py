"""Modules with fitted buffers, whose shapes are known only after fitting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LearnedBuffers(nn.Module):
    """A module that declares buffers by name, dtype and number of axes; fitting or loading sets their shapes.

    ``self.declare("idf", torch.float32, 1)`` in the constructor, ``self.keep("idf", values)`` in ``fit``. A saved model
    is loaded without knowing the shapes in advance; a different name, dtype or number of axes is refused, and memory is
    bounded by the file.
    """

    def __init__(self) -> None:
        super().__init__()
        self._declared: dict[str, tuple[torch.dtype, int]] = {}

    def declare(self, name: str, dtype: torch.dtype, axes: int) -> None:
        """Declare a buffer ``name`` of ``dtype`` with ``axes`` dimensions, empty until it is fitted."""
        self._declared[name] = (dtype, axes)
        self.register_buffer(name, torch.zeros((0,) * axes, dtype=dtype))

    @property
    def declared(self) -> dict[str, int]:
        """The number of axes of each declared buffer."""
        return {name: axes for name, (_, axes) in self._declared.items()}

    def keep(self, name: str, values: Tensor) -> None:
        """Fill the declared buffer ``name`` with ``values``."""
        dtype, axes = self._declared[name]
        if values.dim() != axes:
            raise ValueError(f"{type(self).__name__}.{name} has {axes} axes, not {values.dim()}")
        self.register_buffer(name, values.detach().to(device=getattr(self, name).device, dtype=dtype).contiguous())

    def check(self) -> None:
        """Raise ``ValueError`` if the loaded buffers are inconsistent, such as a cyclic tree."""

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Load as any module does, resizing declared buffers to the loaded shapes."""
        errors: list[str] = rest[-1]
        for name, (dtype, axes) in self._declared.items():
            loaded = state_dict.get(prefix + name)
            if loaded is None:
                continue  # torch reports what is absent
            if loaded.dtype != dtype or loaded.dim() != axes:
                errors.append(f"{prefix}{name} is {loaded.dtype} with {loaded.dim()} axes, not {dtype} with {axes}")
                continue
            mine: Tensor = getattr(self, name)
            if mine.shape != loaded.shape:
                self.register_buffer(name, torch.empty(loaded.shape, dtype=dtype, device=mine.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
