"""Metrics of made rows: the Fréchet distance against its formula, neighbour metrics against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from sensorium.metrics import generation as metrics

ONE = torch.ones(1, 60, dtype=torch.float64)


@pytest.fixture(scope="module")
def clouds() -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(0)
    real, made = draw.normal(size=(60, 4)), draw.normal(size=(60, 4)) * [1.0, 2.0, 0.3, 1.0] + [0.5, 0, 0, 1.0]
    return torch.tensor(real), torch.tensor(made)


def test_frechet_distance_matches_the_matrix_square_root(clouds: tuple[torch.Tensor, torch.Tensor]) -> None:
    real, made = clouds
    a, b = np.cov(real.numpy().T), np.cov(made.numpy().T)
    apart = real.numpy().mean(0) - made.numpy().mean(0)
    root = np.real(scipy.linalg.sqrtm(a @ b))
    wanted = apart @ apart + np.trace(a + b - 2 * root)
    assert float(metrics.frechet(real, made, ONE)[0]) == pytest.approx(wanted, rel=1e-9)
    assert float(metrics.frechet(real, real, ONE)[0]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_a_resample_is_that_of_the_repeated_rows(clouds: tuple[torch.Tensor, torch.Tensor]) -> None:
    real, made = clouds
    counts = torch.from_numpy(np.random.default_rng(1).integers(0, 3, 60))
    again = [rows.repeat_interleave(counts, dim=0) for rows in (real, made)]
    weight = torch.ones(1, len(again[0]), dtype=torch.float64)
    wanted = float(metrics.frechet(again[0], again[1], weight)[0])
    assert float(metrics.frechet(real, made, counts[None].double())[0]) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbour_metrics_match_brute_force(clouds: tuple[torch.Tensor, torch.Tensor], k: int) -> None:
    real, made = (rows.numpy() for rows in clouds)

    def radius(rows: np.ndarray) -> list[float]:
        return [sorted(np.linalg.norm(rows - row, axis=1))[k] for row in rows]

    def inside(query: np.ndarray, rows: np.ndarray) -> list[bool]:
        return [np.linalg.norm(query - row) <= r for row, r in zip(rows, radius(rows), strict=True)]

    wanted = {
        "precision": np.mean([any(inside(row, real)) for row in made]),
        "recall": np.mean([any(inside(row, made)) for row in real]),
        "density": np.mean([sum(inside(row, real)) for row in made]) / k,
        "coverage": np.mean(
            [min(np.linalg.norm(made - row, axis=1)) <= r for row, r in zip(real, radius(real), strict=True)]
        ),
    }
    for name, value in wanted.items():
        assert float(getattr(metrics, name)(*clouds, ONE, k=k)[0]) == pytest.approx(value), name


def test_coverage_by_label_counts_made_rows_of_the_same_label_only(clouds: tuple[torch.Tensor, torch.Tensor]) -> None:
    real, made = clouds
    label = torch.arange(60) % 2
    both = metrics.coverage(real, made, ONE, (label, label))
    assert float(metrics.coverage(real, made, ONE, (label, torch.full_like(label, -1)))[0]) == 0
    radius, wanted = metrics.radii(real), []
    for i in range(60):
        own = made[label == label[i]]
        wanted.append(float((own - real[i]).norm(dim=1).min() <= radius[i]))
    assert float(both[0]) == pytest.approx(np.mean(wanted))
    assert float(both[0]) <= float(metrics.coverage(real, made, ONE)[0])


def test_copies_of_training_rows_are_recognised(clouds: tuple[torch.Tensor, torch.Tensor]) -> None:
    training, held_out = clouds[0][:30], clouds[0][30:]
    weight = torch.ones(1, 30, dtype=torch.float64)
    own, other = metrics.nearest_rows(training + 1e-3, training)[0], metrics.nearest_rows(held_out, training)[0]
    assert float(metrics.memorised(own, other, weight)[0]) < 0.05
    assert float(metrics.memorised(other, other, weight)[0]) == 1
    odd = torch.tensor([[1.0, 0, 2, 1, 0]], dtype=torch.float64)
    assert float(metrics.median(torch.tensor([5.0, 9, 1, 7, 3]), odd)[0]) == np.quantile(
        [5.0, 1, 1, 7], 0.5, method="inverted_cdf"
    )
