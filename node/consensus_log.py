"""What the write-ahead log of consensus holds: inputs, the blocks that they speak of, and our own messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from consensus import inputs
from consensus.block import Block
from consensus.codec import BadMessage, Wire, decode, encode
from consensus.tags import TagTable
from consensus.vote import Proposal, Vote

RECORD_BYTES_MAX = 2**25
"""A block of the largest size that `Params` allows, with its bodies."""


@dataclass(frozen=True, slots=True)
class LoggedBlock:
    """A whole valid block; it stands before the first input that says it is here."""

    block: Block
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class OwnVote:
    """A vote that we signed; on replay it stands in place of what the machine would sign."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class OwnProposal:
    """A proposal that we signed; likewise."""

    proposal: Proposal


Record: TypeAlias = inputs.Input | LoggedBlock | OwnVote | OwnProposal

_TABLE = TagTable(
    inputs.BeginRound,
    inputs.HeaderSeen,
    inputs.ProposalReceived,
    inputs.VoteReceived,
    inputs.ValueBuilt,
    inputs.TimerFired,
    LoggedBlock,
    OwnVote,
    OwnProposal,
    inputs.BlockArrived,
)


def block_here(input_: inputs.Input) -> bytes | None:
    """The id of the valid block that *input_* says is here; None where it speaks of none."""
    match input_:
        case inputs.ProposalReceived(proposal, valid=True):
            return proposal.block_id
        case inputs.BlockArrived(_, block_id, valid=True) | inputs.ValueBuilt(_, _, block_id):
            return block_id
        case _:
            return None


class UnreadableRecord(Exception):
    """A record whose checksum holds is none of ours: another version or another program wrote it."""


def to_record(height: int, record: Record) -> bytes:
    """The bytes of *record*, which belongs to *height*."""
    return encode((height, _TABLE.to_wire(record)))


def records_of(height: int, payloads: Iterable[bytes]) -> Iterator[Record]:
    """The records of *height* among *payloads*, in order; other heights' are skipped. Raises UnreadableRecord."""
    for payload in payloads:
        number, content = _opened(payload)
        if number == height:
            yield _record(content)


def all_records(payloads: Iterable[bytes]) -> Iterator[Record]:
    """The records of every height among *payloads*, in order. Raises UnreadableRecord."""
    for payload in payloads:
        yield _record(_opened(payload)[1])


def _opened(payload: bytes) -> tuple[Wire, Wire]:
    try:
        value = decode(payload, bytes_max=RECORD_BYTES_MAX)
        if type(value) is not tuple or len(value) != 2:
            raise BadMessage("expected [height, record]")
    except BadMessage as error:
        raise _unreadable(error) from error
    return value[0], value[1]


def _record(content: Wire) -> Record:
    try:
        record: Record = _TABLE.from_wire(content)
        return record
    except BadMessage as error:
        raise _unreadable(error) from error


def _unreadable(error: BadMessage) -> UnreadableRecord:
    return UnreadableRecord(
        f"the write-ahead log holds a record that this version can't read ({error}); "
        "start with the version that wrote it"
    )
