"""What nodes say to each other about decided heights (channel `sync`)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, TypeAlias

from consensus.block import HEADER_VERSION, Block, Commit, Header
from consensus.codec import encode
from consensus.params import TRANSACTIONS_MAX
from consensus.shape import Count, Range, Size
from consensus.tags import TagTable
from consensus.vote import Height
from node import snapshot_messages
from node.genesis import STATE_CHUNKS_MAX
from node.snapshot_messages import SnapshotAnswer, SnapshotQuestion
from p2p.channel import Channel

MESSAGE_BYTES_MAX = 18 * 2**20
"""A block of the largest size that `Params` allows, with its bodies and commit."""
DECIDED_OVERHEAD_BYTES = 2**18
"""What `DecidedHeight` has beside what counts for the block's size: the lengths of bodies, and the commit."""
UNASKED_BYTES_MAX = 64 * 2**10
"""More than any question has: what is larger is an answer, and read only where one is owed."""
GENESIS_BYTES_MAX = 16 * 2**20

CHANNEL = Channel(
    id=3,
    name="sync",
    priority=3,
    message_bytes_max=MESSAGE_BYTES_MAX,
    send_queue_messages_max=64,
    receive_window_bytes=MESSAGE_BYTES_MAX + 2**20,
    bytes_per_second_max=128 * 2**20,
)


@dataclass(frozen=True, slots=True)
class WantHeight:
    """Please send the block of this height."""

    height: Height


@dataclass(frozen=True, slots=True)
class DecidedHeight:
    """A block with all its bodies, and a commit for it."""

    block: Block
    transactions: Annotated[tuple[bytes, ...], Count(TRANSACTIONS_MAX)]
    commit: Commit


@dataclass(frozen=True, slots=True)
class NoHeight:
    """The sender does not hold what was asked for of this height."""

    height: Height
    earliest: Height
    """Of the blocks that it holds."""


@dataclass(frozen=True, slots=True)
class WantGenesis:
    """Please send the genesis file; whoever joins knows only its hash."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """The bytes of the genesis file."""

    file: Annotated[bytes, Size(1, GENESIS_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class WantStateChunk:
    """Please send this chunk, from 0, of the state that the genesis goes on from."""

    number: Annotated[int, Range(0, STATE_CHUNKS_MAX - 1)]


@dataclass(frozen=True, slots=True)
class StateChunk:
    """A chunk of that state, whose hash stands in the genesis; empty where there is none."""

    number: Annotated[int, Range(0, STATE_CHUNKS_MAX - 1)]
    data: Annotated[bytes, Size(0, MESSAGE_BYTES_MAX)]


SyncQuestion: TypeAlias = WantHeight | WantGenesis | WantStateChunk | SnapshotQuestion
SyncMessage: TypeAlias = SyncQuestion | DecidedHeight | NoHeight | Genesis | StateChunk | SnapshotAnswer
QUESTIONS = (WantHeight, WantGenesis, WantStateChunk, *snapshot_messages.QUESTIONS)
"""What can be asked."""

_KINDS = (
    WantHeight,
    DecidedHeight,
    NoHeight,
    WantGenesis,
    Genesis,
    WantStateChunk,
    StateChunk,
    *snapshot_messages.KINDS,
)
_TABLE = TagTable(*_KINDS)
_DECIDED_BEGIN = bytes(
    (
        0x92,
        _KINDS.index(DecidedHeight),
        *(0x90 + len(fields(kind)) for kind in (DecidedHeight, Block, Header)),
        HEADER_VERSION,
    )
)
"""The tag, the heads of the arrays that lead to the header (MessagePack: 0x90 and the length), and its version."""


def to_wire(message: SyncMessage) -> bytes:
    """The bytes of *message*."""
    return _TABLE.to_bytes(message)


def claims_height(data: bytes, height: int) -> bool:
    """Whether *data*, of which only the beginning is read, would be the `DecidedHeight` of *height*."""
    begin = len(_DECIDED_BEGIN)
    head = data[begin : begin + 2]
    if len(head) < 2 or not data.startswith(_DECIDED_BEGIN):
        return False
    # The chain's name stands before the height: its length in five bits, or in a byte of its own.
    name_bytes = 2 + head[1] if head[0] == 0xD9 else 1 + (head[0] & 0x1F)
    return data.startswith(encode(height), begin + name_bytes)


def from_wire(data: bytes) -> SyncMessage:
    """The message in *data*. Raises BadMessage."""
    message: SyncMessage = _TABLE.from_bytes(data, bytes_max=MESSAGE_BYTES_MAX)
    return message
