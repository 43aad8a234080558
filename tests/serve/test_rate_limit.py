"""Rate limit per client address."""

from __future__ import annotations

from typing import Any

from sensorium.serve.limits import Limits
from sensorium.serve.rate_limit import RateLimiter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rate_and_burst_of_one_client() -> None:
    clock = Clock()
    rate = RateLimiter(5.0, clock=clock)
    assert [rate.wait("10.0.0.1") for _ in range(10)] == [0.0] * 10  # two seconds' worth at once
    assert rate.wait("10.0.0.1") == 0.2
    assert rate.wait("10.0.0.2") == 0.0
    allowed = 0
    for _ in range(1000):  # ten seconds of asking a hundred times a second
        clock.now += 0.01
        allowed += rate.wait("10.0.0.1") == 0.0
    assert 49 <= allowed <= 51
    clock.now += 1000
    assert sum(rate.wait("10.0.0.1") == 0.0 for _ in range(100)) == 10


def test_rate_below_one_per_second() -> None:
    clock = Clock()
    rate = RateLimiter(0.1, clock=clock)
    assert rate.wait("a") == 0.0
    assert rate.wait("a") == 10.0
    clock.now = 10.0
    assert rate.wait("a") == 0.0


def test_ipv6_network_is_one_client_and_memory_is_bounded() -> None:
    rate = RateLimiter(1.0, most=3, clock=Clock())
    assert [rate.wait(f"2001:db8::{i}") for i in (1, 2, 3)] == [0.0, 0.0, 1.0]
    for i in range(100):
        rate.wait(f"10.0.0.{i}")
    assert len(rate._left) == 3
    assert rate.wait("2001:db8::1") == 0.0  # forgotten


def test_server_answers_429(make_client: Any) -> None:
    client = make_client(limits=Limits(rate=0.5))
    assert client.post("/predict", json={"row": {}}).status_code == 200
    answer = client.post("/predict", json={"row": {}})
    assert answer.status_code == 429
    assert answer.json()["error"]["problem"] == "more than 0.5 requests per second from your address"
    assert answer.headers["retry-after"] in ("1", "2")
    assert client.get("/healthz").status_code == 200
