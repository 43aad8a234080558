"""The linear adapter against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sensorium.adapters.linear import Linear
from sensorium.testing import samples

PART = samples.streams({"one": 3}, 6, torch.tensor([[True], [False], [True]]))["one"]


@pytest.mark.parametrize("norm", [True, False])
def test_tokens_and_vector_go_the_same_way(norm: bool) -> None:
    adapter = Linear(6, 4, norm=norm)
    layer = next(m for m in adapter.modules() if isinstance(m, nn.Linear))
    expected = PART.tokens @ layer.weight.T + layer.bias
    if norm:
        expected = nn.functional.layer_norm(expected, (4,))
    assert torch.allclose(adapter(PART).tokens[PART.mask], expected[PART.mask], atol=1e-6)
    alone = adapter(type(PART)(PART.pooled[:, None], PART.present[:, None], PART.pooled, PART.present))
    assert torch.equal(alone.tokens[:, 0], alone.pooled)


def test_normalised_streams_are_equally_loud() -> None:
    adapter = Linear(6, 64)
    quiet, loud = (adapter(PART.map(lambda t, k=k: t * k if t.is_floating_point() else t)) for k in (1.0, 100.0))
    assert loud.pooled[0].norm().item() == pytest.approx(quiet.pooled[0].norm().item(), rel=0.1)
