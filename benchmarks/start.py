"""Start-up time: imports, commands, and the first answer of a saved model, each in a new process."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measure import Cost, Measure, Results, Settings, compared, interleaved, python

COMMAND = "import sys; from sensorium.cli import main; sys.argv = ['sensorium', *sys.argv[1:]]; main()"
ANSWER = """
import json, sys
import sensorium
model = sensorium.load(sys.argv[1])
answer = model.predict([json.loads(sys.argv[2])], media=sys.argv[3])[0]
loaded = [name for name in ("lightning", "torchmetrics", "pandas", "pyarrow") if name in sys.modules]
if loaded:
    sys.exit(f"a predictor must not load {loaded}")
"""
NO_TORCH = """
import atexit, os, sys
def check():
    if "torch" in sys.modules:
        sys.stderr.write("torch was loaded"); sys.stderr.flush(); os._exit(3)
atexit.register(check)
"""


def run(settings: Settings) -> Results:
    from sensorium.data.synthetic import make

    repeats = settings.few(7, 1)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        tables = make(at / "data", rows=settings.few(300, 60), valid=0.2, test=0.1)
        results: Results = []
        for name, limit, code, arguments in (
            ("import sensorium", 0.3, "import sensorium", ()),
            ("sensorium --help", None, COMMAND, ("--help",)),
            ("sensorium kinds", None, COMMAND, ("kinds",)),
            ("sensorium inspect, 5 streams", None, COMMAND, ("inspect", str(tables["train"]), "--target", "event")),
        ):
            costs = [python(NO_TORCH + code, *arguments)[0].cpu for _ in range(repeats)]
            middle = sorted(costs)[len(costs) // 2]
            spread = (min(costs), max(costs))
            results.append(Measure(name, "CPU s", middle, spread=spread, at_most=limit, note="loads no torch (checked)"))
        return [*results, answer(at, tables, repeats)]


def answer(at: Path, tables: dict[str, Path], repeats: int) -> Measure:
    """Compare the time from the start of Python to the first answer of a saved model with that of ``import torch``."""
    import json

    import sensorium as sm
    from sensorium.data.tables.table import Table

    quick = ["training.epochs=1", "model.size=small"]
    run = at / "run"
    sm.fit(tables["train"], target="event", valid=tables["valid"], overrides=quick, cache=at / "cache", quiet=True).save(
        run
    )
    row = json.dumps({k: v for k, v in Table.read(tables["test"]).row(0).items() if k != "event"})
    where = str(tables["test"].parent)

    def ours() -> Cost:
        return python(ANSWER, str(run), row, where)[0]

    def reference() -> Cost:
        return python("import torch")[0]

    if repeats > 1:  # the first run of each reads from disk
        ours(), reference()
    mine, other = interleaved(ours, reference, repeats)
    return compared(
        "saved model to first answer",
        "CPU s",
        [c.cpu for c in mine],
        [c.cpu for c in other],
        at_most=1.5,
        note="beside `import torch`; loads no lightning, torchmetrics, pandas or pyarrow (checked)",
    )
