"""Two processes train like one with the doubled batch, whatever their rows lack."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked, and speak over gloo")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def result(python: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("two") / "found.json"
    done = python(HERE / "two_processes.py", out, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(out.read_text())


def close(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert (one[name] is None) == (other[name] is None), name
        if one[name] is not None:
            np.testing.assert_allclose(one[name], other[name], rtol=2e-4, atol=2e-6, err_msg=name)


def test_collectives_exchange_values(result: Any) -> None:
    first, second = result["words"]
    assert first == second
    assert first["broadcast"] == {"ä": [0, 0.1 + 0.2]}
    assert first["gather"] == ["x", "x" * 71]
    assert first["mean"] == [1.0, 1.5]
    assert first["gathered"] == [0.0, 1.0, 10.0, 11.0, 12.0]
    assert first["words"] == ["ä"] * 3
    assert first["present"] == [True] * 5


@pytest.mark.parametrize("case", ["weights", "absent"])
def test_gradients_equal_those_of_the_doubled_batch(result: Any, case: str) -> None:
    one, (first, second) = result[case]["one"], result[case]["two"]
    assert sum(value is not None for value in one["gradients"].values()) > 10
    close(one["gradients"], first["gradients"])
    assert first["gradients"] == second["gradients"], "bit for bit, so that the weights stay the same"
    assert first["record"] == second["record"]
    close(one["record"], first["record"])


def test_objective_without_terms_in_one_process(result: Any) -> None:
    """Contrast and imputation need two streams, which no row of the second process has: none waits for the other."""
    first, second = result["own rows"]["two"]
    assert first["gradients"] == second["gradients"]
    assert first["record"]["train_contrastive"] > 0
    assert first["record"]["train_stream_imputation"] > 0


def test_batch_norm_statistics_are_averaged(result: Any) -> None:
    one, (first, second) = result["statistics"]["one"], result["statistics"]["two"]
    assert first["statistics"] == second["statistics"]
    means = [name for name in one["statistics"] if name.endswith("running_mean")]
    assert means
    for name in means:  # of as many rows each, the mean of the means is the mean
        np.testing.assert_allclose(one["statistics"][name], first["statistics"][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", ["parted", "parted, absent"])
def test_sharded_model_trains_like_unsharded(result: Any, case: str) -> None:
    """Gradients, scores and the weights that come out; each process kept about half, blocks apart."""
    one, (first, second) = result[case]["one"], result[case]["two"]
    assert first["gradients"] == second["gradients"]
    for name, gradient in one["gradients"].items():
        if gradient is None:  # what nobody used has a gradient of zero
            assert not np.any(first["gradients"][name])
        else:
            np.testing.assert_allclose(gradient, first["gradients"][name], rtol=2e-4, atol=2e-6, err_msg=name)
    close(one["record"], first["record"])
    assert one["weights"].keys() == first["weights"].keys()
    for name, weight in one["weights"].items():
        # A first step of AdamW has the sign of the gradient, which of rounding may be either.
        np.testing.assert_allclose(weight, first["weights"][name], atol=2.1 * one["record"]["lr"] + 2e-3, err_msg=name)
    assert first["weights"] == second["weights"]
    for part in (first, second):
        mine, all_of_it = part["parts"]
        assert mine < 0.65 * all_of_it
        assert part["units"] >= 3, "two blocks and the rest"
