"""Attacks on light clients between nodes, on a channel of their own: each is told to a peer once a connection."""

from __future__ import annotations

from contextlib import suppress

import trio

from consensus.codec import BadMessage
from consensus.evidence import Uncounted
from consensus.light_attack import PROOF_BYTES_MAX, LightClientAttack, proof_from_bytes
from node.divergence_pool import DivergencePool, Key, key_of
from p2p.channel import Channel
from p2p.peer import Peer

CHANNEL = Channel(
    id=5,
    name="divergence",
    priority=5,
    message_bytes_max=PROOF_BYTES_MAX,
    send_queue_messages_max=16,
    receive_window_bytes=2 * PROOF_BYTES_MAX,
    # The signatures of two full ones a second cost a tenth of the second.
    bytes_per_second_max=PROOF_BYTES_MAX,
)


class DivergenceGossip:
    """The service on channel `divergence`. `serve` runs for each peer."""

    def __init__(self, pool: DivergencePool) -> None:
        self._pool = pool

    async def serve(self, peer: Peer) -> None:
        """Tells and hears until *peer* goes. Raises BadMessage for a false charge."""
        told: set[Key] = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, peer, told)
            while True:
                attack = proof_from_bytes(await peer.receive(CHANNEL.id))
                if not isinstance(attack, LightClientAttack):
                    raise BadMessage("double votes have a channel of their own")
                told.add(key_of(attack))
                with suppress(Uncounted):  # the peer is at another height, or kept what we have not: no fault of its
                    self._pool.add(attack)
                told.intersection_update(self._pool.known)  # a peer can name any number
                await trio.lowlevel.checkpoint()  # signatures were verified

    async def _tell(self, peer: Peer, told: set[Key]) -> None:
        while True:
            version = self._pool.version
            for key, proved in list(self._pool.known.items()):
                if key not in told:
                    told.add(key)
                    await peer.send(CHANNEL.id, proved.attack.encoded)
            await self._pool.wait_beyond(version)
