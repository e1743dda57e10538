"""Encrypted records on a byte stream: 2 bytes of length, big-endian, then one Noise transport message."""

from __future__ import annotations

from consensus.codec import BadMessage
from p2p.noise import MESSAGE_BYTES_MAX, TAG_BYTES, CipherState

RECORD_PLAINTEXT_MAX = MESSAGE_BYTES_MAX - TAG_BYTES
"""65,519 bytes: the most that one record carries."""
LENGTH_BYTES = 2


class RecordWriter:
    """Turns plaintext into records."""

    __slots__ = ("_cipher",)

    def __init__(self, cipher: CipherState) -> None:
        self._cipher = cipher

    def seal(self, plaintext: bytes) -> bytes:
        """The record of *plaintext* (at most RECORD_PLAINTEXT_MAX), ready for the stream."""
        assert len(plaintext) <= RECORD_PLAINTEXT_MAX
        sealed = self._cipher.encrypt(plaintext)
        return len(sealed).to_bytes(LENGTH_BYTES, "big") + sealed


class RecordReader:
    """Turns what the stream delivers, in whatever pieces, into plaintexts. Holds less than one record and one piece."""

    __slots__ = ("_buffer", "_cipher")

    def __init__(self, cipher: CipherState, leftover: bytes = b"") -> None:
        """*leftover*: what was read from the stream after the handshake."""
        self._cipher = cipher
        self._buffer = leftover

    def feed(self, data: bytes) -> list[bytes]:
        """The plaintexts of all records that *data* completes, in order.

        Raises BadMessage for a record that was changed.
        """
        buffer = self._buffer + data if self._buffer else data
        plaintexts = []
        start, end = 0, len(buffer)
        decrypt = self._cipher.decrypt
        while end - start >= LENGTH_BYTES:
            length = buffer[start] << 8 | buffer[start + 1]
            if length < TAG_BYTES:
                raise BadMessage("a record is shorter than its tag", "bad_message.record")
            stop = start + LENGTH_BYTES + length
            if stop > end:
                break
            plaintexts.append(decrypt(buffer[start + LENGTH_BYTES : stop]))
            start = stop
        self._buffer = buffer[start:]
        return plaintexts
