"""A custom fusion, selected by its name like the built-in ones: ``examples/plugin/peak.py``.

Usually ``pip install ./examples/plugin`` registers it. Here the few lines that pip would write are written to a temporary
folder, so that running the example installs nothing.
"""

import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import sensorium as sm
from sensorium.core import registry
from sensorium.data.synthetic import make
from sensorium.testing import check_fusion, check_options

plugin = Path(__file__).parent / "plugin"
with TemporaryDirectory() as folder:
    info = Path(folder) / "sensorium_peak-0.1.0.dist-info"
    info.mkdir()
    points = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]["entry-points"]["sensorium.fusions"]
    (info / "entry_points.txt").write_text("[sensorium.fusions]\n" + "\n".join(f"{k} = {v}" for k, v in points.items()))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sensorium-peak\nVersion: 0.1.0\n")
    sys.path[:0] = [folder, str(plugin)]

    print("fusions:", ", ".join(registry.kinds("fusions")))
    print("peak:", registry.describe("fusions", "peak").summary)

    # The contract of every fusion: missing streams, padding, order of streams, gradients, options that have an effect.
    check_fusion("peak")
    check_options("fusions", "peak")
    print("peak keeps what a fusion promises")

    tables = make(Path(folder) / "data", rows=150)
    model = sm.fit(
        tables["train"],
        target="event",
        overrides=[
            "model.fusion=peak",
            "model.fusion.softness=0.2",
            "model.size=tiny",
            "training.epochs=4",
            "model.experts=[]",  # no experts: the example is about the fusion
        ],
        quiet=True,
    )
    model.save(Path(folder) / "run")
    scores = sm.load(Path(folder) / "run").evaluate(tables["test"]).targets["event"].metrics
    print(f"accuracy with {model.recipe.model.fusion}: {scores['accuracy']:.2f}")
