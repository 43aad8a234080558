"""While a saved model is loaded nothing but its own files is read: who would read others asks here first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sensorium.core.errors import ConfigError

_SEALED: ContextVar[bool] = ContextVar("sealed", default=False)


@contextmanager
def loading_guard() -> Iterator[None]:
    """Within it ``check_open`` refuses, whichever part asks and however deep it is nested."""
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
            f"names {name[:200]!r}, and does not hold what was read of it: a saved model stands alone",
            fix="train again with fit, which writes into the model what it needs",
        )
