"""The same over real sockets on loopback."""

from __future__ import annotations

import errno
import random
import socket
from contextlib import suppress

import pytest
import trio
import trio.testing

from p2p.address import Endpoint, PeerAddress
from p2p.named import NamedPeers
from p2p.network import Network
from p2p.peer import Peer
from p2p.transport import TcpListener, TcpTransport, _plain
from tests.p2p.nodes import connect_stranger, echo, make_node, until

LOOPBACK = Endpoint("127.0.0.1", 0)


async def start(nursery: trio.Nursery, node: Network) -> PeerAddress:
    endpoint = await nursery.start(node.run)
    return PeerAddress(node.node_id, *endpoint)


async def test_two_nodes_talk_and_one_leaves(nursery: trio.Nursery) -> None:
    one = make_node(1, TcpTransport(), echo, listen_addr=LOOPBACK)
    address = await start(nursery, one)
    talked = trio.Event()

    async def ask(peer: Peer) -> None:
        for size in (1, 70_000, 200_000):
            message = random.Random(size).randbytes(size)
            await peer.send(1, message)
            assert await peer.receive(1) == message
        talked.set()

    two = make_node(2, TcpTransport(), ask, listen_addr=None, named=NamedPeers(persistent=[address]))
    with trio.fail_after(10):
        async with trio.open_nursery() as of_two:
            await of_two.start(two.run)
            await talked.wait()
            assert one.net_info()["peers"][0]["host"] == "127.0.0.1"
            of_two.cancel_scope.cancel()
        await until(lambda: not one.peers, seconds=5)
    nursery.cancel_scope.cancel()


async def test_a_newcomer_finds_everybody_over_tcp(nursery: trio.Nursery) -> None:
    first = make_node(1, TcpTransport(), listen_addr=LOOPBACK)
    address = await start(nursery, first)
    nodes = [
        make_node(n, TcpTransport(), listen_addr=LOOPBACK, named=NamedPeers(persistent=[address])) for n in range(2, 6)
    ]
    for node in nodes:
        await start(nursery, node)
    await until(lambda: all(len(node.peers) == 4 for node in (first, *nodes)), seconds=20)
    nursery.cancel_scope.cancel()


async def test_garbage_and_resets_harm_nobody(nursery: trio.Nursery) -> None:
    one = make_node(1, TcpTransport(), listen_addr=LOOPBACK)
    address = await start(nursery, one)
    for garbage in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(100_000), b"\xff" * 100_000):
        stream = await trio.open_tcp_stream(address.host, address.port)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
        with suppress(trio.BrokenResourceError):
            await stream.send_all(garbage)
        await stream.aclose()
    stranger = await connect_stranger(2, TcpTransport(), address)
    await until(lambda: len(one.peers) == 1, seconds=5)
    await stranger.stream.aclose()
    nursery.cancel_scope.cancel()


async def test_a_taken_port_is_an_os_error() -> None:
    listener = await TcpTransport().listen(LOOPBACK)
    with pytest.raises(OSError) as taken:
        await TcpTransport().listen(listener.endpoint)
    assert taken.value.errno == errno.EADDRINUSE
    await listener.aclose()


async def test_nobody_there_is_an_os_error() -> None:
    listener = await TcpTransport().listen(LOOPBACK)
    await listener.aclose()
    with pytest.raises(OSError):
        await TcpTransport().dial(listener.endpoint)


async def test_a_name_that_the_resolver_can_not_encode_is_an_os_error() -> None:
    for host in ("a" * 64, "a..b"):
        with pytest.raises(OSError, match="no host name"):
            await TcpTransport().dial(Endpoint(host, 1))


async def test_accepting_rests_while_there_are_no_file_descriptors_and_skips_dead_connections(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Scarce:
        """Fails as accept(2) does: twice for want of room, once for a connection that is gone."""

        def __init__(self, listener: trio.SocketListener) -> None:
            self.socket = listener.socket
            self.faults = [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED]
            self.accept_really = listener.accept

        async def accept(self) -> trio.SocketStream:
            if self.faults:
                raise OSError(self.faults.pop(0), "as told")
            return await self.accept_really()

    (real,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener = TcpListener(Scarce(real))  # type: ignore[arg-type]
    dialled = await TcpTransport().dial(listener.endpoint)
    began = trio.current_time()
    accepted = await listener.accept()
    assert accepted.host == "127.0.0.1"
    assert trio.current_time() - began == pytest.approx(0.2)
    for stream in (dialled, accepted.stream, real):
        await stream.aclose()


def test_hosts_are_named_alike_over_ipv4_and_ipv6() -> None:
    assert _plain("::ffff:10.0.0.1") == _plain("10.0.0.1") == "10.0.0.1"
    assert _plain("fe80::1%eth0") == "fe80::1"
