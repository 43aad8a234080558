"""Features of an ensemble are the same whether they are read dense or sparse."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.expert import Expert, Features, Response
from sensorium.core.layout import Layout
from sensorium.core.registry import build
from sensorium.nn.ensemble import Ensemble

ROWS, WIDTH = 5, 4


class Positive(Features):
    """The numbers above 0; the others are 0. It overrides nothing that is optional."""

    sparse = True

    @classmethod
    def reads(cls, layout: Layout) -> bool:
        return True

    def fit(self, fields: Iterable[Field]) -> None:
        """Fit nothing."""

    def forward(self, field: Field) -> Tensor:
        return field.data.clamp(min=0)


class Shifted(Positive):
    """The numbers plus 1."""

    sparse = False

    def forward(self, field: Field) -> Tensor:
        return field.data + 1

    def compact(self, features: Tensor, field: Field) -> Tensor:
        return features[:, :2]


@pytest.mark.parametrize("least", [None, ROWS])
@pytest.mark.parametrize("present", ["all", "some", "none"])
@pytest.mark.parametrize("kinds", [(Positive,), (Positive, Shifted), (Shifted,)])
def test_sparse_features_are_those_that_prediction_reads(
    kinds: tuple[type[Features], ...], present: str, least: int | None
) -> None:
    data = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    there = {"all": [True] * 5, "some": [False, True, False, True, True], "none": [False] * 5}[present]
    forest: Expert = build("experts", "forest", Response("classes", 2), ["text"])
    parts: dict[str, Features] = {kind.__name__: kind() for kind in kinds}
    ensemble = Ensemble(["text"], {"text": parts}, {"target": {"forest": forest}}, network=False)
    inputs = {"text": Field(data, torch.tensor(there))}
    dense, sparse = ensemble.read(inputs, least), ensemble.read(inputs, least, sparse=True)
    features = sparse["features"]["text"]
    assert features.is_sparse == (Positive in kinds)
    if features.is_sparse:
        assert features.is_coalesced()
        features = features.to_dense()
    assert torch.equal(features, dense["features"]["text"])
    assert torch.equal(sparse["compact"]["text"], dense["compact"]["text"])
    expected = torch.cat([kind()(inputs["text"]) for kind in kinds], dim=1) * torch.tensor(there)[:, None]
    assert torch.equal(features, expected)
