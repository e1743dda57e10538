"""An attack on a light client that one node was told of: all learn of it, and who signed twice loses its power."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from consensus.block import Commit, Header, Signed
from consensus.chain import without_priorities
from consensus.codec import BadMessage, encode
from consensus.evidence import DuplicateVote, Uncounted, to_wire
from consensus.light_attack import LightClientAttack
from consensus.signing import public_key, sign
from consensus.vote import VoteKind, vote_sign_bytes
from node import divergence_gossip
from node.divergence_gossip import DivergenceGossip
from node.engine import Engine
from p2p.peer import Peer
from tests.node.served import served
from tests.node.small_net import CHAIN_ID, SmallNet, seed
from tests.node.test_divergence_pool import Node, attack

Clock = MockClock


def fork(engine: Engine, height: int, *liars: int, signed: bool = True) -> LightClientAttack:
    """Another block of *height*, signed by validators *liars* in the round in which the true one was decided."""
    store = engine.store
    header: Header = replace(store.header(height), app_hash=b"\xab" * 32)
    round_ = store.commit_of(height)[0].round
    message = vote_sign_bytes(CHAIN_ID, VoteKind.PRECOMMIT, height, round_, header.id)
    seeds = {public_key(seed("validator", number)): seed("validator", number) for number in liars}
    members = without_priorities(store.validators_at(height))
    entries = tuple(
        Signed(True, sign(seeds[member.public_key], message) if signed else bytes(64))
        if member.public_key in seeds
        else None
        for member in members.validators
    )
    return LightClientAttack(height - 2, header, Commit(height, round_, header.id, entries), members)


async def test_all_nodes_learn_of_an_attack_and_the_liars_are_convicted(tmp_path: Path, autojump_clock: Clock) -> None:
    """Also one that joins later. Two of four signed twice, and the town goes on without them."""
    net = SmallNet(tmp_path, full_nodes=1, powers=(40, 10, 10, 10))
    async with trio.open_nursery() as nursery:
        await net.start(nursery, 0, 1, 2, 3)
        await net.height(4, 0, 1, 2, 3)
        charge = fork(net.engines[0], 3, 0, 1)
        proved = net.engines[0].divergences.add(charge)
        assert len(proved.finding.culprits) == 2
        await net.start(nursery, 4)
        for engine in net.engines.values():
            with trio.fail_after(60):
                await engine.divergences.wait_beyond(0)
            assert [each.attack for each in engine.divergences.known.values()] == [charge]
        with trio.fail_after(120):
            while any(engine.evidence.committed < 2 for number, engine in net.engines.items() if number < 4):
                await net.height(max(engine.store.height for engine in net.engines.values()) + 1, within_s=120)
        chain = net.engines[2].store.chain_state()
        assert chain is not None
        left = {member.public_key for member in chain.validators.validators}
        assert left == {public_key(seed("validator", number)) for number in (2, 3)}
        nursery.cancel_scope.cancel()


async def test_who_spreads_a_false_attack_is_charged_for_it(tmp_path: Path, autojump_clock: Clock) -> None:
    net = SmallNet(tmp_path)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(4)
        liar = net.engines[0]
        false = fork(liar, 3, 0, 1, 2, signed=False)
        for peer in list(liar.network.peers.values()):
            peer.offer(divergence_gossip.CHANNEL.id, false.encoded)
        await trio.sleep(1)
        points = [net.engines[n].network.scores.points(liar.network.node_id, trio.current_time()) for n in (1, 2, 3)]
        assert all(points)
        assert not any(engine.divergences.known for engine in net.engines.values())
        await net.height(liar.store.height + 2)
        nursery.cancel_scope.cancel()


class Line:
    """A peer that says what the test tells it to, and keeps what it is told."""

    def __init__(self) -> None:
        self.says, self._said = trio.open_memory_channel[bytes](16)
        self.heard: list[bytes] = []

    async def receive(self, channel_id: int) -> bytes:
        """As `Peer.receive`."""
        return await self._said.receive()

    async def send(self, channel_id: int, message: bytes) -> None:
        """As `Peer.send`."""
        await trio.lowlevel.checkpoint()
        self.heard.append(message)


async def test_each_attack_is_told_once_and_not_to_who_told_it(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town, trio.open_nursery() as nursery:
        await town.height(6)
        pool, line = Node(town).pool, Line()
        nursery.start_soon(DivergenceGossip(pool).serve, cast(Peer, line))
        line.says.send_nowait(attack(town, 5).encoded)
        await trio.sleep(1)
        assert len(pool.known) == 1
        other = attack(town, 4)
        pool.add(other)
        await trio.sleep(30)
        assert line.heard == [other.encoded]
        with pytest.raises(Uncounted):
            pool.add(attack(town, 1_000, time_ms=town.services.now_ms() + 90_000))
        line.says.send_nowait(attack(town, 1_000, time_ms=town.services.now_ms() + 90_000).encoded)
        await trio.sleep(1)
        assert len(pool.known) == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["forged", "other kind", "garbage"])
async def test_what_no_honest_peer_says_ends_the_peer(kind: str, tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(6)
        node, line = Node(town), Line()
        node.pool.add(attack(town, 5))
        [votes] = node.convicted
        assert isinstance(votes, DuplicateVote)
        line.says.send_nowait(
            {
                "forged": attack(town, 4, signed=False).encoded,
                "other kind": encode(to_wire(votes)),
                "garbage": b"\xc1",
            }[kind]
        )
        with pytest.raises(ExceptionGroup) as ended:
            await DivergenceGossip(node.pool).serve(cast(Peer, line))
        assert ended.group_contains(BadMessage)
