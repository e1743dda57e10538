"""Strangers at the door: how many, how often, and who waits there."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2p.doorway import REMEMBERED_MAX, Allowances, Doorway
from p2p.limits import Limits


def test_a_host_may_come_often_at_once_and_seldom_in_the_long_run() -> None:
    door = Doorway(Limits(connections_per_host_burst=5, connections_per_host_per_second=0.5))
    assert [door.admits("8.8.8.8", 0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [door.admits("8.8.8.8", 2.0) for _ in range(2)] == [True, False]
    assert door.admits("8.8.4.4", 2.0), "its neighbour is another host"
    assert door.refused == {"host_too_often": 3}


def test_one_line_at_home_is_one_host_however_many_addresses_it_has() -> None:
    door = Doorway(Limits(connections_per_host_burst=3))
    assert sum(door.admits(f"2001:db8:1:2::{number:x}", 0.0) for number in range(1, 50)) == 3
    assert door.admits("2001:db8:1:3::1", 0.0)


def test_a_network_of_many_hosts_is_bounded_too() -> None:
    door = Doorway(Limits(connections_per_group_burst=10))
    assert sum(door.admits(f"6.6.{number}.1", 0.0) for number in range(200)) == 10
    assert door.admits("6.7.0.1", 0.0)
    assert door.refused == {"group_too_often": 190}


def test_this_machine_is_exempt_unless_the_settings_say_otherwise() -> None:
    lax = Doorway(Limits(connections_per_host_burst=1, per_host_max=1))
    assert all(lax.admits("127.0.0.1", 0.0) for _ in range(2))
    strict = Doorway(Limits(connections_per_host_burst=1, per_host_max=1, exempt_loopback=False))
    assert [strict.admits("127.0.0.1", 0.0) for _ in range(2)] == [True, False]
    with strict.inside("127.0.0.1"):
        assert not strict.admits("127.0.0.1", 1_000.0)
    assert strict.admits("127.0.0.1", 1_000.0)
    assert strict.refused == {"host_too_often": 1, "per_host_max": 1}


def test_what_is_remembered_of_hosts_is_bounded() -> None:
    allowances = Allowances(0.1, 1)
    for number in range(2 * REMEMBERED_MAX):
        allowances.take(str(number), 0.0)
    assert len(allowances._left) == REMEMBERED_MAX


@pytest.mark.parametrize("flood", [10, 500])
async def test_slow_handshakes_of_one_network_displace_each_other_and_nobody_else(
    flood: int, autojump_clock: trio.testing.MockClock
) -> None:
    """An honest node on a slow line needs a second; meanwhile hundreds of connections come and say nothing."""
    door = Doorway(Limits(handshakes_max=8))
    done: list[str] = []

    async def knock(host: str, seconds: float) -> None:
        with door.handshake(host):
            await trio.sleep(seconds)
            done.append(host)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(knock, "9.9.9.9", 1.0)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(flood):
            nursery.start_soon(knock, f"6.6.{number % 250}.1", 10.0)
            await trio.sleep(0.9 / flood)
            assert door.handshakes <= 8
    assert done[0] == "9.9.9.9"
    assert done.count("6.6.0.1") + len(done) <= 10
    assert door.handshakes == 0
    assert door.refused["handshake_gave_way"] == flood - 7
