"""Who may knock: connections by host and network, how often, and the handshakes under way, all within bounds."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from p2p.address import host_key, is_loopback, network_group
from p2p.limits import Limits

REMEMBERED_MAX = 4_096
"""Hosts and networks whose rate is remembered; the longest unheard of is forgotten first."""


class Allowances:
    """How often each of many may come: *burst* at once, *per_second* in the long run."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Key → (what is left, as of when)."""

    def take(self, key: str, now: float) -> bool:
        """Whether *key* may come now, which then counts."""
        left, at = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        allowed = left >= 1
        self._left[key] = (left - 1 if allowed else left, now)
        if len(self._left) > REMEMBERED_MAX:
            self._left.popitem(last=False)
        return allowed


class Doorway:
    """Inbound connections before they are peers, and how many a host has afterwards."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._per_host: Counter[str] = Counter()
        self._by_host = Allowances(limits.connections_per_host_per_second, limits.connections_per_host_burst)
        self._by_group = Allowances(limits.connections_per_group_per_second, limits.connections_per_group_burst)
        self._handshakes: dict[trio.CancelScope, str] = {}
        """The handshakes under way with their network, the oldest first."""
        self.refused: Counter[str] = Counter()
        """Connections and handshakes that came to nothing since the start, by stable reason."""

    @property
    def handshakes(self) -> int:
        """How many inbound handshakes are under way."""
        return len(self._handshakes)

    def admits(self, host: str, now: float) -> bool:
        """Whether one more connection from *host* is looked at; counted as refused if not."""
        why = "" if self._limits.exempt_loopback and is_loopback(host) else self._refusal(host, now)
        if why:
            self.refused[why] += 1
        return not why

    def _refusal(self, host: str, now: float) -> str:
        key = host_key(host)
        if self._per_host[key] >= self._limits.per_host_max:
            return "per_host_max"
        if not self._by_host.take(key, now):
            return "host_too_often"
        return "" if self._by_group.take(network_group(host), now) else "group_too_often"

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """A connection from *host* counts meanwhile."""
        key = host_key(host)
        self._per_host[key] += 1
        try:
            yield
        finally:
            self._per_host[key] -= 1
            if not self._per_host[key]:
                del self._per_host[key]

    @contextmanager
    def handshake(self, host: str) -> Iterator[None]:
        """One of the places for handshakes is taken meanwhile; if they run out, the block may end early."""
        if len(self._handshakes) >= self._limits.handshakes_max:
            self._give_way()
        scope = trio.CancelScope()
        self._handshakes[scope] = network_group(host)
        try:
            with scope:
                yield
        finally:
            self._handshakes.pop(scope, None)

    def _give_way(self) -> None:
        """The oldest handshake of the most crowded network ends: a flood from one network displaces itself."""
        crowd = Counter(self._handshakes.values())
        most = max(crowd.values())
        scope = next(scope for scope, group in self._handshakes.items() if crowd[group] == most)
        del self._handshakes[scope]
        self.refused["handshake_gave_way"] += 1
        scope.cancel()
