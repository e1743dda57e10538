"""A node of a core world comes back: its log is fed to a fresh machine, and what was under way goes on.

As `node.consensus_replay` does it, with what that asserts, and more: the machine must answer as it did before.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from consensus.effects import BuildValue, Decide, Effect, FetchBlock, SignProposal, SignVote, StartTimer
from consensus.inputs import BlockArrived, Input, ProposalReceived, Step, ValueBuilt, VoteReceived
from consensus.vote import Proposal, Vote, VoteKind
from devnet.sim.core_disk import Signed
from devnet.sim.core_messages import mark
from devnet.sim.outcome import Broken

if TYPE_CHECKING:
    from devnet.sim.core_node import Node


def replay(node: Node) -> list[Effect]:
    """*node*'s machine is where its log ends; returned: what must be done (again). Raises Broken."""
    node.machine = node.fresh_machine(Counter())
    done: list[Effect] = []
    for event, expected in zip(node.log.inputs, node.log.answers, strict=True):
        _recall(node, event)
        answer = node.machine.handle(event)
        if answer != expected:
            raise Broken("replay", f"{node.name}: {event} gave {expected} before the crash, and now {answer}")
        done += answer
    node.log.sync()
    node.signer.recall(_signed(node))
    if node.honest:
        node.machine.lines = node.world.lines
        _check_own_word(node)
    return [effect for effect in done if _is_still_wanted(node, effect)]


def _recall(node: Node, event: Input) -> None:
    """What the driver knows again because *event* is in its log."""
    match event:
        case VoteReceived(vote=vote):
            node.known.votes[vote.round, vote.kind, vote.validator, vote.block_id] = vote
        case ProposalReceived(proposal=proposal, timely=timely):
            node.known.has_proposal(proposal, timely=timely)
            node.known.fed.add((proposal.round, proposal.block_id))
            node.known.has_block(node.world.blocks[proposal.block_id])
        case ValueBuilt(block_id=block_id) | BlockArrived(block_id=block_id):
            node.known.has_block(node.world.blocks[block_id])
        case _:
            pass


def _own(node: Node) -> list[Vote | Proposal]:
    """What the log holds of our own."""
    said: list[Vote | Proposal] = [*node.known.votes.values(), *node.known.proposals.values()]
    return [message for message in said if message.signature == mark(node.address)]


def _signed(node: Node) -> list[Signed]:
    return [
        ((said.height, said.round, int(said.kind) if isinstance(said, Vote) else 0), said.block_id)
        for said in _own(node)
    ]


def _check_own_word(node: Node) -> None:
    """What the log says that we said stands, and what we precommitted is locked."""
    for said in _own(node):
        if isinstance(said, Proposal):
            node.world.promises.proposes(node, said)
            continue
        if said.kind is VoteKind.PRECOMMIT and said.block_id and node.machine.locked_round < said.round:
            raise Broken("replay", f"{node.name}: the lock of {said} is lost")
        node.world.promises.votes(node, said)  # a peer may be given it from now on


def _is_still_wanted(node: Node, effect: Effect) -> bool:
    machine = node.machine
    match effect:
        case SignVote(kind=kind, round=round_, block_id=block_id):
            return round_ >= machine.round and (round_, kind, node.address, block_id) not in node.known.votes
        case SignProposal(round=round_):
            return round_ >= machine.round and round_ not in node.known.proposals
        case BuildValue(round=round_):
            return round_ == machine.round and machine.step is Step.PROPOSE and round_ not in node.known.proposals
        case StartTimer(round=round_):
            return round_ >= machine.round
        case FetchBlock() | Decide():
            return True
        case _:
            return False
