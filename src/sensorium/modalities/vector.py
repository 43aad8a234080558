"""Precomputed embeddings."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.npy import MAGIC, npy_array
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.number_lists import read_number_list
from sensorium.core.registry import component
from sensorium.signal.running_moments import Moments

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_NAME = re.compile(
    r"(?i)(^|[\W_])(emb|embed|embeddings?|vec|vectors?|features?|latents?|descriptors?|fingerprints?)($|[\W_\d])|向量"
)
_LONGEST = 65_536


@component
class Vector(Modality):
    """A precomputed vector (an embedding, a descriptor): a list, an array ``[D]``, an NPY file, or text.

    Text is numbers as programs print them: ``0.1 0.2 0.3``, ``[0.1, 0.2]``.

    Encoded as ``[D]`` float32; prepared as ``[B, D, 1]``: a grid of one cell with ``D`` channels. A length other than in
    training, or a value that is not finite, raises ``CellError``.

    Args:
        normalise: ``standard`` standardises each feature over the training cells; ``unit`` scales every vector to length
            √D, keeping only its direction; ``none`` changes nothing.
        noise: In training, Gaussian noise of this deviation is added to the prepared features.
    """

    widget = "file:.npy"
    media = True

    def __init__(self, *, normalise: Literal["standard", "unit", "none"] = "standard", noise: float = 0.05) -> None:
        super().__init__()
        if not 0 <= noise <= 10:
            raise ConfigError(f"vector: a noise of {noise} is not between 0 and 10")
        self.normalise, self.noise = normalise, noise

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        lengths = Counter(length for length in map(_length, cells) if length)
        if not lengths:
            return Guess(0.0, "no cell is a vector")
        length, count = lengths.most_common(1)[0]
        share = count / len(cells)
        what = f"vectors of {length} numbers" if length > 0 else ".npy files"
        reason = f"{count} of {len(cells)} cells are {what}"
        if _NAME.search(name):
            return Guess(0.96 * share, f"{reason}, and the column is called {name!r}")
        # Without a telling column name, a list of numbers is taken for a series.
        return Guess((0.5 if length > 0 else 0.2) * share, reason)

    def fit(self, cells: Iterable[Any]) -> None:
        vectors: list[Array] = []
        lengths: Counter[int] = Counter()
        for cell in cells:
            try:
                vectors.append(_open(cell))
            except CellError:
                continue  # reported by encode
            lengths[len(vectors[-1])] += 1
        usual = max(lengths, key=lambda length: (lengths[length], -length)) if lengths else 1
        moments = Moments(usual)
        for vector in vectors:
            if len(vector) == usual:
                moments.add(vector[None])
        self.state = {"length": usual, "mean": moments.mean, "deviation": moments.deviation(1e-12)}

    @property
    def layout(self) -> Layout:
        return Grid(self.state["length"], (1,))

    def encode(self, cell: Any) -> Array:
        vector = _open(cell)
        if len(vector) != self.state["length"]:
            raise CellError(
                f"the vector has {len(vector)} numbers, in training they had {self.state['length']}",
                file=cell.name if isinstance(cell, Blob) else None,
                fix="make all vectors with the same model",
            )
        return vector.astype(np.float32)

    def blank(self) -> Array:
        return np.zeros(self.state["length"], dtype=np.float32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Normalise vectors ``[B, D]`` to ``[B, D, 1]``; zero where missing."""
        import torch

        data = field.data
        if self.normalise == "standard":
            mean, deviation = (torch.tensor(self.state[key], device=data.device) for key in ("mean", "deviation"))
            data = ((data - mean) / deviation).clamp(-100, 100)
        elif self.normalise == "unit":
            largest = data.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)  # first, so that no square overflows
            data = torch.nn.functional.normalize(data / largest, dim=1) * data.shape[1] ** 0.5
        if generator is not None and self.noise:
            drawn = torch.randn(data.shape, generator=generator, device=generator.device)
            data = data + drawn.to(data.device) * self.noise
        return replace(field, data=(data * field.present[:, None])[..., None])

    @property
    def store_options(self) -> dict[str, Any]:
        return {"length": self.state["length"]}


def _open(cell: Any) -> Array:
    """Read a cell as ``[D]`` float64."""
    name = None
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        data, name = cell
        if not data.startswith(MAGIC):
            raise CellError("not an NPY file", file=name, fix="save it with numpy.save, as float32")
        try:
            cell = npy_array(data)
        except CellError as error:
            raise CellError(error.problem, file=name, fix=error.fix) from None
    try:
        array = np.asarray(cell)
    except (ValueError, TypeError, OverflowError):
        raise CellError("not a list of numbers", file=name) from None
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.dtype.kind not in "buif" or array.ndim != 1 or not 0 < len(array) <= _LONGEST:
        problem = f"an array of shape {array.shape} and type {array.dtype} is not a vector"
        raise CellError(problem, file=name, fix="use [D] numbers")
    vector = array.astype(np.float64)
    if not np.isfinite(vector).all() or np.abs(vector).max() > 1e30:
        raise CellError("the vector has values that are not finite", file=name)
    return vector


def _length(cell: Any) -> int:
    """Return the length of what looks like a vector, -1 for the name of an NPY file, 0 for anything else."""
    if isinstance(cell, os.PathLike):
        cell = os.fspath(cell)
    if isinstance(cell, str):
        numbers = read_number_list(cell)
        if numbers is None and cell.lstrip()[:1] != "[":
            return -1 if cell[-300:].strip().lower().endswith(".npy") else 0
        try:
            cell = json.loads(cell) if numbers is None else numbers
        except (ValueError, RecursionError):
            return 0
    if not isinstance(cell, (list, tuple, np.ndarray)) or len(cell) < 2:
        return 0
    try:
        return len(_open(cell))
    except CellError:
        return 0
