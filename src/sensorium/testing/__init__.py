"""Conformance checks of components, which raise ``AssertionError`` with a message; plug-ins use them too.

``check_encoder("convnet")`` and the like check the contracts of ``core/contracts.py``; ``check_options("fusions",
"gated")`` checks that every option changes something.
"""

from __future__ import annotations

from sensorium.testing.adapters import check_adapter
from sensorium.testing.encoders import check_encoder
from sensorium.testing.experts import check_expert
from sensorium.testing.explainers import check_explainer
from sensorium.testing.features import check_features
from sensorium.testing.fusions import check_fusion
from sensorium.testing.modalities import check_modality
from sensorium.testing.objectives import check_objective
from sensorium.testing.options import check_options
from sensorium.testing.surgery import check_surgery
from sensorium.testing.tasks import check_task

__all__ = [
    "check_adapter",
    "check_encoder",
    "check_expert",
    "check_explainer",
    "check_features",
    "check_fusion",
    "check_modality",
    "check_objective",
    "check_options",
    "check_surgery",
    "check_task",
]
