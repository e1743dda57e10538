"""Peer exchange against peers that tell too much, ask too much, or lie."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2p import frames
from p2p.address import PeerAddress
from p2p.control import ADDRESSES_MAX, Addresses, AskAddresses, decode_control
from p2p.exchange import ADDRESSES_BURST, is_plausible
from p2p.limits import Limits
from p2p.memory import MemoryNetwork
from tests.p2p.nodes import address_of, connect_stranger, make_node, until


def told(number: int) -> PeerAddress:
    return PeerAddress(number.to_bytes(32, "big"), f"11.{number % 200}.0.1", 26656)


async def test_a_flood_of_addresses_is_ignored_beyond_the_allowance(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts, limits=Limits(outbound_max=0))
    await nursery.start(one.run)
    stranger = await connect_stranger(2, hosts.transport("host2"), address_of(one))
    for batch in range(20):
        first = 1_000 + batch * ADDRESSES_MAX
        await stranger.say(Addresses(tuple(map(told, range(first, first + ADDRESSES_MAX)))))
    await trio.sleep(1)
    assert 0 < len(one.book) <= ADDRESSES_BURST
    assert len(one.peers) == 1
    nursery.cancel_scope.cancel()


async def test_questions_are_answered_only_now_and_then(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts, limits=Limits(outbound_max=0))
    one.book.reached(told(5), 1)
    await nursery.start(one.run)
    stranger = await connect_stranger(2, hosts.transport("host2"), address_of(one))
    answers: list[float] = []

    async def listen() -> None:
        data = b""
        while True:
            for plaintext in stranger.session.reader.feed(data):
                for section in frames.read_sections(plaintext):
                    answers.extend(
                        trio.current_time()
                        for message in map(decode_control, section[3])
                        if message == Addresses((told(5),))
                    )
            data = bytes(await stranger.stream.receive_some())

    nursery.start_soon(listen)
    for _ in range(25):
        await stranger.say(AskAddresses())
        await trio.sleep(1)
    assert len(answers) == 3
    nursery.cancel_scope.cancel()


async def test_nobody_outside_can_send_us_to_our_own_machine_or_home(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts, limits=Limits(outbound_max=0))
    await nursery.start(one.run)
    stranger = await connect_stranger(2, hosts.transport("8.8.8.8"), address_of(one))
    await stranger.say(
        Addresses((PeerAddress(bytes(32), "127.0.0.1", 80), PeerAddress(bytes(31) + b"x", "10.0.0.1", 22), told(7)))
    )
    await until(lambda: len(one.book) > 0)
    assert [entry.address for entry in one.book] == [told(7)]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_a_name_that_no_resolver_takes_is_no_address(host: str) -> None:
    with pytest.raises(ValueError, match="no usable host"):
        PeerAddress.parse(f"{'ab' * 32}@{host}:1")


def test_loopback_may_point_at_loopback() -> None:
    assert is_plausible("127.0.0.1", told_by="::1")
    assert is_plausible("10.0.0.1", told_by="127.0.0.1")
    assert not is_plausible("localhost", told_by="10.0.0.1")
    assert is_plausible("fd00::1", told_by="192.168.1.1")
    assert is_plausible("town.example", told_by="9.9.9.9")
    assert not is_plausible("169.254.1.1", told_by="town.example")
