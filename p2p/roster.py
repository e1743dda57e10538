"""Who is connected, and who may be: one connection for a pair of peers, bounded numbers inbound and per host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType

from p2p.address import is_loopback
from p2p.limits import Limits
from p2p.peer import Peer


class Roster:
    """The connected peers by node id."""

    def __init__(self, own_id: bytes, persistent: Collection[bytes], limits: Limits) -> None:
        """*persistent*: node ids that are always welcome, beyond the bounds."""
        self._own_id = own_id
        self._persistent = frozenset(persistent)
        self._limits = limits
        self._peers: dict[bytes, Peer] = {}
        self._per_host: Counter[str] = Counter()
        self.view: Mapping[bytes, Peer] = MappingProxyType(self._peers)
        """The connected peers, read only."""

    def counted(self, *, outbound: bool) -> int:
        """Peers of one direction that count against the bounds."""
        return sum(peer.outbound == outbound and peer.id not in self._persistent for peer in self._peers.values())

    def is_persistent(self, node_id: bytes) -> bool:
        """Whether this node is always welcome."""
        return node_id in self._persistent

    def refusal(self, node_id: bytes, *, outbound: bool) -> str:
        """ "" if a connection with this node would be kept now, else the code of refusal."""
        rival = self._peers.get(node_id)
        if rival is not None:
            return "" if self._replaces(rival, outbound=outbound) else "handshake.duplicate"
        if node_id in self._persistent or outbound:
            return ""
        return "handshake.full" if self.counted(outbound=False) >= self._limits.inbound_max else ""

    async def enter(self, peer: Peer) -> bool:
        """Whether *peer* is the connection with its node now; a rival that it replaces has ended before."""
        while (rival := self._peers.get(peer.id)) is not None:
            if not self._replaces(rival, outbound=peer.outbound):
                return False
            rival.disconnect("replaced")
            await rival.ended.wait()
            self.leave(rival)
        if self.refusal(peer.id, outbound=peer.outbound):  # others may have come since the handshake
            return False
        self._peers[peer.id] = peer
        return True

    def leave(self, peer: Peer) -> None:
        """*peer* is no more connected; nothing happens if another connection has its place."""
        if self._peers.get(peer.id) is peer:
            del self._peers[peer.id]

    def host_has_room(self, host: str) -> bool:
        """Whether one more connection from *host* is allowed."""
        return is_loopback(host) or self._per_host[host] < self._limits.per_host_max

    def host_arrived(self, host: str) -> None:
        """A connection from *host* counts from now on."""
        self._per_host[host] += 1

    def host_left(self, host: str) -> None:
        """A connection from *host* counts no more."""
        self._per_host[host] -= 1
        if self._per_host[host] <= 0:
            del self._per_host[host]

    def _replaces(self, rival: Peer, *, outbound: bool) -> bool:
        """Of two in opposite directions, the one that the lower node id dialled stays; else the older one."""
        if rival.outbound == outbound:
            return False
        return outbound == (self._own_id < rival.id)
