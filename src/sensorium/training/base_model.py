"""Starting from a trained model: its encoders, what was learnt of their columns, and parts of its tasks, in a new run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import nn

from sensorium.artifact import Artifact
from sensorium.core import registry
from sensorium.core.borrowed_weights import parted
from sensorium.core.errors import ConfigError, listed, nearest
from sensorium.core.goal import task_spec
from sensorium.core.recipe import Init, Recipe, Spec
from sensorium.core.schema import INPUTS, Column, Schema
from sensorium.data.tables.table import Table
from sensorium.model import Model

SLOW = 0.1
"""Share of the learning rate of encoders that learn slowly."""
OUTSIDE = ("checkpoint", "vectors", "load")
"""Options that name where weights once came from: those of the base take their place."""
FREE = frozenset({"augment", "drop"})
"""Options of a column that only training reads, and which may differ from the base's."""


_loaded: ContextVar[dict[tuple[str, Path | None], Artifact] | None] = ContextVar("loaded_bases", default=None)


@contextmanager
def bases_loaded_once() -> Iterator[None]:
    """Keep the bases that are read within this context, so that a run reads and verifies each only once."""
    if _loaded.get() is not None:  # a run within a run: the outer one keeps them
        yield
        return
    token = _loaded.set({})
    try:
        yield
    finally:
        _loaded.reset(token)


@dataclass(frozen=True)
class Base:
    """A trained model that a run starts from.

    Args:
        init: The section ``init`` of the recipe.
        artifact: The model, its low-rank updates merged.
        digest: SHA-256 of its columns and weights, as it was saved.
    """

    init: Init
    artifact: Artifact
    digest: str

    @classmethod
    def of(cls, plan: Recipe) -> Self | None:
        """Load the model that ``plan`` starts from, every byte verified; None if it starts from none.

        Raises:
            ArtifactError: The folder holds no intact model.
            ConfigError: It holds another model than the one the recipe names.
        """
        if plan.init is None:
            return None
        artifact = _load_artifact(plan.init.base, _lent(plan))
        digest = artifact.digest
        if plan.init.digest is not None and plan.init.digest != digest:
            raise ConfigError(
                "is another model than the one that the recipe starts from: the digests differ",
                file=plan.init.base,
                fix="give the folder of that model, or leave out init.digest",
            )
        if not artifact.model.network:
            raise ConfigError(
                "has no encoders to start from: experts alone answer", file=plan.init.base, fix="another --init"
            )
        updated = any(registry.split(spec)[0] == "lora" for spec in artifact.recipe.model.surgery)
        return cls(plan.init, artifact.merged() if updated else artifact, digest)  # merging copies all weights

    @property
    def schema(self) -> Schema:
        """The base's columns."""
        return self.artifact.schema

    # ── columns ────────────────────────────────────────────────────────────────────────────────────────────────────

    def with_columns(self, plan: Recipe, table: Table, targets: Collection[str], roles: Mapping[str, str]) -> Recipe:
        """Return ``plan`` with the columns of ``table`` that start from the base declared as in the base.

        What the user says of a column takes precedence; ``targets`` and columns with ``roles`` are left alone.
        """
        taken = {*targets, *roles, *(name for spec in _tasks(plan) for name in spec)}
        columns: dict[str, Spec] = dict(plan.columns)
        for own, of in self._named_pairs().items():
            for name, column in self._columns(own, of).items():
                declared = columns.get(name, {})
                options: dict[str, Any] = {"kind": declared} if isinstance(declared, str) else dict(declared)
                if name in taken or options.get("role", "input") not in INPUTS or not table.has(column.of or name):
                    continue
                if "kind" in options and options["kind"] != column.spec["kind"]:
                    raise ConfigError(
                        f"is read as {options['kind']}, and the base reads stream {of!r} as {column.spec['kind']}",
                        column=name,
                        fix="read it alike, or start other streams from the base: --map OWN=BASE",
                    )
                known = {key: value for key, value in column.spec.items() if key not in FREE}
                if self.init.how == "frozen" and "augment" in column.spec:
                    known["augment"] = "none"  # a frozen encoder runs once a row
                columns[name] = {**known, **({"of": column.of} if column.of else {}), **options}
        return plan.model_copy(update={"columns": columns})

    def carry(self, schema: Schema) -> set[str]:
        """Copy the learnt state of the base to the columns of ``schema`` that start from it; return their names."""
        carried = set()
        for own, of in self.pairs(schema).items():
            for column, theirs in zip(schema.streams[own], self.schema.streams[of], strict=True):
                column.reader.state = deepcopy(theirs.reader.state)
                carried.add(column.name)
        return carried

    def _columns(self, own: str, of: str) -> dict[str, Column]:
        """The base's columns of its stream ``of``, by their names in the new stream ``own``."""
        columns = self.schema.streams.get(of, [])
        if len(columns) == 1 and columns[0].reader.stream is None:
            return {own: columns[0]}
        return {column.name: column for column in columns}

    # ── streams ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _named_pairs(self) -> dict[str, str]:
        """Return the stream of the base by stream of the run: as the user pairs them, or all under their own names."""
        streams = list(self.schema.streams)
        for of in self.init.streams.values():
            if of not in streams:
                raise ConfigError(
                    f"the base has no stream named {of!r}{nearest(of, streams)}",
                    file=self.init.base,
                    fix=f"its streams: {listed(streams)}",
                )
        return dict(self.init.streams) or {stream: stream for stream in streams}

    def pairs(self, schema: Schema) -> dict[str, str]:
        """Return, by stream of ``schema``, the base's stream that it starts from.

        Raises:
            ConfigError: Named streams do not exist, none is common, or a stream has other columns than in the base.
        """
        pairs = self._named_pairs()
        for own in self.init.streams:
            if own not in schema.streams:
                raise ConfigError(f"--map: no stream named {own!r}{nearest(own, list(schema.streams))}")
        pairs = {own: of for own, of in pairs.items() if own in schema.streams}
        if not pairs:
            raise ConfigError(
                f"no stream has the name of one of the base: the table has {listed(list(schema.streams))}, "
                f"the base {listed(list(self.schema.streams))}",
                file=self.init.base,
                fix="pair them: --map OWN=BASE",
            )
        for own, of in pairs.items():
            self._check_alike(own, schema.streams[own], of)
        return pairs

    def _check_alike(self, own: str, columns: list[Column], of: str) -> None:
        """Refuse a stream whose columns are not those of the base, in kind, number and options."""
        theirs = self.schema.streams[of]
        single = len(theirs) == 1 and theirs[0].reader.stream is None
        if not single and [c.name for c in columns] != [c.name for c in theirs]:
            more = [c.name for c in columns if c.name not in {t.name for t in theirs}]
            fewer = [t.name for t in theirs if t.name not in {c.name for c in columns}]
            what = f"; only in the table: {listed(more)}" if more else ""
            what += f"; only in the base: {listed(fewer)}" if fewer else ""
            raise ConfigError(
                f"stream {own!r} has other columns than the base's stream {of!r}{what or ', or in another order'}",
                file=self.init.base,
                fix="leave columns out: --ignore NAME; or start other streams from the base: --map OWN=BASE",
            )
        for column, other in zip(columns, theirs, strict=single):
            mine, its = ({k: v for k, v in c.spec.items() if k not in FREE} for c in (column, other))
            if mine != its:
                key = next(key for key in {**its, **mine} if mine.get(key) != its.get(key))
                raise ConfigError(
                    f"{key} is {mine.get(key)!r}, and the base was trained with {its.get(key)!r}",
                    column=column.name,
                    fix="leave the option out, or start other streams from the base: --map OWN=BASE",
                )

    # ── model ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def with_model(self, plan: Recipe, schema: Schema) -> Recipe:
        """Return ``plan`` with the base's encoders, adapters and width for the streams of ``schema`` that start from it,
        and with their learning rates or frozen, as ``init.how`` says; tasks with the options of what they take over.

        Raises:
            ConfigError: The recipe asks for another encoder, adapter or width, or a task for other shapes.
        """
        pairs, model, theirs = self.pairs(schema), plan.model, self.artifact.recipe.model
        if model.dim is not None and model.dim != theirs.dim:
            raise ConfigError(
                f"model.dim is {model.dim}, and the base's streams meet at a width of {theirs.dim}",
                file=self.init.base,
                fix=f"leave out model.dim, or model.dim={theirs.dim}",
            )
        parts: dict[str, dict[str, Spec]] = {"encoders": dict(model.encoders), "adapters": dict(model.adapters)}
        for own, of in pairs.items():
            for family, specs in parts.items():
                kept = _kept(getattr(theirs, family)[of])
                if own in specs:
                    _check_same(family, own, specs[own], kept, self.init.base)
                specs[own] = kept
        rates, surgery = dict(plan.training.lr_scale), list(model.surgery)
        for own, of in pairs.items():
            before = self.artifact.recipe.training.lr_scale.get(of)
            if self.init.how == "slow":
                rates.setdefault(own, SLOW * (before or 1.0))
            elif before is not None and self.init.how == "full":
                rates.setdefault(own, before)
        if self.init.how == "frozen" and not any(registry.split(spec)[0] == "freeze" for spec in surgery):
            surgery.append({"kind": "freeze", "streams": list(pairs)})
        size = theirs.size if model.size == "auto" else model.size
        update = {**parts, "tasks": self._continued(plan, schema)[0], "dim": theirs.dim, "size": size, "surgery": surgery}
        return plan.model_copy(
            update={
                "model": model.model_copy(update=update),
                "training": plan.training.model_copy(update={"lr_scale": rates}),
                "init": self.init.model_copy(update={"streams": pairs, "digest": self.digest}),
            }
        )

    def _tasks_alike(self, plan: Recipe) -> dict[str, str]:
        """Return, by task of ``plan``, the base's task of the same kind: that of the same name, or the only one."""
        theirs = {name: registry.split(spec)[0] for name, spec in self.artifact.recipe.model.tasks.items()}
        pairs = {}
        for name, spec in plan.model.tasks.items():
            alike = [other for other, kind in theirs.items() if kind == registry.split(spec)[0]]
            if name in alike or len(alike) == 1:
                pairs[name] = name if name in alike else alike[0]
        return pairs

    def _continued(self, plan: Recipe, schema: Schema) -> tuple[dict[str, Spec], dict[str, list[str]]]:
        """Return the tasks of ``plan`` with the options that follow from what they take over, and notes on it by task."""
        pairs, tasks, notes = self.pairs(schema), dict(plan.model.tasks), {}
        for name, of in self._tasks_alike(plan).items():
            kind, options = registry.split(tasks[name])
            before = registry.split(self.artifact.recipe.model.tasks[of])[1]
            try:
                options, notes[name] = registry.find("tasks", kind).continued(options, before, list(schema.streams), pairs)
            except ConfigError as error:
                raise ConfigError(f"task {name!r}: {error.problem}", file=self.init.base, fix=error.fix) from None
            tasks[name] = {"kind": kind, **options}
        return tasks, notes

    def notes(self, plan: Recipe, schema: Schema) -> list[str]:
        """Return notes on what the streams of ``schema`` and the tasks of ``plan`` take over, or that they start afresh."""
        by_task = self._continued(plan, schema)[1]
        lines = [f"{name}: {line}" for name in plan.model.tasks for line in by_task.get(name) or ["starts afresh"]]
        return [self.note(self.pairs(schema)), *lines]

    def note(self, pairs: Mapping[str, str]) -> str:
        """Return a note on what is taken over, for the ``pairs`` of own streams and those of the base."""
        how = {"full": "", "slow": f", learning at {SLOW} of the rate", "frozen": ", frozen"}[self.init.how]
        named = listed([own if own == of else f"{own} (from {of})" for own, of in pairs.items()])
        rows = self.artifact.report.get("rows", 0)
        return f"{named}: encoders of {Path(self.init.base).name}, trained on {rows:,} rows{how}"

    def adopt_into(self, model: Model, plan: Recipe) -> None:
        """Load the weights of the base into the parts of ``model`` that start from it.

        These are the encoders and adapters that ``plan`` names, parts of tasks that a task of the same kind shares, and
        the fusion if it is the same fusion of the same streams."""
        source, theirs = self.artifact.model, self.artifact.recipe.model
        for own, of in self.init.streams.items():
            _load(model.encoders[own], source.encoders[of], f"the encoder of {own!r}", self.init.base)
            _load(model.adapters[own], source.adapters[of], f"the adapter of {own!r}", self.init.base)
        for name, of in self._tasks_alike(plan).items():
            base_parts = source.tasks[of].plain.heritable
            for part, module in model.tasks[name].plain.heritable.items():
                base_part = self.init.streams.get(part, "" if part in model.streams else part)
                if base_part in base_parts:
                    _load(module, base_parts[base_part], f"task {name!r}: its part {part!r}", self.init.base)
        same_streams = {own: own for own in source.streams} == self.init.streams and model.streams == source.streams
        if same_streams and plan.model.fusion == theirs.fusion:
            _load(model.fusion, source.fusion, "the fusion", self.init.base)


def adopt_base(model: Model, plan: Recipe) -> None:
    """Load into ``model`` the weights that the resolved ``plan`` starts from, if any."""
    base = Base.of(plan)
    if base is not None:
        base.adopt_into(model, plan)


def _load_artifact(folder: str, lm: Path | None) -> Artifact:
    """Read the model in ``folder``, whose language model is ``lm`` if it borrows one; or return what the run has read."""
    loaded = _loaded.get()
    if loaded is None:
        return Artifact.load(Path(folder), lm=lm)
    if (folder, lm) not in loaded:
        loaded[folder, lm] = Artifact.load(Path(folder), lm=lm)
    return loaded[folder, lm]


def _lent(plan: Recipe) -> Path | None:
    """Return the folder of weights that a task of ``plan`` borrows, with which a base that borrows the same is read."""
    for kind, options in map(registry.split, plan.model.tasks.values()):
        option = registry.find("tasks", kind).named_by
        if option is not None and options.get(option):
            return Path(parted(options[option])[0]).expanduser()
    return None


def _tasks(plan: Recipe) -> list[tuple[str, ...]]:
    specs = [task_spec(name, spec) for name, spec in plan.model.tasks.items()]
    return [(*spec.targets, *spec.prompts) for spec in specs]


def _kept(spec: Spec) -> dict[str, Any]:
    """Return a saved spec without the options that name the original source of its weights."""
    kind, options = registry.split(spec)
    return {"kind": kind, **{key: None if key in OUTSIDE else value for key, value in options.items()}}


def _check_same(family: str, stream: str, requested: Spec, kept: Mapping[str, Any], base: str) -> None:
    kind, options = registry.split(requested)
    different = {"kind": kind} if kind != kept["kind"] else {k: v for k, v in options.items() if kept.get(k) != v}
    if different:
        key, value = next(iter(different.items()))
        raise ConfigError(
            f"model.{family}.{stream}: {key} is {value!r}, and the base has {kept.get(key)!r}",
            file=base,
            fix=f"leave out model.{family}.{stream}, or start other streams from the base: --map OWN=BASE",
        )


def _load(part: nn.Module, source: nn.Module, what: str, base: str) -> None:
    try:
        part.load_state_dict(source.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{what} has another shape than the base's: {reason}", file=base) from None
