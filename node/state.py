"""Values of the state: every version of every key, and the state of one height as an application reads it.

A row of table ``values`` is ``module ‖ 00 ‖ escaped key ‖ 00 ‖ inverted height`` → ``01 ‖ value``, or ``00`` where the
block at that height deleted the key. Escaping (00 → 00 FF) keeps the order of keys, and a key's rows together; the
inverted height (2⁶³ - 1 - height) begins below 80, and puts the newest version first.

A row of table ``keys`` is ``module ‖ 00 ‖ key hash`` → key: the tree knows only hashes, and snapshots are read along
the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import EllipsisType
from typing import TypeAlias

import lmdb

from consensus.application import STATE_KEY_BYTES_MAX, Changes, EngineFault
from consensus.signing import sha256
from node.store_environment import Environment, failed

VALUES, KEYS = "values", "keys"
_HEIGHT_BYTES = 8
_AFTER_VERSIONS = b"\x80"
_DELETED = b"\x00"
_LIVE = b"\x01"
_PAGE_FIRST, _PAGE_MAX = 16, 256
VALUES_CACHED_MAX = 65_536
"""About 15 MB."""

_Key: TypeAlias = tuple[str, bytes]
"""Module and key."""


class StateGone(LookupError):
    """The state of that height is not here: pruned, or not yet decided. The text says which heights are."""


class StateHorizon:
    """Which heights' state can be read: those from `oldest` to `latest`, both included."""

    def __init__(self, oldest: int, latest: int) -> None:
        self.oldest = oldest
        self.latest = latest

    def check(self, height: int) -> None:
        """Raises StateGone unless the state of *height* can be read."""
        if not self.oldest <= height <= self.latest:
            raise StateGone(f"the state of height {height} is not kept; this node has heights {self}")

    def __str__(self) -> str:
        return f"{self.oldest} to {self.latest}"


class LatestValues:
    """Values of the latest state that were read or written last, in memory: accounts come back soon.

    Two generations, so that what is used stays: the older one is forgotten when the younger one is full.
    """

    def __init__(self, count_max: int = VALUES_CACHED_MAX) -> None:
        self._half = count_max // 2
        self._young: dict[_Key, bytes | None] = {}
        self._old: dict[_Key, bytes | None] = {}

    def get(self, key: _Key) -> bytes | EllipsisType | None:
        """The value of *key*, None if it is known to be absent; an ellipsis if nothing is known."""
        value = self._young.get(key, ...)
        if value is ...:
            value = self._old.get(key, ...)
            if value is not ...:
                self.put(key, value)
        return value

    def put(self, key: _Key, value: bytes | None) -> None:
        """*value* is that of *key* in the latest state."""
        self._young[key] = value
        self._age()

    def _age(self) -> None:
        if len(self._young) > self._half:
            self._young, self._old = {}, self._young

    def moved(self, changes: Changes) -> None:
        """The latest state is another one, by *changes*."""
        for module, items in changes.items():
            self._young.update({(module, key): value for key, value in items.items()})
        self._age()


class StoredState:
    """The committed state of one height (`consensus.application.State`). Cheap to make; holds nothing open.

    Raises StateGone once the height is pruned, EngineFault on I/O errors. With *latest*, values come from there while
    the height is the latest one.
    """

    def __init__(
        self, environment: Environment, horizon: StateHorizon, height: int, latest: LatestValues | None = None
    ) -> None:
        horizon.check(height)
        self.height = height
        """The height whose state this is."""
        self._environment = environment
        self._horizon = horizon
        self._inverted = _inverted(height)
        self._latest = latest

    def get(self, module: str, key: bytes) -> bytes | None:
        """The value of *key* in *module*, None if absent."""
        latest = self._latest
        if latest is None or self.height != self._horizon.latest:
            return self._read(module, key)
        value = latest.get((module, key))
        if value is ...:
            value = self._read(module, key)
            latest.put((module, key), value)
        return value

    def _read(self, module: str, key: bytes) -> bytes | None:
        if self.height < self._horizon.oldest:
            self._horizon.check(self.height)
        if len(key) > STATE_KEY_BYTES_MAX:
            return None
        prefix = value_prefix(module, key)
        try:
            cursor = self._environment.cursor(VALUES)
            if not cursor.set_range(prefix + self._inverted):
                return None
            found, row = cursor.item()
        except lmdb.Error as error:
            raise EngineFault(str(failed(self._environment.path, error))) from error
        return row[1:] if row != _DELETED and _is_version_of(prefix, found) else None

    def scan(
        self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys in [start, stop) with their values, ascending (descending if *reverse*); *stop* None: to the end.

        Read a page at a time, so that a half-read scan pins nothing.
        """
        space = module.encode("ascii") + b"\x00"
        low = space + _escaped(start)
        high = space[:-1] + b"\x01" if stop is None else space + _escaped(stop)
        count = _PAGE_FIRST
        while low < high:
            self._horizon.check(self.height)
            try:
                page = (self._page_down if reverse else self._page_up)(low, high, count)
            except lmdb.Error as error:
                raise EngineFault(str(failed(self._environment.path, error))) from error
            for prefix, value in page:
                yield prefix[len(space) : -1].replace(b"\x00\xff", b"\x00"), value
            if len(page) < count:
                return
            if reverse:
                high = page[-1][0]
            else:
                low = page[-1][0] + _AFTER_VERSIONS
            count = _PAGE_MAX

    def _page_up(self, low: bytes, high: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """The first *count* rows (prefix, value) from *low* to below *high*."""
        cursor = self._environment.cursor(VALUES)
        page: list[tuple[bytes, bytes]] = []
        more = cursor.set_range(low)
        while more and len(page) < count:
            found, row = cursor.item()
            if found >= high:
                break
            prefix = found[:-_HEIGHT_BYTES]
            if found[-_HEIGHT_BYTES:] < self._inverted:  # newer than this state: go to the version that it has, if any
                more = cursor.set_range(prefix + self._inverted)
                continue
            if row != _DELETED:
                page.append((prefix, row[1:]))
            more = cursor.next()
            if more and cursor.key().startswith(prefix):
                more = cursor.set_range(prefix + _AFTER_VERSIONS)
        return page

    def _page_down(self, low: bytes, high: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """The last *count* rows (prefix, value) from *low* to below *high*, descending."""
        cursor = self._environment.cursor(VALUES)
        page: list[tuple[bytes, bytes]] = []
        more = cursor.prev() if cursor.set_range(high) else cursor.last()
        while more and len(page) < count:
            found = cursor.key()
            if found < low:
                break
            prefix = found[:-_HEIGHT_BYTES]
            if cursor.set_range(prefix + self._inverted):
                found, row = cursor.item()
                if row != _DELETED and _is_version_of(prefix, found):
                    page.append((prefix, row[1:]))
            cursor.set_range(prefix)
            more = cursor.prev()
        return page


def value_prefix(module: str, key: bytes) -> bytes:
    """The beginning of the rows of *key*, up to the inverted height."""
    return b"%b\x00%b\x00" % (module.encode("ascii"), key.replace(b"\x00", b"\x00\xff"))


def first_version(module: str, key: bytes, value: bytes, height: int) -> tuple[bytes, bytes]:
    """Row and value in table ``values`` of a *key* that is known from *height* on, with *value*."""
    return value_prefix(module, key) + _inverted(height), _LIVE + value


def key_row(module: str, key_hash: bytes) -> bytes:
    """The row of table ``keys`` for *key_hash* (32 bytes)."""
    return b"%b\x00%b" % (module.encode("ascii"), key_hash)


def forget_key(transaction: lmdb.Transaction[bytes], tables: tuple[lmdb._Database, lmdb._Database], row: bytes) -> None:
    """A deleted key whose deletion's own *row* of table ``values`` is gone, with nothing later, has no row in ``keys``.

    *tables*: ``values`` and ``keys``.
    """
    values, keys = tables
    prefix = row[:-_HEIGHT_BYTES]
    cursor = transaction.cursor(values)
    if cursor.set_range(prefix) and _is_version_of(prefix, cursor.key()):
        return
    space, _, key = prefix[:-1].partition(b"\x00")
    transaction.delete(key_row(space.decode("ascii"), sha256(key.replace(b"\x00\xff", b"\x00"))), db=keys)


def is_deletion(row: bytes | None) -> bool:
    """Whether a row of table ``values`` says that its key was deleted."""
    return row == _DELETED


def write_values(
    transaction: lmdb.Transaction[bytes],
    table: lmdb._Database,
    changes: Changes,
    height: int,
    keys: lmdb._Database,
) -> Iterator[bytes]:
    """The versions of block *height* are written. Yields, for each change, the row that it made stale (``b""``: none).

    A deletion's own row is stale from the start: once the versions before it are pruned, it says nothing more. It
    follows them in the list, so that none of them comes back to light.
    """
    cursor = transaction.cursor(table)
    inverted = _inverted(height)
    for module in sorted(changes):
        for key, value in sorted(changes[module].items()):
            prefix = value_prefix(module, key)
            former_key, former = cursor.item() if cursor.set_range(prefix + inverted) else (b"", b"")
            exists = former != _DELETED and _is_version_of(prefix, former_key)
            assert former_key != prefix + inverted, "a height is written once"
            row = _DELETED if value is None else _LIVE + value
            if row == (former if exists else _DELETED):
                yield b""
                continue
            transaction.put(prefix + inverted, row, db=table)
            if not exists:
                transaction.put(key_row(module, sha256(key)), key, db=keys)
            yield former_key if exists else b""
            if value is None:
                yield prefix + inverted


def _is_version_of(prefix: bytes, row_key: bytes) -> bool:
    """Whether a row is one of the key with *prefix*, and not of a longer key that goes on with 00."""
    return len(row_key) == len(prefix) + _HEIGHT_BYTES and row_key.startswith(prefix)


def _escaped(key: bytes) -> bytes:
    return key.replace(b"\x00", b"\x00\xff")


def _inverted(height: int) -> bytes:
    return (2**63 - 1 - height).to_bytes(_HEIGHT_BYTES, "big")
