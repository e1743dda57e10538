"""The write-ahead log of consensus: what was handled and said since the last commit, for replay after a crash.

A record is ``magic ‖ crc32 ‖ length ‖ durable ‖ payload`` (integers big-endian). ``durable`` says how many bytes of the
file were known to be on the disk when the record was appended, and tells a torn tail from damage: what lies behind the
last fsync may be torn in any way (pages reach the disk in any order), what a later record calls durable may not.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from node.disk import DISK, Disk, File

RECORD_BYTES_MAX = 32 * 2**20
"""Largest payload: a whole block stands in one record."""
FILE_BYTES_MAX = 2**30
"""A log may not grow beyond this: a height that never ends must not fill the disk."""
REWRITE_BYTES = 8 * 2**20
"""A log beyond this size is begun anew at the next `Wal.reset`; below, a mark is enough and spares the fsyncs."""

_FILE_MAGIC = b"allting wal 1\n"
_FILE_HEADER = struct.Struct(">14sI")
_MAGIC = b"\xa1\x7eWR"
_HEADER = struct.Struct(">4sIIQ")
_KEPT, _MARK = b"\x00", b"\x01"
_WRITE_BYTES = 256 * 1024
"""More than this is handed to the operating system without waiting for `Wal.sync`."""
_LOOKED_THROUGH_TIMES = 32
"""How often each byte behind a broken place may be part of a checksum: a second for the largest record."""


class WalDamaged(Exception):
    """The log has lost or changed records that were once on the disk; the text says where, and what to do."""


class Wal:
    """An append-only file of records. One process at a time (the store's lock sees to it), one thread at a time.

    After an OSError nothing more is accepted: what the disk holds is unknown, so whoever wants to speak must be silent.
    """

    def __init__(self, disk: Disk, file: File, salt: int, size: int) -> None:
        self._disk = disk
        self._path = file.path
        self._file = file
        self._salt = salt
        self._size = size
        self._durable = size
        self._buffer = bytearray()
        self._entries: list[bytes] = []
        self._broken = False
        self.cut_bytes = 0
        """Bytes of a torn tail that `open` cut off; for the log."""

    @classmethod
    def open(cls, path: Path, *, disk: Disk = DISK) -> Wal:
        """The log at *path*, created if absent, its torn tail cut. Raises WalDamaged for other damage, DiskFailed."""
        path = Path(path)
        if not disk.exists(path):
            _write_empty(disk, path)
        data = disk.read(path)
        if len(data) < _FILE_HEADER.size or not data.startswith(_FILE_MAGIC):
            raise WalDamaged(
                f"{path} does not begin as a write-ahead log. Restore the file; or move it away: the node catches up "
                f"from its peers, and {_SIGNING_NOTE}"
            )
        _, salt = _FILE_HEADER.unpack_from(data)
        entries, end = _read(data, salt)
        if end < len(data):
            _refuse_damage(path, data, salt, end)
        file = disk.open(path)
        try:
            wal = cls(disk, file, salt, end)
            wal._entries = entries
            if end < len(data):
                wal.cut_bytes = len(data) - end
                file.truncate(end)
            file.sync()
        except BaseException:
            file.close()
            raise
        return wal

    def entries(self) -> list[bytes]:
        """The payloads appended since the last `reset` before this log was opened, in order."""
        return self._entries

    def append(self, payload: bytes) -> None:
        """*payload* (1 byte to `RECORD_BYTES_MAX`) will be on the disk after the next `sync`. Raises OSError."""
        assert 0 < len(payload) <= RECORD_BYTES_MAX, len(payload)
        self._append(_KEPT + payload)

    def sync(self) -> None:
        """Everything appended is on the disk (fsync). Raises OSError, and from then on always."""
        self._write_buffer()
        if self._durable < self._size:
            self._guarded(self._file.sync)
            self._durable = self._size

    def reset(self, height: int) -> None:
        """All that was appended is forgotten, since *height* is committed. Not synced: a crash may bring it back.

        So a reader must skip what belongs to heights that are already in the store.
        """
        self._entries = []
        if self._size + len(self._buffer) < REWRITE_BYTES:
            self._append(_MARK + height.to_bytes(8, "big"))
            return
        self._buffer.clear()
        self._guarded(self._begin_anew)

    def close(self) -> None:
        """Everything appended is on the disk, and the file is closed."""
        if self._file.descriptor >= 0:
            try:
                if not self._broken:
                    self.sync()
            finally:
                self._file.close()

    def _append(self, content: bytes) -> None:
        if self._broken:
            raise OSError(f"{self._path}: an earlier write failed; restart the node once the disk is well")
        if self._size + len(self._buffer) + _HEADER.size + len(content) > FILE_BYTES_MAX:
            raise OSError(f"{self._path} would grow beyond {FILE_BYTES_MAX} bytes within one height; the node stops")
        self._buffer += _record(content, self._salt, self._durable)
        if len(self._buffer) > _WRITE_BYTES:
            self._write_buffer()

    def _write_buffer(self) -> None:
        if self._broken:
            raise OSError(f"{self._path}: an earlier write failed; restart the node once the disk is well")
        if self._buffer:
            self._guarded(lambda: self._file.write(self._buffer, self._size))
            self._size += len(self._buffer)
            self._buffer.clear()

    def _begin_anew(self) -> None:
        self._salt, self._size = _write_empty(self._disk, self._path)
        self._durable = self._size
        self._file.close()
        self._file = self._disk.open(self._path)

    def _guarded(self, act: Callable[[], None]) -> None:
        """*act* is done; once it failed, the log takes nothing more (a failed fsync may not be tried again)."""
        try:
            act()
        except OSError:
            self._broken = True
            raise


_SIGNING_NOTE = "its signer still refuses what contradicts its last-sign state."


def _record(content: bytes, salt: int, durable: int) -> bytes:
    body = struct.pack(">IQ", len(content), durable) + content
    return _MAGIC + struct.pack(">I", zlib.crc32(body, salt)) + body


def _record_at(data: bytes, at: int, salt: int) -> tuple[bytes, int, int] | None:
    """Content, durable and end of the record that begins at *at*, None where none does."""
    start = at + _HEADER.size
    if start > len(data):
        return None
    magic, checksum, length, durable = _HEADER.unpack_from(data, at)
    end = start + length
    if magic != _MAGIC or not 0 < length <= RECORD_BYTES_MAX + 1 or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[at + 8 : end], salt) != checksum:
        return None
    return data[start:end], durable, end


def kept_payloads(data: bytes, *, known: int = 0) -> tuple[list[bytes], int]:
    """Every payload from byte *known* on (a former call's second value) that a log's *data* still hold, and the end.

    Those of decided heights too, as long as the log was not begun anew: for who audits what a node said and heard.
    """
    _, salt = _FILE_HEADER.unpack_from(data)
    payloads, at = [], max(known, _FILE_HEADER.size)
    while (found := _record_at(data, at, salt)) is not None:
        content, _, at = found
        if content[:1] == _KEPT:
            payloads.append(content[1:])
    return payloads, at


def _read(data: bytes, salt: int) -> tuple[list[bytes], int]:
    """The payloads since the last mark, and where the unbroken run of records ends."""
    entries: list[bytes] = []
    end = _FILE_HEADER.size
    while (found := _record_at(data, end, salt)) is not None:
        content, _, end = found
        if content[:1] == _MARK:
            entries.clear()
        else:
            entries.append(content[1:])
    return entries, end


def _refuse_damage(path: Path, data: bytes, salt: int, end: int) -> None:
    """Raises WalDamaged if a record behind the broken place at *end* proves that this place was once durable.

    The salt is unknown to peers, so that no payload of theirs can pass for a record. But it can look like many long
    ones inside each other, so the shortest are looked at first, and the longest perhaps never. Records of ours lie one
    after the other: where there are no others, all are looked at.
    """
    left = _LOOKED_THROUGH_TIMES * (len(data) - end)
    for length, at in sorted(_proofs_of_damage(data, end)):
        left -= _HEADER.size + length
        if left < 0:
            return
        found = _record_at(data, at, salt)
        if found is not None:
            raise WalDamaged(
                f"{path} is damaged at byte {end}, though {found[1]} bytes were already on the disk: the disk or its "
                f"file system lost data. Check the disk. Then restore the file; or move it away: the node catches up "
                f"from its peers, and {_SIGNING_NOTE}"
            )


def _proofs_of_damage(data: bytes, end: int) -> Iterator[tuple[int, int]]:
    """Length and place of whatever looks, its checksum aside, like a record that calls the broken place durable."""
    at = data.find(_MAGIC, end + 1)
    while 0 <= at <= len(data) - _HEADER.size:
        _, _, length, durable = _HEADER.unpack_from(data, at)
        if end < durable <= at and at + _HEADER.size + length <= len(data):
            yield length, at
        at = data.find(_MAGIC, at + 1)


def _write_empty(disk: Disk, path: Path) -> tuple[int, int]:
    """An empty log stands at *path*, whole or not at all (fsync, rename, fsync of the folder). Its salt and size."""
    salt = int.from_bytes(os.urandom(4), "big")
    header = _FILE_HEADER.pack(_FILE_MAGIC, salt)
    fresh = path.with_name(path.name + ".new")
    with disk.create(fresh) as file:
        file.write(header, 0)
        file.sync()
    disk.replace(fresh, path)
    disk.sync_folder(path.parent)
    return salt, len(header)
