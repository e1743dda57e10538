"""The memory transport behaves as TCP does where it matters."""

from __future__ import annotations

import errno

import pytest
import trio
import trio.testing

from p2p.address import Endpoint
from p2p.memory import MemoryNetwork, memory_stream_pair
from p2p.pipe_stream import BACKLOG_MAX, WINDOW_BYTES

HERE = Endpoint("host1", 1)


async def test_streams_behave_like_any_stream_of_trio() -> None:
    async def make() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        return memory_stream_pair()

    async def make_clogged() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        near, far = memory_stream_pair()
        for stream in (near, far):
            await stream.send_all(bytes(WINDOW_BYTES))
        return near, far

    await trio.testing.check_two_way_stream(make, make_clogged)


async def test_a_sender_waits_while_the_pipe_is_full(autojump_clock: trio.testing.MockClock) -> None:
    near, far = memory_stream_pair()
    await near.send_all(bytes(WINDOW_BYTES))
    with trio.move_on_after(10) as waiting:
        await near.send_all(b"x")
    assert waiting.cancelled_caught
    await far.receive_some(10)
    with trio.fail_after(1):
        await near.send_all(b"x")


async def test_nobody_there_and_a_taken_port_are_os_errors() -> None:
    hosts = MemoryNetwork()
    with pytest.raises(OSError) as refused:
        await hosts.transport("host2").dial(HERE)
    assert refused.value.errno == errno.ECONNREFUSED
    listener = await hosts.transport("host1").listen(HERE)
    with pytest.raises(OSError) as taken:
        await hosts.transport("host1").listen(HERE)
    assert taken.value.errno == errno.EADDRINUSE
    await listener.aclose()
    await (await hosts.transport("host1").listen(HERE)).aclose()


async def test_port_zero_takes_a_free_one() -> None:
    transport = MemoryNetwork().transport("host1")
    one, two = [await transport.listen(Endpoint("host1", 0)) for _ in range(2)]
    assert one.endpoint != two.endpoint
    await transport.dial(one.endpoint)
    assert (await one.accept()).host == "host1"


async def test_the_backlog_is_bounded() -> None:
    hosts = MemoryNetwork()
    await hosts.transport("host1").listen(HERE)
    for _ in range(BACKLOG_MAX):
        await hosts.transport("host2").dial(HERE)
    with pytest.raises(OSError, match="nobody listens"):
        await hosts.transport("host2").dial(HERE)


async def test_a_severed_link_breaks_streams_and_refuses_dials_until_it_is_mended() -> None:
    hosts = MemoryNetwork()
    listener = await hosts.transport("host1").listen(HERE)
    near = await hosts.transport("host2").dial(HERE)
    far = (await listener.accept()).stream
    hosts.sever("host2", "host1")
    for stream in (near, far):
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")
        await stream.aclose()
    with pytest.raises(OSError) as unreachable:
        await hosts.transport("host2").dial(HERE)
    assert unreachable.value.errno == errno.EHOSTUNREACH
    hosts.mend("host1", "host2")
    await hosts.transport("host2").dial(HERE)
