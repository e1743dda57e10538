"""Back to where we were: the write-ahead log of the height in progress is fed to a fresh machine.

Our logged messages stand in place of what the machine would sign. A block that was only prevoted is not in the log and
counts as not received; lock and valid value return from the logged block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from consensus.effects import BuildValue, Decide, Effect, FetchBlock, SignProposal, SignVote, StartTimer
from consensus.inputs import BlockArrived, Input, ProposalReceived, Step, ValueBuilt, VoteReceived
from consensus.transaction import Transaction
from node.consensus_log import LoggedBlock, OwnProposal, OwnVote, Record, records_of

if TYPE_CHECKING:
    from node.consensus_driver import ConsensusDriver

log = structlog.get_logger("consensus")


async def replay(driver: ConsensusDriver, payloads: Sequence[bytes]) -> None:
    """The driver's machine stands where the log of its height ends, and what it was about to do is under way."""
    height = driver.height
    records = list(records_of(height.number, payloads))
    inputs: list[Input] = []
    for record in records:
        if not await _restore(driver, record):
            inputs.append(record)  # type: ignore[arg-type]  # what is no message or block of ours is an input
    deferred = _feed(driver, driver.height.machine.start())
    for input_ in inputs:
        if _holds(driver, input_):
            deferred += _feed(driver, height.machine.handle(input_))
    for (kind, round_), vote in sorted(height.own_votes.items()):
        if height.machine.tally.vote(round_, kind, vote.validator) is None:
            deferred += _feed(driver, height.machine.handle(VoteReceived(vote)))
    if records:
        log.info("log_replayed", height=height.number, records=len(records), round=height.machine.round)
    for effect in deferred:
        if _still_wanted(driver, effect):
            driver.perform(effect)


async def _restore(driver: ConsensusDriver, record: Record) -> bool:
    """Whether *record* was a message or block of ours; it is back in its place then."""
    height = driver.height
    match record:
        case OwnVote(vote):
            height.own_votes[vote.kind, vote.round] = vote
        case OwnProposal(proposal):
            height.own_proposals[proposal.round] = proposal
        case LoggedBlock(block, raws):
            candidate = height.candidate(block)
            candidate.logged = True
            candidate.fill([Transaction.decode(raw) for raw in raws])
            candidate.accept(await driver.executor.check(height.parent, block, candidate.transactions))
        case _:
            return False
    return True


def _feed(driver: ConsensusDriver, effects: list[Effect]) -> list[Effect]:
    """Logged messages of ours answer the *effects* that ask for them; returned: what is to be done once all is fed."""
    height = driver.height
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
            if proposal is not None and proposal.block_id in height.candidates:
                answer = height.own_proposal(proposal)
        if answer is not None:
            queue += height.machine.handle(answer)
        else:
            deferred.append(effect)
    return deferred


def _holds(driver: ConsensusDriver, input_: Input) -> bool:
    """Whether what *input_* speaks of is still here."""
    height = driver.height
    match input_:
        case ProposalReceived(proposal):
            if proposal.block_id not in height.candidates:
                return False
            height.proposals.setdefault(proposal.round, proposal)
            height.timely.setdefault(proposal.signature, input_.timely)
            height.fed.add(proposal.signature)
        case ValueBuilt(_, _, block_id) | BlockArrived(_, block_id):
            return block_id in height.candidates
        case _:
            pass
    return True


def _still_wanted(driver: ConsensusDriver, effect: Effect) -> bool:
    machine = driver.height.machine
    match effect:
        case BuildValue():
            begun = effect.round in driver.height.own_proposals
            return effect.round == machine.round and machine.step is Step.PROPOSE and not begun
        case SignVote() | SignProposal() | StartTimer():
            return effect.round >= machine.round
        case FetchBlock() | Decide():
            return True
        case _:
            return False
