"""Evidence between nodes, on a channel of its own: told until the peer says that it has dealt with it.

A peer that is behind can't judge what was done at heights above its own. It stays silent, and is told again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

import trio

from consensus.evidence import EVIDENCE_BYTES_MAX, Uncounted
from consensus.evidence import from_wire as evidence_from_wire
from consensus.evidence import to_wire as evidence_to_wire
from consensus.shape import Anything, Count, Hash
from consensus.tags import TagTable
from node.evidence_pool import LATER, EvidencePool
from p2p.channel import Channel
from p2p.peer import Peer

PIECES_MAX = 16
"""Pieces of evidence in one message."""
MESSAGE_BYTES_MAX = PIECES_MAX * EVIDENCE_BYTES_MAX + 1_024
TELL_AGAIN_S = 5.0
"""After this a peer that has not answered is told once more."""

CHANNEL = Channel(
    id=4,
    name="evidence",
    priority=6,
    message_bytes_max=MESSAGE_BYTES_MAX,
    send_queue_messages_max=64,
    receive_window_bytes=4 * MESSAGE_BYTES_MAX,
    bytes_per_second_max=64 * 2**10,
)


@dataclass(frozen=True, slots=True)
class Charges:
    """Evidence (`consensus.evidence`, wire form) that waits for a block at the sender."""

    pieces: Annotated[tuple[Anything, ...], Count(PIECES_MAX, 1)]


@dataclass(frozen=True, slots=True)
class Settled:
    """Ids of evidence that the sender need not be told again: it waits there too, or counts no more."""

    ids: Annotated[tuple[Hash, ...], Count(PIECES_MAX, 1)]


EvidenceMessage: TypeAlias = Charges | Settled

_TABLE = TagTable(Charges, Settled)


def to_wire(message: EvidenceMessage) -> bytes:
    """The bytes of *message*."""
    return _TABLE.to_bytes(message)


def from_wire(data: bytes) -> EvidenceMessage:
    """The message in *data*. Raises BadMessage."""
    message: EvidenceMessage = _TABLE.from_bytes(data, bytes_max=MESSAGE_BYTES_MAX)
    return message


@dataclass(slots=True, eq=False)
class _Link:
    """One connected peer."""

    peer: Peer
    settled: set[bytes] = field(default_factory=set)
    """Ids of evidence in our pool that it need not be told."""

    def settle(self, ids: Iterable[bytes], pool: EvidencePool) -> None:
        """It need not be told of *ids*. What is not in *pool* is forgotten: a peer can name any number of ids."""
        self.settled.update(ids)
        self.settled &= {evidence.id for evidence in pool.ripe()}


class EvidenceGossip:
    """The service on channel `evidence`. `serve` runs for each peer."""

    def __init__(self, pool: EvidencePool) -> None:
        self._pool = pool

    async def serve(self, peer: Peer) -> None:
        """Tells and hears until *peer* goes. Raises BadMessage for a false charge."""
        link = _Link(peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, link)
            while True:
                self._take(link, from_wire(await peer.receive(CHANNEL.id)))
                await trio.lowlevel.checkpoint()  # signatures were verified

    async def _tell(self, link: _Link) -> None:
        while True:
            version = self._pool.version
            ripe = {evidence.id: evidence for evidence in self._pool.ripe()}
            open_ids = [id_ for id_ in ripe if id_ not in link.settled]
            for start in range(0, len(open_ids), PIECES_MAX):
                pieces = [evidence_to_wire(ripe[id_]) for id_ in open_ids[start : start + PIECES_MAX]]
                await link.peer.send(CHANNEL.id, to_wire(Charges(tuple(pieces))))
            with trio.move_on_after(TELL_AGAIN_S if open_ids else math.inf):
                await self._pool.wait_beyond(version)

    def _take(self, link: _Link, message: EvidenceMessage) -> None:
        if isinstance(message, Settled):
            link.settle(message.ids, self._pool)
            return
        settled = []
        for piece in message.pieces:
            evidence = evidence_from_wire(piece)
            try:
                self._pool.add(evidence)
            except Uncounted as reason:
                if reason.code in LATER:
                    continue
            settled.append(evidence.id)
        link.settle(settled, self._pool)
        if settled:
            link.peer.offer(CHANNEL.id, to_wire(Settled(tuple(settled))))
