"""What a record's plaintext says: sections, each with messages of one channel.

A section is ``kind u8, channel u8, n u16`` and then, big-endian:

- WHOLE: *n* lengths as u16, then *n* messages one after the other (one unpack for the whole batch);
- BEGIN: the message's full length as u32, then its first *n* bytes;
- MORE: the next *n* bytes of the message begun last on this channel.

A message that fits into what is left of a record travels whole; a larger one in pieces, between which other channels
speak.
"""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise

from consensus.codec import BadMessage

WHOLE, BEGIN, MORE = 0, 1, 2
_HEADER = struct.Struct(">BBH")
_TOTAL = struct.Struct(">I")
HEADER_BYTES = _HEADER.size
BEGIN_HEADER_BYTES = HEADER_BYTES + _TOTAL.size
LENGTH_BYTES = 2
SPLIT_BYTES_MIN = 1_024
"""Less is never cut: it waits for the next record."""

Section = tuple[int, int, int, list[bytes]]
"""kind, channel id, full length (BEGIN only, else 0), messages or the one piece."""


def whole_section(channel_id: int, messages: list[bytes]) -> bytes:
    """The section that carries all *messages*."""
    count = len(messages)
    head = struct.pack(f">BBH{count}H", WHOLE, channel_id, count, *map(len, messages))
    return head + b"".join(messages)


def begin_section(channel_id: int, total: int, piece: bytes) -> bytes:
    """The section that opens a message of *total* bytes with its first *piece*."""
    return _HEADER.pack(BEGIN, channel_id, len(piece)) + _TOTAL.pack(total) + piece


def more_section(channel_id: int, piece: bytes) -> bytes:
    """The section with the next *piece* of a message."""
    return _HEADER.pack(MORE, channel_id, len(piece)) + piece


def read_sections(plaintext: bytes) -> list[Section]:
    """All sections of a record, in order. Raises BadMessage for an empty, unknown or cut-off one."""
    if not plaintext:
        raise BadMessage("an empty record", "bad_message.frame")
    sections: list[Section] = []
    position, end = 0, len(plaintext)
    while position < end:
        if end - position < HEADER_BYTES:
            raise BadMessage("a section's header is cut off", "bad_message.frame")
        kind, channel_id, count = _HEADER.unpack_from(plaintext, position)
        position += HEADER_BYTES
        if count == 0:
            raise BadMessage("an empty section", "bad_message.frame")
        total = 0
        if kind == WHOLE:
            bodies = position + LENGTH_BYTES * count
            if bodies > end:
                raise BadMessage("a section's lengths are cut off", "bad_message.frame")
            lengths = struct.unpack_from(f">{count}H", plaintext, position)
            cuts = list(accumulate(lengths, initial=bodies))
            position = cuts[-1]
            messages = [plaintext[start:stop] for start, stop in pairwise(cuts)]
        elif kind in (BEGIN, MORE):
            if kind == BEGIN:
                if end - position < _TOTAL.size:
                    raise BadMessage("a section's header is cut off", "bad_message.frame")
                (total,) = _TOTAL.unpack_from(plaintext, position)
                position += _TOTAL.size
            messages = [plaintext[position : position + count]]
            position += count
        else:
            raise BadMessage(f"section kind {kind} is unknown", "bad_message.frame")
        if position > end:
            raise BadMessage("a section is cut off", "bad_message.frame")
        sections.append((kind, channel_id, total, messages))
    return sections
