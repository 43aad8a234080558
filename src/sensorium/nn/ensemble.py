"""Ensemble of a network and experts: their weights and blended outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sensorium.core.batch import Field, Ready
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.expert import Expert, Features
from sensorium.core.learned_buffers import LearnedBuffers
from sensorium.core.module_dict import NamedModules
from sensorium.core.stream_subsets import coalitions, route_rows
from sensorium.core.task import Task

Read = dict[str, dict[str, Tensor]]
"""Features by form (``"features"``, ``"compact"``) and stream, each ``[B, F]``; zero in rows without the stream."""
NETWORK = "network"
"""Name of the network among the parts of a blend."""


class Blend(LearnedBuffers):
    """Learned weights of the network and each expert for one task, by the set of streams a row has.

    Outputs are averaged by ``Task.merge``, like the heads of a late fusion. Fitted on held-out predictions: ``share``
    ``[sets, parts]``, weights summing to 1 over the parts, and ``factor`` ``[sets]``, a confidence factor of the mean. The
    sets of streams are those of ``coalitions``.
    """

    def __init__(self, streams: Sequence[str], parts: Sequence[str]) -> None:
        super().__init__()
        self.streams, self.parts, self.sets = tuple(streams), tuple(parts), coalitions(streams)
        self.share: Tensor
        self.factor: Tensor
        self.declare("share", torch.float32, 2)
        self.declare("factor", torch.float32, 1)
        self.keep("share", torch.full((len(self.sets), len(self.parts)), 1 / len(self.parts)))
        self.keep("factor", torch.ones(len(self.sets)))

    def shares(self, present: Mapping[str, Tensor]) -> Tensor:
        """Return the weight of each part in each row ``[B, parts]``; ``present`` tells by stream which rows have it
        ``[B]``.
        """
        return self.share[route_rows(self.streams, self.sets, present)]

    def forward(self, task: Task[Any], part_outputs: Sequence[Any], present: Mapping[str, Tensor]) -> Any:
        """Return the blended output of a ``task``.

        Args:
            task: The task.
            part_outputs: Outputs of the parts, in the order of ``parts``.
            present: Which rows have each stream ``[B]``.
        """
        which = route_rows(self.streams, self.sets, present)
        together = task.merge(list(part_outputs), self.share[which].to(part_outputs[0]))
        return task.scale_confidence(together, self.factor[which].to(part_outputs[0]).unsqueeze(1))

    def without(self, part: str, task: Task[Any], part_outputs: Mapping[str, Any], present: Mapping[str, Tensor]) -> Any:
        """Return the blended output without one part, the weights of the others renormalised.

        Args:
            part: The part to leave out.
            task: The task.
            part_outputs: Outputs by part.
            present: Which rows have each stream ``[B]``.
        """
        rest = [i for i, name in enumerate(self.parts) if name != part]
        which = route_rows(self.streams, self.sets, present)
        share = self.share[which][:, rest]
        total = share.sum(dim=1, keepdim=True)
        # Where the omitted part has all the weight, the others are weighted equally.
        share = torch.where(total > 0, share / total.clamp_min(1e-12), 1 / len(rest))
        outputs = [part_outputs[self.parts[i]] for i in rest]
        together = task.merge(outputs, share.to(outputs[0]))
        return task.scale_confidence(together, self.factor[which].to(outputs[0]).unsqueeze(1))


class Ensemble(nn.Module):
    """Experts on features of the streams, blended with the outputs of a network.

    Args:
        streams: All streams of the model, in its order. Experts only use those with features.
        features: By stream and kind.
        experts: By task and kind.
        network: Whether there is a network; otherwise the experts answer alone.
        encoders: Encoders of the network whose vectors features use (``Features.encoded``), by stream. They remain part of
            the network only.
    """

    def __init__(
        self,
        streams: Sequence[str],
        features: Mapping[str, Mapping[str, Features]],
        experts: Mapping[str, Mapping[str, Expert]],
        *,
        network: bool,
        encoders: Mapping[str, Encoder] | None = None,
    ) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.features: NamedModules[NamedModules[Features]] = NamedModules(
            {s: NamedModules(kinds) for s, kinds in features.items() if kinds}
        )
        self.experts: NamedModules[NamedModules[Expert]] = NamedModules(
            {task: NamedModules(kinds) for task, kinds in experts.items() if kinds}
        )
        own = [NETWORK] if network else []
        self.blends: NamedModules[Blend] = NamedModules(
            {task: Blend(self.streams, [*own, *kinds]) for task, kinds in self.experts.items()}
        )
        self.network = network
        self.encoders = dict(encoders or {})  # a plain dictionary: not saved a second time with the experts

    @property
    def heard(self) -> tuple[str, ...]:
        """The streams that experts use, in the model's order."""
        return tuple(stream for stream in self.streams if stream in self.features)

    @property
    def sparse_streams(self) -> tuple[str, ...]:
        """The streams whose features are mostly zero."""
        return tuple(s for s in self.heard if any(part.sparse for part in self.features[s].values()))

    @property
    def compacts(self) -> bool:
        """Whether any expert uses the compact features."""
        return any(expert.reads == "compact" for experts in self.experts.values() for expert in experts.values())

    def read(self, inputs: Mapping[str, Field], least: int | None = None, *, sparse: bool = False) -> Read:
        """Compute the features of prepared streams; streams missing from ``inputs`` are left out.

        Args:
            inputs: Prepared fields by stream.
            least: As for encoders: where given, all rows are computed, so that results do not depend on the other rows.
            sparse: Whether the features of ``sparse_streams`` are coalesced sparse tensors.
        """
        streams: Read = {"features": {}, "compact": {}}
        for stream in self.heard:
            if stream in inputs:
                thin = sparse and stream in self.sparse_streams
                features, compact = self._read(stream, inputs[stream], whole=least is not None, sparse=thin)
                streams["features"][stream] = features
                streams["compact"][stream] = compact
        return streams

    @torch.no_grad()
    def _read(self, stream: str, field: Field, *, whole: bool, sparse: bool) -> tuple[Tensor, Tensor]:
        if isinstance(field, Ready):
            raise ConfigError("features need the stream itself, and only its encoded form is available")
        rows = field.rows
        # If no row has the stream, the absent rows still determine the width.
        some = field if whole or len(rows) in (0, len(field.present)) else taken(field, rows)
        wide, short = [], []
        for part in self.features[stream].values():
            part_input = self.input_of(stream, part, some)
            part_outputs = part.nonzero(part_input) if sparse and part.sparse else part(part_input)
            wide.append(part_outputs.to_sparse() if sparse and not part.sparse else part_outputs)
            if self.compacts:
                short.append(part.compact(part_outputs, part_input))
        features = torch.cat(wide, dim=1)
        features = features.coalesce() if sparse else features
        compact = torch.cat(short, dim=1).float() if short else field.data.new_zeros(len(features), 0, dtype=torch.float32)
        if len(rows) == len(field.present):
            return features, compact
        if some is field and not sparse:
            keep = field.present.unsqueeze(1)
            return features.masked_fill(~keep, 0.0), compact.masked_fill(~keep, 0.0)
        if some is field:
            features, compact = features.index_select(0, rows).coalesce(), compact[rows]
        return _placed(features, rows, len(field.present)), _placed(compact, rows, len(field.present))

    @torch.no_grad()
    def input_of(self, stream: str, part: Features, field: Field) -> Field:
        """Return the input of features: the ``field`` of a ``stream``, or its frozen encoding where ``part`` reads
        encodings.
        """
        if not part.encoded or stream not in self.encoders:
            return field
        vector = self.encoders[stream](field.data, field.mask).pooled
        return Field(vector.float().unsqueeze(2), field.present)

    def scores(self, task: str, read: Read, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the scores of each expert of a task, by kind.

        Args:
            task: Name of the task.
            read: Features as returned by ``read``.
            present: Which rows have each stream ``[B]``.
        """
        presence = {stream: present[stream] for stream in self.heard}
        return {kind: expert(read[expert.reads], presence) for kind, expert in self.experts[task].items()}

    def forward(
        self, read: Read, present: Mapping[str, Tensor], own: Mapping[str, Any], tasks: Mapping[str, Task[Any]]
    ) -> dict[str, Any]:
        """Return the output of every task: blended where it has experts, else the network's.

        Args:
            read: Features of the same rows, as returned by ``read``.
            present: Which rows have each stream ``[B]``; a stream may have been masked after features were computed.
            own: Outputs of the network by task; empty without a network.
            tasks: By name, in order.
        """
        outputs: dict[str, Any] = {}
        for name, task in tasks.items():
            if name not in self.experts:
                outputs[name] = own[name]
                continue
            scored = [task.scored(part) for part in self.scores(name, read, present).values()]
            part_outputs = [own[name], *scored] if self.network else scored
            outputs[name] = self.blends[name](task.plain, part_outputs, present)
        return outputs


def taken(field: Field, rows: Tensor) -> Field:
    """Return the ``rows`` (indices) of a ``field``."""
    return replace(field, where=None).map(lambda tensor: tensor[rows])


def _placed(features: Tensor, rows: Tensor, count: int) -> Tensor:
    """Return ``features`` (dense or coalesced) of ``rows``, increasing indices, as those of ``count`` rows, else zero."""
    size = (count, features.shape[1])
    if not features.is_sparse:
        return features.new_zeros(size).index_copy(0, rows, features)
    row, column = features.indices()
    place = torch.stack([rows[row], column])
    return torch.sparse_coo_tensor(place, features.values(), size, check_invariants=True, is_coalesced=True)
