"""A fusion of fusions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sensorium.core import registry
from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.layout import Layout
from sensorium.core.module_dict import NamedModules
from sensorium.core.registry import component
from sensorium.core.task import Task
from sensorium.heads.late_heads import LateHeads
from sensorium.nn.streams import vectors

GROUP = ("streams", "fusion")


@component
class Compose(Fusion):
    """Hierarchical fusion: groups of streams are fused first, then the groups and the remaining streams.

    Use it where some streams belong together (the sensors of one body, the views of one object). Each group is one stream
    to the outer fusion, beside the streams in no group. Without groups it is the outer fusion.
    Source: hierarchical fusion, https://arxiv.org/abs/1806.06228, § 3.

    Args:
        groups: By group name, ``{streams: [accel, gyro], fusion: gated}``; the fusion may be given with options.
        fusion: The fusion of the groups and of the streams in none of them: a name, or ``{kind: name, option: value}``.
    """

    def __init__(
        self,
        streams: Sequence[str],
        dim: int,
        *,
        groups: dict[str, Any] | None = None,
        fusion: str | dict[str, Any] = "lowrank",
    ) -> None:
        super().__init__(streams, dim)
        settings = self.complete({"groups": groups, "fusion": fusion})
        self.members = {name: tuple(group["streams"]) for name, group in (settings["groups"] or {}).items()}
        grouped = self._checked()
        inner: dict[str, Fusion] = {}
        for name, members in self.members.items():
            try:
                inner[name] = registry.build("fusions", settings["groups"][name]["fusion"], list(members), dim)
            except ConfigError as error:
                raise ConfigError(f"group {name!r}: {error.problem}", fix=error.fix) from None
        self.inner = NamedModules(inner)
        self.units = (*self.members, *(s for s in self.streams if s not in grouped))
        self.outer: Fusion = registry.build("fusions", settings["fusion"], list(self.units), dim)

    @classmethod
    def complete(cls, options: dict[str, Any]) -> dict[str, Any]:
        """``options`` with those of the inner fusions written out; an error in one names its group."""
        groups: dict[str, Any] = {}
        for name, group in (options["groups"] or {}).items():
            if not isinstance(group, Mapping) or "streams" not in group or "fusion" not in group:
                raise ConfigError(
                    f"fusions/compose: group {name!r} is {group!r}", fix=f"{name}: {{streams: [one, two], fusion: gated}}"
                )
            unknown = next((str(key) for key in group if key not in GROUP), None)
            if unknown is not None:
                raise ConfigError(f"fusions/compose: group {name!r}: no such key {unknown!r}{nearest(unknown, GROUP)}")
            members = group["streams"]
            if not (isinstance(members, Sequence) and not isinstance(members, str) and members):
                raise ConfigError(f"fusions/compose: group {name!r}: streams is {members!r}", fix="a list of stream names")
            groups[name] = {"streams": [str(s) for s in members], "fusion": _resolved(group["fusion"], f"group {name!r}")}
            if groups[name]["fusion"]["kind"] == "late":
                raise ConfigError(
                    f"fusions/compose: group {name!r}: late returns answers, but a group must return features",
                    fix="late as the outer fusion, or weighted in the group",
                )
        return {"groups": groups or None, "fusion": _resolved(options["fusion"], "fusion")}

    @classmethod
    def completed(cls, options: Mapping[str, Any], layouts: Mapping[str, Layout]) -> dict[str, Any]:
        """``options`` with the architectures of the inner fusions' checkpoints; ``layouts`` are the streams'."""
        full = cls.complete({**options, "fusion": options.get("fusion", "lowrank"), "groups": options.get("groups")})
        grouped: set[str] = set()
        for group in (full["groups"] or {}).values():
            grouped |= set(group["streams"])
            group["fusion"] = _completed(group["fusion"], {s: layouts[s] for s in group["streams"] if s in layouts})
        full["fusion"] = _completed(full["fusion"], {s: x for s, x in layouts.items() if s not in grouped})
        return full

    def adopt(self) -> None:
        for part in (*self.inner.values(), self.outer):
            part.adopt()

    def _checked(self) -> set[str]:
        """Return the streams that are in a group; refuse unknown ones and those in several groups."""
        grouped: set[str] = set()
        for name, members in self.members.items():
            if name in self.streams:
                raise ConfigError(f"group {name!r} has the name of a stream", fix="give the group a name of its own")
            for stream in members:
                if stream not in self.streams:
                    raise ConfigError(f"group {name!r}: no stream named {stream!r}{nearest(stream, self.streams)}")
                if stream in grouped:
                    raise ConfigError(f"stream {stream!r} is in more than one group", fix="leave it in one")
                grouped.add(stream)
        return grouped

    def _units(self, parts: Mapping[str, Encoded]) -> dict[str, Encoded]:
        """Return the streams of the outer fusion, in which each group is one stream."""
        fused = {name: fusion(parts) for name, fusion in self.inner.items()}
        return {unit: fused[unit] if unit in fused else parts[unit] for unit in self.units}

    def answering(self, make: Callable[[], Task[Any]]) -> Task[Any]:
        task = self.outer.answering(make)
        if self.members and isinstance(task, LateHeads):
            task.corrects = False  # groups are not heard by themselves once training is over
        if self.members and task.plain is not task and task.fits_after_training:
            raise ConfigError(
                "a late fusion over groups learns nothing after training: no stacking, no support vector machine",
                fix="decide: mean, vote or learned",
            )
        return task

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``share`` of each stream of ``parts``: its share of its group times the group's, where every inner fusion
        reports shares."""
        units = self._units(parts)
        outer = self.outer.weights(units).get("share")
        if outer is None:
            return {}
        shares: dict[str, Tensor] = {}
        for i, unit in enumerate(self.units):
            if unit not in self.members:
                shares[unit] = outer[:, i]
                continue
            members = self.members[unit]
            inner = self.inner[unit].weights(parts).get("share")
            if inner is None and len(members) > 1:
                return {}
            share = vectors(parts, members)[1].to(outer) if inner is None else inner
            shares |= {stream: outer[:, i] * share[:, j] for j, stream in enumerate(members)}
        return {"share": torch.stack([shares[s] for s in self.streams], dim=1)}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        fused: Encoded = self.outer(self._units(parts))
        return fused


def _completed(spec: Mapping[str, Any], layouts: Mapping[str, Layout]) -> dict[str, Any]:
    kind, options = registry.split(spec)
    completed: dict[str, Any] = registry.find("fusions", kind).completed(options, layouts)
    return {"kind": kind, **completed}


def _resolved(spec: Any, where: str) -> dict[str, Any]:
    if not isinstance(spec, (str, Mapping)):
        raise ConfigError(
            f"fusions/compose: {where}: {spec!r} is not a fusion", fix="a name, or {kind: name, option: value}"
        )
    try:
        return registry.resolve("fusions", spec)
    except ConfigError as error:
        raise ConfigError(f"fusions/compose: {where}: {error.problem}", fix=error.fix) from None
