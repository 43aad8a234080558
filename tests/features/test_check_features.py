"""What ``check_features`` is for: it says in words which promise is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.features.cells import Cells
from sensorium.testing import check_features

Forward = Callable[[Cells, Field], Tensor]
sound: Forward = Cells.forward


def centred(part: Cells, field: Field) -> Tensor:
    features = sound(part, field)
    return features - features.mean(dim=0)


def unmasked(part: Cells, field: Field) -> Tensor:
    return sound(part, field) + 0.1 * field.data.sum(dim=1, keepdim=True)


def double(part: Cells, field: Field) -> Tensor:
    return sound(part, field).double()


def gaps(part: Cells, field: Field) -> Tensor:
    return sound(part, field).masked_fill(sound(part, field) == 0, torch.nan)


def forgetful(part: Cells, field: Field) -> Tensor:
    return sound(part, field) + float(getattr(part, "_learnt_elsewhere", 0.0))


fit = Cells.fit


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (centred, "depends on its batch"),
        (unmasked, "under the mask"),
        (double, "float64"),
        (gaps, "not finite"),
    ],
)
def test_broken_features_are_found(forward: Forward, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cells, "forward", forward)
    with pytest.raises(AssertionError, match=words):
        check_features("cells")


def test_what_is_not_saved_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cells, "forward", forgetful)

    def learns_elsewhere(part: Cells, fields: object) -> None:
        fit(part, fields)  # type: ignore[arg-type]
        part._learnt_elsewhere = 0.5  # type: ignore[assignment]

    monkeypatch.setattr(Cells, "fit", learns_elsewhere)
    with pytest.raises(AssertionError, match="same state"):
        check_features("cells")


def test_chance_in_fitting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(1000))

    def by_chance(part: Cells, fields: object) -> None:
        fit(part, fields)  # type: ignore[arg-type]
        part.keep("limit", part.limit + 0.01 * next(calls))

    monkeypatch.setattr(Cells, "fit", by_chance)
    with pytest.raises(AssertionError, match="fitting again"):
        check_features("cells")


def test_compact_features_that_see_other_rows_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    compact = Cells.compact

    def ranked(part: Cells, features: Tensor, field: Field) -> Tensor:
        return compact(part, features, field).cumsum(dim=0)

    monkeypatch.setattr(Cells, "compact", ranked)
    with pytest.raises(AssertionError, match="compact row"):
        check_features("cells")
