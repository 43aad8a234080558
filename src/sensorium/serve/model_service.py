"""A model in a server: its queue, its decoding threads and the description of its inputs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, get_args

from sensorium.core.errors import AnswerError, ConfigError, nearest
from sensorium.core.modality import Modality
from sensorium.core.registry import kind_of
from sensorium.core.schema import Column, Problem, Record, Sample
from sensorium.data.files.media_access import Uploads
from sensorium.evaluation.attribution import attribute_elements as maps
from sensorium.evaluation.stream_attribution import explain
from sensorium.predictor import Prediction, Predictor
from sensorium.serve.batch_invariance import NOT_INVARIANT, measure_batch_invariance
from sensorium.serve.batching import Batcher, ClosedError, FullError
from sensorium.serve.decoding import Decoded, DecodingJob, DecodingTime
from sensorium.serve.http_errors import RETRY_AFTER, RequestError
from sensorium.serve.joint_answers import JointAnswers
from sensorium.serve.limits import Limits
from sensorium.serve.memory import release_memory
from sensorium.serve.request_budget import DecodingCost, RequestBudget
from sensorium.streaming.chat_session import GeneratedAnswers, Wish, conversing, weigh_answers
from sensorium.streaming.stream_session import KINDS

T = TypeVar("T")
Work = Decoded | DecodingJob
Merge = Literal["auto", "always", "never"]
MERGES: tuple[str, ...] = get_args(Merge)
MAX_MAP_ROWS = 4
"""Maximum number of rows of a request with attribution maps: each row costs hundreds of forward passes."""
_LIMITS = (
    *("body", "file", "text", "values", "rows", "parts", "seconds"),
    *("request_pixels", "request_samples", "request_tokens"),
)
CHUNK = 64
"""Rows per forward pass of a single request: as in ``Predictor.predict``, for bit-identical predictions."""


class ModelService:
    """A model that serves concurrent clients. Rows cannot name files: media are bytes, arrays or lists.

    Args:
        name: The name of the model.
        predictor: The model.
        limits: Limits on requests.
        merge: Whether concurrent requests share forward passes, for several times the throughput. ``auto``: if that changes
            no bit of a prediction (``invariance``), which then equals that of ``Predictor.predict`` with
            ``batch_invariant``; otherwise like ``never``. ``never``: each request runs alone, and its predictions equal
            those of ``Predictor.predict`` without ``batch_invariant``. ``always``: without this check.
        batch: Maximum number of rows per forward pass.
        wait: Maximum seconds that a request waits for others, if requests are merged.
        decoders: Number of threads that decode cells.
        on_batch: Is called after each batch with the name of the model, its number of rows and its seconds.
    """

    def __init__(
        self,
        name: str,
        predictor: Predictor,
        limits: Limits,
        *,
        merge: Merge = "auto",
        batch: int = 32,
        wait: float = 0.01,
        decoders: int = 2,
        on_batch: Callable[[str, int, float], None] | None = None,
    ) -> None:
        if merge not in MERGES:
            raise ConfigError(f"merge must be {', '.join(MERGES[:-1])} or {MERGES[-1]}, not {merge!r}")
        self.name, self.predictor, self.limits = name, predictor, limits
        self.invariance = measure_batch_invariance(predictor, batch) if merge == "auto" else NOT_INVARIANT
        self.merge = merge == "always" or self.invariance.least is not None
        self.media = Uploads(max_bytes=limits.file)
        self.schema = predictor.schema
        self.columns: dict[str, Column] = {}
        for column in self.schema.read:
            self.columns.setdefault(column.source, column)
        self._budget = RequestBudget(self.schema, limits, self.media)
        self._decoding_time = DecodingTime()
        self.batcher: Batcher[Work, list[Prediction]] = Batcher(
            self._answer,
            rows=batch,
            wait=wait if self.merge else 0.0,
            queue=limits.queue,
            on_batch=None if on_batch is None else lambda rows, seconds: on_batch(name, rows, seconds),
        )
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
        # Large rows have separate threads, so that small rows never wait for them. Huge rows are decoded one at a time,
        # since each may need half a gigabyte.
        self._large = ThreadPoolExecutor(decoders, thread_name_prefix="decode-large")
        self._huge = ThreadPoolExecutor(1, thread_name_prefix="decode-huge")
        self._explaining = ThreadPoolExecutor(1, thread_name_prefix="explain")
        conversational = conversing(predictor.model)
        self._chat = None
        if conversational is not None:
            name_of_task, _ = conversational
            self._chat = JointAnswers(lambda: GeneratedAnswers(predictor, name_of_task))

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def predict(self, rows: Sequence[Record], *, lenient: bool = False) -> list[Prediction]:
        """Predict ``rows``. Unreadable cells raise ``RequestError``, or count as missing if ``lenient``."""
        with self._reserve(len(rows)) as reservation:
            async with self._timeout():
                answer: Future[list[Prediction]] = Future()
                self._decode(
                    DecodingJob(self.encode, rows, lenient, self._decoding_time),
                    answer,
                    lambda work: reservation.submit(work, answer),
                )
                return await asyncio.wrap_future(answer)

    async def explain(
        self, rows: Sequence[Record], *, lenient: bool = False, where: bool = False, about: str | None = None
    ) -> dict[str, Any]:
        """Attribute predictions to streams: ``evaluation.stream_attribution.Explanation`` as plain data.

        Args:
            rows: The rows to explain.
            lenient: Whether unreadable cells count as missing.
            where: Whether to add ``maps``: attributions within each stream (``evaluation.attribution.Map``), for at most
                ``MAX_MAP_ROWS`` rows.
            about: Of a single row, the box, region or point to explain: its number among the ``subjects`` of an
                explanation without it, or ``target:number``.
        """
        if where and len(rows) > MAX_MAP_ROWS:
            raise RequestError(
                422, f"maps of {len(rows)} rows are too many", fix=f"request maps of at most {MAX_MAP_ROWS} rows"
            )

        def explained(samples: list[Sample]) -> dict[str, Any]:
            batches = [self.predictor.batch(samples)] if samples else []
            try:
                explanation = explain(self.predictor.model, batches, about=about).to_json()
            except ConfigError as error:  # there is no such box, region or point
                fix = None if error.fix is None else error.fix.replace("--about ", "about=")
                raise RequestError(422, error.problem, fix=fix) from None
            if where:
                explanation["maps"] = [item for i, one in enumerate(samples, 1) for item in self._maps(one, i, about)]
            return explanation

        return await self.compute(rows, lenient, explained)

    async def embed(self, rows: Sequence[Record], stream: str | None, *, lenient: bool = False) -> list[list[float]]:
        """Return the embedding of each row.

        Args:
            rows: The rows to embed.
            stream: The stream whose vectors before fusion are returned; None: the joint vectors.
            lenient: Whether unreadable cells count as missing.
        """
        streams = self.predictor.model.streams
        if stream is not None and stream not in streams:
            raise RequestError(422, f"no stream named {stream[:80]!r}{nearest(stream, streams)}")
        vectors: list[list[float]] = await self.compute(
            rows, lenient, lambda samples: self.predictor.vectors(samples, stream).tolist() if samples else []
        )
        return vectors

    async def weigh(self, row: Record, task: str, choices: Sequence[str]) -> dict[str, float]:
        """Return the probability of each of ``choices`` as the answer of ``task`` to ``row``, most probable first."""
        return await self.compute([row], False, lambda samples: weigh_answers(self.predictor, samples[0], task, choices))

    async def speak(self, row: Record, wish: Wish) -> AsyncIterator[str | bool]:
        """Yield the answer to ``row`` of the task that converses, piece by piece, generated as ``wish`` says, and in the
        end whether it ended by itself. Whoever stops listening stops the generation."""
        if self._chat is None:
            raise RequestError(422, f"the model {self.name} does not converse")
        with self._reserve(1):
            async with self._timeout():
                decoded: Future[Decoded] = Future()
                decoding = DecodingJob(self.encode, [row], False, self._decoding_time)
                self._decode(decoding, decoded, decoded.set_result, beside=True)
                samples, _ = await asyncio.wrap_future(decoded)
            listener = self._chat.submit(samples[0], wish)
            try:
                while True:
                    async with self._timeout():
                        item = await listener.pieces.get()
                    if isinstance(item, ConfigError):
                        raise RequestError(422, item.problem, fix=item.fix)
                    if isinstance(item, Exception):
                        raise item
                    yield item
                    if isinstance(item, bool):
                        return
            finally:
                listener.leave()

    def close(self) -> None:
        """Finish the requests in progress, then stop the threads."""
        self.batcher.close()
        self._decoders.shutdown()
        self._large.shutdown()
        self._huge.shutdown()
        self._explaining.shutdown()
        if self._chat is not None:
            self._chat.close()

    # ── decoding and forward passes ────────────────────────────────────────────────────────────────────────────────

    def encode(self, row: Record, number: int = 1) -> tuple[Sample, list[Problem]]:
        """Return ``row``, the ``number``-th of its request, as arrays, and the problems of its cells."""
        problems: list[Problem] = []
        return self.schema.encode(row, media=self.media, row=number, problems=problems, strange=True), problems

    def _decode(
        self, decoding: DecodingJob, answer: Future[Any], done: Callable[[Any], Any], *, beside: bool = False
    ) -> None:
        """Decode a request where it delays no other, by the sizes in its headers, and pass the result to ``done``.

        Small requests are decoded on the thread of the model, unless ``beside`` is set or recent rows were slow.
        """
        if self._budget.is_cheap(decoding.rows):
            cost = self._budget.measure(decoding.rows)
            if not cost.light:
                self._decode_large(decoding, cost, answer, done)
            elif beside or self._decoding_time.is_slow:
                decoding.start(self._decoders, answer, done)
            else:
                done(decoding)
            return

        def measure_and_decode() -> None:
            if answer.cancelled():
                return
            try:
                self._decode_large(decoding, self._budget.measure(decoding.rows), answer, done)
            except Exception as error:  # set on the future, since nobody sees an exception of a thread
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(error)

        self._large.submit(measure_and_decode)

    def _decode_large(
        self, decoding: DecodingJob, cost: DecodingCost, answer: Future[Any], done: Callable[[Any], Any]
    ) -> None:
        decoding.time = None  # the time of large rows says nothing about small ones
        decoding.start(self._huge if cost.huge else self._large, answer, done)
        if cost.huge:
            self._huge.submit(release_memory)

    def _maps(self, sample: Sample, number: int, about: str | None) -> list[dict[str, Any]]:
        stored = self.schema.collate([sample]).to(self.predictor.device)
        prepared = self.schema.prepare(stored)
        attributions = maps(self.predictor.model, self.schema, prepared, row=number, stored=stored, about=about)
        # The HTML has inline styles, which the content security policy of the page forbids.
        return [{key: value for key, value in item.to_json().items() if key != "html"} for item in attributions]

    def _answer(self, works: Sequence[Work]) -> list[list[Prediction] | RequestError]:
        decoded = [_decoded(work) for work in works]
        if not self.merge:
            return [item if isinstance(item, RequestError) else self._answer_alone(*item) for item in decoded]
        valid = [item for item in decoded if not isinstance(item, RequestError)]
        samples = [sample for request_samples, _ in valid for sample in request_samples]
        try:
            answers = iter(
                self._passes(samples, [problems for _, request_problems in valid for problems in request_problems])
            )
        except AnswerError:  # caused by one request: run each of them alone
            return [item if isinstance(item, RequestError) else self._answer_alone(*item) for item in decoded]
        return [item if isinstance(item, RequestError) else [next(answers) for _ in item[0]] for item in decoded]

    def _answer_alone(self, samples: list[Sample], problems: list[list[Problem]]) -> list[Prediction] | RequestError:
        try:
            return self._passes(samples, problems)
        except AnswerError as error:
            return RequestError(422, error.problem, row=error.row, fix=error.fix)

    def _passes(self, samples: list[Sample], problems: list[list[Problem]]) -> list[Prediction]:
        least, predictions, done = self.invariance.least, list[Prediction](), 0
        for size in [CHUNK] * -(-len(samples) // CHUNK) if least is None else self.invariance.passes(len(samples)):
            predictions += self.predictor.answer(samples[done : done + size], problems[done : done + size], least, done + 1)
            done += size
        return predictions

    async def compute(self, rows: Sequence[Record], lenient: bool, function: Callable[[list[Sample]], T]) -> T:
        """Return ``function`` of the decoded ``rows``, which count in the queue; it runs on a thread beside predictions.

        Args:
            rows: The rows to decode.
            lenient: Whether unreadable cells count as missing.
            function: Is called with the decoded rows.
        """
        with self._reserve(len(rows)):
            async with self._timeout():
                decoded: Future[Decoded] = Future()
                decoding = DecodingJob(self.encode, rows, lenient, self._decoding_time)
                self._decode(decoding, decoded, decoded.set_result, beside=True)
                samples, _ = await asyncio.wrap_future(decoded)
                return await asyncio.get_running_loop().run_in_executor(self._explaining, function, samples)

    @contextmanager
    def _reserve(self, rows: int) -> Iterator[Any]:
        try:
            with self.batcher.admit(rows) as reservation:
                yield reservation
        except FullError:
            problem = f"the server is busy: {self.limits.queue} rows are in progress"
            raise RequestError(503, problem, fix="try again in a moment", headers=RETRY_AFTER) from None
        except ClosedError:
            raise RequestError(503, "the server is shutting down", headers=RETRY_AFTER) from None
        except TimeoutError:
            problem = f"no answer within {self.limits.seconds:g} seconds"
            raise RequestError(503, problem, fix="try again later, or send fewer rows", headers=RETRY_AFTER) from None

    def _timeout(self) -> asyncio.Timeout:
        return asyncio.timeout(self.limits.seconds)

    # ── description of inputs ───────────────────────────────────────────────────────────────────────────────────────

    def describe(self) -> dict[str, Any]:
        """Describe the model for clients: columns and their input widgets, streams, targets and limits."""
        return {
            "model": self.name,
            "converses": self._chat is not None,
            "columns": [
                {
                    "name": name,
                    "kind": column.spec["kind"],
                    "widget": column.reader.widget,
                    "media": column.reader.media,
                    "several": column.reader.several,
                    "stream": next((s for s, columns in self.schema.streams.items() if column in columns), None),
                    "limits": {n: b for n, b in self._bounds(column).items() if b < float("inf")},
                    **_widget_options(column.reader),
                }
                for name, column in self.columns.items()
            ],
            "streams": {s: [column.name for column in columns] for s, columns in self.schema.streams.items()},
            "targets": [
                {
                    "name": name,
                    "kind": "+".join(map(self._kind, task.goal.targets)) or kind_of(task.plain),
                    "task": kind_of(task.plain),
                    "classes": list(task.labels),
                    **({"on": on} if task.spans and (on := next(iter(task.goal.lies_on.values()), "")) else {}),
                }
                for name, task in self.predictor.model.tasks.items()
            ],
            "live": [c.name for c in self.schema.inputs if c.of is None and c.spec["kind"] in KINDS],
            "exact": not self.merge or self.invariance.least is not None,
            "limits": {name: getattr(self.limits, name) for name in _LIMITS},
        }

    def _bounds(self, column: Column) -> dict[str, float]:
        return {**column.reader.bounds, **self.limits.below(column.reader.bounds)}

    def _kind(self, column: str) -> str:
        return str(self.schema.columns[column].spec["kind"])

    def is_ignored(self, name: str) -> bool:
        """Return whether ``name`` is a column of the training table that is not an input: its target, for example."""
        return name in self.schema.columns and name not in self.columns


def _decoded(work: Work) -> Decoded | RequestError:
    if not isinstance(work, DecodingJob):
        return work
    try:
        return work.run()
    except RequestError as error:  # fails only this request
        return error


_DRAWABLE = ("channels", "length", "mean", "deviation")
"""The state of a series that the page needs to let users draw it."""


def _widget_options(modality: Modality) -> dict[str, Any]:
    if modality.widget == "choice":
        return {"choices": list(modality.state.get("values", []))}
    drawable = (
        set(_DRAWABLE) <= set(modality.state) and getattr(modality, "rate", None) is None
    )  # with a rate, time would come first
    return {key: modality.state[key] for key in _DRAWABLE} if drawable else {}


def find_model(models: dict[str, ModelService], name: str | None) -> ModelService:
    """Return the model ``name`` of ``models``; the first if ``name`` is None. Raises ``RequestError`` if there is none."""
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise RequestError(404, f"no model named {name[:80]!r}{nearest(name, models)}")
    return models[name]


def check_model_name(name: str) -> str:
    """Return ``name`` if it can be part of a URL, or raise ``ConfigError``."""
    if not name or not all(mark.isalnum() or mark in "-_." for mark in name):
        raise ConfigError(
            f"the model name {name!r} cannot be part of a URL", fix="give it a name of letters and digits: name=folder"
        )
    return name
