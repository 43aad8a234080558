"""Guard that keeps a model being loaded from reading any file but its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sensorium.core.errors import ConfigError

_SEALED: ContextVar[bool] = ContextVar("sealed", default=False)


@contextmanager
def loading_guard() -> Iterator[None]:
    """Context in which ``check_open`` refuses, for every component at any depth."""
    token = _SEALED.set(True)
    try:
        yield
    finally:
        _SEALED.reset(token)


def check_open(name: str) -> None:
    """Refuse to read the file ``name`` that a recipe refers to (a checkpoint, word vectors) while a saved model is
    loaded."""
    if _SEALED.get():
        raise ConfigError(
            f"names {name[:200]!r}, whose contents it does not include: a saved model must be self-contained",
            fix="train again with fit, which includes them in the model",
        )
