"""The network and the experts beside it, and how much each counts in an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sensorium.core.batch import Field, Ready
from sensorium.core.contracts import Encoder, Task
from sensorium.core.errors import ConfigError
from sensorium.core.expert import Expert, Features
from sensorium.core.learned_buffers import Learnt
from sensorium.core.module_dict import ByName
from sensorium.core.stream_subsets import coalitions, routed

Read = dict[str, dict[str, Tensor]]
"""``"features"`` and ``"compact"``: what is read off each stream ``[B, F]``, zero in rows without it."""
NETWORK = "network"
"""What the network is called among the parts of a blend."""


class Blend(Learnt):
    """How much the network and each expert count for one task, by the streams that a row has.

    The parts are averaged by ``Task.merge``, as the heads of a late fusion are; what was learnt on rows that none of them
    had seen is ``share`` ``[sets, parts]``, summing to 1 over the parts, and ``factor`` ``[sets]``, how much surer the mean
    may be than it is. The sets of streams are those of ``coalitions``.
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
        """The weight ``[B, parts]`` of each part in each row, given which are ``present``."""
        return self.share[routed(self.streams, self.sets, present)]

    def forward(self, task: Task[Any], said: Sequence[Any], present: Mapping[str, Tensor]) -> Any:
        """The task's output for rows of which the parts say ``said``, in the order of ``parts``."""
        which = routed(self.streams, self.sets, present)
        together = task.merge(list(said), self.share[which].to(said[0]))
        return task.surer(together, self.factor[which].to(said[0]).unsqueeze(1))

    def without(self, part: str, task: Task[Any], said: Mapping[str, Any], present: Mapping[str, Tensor]) -> Any:
        """The output of ``task`` from all parts but ``part``, with the weights of the blend rescaled; ``said``: the
        outputs by part; ``present``: which streams each row has."""
        rest = [i for i, name in enumerate(self.parts) if name != part]
        which = routed(self.streams, self.sets, present)
        share = self.share[which][:, rest]
        total = share.sum(dim=1, keepdim=True)
        # Where only the part that is left out counts, the others count alike.
        share = torch.where(total > 0, share / total.clamp_min(1e-12), 1 / len(rest))
        outputs = [said[self.parts[i]] for i in rest]
        together = task.merge(outputs, share.to(outputs[0]))
        return task.surer(together, self.factor[which].to(outputs[0]).unsqueeze(1))


class Ensemble(nn.Module):
    """Experts over features of the streams, blended with what a network says.

    Args:
        streams: All streams of the model, in its order. Those without features are not heard by experts.
        features: By stream and kind.
        experts: By task and kind.
        network: Whether there is a network; without one the experts answer alone.
        encoders: Those of the network whose vectors features read (``Features.encoded``), by stream; they stay parts of the
            network alone.
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
        self.features: ByName[ByName[Features]] = ByName({s: ByName(kinds) for s, kinds in features.items() if kinds})
        self.experts: ByName[ByName[Expert]] = ByName({task: ByName(kinds) for task, kinds in experts.items() if kinds})
        own = [NETWORK] if network else []
        self.blends: ByName[Blend] = ByName(
            {task: Blend(self.streams, [*own, *kinds]) for task, kinds in self.experts.items()}
        )
        self.network = network
        self.encoders = dict(encoders or {})  # a dictionary, so that they are not saved with the experts once more

    @property
    def heard(self) -> tuple[str, ...]:
        """The streams that experts read, in the model's order."""
        return tuple(stream for stream in self.streams if stream in self.features)

    @property
    def compacts(self) -> bool:
        """Whether any expert reads the compact features."""
        return any(expert.reads == "compact" for experts in self.experts.values() for expert in experts.values())

    def read(self, inputs: Mapping[str, Field], least: int | None = None) -> Read:
        """What is read off prepared streams. Streams that ``inputs`` lacks are left out.

        ``least``: as for encoders: where it is given, no row is left out, so that sums run alike whoever stands beside.
        """
        found: Read = {"features": {}, "compact": {}}
        for stream in self.heard:
            if stream in inputs:
                features, compact = self._read(stream, inputs[stream], whole=least is not None)
                found["features"][stream] = features
                found["compact"][stream] = compact
        return found

    @torch.no_grad()
    def _read(self, stream: str, field: Field, *, whole: bool) -> tuple[Tensor, Tensor]:
        if isinstance(field, Ready):
            raise ConfigError("features are read off the stream itself, and only its encoded form is here")
        rows = field.rows
        # Where no row has the stream, absent ones tell how many numbers there are.
        some = field if whole or len(rows) in (0, len(field.present)) else taken(field, rows)
        wide, short = [], []
        for part in self.features[stream].values():
            given = self.given(stream, part, some)
            said = part(given)
            wide.append(said)
            if self.compacts:
                short.append(part.compact(said, given))
        features = torch.cat(wide, dim=1)
        compact = torch.cat(short, dim=1).float() if short else features.new_zeros(len(features), 0)
        if some is field:
            keep = field.present.unsqueeze(1)
            return features.masked_fill(~keep, 0.0), compact.masked_fill(~keep, 0.0)
        return tuple(  # type: ignore[return-value]
            part.new_zeros(len(field.present), part.shape[1]).index_copy(0, rows, part) for part in (features, compact)
        )

    @torch.no_grad()
    def given(self, stream: str, part: Features, field: Field) -> Field:
        """The input of the features ``part`` for ``field`` of ``stream``: the field, or its encoding by a frozen
        encoder."""
        if not part.encoded or stream not in self.encoders:
            return field
        vector = self.encoders[stream](field.data, field.mask).pooled
        return Field(vector.float().unsqueeze(2), field.present)

    def scores(self, task: str, read: Read, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The scores of each expert of ``task``, by kind, from the features ``read`` and the streams ``present``."""
        here = {stream: present[stream] for stream in self.heard}
        return {kind: expert(read[expert.reads], here) for kind, expert in self.experts[task].items()}

    def forward(
        self, read: Read, present: Mapping[str, Tensor], own: Mapping[str, Any], tasks: Mapping[str, Task[Any]]
    ) -> dict[str, Any]:
        """Every task's output: the blend where experts answer it, else what the network says.

        Args:
            read: As ``read`` gives it for the same rows.
            present: By stream ``[B]``: which rows have it; a stream may have been hidden after it was read.
            own: What the network says, by task; empty where there is none.
            tasks: By name, in order.
        """
        found: dict[str, Any] = {}
        for name, task in tasks.items():
            if name not in self.experts:
                found[name] = own[name]
                continue
            scored = [task.scored(part) for part in self.scores(name, read, present).values()]
            said = [own[name], *scored] if self.network else scored
            found[name] = self.blends[name](task.plain, said, present)
        return found


def taken(field: Field, rows: Tensor) -> Field:
    """The ``rows`` of ``field``."""
    return replace(field, where=None).map(lambda tensor: tensor[rows])
