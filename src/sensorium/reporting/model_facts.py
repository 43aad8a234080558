"""Notes on a model at the head of a report, before its scores."""

from __future__ import annotations

from sensorium.artifact import Artifact
from sensorium.core.registry import split


def facts(artifact: Artifact) -> dict[str, str]:
    """Streams, fusion, size and training of the model in ``artifact``, by name."""
    model, history = artifact.model, artifact.report.get("history", [])
    return {
        "streams": ", ".join(model.streams),
        "fusion": split(artifact.recipe.model.fusion or "")[0],
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "training rows": f"{artifact.report.get('rows', 0):,}",
        "epochs": str(len(history)),
        "seconds of training": f"{history[-1]['seconds']:.0f}" if history else "0",
        "seed": str(artifact.recipe.seed),
        **{stream: note for stream, encoder in model.encoders.items() if (note := encoder.notes())},
    }
