"""What can happen to the consensus machine. Signatures are verified and validity known before an input arrives."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from consensus.shape import Hash
from consensus.vote import Height, Proposal, Round, Vote


class Step(enum.IntEnum):
    """Steps of a round, in order. WAIT counts as round -1: the height has begun, round 0 has not."""

    WAIT = 0
    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3
    DECIDED = 4


@dataclass(frozen=True, slots=True)
class BeginRound:
    """Something waits (transaction, due time, heartbeat, evidence) and the block delay is over: leave WAIT."""

    height: Height


@dataclass(frozen=True, slots=True)
class HeaderSeen:
    """Round 0's proposal by its proposer exists, though its block is not complete here yet: leave WAIT."""

    height: Height


@dataclass(frozen=True, slots=True)
class ProposalReceived:
    """A verified proposal of the round's proposer whose block is complete here and was executed."""

    proposal: Proposal
    valid: bool
    """A function of the block and its parent state alone."""
    timely: bool
    """By own clock when the signed proposal arrived; used only without a POL round."""


@dataclass(frozen=True, slots=True)
class VoteReceived:
    """A verified vote of a member of the height's set, ours included."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class ValueBuilt:
    """The answer to `BuildValue`: this block is complete, executed and valid."""

    height: Height
    round: Round
    block_id: Hash


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The timer that `StartTimer` asked for ran out."""

    height: Height
    round: Round
    step: Step


@dataclass(frozen=True, slots=True)
class BlockArrived:
    """A block asked for by `FetchBlock` is complete here and was executed, whether or not its proposal was ever seen.

    More than 2/3 voted for it, so a correct validator has seen the proposal: L36 and L49 hold with the block alone.
    """

    height: Height
    block_id: Hash
    valid: bool
    """As in `ProposalReceived`."""


Input: TypeAlias = BeginRound | HeaderSeen | ProposalReceived | VoteReceived | ValueBuilt | TimerFired | BlockArrived
