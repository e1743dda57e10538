"""The network of node worlds: what is cut waits, what breaks is lost, and a machine without power tells nobody."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from devnet.sim.node_clock import START_MS, NodeClock
from devnet.sim.node_links import Links
from p2p.address import Endpoint
from p2p.pipe_stream import WINDOW_BYTES

HERE = Endpoint("one", 1)


async def connected(links: Links) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Both ends of a connection from host two to host one."""
    listener = await links.transport("one").listen(HERE)
    near = await links.transport("two").dial(HERE)
    return near, (await listener.accept()).stream


def network() -> Links:
    return Links(random.Random(1), latency_max_s=0.01)


async def test_bytes_arrive_in_order_after_the_latency(autojump_clock: trio.testing.MockClock) -> None:
    links = network()
    near, far = await connected(links)
    began = trio.current_time()
    await near.send_all(b"first ")
    await near.send_all(b"second")
    received = b""
    while len(received) < 12:
        received += await far.receive_some()
    assert received == b"first second"
    assert trio.current_time() - began >= links.way("two", "one").latency_s


async def test_what_is_sent_while_a_way_is_cut_arrives_when_it_is_mended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    links = network()
    near, far = await connected(links)
    links.cut("two", "one")
    await near.send_all(b"held")
    await far.send_all(b"the other way works")
    assert await near.receive_some() == b"the other way works"
    with trio.move_on_after(50) as nothing_came:
        await far.receive_some()
    assert nothing_came.cancelled_caught
    links.mend("two", "one")
    assert await far.receive_some() == b"held"


async def test_a_dial_waits_while_either_way_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    links = network()
    await links.transport("one").listen(HERE)
    links.cut("one", "two")
    with trio.move_on_after(50) as hanging:
        await links.transport("two").dial(HERE)
    assert hanging.cancelled_caught


async def test_nobody_there_is_an_os_error(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(OSError, match="nobody listens"):
        await network().transport("two").dial(HERE)


async def test_a_reset_breaks_both_ends(autojump_clock: trio.testing.MockClock) -> None:
    links = network()
    near, far = await connected(links)
    links.reset("one", "two")
    for stream in (near, far):
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


async def test_a_machine_without_power_is_noticed_only_when_it_is_back(autojump_clock: trio.testing.MockClock) -> None:
    links = network()
    near, far = await connected(links)
    links.power_off("one", silently=True)
    await far.send_all(b"said after the end")
    await far.aclose()
    await near.send_all(b"into the void")
    with trio.move_on_after(50) as silence:
        await near.receive_some()
    assert silence.cancelled_caught
    links.power_on("one")
    with pytest.raises(trio.BrokenResourceError):
        await near.receive_some()


async def test_a_killed_process_is_noticed_at_once(autojump_clock: trio.testing.MockClock) -> None:
    links = network()
    near, _ = await connected(links)
    links.power_off("one", silently=False)
    with pytest.raises(trio.BrokenResourceError):
        await near.receive_some()


async def test_a_slow_way_trickles(autojump_clock: trio.testing.MockClock) -> None:
    links = network()
    near, far = await connected(links)
    links.way("two", "one").bytes_per_s = 1_000
    began = trio.current_time()
    await near.send_all(bytes(10_000))
    received = 0
    while received < 10_000:
        received += len(await far.receive_some())
    assert 9 <= trio.current_time() - began <= 11


async def test_a_sender_waits_while_the_window_is_full(autojump_clock: trio.testing.MockClock) -> None:
    near, far = await connected(network())
    await near.send_all(bytes(WINDOW_BYTES))
    with trio.move_on_after(10) as waiting:
        await near.send_all(b"x")
    assert waiting.cancelled_caught
    await far.receive_some()
    with trio.fail_after(1):
        await near.send_all(b"x")


async def test_the_end_comes_behind_what_was_sent(autojump_clock: trio.testing.MockClock) -> None:
    near, far = await connected(network())
    await near.send_all(b"last words")
    await near.aclose()
    assert await far.receive_some() == b"last words"
    assert await far.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"x")


async def test_a_clock_drifts_without_a_jump_and_jumps_when_it_is_set(autojump_clock: trio.testing.MockClock) -> None:
    clock = NodeClock()
    await trio.sleep(100)
    clock.drift(2.0)
    assert clock.now_ms() == START_MS + 100_000
    await trio.sleep(10)
    assert clock.now_ms() == START_MS + 120_000
    clock.jump(-5_000)
    assert clock.now_ms() == START_MS + 115_000
    clock.set_right()
    assert clock.now_ms() == START_MS + 110_000
