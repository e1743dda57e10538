"""Whom the operator's settings name: nodes that are always dialled, always let in, never passed on, or asked first."""

from __future__ import annotations

from collections.abc import Iterable

from p2p.address import PeerAddress


class NamedPeers:
    """Does not change while the network runs."""

    def __init__(
        self,
        *,
        persistent: Iterable[PeerAddress] = (),
        unconditional: Iterable[bytes] = (),
        private: Iterable[bytes] = (),
        seeds: Iterable[PeerAddress] = (),
    ) -> None:
        self.persistent = tuple(persistent)
        """Dialled whenever they are not connected, and let in beyond the bounds."""
        self._persistent_ids = frozenset(address.node_id for address in self.persistent)
        self._welcome = self._persistent_ids | frozenset(unconditional)
        self.private = frozenset(private)
        """Ids of nodes that nobody may be told of."""
        self.seeds = tuple(seeds)
        """Asked for addresses while nobody is known."""
        self.seed_ids = frozenset(address.node_id for address in self.seeds)

    def is_persistent(self, node_id: bytes) -> bool:
        """Whether this node is dialled whenever it is not connected."""
        return node_id in self._persistent_ids

    def is_welcome(self, node_id: bytes) -> bool:
        """Whether this node is let in always, beyond the bounds, and never banned."""
        return node_id in self._welcome


NOBODY = NamedPeers()
