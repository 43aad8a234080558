"""How often one client may ask."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from time import monotonic


class Rate:
    """A bucket of tokens a client address: filled at ``rate`` a second, two seconds' worth deep, one taken by a request.

    Args:
        rate: Requests a second.
        most: Addresses that are remembered; the one that asked longest ago is forgotten first, and may then ask anew.
        clock: Seconds.
    """

    def __init__(self, rate: float, *, most: int = 10_000, clock: Callable[[], float] = monotonic) -> None:
        self.rate, self.depth, self.most, self.clock = rate, max(2 * rate, 1.0), most, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Take a token; 0, or the seconds until there is one."""
        client, now = _client(address), self.clock()
        left, since = self._left.pop(client, (self.depth, now))
        left = min(self.depth, left + (now - since) * self.rate)
        allowed = left >= 1
        self._left[client] = (left - allowed, now)
        if len(self._left) > self.most:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self.rate


def _client(address: str) -> str:
    """An address as one client: of IPv6 the network, for whoever has one address there has all of it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:80]
    return str(int(parsed) >> 64) if isinstance(parsed, IPv6Address) else address
