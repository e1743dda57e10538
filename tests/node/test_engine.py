"""Engines decide together, lose nothing, and come back, on a mock clock."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from tests.node.small_net import SmallNet


async def test_four_engines_decide_one_history(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    net = SmallNet(tmp_path)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.sets(0, 1, 5)
        await net.height(3)
        assert [net.registers(number) for number in range(4)] == [{1: 5}] * 4
        net.assert_one_history()
        nursery.cancel_scope.cancel()


async def test_an_idle_chain_makes_only_heartbeats(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    net = SmallNet(tmp_path, heartbeat_ms=60_000)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.sets(0, 1, 5)
        await net.height(1)
        await trio.sleep(59)
        assert {engine.store.height for engine in net.engines.values()} == {1}
        await net.height(2, within_s=5)
        nursery.cancel_scope.cancel()


async def test_the_chain_goes_on_without_one_of_four(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    net = SmallNet(tmp_path)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(2)
        await net.kill(3)
        await net.sets(0, 1, 7)
        await net.height(6, 0, 1, 2, within_s=120)
        assert net.registers(1) == {1: 7}
        await net.start(nursery, 3)
        await net.height(net.engines[0].store.height, 3)
        assert net.registers(3) == {1: 7}
        net.assert_one_history()
        nursery.cancel_scope.cancel()


async def test_a_split_halts_and_heals(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    net = SmallNet(tmp_path)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(2)
        net.split((0, 1), (2, 3))
        await trio.sleep(1)
        reached = max(engine.store.height for engine in net.engines.values())
        await net.sets(0, 1, 1, account=0)
        await net.sets(3, 2, 2, account=1)
        await trio.sleep(30)
        assert max(engine.store.height for engine in net.engines.values()) <= reached + 1
        net.heal((0, 1), (2, 3))
        await net.height(reached + 3, within_s=120)
        assert net.registers(2) == {1: 1, 2: 2}
        net.assert_one_history()
        nursery.cancel_scope.cancel()


async def test_all_killed_at_once_go_on(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    net = SmallNet(tmp_path)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        for value in range(5):
            await net.sets(value % 4, value, value)
            await trio.sleep(0.05)
        await net.kill(0, 1, 2, 3)
        reached = max(engine.store.height for engine in net.engines.values())
        await net.start(nursery)
        await net.height(reached + 1, within_s=30)
        net.assert_one_history()
        nursery.cancel_scope.cancel()


async def test_a_full_node_that_joins_late_catches_up(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    net = SmallNet(tmp_path, full_nodes=1)
    async with trio.open_nursery() as nursery:
        await net.start(nursery, 0, 1, 2, 3)
        await net.sets(0, 9, 9)
        await net.height(30, within_s=300)
        await net.start(nursery, 4)
        await net.height(30, 4, within_s=20)
        assert net.registers(4) == {9: 9}
        net.assert_one_history()
        nursery.cancel_scope.cancel()
