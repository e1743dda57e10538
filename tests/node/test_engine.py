"""Engines decide together, lose nothing, and come back, on a mock clock."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.transaction import Message
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
        reached = max(engine.store.height for engine in net.engines.values())
        await net.kill(0, 1, 2, 3)
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


async def test_a_full_node_that_gets_power_signs(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    net = SmallNet(tmp_path, validators=5, powers=(10, 10, 10, 10, 0))
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(2)
        await net.powers(0, 4, 10)
        await net.height(net.engines[0].store.height + 3)
        await net.kill(0)
        reached = net.engines[1].store.height
        await net.height(reached + 4, 1, 2, 3, 4, within_s=120)
        commit, _ = net.engines[1].store.commit_of(reached + 3)
        members = net.engines[1].store.validators_at(reached + 3)
        index = members.index_of(net.engines[4].driver.voice.address or b"")
        assert index is not None
        assert commit.entries[index] is not None, "without the fifth there is no quorum"
        net.assert_one_history()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("moment_ms", range(100, 400, 15))
async def test_a_power_cut_of_the_whole_town_at_any_moment_loses_nothing(
    moment_ms: int, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    net = SmallNet(tmp_path, heartbeat_ms=200)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(1)
        for value in range(4):
            await net.sets(value, value, value, account=value)
        await trio.sleep(moment_ms / 1000)
        decided = {number: engine.store.height for number, engine in net.engines.items()}
        contents = {number: net.registers(number) for number in net.engines}
        await net.kill(0, 1, 2, 3)
        await net.start(nursery)
        await net.height(max(decided.values()) + 2, within_s=30)
        for number, before in contents.items():
            assert before.items() <= net.registers(number).items()
        net.assert_one_history()
        nursery.cancel_scope.cancel()


async def test_a_transaction_that_this_machine_cannot_execute_stops_nobody(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    net = SmallNet(tmp_path)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(1)
        identity = await net.submits(0, Message("register", "too_deep", ()))
        await net.sets(1, 1, 1, account=1)
        await net.height(net.engines[0].store.height + 6)
        assert net.registers(2) == {1: 1}
        assert net.engines[0].store.find_transaction(identity) is None
        nursery.cancel_scope.cancel()


async def test_a_lying_sync_peer_is_left_for_an_honest_one(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = SmallNet(tmp_path, full_nodes=1)
    async with trio.open_nursery() as nursery:
        await net.start(nursery, 0, 1, 2, 3)
        await net.sets(0, 9, 9)
        await net.height(12, within_s=300)
        liar = net.engines[2]
        forged = dataclasses.replace(liar.store.block(5), transaction_ids=(bytes(32),))
        monkeypatch.setattr(liar.store, "block", lambda height: forged)
        await net.start(nursery, 4)
        await net.height(12, 4, within_s=60)
        assert net.registers(4) == {9: 9}
        net.assert_one_history()
        nursery.cancel_scope.cancel()
