"""The genesis of a town that one has been invited to, fetched from its peers."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence

import trio

from consensus.signing import sha256
from node.sync_messages import CHANNEL, Genesis, WantGenesis, from_wire, to_wire
from p2p.address import PeerAddress
from p2p.address_book import AddressBook
from p2p.handshake import Hello
from p2p.network import Network
from p2p.peer import Peer
from p2p.transport import TcpTransport, Transport

TIMEOUT_S = 60.0


class NobodyAnswered(Exception):
    """None of the peers in the link gave the genesis in time; the text says what to try."""


async def fetch_genesis(
    *,
    chain_id: str,
    genesis_hash: bytes,
    peers: Sequence[str],
    timeout_s: float = TIMEOUT_S,
    transport: Transport | None = None,
) -> bytes:
    """The genesis file whose SHA-256 is *genesis_hash*, from one of *peers* (``nodeid@host:port``).

    The node key used for asking is thrown away. Raises NobodyAnswered.
    """
    found: list[bytes] = []
    wrong: set[str] = set()

    async def ask(peer: Peer) -> None:
        await peer.send(CHANNEL.id, to_wire(WantGenesis()))
        while True:
            message = from_wire(await peer.receive(CHANNEL.id))
            if isinstance(message, Genesis):
                if sha256(message.file) == genesis_hash:
                    found.append(message.file)
                    nursery.cancel_scope.cancel()
                else:
                    wrong.add(peer.id.hex()[:12])
                    peer.disconnect("another genesis")

    network = Network(
        seed=secrets.token_bytes(32),
        hello=Hello(chain_id=chain_id, genesis_hash=genesis_hash, moniker="newcomer", listen_address=None),
        channels=(CHANNEL,),
        services={"sync": ask},
        transport=transport or TcpTransport(),
        book=AddressBook(dice=random.SystemRandom()),
        persistent_peers=[PeerAddress.parse(peer) for peer in peers],
    )
    with trio.move_on_after(timeout_s):
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            await trio.sleep_forever()
    if not found:
        why = f"; {', '.join(sorted(wrong))} sent another file" if wrong else ""
        raise NobodyAnswered(
            f"none of the {len(peers)} peers in the link gave the genesis within {timeout_s:.0f} s{why}. "
            "Check that this machine is online, and ask whoever invited you for a fresh link"
        )
    return found[0]
