"""Core worlds: one block for all whatever happens, a further height for all after healing, and a checker that looks."""

from __future__ import annotations

import random
from itertools import count
from pathlib import Path

import pytest

from consensus.inputs import Step
from consensus.vote import Vote, VoteKind
from devnet.sim import core
from devnet.sim.core_gossip import supply
from devnet.sim.core_liars import AMNESIA
from devnet.sim.core_messages import Message, make_vote
from devnet.sim.core_node import Node
from devnet.sim.core_plan import HEIGHTS, TWINS, Plan
from devnet.sim.core_world import World
from devnet.sim.outcome import Broken
from devnet.sim.seeds import kept

SEEDS = range(60)
FOUR = (10, 10, 10, 10)
FAILED = kept(Path(__file__).parent / "failed_core_seeds.txt")


def world(plan: Plan, seed: int = 1) -> World:
    return World(plan, random.Random(seed))


@pytest.mark.parametrize("first", range(0, len(SEEDS), 15))
def test_correct_nodes_decide_one_chain_through_faults_and_liars_and_all_go_on_after_healing(first: int) -> None:
    for seed in SEEDS[first : first + 15]:
        outcome = core.run(seed)
        assert outcome.violation is None, f"allting devnet sim --seeds {seed} --trace"
        assert outcome.heights >= HEIGHTS


@pytest.mark.parametrize("seed", FAILED)
def test_what_failed_once_holds_now(seed: int) -> None:
    assert core.run(seed).violation is None


def test_calm_world_decides_in_round_0() -> None:
    calm = world(Plan(powers=(1, 2, 3, 4), reserves=1))
    calm.run()
    assert calm.bottom >= HEIGHTS
    assert not calm.rounds
    assert set(calm.faults) <= {"reordering"}


def test_lonely_validator_decides_alone() -> None:
    lonely = world(Plan(powers=(7,)))
    lonely.run()
    assert lonely.bottom >= HEIGHTS


def test_vote_that_later_ones_of_its_maker_displaced_is_supplied_once_its_round_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = world(Plan(powers=FOUR))
    node, peer, third, liar = told.nodes

    def precommit(maker: Node, round_: int) -> Vote:
        return make_vote(maker.address, VoteKind.PRECOMMIT, 1, round_, None)

    for round_ in (1, 5, 6):
        peer.receive(precommit(liar, round_))
    peer.receive(precommit(node, 1))
    peer.receive(precommit(third, 1))
    node.receive(precommit(liar, 1))
    node.receive(precommit(third, 1))
    assert node.machine.round == peer.machine.round == 1
    assert peer.machine.tally.vote(1, VoteKind.PRECOMMIT, liar.address) is None

    sent: list[Message] = []
    monkeypatch.setattr(told.wire, "send", lambda sender, peer, message: sent.append(message))
    supply(told, node, peer)
    assert precommit(liar, 1) in sent


def twins_on_both_sides(liars: int, seed: int) -> World:
    """Four equal validators, *liars* of them twins with one on each side of a split; the honest ones on both sides."""
    split = world(Plan(powers=FOUR, liars={number: frozenset({TWINS}) for number in range(liars)}), seed)
    sides = [node.number % 2 if node.honest else int("'" in node.name) for node in split.nodes]
    split.wire.cut = {(a, b) for a, left in enumerate(sides) for b, right in enumerate(sides) if left != right}
    return split


def test_checker_sees_the_fork_that_more_than_a_third_of_liars_can_make() -> None:
    with pytest.raises(Broken, match="fork"):
        twins_on_both_sides(2, seed=0).chaos()


@pytest.mark.parametrize("seed", range(5))
def test_fewer_liars_cannot_fork_in_the_same_split(seed: int) -> None:
    split = twins_on_both_sides(1, seed)
    split.run()
    assert split.bottom >= HEIGHTS


def decided_by_one_alone(tricks: frozenset[str]) -> World:
    """Half of the power has *tricks*. Of two honest nodes that can't hear each other one proposes, and is heard no more
    once it has prevoted: it decides by the liars' precommits, and they and the other go on to the next round.
    """
    plan = Plan(powers=FOUR, liars={0: tricks, 1: tricks}, contested=True)
    worlds = (world(plan, seed) for seed in count())
    told = next(told for told in worlds if told.genesis.validators.proposer(0).address == told.nodes[2].address)
    told.wire.racing = False
    told.wire.cut = {(2, 3), (3, 2)}

    def hush() -> None:
        if told.nodes[2].machine.step >= Step.PREVOTE:
            told.wire.cut |= {(2, 0), (2, 1)}
        else:
            told.do(1, hush)

    hush()
    return told


def test_checker_sees_the_fork_that_more_than_a_third_can_make_by_forgetting_their_locks() -> None:
    forgetful = decided_by_one_alone(frozenset({"amnesia"}))
    with pytest.raises(Broken, match="fork: height 1:"):
        forgetful.chaos()
    assert forgetful.lines_of_liars[AMNESIA]
    assert not forgetful.faults["liar: caught"]


def test_the_same_validators_cannot_fork_if_they_keep_their_locks() -> None:
    faithful = decided_by_one_alone(frozenset())
    faithful.run()
    assert faithful.bottom >= HEIGHTS
