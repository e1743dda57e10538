"""A core world's trace, for people: who was given what, and what it did then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.effects import (
    BuildValue,
    Decide,
    Effect,
    EnteredRound,
    EnteredStep,
    FetchBlock,
    FoundEquivocation,
    KeepBlock,
    RefusedDecision,
    SignProposal,
    SignVote,
    StartTimer,
)
from consensus.inputs import BeginRound, BlockArrived, HeaderSeen, Input, ProposalReceived, TimerFired, ValueBuilt
from consensus.vote import Vote

if TYPE_CHECKING:
    from devnet.sim.core_node import Node
    from devnet.sim.core_world import World


def step(world: World, node: Node, event: Input, effects: list[Effect]) -> str:
    """One line."""
    machine = node.machine
    told = [text for text in (_effect(world, effect) for effect in effects) if text]
    where = f"{node.name:<4} h{node.height} r{machine.round} {machine.step.name:<9}"
    return f"{where} {_input(world, event)}" + (f"  →  {', '.join(told)}" if told else "")


def _input(world: World, event: Input) -> str:
    match event:
        case BeginRound():
            return "has something to decide"
        case HeaderSeen():
            return "sees round 0's header"
        case ProposalReceived(proposal=proposal, valid=valid, timely=timely):
            doubts = ("" if valid else " INVALID") + ("" if timely else " UNTIMELY")
            pol = f" with POL round {proposal.pol_round}" if proposal.pol_round >= 0 else ""
            return f"proposal of r{proposal.round}: {_block(world, proposal.block_id)}{pol}{doubts}"
        case ValueBuilt(block_id=block_id):
            return f"has built {_block(world, block_id)}"
        case TimerFired(round=round_, step=timed):
            return f"{timed.name.lower()} timeout of r{round_}"
        case BlockArrived(block_id=block_id, valid=valid):
            return f"has got {_block(world, block_id)}" + ("" if valid else " INVALID")
        case _:
            return _vote(world, event.vote)


def _effect(world: World, effect: Effect) -> str | None:
    match effect:
        case SignVote(kind=kind, block_id=block_id):
            return f"{kind.name.lower()}s {_block(world, block_id)}"
        case SignProposal(block_id=block_id, pol_round=pol_round):
            return f"proposes {_block(world, block_id)}" + (f" with POL round {pol_round}" if pol_round >= 0 else "")
        case BuildValue():
            return "builds"
        case FetchBlock(block_id=block_id):
            return f"fetches {_block(world, block_id)}"
        case KeepBlock(block_id=block_id, locked=locked):
            return f"{'locks' if locked else 'keeps'} {_block(world, block_id)}"
        case Decide(round=round_, block_id=block_id):
            return f"DECIDES {_block(world, block_id)} of r{round_}"
        case RefusedDecision(block_id=block_id):
            return f"REFUSES {_block(world, block_id)}"
        case FoundEquivocation(first=first, second=second):
            return f"catches {_vote(world, first)} and {_vote(world, second)}"
        case EnteredRound(round=round_):
            return f"round {round_}"
        case StartTimer() | EnteredStep():
            return None


def _vote(world: World, vote: Vote) -> str:
    name = next((node.name for node in world.nodes if node.address == vote.validator), "a stranger")
    return f"{vote.kind.name.lower()} of {name}, r{vote.round}: {_block(world, vote.block_id)}"


def _block(world: World, block_id: bytes | None) -> str:
    if block_id is None:
        return "nil"
    block = world.blocks.get(block_id)
    return block.name if block is not None else block_id.hex()[:8]
