"""Links carry everything, or nothing while they are cut, and lose nothing by it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from devnet import links
from devnet.links import Links, cuts_for, healed
from devnet.ports import free_ports


async def echo(stream: trio.SocketStream) -> None:
    """Says back what it hears."""
    async with stream:
        async for chunk in stream:
            await stream.send_all(chunk)


@asynccontextmanager
async def network() -> AsyncIterator[tuple[Links, dict[str, int], int]]:
    """Links between node 0 and an echoing node 1, the ports to dial, and the control port."""
    port, other, control, target = free_ports(4)
    net = Links({"0>1": (port, target), "1>0": (other, target)})
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_tcp, echo, target, host="127.0.0.1"))
        await nursery.start(net.run, control)
        yield net, {"0>1": port, "1>0": other}, control
        nursery.cancel_scope.cancel()


async def said(stream: trio.SocketStream, length: int) -> bytes:
    """The next *length* bytes."""
    data = b""
    while len(data) < length:
        data += await stream.receive_some(length - len(data))
    return data


async def test_bytes_pass_both_ways() -> None:
    async with network() as (_, ports, _), await trio.open_tcp_stream("127.0.0.1", ports["0>1"]) as stream:
        await stream.send_all(b"x" * 300_000)
        assert await said(stream, 300_000) == b"x" * 300_000


async def test_a_cut_link_holds_what_is_said_until_it_is_healed() -> None:
    async with network() as (net, ports, _), await trio.open_tcp_stream("127.0.0.1", ports["0>1"]) as stream:
        await stream.send_all(b"one")
        assert await said(stream, 3) == b"one"
        net.links["0>1"].set(cut=True)
        await stream.send_all(b"two")
        with trio.move_on_after(0.05) as silence:
            await stream.receive_some(3)
        assert silence.cancelled_caught
        net.links["0>1"].set(cut=False)
        assert await said(stream, 3) == b"two"


async def test_a_connection_closed_at_one_end_closes_at_the_other() -> None:
    async with network() as (_, ports, _), await trio.open_tcp_stream("127.0.0.1", ports["0>1"]) as stream:
        await stream.send_eof()
        assert await stream.receive_some(1) == b""


async def test_a_delayed_link_takes_its_time() -> None:
    async with network() as (net, ports, _):
        net.links["0>1"].set(delay_ms=60)
        async with await trio.open_tcp_stream("127.0.0.1", ports["0>1"]) as stream:
            started = trio.current_time()
            await stream.send_all(b"one")
            await said(stream, 3)
            assert trio.current_time() - started >= 0.06


async def test_a_slow_link_keeps_to_its_speed() -> None:
    async with network() as (net, ports, _):
        net.links["0>1"].set(bytes_per_second=100_000)
        async with await trio.open_tcp_stream("127.0.0.1", ports["0>1"]) as stream:
            started = trio.current_time()
            await stream.send_all(b"x" * 20_000)
            await said(stream, 20_000)
            assert trio.current_time() - started >= 0.1


async def test_orders_come_through_the_control_port() -> None:
    async with network() as (net, _, control):
        state = await trio.to_thread.run_sync(partial(links.ask, control, {"0>1": {"cut": True}}))
        assert state["0>1"] == {"cut": True, "delay_ms": 0, "bytes_per_second": 0}
        assert net.links["0>1"].cut
        with pytest.raises(ValueError, match="unknown setting"):
            await trio.to_thread.run_sync(partial(links.ask, control, {"0>1": {"tangled": 1}}))


def test_a_split_cuts_between_groups_only() -> None:
    cuts = cuts_for([[0, 1], [2, 3]], [0, 1, 2, 3])
    assert sorted(name for name, link in cuts.items() if not link["cut"]) == ["0>1", "1>0", "2>3", "3>2"]


def test_nodes_that_no_group_names_stay_together() -> None:
    cuts = cuts_for([[0]], [0, 1, 2])
    assert sorted(name for name, link in cuts.items() if not link["cut"]) == ["1>2", "2>1"]


@pytest.mark.parametrize("groups", [[[0, 1], [1]], [[0], [9]]])
def test_a_split_that_makes_no_sense_is_refused(groups: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="node"):
        cuts_for(groups, [0, 1])


def test_healing_names_every_link() -> None:
    assert set(healed([0, 1])) == {"0>1", "1>0"}
