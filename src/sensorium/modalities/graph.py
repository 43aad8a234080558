"""Graphs of nodes and edges."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.graph import NODES, read_graph
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Graph as Network
from sensorium.core.layout import Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.running_moments import Moments

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_LABELS, _KINDS = 128, 15  # node and edge labels that are distinguished, the most frequent ones


@component
class Graph(Modality):
    """A graph: ``{"nodes": ["C", "O"], "edges": [[0, 1, "double"]]}`` as JSON text, a mapping, or a JSON file.

    Nodes are labels, numbers, lists of numbers, or only their count; edges join two nodes (numbered from 0) and may have a
    label. Encoded as ``[N, F + count]`` float32; prepared as the layout ``Graph``: features (numbers standardised, labels
    one-hot), then the kind of edge to each other node. A graph of more than ``count`` nodes raises ``CellError``.

    Args:
        count: Maximum number of nodes; None: 1.5 times the largest training graph, at most 512.
        directed: Whether messages follow the direction of edges only, rather than both directions.
        augment: In training, masks the features of 1 in 20 nodes (``light``) or 1 in 7 (``strong``).
    """

    widget = "file:.json"
    media = True
    ragged = True

    def __init__(
        self,
        *,
        count: int | None = None,
        directed: bool = False,
        # Off, since its benefit was not measured (docs/results.md, "Augmentation").
        augment: Literal["none", "light", "strong"] = "none",
    ) -> None:
        super().__init__()
        if count is not None and not 1 <= count <= NODES:
            raise ConfigError(f"graph: a count of {count} nodes is not between 1 and {NODES}")
        self.count, self.directed, self.augment = count, directed, augment

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        count = sum(map(_is_graph, cells))
        files = sum(isinstance(c, (str, os.PathLike)) and str(c)[-9:].lower().endswith(".json") for c in cells)
        if not count and not files:
            return Guess(0.0, "no cell is a graph")
        if files > count:
            return Guess(0.7 * files / len(cells), f"{files} of {len(cells)} cells end in .json")
        return Guess(0.99 * count / len(cells), f"{count} of {len(cells)} cells have nodes and edges")

    def fit(self, cells: Iterable[Any]) -> None:
        widths: Counter[int] = Counter()  # number of features per node; 0: labels
        nodes: Counter[str] = Counter()
        edges: Counter[str] = Counter()
        largest = 1
        values: list[Array] = []
        for cell in cells:
            try:
                network = read_graph(cell)
            except CellError:
                continue  # reported by encode
            largest = max(largest, len(network.nodes))
            edges.update(network.labels)
            if isinstance(network.nodes, list):
                widths[0] += 1
                nodes.update(network.nodes)
            else:
                widths[network.nodes.shape[1]] += 1
                values.append(network.nodes)
        width = max(widths, key=lambda width: (widths[width], -width)) if widths else 1
        moments = Moments(width)
        for rows in values:
            if rows.shape[1] == width:
                moments.add(rows)
        self.state = {
            "width": width,
            "count": self.count or min(max(8, largest + largest // 2), NODES),
            "nodes": sorted(sorted(nodes, key=lambda label: (-nodes[label], label))[:_LABELS]) if width == 0 else [],
            "edges": sorted(sorted(edges, key=lambda label: (-edges[label], label))[:_KINDS]),
            "mean": moments.mean,
            "deviation": moments.deviation(1e-9),
        }

    @property
    def layout(self) -> Layout:
        width, labels, kinds = self.state["width"], len(self.state["nodes"]), len(self.state["edges"])
        # One more for labels not seen in training.
        return Network(width or labels + 1, kinds + 1, self.state["count"])

    def encode(self, cell: Any) -> Array:
        network = read_graph(cell)
        count, width = len(network.nodes), self.state["width"]
        own_width = 0 if isinstance(network.nodes, list) else network.nodes.shape[1]
        name = cell.name if isinstance(cell, Blob) else None
        if own_width != width:
            own, usual = ("labels" if n == 0 else f"{n} numbers" for n in (own_width, width))
            raise CellError(f"the nodes are {own}, in training they were {usual}", file=name)
        if count > self.state["count"]:
            fix = "give larger graphs in training, or set count"
            raise CellError(f"the graph has {count} nodes, more than the {self.state['count']} kept", file=name, fix=fix)
        out = np.zeros((count, max(width, 1) + self.state["count"]), np.float32)
        if isinstance(network.nodes, list):
            code = {label: i + 1 for i, label in enumerate(self.state["nodes"])}
            out[:, 0] = [code.get(label, 0) for label in network.nodes]
        else:
            out[:, :width] = network.nodes
        kind = {label: i + 2 for i, label in enumerate(self.state["edges"])}
        kinds = np.array([kind.get(label, 1) for label in network.labels] or [1] * len(network.edges), np.float32)
        start, end = network.edges.T
        links = out[:, max(width, 1) :]
        if not self.directed:
            links[start, end] = kinds
        links[end, start] = kinds
        return out

    def blank(self) -> Array:
        return np.zeros((0, max(self.state["width"], 1) + self.state["count"]), dtype=np.float32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Expand the features of nodes ``[B, N, F + count]``; zero where padded."""
        import torch

        from sensorium.signal.augmentation import uniform

        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape[:2])
        width = self.state["width"]
        if width:
            mean, deviation = (torch.tensor(self.state[key], device=field.data.device) for key in ("mean", "deviation"))
            values = ((field.data[..., :width] - mean) / deviation).clamp(-100, 100)
        else:
            values = torch.nn.functional.one_hot(field.data[..., 0].long(), len(self.state["nodes"]) + 1).float()
        if generator is not None and self.augment != "none":
            chance = uniform(mask.shape, 0, 1, field.data, generator)
            values = values * (chance >= (1 / 7 if self.augment == "strong" else 1 / 20))[..., None]
        data = torch.cat([values, field.data[..., max(width, 1) :]], dim=-1)
        return replace(field, data=data * mask[..., None], mask=mask)

    @property
    def store_options(self) -> dict[str, Any]:
        return {**{key: self.state[key] for key in ("width", "count", "nodes", "edges")}, "directed": self.directed}


def _is_graph(cell: Any) -> bool:
    if isinstance(cell, str):
        if cell.lstrip()[:1] != "{":
            return False
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return False
    return isinstance(cell, Mapping) and "nodes" in cell
