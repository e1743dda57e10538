"""All rows of a store as they were at one height, a chunk at a time, while the chain goes on; and a store made of them.

Everything is keyed by height and nothing is overwritten, so the rows of a height can be read in slices over many
commits: whatever is younger is left out. LMDB's own copy would need its snapshot for as long as it takes, and where its
locks are off (`node.store_environment`) it reuses pages that an old snapshot still reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import lmdb

from consensus.codec import BadMessage, decode, encode
from node import store_blocks
from node.disk import DISK, Disk
from node.events import PLACES
from node.state import KEYS, VALUES
from node.state_plan import NODES, ROOTS, STALE
from node.store_environment import MAP_BYTES, Environment
from node.store_meta import META

CHUNK_BYTES = 2**20
"""A chunk is closed once it is as large; one row more may make it larger."""
CHUNK_BYTES_MAX = 64 * 2**20
"""The largest that is read: the bodies of a full block are one row of at most 16 MiB, and results may be larger."""
SLICE_ROWS = 1_024
"""Rows read between two yields: about a millisecond."""
_PUT_CHUNKS = 16
"""Chunks written in one transaction of a new store."""

Row = tuple[bytes, bytes]
_HeightOf = Callable[[bytes, bytes], int]
"""The height at which a row was written, from its key and value."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of one table, in key order, as bytes (`decode` gives key, value, key, value, …)."""

    table: str
    data: bytes


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


_HEIGHTS: Mapping[str, _HeightOf] = {
    # First, since what it names may be missing, but nothing may stay that it should have named.
    STALE: lambda key, value: _number(key[:8]),
    store_blocks.HEADERS: lambda key, value: _number(key),
    store_blocks.BLOCKS: lambda key, value: _number(key),
    store_blocks.BODIES: lambda key, value: _number(key),
    store_blocks.COMMITS: lambda key, value: _number(key),
    store_blocks.RESULTS: lambda key, value: _number(key),
    store_blocks.VALIDATORS: lambda key, value: _number(key) - 1,
    store_blocks.PARAMS: lambda key, value: _number(key) - 1,
    store_blocks.BLOCK_IDS: lambda key, value: _number(value),
    store_blocks.TRANSACTIONS: lambda key, value: _number(value[:8]),
    PLACES: lambda key, value: _number(key[-8:]),
    VALUES: lambda key, value: 2**63 - 1 - _number(key[-8:]),
    KEYS: lambda key, value: 0,  # of no height; one too many names a key that is not in the state yet
    NODES: lambda key, value: _number(key[(at := key.index(b"\x00") + 1) : at + 8]),
    ROOTS: lambda key, value: _number(key),
}
"""Every table but ``meta``, in the order in which they are copied."""
TABLES = (META, *_HEIGHTS)


class Rows:
    """The rows of *environment* at its latest height. Nothing may be deleted meanwhile (`Kept.pins`)."""

    def __init__(self, environment: Environment, height: int) -> None:
        """To be made while no write is under way, once the pin is held."""
        self.height = height
        """Of the copy."""
        self._environment = environment
        self._meta = environment.all_rows(META)
        number = height.to_bytes(8, "big")
        commit = environment.get(store_blocks.COMMITS, number)
        # The next block replaces it by the canonical one.
        self._commit = {} if commit is None else {number: commit}

    def chunks(self) -> Iterator[Chunk | None]:
        """All of them, table by table; None now and then, where the loop may do something else."""
        yield from _chunked(META, iter(self._meta))
        for table in _HEIGHTS:
            yield from _chunked(table, self._rows(table))

    def _rows(self, table: str) -> Iterator[Row | None]:
        height_of = _HEIGHTS[table]
        fixed = self._commit if table == store_blocks.COMMITS else {}
        last: bytes | None = None
        while True:
            cursor = self._environment.cursor(table)
            more = cursor.first() if last is None else cursor.set_range(last)
            if more and cursor.key() == last:
                more = cursor.next()
            page: list[Row] = []
            while more and len(page) < SLICE_ROWS:
                page.append(cursor.item())
                more = cursor.next()
            for key, value in page:
                if height_of(key, value) <= self.height:
                    yield key, fixed.get(key, value)
            if len(page) < SLICE_ROWS:
                return
            last = page[-1][0]
            yield None


def _chunked(table: str, rows: Iterator[Row | None]) -> Iterator[Chunk | None]:
    gathered: list[bytes] = []
    size = 0
    for row in rows:
        if row is None:
            yield None
            continue
        gathered += row
        size += len(row[0]) + len(row[1])
        if size >= CHUNK_BYTES:
            yield Chunk(table, encode(tuple(gathered)))
            gathered, size = [], 0
    if gathered:
        yield Chunk(table, encode(tuple(gathered)))


def read_chunk(data: bytes) -> list[Row]:
    """The rows in *data*. Raises BadMessage."""
    items = decode(data, bytes_max=CHUNK_BYTES_MAX)
    if not isinstance(items, tuple) or len(items) % 2 or not all(type(item) is bytes for item in items):
        raise BadMessage("a chunk of rows is keys and values in turn")
    return list(zip(items[::2], items[1::2], strict=True))  # type: ignore[arg-type]  # all are bytes


def write_rows(path: Path, chunks: Iterator[Chunk], *, disk: Disk = DISK) -> None:
    """A new store in folder *path* holds the rows of *chunks*, which come as `Rows` gives them.

    Raises StoreFailed, and BadMessage for chunks that no store gave.
    """
    environment = Environment.open(path, TABLES, map_bytes=MAP_BYTES, disk=disk)
    try:
        batch: list[Chunk] = []
        for chunk in chunks:
            batch.append(chunk)
            if len(batch) >= _PUT_CHUNKS:
                _write(environment, batch)
                batch = []
        _write(environment, batch)
    finally:
        environment.close()


def _write(environment: Environment, batch: list[Chunk]) -> None:
    def writes(transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
        for chunk in batch:
            if chunk.table not in TABLES:
                raise BadMessage(f"a store has no table {chunk.table:.40}")
            for key, value in read_chunk(chunk.data):
                if not 1 <= len(key) <= 511 or not transaction.put(
                    key, value, db=environment.table(chunk.table), append=True
                ):
                    raise BadMessage(f"rows of {chunk.table} that are out of order")
        yield

    environment.write_inline(writes)
