"""What travels between the nodes of a core world, and what happens inside one; signatures are marks of their makers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from consensus.vote import Proposal, Vote, VoteKind
from devnet.sim.core_chain import SimBlock


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal with its header, and with the bodies if *complete*."""

    proposal: Proposal
    block: SimBlock
    complete: bool


@dataclass(frozen=True, slots=True)
class Body:
    """A whole block."""

    block: SimBlock


@dataclass(frozen=True, slots=True)
class Synced:
    """A decided block, and the precommits that decided it, or so its sender says."""

    block: SimBlock
    votes: tuple[Vote, ...]


Message: TypeAlias = Vote | Proposed | Body | Synced


@dataclass(frozen=True, slots=True)
class Build:
    """The block that the machine asked for is ready now."""

    height: int
    round: int


@dataclass(frozen=True, slots=True)
class Wake:
    """By own clock there may be something to decide."""

    height: int
    clock_ms: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A block was executed."""

    height: int
    block_id: bytes


def mark(address: bytes) -> bytes:
    """64 bytes that stand for any signature by the key of *address*."""
    return (address * 4)[:64]


def make_vote(signer: bytes, kind: VoteKind, height: int, round_: int, block_id: bytes | None) -> Vote:
    """A vote that *signer* (address) signed."""
    return Vote(kind=kind, height=height, round=round_, block_id=block_id, validator=signer, signature=mark(signer))


def make_proposal(signer: bytes, height: int, round_: int, pol_round: int, block_id: bytes) -> Proposal:
    """A proposal that *signer* (address) signed."""
    return Proposal(height=height, round=round_, pol_round=pol_round, block_id=block_id, signature=mark(signer))
