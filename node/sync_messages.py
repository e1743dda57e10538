"""What nodes say to each other about decided heights (channel `sync`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from consensus.block import TRANSACTIONS_MAX, Block, Commit
from consensus.codec import BadMessage, decode, encode
from consensus.shape import Count, Size, shape_of
from consensus.vote import Height
from p2p.channel import Channel

MESSAGE_BYTES_MAX = 18 * 2**20
"""A block of the largest size that `Params` allows, with its bodies and commit."""
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
    """The sender does not hold the block of this height."""

    height: Height


@dataclass(frozen=True, slots=True)
class WantGenesis:
    """Please send the genesis file; whoever joins knows only its hash."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """The bytes of the genesis file."""

    file: Annotated[bytes, Size(1, GENESIS_BYTES_MAX)]


SyncMessage: TypeAlias = WantHeight | DecidedHeight | NoHeight | WantGenesis | Genesis

_TAGS: tuple[type, ...] = (WantHeight, DecidedHeight, NoHeight, WantGenesis, Genesis)
"""A message's tag is its place here; the table only grows."""
_TAG_OF = {kind: tag for tag, kind in enumerate(_TAGS)}


def to_wire(message: SyncMessage) -> bytes:
    """The bytes of *message*."""
    kind = type(message)
    return encode((_TAG_OF[kind], shape_of(kind).to_wire(message)))


def from_wire(data: bytes) -> SyncMessage:
    """The message in *data*. Raises BadMessage."""
    value = decode(data, bytes_max=MESSAGE_BYTES_MAX)
    if type(value) is not tuple or len(value) != 2 or type(value[0]) is not int or not 0 <= value[0] < len(_TAGS):
        raise BadMessage("unknown sync message", "bad_message.unknown")
    message: SyncMessage = shape_of(_TAGS[value[0]]).from_wire(value[1])
    return message
