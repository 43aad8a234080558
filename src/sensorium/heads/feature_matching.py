"""Simple methods that match the sides of a row: a linear map between ready features, and TF-IDF of two texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core import registry
from sensorium.core.batch import Batch, Field, Ready
from sensorium.core.expert import Features
from sensorium.core.layout import Ids, Layout
from sensorium.core.learned_buffers import LearnedBuffers
from sensorium.core.module_dict import NamedModules
from sensorium.metrics.retrieval import rank_queries
from sensorium.nn.canonical_correlation import canonical_directions
from sensorium.nn.randomized_svd import principal

LINEAR = "a linear map of ready features"
TF_IDF = "TF-IDF"
RANK = 64
"""Dimensions of the common space of the linear map."""
REDUCED = 192
"""Principal directions of the features of a stream that the linear map reads, at most."""
RIDGES = (0.01, 0.1, 1.0, 10.0)
"""Strengths of regularisation from which the best on held-out rows is taken."""
APART = 5
"""One in so many rows is held out for that."""
BUCKETS = 1024
"""Numbers of a TF-IDF vector; where two texts share more terms, terms share numbers."""
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9)
"""Weights of the linear map beside a network from which the best on held-out rows is taken."""
LIGHT = {"ngrams": {"characters": None, "vocabulary": 5_000, "directions": 1}}
"""Options of features that would otherwise be large."""


class FeatureMatcher(LearnedBuffers):
    """Maps the sides of a row into one space without gradients: ready features (``features/``) and a linear map of each.

    The map is a regularised canonical correlation analysis of the training rows. Between sides that are one text each the
    cosine of their TF-IDF vectors is a second method.

    Args:
        sides: The streams of each side.
        layouts: The layout of each stream.
    """

    def __init__(self, sides: Mapping[str, Sequence[str]], layouts: Mapping[str, Layout]) -> None:
        super().__init__()
        self.sides = {side: tuple(streams) for side, streams in sides.items()}
        self.streams = [stream for streams in self.sides.values() for stream in streams]
        self.features: NamedModules[NamedModules[Features]] = NamedModules(
            {stream: NamedModules(_ready_features(layouts[stream])) for stream in self.streams}
        )
        texts = [streams[0] for streams in self.sides.values() if len(streams) == 1]
        self.texts = texts if len(texts) == len(self.sides) and all(_is_text(layouts[s]) for s in texts) else []
        for i in range(len(self.streams)):
            self.declare(f"map_{i}", torch.float32, 2)
            self.declare(f"offset_{i}", torch.float32, 1)
        for i in range(len(self.texts)):
            self.declare(f"bucket_{i}", torch.int64, 1)
        self.share: Tensor
        self.declare("share", torch.float32, 1)

    @property
    def weight(self) -> float:
        """The weight of the linear map beside a network, learnt from held-out rows; 0 before, and where the rows of a
        later fit have nothing in common."""
        return float(self.share[0]) if len(self.share) and self.fitted else 0.0

    @property
    def unread(self) -> list[str]:
        """The streams for which there are no ready features."""
        return [stream for stream in self.streams if not len(self.features[stream])]

    @property
    def fitted(self) -> bool:
        """Whether it was fitted, to rows that had something in common."""
        first: Tensor = self.map_0  # type: ignore[assignment]
        return first.shape[1] > 0

    def check(self) -> None:
        """Raise ``ValueError`` if the loaded maps are not of one width."""
        maps = [getattr(self, f"map_{i}") for i in range(len(self.streams))]
        offsets = [getattr(self, f"offset_{i}") for i in range(len(self.streams))]
        if len({part.shape[-1] for part in (*maps, *offsets)}) > 1:
            raise ValueError("the linear maps of the sides differ in width")
        for i in range(len(self.texts)):
            bucket = getattr(self, f"bucket_{i}")
            if bool((bucket.abs() > BUCKETS).any()):
                raise ValueError(f"a term of {self.texts[i]} is counted beyond {BUCKETS}")

    # ── fitting ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def fit(self, rows: Iterable[Batch], code: Callable[[Batch], Tensor]) -> None:
        """Fit features and maps.

        Args:
            rows: Prepared training rows; they can be iterated several times.
            code: Returns for a batch the codes ``[B]`` by which rows belong together, 0 for rows without one.
        """
        for stream, kinds in self.features.items():
            for part in kinds.values():
                part.fit(_fields(rows, stream))
        read: dict[str, list[Tensor]] = {stream: [] for stream in self.streams}
        there: dict[str, list[Tensor]] = {stream: [] for stream in self.streams}
        codes = []
        for batch in rows:
            codes.append(code(batch).cpu())
            for stream in self.streams:
                values = self._read(stream, batch.inputs[stream]).cpu()
                sparse = any(part.sparse for part in self.features[stream].values())
                read[stream].append(values.to_sparse() if sparse else values)
                there[stream].append(batch.inputs[stream].present.cpu())
        if not codes:
            return
        known = torch.cat(codes)
        # Rows without a code belong to themselves alone.
        known = torch.where(known != 0, known, -1 - torch.arange(len(known)))
        reduced, shapes = self._reduced({s: torch.cat(parts) for s, parts in read.items()}, there)
        present = torch.stack(
            [torch.stack([torch.cat(there[s]) for s in streams]).any(dim=0) for streams in self.sides.values()], dim=1
        )
        sides = [torch.cat([reduced[s] for s in streams], dim=1) for streams in self.sides.values()]
        maps = canonical_directions(sides, present, known, ridge=_best_ridge(sides, present, known), rank=RANK)
        for side, streams in enumerate(self.sides.values()):
            start = 0
            for stream in streams:
                directions, mean = shapes[stream]
                rows_of = maps[side][start : start + directions.shape[1]]
                start += directions.shape[1]
                i = self.streams.index(stream)
                self.keep(f"map_{i}", directions.double() @ rows_of)
                self.keep(f"offset_{i}", -mean @ rows_of)
        self._share_terms()

    @torch.no_grad()
    def weigh(self, held_out: Iterable[tuple[Mapping[str, Field], Tensor, Tensor, Tensor]]) -> None:
        """Learn the weight of the linear map beside a network.

        Args:
            held_out: Batches of rows that neither has seen: prepared streams, the network's unit vectors ``[B, S, E]``,
                which sides are present ``[B, S]``, and codes ``[B]`` as in ``fit``.
        """
        parts = [
            (vectors.cpu(), matched[LINEAR].cpu(), present.cpu(), code.cpu())
            for inputs, vectors, present, code in held_out
            if (matched := self.match(inputs))
        ]
        if not parts:
            return
        network, linear, present, code = (torch.cat(each) for each in zip(*parts, strict=True))
        code = torch.where(code != 0, code, -1 - torch.arange(len(code)))
        scores = [_mean_precision(mixed(network, linear, share), present, code) for share in SHARES]
        self.keep("share", torch.tensor([SHARES[scores.index(max(scores))]]))

    def _reduced(
        self, read: Mapping[str, Tensor], there: Mapping[str, Sequence[Tensor]]
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        """The features of each stream on their principal directions, centred over the rows that have it, and these
        directions and means."""
        reduced, shapes = {}, {}
        for stream, values in read.items():
            present = torch.cat(list(there[stream]))
            # A seeded generator: the same rows give the same map.
            directions = principal(values, REDUCED, torch.Generator().manual_seed(0))
            some = (values @ directions).double()
            mean = (some * present[:, None]).sum(dim=0) / present.sum().clamp(min=1)
            reduced[stream] = (some - mean) * present[:, None]
            shapes[stream] = directions, mean
        return reduced, shapes

    def _share_terms(self) -> None:
        """Number the terms that two or more texts have; others count in the length of a vector only."""
        if not self.texts:
            return
        terms = [next(iter(self.features[text].values())).terms for text in self.texts]
        seen: dict[str, int] = {}
        for each in terms:
            for term in each:
                seen[term] = seen.get(term, 0) + 1
        number = {term: i for i, term in enumerate(sorted(term for term, count in seen.items() if count > 1))}
        for i, each in enumerate(terms):
            places = torch.tensor([number.get(term, -1) for term in each], dtype=torch.int64)
            # Buckets are counted from 1; the sign alternates, so that terms in one bucket cancel in the mean.
            sign = torch.where(places // BUCKETS % 2 == 0, 1, -1)
            self.keep(f"bucket_{i}", torch.where(places >= 0, sign * (places % BUCKETS + 1), 0))

    # ── use ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def match(self, inputs: Mapping[str, Field]) -> dict[str, Tensor]:
        """Return by method the unit vectors of the sides ``[B, S, E]`` of prepared ``inputs``, zero where absent; nothing
        before ``fit``."""
        if not self.fitted or any(s not in inputs or isinstance(inputs[s], Ready) for s in self.streams):
            return {}
        read = {stream: self._read(stream, inputs[stream]) for stream in self.streams}
        vectors = []
        for streams in self.sides.values():
            parts = []
            for stream in streams:
                i = self.streams.index(stream)
                mapped = read[stream] @ getattr(self, f"map_{i}") + getattr(self, f"offset_{i}")
                parts.append(mapped * inputs[stream].present[:, None])
            vectors.append(F.normalize(torch.stack(parts).sum(dim=0), dim=1))
        methods = {LINEAR: torch.stack(vectors, dim=1)}
        if self.texts:
            methods[TF_IDF] = torch.stack([self._counted(i, read[text]) for i, text in enumerate(self.texts)], dim=1)
        return methods

    def _counted(self, i: int, weights: Tensor) -> Tensor:
        """The TF-IDF ``weights`` ``[B, terms]`` of a text, by bucket."""
        bucket: Tensor = getattr(self, f"bucket_{i}")
        shared = bucket != 0
        summed = weights.new_zeros(len(weights), BUCKETS)
        summed.index_add_(1, bucket[shared].abs() - 1, weights[:, shared] * bucket[shared].sign())
        return F.normalize(summed, dim=1)

    def _read(self, stream: str, field: Field) -> Tensor:
        """The features of a ``field`` ``[B, F]``, zero in rows without the stream.

        All rows are computed, so that the result for one does not depend on which others have the stream.
        """
        parts = torch.cat([part(field) for part in self.features[stream].values()], dim=1)
        return parts.masked_fill(~field.present[:, None], 0.0)


def _is_text(layout: Layout) -> bool:
    return isinstance(layout, Ids) and bool(layout.pieces)


def _ready_features(layout: Layout) -> dict[str, Features]:
    """All features that read streams of ``layout``, unfitted."""
    kinds = {kind: registry.find("features", kind) for kind in registry.kinds("features")}
    return {
        kind: registry.build("features", {"kind": kind, **LIGHT.get(kind, {})}, layout)
        for kind, features in kinds.items()
        if features.reads(layout)
    }


def _fields(rows: Iterable[Batch], stream: str) -> Iterator[Field]:
    for batch in rows:
        field = batch.inputs[stream]
        if bool(field.present.any()):
            yield _taken(field, field.rows)


def _taken(field: Field, rows: Tensor) -> Field:
    return Field(field.data, field.present, field.mask).map(lambda tensor: tensor[rows])


def mixed(network: Tensor, linear: Tensor, share: float) -> Tensor:
    """Unit vectors whose cosine is the weighted mean of those of ``network`` and ``linear``, which has the weight
    ``share``."""
    return torch.cat([network * (1 - share) ** 0.5, linear * share**0.5], dim=2)


def _mean_precision(vectors: Tensor, present: Tensor, code: Tensor) -> float:
    """The mean average precision over all directions between sides; 0 without a hit."""
    values = [torch.zeros(0, dtype=torch.float64)]
    for a, b in permutations(range(present.shape[1]), 2):
        queries, items = present[:, a], present[:, b]
        if bool(queries.any()) and bool(items.any()):
            same = torch.cat([code[queries], code[items]])
            values.append(rank_queries(vectors[queries, a], vectors[items, b], same, ["precision"])["precision"])
    return float(torch.cat(values).nanmean().nan_to_num(0.0))


def _best_ridge(sides: Sequence[Tensor], present: Tensor, code: Tensor) -> float:
    """The strength of regularisation with the best mean average precision on held-out rows."""
    apart = torch.zeros(len(code), dtype=torch.bool)
    apart[::APART] = True
    scores = []
    for ridge in RIDGES:
        maps = canonical_directions([side[~apart] for side in sides], present[~apart], code[~apart], ridge=ridge, rank=RANK)
        vectors = [F.normalize(side[apart] @ part, dim=1) for side, part in zip(sides, maps, strict=True)]
        scores.append(_mean_precision(torch.stack(vectors, dim=1), present[apart], code[apart]))
    return RIDGES[scores.index(max(scores))]
