"""Results are data. What renders one lives in ``sensorium.reporting`` and is found by name: imports point down only."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar


class Rendered:
    """A result that ``sensorium.reporting`` can render.

    ``renderer`` names the module there; each form of the result (``text``, ``to_json``, ``write``, ...) is a function in it
    that takes the result first.
    """

    renderer: ClassVar[str]

    def render(self, form: str, *args: Any) -> Any:
        """The result in the given ``form``: what that function of the renderer returns for it and ``args``."""
        return getattr(import_module(f"sensorium.reporting.{self.renderer}"), form)(self, *args)

    def text(self) -> str:
        """The result for a terminal."""
        return str(self.render("text"))
