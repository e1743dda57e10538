"""An attack on one node's port over real sockets, from many addresses of loopback: 127.66.0.0/16 and up to nine more.

Each attacker is bounded in time and rate, so that the node's own conduct is measured and not the machine's limit.
"""

from __future__ import annotations

import base64
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from consensus.codec import BadMessage, encode
from consensus.signing import public_key
from devnet.workload import Workload
from node import sync_messages, transaction_gossip
from node.engine import CHANNELS
from node.snapshot_messages import HEADERS_MAX, WantHeaders
from node.sync_messages import WantGenesis, WantHeight
from p2p import frames
from p2p.address import Endpoint, PeerAddress
from p2p.control import ADDRESSES_MAX, Addresses, encode_control
from p2p.handshake import HandshakeRefused, Hello, Identity, Session, shake_hands

NETWORKS = 10
"""127.66.0.0/16 … 127.75.0.0/16."""
HOSTS = 50
"""Of each network."""
HELD_MAX = 400
"""Sockets that the attackers hold open at a time."""
QUESTIONS_OF_ASKER = 2_000
ASKER_S = 3.0
"""An asker reads what comes for so long."""
HEIGHTS_ASKED_MAX = 30
POOL_FLOOD_NONCES = 20
"""Transactions of each account, all behind a nonce that never comes."""
REFUSED = (
    HandshakeRefused,
    BadMessage,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    OSError,
)
"""How an attempt ends that the node did not want, or that the attackers gave up for another."""


@dataclass
class Attack:
    """Who is attacked, and what came of it."""

    target: Endpoint
    chain_id: str
    genesis_hash: bytes
    dice: random.Random
    seconds: float
    tries: Counter[str] = field(default_factory=Counter)
    held: list[trio.SocketStream] = field(default_factory=list)
    """Of attackers, the oldest first."""
    honest: list[trio.SocketStream] = field(default_factory=list)
    """Of those who named their host, which nobody else gives up."""

    async def run(self, workload: Workload, nonces: list[int]) -> None:
        """Everything at once, until the time is over."""
        with trio.move_on_after(self.seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._repeat, "silent", 0.02, self._silent)
                nursery.start_soon(self._repeat, "half", 0.02, self._half_a_handshake)
                nursery.start_soon(self._repeat, "garbage", 0.05, self._garbage)
                nursery.start_soon(self._repeat, "sybil", 0.1, self._sybil)
                nursery.start_soon(self._repeat, "asker", 0.3, self._asker)
                nursery.start_soon(self._flood_pool, workload, nonces)

    async def let_go(self) -> None:
        """No socket is open any more."""
        with trio.CancelScope(shield=True):
            for stream in (*self.held, *self.honest):
                await trio.aclose_forcefully(stream)

    async def _repeat(self, name: str, pause_s: float, attempt: Callable[[], Awaitable[None]]) -> None:
        async def once() -> None:
            try:
                with trio.fail_after(5):
                    await attempt()
            except REFUSED:
                self.tries[f"{name} refused"] += 1
            else:
                self.tries[f"{name} done"] += 1

        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(once)
                await trio.sleep(pause_s)

    async def dial(self, host: str | None = None) -> trio.SocketStream:
        """A connection from *host*, by lot if none is named."""
        source = host or f"127.{66 + self.dice.randrange(NETWORKS)}.0.{1 + self.dice.randrange(HOSTS)}"
        stream = await trio.open_tcp_stream(self.target.host, self.target.port, local_address=source)
        if host is not None:
            self.honest.append(stream)
            return stream
        self.held.append(stream)
        if len(self.held) > HELD_MAX:
            await trio.aclose_forcefully(self.held.pop(0))
        return stream

    async def _silent(self) -> None:
        await self.dial()

    async def _half_a_handshake(self) -> None:
        stream = await self.dial()
        await stream.send_all(b"\x00\x20" + self.dice.randbytes(32))

    async def _garbage(self) -> None:
        stream = await self.dial()
        await stream.send_all(self.dice.randbytes(self.dice.choice((1, 100, 10_000))))

    async def meet(self, host: str | None = None) -> tuple[trio.SocketStream, Session]:
        """A whole handshake as a node that nobody knows. Raises one of REFUSED."""
        stream = await self.dial(host)
        hello = Hello(chain_id=self.chain_id, genesis_hash=self.genesis_hash, moniker="x")
        identity = Identity(seed=self.dice.randbytes(32), hello=hello, channels=CHANNELS)
        session = await shake_hands(
            stream, identity, initiator=True, ephemeral=self.dice.randbytes(32), judge=lambda greeting: ""
        )
        return stream, session

    async def _sybil(self) -> None:
        """A peer that stays, tells invented addresses, and sometimes breaks a rule."""
        stream, session = await self.meet()
        told = tuple(
            PeerAddress(public_key(self.dice.randbytes(32)), f"127.{66 + number % NETWORKS}.1.{number}", 1 + number)
            for number in range(ADDRESSES_MAX)
        )
        lines = [encode_control(Addresses(told))]
        for _ in range(4):
            await stream.send_all(session.writer.seal(frames.whole_section(0, lines)))
        if self.dice.random() < 0.3:
            await stream.send_all(session.writer.seal(frames.whole_section(1, [self.dice.randbytes(200)])))

    async def _asker(self) -> None:
        """A peer that asks for all that is large or much work, and reads as fast as it can."""
        stream, session = await self.meet()
        large = (WantGenesis(), WantHeight(1 + self.dice.randrange(HEIGHTS_ASKED_MAX)))
        work = WantHeaders(1 + self.dice.randrange(HEIGHTS_ASKED_MAX), HEADERS_MAX)
        questions = [sync_messages.to_wire(self.dice.choice((*large, work))) for _ in range(QUESTIONS_OF_ASKER)]
        await stream.send_all(session.writer.seal(frames.whole_section(sync_messages.CHANNEL.id, questions)))
        with trio.move_on_after(ASKER_S):
            while data := await stream.receive_some():
                self.tries["bytes that askers got"] += len(data)

    async def _flood_pool(self, workload: Workload, nonces: list[int]) -> None:
        """Signed transactions that can never go into a block, as fast as one peer's window lets them in."""
        later = [nonce + 1 for nonce in nonces]
        until_ms = time.time_ns() // 1_000_000 + 60_000
        count = POOL_FLOOD_NONCES * len(later)
        batch: list[bytes] = []
        sender: tuple[trio.SocketStream, Session] | None = None
        sent = 0
        for one in workload.signed(count, nonces=later, valid_until_ms=until_ms):
            batch.append(base64.b64decode(one.text))
            if len(batch) < 100:
                continue
            message = encode((0, tuple(batch)))
            batch = []
            try:
                if sender is None or sent + len(message) > transaction_gossip.MESSAGE_BYTES_MAX:
                    sender, sent = await self.meet(), 0
                await sender[0].send_all(
                    sender[1].writer.seal(frames.whole_section(transaction_gossip.CHANNEL.id, [message]))
                )
                sent += len(message)
                self.tries["transactions sent"] += 100
            except REFUSED:
                self.tries["pool flood refused"] += 1
                sender = None
            await trio.sleep(0.05)
