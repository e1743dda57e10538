"""Who is connected, and who may be: one connection for a pair of peers, a bounded number inbound."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from p2p.address import network_group
from p2p.eviction import Candidate, to_evict
from p2p.limits import Limits
from p2p.named import NamedPeers
from p2p.peer import Peer


class Roster:
    """The connected peers by node id."""

    def __init__(
        self,
        own_id: bytes,
        limits: Limits,
        named: NamedPeers,
        *,
        secret: bytes,
    ) -> None:
        """*secret*: see `to_evict`."""
        self._own_id = own_id
        self._named = named
        self._limits = limits
        self._secret = secret
        self._peers: dict[bytes, Peer] = {}
        self.view: Mapping[bytes, Peer] = MappingProxyType(self._peers)
        """The connected peers, read only."""
        self.evicted = 0
        """Peers that gave way to a newcomer since the start."""

    def refusal(self, node_id: bytes, *, outbound: bool) -> str:
        """ "" if a connection with this node would be kept now, else the code of refusal."""
        rival = self._peers.get(node_id)
        if rival is not None:
            return "" if self._replaces(rival, outbound=outbound) else "handshake.duplicate"
        if outbound or self._named.is_welcome(node_id) or self._has_room() or self._to_evict() is not None:
            return ""
        return "handshake.full"

    async def enter(self, peer: Peer) -> bool:
        """Whether *peer* is the connection with its node now; a rival or who gave way to it has ended before."""
        while True:
            leaving, reason = self._peers.get(peer.id), "replaced"
            if leaving is not None:
                if not self._replaces(leaving, outbound=peer.outbound):
                    return False
            elif peer.outbound or self._named.is_welcome(peer.id) or self._has_room():
                break
            else:
                leaving, reason = self._to_evict(), "evicted"
                if leaving is None:  # others may have come since the handshake
                    return False
                self.evicted += not leaving.reason  # two newcomers may have chosen the same
            leaving.disconnect(reason)
            await leaving.ended.wait()
            self.leave(leaving)
        self._peers[peer.id] = peer
        return True

    def leave(self, peer: Peer) -> None:
        """*peer* is no more connected; nothing happens if another connection has its place."""
        if self._peers.get(peer.id) is peer:
            del self._peers[peer.id]

    def _guests(self) -> list[Peer]:
        """Peers that dialled us and have no right to stay."""
        return [peer for peer in self._peers.values() if not peer.outbound and not self._named.is_welcome(peer.id)]

    def _has_room(self) -> bool:
        return len(self._guests()) < self._limits.inbound_max

    def _to_evict(self) -> Peer | None:
        """Who gives way to a newcomer."""
        candidates = [
            Candidate(peer.id, network_group(peer.host), peer.connected_at, peer.round_trip_ms, peer.useful_at)
            for peer in self._guests()
        ]
        chosen = to_evict(candidates, secret=self._secret) if candidates else None
        return self._peers[chosen] if chosen is not None else None

    def _replaces(self, rival: Peer, *, outbound: bool) -> bool:
        """Of two in opposite directions, the one that the lower node id dialled stays; else the older one."""
        if rival.outbound == outbound:
            return False
        return outbound == (self._own_id < rival.id)
