"""The power goes at every step on the disk, as a run of the code lists them: nodes come back by themselves, say nothing
twice, and what was decided stays decided.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from devnet.simulated_disk import Moment, PowerCut, Watching, cut_at
from node.disk import Act, Step
from tests.node.test_evidence import power
from tests.worlds import lives
from tests.worlds.power import PowerNet, Said

SAMPLE = pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.long)])
"""How many of the moments are tried: some of them with all other tests, each one with ``make crashes``."""
EVIDENCE = Step("evidence", Act.COMMIT)
NUMBERS_MAX = 3
"""Each moment is tried at its first times: a height signs, logs and syncs more than once."""


@SAMPLE
async def test_a_machine_that_loses_its_power_at_any_step_comes_back_and_says_nothing_twice(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    lives.begins_its_log_anew(monkeypatch)
    counts = await lives.moments_of_living(tmp_path / "listed", validators=4, second=True)
    acts = {moment.step.act for moment in counts}
    assert {Act.COMMIT, Act.SYNC, Act.REPLACE, Act.SYNC_FOLDER, Act.WRITE} <= acts
    said = Said(monkeypatch)
    net = PowerNet(tmp_path / "net", dice := random.Random(1), heartbeat_ms=lives.HEARTBEAT_MS)
    cuts = _first_times(counts)[::every]
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(1)
        for place, (moment, n) in enumerate(cuts):
            victim = place % 4
            await net.kill(victim)
            net.watches[victim] = cut_at(moment, n)
            await net.start(nursery, victim)
            with trio.fail_after(120):
                await net.sets((victim + 1) % 4, place, n, account=place)
                await net.cut(victim)
            if dice.random() < 0.5:  # alone, the others go on meanwhile
                await net.height(max(engine.store.height for engine in net.engines.values()) + 1)
            await net.start(nursery, victim)
            await net.height(max(engine.store.height for engine in net.engines.values()) + 1)
            net.assert_one_history()
            said.assert_nothing_twice()
        await net.height(max(engine.store.height for engine in net.engines.values()) + 2)
        for number in range(4):
            assert net.registers(number) == {place: n for place, (_, n) in enumerate(cuts)}
        nursery.cancel_scope.cancel()


async def test_the_first_life_of_a_node_may_end_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    counts = await lives.moments_of_living(tmp_path / "listed", validators=1, second=False)
    assert {Act.LINK, Act.UNLINK} <= {moment.step.act for moment in counts}, "a signer's first file"
    for place, moment in enumerate(sorted(counts)):
        said = Said(monkeypatch)
        net = PowerNet(tmp_path / f"net{place}", random.Random(place), validators=1, heartbeat_ms=lives.HEARTBEAT_MS)
        net.watches[0] = cut_at(moment)
        async with trio.open_nursery() as nursery:
            with trio.fail_after(60):
                await net.start(nursery)
                await net.cut(0)
            await net.start(nursery)
            await net.height(3)
            said.assert_nothing_twice()
            nursery.cancel_scope.cancel()


@SAMPLE
async def test_a_town_that_goes_dark_in_one_instant_goes_on_where_it_was(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    counts = await lives.moments_of_living(tmp_path / "listed", validators=4, second=True)
    said = Said(monkeypatch)
    net = PowerNet(tmp_path / "net", random.Random(2), heartbeat_ms=lives.HEARTBEAT_MS)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(1)
        for place, moment in enumerate(sorted(counts)[::every]):
            await net.kill(*range(4))
            net.watches[place % 4] = cut_at(moment)
            await net.start(nursery)
            with trio.fail_after(120):
                await net.cut(place % 4)
            before = max(engine.store.height for engine in net.engines.values())
            await net.power_off(*(number for number in range(4) if number != place % 4))
            await net.start(nursery)
            await net.height(before + 1)
            net.assert_one_history()
            said.assert_nothing_twice()
        nursery.cancel_scope.cancel()


@SAMPLE
@pytest.mark.parametrize("way", lives.WAYS)
async def test_a_newcomer_may_lose_its_power_at_any_step_of_joining(
    way: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """It joins all the same, and has what the others have."""
    async with lives.joined(tmp_path, way, monkeypatch) as (net, nursery):
        counts = await lives.moments_of_joining(net, nursery)
        assert (Step("import", Act.COMMIT) in {moment.step for moment in counts}) == (way != "blocks")
        for moment, number in _first_times(counts)[::every]:
            lives.forgets(net)
            net.watches[lives.NEWCOMER] = cut_at(moment, number)
            await net.start(nursery, lives.NEWCOMER)
            with trio.fail_after(600):
                await net.cut(lives.NEWCOMER)
            await lives.joins(net, nursery)
            await net.kill(lives.NEWCOMER)


@SAMPLE
async def test_what_a_node_hears_of_others_outlives_a_cut_or_is_heard_again(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Evidence that was kept convicts without being told again; address book and scores are the old or the new ones."""
    said = Said(monkeypatch)
    async with lives.slandered(tmp_path, monkeypatch) as (net, nursery):
        counts = await lives.moments_of_hearing(net, nursery)
        cuts = [cut for cut in _first_times(counts) if cut[0].step.name.startswith(("evidence", "addresses", "scores"))]
        assert {Step(name, Act.REPLACE) for name in ("addresses.json", "scores.bin")} <= {cut.step for cut, _ in cuts}
        with structlog.testing.capture_logs() as lines:
            for moment, number in cuts[::every]:
                free = (validator for validator in range(4, net.size) if power(net.engines[1], validator))
                liar = next(free) if moment.step == EVIDENCE else None
                await net.kill(0)
                net.watches[0] = cut_at(moment, number)
                await net.start(nursery, 0)
                with trio.fail_after(120):
                    await lives.hears(net, liar)
                    await net.cut(0)
                await net.start(nursery, 0)
                if liar is not None:
                    if not moment.after and number == 1:
                        await lives.hears(net, liar)
                    await lives.convicts(net, liar)
                await net.height(max(engine.store.height for engine in net.engines.values()) + 1)
                net.assert_one_history()
                said.assert_nothing_twice()
        assert not [line for line in lines if line["event"] in ("address_book_damaged", "scores_damaged")]


def _first_times(counts: Counter[Moment]) -> list[tuple[Moment, int]]:
    return [(moment, number) for moment in sorted(counts) for number in range(1, 1 + min(NUMBERS_MAX, counts[moment]))]


async def test_all_dark_between_precommit_and_commit_with_empty_pools_afterwards_the_height_is_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    said = Said(monkeypatch)
    net = PowerNet(tmp_path, random.Random(3), heartbeat_ms=60_000)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.sets(0, 1, 1)
        await net.height(1)
        await net.kill(*range(4))
        dark = 0

        def when_it_commits(moment: Moment, count: int) -> None:
            nonlocal dark
            if moment.step.act is Act.COMMIT and moment.step.name == "chain" and not moment.after:
                dark += 1
                raise PowerCut

        net.links_go_at_once = False  # else who is the last lacks the votes of who was first
        for number in range(4):
            net.watches[number] = Watching(when_it_commits)
        await net.start(nursery)
        await net.sets(0, 7, 77)
        with trio.fail_after(30):
            await net.cut(*range(4))
        assert dark == 4
        (decided,) = said.precommitted(2)
        assert decided is not None
        await net.start(nursery)
        assert [net.engines[number].mempool.count for number in range(4)] == [0, 0, 0, 0]
        await net.height(2, within_s=20)
        for number in range(4):
            assert net.engines[number].store.header(2).id == decided
            assert net.registers(number) == {1: 1, 7: 77}
        said.assert_nothing_twice()
        nursery.cancel_scope.cancel()
