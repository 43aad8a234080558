"""Every component of every family keeps what ``core/contracts.py`` promises: a new file is tested by being there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sensorium import testing
from sensorium.core.registry import FAMILIES, kinds

torch.set_num_threads(1)

CHECKS: dict[str, Callable[[str], None]] = {
    "modalities": testing.check_modality,
    "encoders": testing.check_encoder,
    "adapters": testing.check_adapter,
    "fusions": testing.check_fusion,
    "tasks": testing.check_task,
    "objectives": testing.check_objective,
    "surgery": testing.check_surgery,
    "explainers": testing.check_explainer,
    "features": testing.check_features,
    "experts": testing.check_expert,
}
COMPONENTS = [(family, kind) for family in FAMILIES for kind in kinds(family)]


@pytest.mark.parametrize(("family", "kind"), COMPONENTS, ids=["/".join(pair) for pair in COMPONENTS])
def test_keeps_its_promises(family: str, kind: str) -> None:
    CHECKS[family](kind)


@pytest.mark.parametrize(("family", "kind"), COMPONENTS, ids=["/".join(pair) for pair in COMPONENTS])
def test_every_option_is_live(family: str, kind: str) -> None:
    testing.check_options(family, kind)
