"""What others suffered in block sync, as tests named after the advisories and issues of CometBFT (ENGINE §2)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.block import Signed
from node.block_sync import ANOTHER_S, ANSWER_S, DISTRUST_S
from node.sync_messages import NoHeight
from tests.node.bench import PREVOTE, Bench, settled
from tests.node.sync_peers import HEIGHTS, Chain, Server, caught_up, decided_chain


@pytest.fixture
async def chain(tmp_path: Path) -> Chain:
    return await decided_chain(tmp_path / "source")


async def test_asa_2025_001_a_peer_that_lowers_its_height_keeps_nobody_syncing(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It claims a thousand heights, and then two: the victim finishes with the others, and votes."""
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        liar = Server(bench, 1, claims=1_000)
        liar.claim()
        await trio.sleep(1.5)
        assert liar.pending()
        liar.claims = 2
        liar.claim()
        nursery.start_soon(Server(bench, 2).serves, chain)
        await caught_up(bench, within_s=ANSWER_S + 5)
        await trio.sleep(2)
        assert not bench.sync.catching_up
        assert not bench.driver.voice.muted
        nursery.cancel_scope.cancel()


async def test_5803_an_absurd_height_neither_hides_the_others_nor_keeps_us_from_voting(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Max-peer-height poisoning: the liar claims the last height there can be, again and again."""
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        liar = Server(bench, 1, claims=2**63 - 1)

        async def poison() -> None:
            while True:
                liar.claim()
                for height in liar.pending():
                    liar.peer.says(NoHeight(height, 1))
                await trio.sleep(0.1)

        nursery.start_soon(poison)
        nursery.start_soon(Server(bench, 2).serves, chain)
        await caught_up(bench)
        await trio.sleep(10)
        assert not bench.driver.voice.muted
        assert (PREVOTE, 0) in bench.driver.height.own_votes
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("forged", [Signed(True, bytes(64)), Signed(False, bytes(64))])
async def test_5663_every_signature_of_a_commit_is_verified_not_only_two_thirds(
    forged: Signed, chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Three of four are true and enough; the fourth is forged, and would be stored, passed on, and counted."""
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        liar = Server(bench, 1)
        liar.claim()
        await trio.sleep(1.5)
        honest = chain.answer(1)
        entries = list(honest.commit.entries)
        entries[entries.index(None) if None in entries else 3] = forged
        commit = dataclasses.replace(honest.commit, entries=tuple(entries))
        liar.peer.says(dataclasses.replace(honest, commit=commit))
        await settled()
        assert bench.store.height == 0
        assert liar.peer.penalties
        nursery.start_soon(Server(bench, 2).serves, chain)
        await caught_up(bench)
        nursery.cancel_scope.cancel()


async def test_5135_honest_peers_of_a_quiet_chain_are_neither_banned_nor_distrusted(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A few hundred bytes, minutes apart, are no fault: the peer is asked again each time."""
    async with Bench(tmp_path / "own", own=None).running() as bench:
        quiet = Server(bench, 1, claims=1)
        for height in range(1, HEIGHTS + 1):
            quiet.claims = height + 1
            while height not in quiet.asked:
                quiet.claim()
                await trio.sleep(1)
                quiet.pending()
            quiet.peer.says(chain.answer(height))
            await bench.heights.wait_beyond(height - 1)
            for _ in range(6):
                quiet.claim()
                await trio.sleep(20)
        assert quiet.asked == list(range(1, HEIGHTS + 1))
        assert quiet.peer.penalties == []
        assert quiet.link.fault is None


async def test_a_peer_that_stalls_again_and_again_costs_ever_less(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What it holds up is asked of another after a moment, and it is given fewer and fewer chances."""
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        silent = Server(bench, 1, claims=1_000)

        async def claim() -> None:
            while True:
                silent.claim()
                await trio.sleep(0.5)

        nursery.start_soon(claim)
        await trio.sleep(1.5)
        assert silent.pending()
        nursery.start_soon(Server(bench, 2).serves, chain)
        await caught_up(bench, within_s=ANOTHER_S + 3)
        chances = []
        for _ in range(4):
            began_s = trio.current_time()
            while not silent.pending():  # noqa: ASYNC110  # a scripted peer gives no sign
                await trio.sleep(1)
            chances.append(trio.current_time() - began_s)
            await trio.sleep(ANSWER_S + 2)
        assert chances[1] < chances[2] < chances[3]
        nursery.cancel_scope.cancel()


async def test_a_peer_that_began_with_a_snapshot_is_not_distrusted_for_what_it_never_had(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It is asked once below its first block, and then only for what it has."""
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        late, whole = Server(bench, 1), Server(bench, 2, claims=4)

        async def serve_late() -> None:
            while True:
                late.claim()
                for height in late.pending():
                    late.peer.says(chain.answer(height) if height >= 4 else NoHeight(height, 4))
                await trio.sleep(0.05)

        nursery.start_soon(serve_late)
        await trio.sleep(5)
        assert bench.store.height == 0
        nursery.start_soon(whole.serves, chain)
        await caught_up(bench, within_s=DISTRUST_S - 10)
        assert sorted(height for height in late.asked if height >= 4) == [4, 5, 6]
        assert late.peer.penalties == []
        nursery.cancel_scope.cancel()


async def test_what_comes_early_is_verified_ahead_and_a_lie_in_it_costs_nothing_but_its_sender(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        liar = Server(bench, 1)
        liar.claim()
        await trio.sleep(1.5)
        assert {1, 2} <= set(liar.pending())
        second = chain.answer(2)
        liar.peer.says(dataclasses.replace(second, transactions=chain.answer(3).transactions), chain.answer(1))
        await bench.heights.wait_beyond(0)
        await settled()
        assert bench.store.height == 1
        assert liar.peer.penalties
        nursery.start_soon(Server(bench, 2).serves, chain)
        await caught_up(bench)
        nursery.cancel_scope.cancel()
