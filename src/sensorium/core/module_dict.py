"""Modules under any column name. ``nn.ModuleDict`` refuses ``items``, ``type`` or ``a.b``; a table does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast
from urllib.parse import quote, unquote

from torch import nn

M = TypeVar("M", bound=nn.Module)


class NamedModules(nn.Module, Generic[M]):
    """A mapping from any string to a module, in the order given; state-dict keys are ``of_`` + the escaped name."""

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(self._escape(name), module)

    @staticmethod
    def _escape(name: str) -> str:
        return "of_" + quote(name, safe="").replace(".", "%2E")

    def __getitem__(self, name: str) -> M:
        module = self._modules.get(self._escape(name))
        if module is None:
            raise KeyError(name)
        return cast(M, module)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._escape(name) in self._modules

    def __iter__(self) -> Iterator[str]:
        return (unquote(key[3:]) for key in self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def items(self) -> Iterator[tuple[str, M]]:
        """Names and modules, in order."""
        return ((name, self[name]) for name in self)

    def values(self) -> Iterator[M]:
        """The modules, in order."""
        return (self[name] for name in self)
