"""Rate limit per client address."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from time import monotonic


class RateLimiter:
    """A token bucket per client address: filled at ``rate`` per second, with a capacity of two seconds.

    Args:
        rate: Requests per second.
        most: Maximum number of addresses that are remembered; the least recent is forgotten first.
        clock: Returns the time in seconds.
    """

    def __init__(self, rate: float, *, most: int = 10_000, clock: Callable[[], float] = monotonic) -> None:
        self.rate, self.depth, self.most, self.clock = rate, max(2 * rate, 1.0), most, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Take a token of ``address``; return 0, or the seconds until one is available."""
        client, now = _client(address), self.clock()
        left, since = self._left.pop(client, (self.depth, now))
        left = min(self.depth, left + (now - since) * self.rate)
        allowed = left >= 1
        self._left[client] = (left - allowed, now)
        if len(self._left) > self.most:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self.rate


def _client(address: str) -> str:
    """Return the client of an address: of IPv6 the /64 network, since a client usually has all its addresses."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:80]
    return str(int(parsed) >> 64) if isinstance(parsed, IPv6Address) else address
