"""Scripts for one machine: inputs in, effects out. A, B, C, D have equal power and propose in rounds 0, 1, 2, 3."""

from __future__ import annotations

from consensus.effects import Effect, EnteredRound, EnteredStep, SignVote, StartTimer
from consensus.inputs import BeginRound, Input, ProposalReceived, Step, TimerFired, VoteReceived
from consensus.machine import Machine
from consensus.params import TINY
from consensus.signing import sha256
from consensus.validators import Update, ValidatorSet
from consensus.vote import Proposal, Vote, VoteKind

HEIGHT = 7
SET = ValidatorSet.of([Update(sha256(bytes([number])), 10) for number in range(4)])
A, B, C, D = (SET.proposer(round_).address for round_ in range(4))
V, W, X = b"V" * 32, b"W" * 32, b"X" * 32
"""Block ids."""
PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT
BEGIN = BeginRound(HEIGHT)


def vote(kind: VoteKind, who: bytes, round_: int, block_id: bytes | None, height: int = HEIGHT) -> Vote:
    """A vote with a signature that only tells its content apart; the machine trusts the driver with signatures."""
    mark = sha256(repr((kind, who, height, round_, block_id)).encode())
    return Vote(kind=kind, height=height, round=round_, block_id=block_id, validator=who, signature=mark + mark)


def prevote(who: bytes, round_: int, block_id: bytes | None) -> VoteReceived:
    return VoteReceived(vote(PREVOTE, who, round_, block_id))


def precommit(who: bytes, round_: int, block_id: bytes | None) -> VoteReceived:
    return VoteReceived(vote(PRECOMMIT, who, round_, block_id))


def proposal(
    round_: int,
    block_id: bytes,
    pol_round: int = -1,
    *,
    valid: bool = True,
    timely: bool = True,
    height: int = HEIGHT,
) -> ProposalReceived:
    said = Proposal(height=height, round=round_, pol_round=pol_round, block_id=block_id, signature=bytes(64))
    return ProposalReceived(said, valid, timely)


def timeout(round_: int, step: Step) -> TimerFired:
    return TimerFired(HEIGHT, round_, step)


def my_prevote(round_: int, block_id: bytes | None) -> SignVote:
    return SignVote(PREVOTE, HEIGHT, round_, block_id)


def my_precommit(round_: int, block_id: bytes | None) -> SignVote:
    return SignVote(PRECOMMIT, HEIGHT, round_, block_id)


def timer(round_: int, step: Step) -> StartTimer:
    duration_ms = {Step.PROPOSE: TINY.propose_ms, Step.PREVOTE: TINY.prevote_ms, Step.PRECOMMIT: TINY.precommit_ms}
    return StartTimer(HEIGHT, round_, step, duration_ms[step](round_))


class Script:
    """A machine of D's, unless another *own* is named, in WAIT."""

    def __init__(self, own: bytes | None = D, validators: ValidatorSet = SET) -> None:
        self.machine = Machine(height=HEIGHT, validators=validators, params=TINY, own_address=own)
        self.machine.start()

    def play_all(self, *events: Input) -> list[Effect]:
        """The effects of *events*, in order."""
        return [effect for event in events for effect in self.machine.handle(event)]

    def play(self, *events: Input) -> list[Effect]:
        """The effects of *events* without those that only narrate."""
        return [effect for effect in self.play_all(*events) if not isinstance(effect, EnteredRound | EnteredStep)]


def begun(own: bytes | None = D) -> Script:
    """In round 0, step PROPOSE."""
    script = Script(own)
    script.play(BEGIN)
    return script


def locked_on_v() -> Script:
    """D has locked V in round 0 and is in round 1, step PROPOSE."""
    script = begun()
    script.play(proposal(0, V), prevote(A, 0, V), prevote(B, 0, V), prevote(D, 0, V), timeout(0, Step.PRECOMMIT))
    machine = script.machine
    assert (machine.locked_block_id, machine.locked_round, machine.round) == (V, 0, 1)
    return script
