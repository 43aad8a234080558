"""The data that flows through a model: ``Field`` into it, ``Encoded`` between its components, each with ``present``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Tensors:
    """Base of the structs below: tensors that are moved and mapped together, registered as a pytree.

    A field with ``metadata={"fixed": True}`` holds no tensors: it belongs to the structure and is equal for all rows.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

        # Evaluated lazily: the dataclass fields are not defined yet when the subclass is created.
        def names(fixed: bool) -> list[str]:
            return [f.name for f in fields(cls) if f.metadata.get("fixed", False) == fixed]

        def flatten(value: Any) -> tuple[list[Any], Any]:
            return [getattr(value, name) for name in names(False)], tuple(getattr(value, name) for name in names(True))

        def flatten_with_keys(value: Any) -> tuple[list[tuple[pytree.KeyEntry, Any]], Any]:
            values, context = flatten(value)
            return [(pytree.GetAttrKey(n), v) for n, v in zip(names(False), values, strict=True)], context

        def unflatten(values: Any, context: Any) -> Any:
            return cls(**dict(zip(names(False), values, strict=True)), **dict(zip(names(True), context, strict=True)))

        pytree.register_pytree_node(
            cls,
            flatten,
            unflatten,
            serialized_type_name=f"sensorium.{cls.__name__}",
            flatten_with_keys_fn=flatten_with_keys,
            to_dumpable_context=list,
            from_dumpable_context=lambda context: tuple(tuple(value) for value in context),  # JSON has lists only
        )

    def map(self, f: Callable[[Tensor], Tensor]) -> Self:
        """The same struct with ``f`` applied to every tensor in it."""

        def walk(value: Any) -> Any:
            if isinstance(value, Tensor):
                return f(value)
            if isinstance(value, Tensors):
                return value.map(f)
            if isinstance(value, dict):
                return {key: walk(item) for key, item in value.items()}
            if isinstance(value, tuple):
                return tuple(walk(item) for item in value)
            return value

        return type(self)(*(walk(getattr(self, f.name)) for f in fields(self)))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The structure on ``device``; ``non_blocking`` as in ``torch.Tensor.to``."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class Field(Tensors):
    """One stream of a batch, before encoding.

    Args:
        data: ``[B, ...]`` in the shape of the layout (before ``prepare``: as the modality stores it).
        present: ``[B]`` bool: rows that have the stream.
        mask: ``[B, N]`` bool: steps, points or cells that are real; None without padding.
        where: ``[b]``: indices of the present rows, if computed before the transfer to a device (``Batch.counted``).
        frame: ``[B, A, A + 1]``: affine maps from coordinates in the original (pixels of the upright picture, seconds of a
            recording, steps of a series) to coordinates in ``data``; None if not needed. See ``signal/geometry.py``.
        extent: ``[B, n]``: the extent of each original in those units (a picture: width, height); None if not needed.
    """

    data: Tensor
    present: Tensor
    mask: Tensor | None = None
    where: Tensor | None = None
    frame: Tensor | None = None
    extent: Tensor | None = None

    @property
    def rows(self) -> Tensor:
        """Indices ``[b]`` of the present rows. Without ``where`` this synchronises with the device."""
        return self.present.nonzero().squeeze(1) if self.where is None else self.where

    def hide(self, keep: Tensor) -> Field:
        """The same field with the rows where ``keep`` ``[B]`` is False made missing."""
        return replace(self, present=self.present & keep, where=None)

    @staticmethod
    def join(parts: list[Field]) -> Field:
        """The fields ``parts`` of table columns side by side, as one table stream. Present where any cell is."""
        mask = [p.present[:, None].expand(p.data.shape) if p.mask is None else p.mask for p in parts]
        return Field(
            data=torch.cat([p.data for p in parts], dim=1),
            present=torch.stack([p.present for p in parts]).any(dim=0),
            mask=torch.cat(mask, dim=1),
        )


@dataclass(frozen=True)
class Ready(Field):
    """A stream read from disk already encoded: ``data`` are its tokens, ``mask`` the real ones, ``pooled`` its vector.

    Only tokens up to the last real one are kept, and no pyramid.

    Args:
        grid: The shape of the token grid of some row, empty without one; rows differ in the first axis alone.
    """

    pooled: Tensor | None = None
    grid: tuple[int, ...] = field(default=(), metadata={"fixed": True})

    @property
    def encoded(self) -> Encoded:
        """The encoding as its encoder returned it."""
        assert self.mask is not None
        assert self.pooled is not None
        inner, count = math.prod(self.grid[1:]), self.data.shape[1]
        grid = (count // inner, *self.grid[1:]) if self.grid and count % inner == 0 else ()
        return Encoded(self.data, self.mask, self.pooled, self.present, grid).hide(self.present)


@dataclass(frozen=True)
class Batch(Tensors):
    """Rows as a model reads them.

    Args:
        inputs: A field for each stream.
        targets: A field for each target column.
        weight: ``[B]``: the weight of each row.
        prompts: A field for each prompt column; tasks read it, encoders do not.
    """

    inputs: dict[str, Field]
    targets: dict[str, Field]
    weight: Tensor
    prompts: dict[str, Field] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.weight.shape[0]

    def counted(self) -> Batch:
        """The same rows with ``where`` computed for each stream, to be called before the transfer to a device."""
        return replace(self, inputs={s: replace(f, where=f.rows) for s, f in self.inputs.items()})

    def counting(self) -> Batch:
        """The same rows without the targets of rows of weight 0."""
        keep = self.weight > 0
        return replace(self, targets={name: part.hide(keep) for name, part in self.targets.items()})

    def shuffled(self) -> Batch:
        """The batch with the inputs of each row replaced by those of another row, deterministically. Targets, weights and
        prompts are unchanged."""
        cycle = torch.randperm(self.rows, generator=torch.Generator().manual_seed(self.rows))
        order = torch.empty_like(cycle).index_copy(0, cycle, cycle.roll(1)).to(self.weight.device)
        inputs = {s: replace(f, where=None).map(lambda t: t[order]) for s, f in self.inputs.items()}
        return replace(self, inputs=inputs)

    def without(self, *streams: str) -> Batch:
        """The batch with ``streams`` missing in every row."""
        return self.keep({s: torch.zeros_like(self.inputs[s].present) for s in streams})

    def keep(self, masks: Mapping[str, Tensor]) -> Batch:
        """The batch with each stream missing where its mask ``[B]`` in ``masks`` is False; streams not named are
        unchanged."""
        inputs = {s: f.hide(masks[s]) if s in masks else f for s, f in self.inputs.items()}
        return replace(self, inputs=inputs)


@dataclass(frozen=True)
class Encoded(Tensors):
    """The common result of encoders, adapters and fusions.

    Args:
        tokens: ``[B, N, D]``, zero where masked.
        mask: ``[B, N]`` bool: real tokens; all False in a missing row.
        pooled: ``[B, D]``: one vector for the row, zero if missing.
        present: ``[B]`` bool.
        grid: The shape of the token grid before flattening (row-major, time first if an axis is time); its product is N.
            ``()`` for tokens without a position (a vector, table cells, points, several streams).
        pyramid: Feature maps ``[B, C, *size]`` from fine to coarse, zero where masked or missing; ``()`` unless a task
            requires them (``Encoder.gives_pyramid``).
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    present: Tensor
    grid: tuple[int, ...] = field(default=(), metadata={"fixed": True})
    pyramid: tuple[Tensor, ...] = ()

    def hide(self, keep: Tensor) -> Encoded:
        """The same with rows where ``keep`` ``[B]`` is False made missing (all zero)."""
        return Encoded(
            tokens=self.tokens * keep[:, None, None],
            mask=self.mask & keep[:, None],
            pooled=self.pooled * keep[:, None],
            present=self.present & keep,
            grid=self.grid,
            pyramid=tuple(level * keep.reshape(-1, *[1] * (level.dim() - 1)) for level in self.pyramid),
        )

    def spread(self, index: Tensor, rows: int) -> Encoded:
        """These encodings put at ``index`` ``[b]`` among ``rows`` rows; the other rows are missing (all zero)."""

        def put(part: Tensor) -> Tensor:
            return part.new_zeros((rows, *part.shape[1:])).index_copy(0, index, part)

        return self.map(put)


def zeroed(values: Tensor, real: Tensor) -> Tensor:
    """``values`` ``[..., D]`` with zeros where ``real`` ``[...]`` is False, even in place of NaN."""
    return values.masked_fill(~real.unsqueeze(-1), 0.0)


def padded_size(rows: int, least: int) -> int:
    """The padded size of a batch of ``rows`` rows: the next power of two, at least ``least``. Few sizes keep compiled
    networks from being compiled anew."""
    return max(least, 1 << max(rows - 1, 0).bit_length())


def hide(parts: Mapping[str, Encoded], keep: Mapping[str, Tensor]) -> dict[str, Encoded]:
    """The encoded streams ``parts``, some missing: ``keep[stream]`` is ``[B]`` bool; streams not named are unchanged."""
    return {s: part.hide(keep[s]) if s in keep else part for s, part in parts.items()}


def only(parts: Mapping[str, Encoded], *streams: str) -> dict[str, Encoded]:
    """The encoded streams ``parts`` with all but ``streams`` missing."""
    return hide(parts, {s: torch.zeros_like(part.present) for s, part in parts.items() if s not in streams})


def joined(parts: Sequence[Any]) -> Any:
    """The batches ``parts`` of one structure, concatenated along the rows; shorter rows are padded with zeros."""
    if not parts:
        return {}
    leaves, shape = pytree.tree_flatten(parts[0])
    rest = [pytree.tree_flatten(part)[0] for part in parts[1:]]
    rows = [next(len(leaf) for leaf in part if isinstance(leaf, Tensor)) for part in (leaves, *rest)]
    together = [
        _along_rows(_filled(same, rows)) if any(isinstance(leaf, Tensor) for leaf in same) else same[0]
        for same in zip(leaves, *rest, strict=True)
    ]
    return pytree.tree_unflatten(together, shape)


def _filled(parts: Sequence[Tensor | None], rows: Sequence[int]) -> list[Tensor]:
    """``parts`` with zeros for None, such as the frames of a batch without any present row."""
    like = next(part for part in parts if part is not None)
    return [like.new_zeros(n, *like.shape[1:]) if part is None else part for part, n in zip(parts, rows, strict=True)]


def _along_rows(parts: Sequence[Tensor]) -> Tensor:
    for axis in range(1, parts[0].dim()):
        longest = max(part.shape[axis] for part in parts)
        after = [0, 0] * (parts[0].dim() - 1 - axis)
        parts = [F.pad(p, (*after, 0, longest - p.shape[axis])) if p.shape[axis] < longest else p for p in parts]
    return torch.cat(list(parts))


def repeated(output: Any, rows: int) -> Any:
    """The structure ``output`` of one row, repeated for ``rows`` rows."""
    return pytree.tree_map(lambda t: t.expand(rows, *t.shape[1:]) if isinstance(t, Tensor) else t, output)


def moved(output: Any, device: torch.device) -> Any:
    """The structure ``output`` with every tensor on ``device``."""
    return pytree.tree_map(lambda t: t.to(device) if isinstance(t, Tensor) else t, output)


def merged(outputs: Sequence[Any], share: Tensor) -> Any:
    """One structure from several of the same shape (``outputs``): the mean of every floating-point tensor ``[B, ...]``,
    weighted by ``share`` ``[B, S]``; anything else is taken from the first."""
    leaves = [pytree.tree_flatten(output) for output in outputs]

    def mean(*same: Any) -> Any:
        if not (isinstance(same[0], Tensor) and same[0].is_floating_point()):
            return same[0]
        stack = torch.stack(same, dim=1)  # [B, S, ...]
        return (stack * share.to(stack).reshape(*share.shape, *[1] * (stack.dim() - 2))).sum(dim=1)

    together = [mean(*same) for same in zip(*(flat for flat, _ in leaves), strict=True)]
    return pytree.tree_unflatten(together, leaves[0][1])
