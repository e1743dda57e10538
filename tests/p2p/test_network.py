"""Nodes that meet over memory and TCP."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from p2p.address import Endpoint, PeerAddress
from p2p.address_book import AddressBook
from p2p.channel import Channel
from p2p.handshake import Hello
from p2p.limits import Limits
from p2p.memory import MemoryNetwork
from p2p.network import Network
from p2p.peer import Peer
from p2p.transport import TcpTransport, Transport

TALK = Channel(
    id=1,
    name="talk",
    priority=5,
    message_bytes_max=200_000,
    send_queue_messages_max=100,
    receive_window_bytes=400_000,
    bytes_per_second_max=10**8,
)


def make(number: int, transport: Transport, serve: Callable[[Peer], Awaitable[None]], **more: Any) -> Network:
    dice = random.Random(number)
    settings: dict[str, Any] = {
        "seed": bytes([number]) * 32,
        "hello": Hello(chain_id="test-1", genesis_hash=bytes(32), moniker=f"node{number}"),
        "channels": [TALK],
        "services": {"talk": serve},
        "transport": transport,
        "book": AddressBook(dice=dice),
        "limits": Limits(),
        "listen_addr": Endpoint(f"host{number}", 26656),
        "clock": lambda: int(trio.current_time() * 1000),
        "dice": dice,
    }
    return Network(**(settings | more))


async def echo(peer: Peer) -> None:
    while True:
        await peer.send(1, await peer.receive(1))


async def test_two_nodes_talk_over_memory(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()
    heard: list[bytes] = []
    done = trio.Event()

    async def ask(peer: Peer) -> None:
        for size in (0, 1, 300, 65_000, 70_000, 200_000):
            await peer.send(1, bytes([size % 251]) * size)
            heard.append(await peer.receive(1))
        done.set()

    one = make(1, hosts.transport("host1"), echo)
    await nursery.start(one.run)
    address = PeerAddress(one.node_id, "host1", 26656)
    two = make(2, hosts.transport("host2"), ask, persistent_peers=[address])
    await nursery.start(two.run)
    with trio.fail_after(5):
        await done.wait()
    assert [len(message) for message in heard] == [0, 1, 300, 65_000, 70_000, 200_000]
    assert list(one.peers) == [two.node_id]
    assert one.net_info()["peers"][0]["moniker"] == "node2"
    nursery.cancel_scope.cancel()


async def test_two_nodes_talk_over_tcp(nursery: trio.Nursery) -> None:
    done = trio.Event()

    async def ask(peer: Peer) -> None:
        await peer.send(1, b"x" * 100_000)
        assert await peer.receive(1) == b"x" * 100_000
        done.set()

    one = make(1, TcpTransport(), echo, listen_addr=Endpoint("127.0.0.1", 0))
    endpoint = await nursery.start(one.run)
    two = make(2, TcpTransport(), ask, listen_addr=None, persistent_peers=[PeerAddress(one.node_id, *endpoint)])
    await nursery.start(two.run)
    with trio.fail_after(5):
        await done.wait()
    nursery.cancel_scope.cancel()
