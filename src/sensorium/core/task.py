"""The contract of tasks: head, loss, scores, answers, views of one goal. Other contracts: ``core/contracts.py``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from sensorium.core.answer import Answer
from sensorium.core.answer_batch import AS_THE_TASK, AnswerBatch, AnswerSettings
from sensorium.core.batch import Batch, Encoded, Field, merged
from sensorium.core.expert import Response
from sensorium.core.goal import Goal
from sensorium.core.places import Place
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task_kind import TaskKind

Out = TypeVar("Out")


@dataclass(frozen=True)
class EncodedRows:
    """Encoded rows of a trained model in evaluation mode: training data of parts fitted after the network.

    Only vectors are kept: ``tokens`` of every ``Encoded`` here are ``[rows, 1, D]``, the vector itself.
    """

    fused: Encoded
    streams: Mapping[str, Encoded]
    target: Field
    weight: Tensor
    prompts: Mapping[str, Field] = dataclass_field(default_factory=dict)


class Turn(NamedTuple):
    """A group of parameters of a task that is updated in alternation with its other groups.

    Args:
        name: Its name: ``critic``.
        parameters: Its parameters.
        betas: Decay rates of the moments that AdamW keeps of them.
        rate: Their share of the learning rate.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    betas: tuple[float, float] = (0.9, 0.999)
    rate: float = 1.0


class Task(nn.Module, TaskKind, ABC, Generic[Out]):
    """Head, loss, scores and answers of one goal. Positional parameters: the goal, and the width of its input.

    ``Out`` is private to the task: the raw output (logits, the memory of a decoder), which ``loss`` compares with the
    target and ``answers`` decodes. Class-level declarations of tasks are in ``core/task_kind.py``.
    """

    turn: int = 0
    """The index of the group in ``turns`` that the current training step updates."""

    def __init__(self, goal: Goal, dim: int) -> None:
        super().__init__()
        self.goal, self.dim = goal, dim

    @property
    def answer_columns(self) -> Mapping[str, tuple[str, ...]]:
        """Further columns of answers in a CSV, in addition to the value and the probabilities: by the name of a column, its
        path of keys in an answer. The cell is empty if an answer lacks it."""
        return {}

    # ── before and after training ──────────────────────────────────────────────────────────────────────────────────

    def fit(self, targets: Iterable[Field]) -> None:
        """Fit data-dependent state on the training targets before training: class shares, an initial bias, a vocabulary.

        ``targets`` are batches as returned by ``target``; they can be iterated several times.
        """

    def fit_prompts(self, rows: Iterable[tuple[Mapping[str, Field], Field]]) -> str:
        """Fit a baseline that answers from the prompts alone, before training; return a note for the user, or an empty
        text. By default there is none.

        ``rows`` are batches of prompts, as passed to ``forward``, and targets; they can be iterated once.
        """
        return ""

    def training_note(self) -> str:
        """Return a note for the user on the first epoch of training, for what is not known before; by default an empty
        text."""
        return ""

    def fit_simple(self, rows: Iterable[Batch], held_out: Iterable[tuple[Batch, Out]]) -> str:
        """Fit the simple methods that answer from the inputs (``reference_outputs``), once the network is trained; return
        a note for the user, or an empty text. By default nothing.

        ``rows`` are prepared training rows, a sample where there are many; they can be iterated several times. ``held_out``
        are validation rows with the outputs of the network, none in the final fit, which keeps what was learnt from them.
        Results are stored in declared buffers (``LearnedBuffers``), which are saved with the model.
        """
        return ""

    def recompute(self) -> bool:
        """Recompute activations in the backward pass instead of keeping them (``training.checkpointing``); return whether
        it has layers that can."""
        return False

    @property
    def pretrained(self) -> Iterable[nn.Parameter]:
        """Its trained parameters that were loaded from pretrained weights and learn at their rate. By default none."""
        return ()

    def fit_after_training(self, training: EncodedRows, held_out: EncodedRows) -> None:
        """Fit parts that are fitted after the network, with its weights fixed: a support vector machine, a stacking of
        decisions.

        ``training`` are the training rows; ``held_out`` the validation rows, on which no gradient was computed. Results
        are stored in parameters and buffers.
        """

    def correct(self, output: Out, target: Field, weight: Tensor) -> None:
        """Fit a calibration of outputs to the held-out rows' ``output`` ``[B, ...]``, ``target`` and ``weight``, whether
        from one network, several streams or experts. Called by ``fit_after_training``, if at all."""

    @property
    def heritable(self) -> Mapping[str, nn.Module]:
        """The modules that a run which starts from this task takes over, by their stream or by another name. By default
        none."""
        return {}

    @property
    def fits_after_training(self) -> bool:
        """Whether ``fit_after_training`` learns anything."""
        return type(self).fit_after_training is not Task.fit_after_training

    @property
    def plain(self) -> Task[Any]:
        """The task itself; one of them if several copies answer together (late fusion)."""
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels for which answers state probabilities; empty if there are none."""
        return ()

    @property
    def pyramids(self) -> tuple[str, ...]:
        """The streams whose feature pyramid it reads (``Encoded.pyramid``), which encoders return on request only."""
        return ()

    @property
    def sides(self) -> Mapping[str, tuple[str, ...]]:
        """The sides of a row, each with its streams, that it maps into a common space for search; empty if it has none."""
        return {}

    def side_vectors(self, output: Out) -> tuple[Tensor, Tensor]:
        """Return the unit vectors ``[B, S, E]`` of ``sides`` in ``output``, zero if absent, and which are present ``[B,
        S]``."""
        raise TypeError(f"{type(self).__name__} has no common space")

    @property
    def prepared_streams(self) -> tuple[str, ...]:
        """The streams whose prepared data it reads (a forecast: the last value); ``forward`` gets it among ``prompts``."""
        return ()

    @property
    def conversational(self) -> bool:
        """Whether it generates its answers piece by piece (``answer_batch``), to a question in its prompt column."""
        return False

    @property
    def prompt_places(self) -> tuple[str, ...]:
        """The streams whose places a prompt may name, ``<photo>``."""
        return ()

    def answer_batch(self) -> AnswerBatch[Out]:
        """Return a batch without answers, to which rows are added (``add``) and whose answers are generated together."""
        raise TypeError(f"{type(self).__name__} does not answer piece by piece")

    def stream_answer(self, output: Out, settings: AnswerSettings = AS_THE_TASK) -> Iterator[str | bool]:
        """Yield the answer to the single row of ``output``, piece by piece as it is generated; last, whether it ended by
        itself.

        Args:
            output: The output of one row.
            settings: How it is generated.
        """
        batch = self.answer_batch()
        batch.add(output, [settings])
        while True:
            for _, piece in batch.advance():
                yield piece
                if isinstance(piece, bool):
                    return

    @property
    def turns(self) -> Sequence[Turn]:
        """Groups of parameters that training updates alternately: step i updates group i modulo their number (``turn``),
        together with all parameters in no group. Empty: all in every step."""
        return ()

    @property
    def generated_columns(self) -> tuple[str, ...]:
        """The columns whose cells it generates; empty if none."""
        return ()

    def generate_rows(self, output: Out, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Return a generated row for each row of ``output``: the cells of ``generated_columns``, plain data or an
        ``Attachment``, drawn at random with ``seeds``, one for each row."""
        raise TypeError(f"{type(self).__name__} generates no rows")

    def rank_choices(self, output: Out, choices: Sequence[str]) -> list[list[tuple[str, float]]]:
        """Return ``choices`` for each row of ``output``, most probable first, with logarithms of probabilities that sum to
        1; only for conversational tasks."""
        raise TypeError(f"{type(self).__name__} does not rank choices")

    def save_merged(self, folder: Path) -> dict[str, Any]:
        """Write borrowed weights, with the learnt updates merged into them, to ``folder``; return the options that change.
        Empty if there is nothing to merge."""
        return {}

    # ── the road ───────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Out:
        """Return the raw output for every row.

        ``streams`` are the encodings before fusion, for heads that read one; ``prompts`` are the prompt columns, as
        prepared by their modalities, and its ``prepared_streams``.
        """

    def augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the prepared training rows of ``batch`` with the task's own random augmentation, drawn with ``generator``:
        joined rows with their targets, for instance.

        Called only if it is the only task, since other tasks may not support it."""
        return batch

    def target(self, batch: Batch) -> Field | None:
        """Return the targets of ``batch``, or None if it has none."""
        return self.goal.target(batch)

    @abstractmethod
    def loss(self, output: Out, target: Field) -> Tensor:
        """Return the loss ``[B]`` of ``output`` for each row's ``target``. Rows without a target may contain any finite
        value; the caller skips them."""

    def reported_loss(self, output: Out, target: Field) -> Tensor:
        """Return the loss ``[B]`` of ``output`` for ``target`` as reported: without class weights and label smoothing."""
        return self.loss(output, target)

    @abstractmethod
    def scorer(self) -> Scorer[Out]:
        """Return a new scorer, which defines the metrics and what they need of each row."""

    @abstractmethod
    def answers(self, output: Out, batch: Batch) -> list[Answer]:
        """Return one answer for each row of ``output``; its ``"value"`` is in the user's units, pixels or seconds.

        ``batch`` is the prepared input: coordinates in an image are mapped back by its frame (``Field.frame``).
        """

    @property
    def drawn_on(self) -> str | None:
        """The stream of the pictures on which its answers are drawn (``places``); None if they are not."""
        return None

    @property
    def place_names(self) -> Mapping[str, tuple[str, ...]]:
        """The labels that ``places`` may have, each with the names of its points, if any."""
        return {}

    def places(self, answer: Answer, size: tuple[int, int]) -> list[Place]:
        """Return the positions of ``answer`` on its picture of ``size`` (width and height), in pixels."""
        return []

    def truths(self, batch: Batch) -> list[Any]:
        """Return the target of each row of ``batch`` in the form of an answer, None where missing; by default the cell of
        its column."""
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
        """Return the number ``[B]`` that explainers attribute, such as the probability of the class that ``of`` answers.

        ``of`` is the output for the complete rows, or for one of them, while in ``output`` parts may be missing. None if
        answers cannot be expressed as one number and are not explained.
        """
        return None

    def subjects(self, of: Out) -> list[str]:
        """Return descriptions of the parts of the answer to the first row of ``of`` that can be explained: its boxes,
        regions or points. Empty if only the answer as a whole can be."""
        return []

    def about(self, of: Out, number: int) -> Out:
        """Return ``of`` restricted to the ``number``-th of its ``subjects``, from 1, for ``explained`` and ``question``."""
        raise TypeError(f"{type(self).__name__} explains its answers as a whole")

    def about_place(self, of: Out, place: tuple[float, float], named: tuple[float, float]) -> Out:
        """``of``, the output for one row, narrowed to what is answered at a place, for ``explained`` and ``question``.

        ``place``: x and y in pixels of the prepared input that the target lies on; ``named``: as the user wrote them, for
        words. Only where the task ``explains_places``.
        """
        raise TypeError(f"{type(self).__name__} has no places to choose from")

    def question(self, of: Out) -> list[str]:
        """Return a description of the number in ``explained`` for each row: ``probability of dog``."""
        raise TypeError(f"{type(self).__name__} defines explained, but not question")

    def views(self, scorer: Scorer[Out]) -> list[View]:
        """Return what a report shows in addition to metrics, from the rows kept by ``scorer``: tables, curves,
        sentences."""
        return []

    # ── experts beside the network (core/expert.py) ─────────────────────────────────────────────────────────────────

    @property
    def response(self) -> Response | None:
        """The response that experts predict for it, from ``target``; None if it has no experts."""
        return None

    def scored(self, scores: Tensor) -> Out:
        """Return the output equivalent to an expert's ``scores`` ``[B, size]``; by default the scores themselves."""
        return scores  # type: ignore[return-value]

    def scale_confidence(self, output: Out, factor: Tensor) -> Out:
        """Return ``output`` with its log-odds scaled by ``factor`` ``[B, 1]``; unchanged for answers without log-odds."""
        return output

    def merge(self, outputs: Sequence[Out], share: Tensor, *, vote: bool = False) -> Out:
        """Merge several ``outputs`` for the same rows (late fusion) into one, weighted by ``share`` ``[B, S]``.

        ``vote``: combine decisions only. By default the mean of the raw outputs, without voting.
        """
        return merged(outputs, share)  # type: ignore[no-any-return]

    def baseline(self, targets: Iterable[Field]) -> Any | None:
        """Return the constant prediction from the training ``targets`` alone (class frequencies, the mean, a sentence), as
        plain JSON; None if there is none.

        ``constant`` turns it into an output that is scored alongside every model.
        """
        return None

    def constant(self, baseline: Any, rows: int) -> Out:
        """Return the output for ``rows`` rows that predicts ``baseline`` for each."""
        raise TypeError(f"{type(self).__name__} defines baseline, but not constant")

    def reference_outputs(self, output: Out, batch: Batch) -> dict[str, Out]:
        """The outputs of simple methods for the rows of ``output``, by name, which a report scores beside its own: the
        answer of the most similar training row, a linear model of the prepared inputs in ``batch``."""
        return {}
