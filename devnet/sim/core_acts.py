"""What a machine of a core world asks for is done, or under way: the driver's `perform`, without any I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from consensus.effects import (
    BuildValue,
    Decide,
    Effect,
    EnteredRound,
    FetchBlock,
    FoundEquivocation,
    RefusedDecision,
    SignProposal,
    SignVote,
    StartTimer,
)
from consensus.inputs import BlockArrived, Input, ProposalReceived, TimerFired, VoteReceived
from devnet.sim.core_chain import is_valid
from devnet.sim.core_disk import Slot
from devnet.sim.core_messages import Build, make_proposal, make_vote
from devnet.sim.outcome import Broken

if TYPE_CHECKING:
    from devnet.sim.core_node import Node

BUILD_MS_MAX = 20


def perform(node: Node, effect: Effect, queue: deque[Input]) -> None:
    """*effect* is done or under way; what comes back at once, our own messages above all, goes to *queue*."""
    world = node.world
    match effect:
        case StartTimer(height=height, round=round_, step=step, duration_ms=duration_ms):
            world.later(node, int(duration_ms / (1 + node.drift)), TimerFired(height, round_, step))
        case SignVote():
            _vote(node, effect, queue)
        case SignProposal():
            _propose(node, effect, queue)
        case BuildValue(height=height, round=round_):
            if world.chance(world.build_failure):
                world.faults["build_failure"] += 1
            else:
                world.later(node, world.upto(BUILD_MS_MAX), Build(height, round_))
        case EnteredRound(height=height, round=round_):
            if round_ > 0 and node.honest:
                world.rounds.add((height, round_))
        case FetchBlock(height=height, block_id=block_id):
            node.known.wanted.add(block_id)
            if block_id in node.known.judged:
                queue.append(BlockArrived(height, block_id, is_valid(world.blocks[block_id], node.state)))
        case FoundEquivocation(first=first, second=second):
            if node.honest:
                world.promises.accuses(node, first, second)
                world.faults["liar: caught"] += 1
        case Decide():
            node.decision = effect
        case RefusedDecision():
            if node.honest:
                raise Broken("refused_decision", f"{node.name} refuses what more than 2/3 decided, {effect}")
        case _:
            pass


def _vote(node: Node, effect: SignVote, queue: deque[Input]) -> None:
    _sign(node, (effect.height, effect.round, int(effect.kind)), effect.block_id)
    vote = make_vote(node.address, effect.kind, effect.height, effect.round, effect.block_id)
    node.unspoken.append(vote)
    queue.append(VoteReceived(vote))


def _propose(node: Node, effect: SignProposal, queue: deque[Input]) -> None:
    _sign(node, (effect.height, effect.round, 0), effect.block_id)
    proposal = make_proposal(node.address, effect.height, effect.round, effect.pol_round, effect.block_id)
    node.known.has_proposal(proposal, timely=True)
    node.known.fed.add((effect.round, effect.block_id))
    node.unspoken.append(proposal)
    valid = is_valid(node.world.blocks[effect.block_id], node.state)
    queue.append(ProposalReceived(proposal, valid, True))


def _sign(node: Node, slot: Slot, block_id: bytes | None) -> None:
    """Without a signer's memory the log alone keeps the node from contradicting itself."""
    if node.world.plan.signer_memory and node.honest:
        node.signer.sign(slot, block_id)
