"""Weights that a saved model does not hold: the folder of the language model that it was trained on, found again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePath

from sensorium.core.errors import ConfigError


@dataclass(frozen=True)
class Lent:
    """Where a model that is being loaded may look.

    Args:
        named: The folder that the user names; None: none is named.
        run: The folder of the saved model.
    """

    named: Path | None
    run: Path


def parted(recorded: str | None) -> tuple[str, str | None]:
    """Return the folder and the digest in ``recorded``, ``FOLDER@SHA-256``; an empty folder is a stand-in."""
    found = re.fullmatch(r"(.*)@([0-9a-f]{64})", recorded or "", re.DOTALL)
    return (recorded or "", None) if found is None else (found[1], found[2])


_LENT: ContextVar[Lent | None] = ContextVar("lent", default=None)


@contextmanager
def lending(named: Path | None, run: Path) -> Iterator[None]:
    """While the model saved in ``run`` is loaded: the folder ``named`` by the user is what it was trained on."""
    token = _LENT.set(Lent(named, run))
    try:
        yield
    finally:
        _LENT.reset(token)


_FOUND: dict[str, Path] = {}


def remember(digest: str, folder: Path) -> None:
    """Note that the weights of this ``digest`` lie in ``folder``, for models that this process loads later."""
    _FOUND[digest] = folder.resolve()


def lent_folder(recorded: str, digest: str | None, option: str) -> Path:
    """Return the folder of weights that a recipe ``recorded``, with their ``digest``, which the caller compares.

    While a saved model is loaded it is the one that the user names, by ``option`` (``--lm``); if none is named, one that
    this process has read before, or the recorded one where it is relative and lies in the working folder, beside the run or
    in it.
    """
    lent = _LENT.get()
    if lent is None:
        return Path(recorded).expanduser()
    if digest is None:
        raise ConfigError(f"names {recorded[:200]!r}, and not its SHA-256", fix="train again with fit, which records it")
    if lent.named is not None:
        return lent.named
    if digest in _FOUND:
        return _FOUND[digest]
    inner = PurePath(recorded)
    if not inner.is_absolute() and ".." not in inner.parts and not recorded.startswith("~"):
        for root in (Path(), lent.run, lent.run.parent):
            if (root / inner / "config.json").is_file():
                return root / inner
    raise ConfigError(
        f"was trained on {recorded[:200]!r}, whose weights it does not hold", fix=f"name its folder: {option} FOLDER"
    )
