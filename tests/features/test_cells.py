"""Cells as features, against scikit-learn."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from sklearn.preprocessing import QuantileTransformer

from sensorium.core.batch import Field
from sensorium.core.layout import Row
from sensorium.features.cells import Cells


def field(rows: list[list[float]] | np.ndarray, mask: object = None) -> Field:
    data = torch.as_tensor(np.asarray(rows), dtype=torch.float32)
    real = None if mask is None else torch.as_tensor(mask)
    return Field(data, torch.ones(len(data), dtype=torch.bool), real)


def fitted(layout: Row, *fields: Field, **options: object) -> Cells:
    part = Cells(layout, **options)  # type: ignore[arg-type]
    part.fit(iter(fields))
    return part


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize(("rows", "quantiles"), [(200, 1000), (500, 100)])
def test_scores_are_those_of_scikit_learn(rows: int, quantiles: int, missing: float) -> None:
    draw = np.random.default_rng(0)
    data = np.stack([draw.standard_normal(rows), np.exp(2 * draw.standard_normal(rows)), draw.uniform(-1, 1, rows)], 1)
    data[:, 2] = np.where((draw.random(rows) < 0.3) & (np.abs(data[:, 2]) < 0.9), 0.25, data[:, 2])  # many alike
    data = data.astype(np.float32)
    real = draw.random(data.shape) >= missing
    part = fitted(Row((0, 0, 0)), field(data[:90], real[:90]), field(data[90:], real[90:]), quantiles=quantiles)
    # With gaps scikit-learn takes percentiles of the same places, of the cells that are there.
    reference = QuantileTransformer(n_quantiles=min(quantiles, rows), output_distribution="normal")
    reference.fit(np.where(real, data, np.nan))
    other = np.concatenate([data, draw.standard_normal((100, 3)).astype(np.float32)])
    expected = reference.transform(other)
    limit = part.limit.numpy()
    assert ((limit > 2) & (limit < 4)).all()
    features = part(field(other))[:, :3].numpy()
    np.testing.assert_allclose(features, np.clip(expected, -limit, limit), atol=2e-3)


def test_extremes_that_many_cells_share_have_their_mean_rank() -> None:
    """Where most cells are 0, a 0 is near the middle: scikit-learn puts it at the far end."""
    rows = [[0.0]] * 60 + [[float(i)] for i in range(1, 41)]
    score = fitted(Row((0,)), field(rows))(field([[0.0], [40.0], [1000.0]]))[:, 0]
    assert score[0] == pytest.approx(-0.53, abs=0.02)  # the normal score of 59 / 99 / 2
    assert score[1] == score[2] == pytest.approx(2.5758, abs=1e-3)  # of 1 - 0.5 / 100


def test_standardised_values_are_clipped_for_linear_models_and_not_for_trees() -> None:
    rows = np.append(np.arange(99.0), 1e4)[:, None]
    part = fitted(Row((0,)), field(rows), reach=3.0)
    inputs = part(field(rows))
    standard = (rows - rows.mean()) / rows.std()
    np.testing.assert_allclose(inputs[:, 1:].numpy(), standard.clip(-3, 3), atol=1e-5)
    np.testing.assert_allclose(part.compact(inputs, field(rows)).numpy(), standard, atol=1e-5)


def test_constants_and_columns_without_a_value_say_nothing() -> None:
    real = np.ones((30, 3), dtype=bool)
    real[:, 1] = False
    rows = np.stack([np.full(30, 0.1), np.arange(30.0), np.arange(30.0)], 1)
    part = fitted(Row((0, 0, 0)), field(rows, real))
    inputs = part(field(rows, real))
    assert inputs.shape == (30, 7)  # three scores, three values, one indicator of a gap
    assert not inputs[:, [0, 1, 3, 4]].any()
    assert inputs[:, 6].all()
    other = part(field([[5.0, 5.0, 5.0]]))  # now there is something else in them
    assert bool(other.isfinite().all())
    assert other[0, 6] == 0
    assert bool(part.compact(inputs, field(rows, real))[:, 1].isnan().all())


def test_fitted_on_one_row_and_on_none() -> None:
    for fields in ([], [field([[2.0, 3.0]])]):
        part = fitted(Row((0, 4)), *fields)
        inputs = part(field([[2.0, 3.0], [-1.0, 0.0]]))
        assert bool(inputs.isfinite().all())
        assert bool(part.compact(inputs, field([[2.0, 3.0], [-1.0, 0.0]])).isfinite().all())
        assert inputs[0, 0] == 0


def test_missing_numbers_are_their_median_and_have_an_indicator_where_training_had_gaps() -> None:
    rows, real = np.arange(24.0).reshape(8, 3), np.ones((8, 3), dtype=bool)
    real[2, 1] = False
    part = fitted(Row((0, 0, 0)), field(rows, real))
    inputs = part(field(rows[:1], [[False, False, True]]))[0]
    assert inputs[[0, 1, 3, 4]].tolist() == [0, 0, 0, 0]
    assert inputs[6:].tolist() == [1]  # of the second cell alone: the first never was missing
    assert part(field(rows[:1]))[0, 6:].tolist() == [0]


def test_codes_are_indicators_and_rare_ones_share_one() -> None:
    codes = [[1.0]] * 5 + [[2.0]] * 3 + [[3.0], [4.0], [0.0]]
    part = fitted(Row((6,)), field(codes))
    features = part(field([[1], [2], [3], [4], [5], [0]]))
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert features.tolist() == expected
    assert part(field([[1.0]], [[False]])).tolist() == [[0, 0, 0]]
    capped = fitted(Row((6,)), field(codes), categories=1)(field([[1], [2]]))
    assert capped.tolist() == [[1, 0], [0, 1]]


def test_two_codes_stand_side_by_side() -> None:
    rows = [[1.0, 2.0], [2.0, 1.0]] * 3
    assert fitted(Row((3, 3)), field(rows))(field(rows[:2])).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0]]


def test_trees_read_short_codes_as_indicators_and_long_ones_by_frequency() -> None:
    rows = [[1.0, 3.0]] * 3 + [[2.0, 1.0]] * 2 + [[2.0, 14.0]]
    part = fitted(Row((3, 15)), field(rows))
    inputs = field([[1, 3], [2, 1], [0, 14], [1, 0], [1, 1]], [[True, True]] * 4 + [[False, False]])
    compact = part.compact(part(inputs), inputs)
    assert compact[:4].tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 2], [1, 0, 14]]
    assert bool(compact[4].isnan().all())


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("column", torch.tensor([-1, 0, 10**12]), "indicators"),
        ("mean", torch.ones(2), "mean is of 2"),
        ("gaps", None, "gaps"),
    ],
)
def test_a_damaged_state_is_refused(name: str, values: torch.Tensor | None, problem: str) -> None:
    state = fitted(Row((0, 3)), field([[0.0, 1.0], [1.0, 2.0]])).state_dict()
    damaged = {
        key: results if key != name else values for key, results in state.items() if key != name or values is not None
    }
    with pytest.raises(RuntimeError, match=problem):
        Cells(Row((0, 3))).load_state_dict(damaged)


def test_far_more_rows_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is counted, and those that quantiles are taken from are evenly spread."""
    monkeypatch.setattr("sensorium.features.cells._ROWS", 1000)
    rows = np.stack([np.arange(10_007.0), np.arange(10_007) == 10_001], 1)
    real = np.ones(rows.shape, dtype=bool)
    real[5003, 0] = False
    part = fitted(Row((0, 2)), *(field(rows[i : i + 97], real[i : i + 97]) for i in range(0, len(rows), 97)))
    assert part.gaps.tolist() == [0]
    assert float(part.mean[0]) == pytest.approx(5003, abs=20)
    assert float(part(field([[2501.75, 0.0]]))[0, 0]) == pytest.approx(-0.6745, abs=0.01)  # the lower quartile


def test_thousands_of_columns_are_quick() -> None:
    draw = np.random.default_rng(0)
    rows = field(draw.standard_normal((1000, 3000)).astype(np.float32), draw.random((1000, 3000)) < 0.9)
    part = fitted(Row((0,) * 3000), rows)
    began = time.perf_counter()
    inputs = part(rows)
    assert inputs.shape == (1000, 9000)
    part.compact(inputs, rows)
    assert time.perf_counter() - began < 10  # a tenth of that where nothing else runs
