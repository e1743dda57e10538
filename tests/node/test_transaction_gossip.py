"""Promises of the gossip: pools become alike, bodies travel once, and liars are found out. All on a mock clock."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import msgpack
import pytest
import trio
import trio.testing

from consensus.codec import BadMessage, encode
from consensus.transaction import Transaction
from node.mempool import Mempool, MempoolLimits
from node.transaction_gossip import (
    ANNOUNCED_MAX,
    ASK_TIMEOUT_S,
    CHANNEL,
    FLUSH_BYTES,
    IDS_PER_MESSAGE_MAX,
    RELAY_AFTER_S,
    TransactionGossip,
)
from node.verifier import InlineVerifier
from p2p.address import Endpoint, PeerAddress
from p2p.address_book import AddressBook
from p2p.handshake import Hello
from p2p.limits import Limits
from p2p.memory import MemoryNetwork
from p2p.named import NamedPeers
from p2p.network import Network
from tests.node.fake_town import TIME_MS, Balances, FakeTown, chain_at, signed

BODIES, ANNOUNCE, ASK = 0, 1, 2
SOON = RELAY_AFTER_S * 2 + 0.01


class Wire:
    """One direction between two nodes; keeps what passed."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[bytes](math.inf)
        self.passed: list[bytes] = []

    def bodies(self) -> int:
        """How many bodies passed."""
        return sum(_bodies_in(message) for message in self.passed)


def _bodies_in(message: bytes) -> int:
    kind, content = msgpack.unpackb(message)
    return len(content) if kind == BODIES else 0


class FakePeer:
    """A peer as the gossip sees it: an id, and two wires."""

    def __init__(self, identity: bytes, out: Wire, into: Wire) -> None:
        self.id = identity
        self.out = out
        self.into = into
        self.useful = 0

    def was_useful(self, kind: str) -> None:
        assert kind == CHANNEL.name
        self.useful += 1

    async def send(self, channel_id: int, message: bytes) -> None:
        assert channel_id == CHANNEL.id
        assert len(message) <= CHANNEL.message_bytes_max
        self.out.passed.append(message)
        await self.out.send.send(message)

    async def receive_batch(self, channel_id: int, messages_max: int = 1_024) -> list[bytes]:
        assert channel_id == CHANNEL.id
        batch = [await self.into.receive.receive()]
        while len(batch) < messages_max:
            try:
                batch.append(self.into.receive.receive_nowait())
            except trio.WouldBlock:
                break
        return batch


class Node:
    """A pool with its gossip."""

    def __init__(self, number: int, limits: MempoolLimits | None = None) -> None:
        self.id = bytes([number]) * 32
        self.pool = Mempool(FakeTown(), InlineVerifier(), limits or MempoolLimits(), lambda: TIME_MS)
        self.pool.set_chain(Balances(), chain_at(1))
        self.gossip = TransactionGossip(self.pool)

    async def submit(self, *transactions: Transaction) -> None:
        """A client brings *transactions*, which are accepted."""
        outcomes = await self.pool.submit([item.raw for item in transactions], source=None)
        assert [outcome.code for outcome in outcomes] == [""] * len(transactions)

    def has(self, *transactions: Transaction) -> bool:
        return all(self.pool.get(item.id) is not None for item in transactions)


@contextmanager
def connected(nursery: trio.Nursery, one: Node, other: Node) -> Iterator[tuple[Wire, Wire]]:
    """The wires from *one* to *other* and back; they are cut at the end."""
    out, back = Wire(), Wire()
    scopes = [trio.CancelScope(), trio.CancelScope()]

    async def serve(node: Node, peer: FakePeer, scope: trio.CancelScope) -> None:
        with scope:
            await node.gossip.serve(peer)

    nursery.start_soon(serve, one, FakePeer(other.id, out, back), scopes[0])
    nursery.start_soon(serve, other, FakePeer(one.id, back, out), scopes[1])
    try:
        yield out, back
    finally:
        for scope in scopes:
            scope.cancel()


@asynccontextmanager
async def town(*nodes: Node) -> AsyncIterator[dict[tuple[int, int], Wire]]:
    """All of *nodes* connected with each other, and the wires between them by their places."""
    wires: dict[tuple[int, int], Wire] = {}
    async with trio.open_nursery() as nursery:
        with ExitStack() as links:
            for a, one in enumerate(nodes):
                for b, other in enumerate(nodes[a + 1 :], a + 1):
                    wires[a, b], wires[b, a] = links.enter_context(connected(nursery, one, other))
            await trio.testing.wait_all_tasks_blocked()
            yield wires


TRANSACTIONS = [signed(number, 0) for number in range(1, 21)]


async def test_the_origin_pushes_at_once_and_each_body_travels_once(autojump_clock: trio.testing.MockClock) -> None:
    nodes = [Node(number) for number in range(4)]
    async with town(*nodes) as wires:
        await nodes[0].submit(*TRANSACTIONS)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() < RELAY_AFTER_S
        assert all(node.has(*TRANSACTIONS) for node in nodes)
        await trio.sleep(5)
    assert [wires[0, other].bodies() for other in (1, 2, 3)] == [20, 20, 20]
    assert sum(wire.bodies() for wire in wires.values()) == 60, "nobody else sends bodies"
    assert [node.pool.counters.duplicates for node in nodes] == [0, 0, 0, 0]


async def test_a_batch_leaves_in_full_messages(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Node(1), Node(2)
    async with town(one, other) as wires:
        await one.submit(*TRANSACTIONS)
        await trio.sleep(1)
        assert len(wires[0, 1].passed) == 1
        large = [signed(number, 0, padding=FLUSH_BYTES // 2) for number in range(30, 34)]
        await one.submit(*large)
        await trio.sleep(1)
        assert [_bodies_in(message) for message in wires[0, 1].passed] == [20, 1, 1, 1, 1]
        assert other.has(*large)


async def test_a_relay_announces_and_is_asked(autojump_clock: trio.testing.MockClock) -> None:
    origin, relay, far = Node(1), Node(2), Node(3)
    async with trio.open_nursery() as nursery:
        with connected(nursery, origin, relay), connected(nursery, relay, far) as (out, _):
            await trio.testing.wait_all_tasks_blocked()
            await origin.submit(*TRANSACTIONS)
            await trio.sleep(SOON)
            assert far.has(*TRANSACTIONS)
            assert out.bodies() == 20
            assert relay.gossip.counters.announced == 20
            assert far.gossip.counters.asked == 20
    assert relay.pool.counters.duplicates == origin.pool.counters.duplicates == 0


async def test_what_a_block_took_meanwhile_is_not_announced(autojump_clock: trio.testing.MockClock) -> None:
    origin, relay, far = Node(1), Node(2), Node(3)
    async with trio.open_nursery() as nursery:
        with connected(nursery, origin, relay), connected(nursery, relay, far) as (out, _):
            await trio.testing.wait_all_tasks_blocked()
            await origin.submit(*TRANSACTIONS)
            await trio.testing.wait_all_tasks_blocked()
            for node in (origin, relay, far):
                node.pool.committed([item.id for item in TRANSACTIONS])
            await trio.sleep(5)
            assert out.passed == []


async def test_a_newcomer_is_told_of_all_that_waits(autojump_clock: trio.testing.MockClock) -> None:
    old, new = Node(1), Node(2)
    await old.submit(*TRANSACTIONS[:10])
    await new.submit(*TRANSACTIONS[10:])
    async with town(old, new) as wires:
        await trio.sleep(SOON)
        assert old.has(*TRANSACTIONS)
        assert new.has(*TRANSACTIONS)
    assert (wires[0, 1].bodies(), wires[1, 0].bodies()) == (10, 10)


async def test_a_replacement_spreads_and_replaces_everywhere(autojump_clock: trio.testing.MockClock) -> None:
    nodes = [Node(1), Node(2), Node(3)]
    first, better = signed(1, 0, fee=100), signed(1, 0, fee=110)
    async with town(*nodes):
        await nodes[0].submit(first)
        await trio.sleep(SOON)
        await nodes[1].submit(better)  # another node than the first: a client that changed its mind and its server
        await trio.sleep(SOON)
        assert all(node.has(better) and not node.has(first) for node in nodes)
        assert all(node.pool.why(first.id).code == "tx.displaced" for node in nodes)
        await nodes[2].pool.submit([first.raw], source=None)
        await trio.sleep(SOON)
        assert all(node.has(better) and not node.has(first) for node in nodes), "and does not come back"


async def test_what_was_missed_while_away_comes_after_the_return(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Node(1), Node(2)
    async with town(one, other):
        await one.submit(TRANSACTIONS[0])
        await trio.sleep(1)
    await one.submit(*TRANSACTIONS[1:5])
    async with town(one, other) as wires:
        await trio.sleep(SOON)
        assert other.has(*TRANSACTIONS[:5])
    assert wires[0, 1].bodies() == 4, "what the peer had before is not sent again"


class Stranger:
    """A peer that the test plays itself."""

    def __init__(self, nursery: trio.Nursery, node: Node, number: int) -> None:
        self.out, self.into = Wire(), Wire()
        self.peer = FakePeer(bytes([number]) * 32, self.into, self.out)
        nursery.start_soon(node.gossip.serve, self.peer)

    async def say(self, kind: int, content: object) -> None:
        """The node hears a message."""
        await self.out.send.send(encode((kind, content)))
        await trio.testing.wait_all_tasks_blocked()

    def heard(self) -> list[tuple[int, object]]:
        """What the node said since this was asked last."""
        messages = [tuple(msgpack.unpackb(message)) for message in self.into.passed]
        self.into.passed.clear()
        return messages


ONE = TRANSACTIONS[0]


async def test_one_announcer_is_asked_and_after_its_time_the_next(autojump_clock: trio.testing.MockClock) -> None:
    node = Node(1)
    async with trio.open_nursery() as nursery:
        silent, honest = Stranger(nursery, node, 2), Stranger(nursery, node, 3)
        await silent.say(ANNOUNCE, ONE.id)
        await honest.say(ANNOUNCE, ONE.id)
        assert silent.heard() == [(ASK, ONE.id)]
        assert honest.heard() == []
        await trio.sleep(ASK_TIMEOUT_S + 0.01)
        assert silent.heard() == []
        assert honest.heard() == [(ASK, ONE.id)]
        await honest.say(BODIES, (ONE.raw,))
        assert node.has(ONE)
        await trio.sleep(10 * ASK_TIMEOUT_S)
        assert honest.heard() == []
        assert silent.heard() == [(ANNOUNCE, ONE.id)], "it may have lost what it announced"
        assert node.gossip.counters.missed == 1
        assert not node.gossip._asked
        nursery.cancel_scope.cancel()


async def test_who_announced_is_not_told(autojump_clock: trio.testing.MockClock) -> None:
    node = Node(1)
    async with trio.open_nursery() as nursery:
        first, second = Stranger(nursery, node, 2), Stranger(nursery, node, 3)
        await first.say(ANNOUNCE, ONE.id)
        await second.say(ANNOUNCE, ONE.id)
        await first.say(BODIES, (ONE.raw,))
        await trio.sleep(5)
        assert first.heard() == [(ASK, ONE.id)]
        assert second.heard() == []
        nursery.cancel_scope.cancel()


async def test_a_peer_that_goes_leaves_its_turn_to_another(autojump_clock: trio.testing.MockClock) -> None:
    node = Node(1)
    async with trio.open_nursery() as nursery:
        honest = Stranger(nursery, node, 3)
        async with trio.open_nursery() as visit:
            leaving = Stranger(visit, node, 2)
            await leaving.say(ANNOUNCE, ONE.id)
            await honest.say(ANNOUNCE, ONE.id)
            visit.cancel_scope.cancel()
        await trio.sleep(ASK_TIMEOUT_S + 0.01)
        assert honest.heard() == [(ASK, ONE.id)]
        nursery.cancel_scope.cancel()


async def test_what_is_known_is_not_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    node, committed = Node(1), TRANSACTIONS[1]
    await node.submit(ONE)
    node.pool.committed([committed.id])
    async with trio.open_nursery() as nursery:
        peer = Stranger(nursery, node, 2)
        await peer.say(ANNOUNCE, ONE.id + committed.id)
        await trio.sleep(10)
        assert peer.heard() == [], "nor is it announced to who has it"
        nursery.cancel_scope.cancel()


async def test_what_our_pool_refuses_is_not_fetched_from_everyone(autojump_clock: trio.testing.MockClock) -> None:
    node, poor = Node(1), signed(1, 0, fee=2**40)
    async with trio.open_nursery() as nursery:
        for number in range(2, 8):
            peer = Stranger(nursery, node, number)
            await peer.say(ANNOUNCE, poor.id)
            if peer.heard():
                await peer.say(BODIES, (poor.raw,))
        assert node.gossip.counters.asked == 2
        nursery.cancel_scope.cancel()


async def test_who_asks_gets_what_waits_here_and_nothing_else(autojump_clock: trio.testing.MockClock) -> None:
    node = Node(1)
    await node.submit(ONE)
    async with trio.open_nursery() as nursery:
        peer = Stranger(nursery, node, 2)
        await peer.say(ASK, bytes(32) + ONE.id)
        assert peer.heard() == [(BODIES, [ONE.raw])]
        await peer.say(ASK, ONE.id)
        assert peer.heard() == [(BODIES, [ONE.raw])], "who asks again has lost it"
        nursery.cancel_scope.cancel()


def forged(transaction: Transaction) -> bytes:
    return transaction.raw[:-1] + bytes([transaction.raw[-1] ^ 1])


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions inside groups of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\xff", "bad_message.malformed"),
        (encode(()), "bad_message.malformed"),
        (encode((3, b"")), "bad_message.malformed"),
        (encode((True, b"")), "bad_message.malformed"),
        (encode((False, ())), "bad_message.malformed"),
        (encode((BODIES, b"")), "bad_message.malformed"),
        (encode((BODIES, (5,))), "bad_message.malformed"),
        (encode((ANNOUNCE, bytes(33))), "bad_message.malformed"),
        (encode((ANNOUNCE, (bytes(32),))), "bad_message.malformed"),
        (encode((ASK, bytes(32 * (IDS_PER_MESSAGE_MAX + 1)))), "bad_message.out_of_range"),
        (encode((BODIES, (b"junk",))), "bad_message.trailing_bytes"),
        (encode((BODIES, (forged(ONE),))), "tx.bad_signature"),
        (encode((BODIES, (signed(1, 0, chain_id="another").raw,))), "tx.wrong_chain"),
    ],
)
async def test_what_no_honest_node_sends_ends_the_peer(
    message: bytes, code: str, autojump_clock: trio.testing.MockClock
) -> None:
    node, wire = Node(1), Wire()
    await wire.send.send(message)
    with pytest.raises(BaseExceptionGroup) as caught:
        await node.gossip.serve(FakePeer(bytes(32), Wire(), wire))
    (error,) = leaves(caught.value)
    assert isinstance(error, BadMessage)
    assert error.code == code
    assert node.pool.count == 0


async def test_an_honest_peer_is_not_blamed_for_a_pool_that_is_full_or_ahead(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = Node(1, MempoolLimits(transactions_max=1))
    async with trio.open_nursery() as nursery:
        peer = Stranger(nursery, node, 2)
        for transaction in (ONE, TRANSACTIONS[1], signed(5, 70), signed(6, 0, valid_until_ms=5)):
            await peer.say(BODIES, (transaction.raw,))
        await peer.say(ASK, ONE.id)
        assert peer.heard() == [(BODIES, [ONE.raw])], "the link lives"
        nursery.cancel_scope.cancel()


async def test_announcements_of_a_talkative_peer_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    node = Node(1)
    async with trio.open_nursery() as nursery:
        first, second = Stranger(nursery, node, 2), Stranger(nursery, node, 3)
        for start in range(0, 2 * ANNOUNCED_MAX, 1_000):
            ids = b"".join(number.to_bytes(32, "big") for number in range(start, start + 1_000))
            await first.say(ANNOUNCE, ids)
            await second.say(ANNOUNCE, ids)
        assert node.gossip.counters.asked <= 2 * ANNOUNCED_MAX
        assert len(node.gossip._asked) <= 2 * ANNOUNCED_MAX
        await trio.sleep(3 * ASK_TIMEOUT_S)
        assert not node.gossip._asked, "what never came is forgotten"
        nursery.cancel_scope.cancel()


async def test_marks_of_a_peer_that_left_do_not_pass_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    one, other, third = Node(1), Node(2), Node(3)
    async with town(one, other):
        await one.submit(*TRANSACTIONS)
        await trio.sleep(1)
    async with town(one, third):
        await trio.sleep(1)
    assert third.has(*TRANSACTIONS)


def test_the_channel_holds_the_largest_message() -> None:
    assert CHANNEL.receive_window_bytes > CHANNEL.message_bytes_max > 2**20


async def test_pools_become_alike_over_a_real_network(autojump_clock: trio.testing.MockClock) -> None:
    fabric = MemoryNetwork()
    nodes = [Node(1), Node(2), Node(3)]
    networks: list[Network] = []
    for number, node in enumerate(nodes, 1):
        networks.append(
            Network(
                seed=bytes([number]) * 32,
                hello=Hello(chain_id="pool-test-1", genesis_hash=bytes(32), moniker=f"node{number}"),
                channels=[CHANNEL],
                services={"transactions": node.gossip.serve},
                transport=fabric.transport(f"host{number}"),
                book=AddressBook(dice=random.Random(number)),
                limits=Limits(),
                named=NamedPeers(
                    persistent=[PeerAddress(other.node_id, f"host{at}", 26656) for at, other in enumerate(networks, 1)]
                ),
                listen_addr=Endpoint(f"host{number}", 26656),
                clock=lambda: TIME_MS,
            )
        )
    async with trio.open_nursery() as nursery:
        for network in networks:
            await nursery.start(network.run)
        with trio.fail_after(60):
            while any(len(network.peers) < 2 for network in networks):  # noqa: ASYNC110 - the mock clock is free
                await trio.sleep(0.1)
        many = [signed(number, nonce) for number in range(1, 30) for nonce in range(20)]
        await nodes[0].submit(*many[:300])
        await nodes[1].submit(*many[300:])
        await trio.sleep(5)
        assert all(node.has(*many) for node in nodes)
        assert sum(node.pool.counters.duplicates for node in nodes) == 0
        nursery.cancel_scope.cancel()
