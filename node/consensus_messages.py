"""What nodes say to each other about the height in progress (channel `consensus`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from consensus.block import Block
from consensus.inputs import Step
from consensus.params import TRANSACTIONS_MAX, VALIDATORS_MAX
from consensus.shape import U63, Count, Hash, Size
from consensus.tags import TagTable
from consensus.vote import Height, PolRound, Proposal, Round, Vote, VoteKind
from p2p.channel import Channel

MESSAGE_BYTES_MAX = 2 * 2**20
BODIES_BYTES_MAX = 2**20
"""Of all bodies in one message; a larger one, should parameters allow it, goes alone."""
UNASKED_BYTES_MAX = 64 * 2**10
"""Larger `Bodies` are read only while some are missed: as objects they take many times their bytes."""
BODY_OVERHEAD_BYTES = 5
"""Encoded length of a body, at most."""
VOTES_MAX = 2 * VALIDATORS_MAX
ROUNDS_SHOWN_MAX = 8

CHANNEL = Channel(
    id=1,
    name="consensus",
    priority=10,
    message_bytes_max=MESSAGE_BYTES_MAX,
    send_queue_messages_max=1_000,
    receive_window_bytes=4 * MESSAGE_BYTES_MAX,
    bytes_per_second_max=64 * 2**20,
)


@dataclass(frozen=True, slots=True)
class Held:
    """Which members' votes of one kind and round the sender holds: bit i of byte i // 8, in set order."""

    round: Round
    kind: VoteKind
    mask: Annotated[bytes, Size(0, VALIDATORS_MAX // 8)]
    decided: Hash | None
    """The block that more than 2/3 of them voted for. Who holds a liar's other vote still needs the one for it."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where the sender is, and what it holds of its height; what it lacks is to be supplied."""

    height: Height
    """The height in progress; the last stored one is this minus 1."""
    round: PolRound
    """-1 while it waits for something to decide."""
    step: Step
    proposals: Annotated[tuple[Round, ...], Count(ROUNDS_SHOWN_MAX)]
    """Rounds whose proposal it holds with a complete block."""
    votes: Annotated[tuple[Held, ...], Count(2 * ROUNDS_SHOWN_MAX)]
    clock_ms: U63


@dataclass(frozen=True, slots=True)
class ProposalWithBlock:
    """A signed proposal and the block without bodies."""

    proposal: Proposal
    block: Block


@dataclass(frozen=True, slots=True)
class Votes:
    """Signed votes, of any round of one height."""

    votes: Annotated[tuple[Vote, ...], Count(VOTES_MAX, 1)]


@dataclass(frozen=True, slots=True)
class WantBlock:
    """Please send this block (as `ProposalWithBlock` where its proposal is known, else as `BlockOnly`)."""

    height: Height
    block_id: Hash


@dataclass(frozen=True, slots=True)
class BlockOnly:
    """A block that more than 2/3 voted for, without its proposal."""

    block: Block


@dataclass(frozen=True, slots=True)
class WantBodies:
    """Please send these transactions of the block, by index."""

    height: Height
    block_id: Hash
    indexes: Annotated[tuple[U63, ...], Count(TRANSACTIONS_MAX, 1)]


@dataclass(frozen=True, slots=True)
class Bodies:
    """Complete bytes of transactions of a block; perhaps fewer than were asked for."""

    height: Height
    block_id: Hash
    transactions: Annotated[tuple[bytes, ...], Count(TRANSACTIONS_MAX)]


ConsensusMessage: TypeAlias = Status | ProposalWithBlock | Votes | WantBlock | BlockOnly | WantBodies | Bodies

_TABLE = TagTable(Status, ProposalWithBlock, Votes, WantBlock, BlockOnly, WantBodies, Bodies)
_BODIES_BEGIN = _TABLE.to_bytes(Bodies(1, bytes(32), ()))[:2]
"""The head of an array of two, and the tag."""


def to_wire(message: ConsensusMessage) -> bytes:
    """The bytes of *message*."""
    return _TABLE.to_bytes(message)


def claims_bodies(data: bytes) -> bool:
    """Whether *data*, of which only the tag is read, would be `Bodies`."""
    return data.startswith(_BODIES_BEGIN)


def from_wire(data: bytes) -> ConsensusMessage:
    """The message in *data*. Raises BadMessage."""
    message: ConsensusMessage = _TABLE.from_bytes(data, bytes_max=MESSAGE_BYTES_MAX)
    return message
