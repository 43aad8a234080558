"""Options within their bounds, or an error that names them."""

from __future__ import annotations

from sensorium.core.errors import ConfigError


def at_least(least: int, **given: int | None) -> None:
    """Refuse an option below ``least``; None (chosen later) passes."""
    for name, value in given.items():
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}; it must be {least} or more", fix=f"{name}: {least}")


def positive(**given: float) -> None:
    """Refuse an option that is zero or below."""
    for name, value in given.items():
        if not value > 0:
            raise ConfigError(f"{name} is {value:g}; it must be above 0", fix=f"{name}: 1.0")


def share(**given: float) -> None:
    """Refuse an option that is no part of a whole: from 0 to below 1."""
    for name, value in given.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name} is {value:g}; it must be at least 0 and below 1", fix=f"{name}: 0.1")
