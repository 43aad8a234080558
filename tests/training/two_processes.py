"""Two processes beside one: run as a script by ``test_process_group.py``; writes what differs, as JSON.

A fresh process that has imported everything forks the two, so that a test does not pay for Python twice more.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

import numpy as np
import torch
from torch import nn

from sensorium.core import registry
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import Rows, encode
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table
from sensorium.model import assemble
from sensorium.reporting.console import Console
from sensorium.testing.processes import forked
from sensorium.training import fsdp
from sensorium.training.column_declaration import declare
from sensorium.training.defaults import resolve
from sensorium.training.fsdp import full_tensor, local_part
from sensorium.training.lightning_module import TrainingModule
from sensorium.training.lightning_training import train_epochs
from sensorium.training.prepare import fit_modalities
from sensorium.training.process_group import ProcessGroup

ROWS = 16
ORDER = np.arange(ROWS)
np.random.default_rng((0, 0)).shuffle(ORDER)
SECOND = set(ORDER[ROWS // 2 :].tolist())
"""The rows of the first epoch's only step that are the second process's."""


def rows(absent: bool) -> list[dict[str, Any]]:
    """Unequal weights; with ``absent``, the second process has no words and no costs."""
    results = []
    for i in range(ROWS):
        present = not (absent and i in SECOND)
        row = {"x": (i * 7) % 5 - 1.5, "z": (i * 3) % 7, "weight": 1 + (i % 5) ** 2, "y": "ab"[i % 3 == 0]}
        row |= {"note": " ".join(("red", "blue", "green", "old")[(i >> k) % 4] for k in range(3)) if present else None}
        row |= {"cost": (i * 5) % 11 + 0.5 if present or not absent else None}
        results.append(row)
    return results


BAG = {"kind": "bag_of_words", "drop": 0.0, "dropout": 0.0}
BLOCKS = {"kind": "transformer", "dim": 16, "depth": 2, "heads": 2, "dropout": 0.0}


def prepared(
    absent: bool, objectives: list[Any], note: dict[str, Any], batch: int, strategy: str
) -> tuple[Recipe, Schema, Rows]:
    plan = Recipe.parse(
        {
            "columns": {"note": "text", "cost": {"kind": "number", "role": "target"}, "weight": {"role": "weight"}},
            "model": {"size": "tiny", "encoders": {"note": note}, "fusion": "gated"},
            "objectives": objectives,
            "training": {"epochs": 1, "batch_size": batch, "augment": False, "warmup": 0.0, "strategy": strategy},
        }
    )
    table = Table.read(rows(absent))
    schema = declare(table, plan, ["y"], {}).schema
    media = LocalFiles(Path.cwd(), anywhere=True)
    fit_modalities(schema, table, media)
    plan, _ = resolve(plan, schema, len(table))
    with tempfile.TemporaryDirectory() as folder:
        return plan, schema, encode(schema, table, media=media, store=Store(Path(folder)))


def trained(
    processes: ProcessGroup, absent: bool, objectives: list[Any], note: dict[str, Any], strategy: str = "ddp"
) -> dict[str, Any]:
    """Gradients of the first step, and the scores, statistics and weights after it."""
    strategy = strategy if processes.several else "ddp"
    plan, schema, data = prepared(absent, objectives, note, ROWS // processes.count, strategy)
    torch.manual_seed(processes.rank)  # the first process's weights are everybody's
    model = assemble(plan.model, schema, experts=False)
    made = [registry.build("objectives", spec, model) for spec in plan.objectives]
    for module in [*model.modules(), *(m for part in made for m in part.modules())]:
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "drop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    gradients: dict[str, Any] = {}

    def seen(self: TrainingModule, optimizer: Any) -> None:
        for name, parameter in self.named_parameters():
            if name == "idle":
                assert parameter.grad is None or not full_tensor(parameter.grad).any()
                continue
            gradients[name] = None if parameter.grad is None else full_tensor(parameter.grad).tolist()

    TrainingModule.on_before_optimizer_step = seen  # type: ignore[method-assign, assignment]
    modules: list[TrainingModule] = []
    start = TrainingModule.on_train_start
    TrainingModule.on_train_start = lambda self: (modules.append(self), start(self))[1]  # type: ignore[method-assign]
    try:
        history, _ = train_epochs(plan, schema, model, made, data, data, None, False, Console(quiet=True), processes)
    finally:
        TrainingModule.on_train_start = start  # type: ignore[method-assign]
    statistics = {n: b.tolist() for n, b in modules[0].named_buffers() if "running" in n}
    record = {name: value for name, value in history[-1].items() if name != "seconds"}
    weights = {name: weight.tolist() for name, weight in model.state_dict().items()}
    parts = sum(local_part(p).numel() for p in modules[0].parameters()), sum(p.numel() for p in modules[0].parameters())
    units = sum(type(module).__name__.startswith("FSDP") for module in modules[0].modules())
    return {
        "gradients": gradients,
        "record": record,
        "statistics": statistics,
        "weights": weights,
        "parts": parts,
        "units": units,
    }


def words(processes: ProcessGroup) -> dict[str, Any]:
    """What is said and gathered."""
    numbers = torch.arange(2.0 + processes.rank).reshape(-1, 1) + 10 * processes.rank
    mine = {
        "numbers": numbers,
        "here": torch.ones(2 + processes.rank, dtype=torch.bool),
        "words": ["ä"] * (1 + processes.rank),
    }
    states = processes.gather_states({"a": mine})
    whole = {name: [row for state in states for row in state["a"][name]] for name in mine}
    return {
        "broadcast": processes.broadcast({"ä": [processes.rank, 0.1 + 0.2]}),
        "gather": processes.gather("x" * (1 + 70 * processes.rank)),
        "mean": processes.mean(torch.tensor([1.0, 3.0 * processes.rank])).tolist(),
        "gathered": [float(row) for row in whole["numbers"]],
        "present": [bool(row) for row in whole["here"]],
        "words": whole["words"],
    }


PLAIN: list[Any] = [{"kind": "supervised", "subsets": 0}]
CASES: dict[str, tuple[Any, ...]] = {
    "weights": (False, PLAIN, BAG),
    "absent": (True, [{"kind": "supervised", "subsets": 0, "weights": "learned"}, "balance"], BAG),
    "own rows": (True, [*PLAIN, {"kind": "contrastive", "weight": 1.0}, "stream_imputation"], BAG),
    "statistics": (False, PLAIN, BAG | {"norm": True}),
    "parted": (False, PLAIN, BLOCKS, "fsdp"),
    "parted, absent": (True, PLAIN, BLOCKS, "fsdp"),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    fsdp.BLOCK = 1000
    results: dict[str, Any] = {"words": forked(2, words)}
    for name, case in CASES.items():
        one = trained(ProcessGroup(), *case)
        results[name] = {"one": one, "two": forked(2, lambda processes, case=case: trained(processes, *case))}  # type: ignore[misc]
    Path(sys.argv[1]).write_text(json.dumps(results))
