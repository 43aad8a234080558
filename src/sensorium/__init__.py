"""Multimodal learning from one table. The public names are imported when first used, so that this import is instant."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "fit": "sensorium.training.fit",
    "pretrain": "sensorium.training.pretrain",
    "gain": "sensorium.training.gain",
    "compare": "sensorium.training.compare",
    "load": "sensorium.trained",
    "predict_shards": "sensorium.batch_prediction",
    "Stream": "sensorium.data.shards.row_stream",
    "Trained": "sensorium.trained",
    "Recipe": "sensorium.core.recipe",
    "Schema": "sensorium.core.schema",
    "Table": "sensorium.data.tables.table",
    "Index": "sensorium.retrieval.index",
    "Predictor": "sensorium.predictor",
    "Model": "sensorium.model",
    "Batch": "sensorium.core.batch",
    "Field": "sensorium.core.batch",
    "Encoded": "sensorium.core.batch",
    "SensoriumError": "sensorium.core.errors",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sensorium' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
