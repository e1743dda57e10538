"""A node that is behind catches up whatever some peers claim, hold back or forge; what it can't accept stops it."""

from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.application import BlockInfo, State
from consensus.block import Block, Commit
from consensus.codec import encode
from consensus.params import TINY
from node.block_sync import ANSWER_S, DISTRUST_S, PER_PEER_MAX, WINDOW_HEIGHTS
from node.stopped import NodeStopped
from node.sync_messages import (
    CHANNEL,
    MESSAGE_BYTES_MAX,
    DecidedHeight,
    Genesis,
    NoHeight,
    WantGenesis,
    WantHeight,
    to_wire,
)
from node.trust_root import TrustRoot
from tests.node.bench import PREVOTE, Bench, commit_of, genesis, settled, transaction
from tests.node.register_town import RegisterExecution, RegisterTown
from tests.node.sync_peers import HEIGHTS, Chain, Server, caught_up, decided_chain


@pytest.fixture
async def chain(tmp_path: Path) -> Chain:
    """Block n sets register n."""
    return await decided_chain(tmp_path / "source")


async def test_a_node_that_is_behind_catches_up_with_an_honest_peer(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        server = Server(bench, 1)
        nursery.start_soon(server.serves, chain)
        await caught_up(bench, within_s=5)
        assert sorted(server.asked) == list(range(1, HEIGHTS + 1)), "each height was asked once"
        await trio.sleep(1.5)
        assert not bench.sync.catching_up
        assert not bench.driver.voice.muted
        nursery.cancel_scope.cancel()


async def test_a_claim_alone_mutes_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path / "own").running() as bench:
        liar = Server(bench, 1, claims=2**62)
        for _ in range(100):
            liar.claim()
            await trio.sleep(0.2)
            assert not bench.driver.voice.muted
        assert bench.driver.height.own_votes, "it voted all the while"
        assert len(liar.peer.told(WantHeight)) <= PER_PEER_MAX * 20 / (ANSWER_S + DISTRUST_S) + PER_PEER_MAX


async def test_one_verified_height_does_not_mute_for_the_next(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench:
        liar = Server(bench, 1, claims=2**62)
        liar.claim()
        await trio.sleep(1.5)
        assert 1 in liar.pending()
        liar.peer.says(chain.answer(1))
        await bench.heights.wait_beyond(0)
        await trio.sleep(6)
        assert bench.driver.height.number == 2
        assert (PREVOTE, 0) in bench.driver.height.own_votes


async def test_who_owes_answers_is_asked_nothing_more_and_others_are_asked_instead(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        silent = Server(bench, 1)
        silent.claim()
        await trio.sleep(1.5)
        assert len(silent.pending()) == PER_PEER_MAX
        honest = Server(bench, 2)
        nursery.start_soon(honest.serves, chain)
        await caught_up(bench, within_s=ANSWER_S + 5)
        assert silent.pending() == []
        nursery.cancel_scope.cancel()


async def test_a_slow_link_is_no_fault_as_long_as_bytes_flow(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        slow = Server(bench, 1)
        nursery.start_soon(lambda: slow.serves(chain, late_s=3 * ANSWER_S))
        await caught_up(bench, within_s=HEIGHTS * 3 * ANSWER_S + 60)
        assert sorted(slow.asked) == list(range(1, HEIGHTS + 1))
        nursery.cancel_scope.cancel()


async def test_a_trickle_holds_nobody_up_for_long(chain: Chain, tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        trickling, honest = Server(bench, 1), Server(bench, 2)

        async def trickle() -> None:
            while True:
                trickling.claim()
                trickling.peer.bytes_received += 1
                await trio.sleep(1)

        nursery.start_soon(trickle)
        await trio.sleep(2)
        nursery.start_soon(honest.serves, chain)
        await caught_up(bench, within_s=2 * ANSWER_S)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_lacks_what_it_claims_is_left_for_a_while(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        empty = Server(bench, 1)
        nursery.start_soon(empty.serves, Chain([]))
        await trio.sleep(DISTRUST_S / 2)
        assert len(empty.asked) <= PER_PEER_MAX
        await trio.sleep(DISTRUST_S)
        assert len(empty.asked) > PER_PEER_MAX, "it is given another chance"
        assert empty.peer.penalties == []
        nursery.cancel_scope.cancel()


async def test_distrust_outlasts_the_connection_but_not_for_ever(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        first = Server(bench, 1)
        nursery.start_soon(first.serves, Chain([]))
        await trio.sleep(2)
        await first.link.leaves()
        again = Server(bench, 1)
        again.claim()
        await trio.sleep(2)
        assert again.pending() == []
        await again.link.leaves()
        await trio.sleep(DISTRUST_S)
        gone = bench.meets(2)
        await settled()
        await gone.leaves()
        assert bench.sync._sources == {}
        nursery.cancel_scope.cancel()


async def test_what_a_peer_owes_is_asked_of_another_at_once_when_it_goes(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        leaving, honest = Server(bench, 1), Server(bench, 2)
        leaving.claim()
        await trio.sleep(1.5)
        nursery.start_soon(honest.serves, chain)
        await trio.sleep(0.5)
        await leaving.link.leaves()
        await caught_up(bench, within_s=3)
        nursery.cancel_scope.cancel()


def _other_block(answer: DecidedHeight) -> Block:
    header = dataclasses.replace(answer.block.header, time_ms=answer.block.header.time_ms + 1)
    return dataclasses.replace(answer.block, header=header)


def _commit(answer: DecidedHeight, **changes: object) -> Commit:
    return dataclasses.replace(answer.commit, **changes)  # type: ignore[arg-type]


LIES = {
    "parts of another block": lambda a: dataclasses.replace(
        a, block=dataclasses.replace(a.block, transaction_ids=(bytes(32),))
    ),
    "a block that nobody signed": lambda a: dataclasses.replace(a, block=_other_block(a)),
    "a commit for another block": lambda a: dataclasses.replace(a, commit=_commit(a, block_id=bytes(32))),
    "a commit of another height": lambda a: dataclasses.replace(a, commit=_commit(a, height=9)),
    "a commit of another round": lambda a: dataclasses.replace(a, commit=_commit(a, round=9)),
    "too few signatures": lambda a: dataclasses.replace(
        a, commit=_commit(a, entries=(None, *a.commit.entries[1:3], None))
    ),
    "a commit of another size": lambda a: dataclasses.replace(a, commit=_commit(a, entries=a.commit.entries[:3])),
    "no bodies": lambda a: dataclasses.replace(a, transactions=()),
    "other bodies": lambda a: dataclasses.replace(a, transactions=(transaction(99),)),
    "one body too many": lambda a: dataclasses.replace(a, transactions=(*a.transactions, transaction(99))),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_refused_and_the_truth_taken_from_another(
    lie: str, chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        liar = Server(bench, 1)
        liar.claim()
        await trio.sleep(1.5)
        assert 1 in liar.pending()
        liar.peer.says(LIES[lie](chain.answer(1)))
        await settled()
        assert bench.store.height == 0
        assert liar.peer.penalties
        assert liar.link.fault is None
        nursery.start_soon(Server(bench, 2).serves, chain)
        await caught_up(bench)
        nursery.cancel_scope.cancel()


def _swollen(answer: DecidedHeight, height: int, size: int) -> bytes:
    """*answer*, as one of *height*, with evidence of *size* bytes that would be many times as large as objects."""
    header = dataclasses.replace(answer.block.header, height=height)
    marked = dataclasses.replace(answer.block, header=header, evidence=("here",))
    nested = b"\xdd" + (size // 2).to_bytes(4, "big") + b"\x91\x00" * (size // 2)
    before, after = to_wire(dataclasses.replace(answer, block=marked)).split(encode("here"))
    return before + nested + after


@pytest.mark.parametrize("size", [MESSAGE_BYTES_MAX - 10_000, 500_000])
async def test_lies_that_would_swell_are_read_one_at_a_time_and_not_at_all_where_no_block_is_so_large(
    size: int, chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench, trio.open_nursery() as nursery:
        liar = Server(bench, 1)
        liar.claim()
        await trio.sleep(1.5)
        swollen = [_swollen(chain.answer(1), height, size) for height in liar.pending()]
        assert len(swollen) == PER_PEER_MAX
        liar.peer.said[CHANNEL.id].extend(swollen)
        tracemalloc.start()
        try:
            liar.peer.says()
            await settled()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        as_objects = 40 * size
        assert peak < (as_objects if size <= TINY.block_bytes_max else size)
        assert liar.peer.penalties
        nursery.start_soon(Server(bench, 2).serves, chain)
        await caught_up(bench)
        nursery.cancel_scope.cancel()


async def test_answers_that_nobody_asked_for_mean_nothing(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench:
        link = bench.meets(1)
        link.peer.says(chain.answer(1), chain.answer(5), NoHeight(1, 1))
        await trio.sleep(2)
        assert bench.store.height == 0
        assert link.fault is None


async def test_a_genesis_that_nobody_asked_for_and_garbage_end_the_peer(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own").running() as bench:
        link = bench.meets(1)
        link.peer.says(Genesis(b"x"))
        await settled()
        assert link.fault is not None
        assert link.fault.code == "bad_message.unasked"
        other = bench.meets(2)
        other.peer.said[3].append(b"\xc1")
        other.peer.says()
        await settled()
        assert other.fault is not None


async def test_whoever_asks_gets_genesis_and_heights_as_far_as_they_are_here(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path / "own", own=None).running() as bench:
        block = await bench.decides(bench.meets(1))
        asker = bench.meets(2)
        asker.peer.says(WantGenesis(), WantHeight(0), WantHeight(1), WantHeight(2))
        await settled()
        assert asker.peer.told(Genesis)[0].file == genesis().raw
        assert asker.peer.told(NoHeight) == [NoHeight(0, 1), NoHeight(2, 1)]
        assert asker.peer.told(DecidedHeight)[0].block == block


async def test_a_height_that_is_kept_no_more_is_not_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path / "own", own=None).running() as bench:
        link = bench.meets(1)
        for number in range(3):
            await bench.decides(link, transaction(number, key=number))
        await bench.store.forget({**bench.store.kept.earliest, "blocks": 2, "results": 2, "events": 2, "index": 2})
        asker = bench.meets(2)
        asker.peer.says(WantHeight(1), WantHeight(2))
        await settled()
        assert asker.peer.told(NoHeight) == [NoHeight(1, bench.store.kept.earliest["blocks"])]
        assert [answer.block.header.height for answer in asker.peer.told(DecidedHeight)] == [2]


async def _stops(bench: Bench, chain: Chain) -> str:
    """The reason with which the node stops while it syncs."""
    with pytest.raises(ExceptionGroup) as stopped:  # noqa: PT012
        async with bench.running(), trio.open_nursery() as nursery:
            nursery.start_soon(Server(bench, 1).serves, chain)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
    error: BaseException = stopped.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, NodeStopped)
    return str(error)


async def test_a_decision_that_we_compute_otherwise_stops_the_node(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    bench = Bench(tmp_path / "own", app=_WrongTown())
    assert "register" in await _stops(bench, chain)


async def test_a_decided_block_that_breaks_a_rule_stops_the_node(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    bench = Bench(tmp_path / "own")
    answer = chain.answer(1)
    broken = dataclasses.replace(answer.block, header=dataclasses.replace(answer.block.header, chain_id="other"))
    forged = DecidedHeight(broken, answer.transactions, commit_of(bench, broken, 1, 2, 3))
    assert "chain" in await _stops(bench, Chain([forged]))


async def test_a_chain_without_the_block_that_the_link_vouches_for_is_refused(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    root = TrustRoot(3, bytes(32))
    assert "another chain" in await _stops(Bench(tmp_path / "own", trust_root=root), chain)
    bench = Bench(tmp_path / "own")
    assert bench.store.height == 2
    bench.close()
    with pytest.raises(NodeStopped, match="another chain"):
        Bench(tmp_path / "own", trust_root=TrustRoot(2, bytes(32)))


async def test_a_chain_with_the_block_that_the_link_vouches_for_is_followed(
    chain: Chain, tmp_path: Path, autojump_clock: MockClock
) -> None:
    root = TrustRoot(3, chain.answer(3).block.id)
    bench = Bench(tmp_path / "own", trust_root=root)
    assert bench.driver.awaits_trust_root()
    async with bench.running(), trio.open_nursery() as nursery:
        nursery.start_soon(Server(bench, 1).serves, chain)
        await caught_up(bench)
        nursery.cancel_scope.cancel()
    assert not bench.driver.awaits_trust_root()
    Bench(tmp_path / "own", trust_root=root).close()


async def test_the_window_is_shared_by_those_who_claim_to_have_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path / "own").running() as bench:
        servers = [Server(bench, number, claims=2 if number == 1 else 1_000) for number in range(1, 7)]
        for server in servers:
            server.claim()
        servers[5].peer.takes_messages = False
        await trio.sleep(1.5)
        asked = [server.pending() for server in servers]
        assert asked[0] in ([], [1]), "it has no more"
        assert sorted(height for heights in asked for height in heights) == list(range(1, WINDOW_HEIGHTS + 1))
        assert all(len(heights) <= PER_PEER_MAX for heights in asked)


class _WrongTown(RegisterTown):
    """Computes something else than the others."""

    def execute(self, state: State, block: BlockInfo) -> RegisterExecution:
        run = super().execute(state, block)
        run._changes["register"][b"0"] = b"wrong"
        return run
