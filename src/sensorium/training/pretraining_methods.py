"""Pretraining methods, with their objectives and task options."""

from __future__ import annotations

from typing import Any

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.recipe import Recipe, Spec

TASK = "pretraining"
REBUILDING: dict[str, dict[str, Any]] = {
    "rebuild": {"source": "others"},
    "autoencode": {"source": "own"},
    "denoise": {"source": "own"},
    "variational": {"source": "own", "variational": 0.001},
}
"""By method that rebuilds streams, the options of the task."""
OBJECTIVES = {"denoise": "denoising", "masked": "masked", "matching": "matching", "vicreg": "vicreg", "simclr": "simclr"}
"""By method, the objective that it adds."""
METHODS = ("contrastive", *REBUILDING, *(name for name in OBJECTIVES if name not in REBUILDING))
"""All pretraining methods."""


def with_methods(plan: Recipe, methods: list[str] | None) -> tuple[Recipe, dict[str, Any]]:
    """Return ``plan`` for pretraining by ``methods`` (None: those that suit the streams), and the options of the task.

    Streams are joined by their mean, and no experts are fitted, unless the recipe says otherwise.
    """
    model = plan.model
    update: dict[str, Any] = {}
    if model.fusion is None:
        update["fusion"] = "single"
    if model.experts is None:
        update |= {"experts": [], "features": {}}
    plan = plan.model_copy(update={"model": model.model_copy(update=update)})
    if methods is None:
        return plan, {}
    for name in methods:
        if name not in METHODS:
            raise ConfigError(f"no method {name!r}{nearest(name, METHODS)}", fix=f"among {', '.join(METHODS)}")
    rebuilding = [name for name in methods if name in REBUILDING]
    if len({REBUILDING[name]["source"] for name in rebuilding}) > 1:
        raise ConfigError(f"{' and '.join(rebuilding)} rebuild streams from different vectors", fix="name one of them")
    options: dict[str, Any] = {"contrast": float("contrastive" in methods), "rebuild": float(bool(rebuilding))}
    options |= {key: value for name in rebuilding for key, value in REBUILDING[name].items()}
    if not rebuilding:
        options["source"] = "own"  # measured only
    if "objectives" in plan.model_fields_set:
        return plan, options
    objectives: list[Spec] = [{"kind": "supervised", "subsets": 0.0}]
    objectives += [OBJECTIVES[name] for name in methods if name in OBJECTIVES]
    return plan.model_copy(update={"objectives": objectives}), options
