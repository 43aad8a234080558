"""Defaults where tasks answer for each place of an image (``Task.fine``)."""

from __future__ import annotations

from collections.abc import Sequence

from sensorium.core import registry
from sensorium.core.goal import TaskSpec
from sensorium.core.layout import Grid, Layout
from sensorium.core.recipe import Spec
from sensorium.core.schema import Schema

LARGE = 96
"""Longer side in pixels from which the first convolution has a stride of 2: a step costs a third of one at stride 1."""
RATE = 4e-3
"""Peak learning rate of AdamW: a few hundred images give few steps (docs/results.md, "Masks")."""


def read_finely(tasks: Sequence[TaskSpec], schema: Schema) -> set[str]:
    """Return the images of which some task answers for each place.

    Args:
        tasks: The tasks of the recipe.
        schema: The fitted columns.
    """
    named = [name for task in tasks if _is_fine(task) for name in task.targets]
    bearing = {str(schema.columns[name].on) for name in named if schema.columns[name].on is not None}
    layouts = {stream: schema.layout(stream) for stream in bearing}
    return {stream for stream, layout in layouts.items() if isinstance(layout, Grid) and len(layout.size) == 2}


def fine_encoder(layout: Layout) -> Spec:
    """Return the encoder of such an image.

    Args:
        layout: Of the image. The finest feature map has a quarter of the side of a large image, half that of a small one.
    """
    assert isinstance(layout, Grid)
    return {"kind": "convnet", "stride": 2 if max(layout.size) >= LARGE else 1, "depth": 4}


def fine_rate(tasks: Sequence[TaskSpec], optimizer: str) -> float | None:
    """Return the learning rate where all ``tasks`` answer for each place, None otherwise or for another ``optimizer``."""
    return RATE if optimizer == "adamw" and tasks and all(map(_is_fine, tasks)) else None


def _is_fine(task: TaskSpec) -> bool:
    return bool(registry.find("tasks", registry.split(task.spec)[0]).fine)
