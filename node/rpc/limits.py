"""How much one network address may ask for: calls and bytes a second, with a burst; loopback is exempt."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from node.rpc.errors import Limited

ADDRESSES_MAX = 10_000
"""Addresses remembered; the one idle for longest is forgotten, and begins anew with a full bucket."""
BURST_SECONDS = 5


def is_loopback(host: str) -> bool:
    """Whether *host* is an address of this machine's loopback interface."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@dataclass(slots=True)
class _Bucket:
    calls: float
    bytes: float
    at: float


class AddressLimits:
    """Two token buckets for each address. Takes what a request costs, or refuses it whole."""

    def __init__(self, *, calls_per_second: int, bytes_per_second: int, clock: Callable[[], float]) -> None:
        self._calls_per_second = calls_per_second
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, host: str, *, calls: int, size: int) -> None:
        """*calls* and *size* bytes are charged to *host*. Raises Limited, with nothing charged, if too few are left."""
        if is_loopback(host):
            return
        bucket = self._refilled(host)
        if bucket.calls < calls or bucket.bytes < size:
            missing = max(
                (calls - bucket.calls) / self._calls_per_second, (size - bucket.bytes) / self._bytes_per_second
            )
            raise Limited(
                f"too many calls or bytes from this address; try again in {missing:.1f} s",
                retry_after_ms=int(missing * 1000) + 1,
            )
        bucket.calls -= calls
        bucket.bytes -= size

    def _refilled(self, host: str) -> _Bucket:
        now = self._clock()
        calls_max, bytes_max = self._calls_per_second * BURST_SECONDS, self._bytes_per_second * BURST_SECONDS
        bucket = self._buckets.get(host)
        if bucket is None:
            bucket = self._buckets[host] = _Bucket(calls_max, bytes_max, now)
            if len(self._buckets) > ADDRESSES_MAX:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(host)
        passed = now - bucket.at
        bucket.calls = min(calls_max, bucket.calls + passed * self._calls_per_second)
        bucket.bytes = min(bytes_max, bucket.bytes + passed * self._bytes_per_second)
        bucket.at = now
        return bucket
