"""The whole declared run, one document. YAML in and out is the identity on a resolved recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sensorium.core import quoting
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.safe_files import read_regular
from sensorium.core.safe_json import DEEPEST, check_plain
from sensorium.core.upgrade import VERSION, upgrade
from sensorium.core.value_errors import reason

Spec = str | dict[str, Any]
LARGEST = 8 << 20
"""Maximum bytes of a recipe, enough for about 25,000 columns with all options."""
Size = Literal["auto", "tiny", "small", "base", "large"]


class Section(BaseModel):
    """Base of the sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Split(Section):
    """How validation rows are held out where no validation table is given."""

    kind: Literal["random", "group", "time"] = Field("random", description="random and stratified, by group, or latest")
    part: float = Field(0.15, gt=0, lt=1, description="share of the rows")
    by: str | None = Field(None, description="the column that holds the group or the time")


class Windows(Section):
    """How a long table (a row per time step) is cut into windows of past and future. Settings left out are chosen."""

    target: list[str] = Field(min_length=1, description="columns to forecast")
    horizon: int = Field(gt=0, description="steps ahead")
    time: str | None = Field(None, description="column of times: dates or numbers; none: rows are steps, in order")
    series: str | None = Field(None, description="column that names the series of a row")
    known: list[str] = Field([], description="number columns that are known in advance over the horizon")
    beside: list[str] | None = Field(None, description="other number columns, read in the past; none: all")
    calendar: list[Literal["day", "week", "year"]] | None = Field(
        None, description="calendar cycles added as inputs known in advance"
    )
    past: int | None = Field(None, gt=0, description="steps of the past")
    stride: int | None = Field(None, gt=0, description="steps between the starts of training windows")
    step: float | str | None = Field(
        None, description="length of a step: a number or a duration (15 min, 1 h, 1 month); none: the most frequent one"
    )
    ended: float | None = Field(None, description="last time of the training table: backtests begin after it")

    @property
    def column(self) -> str:
        """The column that holds the future of a window: the name of the forecast column, ``future`` if several."""
        return self.target[0] if len(self.target) == 1 else "future"


class Data(Section):
    """Where rows come from."""

    train: str | None = Field(None, description="the training table")
    valid: str | None = Field(None, description="a validation table; none: split the training table")
    media: str | None = Field(None, description="the folder that media paths are relative to; none: the table's own")
    split: Split = Split()
    windows: Windows | None = Field(None, description="how a long table is cut into windows; none: each row is an example")
    stream: bool = Field(False, description="read shards during training and store nothing, for data larger than the disk")
    buffer: int = Field(1000, gt=0, description="size in rows of the shuffle buffer of streamed shards, held in memory")
    epoch_rows: int | None = Field(None, gt=0, description="streamed rows per epoch; none: all rows")


class ModelSpec(Section):
    """The components of the model. Settings left out are chosen from the data and written back."""

    size: Size = Field("auto", description="preset of width, depth and heads of all components, unless they are set")
    dim: int | None = Field(None, gt=0, description="width of the joint representation")
    encoders: dict[str, Spec] = Field({}, description="encoder of each stream")
    adapters: dict[str, Spec] = Field({}, description="adapter of each stream")
    fusion: Spec | None = Field(None, description="how streams are combined")
    tasks: dict[str, Spec] = Field({}, description="task of each target")
    surgery: list[Spec] = Field([], description="changes to the assembled model, in order: freeze, lora")
    network: bool = Field(True, description="whether a network is trained; false: experts alone, in seconds")
    networks: int = Field(
        1, gt=0, description="number of networks, each trained with a different fold held out; their answers are averaged"
    )
    experts: list[Spec] | None = Field(
        None, description="models fitted beside the network and blended with it; []: the network alone"
    )
    features: dict[str, list[Spec]] | None = Field(None, description="features of each stream that experts use")


class Training(Section):
    """How the model is trained. Settings left out are chosen from the data and written back."""

    epochs: int | None = Field(None, gt=0, description="maximum passes over the training rows")
    batch_size: int | None = Field(None, gt=0, description="rows per step and process")
    chunk_size: int | None = Field(
        None, gt=0, description="rows encoded at a time, so that larger batches fit in memory, for a third more time"
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd uses Nesterov momentum of 0.9")
    lr: float | None = Field(None, gt=0, description="peak learning rate of the optimiser")
    lr_scale: dict[str, float] = Field(
        {}, description="factor on the learning rate of a stream's encoder, or of a task's language model"
    )
    fusion_lr_scale: float | None = Field(
        None, gt=0, description="factor on the learning rate of weights that the fusion took from a checkpoint"
    )
    layer_decay: dict[str, float] = Field({}, description="by stream: learning rate of each block relative to the next")
    # Three folds of 300 rows: OSULeaf 0.877 without, 0.920 with it; on six other sets no difference (docs/results.md).
    weight_decay: float = Field(
        0.05,
        ge=0,
        description="decoupled weight decay of matrices; with sgd in the gradient, equally strong at its usual rate",
    )
    l1: float = Field(
        0.0,
        ge=0,
        description="L1 penalty of matrices (proximal): each step shrinks them by the learning rate times this",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps with a linear warm-up; then cosine decay")
    # petfinder's table 0.248 against 0.234 without, mustard 0.692 against 0.689, ts_basicmotions 1.000 against 0.992; the
    # notes of covid_cxr lose, 0.755 against 0.789 (docs/results.md, "How the defaults were chosen").
    average: float = Field(
        0.05, ge=0, lt=1, description="share of the steps so far over which weights are averaged; 0: no averaging"
    )
    clip: float = Field(1.0, gt=0, description="maximum gradient norm")
    patience: int | None = Field(None, gt=0, description="epochs without a better validation score before training stops")
    # clothing, AUROC: 0.93 by the loss, 0.91 by accuracy (docs/results.md).
    select: Literal["score", "loss"] = Field("loss", description="criterion of the best epoch, on the validation rows")
    time_limit: float | None = Field(None, gt=0, description="maximum seconds of training; shortens the schedule")
    checkpoint_every: float = Field(
        300.0, gt=0, description="seconds between checkpoints within a long epoch; the end of each epoch is always saved"
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("32-true", description="floating-point precision")
    bucket: int = Field(
        0, ge=0, description="number of batches within which rows are sorted by length; below 2: not sorted"
    )
    compile: bool = Field(False, description="whether encoders and fusion are compiled by torch.compile for training")
    checkpointing: bool = Field(
        False,
        description="whether pretrained networks recompute activations in the backward pass: less memory, more time",
    )
    augment: bool = Field(True, description="whether training samples are augmented")
    refit: Literal["none", "experts", "all"] = Field(
        "all", description="what is refitted at the end on training and validation rows together"
    )
    devices: int = Field(1, gt=0, description="processes per machine, each with its own GPU if there are GPUs")
    nodes: int = Field(1, gt=0, description="number of machines; their processes are started by torchrun or SLURM")
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="data parallelism: ddp replicates the model, fsdp shards its weights"
    )
    accelerator: str = Field("auto", description="cpu, gpu, mps or auto")
    threads: int | None = Field(
        None,
        gt=0,
        description="number of torch threads; none: 1 for small models, else all cores, at most OMP_NUM_THREADS",
    )


class Init(Section):
    """A trained model that initialises encoders, with the fitted state of their columns."""

    base: str = Field(description="the folder of a trained model, from pretrain or fit")
    streams: dict[str, str] = Field({}, description="by stream, the base's stream that initialises it; none: the same name")
    how: Literal["full", "slow", "frozen"] = Field(
        "full", description="learning rate of the weights taken over: the full rate, a tenth of it, or none"
    )
    digest: str | None = Field(None, description="SHA-256 of the base's columns and weights; recorded by fit")


class Recipe(Section):
    """Everything that defines a run. *Declared*: short, by hand. *Resolved*: every setting written out, as saved."""

    version: Literal[2] = VERSION
    data: Data = Data()
    columns: dict[str, Spec] = Field({}, description="by column: a kind, or {kind, role, options}; inferred where left out")
    streams: dict[str, str | list[str]] = Field(
        {}, description="by stream: the table columns in it, as names or patterns (audio_*)"
    )
    init: Init | None = Field(None, description="a trained model that initialises this one")
    model: ModelSpec = ModelSpec()
    objectives: list[Spec] = Field(["supervised"], min_length=1, description="losses that training minimises")
    training: Training = Training()
    seed: int = Field(0, ge=0, lt=2**63, description="seed of all randomness")

    @classmethod
    def parse(cls, document: Any, *, source: str = "recipe") -> Self:
        """A recipe from the plain data ``document``; errors name ``source``, the key, its place and the nearest known
        key."""
        if not isinstance(document, Mapping):
            raise ConfigError("a recipe is a mapping of sections", file=source, fix="see docs/recipe.md")
        try:
            return cls.model_validate(upgrade(dict(document), source))
        except ValidationError as error:
            lines = []
            for item in error.errors():
                path = [str(part) for part in item["loc"]]
                if item["type"] == "extra_forbidden":
                    lines.append(f"{'.'.join(path)}: no such key{nearest(path[-1], cls._keys(path[:-1]))}")
                else:
                    lines.append(f"{'.'.join(path)}: {reason(item)}")
            raise ConfigError("; ".join(lines), file=source) from None

    @classmethod
    def _keys(cls, path: list[str]) -> list[str]:
        section: type[BaseModel] = cls
        for part in path:
            inner = section.model_fields[part].annotation if part in section.model_fields else None
            if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
                return []
            section = inner
        return list(section.model_fields)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a recipe file at ``path`` (plain YAML; nothing in it can run)."""
        path = Path(path)
        try:
            text = read_regular(path, LARGEST, links=True).decode("utf-8")
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", file=path) from None
        except UnicodeDecodeError:
            raise ConfigError("is not UTF-8 text", file=path, fix="save it as UTF-8") from None
        try:
            return cls.parse(read_yaml(text) or {}, source=str(path))
        except yaml.YAMLError as error:
            raise ConfigError(f"is not YAML: {error}", file=path) from None

    def to_yaml(self) -> str:
        """The recipe as YAML, keys in the order of the sections."""
        return yaml.dump(self.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)

    def override(self, assignments: Iterable[str]) -> Self:
        """A recipe with ``assignments`` such as ``model.fusion=gated`` applied; values are parsed as YAML.

        A key with a dot or ``=`` is written in double quotes: ``columns."a.b".kind=number``.
        """
        # Only explicit settings: a search may change all others.
        document = self.model_dump(exclude_unset=True)
        for text in assignments:
            (*parents, last), value = quoting.path(text)
            if value is None or not last:
                raise ConfigError(f"{text!r} is not an override", fix="write section.key=value, as in training.epochs=20")
            at = document
            for parent in parents:
                inner = at.get(parent)
                if isinstance(inner, str) and parents[0] != "data":
                    inner = {"kind": inner}  # model.fusion=gated model.fusion.temperature=2
                at[parent] = inner if isinstance(inner, dict) else {}
                at = at[parent]
            try:
                parsed = yaml.load(value, Loader=_Loader)
            except yaml.YAMLError:
                raise ConfigError(f"{value!r} in {text!r} is not a YAML value") from None
            at[last] = _number(parsed)
        return type(self).parse(document, source="the overrides")


# libyaml where PyYAML was built with it: a table of thousands of columns would take the pure one a minute.
_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Reads the key ``on`` as text rather than as true, as in YAML 1.1, since targets use it: ``on: photo``."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:bool" and key.value == "on":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def read_yaml(text: str | bytes) -> Any:
    """The YAML document ``text`` as plain data; nothing in it can run or expand. Raises ``YAMLError``.

    Anchors, aliases, merges (``<<``) and tags, with which a short document can expand hugely or denote other than plain
    data, are refused; so are duplicate keys, of which only the last would count.
    """
    if len(text) > LARGEST:
        raise yaml.YAMLError(f"it has {len(text):,} bytes, and {LARGEST:,} are read at most")
    # Looked through first: what libyaml then builds it builds by recursion, on a stack that a hostile file could exhaust.
    event: Any
    open_: list[_Mapping | None] = []
    for event in yaml.parse(text, Loader=_Loader):
        if getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError(f"anchors and aliases are not read ({event.anchor[:60]}): write out what they stand for")
        if isinstance(event, yaml.CollectionEndEvent):
            open_.pop()
            continue
        if not isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            continue
        if event.tag is not None:
            raise yaml.YAMLError(f"tags are not read: {event.tag[:60]}")
        if open_ and (inside := open_[-1]) is not None:
            inside.take(event)
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append(_Mapping() if isinstance(event, yaml.MappingStartEvent) else None)
            if len(open_) > DEEPEST:
                raise yaml.YAMLError(f"more than {DEEPEST} lists or mappings within each other")
    try:
        document = yaml.load(text, Loader=_Loader)
        check_plain(document)
    except (ValueError, OverflowError) as error:  # of numbers and dates that Python does not have
        raise yaml.YAMLError(str(error)) from None
    return document


class _Mapping:
    """The keys of a mapping being parsed, to find duplicates."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.key = True

    def take(self, event: Any) -> None:
        """Take the next event, a key or a value."""
        if self.key:
            if not isinstance(event, yaml.ScalarEvent):
                raise yaml.YAMLError("a list or a mapping is no key")
            if event.value == "<<" and event.implicit[0]:
                raise yaml.YAMLError("merges (<<) are not read: write out what they stand for")
            if event.value in self.keys:
                raise yaml.YAMLError(f"key {event.value[:60]!r} appears twice")
            self.keys.add(event.value)
        self.key = not self.key


class _Dumper(_Base):  # type: ignore[misc]
    """Quotes text with line breaks, since PyYAML folds rare ones (U+0085, U+2028) and cannot read them back.

    Writes no aliases, which ``read_yaml`` refuses.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, text: str) -> Any:
    style = '"' if text and text.splitlines() != [text] else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _number(value: Any) -> Any:
    """Read text such as 1e-4 as a number; to YAML 1.1 it is text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
