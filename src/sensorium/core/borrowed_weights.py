"""Weights that a saved model does not contain: the folder of the language model that it was trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePath

from sensorium.core.errors import ConfigError


@dataclass(frozen=True)
class SearchedFolders:
    """The folders in which a model that is being loaded looks for borrowed weights.

    Args:
        named: The folder named by the user; None: not named.
        run: The folder of the saved model.
    """

    named: Path | None
    run: Path


def parted(recorded: str | None) -> tuple[str, str | None]:
    """Return the folder and the digest in ``recorded``, ``FOLDER@SHA-256``; an empty folder is a placeholder."""
    match = re.fullmatch(r"(.*)@([0-9a-f]{64})", recorded or "", re.DOTALL)
    return (recorded or "", None) if match is None else (match[1], match[2])


_SEARCHED: ContextVar[SearchedFolders | None] = ContextVar("searched_folders", default=None)


@contextmanager
def lending(named: Path | None, run: Path) -> Iterator[None]:
    """Context in which the model saved in ``run`` is loaded; ``named`` is the user's folder of its borrowed weights."""
    token = _SEARCHED.set(SearchedFolders(named, run))
    try:
        yield
    finally:
        _SEARCHED.reset(token)


_KNOWN: dict[str, Path] = {}


def remember(digest: str, folder: Path) -> None:
    """Record that the weights of this ``digest`` are in ``folder``, for models that this process loads later."""
    _KNOWN[digest] = folder.resolve()


def borrowed_folder(recorded: str, digest: str | None, option: str) -> Path:
    """Return the folder of the weights that a recipe ``recorded``; the caller compares their ``digest``.

    While a saved model is loaded, it is the folder that the user names with ``option`` (``--lm``); otherwise one that this
    process has read before, or the recorded one if it is relative and in the working folder, beside the run or in it.
    """
    searched = _SEARCHED.get()
    if searched is None:
        return Path(recorded).expanduser()
    if digest is None:
        raise ConfigError(f"names {recorded[:200]!r}, and not its SHA-256", fix="train again with fit, which records it")
    if searched.named is not None:
        return searched.named
    if digest in _KNOWN:
        return _KNOWN[digest]
    inner = PurePath(recorded)
    if not inner.is_absolute() and ".." not in inner.parts and not recorded.startswith("~"):
        for root in (Path(), searched.run, searched.run.parent):
            if (root / inner / "config.json").is_file():
                return root / inner
    raise ConfigError(
        f"was trained on {recorded[:200]!r}, whose weights it does not hold", fix=f"name its folder: {option} FOLDER"
    )
