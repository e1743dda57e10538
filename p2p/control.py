"""What p2p says to its like on channel 0: pings, credit, addresses, and why it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from consensus.codec import BadMessage, decode, encode
from p2p.address import BadAddress, PeerAddress

CONTROL_BYTES_MAX = 32_768
ADDRESSES_MAX = 64
"""Addresses in one answer."""
REASON_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer with a Pong of the same number."""

    number: int


@dataclass(frozen=True, slots=True)
class Pong:
    """I have read your Ping; my clock shows *time_ms* (Unix, 0 if I don't tell)."""

    number: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Credit:
    """You may send *size* bytes more on this channel."""

    channel_id: int
    size: int


@dataclass(frozen=True, slots=True)
class AskAddresses:
    """Tell me of nodes that can be dialled."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Nodes that could be dialled."""

    addresses: tuple[PeerAddress, ...]


@dataclass(frozen=True, slots=True)
class Leaving:
    """I end this connection, for this stable reason."""

    reason: str


ControlMessage: TypeAlias = Ping | Pong | Credit | AskAddresses | Addresses | Leaving


def encode_control(message: ControlMessage) -> bytes:
    """The bytes of *message*: an array of its tag and fields."""
    match message:
        case Ping(number):
            return encode((1, number))
        case Pong(number, time_ms):
            return encode((2, number, time_ms))
        case Credit(channel_id, size):
            return encode((3, channel_id, size))
        case AskAddresses():
            return encode((4,))
        case Addresses(addresses):
            return encode((5, tuple(str(address) for address in addresses)))
        case Leaving(reason):
            return encode((6, reason[:REASON_CHARACTERS_MAX]))


def decode_control(data: bytes) -> ControlMessage:
    """The message whose bytes are *data*. Raises BadMessage."""
    value = decode(data, bytes_max=CONTROL_BYTES_MAX)
    if type(value) is not tuple or type(next(iter(value), None)) is not int:  # a True would pass for a 1
        raise BadMessage("not a control message", "bad_message.control")
    match value:
        case (1, int(number)) if _is_u63(number):
            return Ping(number)
        case (2, int(number), int(time_ms)) if _is_u63(number) and _is_u63(time_ms):
            return Pong(number, time_ms)
        case (3, int(channel_id), int(size)) if _is_u63(channel_id) and _is_u63(size):
            if 1 <= channel_id <= 255 and 1 <= size < 2**32:
                return Credit(channel_id, size)
        case (4,):
            return AskAddresses()
        case (5, tuple(texts)) if len(texts) <= ADDRESSES_MAX:
            return Addresses(tuple(_address(text) for text in texts))
        case (6, str(reason)) if len(reason) <= REASON_CHARACTERS_MAX:
            return Leaving(reason)
    raise BadMessage("not a control message", "bad_message.control")


def _is_u63(value: int) -> bool:
    """Not a bool either, which Python takes for an integer."""
    return type(value) is int and 0 <= value < 2**63


def _address(text: object) -> PeerAddress:
    if not isinstance(text, str):
        raise BadMessage("an address is text", "bad_message.control")
    try:
        return PeerAddress.parse(text)
    except BadAddress as error:
        raise BadMessage(str(error), "bad_message.control") from error
