"""One forward pass through a model; stages are computed lazily and once, so that objectives share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from sensorium.core.batch import Batch, Encoded, Field, hide
from sensorium.core.contracts import Fusion
from sensorium.core.module_dict import NamedModules
from sensorium.core.task import Task


class Blending(Protocol):
    """Experts beside a network, such as ``sensorium.nn.ensemble.Ensemble``."""

    def read(self, inputs: Mapping[str, Field], least: int | None = None) -> dict[str, dict[str, Tensor]]:
        """Features of the prepared streams ``inputs``, padded to ``least`` rows."""

    def __call__(
        self,
        read: dict[str, dict[str, Tensor]],
        present: Mapping[str, Tensor],
        own: Mapping[str, Any],
        tasks: NamedModules[Task[Any]],
    ) -> dict[str, Any]: ...


class Passable(Protocol):
    """A model in three stages, such as ``sensorium.model.Model``; experts beside the network are blended in evaluation."""

    fusion: Fusion
    tasks: NamedModules[Task[Any]]
    network: bool
    training: bool

    @property
    def experts(self) -> Blending | None:
        """The experts beside the network, if any."""

    @property
    def others(self) -> Sequence[Passable]:
        """Further networks of the same recipe."""

    def encode(self, batch: Batch, least: int | None = None) -> dict[str, Encoded]:
        """Encode every stream of ``batch``, padded to ``least`` rows."""

    def encode_stream(self, stream: str, field: Field, least: int | None = None) -> Encoded:
        """Encode ``field`` of ``stream``, padded to ``least`` rows."""

    def answer(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> dict[str, Any]:
        """The outputs of all tasks for ``fused``, the ``streams`` and ``prompts``."""


class Forward:
    """One pass of ``model`` over ``batch``: ``streams``, then ``fused``, then ``outputs`` by task.

    In a model of several networks ``streams``, ``kept`` and ``fused`` belong to the first; ``own`` and ``outputs`` combine
    all networks.

    ``keep`` makes encoded streams missing row by row (``[B]`` bool each) before fusion: stream dropout without encoding
    again. ``streams`` are always complete.

    ``least``: minimum number of rows passed to encoders (``Model.encode``).
    """

    def __init__(
        self, model: Passable, batch: Batch, keep: Mapping[str, Tensor] | None = None, *, least: int | None = None
    ) -> None:
        self.model, self.batch, self.keep, self.least = model, batch, keep, least
        self.inputs: Mapping[str, Field] = batch.inputs
        """The prepared streams: those of the batch, unless some were ``changed``."""

    @cached_property
    def streams(self) -> dict[str, Encoded]:
        """The encoded streams."""
        return self.model.encode(self.batch, self.least)

    @cached_property
    def kept(self) -> dict[str, Encoded]:
        """The encoded streams, with hidden ones missing."""
        return hide(self.streams, self.keep) if self.keep else self.streams

    @cached_property
    def fused(self) -> Encoded:
        """The fused streams."""
        return self.model.fusion(self.kept)  # type: ignore[no-any-return]

    @cached_property
    def read(self) -> dict[str, dict[str, Tensor]]:
        """The features of experts for the complete streams: hiding a stream needs no second extraction."""
        assert self.model.experts is not None
        return self.model.experts.read(self.batch.inputs, self.least)

    @property
    def prompts(self) -> dict[str, Field]:
        """Inputs of tasks in addition to encodings: prompts and their ``prepared_streams``, hidden where the stream is."""
        prepared = dict.fromkeys(stream for task in self.model.tasks.values() for stream in task.prepared_streams)
        return {**self.batch.prompts, **{s: self.inputs[s].hide(self.kept[s].present) for s in prepared}}

    @cached_property
    def others(self) -> list[Forward]:
        """The passes of the further networks of a model that has several."""
        return [Forward(member, self.batch, self.keep, least=self.least) for member in self.model.others]

    @cached_property
    def own(self) -> dict[str, Any]:
        """The outputs of the network alone, averaged over several networks; empty without a network."""
        if not self.model.network:
            return {}
        mine = self.model.answer(self.fused, self.kept, self.prompts)
        by_network = [mine, *(other.own for other in self.others)]
        weight = self.batch.weight
        return {
            name: average_outputs(task, [outputs[name] for outputs in by_network], weight)
            for name, task in self.model.tasks.items()
        }

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """The output of every task; in evaluation the blend with the experts."""
        experts = self.model.experts
        if experts is None or self.model.training:
            return self.own
        present = {stream: part.present for stream, part in self.kept.items()}
        return experts(self.read, present, self.own, self.model.tasks)

    def hidden(self, keep: Mapping[str, Tensor]) -> Forward:
        """The same pass with streams missing where ``keep`` is False: encodings are shared, fusion and tasks are
        computed again."""
        return self._again(self.streams, keep)

    def only(self, *streams: str) -> Forward:
        """The same pass with ``streams`` alone, all others missing."""
        if set(streams) == set(self.streams):
            return self
        return self.hidden(
            {name: torch.zeros_like(part.present) for name, part in self.streams.items() if name not in streams}
        )

    def changed(self, streams: Mapping[str, Encoded], inputs: Mapping[str, Field] | None = None) -> Forward:
        """The same rows with the encoded ``streams`` in place of their own.

        ``inputs``: the fields from which they were encoded, for experts, further networks and tasks that look at them;
        without them those read the original fields.
        """
        other = self._again({**self.streams, **streams}, self.keep)
        other.inputs = {**self.inputs, **(inputs or {})}
        if inputs and self.others:
            other.__dict__["others"] = [
                run.changed({s: run.model.encode_stream(s, field, self.least) for s, field in inputs.items()})
                for run in self.others
            ]
        if inputs and self.model.experts is not None and not self.model.training:
            new = self.model.experts.read(inputs, self.least)
            other.__dict__["read"] = {form: {**part, **new[form]} for form, part in self.read.items()}
        return other

    def _again(self, streams: dict[str, Encoded], keep: Mapping[str, Tensor] | None) -> Forward:
        other = Forward(self.model, self.batch, keep, least=self.least)
        other.__dict__["streams"] = streams
        other.inputs = self.inputs
        if self.model.experts is not None and not self.model.training:
            other.__dict__["read"] = self.read
        if self.others:
            other.__dict__["others"] = [run._again(run.streams, keep) for run in self.others]
        return other

    def target(self, name: str) -> Field | None:
        """The targets of the task ``name``, or None if the batch has none."""
        return self.model.tasks[name].target(self.batch)


def average_outputs(task: Task[Any], outputs: Sequence[Any], rows: Tensor) -> Any:
    """The mean, as ``task`` defines it (``Task.merge``), of the ``outputs`` of several networks.

    ``rows``: any tensor of theirs ``[B, ...]``.
    """
    if len(outputs) == 1:
        return outputs[0]
    share = torch.full((len(rows), len(outputs)), 1 / len(outputs), device=rows.device)
    return task.plain.merge(outputs, share.to(outputs[0]) if isinstance(outputs[0], Tensor) else share)
