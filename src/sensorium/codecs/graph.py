"""Graph decoder: nodes and edges from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sensorium.core.errors import CellError, reason
from sensorium.core.modality import Array, Blob

NODES = 512
"""Maximum number of nodes, since the stored size of a graph grows with its square."""
EDGES = 200_000
FEATURES = 4096


class NodesAndEdges(NamedTuple):
    """A graph.

    Args:
        nodes: Features ``[N, F]``, or a list of ``N`` labels.
        edges: Source and target nodes ``[M, 2]``.
        labels: The label of each edge; empty if edges have no labels.
    """

    nodes: Array | list[str]
    edges: Array
    labels: list[str]


def read_graph(cell: Any) -> NodesAndEdges:
    """Parse a graph: ``{"nodes": ..., "edges": [[0, 1], [1, 2, "label"]]}``.

    Nodes are their number, a list of labels, or a list of features.

    Args:
        cell: A mapping, JSON text or bytes.

    Raises:
        CellError: The cell is not a graph, or is too large.
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
        return NodesAndEdges(nodes, edges, labels)
    except CellError as error:
        raise CellError(error.problem, file=name, fix=error.fix) from None
    except (ValueError, RecursionError) as error:  # includes UnicodeDecodeError
        raise CellError(f"not a graph: invalid JSON ({reason(error, 80)})", file=name) from None


def _nodes(nodes: Any) -> Array | list[str]:
    if isinstance(nodes, int) and not isinstance(nodes, bool):
        _limit(nodes)
        return np.ones((nodes, 1))
    if not isinstance(nodes, (list, tuple, np.ndarray)):
        raise CellError(f"nodes are a {type(nodes).__name__}, not a list or a number")
    _limit(len(nodes))
    if all(isinstance(node, str) for node in nodes):
        return [str(node).strip()[:100] for node in nodes]
    try:
        array = np.asarray(nodes)
    except (ValueError, OverflowError):
        array = np.empty(0, object)
    if array.dtype.kind not in "buif" or array.ndim not in (1, 2) or not array.size:
        raise CellError("the nodes are neither all labels nor all lists of the same number of features")
    values = array.astype(np.float64).reshape(len(array), -1)
    if values.shape[1] > FEATURES:
        raise CellError(f"{values.shape[1]} features per node are more than the {FEATURES} allowed")
    if not np.isfinite(values).all() or np.abs(values).max() > 1e30:
        raise CellError("the nodes have values that are not finite")
    return values


def _limit(count: int) -> None:
    if count < 1:
        raise CellError("the graph has no nodes")
    if count > NODES:
        raise CellError(f"the graph has {count} nodes, more than the {NODES} allowed")


def _edges(edges: Any, nodes: int) -> tuple[Array, list[str]]:
    if not isinstance(edges, (list, tuple, np.ndarray)):
        raise CellError(f"edges are a {type(edges).__name__}, not a list")
    if len(edges) > EDGES:
        raise CellError(f"the graph has {len(edges)} edges, more than the {EDGES} allowed")
    ends = np.zeros((len(edges), 2), np.int64)
    labels: list[str] = []
    for i, edge in enumerate(edges):
        parts = list(edge) if isinstance(edge, (list, tuple, np.ndarray)) else []
        if len(parts) not in (2, 3) or not all(_is_integer(part) and 0 <= part < nodes for part in parts[:2]):
            raise CellError(f"edge {i + 1}, {edge!r:.40}, does not name two of the {nodes} nodes (numbered from 0)")
        ends[i] = parts[:2]
        if len(parts) == 3:
            labels.append(str(parts[2]).strip()[:100])
    if labels and len(labels) < len(edges):
        raise CellError(f"{len(labels)} of {len(edges)} edges have a label", fix="label all edges or none")
    return ends, labels


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
