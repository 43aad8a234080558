"""The typed columns of a table: declared, fitted on training rows, then used to turn cells into tensors and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from sensorium.core import registry
from sensorium.core.cell_content import Opener, content, named_file
from sensorium.core.errors import CellError, ConfigError, nearest
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Modality
from sensorium.core.problem import Problem as Problem
from sensorium.core.problem import add_problem

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Batch, Field

Record = Mapping[str, Any]
Role = Literal["input", "target", "both", "prompt", "weight", "group", "ignore"]
ROLES: tuple[str, ...] = get_args(Role)
CODED: tuple[str, ...] = ("input", "target", "both", "prompt")
"""Roles whose cells become arrays. ``both``: an input that is also a target (to be reconstructed or continued)."""
INPUTS, TARGETS = ("input", "both"), ("target", "both")


PLACING = frozenset({"role", "of", "on", "stream"})
"""Keys of a declared column that are not options of its kind."""


@dataclass(frozen=True)
class Column:
    """One column: its role, and for inputs and targets how its cells become arrays.

    A *derived* column has no cells of its own: it reads those of the column ``of`` in another way (the sound of a video).
    A target may *lie on* an input (``on``): boxes on a picture, labels along a sound. It is then resized and augmented
    together with the input. Inputs that are table cells may form a *group* (``stream``), which is a stream of its own
    instead of a part of ``table``.
    """

    name: str
    role: Role
    spec: dict[str, Any]
    modality: Modality | None = None
    of: str | None = None
    on: str | None = None
    stream: str | None = None

    @property
    def source(self) -> str:
        """The table column whose cells it reads."""
        return self.name if self.of is None else self.of

    @property
    def placing(self) -> dict[str, str]:
        """The declared ``of``, ``on`` and ``stream``."""
        return {key: value for key in ("of", "on", "stream") if (value := getattr(self, key)) is not None}

    @property
    def reader(self) -> Modality:
        """The modality of an input or a target."""
        if self.modality is None:
            raise ConfigError(f"column {self.name!r} is {self.role}: it is not read", column=self.name)
        return self.modality


Key = str | tuple[Literal["target", "extent"], str]
"""The name of an input or prompt; ``("target", name)``; ``("extent", name)``: the size of an input with targets on it."""
Sample = dict[Key, Array | None]


class Schema:
    """The columns of a table, in order. Inputs whose modalities share a stream ("table") are encoded side by side."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self.columns = {column.name: column for column in columns}
        self.inputs = [c for c in self.columns.values() if c.role in INPUTS]
        self.targets = [c for c in self.columns.values() if c.role in TARGETS]
        self.prompts = [c for c in self.columns.values() if c.role == "prompt"]
        self.read = self.inputs + self.prompts
        """The columns that a prediction reads."""
        self.coded = [c for c in self.columns.values() if c.role in CODED]
        """Columns whose cells become arrays."""
        self.bearing = tuple(dict.fromkeys(name for c in self.targets for name in self._under(c)))
        """The inputs on which targets lie."""
        self.lying = tuple(c.name for c in self.targets if c.on is not None and _measures(c.reader))
        """Targets that lie on an input and have an extent of their own: masks, but not lists of boxes."""
        own = {c.name for c in self.inputs if c.reader.stream is None}
        self.streams: dict[str, list[Column]] = {}
        for column in self.inputs:
            shared = column.reader.stream
            # A column may have the name of the shared stream, which is then renamed.
            name = column.name if shared is None else column.stream or (f"{shared}_" if shared in own else shared)
            self.streams.setdefault(name, []).append(column)

    def _under(self, target: Column) -> list[str]:
        """The inputs on which a target lies."""
        if target.on is not None:
            return [target.on]
        if not target.reader.lies_along:
            return []
        return [c.name for c in self.inputs if c.spec.get("kind") in target.reader.lies_on]

    @classmethod
    def declare(cls, columns: Mapping[str, str | Mapping[str, Any]]) -> Schema:
        """A schema from ``columns`` such as ``{"photo": "image", "price": {"kind": "number", "role": "target"}}``; role
        is input by default.

        ``{"clip": "video", "sound": {"kind": "audio", "of": "clip"}}``: a derived column, read from the cells of another.
        ``{"mask": {"kind": "mask", "role": "target", "on": "photo"}}``: a target that lies on an input.
        ``{"pitch": {"kind": "number", "stream": "voice"}}``: a table cell in a group of its own.
        """
        built = []
        for name, declared in columns.items():
            options: dict[str, Any] = {"kind": declared} if isinstance(declared, str) else dict(declared)
            role, stream = options.pop("role", "input"), options.pop("stream", None)
            if role not in ROLES:
                raise ConfigError(f"no role named {role!r}{nearest(str(role), ROLES)}", column=name)
            if role not in CODED:
                spec = {k: v for k, v in options.items() if k == "kind"}
                built.append(Column(name, cast(Role, role), spec, of=options.get("of")))
                continue
            of = _derived(name, options.pop("of", None), columns, role)
            on = _lying(name, options.pop("on", None), columns, role)
            try:
                full = registry.resolve("modalities", options)
                modality: Modality = registry.build("modalities", options)
            except ConfigError as error:
                raise ConfigError(error.problem, column=name, fix=error.fix) from None
            if stream is not None:
                _grouped(name, stream, modality, role)
            built.append(Column(name, cast(Role, role), full, modality, of, on, stream))
        _apart(built)
        return cls(built)

    # ── from cells to tensors ──────────────────────────────────────────────────────────────────────────────────────

    def encode_cell(
        self,
        column: Column,
        cell: Any,
        *,
        media: Opener,
        row: int | None = None,
        problems: list[Problem] | None = None,
        target: bool = False,
    ) -> Array | None:
        """``cell`` of ``column`` and ``row`` as an array, opened by ``media``; None if missing or unusable (then in
        ``problems``).

        ``target``: read it as a target.
        """
        modality = column.reader
        if modality.missing(cell):
            return None
        try:
            loaded = content(modality, cell, media, row, column.name)
            return modality.encode_target(loaded) if target else modality.encode(loaded)
        except CellError as error:
            file = error.file or named_file(modality, cell)
            add_problem(problems, row, column.name, file, error.problem, fix=error.fix)
            return None

    def encode(
        self,
        record: Record,
        *,
        media: Opener,
        row: int | None = None,
        problems: list[Problem] | None = None,
        targets: bool = False,
        strange: bool = False,
    ) -> Sample:
        """The ``record`` of ``row`` as arrays by column, media opened by ``media``; ``targets``: include target columns.
        Columns that the record lacks are missing; unknown columns are ignored.

        ``strange``: values that training did not have are added to ``problems`` too; they are read as unknown.
        """
        sample: Sample = {}
        for column in self.read:
            cell = record.get(column.source)
            sample[column.name] = self.encode_cell(column, cell, media=media, row=row, problems=problems)
            if strange and problems is not None and sample[column.name] is not None and not column.reader.media:
                new = column.reader.unfamiliar(cell)
                if new:
                    problems.append(Problem(row, column.name, None, new, missing=False))
            if column.name in self.bearing:
                sample["extent", column.name] = self._extent(column, cell, sample[column.name], media, row)
        for column in self.targets if targets else ():
            cell = record.get(column.source)
            read = self.encode_cell(column, cell, media=media, row=row, problems=problems, target=True)
            sample["target", column.name] = read
            if column.name in self.lying:
                own = sample["extent", column.name] = self._extent(column, cell, read, media, row)
                base = sample.get(("extent", str(column.on)))
                if own is not None and base is not None and (why := column.reader.misfit(own, base)):
                    sample["target", column.name] = None
                    add_problem(problems, row, column.name, cell, why)
                elif own is not None and base is not None and (how := column.reader.adjusted(own, base)):
                    add_problem(problems, row, column.name, None, how, missing=False)
        return sample

    def _extent(self, column: Column, cell: Any, read: Array | None, media: Opener, row: int | None) -> Array | None:
        """The extent of a usable cell."""
        return None if read is None else column.reader.extent(content(column.reader, cell, media, row, column.name))

    def collate(self, samples: Sequence[Sample], *, whole: bool = False) -> Batch:
        """``samples`` as one stored batch; call ``prepare`` before a model sees it. ``whole``: see ``Modality.collate``."""
        import torch

        from sensorium.core.batch import Batch
        from sensorium.core.collation import side_by_side, with_frames

        def field(column: Column, key: Key | None = None, *, whole: bool = False) -> Field:
            at: Key = column.name if key is None else key
            stored = column.reader.collate([sample.get(at) for sample in samples], whole=whole)
            if column.name not in (self.bearing if key is None else self.lying):
                return stored
            return with_frames(stored, column.reader, [sample.get(("extent", column.name)) for sample in samples])

        inputs = {
            stream: field(columns[0], whole=whole)
            if columns[0].reader.stream is None
            else side_by_side({c.name: c.reader for c in columns}, samples)
            for stream, columns in self.streams.items()
        }
        with_cells = [c for c in self.targets if any(("target", c.name) in sample for sample in samples)]
        targets = {c.name: field(c, ("target", c.name)) for c in with_cells}
        return Batch(inputs, targets, torch.ones(len(samples)), {c.name: field(c, whole=whole) for c in self.prompts})

    def prepare(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """``batch`` as encoders and tasks read it, on its device; with ``generator`` inputs are augmented.

        Targets and prompts are not augmented by themselves; targets follow the input they lie on.
        """
        from sensorium.core.batch import Ready

        inputs = dict(batch.inputs)
        for stream, columns in self.streams.items():
            if columns[0].reader.stream is None and not isinstance(inputs[stream], Ready):
                stored = inputs[stream]
                inputs[stream] = replace(columns[0].reader.prepare(stored, generator), where=stored.where)
        targets = {
            name: self.columns[name].reader.prepare_target(
                field, None if (on := self.columns[name].on) is None else inputs[on]
            )
            for name, field in batch.targets.items()
        }
        prompts = {name: self.columns[name].reader.prepare(field) for name, field in batch.prompts.items()}
        return replace(batch, inputs=inputs, targets=targets, prompts=prompts)

    def layout(self, stream: str) -> Layout:
        """The layout in which ``stream`` reaches its encoder."""
        columns = self.streams[stream]
        if len(columns) == 1:
            return columns[0].reader.layout
        cells: list[int] = []
        for column in columns:
            layout = column.reader.layout
            if not isinstance(layout, Row):
                raise ConfigError(f"columns of stream {stream!r} must be table cells", column=column.name)
            cells += layout.cardinalities
        return Row(tuple(cells))

    # ── to disk and back ───────────────────────────────────────────────────────────────────────────────────────────

    def to_json(self) -> dict[str, Any]:
        """Columns, options and fitted state as JSON."""
        return {
            "columns": [
                {
                    "name": c.name,
                    "role": c.role,
                    "spec": c.spec,
                    **c.placing,
                    **({"state": c.modality.state} if c.modality is not None else {}),
                }
                for c in self.columns.values()
            ]
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """The schema that ``to_json`` described as ``data``. Builds built-in or installed kinds only."""
        listed = data.get("columns")
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise ConfigError("the schema is inconsistent: it has no list of columns")
        columns: dict[str, Column] = {}
        for item in listed:
            name, role, spec = item.get("name"), item.get("role"), item.get("spec")
            more = [item.get(key) for key in ("of", "on", "stream")]
            if not isinstance(name, str) or name in columns:
                raise ConfigError(f"the schema is inconsistent: {str(name)[:100]!r} is not a unique name of a column")
            if role not in ROLES or not isinstance(spec, dict):
                raise ConfigError("the schema is inconsistent: it has no role, or no kind", column=name)
            if not all(part is None or isinstance(part, str) for part in more):
                raise ConfigError("the schema is inconsistent: of, on and stream must be names", column=name)
            modality: Modality | None = None
            if role in CODED:
                if not isinstance(item.get("state"), dict):
                    raise ConfigError("the schema is inconsistent: it has no fitted state", column=name)
                modality = registry.build("modalities", spec)
                modality.state = item["state"]
            columns[name] = Column(name, role, spec, modality, *more)
        for column in columns.values():
            if column.on is not None and column.on not in columns:
                raise ConfigError(f"the schema has no column {column.on[:100]!r}, on which it lies", column=column.name)
        return cls(columns.values())

    def specs(self) -> dict[str, dict[str, Any]]:
        """The columns as a recipe declares them, every option written out."""
        return {
            c.name: {
                **c.spec,
                **c.placing,
                "role": c.role,
            }
            for c in self.columns.values()
        }


def _derived(name: str, of: Any, columns: Mapping[str, str | Mapping[str, Any]], role: str) -> str | None:
    """The column that a derived one reads; refused if that is derived too, or an input would show a target."""
    if of is None:
        return None
    if not isinstance(of, str) or of == name:
        raise ConfigError("of names another column, whose cells this one reads", column=name)
    other = columns.get(of, {})
    source = {} if isinstance(other, str) else other
    if source.get("of") is not None:
        raise ConfigError(f"{of!r} is itself derived", column=name, fix=f"write of: {source['of']}")
    if role == "both" or (role in INPUTS and source.get("role") == "target"):
        raise ConfigError("a derived column must be an input, and not be derived from a target or prompt", column=name)
    return of


def _measures(modality: Modality) -> bool:
    return type(modality).extent is not Modality.extent


def _lying(name: str, on: Any, columns: Mapping[str, str | Mapping[str, Any]], role: str) -> str | None:
    """The input on which a target lies."""
    if on is None:
        return None
    other = columns.get(on) if isinstance(on, str) else None
    known = {} if other is None or isinstance(other, str) else other
    if role not in TARGETS or other is None or known.get("role", "input") not in INPUTS:
        raise ConfigError(f"on must name an input that a target can lie on, which {on!r} is not", column=name)
    return str(on)


def _grouped(name: str, stream: Any, modality: Modality, role: str) -> None:
    """Refuse columns that cannot be in a group."""
    if not isinstance(stream, str) or not stream:
        raise ConfigError(f"stream is {stream!r}: it names the group that the column belongs to", column=name)
    if modality.stream is None:
        kind = registry.kind_of(modality)
        raise ConfigError(
            f"cannot be in the stream {stream!r}: a column of kind {kind} is a separate stream",
            column=name,
            fix="group numbers, categories, dates and tags only",
        )
    if role not in INPUTS:
        raise ConfigError(
            f"cannot be in the stream {stream!r}: its role is {role}, and streams consist of inputs", column=name
        )
    if stream == modality.stream:
        raise ConfigError(
            f"stream {stream!r} is reserved for the columns without a group",
            column=name,
            fix="another name, or leave it out",
        )


def _apart(columns: Iterable[Column]) -> None:
    """Refuse a group with the name of a column that is a stream of its own."""
    every = list(columns)
    groups = {c.stream: c.name for c in every if c.stream is not None}
    for column in every if groups else ():
        if column.role in INPUTS and column.reader.stream is None and column.name in groups:
            raise ConfigError(
                f"stream {column.name!r} is a group of columns, and column {column.name!r} is a stream of its own",
                column=groups[column.name],
                fix="another name for the group",
            )
