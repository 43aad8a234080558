"""Requests that take long to decode: in threads, to the end, or to a clear no."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from sensorium.core.schema import Problem
from sensorium.serve.decoding import FEW, LONG, Decoding, Pace
from sensorium.serve.http_errors import RefusedError


def encode(row: Any, number: int) -> Any:
    if row == "poison":
        raise ValueError("poison")
    return {"x": row}, [Problem(number, "x", None, "bad")] if row == "bad" else []


@pytest.mark.parametrize("count", [0, 1, FEW, 3 * FEW + 1])
def test_rows_keep_their_order(count: int) -> None:
    rows: list[Any] = list(range(count))
    with ThreadPoolExecutor(3) as threads:
        answer: Future[Any] = Future()
        Decoding(encode, rows, False, Pace()).start(threads, answer, answer.set_result)
        samples, problems = answer.result(5)
    assert samples == [{"x": row} for row in rows]
    assert problems == [[] for _ in rows]
    assert Decoding(encode, rows, False, Pace()).now() == (samples, problems)


def test_bad_cells_and_errors_end_in_the_answer() -> None:
    with ThreadPoolExecutor(2) as threads:
        for rows, wrong in ((["bad", *range(20)], RefusedError), ([*range(20), "poison"], ValueError)):
            answer: Future[Any] = Future()
            Decoding(encode, rows, False, Pace()).start(threads, answer, answer.set_result)  # type: ignore[arg-type]
            with pytest.raises(wrong):
                answer.result(5)
        given_up: Future[Any] = Future()
        given_up.cancel()
        Decoding(encode, [1], False, Pace()).start(threads, given_up, given_up.set_result)  # type: ignore[list-item]
    samples, problems = Decoding(encode, ["bad"], True, Pace()).now()  # type: ignore[list-item]
    assert samples == [{"x": "bad"}]
    assert problems[0][0].problem == "bad"


def test_the_pace_follows_what_comes() -> None:
    pace = Pace()
    assert not pace.long
    for _ in range(60):
        pace.add(8 * 2 * LONG, 8)
    assert pace.long
    for _ in range(60):
        pace.add(0.1 * LONG, 1)
    assert not pace.long


def test_large_rows_are_decoded_beside_the_model(make_client: Any, cells: Any, predictor: Any) -> None:
    """The same answers, bit for bit, and the same refusals."""
    client = make_client()
    served = client.app.state.served["house"]
    want = [one.to_json() for one in predictor.predict(cells, steady=True)]
    rows = [{n: c for n, c in row.items() if not isinstance(c, bytes)} for row in cells]
    plain = [one.to_json() for one in predictor.predict(rows, steady=True)]
    for seconds in (0.0, 1e6):
        served._pace.seconds = seconds
        assert client.post("/predict", json={"rows": rows}).json()["predictions"] == plain
        files = {name: cell if isinstance(cell, bytes) else (None, cell) for name, cell in cells[0].items()}
        assert client.post("/predict", files=files).json() == want[0]
        answer = client.post("/predict", json={"rows": [{}, {"temperature": "warm"}]})
        assert (answer.status_code, answer.json()["error"]["row"]) == (422, 2)
    assert served.batcher.load == 0


def test_what_is_given_up_while_it_is_decoded_leaves_no_trace() -> None:
    from sensorium.serve.batching import Batcher

    go = Event()
    batcher: Batcher[Any, Any] = Batcher(lambda works: list(works), rows=4, wait=5.0, queue=4)
    with ThreadPoolExecutor(1) as threads:
        answer: Future[Any] = Future()
        with batcher.admit(1) as place:
            decoding = Decoding(lambda row, number: (go.wait(5), encode(row, number))[1], [1], False, Pace())  # type: ignore[list-item]
            decoding.start(threads, answer, lambda decoded: place.submit(decoded, answer))
        go.set()
    assert answer.cancelled()
    with batcher.admit(1) as other:
        assert other.submit("next").result(1) == "next"  # nobody is waited for
    batcher.close()
