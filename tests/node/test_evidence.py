"""A validator that signs twice is found out, convicted once and loses its power on every node; and nobody else does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from consensus.codec import BadMessage, encode
from consensus.evidence import PUNISHED, TOO_NEW, TOO_OLD, DuplicateVote, Uncounted, from_wire
from consensus.evidence import to_wire as evidence_to_wire
from consensus.signing import sha256
from consensus.vote import Vote
from node import evidence_gossip, evidence_pool
from node.consensus_messages import Votes
from node.engine import Engine
from node.evidence_gossip import TELL_AGAIN_S, Charges, EvidenceGossip, Settled, to_wire
from node.evidence_pool import FULL, EvidencePool
from node.retention import BLOCKS
from node.store_environment import StoreFailed
from node.trust_root import TrustRoot
from p2p.peer import Peer
from tests.node.bench import PREVOTE, Bench, address, settled, vote
from tests.node.small_net import SmallNet

A, B = sorted([sha256(b"a"), sha256(b"b")])


def lie(number: int, *, height: int) -> DuplicateVote:
    """Validator *number* prevoted A and B in round 0."""
    return DuplicateVote.of(*(vote(PREVOTE, height, 0, value, number) for value in (A, B)))


def blocks_with_evidence(engine: Engine) -> list[tuple[int, DuplicateVote]]:
    """Every piece on the chain of *engine*, with its height."""
    return [
        (height, from_wire(piece))
        for height in range(engine.store.kept.earliest[BLOCKS], engine.store.height + 1)
        for piece in engine.store.block(height).evidence
    ]


def power(engine: Engine, number: int) -> int:
    """Of a validator at the next height."""
    chain = engine.store.chain_state()
    assert chain is not None
    member = chain.validators.by_address(address(number))
    return 0 if member is None else member.power


async def decided_evidence(net: SmallNet) -> None:
    """Every engine has a block with evidence, and two more."""
    height = 1
    while not all(blocks_with_evidence(engine) for engine in net.engines.values()):
        await net.height(height)
        height += 1
        assert height < 20, "nobody was convicted"
    await net.height(max(engine.store.height for engine in net.engines.values()) + 2, within_s=120)


async def test_a_validator_that_votes_twice_is_convicted_once_and_loses_its_power_everywhere(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it says, it says the contrary too, until it is out of the set; the chain goes on."""
    net = SmallNet(tmp_path, validators=5)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        gossip = net.engines[4]._gossip
        publish = gossip.publish_vote

        def say_both(said: Vote) -> None:
            publish(said)
            contrary = A if said.block_id is None else None
            publish(vote(said.kind, said.height, said.round, contrary, 4))

        monkeypatch.setattr(gossip, "publish_vote", say_both)
        await decided_evidence(net)
        for engine in net.engines.values():
            assert [piece.accused for _, piece in blocks_with_evidence(engine)] == [address(4)]
            assert [power(engine, number) for number in range(5)] == [10, 10, 10, 10, 0]
            assert len(engine.evidence) == 0
            assert engine.evidence.committed == 1
        assert all(net.engines[number].driver.equivocations for number in range(4))
        net.assert_one_history()
        nursery.cancel_scope.cancel()


async def test_two_votes_shown_to_one_node_alone_convict_on_all(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The witness tells the others, and an idle chain makes a block for it at once."""
    net = SmallNet(tmp_path, heartbeat_ms=30_000)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.sets(0, 1, 1)
        await net.height(1)
        began = trio.current_time()
        net.engines[2].evidence.add(lie(3, height=1))
        await net.height(2)
        assert trio.current_time() - began < 5.0
        for engine in net.engines.values():
            assert blocks_with_evidence(engine) == [(2, lie(3, height=1))]
            assert power(engine, 3) == 0
        with pytest.raises(Uncounted) as refusal:
            net.engines[0].evidence.add(lie(3, height=1))
        assert refusal.value.code == PUNISHED
        nursery.cancel_scope.cancel()


async def test_evidence_survives_a_crash_before_its_block(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The only witness is killed before it could tell anybody."""
    net = SmallNet(tmp_path, heartbeat_ms=30_000)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.sets(0, 1, 1)
        await net.height(1)
        net.split((2,), (0, 1, 3))
        net.engines[2].evidence.found(lie(3, height=1))
        await net.kill(2)
        net.heal((2,), (0, 1, 3))
        await net.start(nursery, 2)
        await decided_evidence(net)
        nursery.cancel_scope.cancel()


async def test_a_node_that_was_away_is_told_when_it_has_caught_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Evidence of a height above its own is no lie to it, and comes again."""
    net = SmallNet(tmp_path, full_nodes=1, heartbeat_ms=60_000)
    async with trio.open_nursery() as nursery:
        await net.start(nursery, 0, 1, 2, 3)
        await net.sets(0, 1, 1)
        await net.height(1)
        await net.kill(1, 2, 3)
        net.engines[0].evidence.add(lie(3, height=1))
        await net.start(nursery, 4)
        await net.height(1, 4)
        with trio.fail_after(30):
            await net.engines[4].evidence.wait_for_work()
        assert len(net.engines[0].network.peers) == 1
        nursery.cancel_scope.cancel()


async def test_a_node_that_joined_by_snapshot_judges_evidence_from_before_it_like_the_others(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Though it has neither the blocks of then nor the set, which is another one now."""
    net = SmallNet(tmp_path, full_nodes=1, heartbeat_ms=4_000_000, snapshot_interval_blocks=4)
    async with trio.open_nursery() as nursery:
        await net.start(nursery, 0, 1, 2, 3)
        await net.sets(0, 1, 1)
        await net.height(1)
        await net.powers(0, 3, 0)  # gone from height 3 on
        await net.height(2)
        for height in range(3, 8):
            await net.sets(0, 1, height)
            await net.height(height)
        net.trust_roots[4] = TrustRoot(6, net.engines[0].store.header(6).id)
        await net.start(nursery, 4)
        await net.height(7, 4)
        newcomer = net.engines[4]
        assert newcomer.store.kept.earliest[BLOCKS] > 2
        charges_then = (forged(3, height=1), lie(9, height=1), lie(3, height=3), lie(3, height=100))
        for engine in net.engines.values():
            codes = [code(engine.evidence, charge) for charge in charges_then]
            assert codes == ["bad_message.evidence"] * 3 + [TOO_NEW]
        assert code(newcomer.evidence, lie(3, height=1)) == ""
        await net.height(8)
        for engine in net.engines.values():
            assert blocks_with_evidence(engine) == [(8, lie(3, height=1))]
        assert len({engine.store.header(8).id for engine in net.engines.values()}) == 1
        nursery.cancel_scope.cancel()


async def test_a_sender_of_false_charges_is_dropped_by_real_peers(tmp_path: Path, autojump_clock: MockClock) -> None:
    """And the accused keeps its power."""
    net = SmallNet(tmp_path)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(2)
        liar = net.engines[0]
        for peer in list(liar.network.peers.values()):
            peer.offer(evidence_gossip.CHANNEL.id, to_wire(charges(forged(3, height=1))))
        await trio.sleep(1)
        points = [net.engines[n].network.scores.points(liar.network.node_id, trio.current_time()) for n in (1, 2, 3)]
        assert all(points)
        await net.height(liar.store.height + 2)
        assert not any(blocks_with_evidence(engine) for engine in net.engines.values())
        assert [power(net.engines[1], number) for number in range(4)] == [10] * 4
        nursery.cancel_scope.cancel()


# One node -----------------------------------------------------------------------------------------------------------


async def test_own_finds_are_ripe_once_their_height_is_decided(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Each validator's first is kept."""
    async with Bench(tmp_path, own=None).running() as bench:
        link = bench.meets(1)
        await bench.decides(link)
        link.peer.says(Votes(tuple(vote(PREVOTE, 2, round_, value, 3) for round_ in (0, 1) for value in (A, B))))
        await settled()
        assert bench.driver.equivocations == 2
        assert len(bench.evidence) == 1
        assert bench.evidence.ripe() == []
        await bench.decides(link)
        assert bench.evidence.for_block() == [lie(3, height=2)]


async def test_a_find_is_made_again_from_the_log(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Though the pool was lost with the crash: what we said after it made the log durable."""
    async with Bench(tmp_path).running() as bench:
        bench.meets(1).peer.says(Votes(tuple(vote(PREVOTE, 1, 0, value, 3) for value in (A, B))))
        await trio.sleep(6)
        epoch = bench._epoch
        for file in (tmp_path / "evidence").iterdir():
            file.unlink()
    async with Bench(tmp_path, epoch=epoch).running() as bench:
        assert len(bench.evidence) == 1


async def test_what_no_longer_counts_leaves_the_pool(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Too old, or punished by a block that somebody else made."""
    async with Bench(
        tmp_path, own=None, evidence_age_blocks=1, evidence_age_ms=200_000, trusting_period_ms=100_000
    ).running() as bench:
        link = bench.meets(1)
        await bench.decides(link)
        bench.evidence.add(lie(3, height=1))
        assert code(bench.evidence, lie(2, height=2)) == TOO_NEW
        await trio.sleep(4_000)
        await bench.decides(link)
        assert len(bench.evidence) == 1
        await bench.decides(link)
        assert len(bench.evidence) == 0
        assert code(bench.evidence, lie(3, height=1)) == TOO_OLD
        bench.evidence.found(lie(3, height=1))
        assert len(bench.evidence) == 0, "a block with it would be invalid"


def code(pool: EvidencePool, evidence: DuplicateVote) -> str:
    """Why *pool* does not take *evidence*; "" if it does."""
    try:
        pool.add(evidence)
    except (BadMessage, Uncounted) as refusal:
        return refusal.code
    return ""


async def test_the_pool_survives_a_restart_and_is_bounded(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_pool, "WAITING_MAX", 2)
    async with Bench(tmp_path, own=None).running() as bench:
        await bench.decides(bench.meets(1))
        for number in (0, 1):
            assert code(bench.evidence, lie(number, height=1)) == ""
        assert code(bench.evidence, lie(1, height=1)) == ""  # of the same validator nothing more is needed
        assert code(bench.evidence, lie(2, height=1)) == FULL
        bench.evidence.found(lie(2, height=2))
        assert len(bench.evidence) == 2
        assert code(bench.evidence, forged(3, height=1)) == "bad_message.evidence"
        epoch = bench._epoch
    async with Bench(tmp_path, own=None, epoch=epoch).running() as bench:
        assert sorted(piece.accused for piece in bench.evidence.ripe()) == sorted([address(0), address(1)])


async def test_a_pool_of_another_chain_state_lets_go_of_what_is_false_here(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """As after the chain's folder was replaced."""
    async with Bench(tmp_path, own=None).running() as bench:
        bench.evidence.found(lie(9, height=1))
        await bench.decides(bench.meets(1))
        assert len(bench.evidence) == 0


async def test_a_damaged_pool_stops_the_node_and_says_what_to_do(tmp_path: Path, autojump_clock: MockClock) -> None:
    pool = EvidencePool.open(tmp_path / "pool")
    pool._write({bytes(20): encode((7, ()))})
    pool.close()
    with pytest.raises(StoreFailed, match="move the folder away"):
        EvidencePool.open(tmp_path / "pool")


# The conversation ---------------------------------------------------------------------------------------------------


class Line:
    """A peer of whom a test hears what it is told, and says what it likes."""

    id = bytes(32)

    def __init__(self) -> None:
        self._say, self._said = trio.open_memory_channel[object](math.inf)
        self.heard: list[object] = []

    def says(self, message: object) -> None:
        """*message* arrives."""
        self._say.send_nowait(message)

    async def receive(self, channel_id: int) -> bytes:
        """As `Peer.receive`."""
        said = await self._said.receive()
        return said if isinstance(said, bytes) else to_wire(cast(evidence_gossip.EvidenceMessage, said))

    async def send(self, channel_id: int, message: bytes) -> None:
        """As `Peer.send`."""
        await trio.lowlevel.checkpoint()
        self.offer(channel_id, message)

    def offer(self, channel_id: int, message: bytes) -> bool:
        """As `Peer.offer`."""
        assert channel_id == evidence_gossip.CHANNEL.id
        self.heard.append(evidence_gossip.from_wire(message))
        return True


def charges(*pieces: DuplicateVote) -> Charges:
    return Charges(tuple(evidence_to_wire(piece) for piece in pieces))


async def test_a_peer_is_told_until_it_has_dealt_with_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=None).running() as bench, trio.open_nursery() as nursery:
        await bench.decides(bench.meets(1))
        line = Line()
        nursery.start_soon(EvidenceGossip(bench.evidence).serve, cast(Peer, line))
        await trio.sleep(60)
        assert line.heard == []
        bench.evidence.add(lie(3, height=1))
        await trio.sleep(2.5 * TELL_AGAIN_S)
        assert line.heard == [charges(lie(3, height=1))] * 3
        line.says(Settled((bytes(32), lie(3, height=1).id)))
        await trio.sleep(10 * TELL_AGAIN_S)
        assert len(line.heard) == 3
        bench.evidence.add(lie(2, height=1))
        await trio.sleep(1)
        assert line.heard[3:] == [charges(lie(2, height=1))]
        nursery.cancel_scope.cancel()


async def test_a_peer_learns_what_need_not_be_told_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What waits here and what counts no more; not what is of heights to come. And it is not told its own news."""
    async with Bench(tmp_path, own=None).running() as bench, trio.open_nursery() as nursery:
        await bench.decides(bench.meets(1))
        line = Line()
        nursery.start_soon(EvidenceGossip(bench.evidence).serve, cast(Peer, line))
        line.says(charges(lie(3, height=1), lie(1, height=0), lie(2, height=2)))
        line.says(charges(lie(2, height=2)))
        await trio.sleep(10 * TELL_AGAIN_S)
        assert line.heard == [Settled((lie(3, height=1).id, lie(1, height=0).id))]
        assert bench.evidence.ripe() == [lie(3, height=1)]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["forged", "stranger", "same vote", "unknown kind", "garbage"])
async def test_what_no_honest_peer_says_ends_the_peer(kind: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    first = lie(3, height=1).first
    said = {
        "forged": charges(forged(3, height=1)),
        "stranger": charges(lie(9, height=1)),
        "same vote": charges(DuplicateVote(first, first)),
        "unknown kind": Charges(((99, ()),)),
        "garbage": b"\xc1",
    }[kind]
    async with Bench(tmp_path, own=None).running() as bench:
        await bench.decides(bench.meets(1))
        line = Line()
        line.says(said)
        with pytest.raises(ExceptionGroup) as ended:
            await EvidenceGossip(bench.evidence).serve(cast(Peer, line))
        assert ended.group_contains(BadMessage)
        assert len(bench.evidence) == 0


def forged(number: int, *, height: int) -> DuplicateVote:
    """Signatures that are none."""
    true = lie(number, height=height)
    return DuplicateVote(*(replace(one, signature=bytes(64)) for one in (true.first, true.second)))
