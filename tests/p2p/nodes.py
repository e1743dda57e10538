"""Small nodes for the tests of p2p, and a stranger who speaks the protocol badly on purpose."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from p2p import frames
from p2p.address import Endpoint, PeerAddress
from p2p.address_book import AddressBook
from p2p.channel import Channel, Traffic
from p2p.control import ControlMessage, encode_control
from p2p.handshake import Greeting, Hello, Identity, Session, shake_hands
from p2p.limits import Limits
from p2p.memory import MemoryNetwork, memory_stream_pair
from p2p.named import NamedPeers
from p2p.network import Network
from p2p.peer import Peer
from p2p.transport import Transport

PORT = 26656
CHAIN_ID = "test-1"


def channel(number: int = 1, **changes: Any) -> Channel:
    """A channel for tests: small limits, so that they can be reached."""
    settings: dict[str, Any] = {
        "id": number,
        "name": f"channel{number}",
        "priority": 5,
        "message_bytes_max": 200_000,
        "send_queue_messages_max": 100,
        "receive_window_bytes": 400_000,
        "bytes_per_second_max": 10**9,
    }
    return Channel(**(settings | changes))


TALK = channel(1)


def hello(number: int, **changes: Any) -> Hello:
    settings: dict[str, Any] = {"chain_id": CHAIN_ID, "genesis_hash": bytes(32), "moniker": f"node{number}"}
    return Hello(**(settings | changes))


def seed(number: int) -> bytes:
    return bytes([number]) * 32


def identity(number: int, channels: tuple[Channel, ...] = (TALK,), **changes: Any) -> Identity:
    return Identity(seed=seed(number), hello=hello(number, **changes), channels=channels)


def wall_ms() -> int:
    """A wall clock that follows trio's."""
    return int(trio.current_time() * 1_000) + 1_800_000_000_000


async def idle(peer: Peer) -> None:
    """A service with nothing to do."""
    await trio.sleep_forever()


async def echo(peer: Peer) -> None:
    """Sends back what comes on channel 1."""
    while True:
        await peer.send(1, await peer.receive(1))


def make_node(
    number: int,
    transport: Transport | MemoryNetwork,
    serve: Callable[[Peer], Awaitable[None]] = idle,
    *,
    knows: tuple[Network, ...] = (),
    persistent: tuple[Network, ...] = (),
    **changes: Any,
) -> Network:
    """Node *number*, at ``host<number>`` of a memory network. *knows*: nodes in its book, tried."""
    dice = random.Random(number)
    book = AddressBook(dice=dice)
    settings: dict[str, Any] = {
        "seed": seed(number),
        "hello": hello(number),
        "channels": [TALK],
        "services": {"talk": serve},
        "transport": transport.transport(f"host{number}") if isinstance(transport, MemoryNetwork) else transport,
        "book": book,
        "limits": Limits(),
        "named": NamedPeers(persistent=map(address_of, persistent)),
        "listen_addr": Endpoint(f"host{number}", PORT),
        "clock": wall_ms,
        "dice": dice,
    }
    node = Network(**(settings | changes))
    for other in knows:
        node.book.add(address_of(other))
    return node


def address_of(node: Network) -> PeerAddress:
    """Where a node of `make_node` listens in a memory network."""
    if node.bound_address is not None:
        return PeerAddress(node.node_id, *node.bound_address)
    listen = node._listen
    assert listen is not None
    return PeerAddress(node.node_id, *listen)


async def until(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    """Returns when *condition* holds; looks again every 10 ms of the mock clock."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event, and the clock costs nothing
            await trio.sleep(0.01)


class Stranger:
    """One end of an agreed connection whose records the test writes itself."""

    def __init__(self, stream: trio.abc.Stream, session: Session) -> None:
        self.stream = stream
        self.session = session

    async def send_plaintext(self, plaintext: bytes) -> None:
        await self.stream.send_all(self.session.writer.seal(plaintext))

    async def say(self, *messages: ControlMessage) -> None:
        await self.send_plaintext(frames.whole_section(0, [encode_control(message) for message in messages]))

    async def read_until_closed(self) -> list[frames.Section]:
        """All sections until the other side ends the connection."""
        sections = []
        data = b""
        while True:
            for plaintext in self.session.reader.feed(data):
                sections += frames.read_sections(plaintext)
            try:
                data = bytes(await self.stream.receive_some(65_536))
            except trio.BrokenResourceError:
                return sections
            if not data:
                return sections


async def connect_stranger(number: int, transport: Transport, address: PeerAddress, **changes: Any) -> Stranger:
    """Node *number* as a stranger, connected with the node at *address*."""
    stream = await transport.dial(address.endpoint)
    session = await shake_hands(
        stream,
        identity(number, **changes),
        initiator=True,
        ephemeral=random.Random(number).randbytes(32),
        judge=welcome,
    )
    return Stranger(stream, session)


def welcome(greeting: Greeting) -> str:
    return ""


async def session_pair(
    one: Identity, two: Identity
) -> tuple[tuple[trio.abc.Stream, Session], tuple[trio.abc.Stream, Session]]:
    """Both ends of an agreed connection in memory: (dialler's, acceptor's)."""
    near, far = memory_stream_pair()
    sessions: dict[str, Session] = {}

    async def side(name: str, stream: trio.abc.Stream, who: Identity, initiator: bool) -> None:
        sessions[name] = await shake_hands(
            stream, who, initiator=initiator, ephemeral=bytes([7 + initiator]) * 32, judge=welcome
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(side, "near", near, one, True)
        nursery.start_soon(side, "far", far, two, False)
    return (near, sessions["near"]), (far, sessions["far"])


class Bench:
    """A peer object at work and, at the other end of its stream, a stranger."""

    def __init__(self, peer: Peer, stranger: Stranger) -> None:
        self.peer = peer
        self.stranger = stranger
        self.penalties: list[tuple[str, int]] = []
        self.heard: list[ControlMessage] = []
        self.reason: str | None = None

    async def run(self, *services: Callable[[Peer], Awaitable[None]]) -> None:
        self.reason = await self.peer.run({f"service{index}": service for index, service in enumerate(services)})


async def make_bench(channels: tuple[Channel, ...] = (TALK,), limits: Limits | None = None) -> Bench:
    """A peer that was accepted but does not run yet, and the stranger that dialled."""
    (near, near_session), (far, far_session) = await session_pair(identity(2, channels), identity(1, channels))
    bench: list[Bench] = []
    peer = Peer(
        stream=far,
        session=far_session,
        address=None,
        host="host2",
        outbound=False,
        channels=channels,
        limits=limits or Limits(),
        wall_ms=wall_ms,
        on_control=lambda peer, message: bench[0].heard.append(message),
        on_penalty=lambda peer, reason, points: bench[0].penalties.append((reason, points)),
    )
    bench.append(Bench(peer, Stranger(near, near_session)))
    return bench[0]


def traffic_of(peer: Peer, name: str) -> Traffic:
    return peer.traffic()[name]
