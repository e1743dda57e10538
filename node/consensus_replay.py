"""Back to where we were: the write-ahead log of the height in progress is fed to a fresh machine.

The log holds every input in order, each block before the input that says it is here, and our own messages, which stand
in place of what the machine would sign. So the machine comes to the very state that it had, lock and valid value
included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from consensus.effects import (
    BuildValue,
    Decide,
    Effect,
    FetchBlock,
    FoundEquivocation,
    RefusedDecision,
    SignProposal,
    SignVote,
    StartTimer,
)
from consensus.inputs import Input, ProposalReceived, Step, VoteReceived
from consensus.transaction import Transaction
from consensus.vote import VoteKind
from node.consensus_log import LoggedBlock, OwnProposal, OwnVote, records_of
from node.height import HeightInProgress

if TYPE_CHECKING:
    from node.consensus_driver import ConsensusDriver

log = structlog.get_logger("consensus")


def replay(driver: ConsensusDriver, payloads: Sequence[bytes]) -> None:
    """The driver's machine stands where the log of its height ends, and what it was about to do is under way.

    Raises UnreadableRecord.
    """
    height = driver.height
    inputs: list[Input] = []
    for record in records_of(height.number, payloads):
        match record:
            case OwnVote(vote):
                height.own_votes[vote.kind, vote.round] = vote
            case OwnProposal(proposal):
                height.own_proposals[proposal.round] = proposal
            case LoggedBlock(block, raws):
                height.candidate(block).restore([Transaction.decode(raw) for raw in raws])
            case _:
                inputs.append(record)
    driver.voice.recall(height)
    deferred = _feed(height, height.machine.start())
    for input_ in inputs:
        if isinstance(input_, ProposalReceived):
            height.proposals[input_.proposal.round] = input_.proposal
            height.timely[input_.proposal.signature] = input_.timely
            height.fed.add(input_.proposal.signature)
        deferred += _feed(height, height.machine.handle(input_))
    _require_own_votes(height)
    if inputs:
        log.info("log_replayed", height=height.number, records=len(inputs), round=height.machine.round)
    for effect in deferred:
        if _is_still_wanted(height, effect):
            driver.perform(effect)


def _feed(height: HeightInProgress, effects: list[Effect]) -> list[Effect]:
    """Logged messages of ours answer the *effects* that ask for them; returned: what is to be done once all is fed."""
    deferred: list[Effect] = []
    queue = list(effects)
    while queue:
        effect = queue.pop(0)
        answer: Input | None = None
        if isinstance(effect, SignVote):
            vote = height.own_votes.get((effect.kind, effect.round))
            answer = VoteReceived(vote) if vote is not None else None
        elif isinstance(effect, SignProposal):
            proposal = height.own_proposals.get(effect.round)
            answer = height.own_proposal(proposal) if proposal is not None else None
        if answer is not None:
            queue += height.machine.handle(answer)
        else:
            deferred.append(effect)
    return deferred


def _require_own_votes(height: HeightInProgress) -> None:
    """What we voted is counted, and what we precommitted is locked: a log that can't explain it is a defect of ours."""
    machine = height.machine
    for (kind, round_), vote in height.own_votes.items():
        assert machine.tally.vote(round_, kind, vote.validator) is not None, f"{vote} is lost"
        if kind is VoteKind.PRECOMMIT and vote.block_id is not None:
            assert machine.locked_round >= round_, f"the lock of round {round_} is lost"


def _is_still_wanted(height: HeightInProgress, effect: Effect) -> bool:
    machine = height.machine
    match effect:
        case BuildValue():
            return effect.round == machine.round and machine.step is Step.PROPOSE
        case SignVote() | SignProposal() | StartTimer():
            return effect.round >= machine.round
        case FetchBlock() | Decide() | RefusedDecision() | FoundEquivocation():
            return True
        case _:
            return False
