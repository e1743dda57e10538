"""The genesis of a town that one has been invited to, fetched from its peers."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence

import trio

from consensus.signing import sha256
from node.sync_messages import (
    CHANNEL,
    Genesis,
    StateChunk,
    SyncMessage,
    WantGenesis,
    WantStateChunk,
    from_wire,
    to_wire,
)
from p2p.address import PeerAddress
from p2p.address_book import AddressBook
from p2p.handshake import Hello
from p2p.named import NamedPeers
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
    asking = _Asking(chain_id, genesis_hash, peers, transport)
    return await asking.first(
        WantGenesis(),
        lambda message: message.file if isinstance(message, Genesis) else None,
        genesis_hash,
        "the genesis",
        timeout_s,
    )


async def fetch_state(
    chunks: Sequence[bytes],
    write: Callable[[bytes], None],
    *,
    chain_id: str,
    genesis_hash: bytes,
    peers: Sequence[str],
    timeout_s: float = TIMEOUT_S,
    transport: Transport | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """The state that a genesis goes on from was given to *write*, chunk by chunk, each with its hash in *chunks*.

    Raises NobodyAnswered.
    """
    asking = _Asking(chain_id, genesis_hash, peers, transport)
    for number, hash_ in enumerate(chunks):

        def chunk_in(message: SyncMessage, number: int = number) -> bytes | None:
            return message.data if isinstance(message, StateChunk) and message.number == number else None

        write(await asking.first(WantStateChunk(number), chunk_in, hash_, "the state of the genesis", timeout_s))
        tell(number + 1, len(chunks))


class _Asking:
    """Asks peers of a chain that this machine is no node of yet."""

    def __init__(self, chain_id: str, genesis_hash: bytes, peers: Sequence[str], transport: Transport | None) -> None:
        self._hello = Hello(chain_id=chain_id, genesis_hash=genesis_hash, moniker="newcomer", listen_address=None)
        self._peers = peers
        self._transport = transport

    async def first(
        self,
        question: SyncMessage,
        read: Callable[[SyncMessage], bytes | None],
        hash_: bytes,
        what: str,
        timeout_s: float,
    ) -> bytes:
        """The first answer with the SHA-256 *hash_* that *read* finds in what peers say. Raises NobodyAnswered."""
        found: list[bytes] = []
        wrong: set[str] = set()

        async def ask(peer: Peer) -> None:
            await peer.send(CHANNEL.id, to_wire(question))
            while True:
                data = read(from_wire(await peer.receive(CHANNEL.id)))
                if data is None:
                    continue
                if sha256(data) == hash_:
                    found.append(data)
                    nursery.cancel_scope.cancel()
                else:
                    wrong.add(peer.id.hex()[:12])
                    peer.disconnect("another genesis")

        network = Network(
            seed=secrets.token_bytes(32),
            hello=self._hello,
            channels=(CHANNEL,),
            services={"sync": ask},
            transport=self._transport or TcpTransport(),
            book=AddressBook(dice=random.SystemRandom()),
            named=NamedPeers(persistent=map(PeerAddress.parse, self._peers)),
        )
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                await nursery.start(network.run)
                await trio.sleep_forever()
        if not found:
            why = f"; {', '.join(sorted(wrong))} sent another file" if wrong else ""
            raise NobodyAnswered(
                f"none of the {len(self._peers)} peers in the link gave {what} within {timeout_s:.0f} s{why}. "
                "Check that this machine is online, and ask whoever invited you for a fresh link"
            )
        return found[0]
