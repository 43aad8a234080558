"""READ FIRST: the contracts of a model's components. The contract of modalities is in ``core/modality.py``.

    cell ─Modality→ array ─collate, prepare→ Field ─Encoder→ Encoded ─Adapter→ Encoded ─Fusion→ Encoded
         ─Task→ output ─answers→ value

Invariants, which ``sensorium.testing`` checks for every component:

* An encoder sees only rows that have the stream. Its tokens are zero where masked; more padding changes nothing.
* An adapter preserves ``present`` and zeros.
* A fusion does not depend on the contents of absent rows or on the order of the mapping; a row without any stream gives
  finite zeros.
* A task's loss is ``[B]``, unreduced: tasks know no trainer, no weights and no missing rows.

An attribute of a module must not be named like a method of ``nn.Module`` (``to``, ``type``, ``half``): it would shadow it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field, merged
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.expert import Response
from sensorium.core.goal import Goal
from sensorium.core.layout import Layout
from sensorium.core.modality import Modality
from sensorium.core.module_dict import NamedModules
from sensorium.core.pyramid_level import Level
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer

Out = TypeVar("Out")


@dataclass(frozen=True)
class Seen:
    """Rows as a trained model sees them, in evaluation mode: what parts learn from once the network stands still.

    Only vectors are kept: ``tokens`` of every ``Encoded`` here are ``[rows, 1, D]``, the vector itself.
    """

    fused: Encoded
    streams: Mapping[str, Encoded]
    target: Field
    weight: Tensor
    prompts: Mapping[str, Field] = dataclass_field(default_factory=dict)


class Encoder(nn.Module, ABC):
    """Data of one layout to tokens. Sees only rows that have the stream.

    The first positional parameter is the ``Layout``; ``dim`` is the width of what it returns. Tokens that come from a grid
    or a sequence say so in ``Encoded.grid``.
    """

    reads: ClassVar[tuple[type[Layout], ...]]
    dim: int
    gives_pyramid: bool = False
    """Whether ``forward`` fills ``Encoded.pyramid``: set on an instance that has ``levels``, by a task that needs them."""

    @property
    def levels(self) -> tuple[Level, ...]:
        """The feature maps that it can give beside its tokens, from fine to coarse; empty where it has none."""
        return ()

    @classmethod
    def wants(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The column options (``kind`` among them) that a pretrained encoder with ``options`` requires, asked before
        fitting.

        What the user states for the column takes precedence. Empty for an encoder without requirements.
        """
        return {}

    @classmethod
    def completed(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """``options`` with everything that a checkpoint determines written out, so that a saved model is self-contained.
        Called once, by fit."""
        return dict(options)

    def adopt(self) -> None:
        """Take over the weights of the checkpoint that the options name, if any. Called once, before ``fit``."""

    def fit(self, fields: Iterable[Field]) -> None:
        """Learn what is known of the training rows before training starts: document frequencies, word vectors, quantiles.

        ``fields`` are batches as ``prepare`` gives them, not augmented, of rows that have the stream; they can be
        iterated only once. What is learnt goes into parameters and buffers whose shapes the constructor knows, so that a
        saved model needs nothing else.
        """

    def notes(self) -> str:
        """What ``fit`` learnt that a user should know, in words; empty where there is nothing to say."""
        return ""

    @abstractmethod
    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` and ``mask`` as the layout says; all rows of the result are present."""


class TokenEncoder(Encoder):
    """An encoder in two steps, so that a masked objective can hide tokens between them."""

    @abstractmethod
    def embed(self, data: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Token embeddings of ``data`` before any attention, ``[B, N, D]``, and which are real ``[B, N]``; ``mask`` as
        in ``forward``."""

    @abstractmethod
    def trunk(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The transformed ``tokens`` ``[B, N, D]``; zero where ``mask`` ``[B, N]`` is False."""


class Adapter(nn.Module, ABC):
    """An encoder's width to the model's. Positional parameters: width in, width out."""

    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.dim_in, self.dim = dim_in, dim

    @abstractmethod
    def forward(self, part: Encoded) -> Encoded:
        """The same rows, ``D = dim``, and the same pyramid; perhaps fewer tokens, with a ``grid`` of their own or none."""


class Fusion(nn.Module, ABC):
    """Several streams to one. Positional parameters: the streams' names in the model's order, and the width."""

    adopted: ClassVar[tuple[str, ...]] = ()
    """What the names of those weights begin with that ``adopt`` takes over: they learn slowly."""

    def __init__(self, streams: Sequence[str], dim: int) -> None:
        super().__init__()
        self.streams, self.dim = tuple(streams), dim

    @classmethod
    def completed(cls, options: Mapping[str, Any], layouts: Mapping[str, Layout]) -> dict[str, Any]:
        """``options`` as in ``Encoder.completed``; ``layouts`` are those of the encoded streams."""
        return dict(options)

    def adopt(self) -> None:
        """As ``Encoder.adopt``."""

    @abstractmethod
    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        """One encoding of every row from all streams; any stream may be missing in any row."""

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """Interpretable weights of the fusion for ``parts``; empty if there are none.

        ``"share"`` ``[B, S]``: the weight of each stream, summing to 1 over the streams present. Further names are the
        fusion's own: ``"gate"`` ``[B, S, D]``, ``"attention"`` ``[B, N, N]``.
        """
        return {}

    def answering(self, make: Callable[[], Task[Any]]) -> Task[Any]:
        """The task that answers one target on this fusion: ``make()``, unless each stream is to answer by itself."""
        return make()


class Task(nn.Module, ABC, Generic[Out]):
    """Head, loss, scores and answers of one goal. Positional parameters: the goal, and the width of what it reads.

    ``Out`` is the task's own business: nobody else looks into it. It is what is known before an answer is made (logits, a
    memory that a decoder attends to); ``loss`` holds it against the target, ``answers`` makes the answer of it.
    """

    predicts: ClassVar[tuple[str, ...]]
    """The kinds of column that can be its target; empty: it has none, and learns from rows as they are."""
    parts: ClassVar[tuple[str, ...]] = ()
    """What the columns are called that make one target together: ``("time", "event")``. Empty: it is one column."""
    prompted: ClassVar[Mapping[str, str]] = {}
    """What the command calls its prompt columns, and the kind they are read as: ``{"same": "key"}`` for ``--same X``."""
    asks: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # options of its target columns, by kind, where the user says none
    reads_as: ClassVar[str | None] = None
    """The kind as which its target columns are read where the user names none; None: as their cells suggest."""
    asks_base: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # the same, of the input that its target lies on
    headline: ClassVar[str]
    """The metric quoted first."""
    higher_is_better: ClassVar[bool] = True
    nothing: ClassVar[str] = "knowing the training targets alone"
    """What ``baseline`` does, as a report words it: "always answering the mean"."""
    per_row: ClassVar[bool] = True
    """False: a row's loss depends on the other rows of its batch (a contrast)."""
    mergeable: ClassVar[bool] = True
    """Whether several outputs for one row can be made one (``merge``). False: late fusion is refused, and no default."""
    fine: ClassVar[bool] = False
    """Whether it answers for each place of the input it lies on, whose default encoder then keeps a fine grid."""
    differentiable: ClassVar[bool] = True
    """Whether gradients flow through ``explained``."""
    scored_shuffled: ClassVar[bool] = False
    """Whether it is also scored with the inputs of other rows, since its answers may score without regard to the row's."""

    def __init__(self, goal: Goal, dim: int) -> None:
        super().__init__()
        self.goal, self.dim = goal, dim

    @classmethod
    def recommended(
        cls, options: Mapping[str, Any], rows: int, counts: Sequence[int], targets: Sequence[Modality] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        """Options that the training rows suggest, beside ``options`` that are set, and why, in words.

        ``counts``: how many rows each class of its target has, where it has classes; ``targets``: its columns, fitted.
        """
        return {}, []

    # ── before and after training ──────────────────────────────────────────────────────────────────────────────────

    def fit(self, targets: Iterable[Field]) -> None:
        """Learn what is known of the training targets before training starts: class shares, a first bias, a vocabulary.

        ``targets`` are batches of them, as ``target`` gives them; they can be iterated several times.
        """

    def settle(self, training: Seen, held_out: Seen) -> None:
        """Fit what is fitted after the network, with its weights fixed: a support vector machine, a stacking of
        decisions.

        ``training`` are the training rows; ``held_out`` are the validation rows, which no gradient has seen. Results are
        stored in parameters and buffers.
        """

    def correct(self, output: Out, target: Field, weight: Tensor) -> None:
        """Fit a calibration of outputs to the held-out rows' ``output`` ``[B, ...]``, ``target`` and ``weight``, whether
        from one network, several streams or experts. Called by ``settle``, if at all."""

    @property
    def settles(self) -> bool:
        """Whether ``settle`` learns anything."""
        return type(self).settle is not Task.settle

    @property
    def plain(self) -> Task[Any]:
        """The task itself; where several of it answer together (a late fusion), one of them."""
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels to each of which an answer gives a probability; empty where it gives none."""
        return ()

    @property
    def pyramids(self) -> tuple[str, ...]:
        """The streams of which it reads the feature pyramid (``Encoded.pyramid``), which encoders give only when asked."""
        return ()

    @property
    def sides(self) -> Mapping[str, tuple[str, ...]]:
        """The sides of a row, each with its streams, that it maps into one space to be searched; empty: it has none."""
        return {}

    def side_vectors(self, output: Out) -> tuple[Tensor, Tensor]:
        """The unit vectors ``[B, S, E]`` of ``sides`` in ``output``, zero if absent, and which are present ``[B, S]``."""
        raise TypeError(f"{type(self).__name__} has no common space")

    @property
    def looks_at(self) -> tuple[str, ...]:
        """The streams whose prepared data it reads (a forecast: the last value); ``forward`` gets it among ``prompts``."""
        return ()

    # ── the road ───────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Out:
        """The raw output for every row.

        ``streams`` are the parts before fusion, for heads that look at one; ``prompts`` the columns it is asked with, as
        their modalities prepare them, and the streams that it ``looks_at``.
        """

    def target(self, batch: Batch) -> Field | None:
        """The targets of ``batch``, or None if it has none."""
        return self.goal.target(batch)

    @abstractmethod
    def loss(self, output: Out, target: Field) -> Tensor:
        """The loss ``[B]`` of ``output`` for each row's ``target``. Rows without a target may contain any finite value;
        the caller skips them."""

    def reported_loss(self, output: Out, target: Field) -> Tensor:
        """The loss ``[B]`` of ``output`` for ``target`` as reported: without class weights and label smoothing."""
        return self.loss(output, target)

    @abstractmethod
    def scorer(self) -> Scorer[Out]:
        """A fresh one: what its metrics are, and what they need of each row."""

    @abstractmethod
    def answers(self, output: Out, batch: Batch) -> list[Answer]:
        """One answer for each row of ``output``: ``"value"`` holds it in the user's own units, pixels or seconds.

        ``batch`` is the prepared input: coordinates in an image are mapped back by its frame (``Field.frame``).
        """

    def truths(self, batch: Batch) -> list[Any]:
        """The target of each row of ``batch`` in the form of an answer, None where missing; by default the cell of its
        column."""
        field = self.target(batch)
        if field is None or len(self.goal.targets) != 1:
            return [None] * batch.rows
        cells, decode = field.data.detach().cpu().numpy(), self.goal.modality.decode
        lengths = None if field.mask is None else field.mask.sum(dim=1).tolist()
        ragged = self.goal.modality.ragged and lengths is not None
        return [
            None if not present else decode(cell[: lengths[i]] if ragged and lengths is not None else cell)
            for i, (cell, present) in enumerate(zip(cells, field.present.tolist(), strict=True))
        ]

    # ── scores, answers and views ────────────────────────────────────────────────────────────────────────────

    def explained(self, output: Out, of: Out) -> Tensor | None:
        """``[B]``: the number that an explainer asks about, such as the chance of the class that ``of`` answers.

        ``of`` is the output for the same rows, or for one of them, as they are, while in ``output`` something may be
        missing. None: its answers cannot be put into one number, and are not explained.
        """
        return None

    def question(self, of: Out) -> list[str]:
        """What ``explained`` is of each row, in words: ``probability of dog``."""
        raise TypeError(f"{type(self).__name__} explains itself and does not say what")

    def views(self, scorer: Scorer[Out]) -> list[View]:
        """What a report shows beside the metrics, from the rows kept by ``scorer``: tables, curves, sentences."""
        return []

    # ── experts beside the network (core/expert.py) ─────────────────────────────────────────────────────────────────

    @property
    def response(self) -> Response | None:
        """What an expert is to answer in its place, read off ``target``. None: it has no experts."""
        return None

    def scored(self, scores: Tensor) -> Out:
        """The output equivalent to an expert's ``scores`` ``[B, size]``; by default the scores themselves."""
        return scores  # type: ignore[return-value]

    def sharpen(self, output: Out, factor: Tensor) -> Out:
        """``output`` with its log-odds scaled by ``factor`` ``[B, 1]``; unchanged for answers without log-odds."""
        return output

    def merge(self, outputs: Sequence[Out], share: Tensor, *, vote: bool = False) -> Out:
        """One output from several ``outputs`` for the same rows (late fusion), weighted by ``share`` ``[B, S]``.

        ``vote``: combine decisions only. By default the mean of the raw outputs, without voting.
        """
        return merged(outputs, share)  # type: ignore[no-any-return]

    def baseline(self, targets: Iterable[Field]) -> Any | None:
        """What the training ``targets`` alone determine (class frequencies, the mean, a sentence), as plain JSON; None
        if nothing.

        ``constant`` turns it into an output that is scored beside every model.
        """
        return None

    def constant(self, baseline: Any, rows: int) -> Out:
        """The output, for ``rows`` rows, of knowing ``baseline`` alone."""
        raise TypeError(f"{type(self).__name__} has a baseline and makes no answer of it")

    def rivals(self, output: Out) -> dict[str, Out]:
        """The outputs of simple methods for the rows of ``output``, by name, which a report scores beside its own: the
        answer of the most similar training row."""
        return {}


class Operable(Protocol):
    """A model in parts, as ``sensorium.model.Model`` is."""

    encoders: NamedModules[Encoder]
    adapters: NamedModules[Adapter]
    fusion: Fusion


class Surgery(ABC):
    """A change to a whole model, made after pretrained weights are in it and before it is trained.

    It is recorded in the recipe and made again when the model is loaded, before the saved weights are read. So it must only
    depend on its options, may add parameters (the weights are saved) and must not rename those that are there.
    """

    @abstractmethod
    def apply(self, model: Operable) -> None:
        """Change ``model`` in place."""


def chosen_streams(model: Operable, streams: Sequence[str] | None, kind: str) -> list[str]:
    """The ``streams`` of ``model`` that the surgery ``kind`` applies to; None: all."""
    for stream in streams or ():
        if stream not in model.encoders:
            raise ConfigError(f"{kind}: no stream named {stream!r}{nearest(stream, list(model.encoders))}")
    return list(model.encoders) if streams is None else list(streams)
