"""A module's rows as one block's execution sees them: the committed state, and over it what the block wrote so far.

Instead of one overlay for each transaction, every write notes in a journal what stood there before; rolling back to a
mark undoes a transaction, a faulty piece of scheduled work, or the messages of a proposal, at any depth, and reading
needs one look- up only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any

from city.sdk.weights import READ, WRITE, WRITTEN_BYTE, Meter
from consensus.application import State

Row = tuple[bytes | None, Any]
"""The value as stored (None: absent) and as the module knows it."""
Journal = list[tuple[dict[bytes, Row], bytes, Row | None]]


class Space:
    """The rows of one module. Keys and values are raw bytes here; tables give them their types."""

    __slots__ = ("_journal", "_meter", "_order", "_reads", "_unordered", "_writes", "module", "state")

    def __init__(self, module: str, state: State, meter: Meter, journal: Journal) -> None:
        self.module = module
        self.state = state
        self._meter = meter
        self._journal = journal
        self._writes: dict[bytes, Row] = {}
        self._reads: dict[bytes, Row] = {}
        self._order: list[bytes] | None = None
        """Written keys in order, if anybody scanned; a rollback leaves keys behind here."""
        self._unordered: list[bytes] = []
        """Keys written since the last scan. They may stand in the order already, or here twice, after a rollback."""

    def read(self, key: bytes, decode: Callable[[bytes], Any]) -> Any:
        """The value of *key*, None if absent. It is decoded once a block."""
        meter = self._meter
        meter.used += READ
        if meter.used > meter.limit:
            meter.spend(0)
        row = self._writes.get(key)
        if row is None:
            row = self._reads.get(key)
            if row is None:
                raw = self.state.get(self.module, key)
                row = self._reads[key] = (raw, None if raw is None else decode(raw))
        return row[1]

    def write(self, key: bytes, raw: bytes | None, value: Any) -> None:
        """*key* holds *raw*, which means *value*; None removes it."""
        meter = self._meter
        meter.used += WRITE + WRITTEN_BYTE * (len(key) + (0 if raw is None else len(raw)))
        if meter.used > meter.limit:
            meter.spend(0)
        writes = self._writes
        before = writes.get(key)
        self._journal.append((writes, key, before))
        if before is None and self._order is not None:
            self._unordered.append(key)
        writes[key] = (raw, value)

    def charge(self, weight: int) -> None:
        """*weight* is used; refused as out_of_weight beyond the limit."""
        self._meter.spend(weight)

    def scan(
        self, start: bytes, stop: bytes, decode: Callable[[bytes], Any], *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Any]]:
        """Rows with keys in [start, stop), ascending or descending; the caller stops after enough of them."""
        ours = self._written(start, stop)
        if reverse:
            ours.reverse()
        theirs = self.state.scan(self.module, start, stop, reverse=reverse)
        for key, raw in _merged(theirs, ours, reverse=reverse):
            row = self._writes.get(key)
            if row is None:
                if raw is not None:  # else a rollback left the key in our order: no row, and not charged for
                    self._meter.spend(READ)
                    yield key, decode(raw)
                continue
            self._meter.spend(READ)
            if row[0] is not None:
                yield key, row[1]

    def changes(self) -> dict[bytes, bytes | None]:
        """What the block wrote, in key order; a row that was neither before nor after is left out."""
        out: dict[bytes, bytes | None] = {}
        for key in sorted(self._writes):
            raw = self._writes[key][0]
            if raw is not None or self.state.get(self.module, key) is not None:
                out[key] = raw
        return out

    def renew(self, state: State) -> None:
        """The space reads *state* from now on, and holds no write: for reading only, where the state moves on."""
        self.state = state
        self.forget()

    def forget(self) -> None:
        """No row is known any more, read or written."""
        self._reads.clear()
        self._writes.clear()
        self._order = None
        self._unordered.clear()

    def _written(self, start: bytes, stop: bytes) -> list[bytes]:
        order = self._order
        if order is None:
            order = self._order = sorted(self._writes)
        for key in self._unordered:
            place = bisect_left(order, key)
            if place == len(order) or order[place] != key:
                order.insert(place, key)
        self._unordered.clear()
        return order[bisect_left(order, start) : bisect_left(order, stop)]


def roll_back(journal: Journal, mark: int) -> None:
    """Every write since *mark* is undone."""
    while len(journal) > mark:
        writes, key, before = journal.pop()
        if before is None:
            del writes[key]
        else:
            writes[key] = before


def _merged(
    theirs: Iterator[tuple[bytes, bytes]], ours: list[bytes], *, reverse: bool
) -> Iterator[tuple[bytes, bytes | None]]:
    """Both in one order; a key that is in both comes once."""
    position = 0
    for key, raw in theirs:
        while position < len(ours) and (ours[position] > key if reverse else ours[position] < key):
            yield ours[position], None
            position += 1
        if position < len(ours) and ours[position] == key:
            position += 1
        yield key, raw
    for left in ours[position:]:
        yield left, None
