"""Scores of a set of made rows, and their report views."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sensorium.core.answer import Attachment
from sensorium.core.batch import Batch
from sensorium.core.report_views import Gallery, Picture, Sentence, Table, View
from sensorium.core.scorer import Kept, Scorer
from sensorium.metrics import generation as metrics
from sensorium.metrics.weighting import mean

COPIES = 0.5
"""Made rows nearer to training rows than this share of what real rows are raise a warning of memorisation."""
SHOWN, COLUMNS = 60, 6
"""Maximum number of made cells on a page, and of each condition."""


class Judged(NamedTuple):
    """Judged rows: one made row for each real one under the same conditions.

    Args:
        real: Features of real rows ``[n, F]``.
        made: Features of made rows ``[n, F]``.
        agrees: Whether the judge recognises the labels of a made row ``[n]``: 1, 0, or NaN without labels.
        real_agrees: The same of the real row.
        similarity: Cosine of a made row and its conditions in the judge's common space ``[n]``; NaN without conditions.
        real_similarity: The same of the real row.
        near: Distance of a made row to the nearest training row ``[n]``; NaN before training rows are kept.
        real_near: The same of the real row.
        codes: The labels among the conditions ``[n, K]``, counted from 1; 0 is unknown.
        vector: The conditions ``[n, C]``.
    """

    real: Tensor
    made: Tensor
    agrees: Tensor
    real_agrees: Tensor
    similarity: Tensor
    real_similarity: Tensor
    near: Tensor
    real_near: Tensor
    codes: Tensor
    vector: Tensor


Judge = Callable[[Any, Batch], Judged]


class GenerationScorer(Scorer[Any]):
    """Coverage with and without labels, label agreement, precision, recall, density, Fréchet distance, similarity, and the
    distance of made rows to training rows.

    Args:
        judge: Makes a row for each row of a batch that counts, and judges both.
        labelled: Whether there are labels to agree with.
    """

    def __init__(self, judge: Judge, *, labelled: bool) -> None:
        super().__init__()
        self._judge, self._labelled = judge, labelled

    def keep(self, output: Any, batch: Batch) -> Kept:
        return {name: part.detach().double().cpu() for name, part in self._judge(output, batch)._asdict().items()}

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        kept = self.kept
        measures: dict[str, Callable[[], Tensor]] = {
            "label_coverage": lambda: metrics.coverage(kept["real"], kept["made"], weights, _labels(kept)),
            "coverage": lambda: metrics.coverage(kept["real"], kept["made"], weights),
            **({"label_agreement": lambda: _mean(kept["agrees"], weights)} if self._labelled else {}),
            "precision": lambda: metrics.precision(kept["real"], kept["made"], weights),
            "recall": lambda: metrics.recall(kept["real"], kept["made"], weights),
            "density": lambda: metrics.density(kept["real"], kept["made"], weights),
            "frechet": lambda: metrics.frechet(kept["real"], kept["made"], weights),
            "similarity": lambda: _mean(kept["similarity"], weights),
            "nearness": lambda: metrics.memorised(kept["near"], kept["real_near"], weights),
        }
        nothing = weights.new_full((weights.shape[0],), torch.nan)
        return {
            name: measure() if self.rows > 1 else nothing
            for name, measure in measures.items()
            if names is None or name in names
        }

    def views(self) -> list[View]:
        """A table of scores of made and real rows, and a warning if made rows repeat training rows."""
        if self.rows < 2:
            return []
        kept, ones = self.kept, self.ones()
        half = torch.randperm(self.rows, generator=torch.Generator().manual_seed(0))
        a, b = kept["real"][half[::2]], kept["real"][half[1::2]]
        ones_b = torch.ones(1, len(b), dtype=torch.float64)
        floor = metrics.frechet(a, b, torch.ones(1, len(a), dtype=torch.float64), ones_b)
        rows: list[dict[str, str | int | float]] = [
            {
                "measure": "Fréchet distance",
                "made": _first(self.compute(names=["frechet"])["frechet"]),
                "real": _first(floor),
            }
        ]
        for words, name in (("agrees with its label", "agrees"), ("similarity to its conditions", "similarity")):
            if bool(kept[name].isfinite().any()):
                both = (_first(_mean(kept[name], ones)), _first(_mean(kept[f"real_{name}"], ones)))
                rows.append({"measure": words, "made": both[0], "real": both[1]})
        if bool(kept["near"].isfinite().all()):
            both = (_first(metrics.median(kept["near"], ones)), _first(metrics.median(kept["real_near"], ones)))
            rows.append({"measure": "distance to the nearest training row (median)", "made": both[0], "real": both[1]})
        note = (
            "Made rows beside the real rows of this table, in the space of a judge that was trained on real rows. "
            "Real: the same measure of the real rows; the Fréchet distance is that of one half of them from the other."
        )
        shown: list[View] = [Table("made_and_real", "Made rows beside real ones", note, rows=rows)]
        nearness = _first(metrics.memorised(kept["near"], kept["real_near"], ones))
        if nearness < COPIES:
            text = (
                f"Made rows lie {nearness:.2f} times as far from the nearest training row as real rows do: some may repeat "
                f"training rows. More training rows, fewer epochs or a larger beta help."
            )
            shown.append(Sentence("memorisation", "Memorisation", text=text))
        return shown


def _labels(kept: Kept) -> tuple[Tensor, Tensor] | None:
    """The labels ``[n]`` of real and of made rows as one number each, -1 for a made row whose label the judge does not
    recognise; None without labels."""
    codes: Tensor = kept["codes"].long()
    if not codes.shape[1]:
        return None
    _, label = torch.unique(codes, dim=0, return_inverse=True)
    return label, label.masked_fill(kept["agrees"] == 0, -1)


def _first(values: Tensor) -> float:
    return float(values[0].float())


def _mean(value: Tensor, weights: Tensor) -> Tensor:
    """The mean of the values that are known."""
    known = value.isfinite()
    return mean(value.nan_to_num(0.0), weights * known)


def gallery(cells: Sequence[tuple[str, Any]], name: str) -> View | None:
    """Made ``cells`` of the column ``name`` with their conditions in words: pictures as they are, the rest drawn."""
    pictures = [Picture(_drawn(cell), words) for words, cell in cells[:SHOWN]]
    return Gallery(f"made_{name}", f"Made: {name}", "Drawn from the conditions under each.", pictures) if pictures else None


def _drawn(cell: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A cell as a picture at least 56 pixels wide: a picture enlarged, a recording or a series as a curve."""
    if isinstance(cell, Attachment) and cell.kind == "image":
        factor = max(1, 56 // max(cell.data.shape[:2]))
        return np.ascontiguousarray(cell.data.repeat(factor, axis=0).repeat(factor, axis=1))
    values = np.asarray(cell.data if isinstance(cell, Attachment) else cell, dtype=np.float64)
    values = values.reshape(len(values), -1)
    at = np.linspace(0, len(values) - 1, 160).round().astype(int)
    low, high = float(values.min()), float(values.max())
    image = np.full((64, 160), 255, np.uint8)
    for channel in values.T[:8]:
        height = ((channel - low) / max(high - low, 1e-12) * 63).round().astype(int)
        for x, start in enumerate(at.tolist()):
            stop = at[x + 1] if x + 1 < len(at) else start + 1
            piece = height[start : max(stop, start + 1)]
            image[63 - piece.max() : 64 - piece.min(), x] = 0
    return image
