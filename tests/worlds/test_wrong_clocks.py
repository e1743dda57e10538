"""Clocks that jump back: no signature contradicts another, few stop nobody, and all is well once they are set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from node.clock import LOOK_S
from tests.node.small_net import SmallNet
from tests.worlds.power import Said

HOURS_MS = 3 * 3_600_000
MUCH_MS = 30_000
"""More than a proposal may be late or early for those whose clocks are right."""


class ClockNet(SmallNet):
    """Each engine's clock can be set off."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.offsets_ms = dict.fromkeys(range(self.size), 0)

    def clock(self, number: int) -> Callable[[], int]:
        return lambda: self.now_ms() + self.offsets_ms[number]


async def test_clocks_that_jump_back_are_named_and_break_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    said = Said(monkeypatch)
    net = ClockNet(tmp_path, heartbeat_ms=2_000)
    with structlog.testing.capture_logs() as logged:
        async with trio.open_nursery() as nursery:
            await net.start(nursery)
            await net.height(2)
            net.offsets_ms[0] = -HOURS_MS
            await net.height(net.engines[1].store.height + 4, within_s=120)
            await trio.sleep(LOOK_S)
            jumps = [entry["by_ms"] for entry in logged if entry["event"] == "clock_jumped"]
            assert len(jumps) == 1
            assert abs(jumps[0] + HOURS_MS) < 100
            assert [entry["event"] for entry in logged].count("clock_behind_chain") == 1
            for number in range(4):
                net.offsets_ms[number] = -HOURS_MS
            stood_at = max(net.engines[number].store.height for number in range(4))
            await trio.sleep(60)
            assert max(net.engines[number].store.height for number in range(4)) <= stood_at + 1, (
                "no one's time has come"
            )
            net.offsets_ms = dict.fromkeys(range(4), 0)
            await net.height(stood_at + 3, within_s=120)
            net.assert_one_history()
            said.assert_nothing_twice()
            nursery.cancel_scope.cancel()
    assert [entry for entry in logged if entry["event"] == "clock_jumped_ahead"]


@pytest.mark.parametrize(
    ("count", "offset_ms", "halts"),
    [(2, -MUCH_MS, False), (3, -MUCH_MS, True), (2, MUCH_MS, True), (3, MUCH_MS, False)],
)
async def test_clocks_of_many_that_are_wrong_alike_may_halt_the_town_and_never_fork_it(
    count: int,
    offset_ms: int,
    halts: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A block needs three who find its time right: whoever proposes it does, and who shares that clock.

    Who is back proposes the earliest time that is allowed, which is late for the others, but not yet too late.
    """
    said = Said(monkeypatch)
    net = ClockNet(tmp_path, heartbeat_ms=2_000)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(2)
        before = max(engine.store.height for engine in net.engines.values())
        for number in range(count):
            net.offsets_ms[number] = offset_ms
        await trio.sleep(20)
        stood_at = max(engine.store.height for engine in net.engines.values())
        assert (stood_at <= before + 1) is halts
        net.offsets_ms = dict.fromkeys(range(4), 0)
        await net.height(stood_at + 3, within_s=120)
        net.assert_one_history()
        said.assert_nothing_twice()
        nursery.cancel_scope.cancel()
