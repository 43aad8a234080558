"""Experts predict without the libraries they were fitted with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from sensorium.core.registry import build, kinds
from sensorium.testing.experts import RESPONSES, STREAMS, observed

PROGRAM = """
import sys
for name in ("sklearn", "scipy", "joblib"):
    sys.modules[name] = None
import torch
from safetensors.torch import load_file
from sensorium.core.expert import Response
from sensorium.core.registry import build
kind, path = sys.argv[1:]
expert = build("experts", kind, Response("classes", 3), ("words", "table", "sound"))
expert.load_state_dict(load_file(path))
features = {"words": torch.ones(5, 30), "table": torch.ones(5, 3), "sound": torch.ones(5, 4)}
out = expert.eval()(features, {name: torch.tensor([True, False, True, False, True]) for name in features})
assert out.shape == (5, 3) and bool((out.logsumexp(dim=1).abs() < 1e-4).all()), out
assert not torch.equal(out[0], out[1])
"""


@pytest.mark.parametrize("kind", kinds("experts"))
def test_experts_predict_without_scikit_learn(kind: str, tmp_path: Path) -> None:
    expert = build("experts", kind, RESPONSES["classes"], STREAMS)
    expert.fit(observed(RESPONSES["classes"]), 0)
    save_file(expert.state_dict(), tmp_path / "expert.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(tmp_path / "expert.safetensors")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
