"""Building a network that a file describes, at no more cost than the weights beside it account for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode

from sensorium.core.errors import ConfigError

SPARE = 1 << 24
"""Numbers that one tensor may have beyond what the file holds: tables of positions, filter banks, first random weights."""
PARTS = 4_000
"""Parameters, buffers and modules beyond a few for each tensor of the file: layers without weights."""


@contextmanager
def within(elements: int, tensors: int) -> Iterator[None]:
    """What is built in here may have as many weights as a file with ``tensors`` tensors of ``elements`` numbers in all.

    A tensor is measured before it is made, and parameters, buffers and modules are counted as they are registered: a
    recipe that asks for a milliard layers, or for one as wide, is refused (``ConfigError``) after a moment. Weights that
    two parts share, or that are put in the place of others (LoRA), count twice, hence some play.
    """
    count = _Count(2 * elements + SPARE, 8 * tensors + PARTS)
    taken = [
        hooks.register_module_parameter_registration_hook(count.parameter),
        hooks.register_module_buffer_registration_hook(count.parameter),
        hooks.register_module_module_registration_hook(count.module),
    ]
    try:
        with _Measured(elements + SPARE):
            yield
    finally:
        for hook in taken:
            hook.remove()


class _Count:
    """What was registered so far, by this thread."""

    def __init__(self, elements: int, parts: int) -> None:
        self.elements, self.parts = elements, parts
        self.thread = threading.get_ident()

    def parameter(self, module: nn.Module, name: str, value: Tensor | None) -> None:
        """Called before a parameter or a buffer becomes a module's."""
        if value is not None and self.thread == threading.get_ident():
            self.elements -= value.numel()
            self.parts -= 1
            self._check(module)

    def module(self, module: nn.Module, name: str, value: nn.Module | None) -> None:
        """Called before a module becomes a part of another."""
        if value is not None and self.thread == threading.get_ident():
            self.parts -= 1
            self._check(module)

    def _check(self, module: nn.Module) -> None:
        if self.elements < 0 or self.parts < 0:
            raise _too_large(type(module).__name__)


class _Measured(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at each tensor before it is made out of nothing, and at what comes of others."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(x, Tensor) for x in (*args, *kwargs.values())) and self._size(func, args, kwargs) > self.most:
            raise _too_large(str(func))
        made = func(*args, **kwargs)
        if isinstance(made, Tensor) and made.numel() > self.most and not made.is_meta:
            raise _too_large(str(func))
        return made

    @staticmethod
    def _size(func: Any, args: Any, kwargs: Any) -> int:
        """How many numbers a tensor would have, found without making it."""
        if not any(argument.name == "device" for argument in func._schema.arguments):
            return 0
        try:
            told = {**kwargs, "device": torch.device("meta"), "pin_memory": None}
            shadow = func(*args, **(told | {"generator": None} if "generator" in told else told))
        except (NotImplementedError, RuntimeError, TypeError):
            return 0  # as it would be made: torch says what is wrong with it
        return int(shadow.numel()) if isinstance(shadow, Tensor) else 0


def _too_large(what: str) -> ConfigError:
    return ConfigError(
        f"the recipe asks for a larger network than the file of weights holds (met at {what})",
        fix="the files belong together as they were saved: copy the whole folder again",
    )
