"""Limits on the size of a network that is built from a file, given the weights in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode

from sensorium.core.errors import ConfigError

SPARE = 1 << 24
"""Numbers one tensor may have beyond those in the file: position tables, filterbanks, initial weights."""
PARTS = 4_000
"""Parameters, buffers and modules allowed beyond a few per tensor of the file: layers without weights."""


@contextmanager
def build_budget(elements: int, tensors: int) -> Iterator[None]:
    """Context manager: limit networks built inside to the size of a file of ``tensors`` tensors with ``elements`` numbers.

    Tensors are measured before they are allocated, and parameters, buffers and modules are counted as they are registered,
    so
    a recipe for a huge network is refused (``ConfigError``) at once. Shared or replaced weights (LoRA) count twice, so the
    limit has a margin.
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


T = TypeVar("T")


def outside_budget(make: Callable[[], T]) -> T:
    """Return ``make()`` without the limit of a ``build_budget`` and without a ``loading_guard`` around it.

    For weights that have limits of their own: a language model that the user lends. Both hold in one thread only.
    """
    with ThreadPoolExecutor(1) as other:
        return other.submit(make).result()


class _Count:
    """Count of the parameters, buffers and modules registered so far by this thread."""

    def __init__(self, elements: int, parts: int) -> None:
        self.elements, self.parts = elements, parts
        self.thread = threading.get_ident()

    def parameter(self, module: nn.Module, name: str, value: Tensor | None) -> None:
        """Hook: called before a parameter or buffer is registered."""
        if value is not None and self.thread == threading.get_ident():
            self.elements -= value.numel()
            self.parts -= 1
            self._check(module)

    def module(self, module: nn.Module, name: str, value: nn.Module | None) -> None:
        """Hook: called before a submodule is registered."""
        if value is not None and self.thread == threading.get_ident():
            self.parts -= 1
            self._check(module)

    def _check(self, module: nn.Module) -> None:
        if self.elements < 0 or self.parts < 0:
            raise _too_large(type(module).__name__)


class _Measured(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that checks the size of tensors before they are created, and of the results of operations."""

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
        """Return the number of elements of a tensor, without creating it."""
        if not any(argument.name == "device" for argument in func._schema.arguments):
            return 0
        try:
            options = {**kwargs, "device": torch.device("meta"), "pin_memory": None}
            shadow = func(*args, **(options | {"generator": None} if "generator" in options else options))
        except (NotImplementedError, RuntimeError, TypeError):
            return 0  # torch will report the error when the tensor is created
        return int(shadow.numel()) if isinstance(shadow, Tensor) else 0


def _too_large(what: str) -> ConfigError:
    return ConfigError(
        f"the recipe asks for a larger network than the file of weights holds (met at {what})",
        fix="the files belong together as they were saved: copy the whole folder again",
    )
