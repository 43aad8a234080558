"""Graphs as nodes and edges out of plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sensorium.core.errors import CellError, reason
from sensorium.core.modality import Array, Blob

NODES = 512
"""Graphs of more nodes are refused: what is kept of a graph grows with the square of it."""
EDGES = 200_000
FEATURES = 4096


class Network(NamedTuple):
    """A graph.

    Args:
        nodes: Numbers ``[N, F]``, or a list of ``N`` labels.
        edges: From node to node ``[M, 2]``.
        labels: The label of each edge; empty where none has one.
    """

    nodes: Array | list[str]
    edges: Array
    labels: list[str]


def read_network(cell: Any) -> Network:
    """A graph out of a mapping, JSON text or bytes: ``{"nodes": ..., "edges": [[0, 1], [1, 2, "label"]]}``.

    Nodes are a number of them, a list of labels, or a list of numbers or of lists of numbers. Raises ``CellError``.
    """
    name = cell.name if isinstance(cell, Blob) else None
    try:
        if isinstance(cell, Blob):
            cell = cell.data
        if isinstance(cell, (str, bytes)):
            cell = json.loads(cell)
        if not isinstance(cell, Mapping) or "nodes" not in cell:
            raise CellError("not a graph", fix='write {"nodes": ["a", "b"], "edges": [[0, 1]]}')
        nodes = _nodes(cell["nodes"])
        edges, labels = _edges(cell.get("edges", []), len(nodes))
        return Network(nodes, edges, labels)
    except CellError as error:
        raise CellError(error.problem, file=name, fix=error.fix) from None
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError too
        raise CellError(f"not a graph: no JSON ({reason(error, 80)})", file=name) from None


def _nodes(given: Any) -> Array | list[str]:
    if isinstance(given, int) and not isinstance(given, bool):
        _limit(given)
        return np.ones((given, 1))
    if not isinstance(given, (list, tuple, np.ndarray)):
        raise CellError(f"nodes are a {type(given).__name__}, not a list or a number")
    _limit(len(given))
    if all(isinstance(node, str) for node in given):
        return [str(node).strip()[:100] for node in given]
    try:
        array = np.asarray(given)
    except (ValueError, OverflowError):
        array = np.empty(0, object)
    if array.dtype.kind not in "buif" or array.ndim not in (1, 2) or not array.size:
        raise CellError("the nodes are not all labels, nor all numbers of the same count")
    values = array.astype(np.float64).reshape(len(array), -1)
    if values.shape[1] > FEATURES:
        raise CellError(f"{values.shape[1]} features of a node are more than the {FEATURES} allowed")
    if not np.isfinite(values).all() or np.abs(values).max() > 1e30:
        raise CellError("the nodes have values that are not finite")
    return values


def _limit(count: int) -> None:
    if count < 1:
        raise CellError("the graph has no node")
    if count > NODES:
        raise CellError(f"the graph has {count} nodes, more than the {NODES} allowed")


def _edges(given: Any, nodes: int) -> tuple[Array, list[str]]:
    if not isinstance(given, (list, tuple, np.ndarray)):
        raise CellError(f"edges are a {type(given).__name__}, not a list")
    if len(given) > EDGES:
        raise CellError(f"the graph has {len(given)} edges, more than the {EDGES} allowed")
    ends = np.zeros((len(given), 2), np.int64)
    labels: list[str] = []
    for i, edge in enumerate(given):
        parts = list(edge) if isinstance(edge, (list, tuple, np.ndarray)) else []
        if len(parts) not in (2, 3) or not all(_whole(part) and 0 <= part < nodes for part in parts[:2]):
            raise CellError(f"edge {i + 1}, {edge!r:.40}, does not name two of the {nodes} nodes (counted from 0)")
        ends[i] = parts[:2]
        if len(parts) == 3:
            labels.append(str(parts[2]).strip()[:100])
    if labels and len(labels) < len(given):
        raise CellError(f"{len(labels)} of {len(given)} edges have a label", fix="label all edges or none")
    return ends, labels


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
