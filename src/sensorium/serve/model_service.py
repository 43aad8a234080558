"""One model in a server: its queue, its decoding threads, and what it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, get_args

from sensorium.core.errors import AnswerError, ConfigError, nearest
from sensorium.core.modality import Modality
from sensorium.core.registry import kind_of
from sensorium.core.schema import Column, Problem, Record, Sample
from sensorium.data.files.media_access import Uploads
from sensorium.evaluation.attribution import where as maps
from sensorium.evaluation.stream_attribution import explain
from sensorium.predictor import Prediction, Predictor
from sensorium.serve.batch_invariance import UNSTEADY, steadiness
from sensorium.serve.batching import Batcher, ClosedError, FullError
from sensorium.serve.decoding import Decoded, Decoding, Pace
from sensorium.serve.http_errors import AGAIN, RefusedError
from sensorium.serve.limits import Limits
from sensorium.serve.memory import give_back
from sensorium.serve.request_budget import Scales, Weight
from sensorium.streaming.stream_session import KINDS

T = TypeVar("T")
Work = Decoded | Decoding
Merge = Literal["auto", "always", "never"]
MERGES: tuple[str, ...] = get_args(Merge)
MAPPED = 4
"""Rows of a request that may have maps: each costs hundreds of passes."""
_LIMITS = (
    *("body", "file", "text", "values", "rows", "parts", "seconds"),
    *("request_pixels", "request_samples", "request_tokens"),
)
CHUNK = 64
"""Rows of one pass of a request alone: those of ``Predictor.predict``, so that its answers are the same bit for bit."""


class Served:
    """A model that answers many clients at once. No row can name a file: media are bytes, arrays or lists.

    Args:
        merge: Whether requests that wait together are answered in one pass, which is several times the throughput.
            ``auto``: where that changes no bit of an answer (``steady``), which is then that of ``Predictor.predict`` with
            ``steady``; else as ``never``. ``never``: each request has a pass of its own, and its answers are those of
            ``Predictor.predict`` without it. ``always``: without a look at bits.
        batch: Rows answered together, at most.
        wait: Seconds that a request may be held back for company, where requests are merged.
        decoders: Threads that decode cells.
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
        seen: Callable[[str, int, float], None] | None = None,
    ) -> None:
        if merge not in MERGES:
            raise ConfigError(f"merge is {' or '.join(MERGES)}, not {merge!r}")
        self.name, self.predictor, self.limits = name, predictor, limits
        self.steady = steadiness(predictor, batch) if merge == "auto" else UNSTEADY
        self.merge = merge == "always" or self.steady.least is not None
        self.media = Uploads(max_bytes=limits.file)
        self.schema = predictor.schema
        self.asked: dict[str, Column] = {}
        for column in self.schema.read:
            self.asked.setdefault(column.source, column)
        self._scales = Scales(self.schema, limits, self.media)
        self._pace = Pace()
        self.batcher: Batcher[Work, list[Prediction]] = Batcher(
            self._answer,
            rows=batch,
            wait=wait if self.merge else 0.0,
            queue=limits.queue,
            seen=None if seen is None else lambda rows, seconds: seen(name, rows, seconds),
        )
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
        # Large ones have threads of their own, so that small ones never wait for them; and huge ones come one after the
        # other: half a gigabyte may be taken while one is decoded.
        self._large = ThreadPoolExecutor(decoders, thread_name_prefix="decode-large")
        self._huge = ThreadPoolExecutor(1, thread_name_prefix="decode-huge")
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="explain")

    # ── what it answers ────────────────────────────────────────────────────────────────────────────────────────────

    async def predict(self, rows: Sequence[Record], *, lenient: bool = False) -> list[Prediction]:
        """A prediction a row. Raises ``RefusedError`` for a cell that cannot be used; where ``lenient``, it is missing."""
        with self._room(len(rows)) as place:
            async with self._clock():
                answer: Future[list[Prediction]] = Future()
                self._decode(
                    Decoding(self.encode, rows, lenient, self._pace), answer, lambda work: place.submit(work, answer)
                )
                return await asyncio.wrap_future(answer)

    async def explain(self, rows: Sequence[Record], *, lenient: bool = False, where: bool = False) -> dict[str, Any]:
        """What each stream did to each answer: ``evaluation.stream_attribution.Explanation`` as plain data.

        ``where``: with ``maps``, where in each stream it comes from (``evaluation.attribution.Map``), for a few rows.
        """
        if where and len(rows) > MAPPED:
            raise RefusedError(422, f"maps of {len(rows)} rows", fix=f"ask for those of at most {MAPPED}")

        def found(samples: list[Sample]) -> dict[str, Any]:
            batches = [self.predictor.batch(samples)] if samples else []
            told = explain(self.predictor.model, batches).to_json()
            if where:
                told["maps"] = [one for i, sample in enumerate(samples, 1) for one in self._maps(sample, i)]
            return told

        return await self._beside(rows, lenient, found)

    async def embed(self, rows: Sequence[Record], stream: str | None, *, lenient: bool = False) -> list[list[float]]:
        """The joint vector of each row, or one stream's before fusion."""
        streams = self.predictor.model.streams
        if stream is not None and stream not in streams:
            raise RefusedError(422, f"no stream named {stream[:80]!r}{nearest(stream, streams)}")
        vectors: list[list[float]] = await self._beside(
            rows, lenient, lambda samples: self.predictor.vectors(samples, stream).tolist() if samples else []
        )
        return vectors

    def close(self) -> None:
        """Finish what is inside, then stop."""
        self.batcher.close()
        self._decoders.shutdown()
        self._large.shutdown()
        self._huge.shutdown()
        self._aside.shutdown()

    # ── how ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def encode(self, row: Record, number: int = 1) -> tuple[Sample, list[Problem]]:
        """One row as arrays, and what was wrong with its cells."""
        problems: list[Problem] = []
        return self.schema.encode(row, media=self.media, row=number, problems=problems, strange=True), problems

    def _decode(self, decoding: Decoding, answer: Future[Any], done: Callable[[Any], Any], *, beside: bool = False) -> None:
        """Have a request decoded where it holds nobody up, by what its headers say; ``done`` is given what came of it.

        What is light goes to the model's thread as it is, unless ``beside`` it is asked for or rows take long of late.
        """
        if self._scales.quick(decoding.rows):
            weight = self._scales.weigh(decoding.rows)
            if not weight.light:
                self._apart(decoding, weight, answer, done)
            elif beside or self._pace.long:
                decoding.start(self._decoders, answer, done)
            else:
                done(decoding)
            return

        def weighed() -> None:
            if answer.cancelled():
                return
            try:
                self._apart(decoding, self._scales.weigh(decoding.rows), answer, done)
            except Exception as error:  # told to the one who waits: nobody looks into a thread
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(error)

        self._large.submit(weighed)

    def _apart(self, decoding: Decoding, weight: Weight, answer: Future[Any], done: Callable[[Any], Any]) -> None:
        decoding.pace = None  # it says nothing of small ones
        decoding.start(self._huge if weight.huge else self._large, answer, done)
        if weight.huge:
            self._huge.submit(give_back)

    def _maps(self, sample: Sample, number: int) -> list[dict[str, Any]]:
        stored = self.schema.collate([sample]).to(self.predictor.device)
        found = maps(self.predictor.model, self.schema, self.schema.prepare(stored), row=number, stored=stored)
        # Its HTML has styles of its own, which a page with a strict policy does not take.
        return [{key: value for key, value in one.to_json().items() if key != "html"} for one in found]

    def _answer(self, works: Sequence[Work]) -> list[list[Prediction] | RefusedError]:
        decoded = [_decoded(work) for work in works]
        if not self.merge:
            return [one if isinstance(one, RefusedError) else self._alone(*one) for one in decoded]
        whole = [one for one in decoded if not isinstance(one, RefusedError)]
        samples = [sample for some, _ in whole for sample in some]
        try:
            answers = iter(self._passes(samples, [found for _, some in whole for found in some]))
        except AnswerError:  # of one request: each by itself
            return [one if isinstance(one, RefusedError) else self._alone(*one) for one in decoded]
        return [one if isinstance(one, RefusedError) else [next(answers) for _ in one[0]] for one in decoded]

    def _alone(self, samples: list[Sample], problems: list[list[Problem]]) -> list[Prediction] | RefusedError:
        try:
            return self._passes(samples, problems)
        except AnswerError as error:
            return RefusedError(422, error.problem, row=error.row, fix=error.fix)

    def _passes(self, samples: list[Sample], problems: list[list[Problem]]) -> list[Prediction]:
        least, found, done = self.steady.least, list[Prediction](), 0
        for size in [CHUNK] * -(-len(samples) // CHUNK) if least is None else self.steady.passes(len(samples)):
            found += self.predictor.answer(samples[done : done + size], problems[done : done + size], least, done + 1)
            done += size
        return found

    async def _beside(self, rows: Sequence[Record], lenient: bool, what: Callable[[list[Sample]], T]) -> T:
        """Something else than a prediction: it counts in the queue, and has a thread of its own."""
        with self._room(len(rows)):
            async with self._clock():
                decoded: Future[Decoded] = Future()
                decoding = Decoding(self.encode, rows, lenient, self._pace)
                self._decode(decoding, decoded, decoded.set_result, beside=True)
                samples, _ = await asyncio.wrap_future(decoded)
                return await asyncio.get_running_loop().run_in_executor(self._aside, what, samples)

    @contextmanager
    def _room(self, rows: int) -> Iterator[Any]:
        try:
            with self.batcher.admit(rows) as place:
                yield place
        except FullError:
            problem = f"{self.limits.queue} rows are being answered already"
            raise RefusedError(503, problem, fix="come again in a moment", headers=AGAIN) from None
        except ClosedError:
            raise RefusedError(503, "the server is going down", headers=AGAIN) from None
        except TimeoutError:
            problem = f"no answer within {self.limits.seconds:g} seconds"
            raise RefusedError(503, problem, fix="come again later, or send fewer rows", headers=AGAIN) from None

    def _clock(self) -> asyncio.Timeout:
        return asyncio.timeout(self.limits.seconds)

    # ── what it asks for ───────────────────────────────────────────────────────────────────────────────────────────

    def form(self) -> dict[str, Any]:
        """What a client needs to know to ask: the columns and how each is filled in, the targets, the limits."""
        return {
            "model": self.name,
            "columns": [
                {
                    "name": name,
                    "kind": column.spec["kind"],
                    "widget": column.reader.widget,
                    "media": column.reader.media,
                    "several": column.reader.several,
                    "stream": next((s for s, columns in self.schema.streams.items() if column in columns), None),
                    "limits": {n: b for n, b in self._bounds(column).items() if b < float("inf")},
                    **_more(column.reader),
                }
                for name, column in self.asked.items()
            ],
            "streams": {s: [column.name for column in columns] for s, columns in self.schema.streams.items()},
            "targets": [
                {
                    "name": name,
                    "kind": "+".join(map(self._kind, task.goal.targets)) or kind_of(task.plain),
                    "task": kind_of(task.plain),
                    "classes": list(task.labels),
                }
                for name, task in self.predictor.model.tasks.items()
            ],
            "live": [c.name for c in self.schema.inputs if c.of is None and c.spec["kind"] in KINDS],
            "exact": not self.merge or self.steady.least is not None,
            "limits": {name: getattr(self.limits, name) for name in _LIMITS},
        }

    def _bounds(self, column: Column) -> dict[str, float]:
        return {**column.reader.bounds, **self.limits.below(column.reader.bounds)}

    def _kind(self, column: str) -> str:
        return str(self.schema.columns[column].spec["kind"])

    def ignored(self, name: str) -> bool:
        """Whether the table had such a column that the model does not read: its target, say."""
        return name in self.schema.columns and name not in self.asked


def _decoded(work: Work) -> Decoded | RefusedError:
    if not isinstance(work, Decoding):
        return work
    try:
        return work.now()
    except RefusedError as refused:  # of this request alone
        return refused


_DRAWN = ("channels", "length", "mean", "deviation")
"""What a page must know of a series to have it drawn by hand."""


def _more(modality: Modality) -> dict[str, Any]:
    if modality.widget == "choice":
        return {"choices": list(modality.state.get("values", []))}
    drawn = set(_DRAWN) <= set(modality.state) and getattr(modality, "rate", None) is None  # else time comes first
    return {key: modality.state[key] for key in _DRAWN} if drawn else {}


def named(models: dict[str, Served], name: str | None) -> Served:
    """The model that a request names; the first where it names none."""
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise RefusedError(404, f"no model named {name[:80]!r}{nearest(name, models)}")
    return models[name]


def check_name(name: str) -> str:
    """A model's name stands in addresses."""
    if not name or not all(mark.isalnum() or mark in "-_." for mark in name):
        raise ConfigError(f"{name!r} cannot stand in an address", fix="give it one of letters and digits: name=folder")
    return name
