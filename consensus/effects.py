"""What the consensus machine wants done. Effects are data: the driver acts, the machine never does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from consensus.inputs import Step
from consensus.vote import Vote, VoteKind


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Feed `TimerFired` with these fields after *duration_ms*."""

    height: int
    round: int
    step: Step
    duration_ms: int


@dataclass(frozen=True, slots=True)
class BuildValue:
    """We propose in this round and have no valid value: build a block, feed `ValueBuilt` (L18)."""

    height: int
    round: int


@dataclass(frozen=True, slots=True)
class SignProposal:
    """Sign and publish this proposal, and feed it back as our own (L19)."""

    height: int
    round: int
    pol_round: int
    block_id: bytes


@dataclass(frozen=True, slots=True)
class SignVote:
    """Sign and publish this vote, and feed it back as our own (L24, L26, L30, L32, L40, L59, L63)."""

    kind: VoteKind
    height: int
    round: int
    block_id: bytes | None


@dataclass(frozen=True, slots=True)
class EnteredRound:
    """A new round began (L11); for the log, the gossip and the metrics."""

    height: int
    round: int
    proposer: bytes


@dataclass(frozen=True, slots=True)
class EnteredStep:
    """The step changed; for gossip."""

    height: int
    round: int
    step: Step


@dataclass(frozen=True, slots=True)
class KeepBlock:
    """The block became our valid value (L42), and our locked one if *locked* (L38): its results must be kept."""

    height: int
    round: int
    block_id: bytes
    locked: bool


@dataclass(frozen=True, slots=True)
class FetchBlock:
    """More than 2/3 voted for a block that we have not: get it from those who voted. Emitted once for a block.

    Answered by `ProposalReceived` where its proposal is known, else by `BlockArrived`; at once if the block is here.
    """

    height: int
    round: int
    block_id: bytes


@dataclass(frozen=True, slots=True)
class Decide:
    """The height is decided (L49–L51): commit this block. Emitted once."""

    height: int
    round: int
    block_id: bytes


@dataclass(frozen=True, slots=True)
class RefusedDecision:
    """More than 2/3 precommitted a block that we find invalid (L50): this node computes something else than the others.

    It must stop and say so. The machine fires no rule after it.
    """

    height: int
    round: int
    block_id: bytes


@dataclass(frozen=True, slots=True)
class FoundEquivocation:
    """A validator signed two different votes of one kind in one round; both are proved."""

    first: Vote
    second: Vote


Effect: TypeAlias = (
    StartTimer
    | BuildValue
    | SignProposal
    | SignVote
    | EnteredRound
    | EnteredStep
    | KeepBlock
    | FetchBlock
    | Decide
    | RefusedDecision
    | FoundEquivocation
)
