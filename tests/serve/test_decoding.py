"""DecodingJob of slow requests in threads."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from sensorium.core.schema import Problem
from sensorium.serve.decoding import CHUNK_ROWS, SLOW_SECONDS, DecodingJob, DecodingTime
from sensorium.serve.http_errors import RequestError


def encode(row: Any, number: int) -> Any:
    if row == "poison":
        raise ValueError("poison")
    return {"x": row}, [Problem(number, "x", None, "bad")] if row == "bad" else []


@pytest.mark.parametrize("count", [0, 1, CHUNK_ROWS, 3 * CHUNK_ROWS + 1])
def test_rows_keep_their_order(count: int) -> None:
    rows: list[Any] = list(range(count))
    with ThreadPoolExecutor(3) as threads:
        answer: Future[Any] = Future()
        DecodingJob(encode, rows, False, DecodingTime()).start(threads, answer, answer.set_result)
        samples, problems = answer.result(5)
    assert samples == [{"x": row} for row in rows]
    assert problems == [[] for _ in rows]
    assert DecodingJob(encode, rows, False, DecodingTime()).run() == (samples, problems)


def test_bad_cells_and_errors_are_set_on_the_future() -> None:
    with ThreadPoolExecutor(2) as threads:
        for rows, wrong in ((["bad", *range(20)], RequestError), ([*range(20), "poison"], ValueError)):
            answer: Future[Any] = Future()
            DecodingJob(encode, rows, False, DecodingTime()).start(threads, answer, answer.set_result)  # type: ignore[arg-type]
            with pytest.raises(wrong):
                answer.result(5)
        cancelled: Future[Any] = Future()
        cancelled.cancel()
        DecodingJob(encode, [1], False, DecodingTime()).start(threads, cancelled, cancelled.set_result)  # type: ignore[list-item]
    samples, problems = DecodingJob(encode, ["bad"], True, DecodingTime()).run()  # type: ignore[list-item]
    assert samples == [{"x": "bad"}]
    assert problems[0][0].problem == "bad"


def test_decoding_time_is_a_moving_average() -> None:
    time = DecodingTime()
    assert not time.is_slow
    for _ in range(60):
        time.add(8 * 2 * SLOW_SECONDS, 8)
    assert time.is_slow
    for _ in range(60):
        time.add(0.1 * SLOW_SECONDS, 1)
    assert not time.is_slow


def test_slow_rows_are_decoded_in_threads_bit_identically(make_client: Any, cells: Any, predictor: Any) -> None:
    """Predictions are bit-identical and errors the same."""
    client = make_client()
    service = client.app.state.services["house"]
    want = [prediction.to_json() for prediction in predictor.predict(cells, batch_invariant=True)]
    rows = [{n: c for n, c in row.items() if not isinstance(c, bytes)} for row in cells]
    plain = [prediction.to_json() for prediction in predictor.predict(rows, batch_invariant=True)]
    for seconds in (0.0, 1e6):
        service._decoding_time.seconds = seconds
        assert client.post("/predict", json={"rows": rows}).json()["predictions"] == plain
        files = {name: cell if isinstance(cell, bytes) else (None, cell) for name, cell in cells[0].items()}
        assert client.post("/predict", files=files).json() == want[0]
        answer = client.post("/predict", json={"rows": [{}, {"temperature": "warm"}]})
        assert (answer.status_code, answer.json()["error"]["row"]) == (422, 2)
    assert service.batcher.load == 0


def test_cancelled_decoding_leaves_nothing_in_the_queue() -> None:
    from sensorium.serve.batching import Batcher

    go = Event()
    batcher: Batcher[Any, Any] = Batcher(lambda works: list(works), rows=4, wait=5.0, queue=4)
    with ThreadPoolExecutor(1) as threads:
        answer: Future[Any] = Future()
        with batcher.admit(1) as reservation:
            decoding = DecodingJob(lambda row, number: (go.wait(5), encode(row, number))[1], [1], False, DecodingTime())  # type: ignore[list-item]
            decoding.start(threads, answer, lambda decoded: reservation.submit(decoded, answer))
        go.set()
    assert answer.cancelled()
    with batcher.admit(1) as other:
        assert other.submit("next").result(1) == "next"  # without waiting for the cancelled request
    batcher.close()
