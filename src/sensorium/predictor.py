"""Rows in, predictions out: the one road for the command line, a server and explanations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sensorium.artifact import Artifact
from sensorium.core.answer import Answer, finite, without_media
from sensorium.core.batch import Batch, Field, padded_size
from sensorium.core.cell_content import Opener
from sensorium.core.cpu_cores import named_threads, process_cores
from sensorium.core.errors import AnswerError, ConfigError, nearest
from sensorium.core.forward import Forward
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Problem, Record, Sample
from sensorium.data.files.attachment_files import with_data_urls
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.tables.records import records

INVARIANT_ROWS = 16
"""Rows of a batch-invariant pass, at least: below that, kernels sum in another order."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one row.

    Args:
        targets: By task, which is named like its target column unless named otherwise: ``{"value": ..., "probabilities":
            {...}}``; plain data, and an ``Attachment`` where an answer is a picture, a mask or a sound.
        missing: Streams that the row did not have, or whose cell could not be used.
        problems: Why, where a cell was there but could not be used; and which values training did not have.
    """

    targets: dict[str, Answer]
    missing: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def value(self) -> Any:
        """The predicted value, where the model has one target."""
        if len(self.targets) != 1:
            raise ConfigError(f"the model has {len(self.targets)} targets", fix="read prediction.targets[name]['value']")
        return next(iter(self.targets.values()))["value"]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; media of an answer as ``data:`` URLs."""
        return {
            "targets": with_data_urls(self.targets),
            "missing": self.missing,
            "problems": [problem._asdict() for problem in self.problems],
        }


class Embedding(NamedTuple):
    """The vector of one row ``[D]``, the streams it did not have, and what was wrong with its cells."""

    vector: Tensor
    missing: list[str]
    problems: list[Problem]


class SideVectors(NamedTuple):
    """The sides of one row in a common space ``[S, E]``, which it has ``[S]``, and what was wrong with its cells."""

    vectors: Tensor
    present: Tensor
    problems: list[Problem]


class Step(NamedTuple):
    """What one row looks like after a step on its way through the model."""

    name: str
    shape: str
    value: str


def settle_threads(*recipes: Recipe) -> None:
    """Set torch's threads to the number that the models of ``recipes`` were trained with, before they answer: the smallest
    of several, 1 where a recipe names none, and no more than there are cores that this process may run on.

    Sums depend on how threads divide them, so a server and a table give identical answers only with the same number.
    A number in ``OMP_NUM_THREADS`` takes precedence.
    """
    if named_threads() is None:
        wanted = min(recipe.training.threads or 1 for recipe in recipes)
        torch.set_num_threads(max(1, min(wanted, process_cores())))


class Predictor:
    """A trained model, ready. Thread-safe; imports neither the trainer nor the metrics.

    Args:
        device: ``cpu``, ``cuda``, …; ``auto`` takes a GPU where there is one.
        media: What a media cell may open; by default any file of this machine, paths relative to the working folder.
    """

    def __init__(self, artifact: Artifact, *, device: str = "auto", media: Opener | None = None) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.artifact, self.schema = artifact, artifact.schema
        self.model = artifact.model.to(self.device).eval()
        self.media: Opener = media if media is not None else LocalFiles(Path.cwd(), anywhere=True)

    def predict(
        self,
        rows: Iterable[Record],
        *,
        batch_size: int = 64,
        media: Opener | None = None,
        workers: int = 2,
        batch_invariant: bool = False,
    ) -> list[Prediction]:
        """Return one prediction for each row, in order. Columns that the model does not know are ignored.

        Args:
            rows: Records by column; any column may be absent.
            batch_size: Rows in each pass through the model.
            media: Opens media cells; by default that of the predictor.
            workers: Threads that decode.
            batch_invariant: Whether a row's answer is bit-identical whatever other rows are predicted with it (on the same
                machine, with the same number of threads). Batches are then padded to a power of two, at least
                ``INVARIANT_ROWS``, and rows to the longest that the model reads. Otherwise the order of sums depends on
                both, which changes a probability by about 1e-7.
        """
        return list(self.stream(rows, batch_size=batch_size, media=media, workers=workers, batch_invariant=batch_invariant))

    def stream(
        self,
        rows: Iterable[Record],
        *,
        batch_size: int = 64,
        media: Opener | None = None,
        workers: int = 2,
        batch_invariant: bool = False,
    ) -> Iterator[Prediction]:
        """As ``predict`` for ``rows``, one batch after the other, so that memory does not grow with the rows. Decoding
        runs ahead in threads.

        Args:
            rows: Records by column; any column may be absent.
            batch_size: Rows in each pass through the model.
            media: Opens media cells; by default that of the predictor.
            workers: Threads that decode.
            batch_invariant: See ``predict``.
        """
        done = 0
        for samples, problems in self._samples(rows, batch_size, media or self.media, workers):
            yield from self.answer(samples, problems, INVARIANT_ROWS if batch_invariant else None, done + 1)
            done += len(samples)

    def embed(
        self,
        rows: Any,
        *,
        stream: str | None = None,
        batch_size: int = 64,
        media: Opener | None = None,
        batch_invariant: bool = False,
    ) -> Tensor:
        """Return the embedding of each row ``[rows, D]`` on the CPU: the fused vector, or that of one stream before
        fusion.

        Every row has a fused vector; the vector of an absent stream is zero.

        Args:
            rows: Records, as for ``predict``; or a frame, a table or a file.
            stream: The stream; None: all, fused.
            batch_size: Rows in each pass through the model.
            media: Opens media cells; by default that of the predictor.
            batch_invariant: Whether a row's vector is bit-identical whatever other rows are embedded with it: see
                ``predict``.
        """
        every = self.embeddings(rows, stream=stream, batch_size=batch_size, media=media, batch_invariant=batch_invariant)
        vectors = [one.vector for one in every]
        return torch.stack(vectors) if vectors else torch.zeros(0, self.model.fusion.dim)

    def embeddings(
        self,
        rows: Any,
        *,
        stream: str | None = None,
        batch_size: int = 64,
        media: Opener | None = None,
        workers: int = 2,
        batch_invariant: bool = False,
    ) -> Iterator[Embedding]:
        """As ``embed``, row by row with the absent streams of each, so that memory does not grow with the rows.

        Args:
            rows: Records by column; any column may be absent.
            stream: The stream; None: all, fused.
            batch_size: Rows in each pass through the model.
            media: Opens media cells; by default that of the predictor.
            workers: Threads that decode.
            batch_invariant: See ``predict``.
        """
        self._embeds(stream)
        return self._embeddings(
            records(rows), stream, batch_size, media or self.media, workers, INVARIANT_ROWS if batch_invariant else None
        )

    def _embeddings(
        self, rows: Iterable[Record], stream: str | None, batch_size: int, media: Opener, workers: int, least: int | None
    ) -> Iterator[Embedding]:
        for samples, problems in self._samples(rows, batch_size, media, workers):
            batch = self.batch(samples, least)
            present = {name: part.present.tolist() for name, part in batch.inputs.items()}
            vectors = self._pooled(batch, stream, least)
            for i, faults in enumerate(problems):
                yield Embedding(vectors[i], [name for name, presence in present.items() if not presence[i]], faults)

    def vectors(self, samples: Sequence[Sample], stream: str | None = None) -> Tensor:
        """``embed`` for one batch of encoded ``samples``; ``stream`` as there."""
        self._embeds(stream)
        return self._pooled(self.batch(samples), stream)

    @torch.inference_mode()
    def _pooled(self, batch: Batch, stream: str | None, least: int | None = None) -> Tensor:
        run = Forward(self.model, batch, least=least)
        return (run.fused if stream is None else run.streams[stream]).pooled.cpu()

    def _embeds(self, stream: str | None) -> None:
        """Refuse a model that has no vectors, and a stream that it does not have."""
        if not self.model.network:
            raise ConfigError("the model has no network, so its rows have no vectors", fix="train it with --quality good")
        if stream is not None and stream not in self.model.streams:
            raise ConfigError(f"no stream named {stream!r}{nearest(stream, self.model.streams)}")

    def side_vectors(
        self, rows: Iterable[Record], task: str, *, batch_size: int = 64, media: Opener | None = None, workers: int = 2
    ) -> Iterator[SideVectors]:
        """Return the sides of each row in the common space of ``task`` (``Task.sides``), one batch after the other.

        Args:
            rows: Records by column; any column may be absent.
            task: The name of a task that has a common space.
            batch_size: Rows in each pass through the model.
            media: Opens media cells; by default that of the predictor.
            workers: Threads that decode.
        """
        for samples, problems in self._samples(rows, batch_size, media or self.media, workers):
            for part, faults in zip(zip(*self.sides_of(samples, task), strict=True), problems, strict=True):
                yield SideVectors(*part, faults)

    @torch.inference_mode()
    def sides_of(self, samples: Sequence[Sample], task: str) -> tuple[Tensor, Tensor]:
        """``side_vectors`` for one batch of encoded ``samples``: ``[B, S, E]`` and ``[B, S]`` on the CPU; ``task`` as
        there."""
        output = Forward(self.model, self.batch(samples)).outputs[task]
        vectors, present = self.model.tasks[task].side_vectors(output)
        return vectors.float().cpu(), present.cpu()

    def batch(self, samples: Sequence[Sample], least: int | None = None) -> Batch:
        """``samples`` as a prepared batch on the model's device; padded to at least ``least`` rows for batch-invariant
        passes."""
        if least is None:
            return self.schema.prepare(self.schema.collate(samples).to(self.device))
        blanks: list[Sample] = [{}] * (padded_size(len(samples), least) - len(samples))
        return self.schema.prepare(self.schema.collate([*samples, *blanks], whole=True).to(self.device))

    def _samples(
        self, rows: Iterable[Record], batch_size: int, media: Opener, workers: int
    ) -> Iterator[tuple[list[Sample], list[list[Problem]]]]:
        numbered = enumerate(rows, 1)

        def encode(item: tuple[int, Record]) -> tuple[Sample, list[Problem]]:
            problems: list[Problem] = []
            return self.schema.encode(item[1], media=media, row=item[0], problems=problems, strange=True), problems

        chunk = list(islice(numbered, batch_size))
        if len(chunk) < batch_size:  # all of it: not worth a thread
            if chunk:
                done = [encode(item) for item in chunk]
                yield [sample for sample, _ in done], [problems for _, problems in done]
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            ahead = [pool.submit(encode, item) for item in chunk]
            try:
                while ahead:
                    following = [pool.submit(encode, item) for item in islice(numbered, batch_size)]
                    done = [job.result() for job in ahead]
                    yield [sample for sample, _ in done], [problems for _, problems in done]
                    ahead = following
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # whoever stops here waits for nothing

    @torch.inference_mode()
    def answer(
        self, samples: Sequence[Sample], problems: Sequence[list[Problem]], least: int | None = None, first: int = 1
    ) -> list[Prediction]:
        """``predict`` for one batch of encoded rows.

        Args:
            samples: Encoded rows.
            problems: The problems of each row, passed on.
            least: Minimum number of rows of a batch-invariant pass; None: no padding.
            first: The number of the first row, for errors.

        Raises:
            AnswerError: The model returns NaN or an infinite number for a row.
        """
        batch = self.batch(samples, least)
        outputs = Forward(self.model, batch, least=least).outputs
        for name, output in outputs.items():
            _numbers_only(name, output, len(samples), first)
        decoded = {name: task.answers(outputs[name], batch) for name, task in self.model.tasks.items()}
        for name, answers in decoded.items():
            wrong = next((i for i, one in enumerate(answers[: len(samples)]) if not finite(one)), None)
            if wrong is not None:
                raise _no_answer(name, first + wrong)
        present = {stream: part.present.tolist() for stream, part in batch.inputs.items()}
        return [
            Prediction(
                {name: answers[i] for name, answers in decoded.items()},
                [stream for stream, presence in present.items() if not presence[i]],
                problems[i],
            )
            for i in range(len(samples))
        ]

    @torch.inference_mode()
    def trace(self, row: Record, *, media: Opener | None = None) -> list[Step]:
        """The value and shape of one ``row`` after every step: cell, array, field, encoded stream, fused, output,
        answer; ``media`` opens its media cells."""
        steps: list[Step] = []
        media = media or self.media
        problems: list[Problem] = []
        sample = self.schema.encode(row, media=media, problems=problems)
        for name, array in sample.items():
            if isinstance(name, tuple):
                continue  # how large an input is that targets lie on
            cell = row.get(self.schema.columns[name].source)
            steps.append(Step(f"cell {name}", type(cell).__name__, _short(cell)))
            shape = "missing" if array is None else f"{array.dtype}{list(array.shape)}"
            steps.append(Step(f"encode {name}", shape, "" if array is None else _numbers(torch.as_tensor(array))))
        steps += [Step(f"problem {p.column}", "", str(p)) for p in problems]
        batch = self.batch([sample])
        for stream, part in batch.inputs.items():
            steps.append(_field_step(f"prepare {stream}", part))
        run = Forward(self.model, batch)
        for stream, encoded in run.streams.items():
            real = f"{int(encoded.mask.sum())} real tokens"
            shape = f"tokens {list(encoded.tokens.shape)}, {real}"
            steps.append(Step(f"encoder {stream}", shape, _numbers(encoded.pooled)))
        pooled = run.fused.pooled
        steps.append(Step("fusion", f"pooled {list(pooled.shape)}", _numbers(pooled)))
        for name, output in run.outputs.items():
            task = self.model.tasks[name]
            shape = str(list(output.shape)) if isinstance(output, Tensor) else type(output).__name__
            steps.append(Step(f"task {name}", shape, _numbers(output) if isinstance(output, Tensor) else ""))
            steps.append(Step(f"answer {name}", "", _short(without_media(task.answers(output, batch)[0]))))
        return steps


def _numbers_only(name: str, output: Any, rows: int, first: int) -> None:
    """Raises ``AnswerError`` for the first row with a NaN in an output: what is decoded of it could look like an answer."""
    for part in tree_leaves(output):
        if isinstance(part, Tensor) and part.is_floating_point() and part.dim() and len(part) >= rows:
            wrong = part[:rows].isnan().flatten(1).any(dim=1) if part.dim() > 1 else part[:rows].isnan()
            if bool(wrong.any()):
                raise _no_answer(name, first + int(wrong.nonzero()[0, 0]))


def _no_answer(name: str, row: int) -> AnswerError:
    fix = "look for numbers beyond all measure in the row; where every row is so, the model's weights are damaged"
    return AnswerError(f"the model's answer to {name!r} is not a number (NaN or infinite)", row=row, fix=fix)


def _field_step(name: str, part: Field) -> Step:
    if not bool(part.present.all()):
        return Step(name, f"{list(part.data.shape)}, missing", "")
    real = "" if part.mask is None else f", {int(part.mask.sum())} of {part.mask.shape[1]} real"
    return Step(name, f"{list(part.data.shape)}{real}", _numbers(part.data))


def _numbers(tensor: Tensor) -> str:
    values = tensor.detach().float().flatten()
    if values.numel() == 0:
        return "empty"
    first = ", ".join(f"{v:.3g}" for v in values[:4].tolist())
    return first if values.numel() <= 4 else f"{first}, … mean {values.mean():.3g}, sd {values.std():.3g}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_short(v)}" for k, v in value.items()) + "}"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"
