"""The contract of tasks: head, loss, scores, answers, views of one goal. The others are in ``core/contracts.py``."""

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
class Seen:
    """Rows as a trained model sees them, in evaluation mode: training data of parts fitted after the network.

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

    ``Out`` is private to the task: what is known before an answer is made (logits, the memory of a decoder). ``loss``
    compares it with the target, ``answers`` makes answers of it. What a kind of task declares is in ``core/task_kind.py``.
    """

    turn: int = 0
    """The index of the group in ``turns`` that the current training step updates."""

    def __init__(self, goal: Goal, dim: int) -> None:
        super().__init__()
        self.goal, self.dim = goal, dim

    @property
    def answer_columns(self) -> Mapping[str, tuple[str, ...]]:
        """What of its answers a CSV has as columns of their own beside the value and the probabilities: by the name of a
        column, the keys that lead to it in an answer. An answer without one has an empty cell."""
        return {}

    # ── before and after training ──────────────────────────────────────────────────────────────────────────────────

    def fit(self, targets: Iterable[Field]) -> None:
        """Learn what is known of the training targets before training starts: class shares, a first bias, a vocabulary.

        ``targets`` are batches of them, as ``target`` gives them; they can be iterated several times.
        """

    def fit_prompts(self, rows: Iterable[tuple[Mapping[str, Field], Field]]) -> str:
        """Fit a baseline that answers from the prompts alone, before training starts; return a note for the user, or an
        empty text. By default nothing.

        ``rows`` are batches of prompts, as ``forward`` gets them, and targets; they can be iterated once.
        """
        return ""

    def recompute(self) -> bool:
        """Recompute activations in the backward pass instead of keeping them (``training.checkpointing``); return whether
        it has layers that can."""
        return False

    @property
    def pretrained(self) -> Iterable[nn.Parameter]:
        """Its trained parameters that come from elsewhere, which learn at the rate of pretrained parts. By default none."""
        return ()

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
    def heritable(self) -> Mapping[str, nn.Module]:
        """Its parts that a run which starts from it takes over: by the stream that they belong to, or by a name of their
        own. By default none."""
        return {}

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

    @property
    def converses(self) -> bool:
        """Whether it generates its answers piece by piece (``answer_batch``), to a question in its prompt column."""
        return False

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
    def makes(self) -> tuple[str, ...]:
        """The columns whose cells it generates; empty: none."""
        return ()

    def make(self, output: Out, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """A new row for each row of ``output``: by column of ``makes`` its cell, plain data or an ``Attachment``, drawn at
        random with ``seeds``, one for each row."""
        raise TypeError(f"{type(self).__name__} makes no rows")

    def weigh_answers(self, output: Out, choices: Sequence[str]) -> list[list[tuple[str, float]]]:
        """``choices`` for each row of ``output``, the most probable first, with logarithms of probabilities that sum to 1;
        only of tasks that converse."""
        raise TypeError(f"{type(self).__name__} does not weigh answers")

    def fold(self, folder: Path) -> dict[str, Any]:
        """Write weights from elsewhere, with what was learnt beside them added, to ``folder``; return the options that
        change with them. Empty where there is nothing to add."""
        return {}

    # ── the road ───────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Out:
        """The raw output for every row.

        ``streams`` are the parts before fusion, for heads that look at one; ``prompts`` the columns it is asked with, as
        their modalities prepare them, and the streams that it ``looks_at``.
        """

    def augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The prepared training rows of ``batch`` as this task varies them at random, with ``generator``: rows joined,
        with their targets.

        Called only where it is the only task, since other tasks may not support it."""
        return batch

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

    @property
    def drawn_on(self) -> str | None:
        """The stream of the pictures on which its answers name places (``places``); None: they name none."""
        return None

    @property
    def place_names(self) -> Mapping[str, tuple[str, ...]]:
        """The labels that ``places`` may have, and of each the names of its points, if it has any."""
        return {}

    def places(self, answer: Answer, size: tuple[int, int]) -> list[Place]:
        """The places of ``answer`` on its picture of ``size`` (width and height), in pixels."""
        return []

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

    def subjects(self, of: Out) -> list[str]:
        """The parts of the answer to the first row of ``of`` that can be explained, in words: each box, region or point of
        its answer.
        Empty: only the answer as a whole."""
        return []

    def about(self, of: Out, number: int) -> Out:
        """``of`` narrowed to the ``number``-th of its ``subjects``, from 1, for ``explained`` and ``question``."""
        raise TypeError(f"{type(self).__name__} explains its answers as a whole")

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
