"""Forgetting old heights: index, events, results and blocks, each up to its own horizon, a bounded piece at a time.

A height's index is computed again from its results and transactions, so what leads to a row always goes before the row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import lmdb

from node import store_blocks
from node.events import EVENT_KINDS, INDEX_KINDS, PLACES, place_rows
from node.retention import BLOCKS, EVENTS, INDEX, RESULTS
from node.store_blocks import Blocks, senders_of
from node.store_environment import Environment
from node.store_meta import FORGETTABLE, oldest_key, put_meta

FORGET_ROWS_MAX = 4_096
"""Rows after which a piece ends; the height in work is finished first, so a full block may add 25,000."""
_SLICE_DELETES = 512
_OF_BLOCKS = (store_blocks.BLOCKS, store_blocks.BODIES, store_blocks.COMMITS, store_blocks.HEADERS)


class Forgetting:
    """One bounded piece of forgetting, as writes of one transaction."""

    def __init__(
        self,
        environment: Environment,
        present: Mapping[str, int],
        below: Mapping[str, int],
        *,
        rows_max: int = FORGET_ROWS_MAX,
    ) -> None:
        """*present*: the lowest height of each part that is still there; *below*: the lowest that shall be."""
        self._environment = environment
        self._blocks = Blocks(environment)
        self._present = present
        self._below = below
        self._rows_max = rows_max
        self.reached: dict[str, int] = dict(present)
        """The lowest height of each part after this piece."""
        self.deleted = 0
        """Rows deleted."""

    @property
    def is_complete(self) -> bool:
        """Nothing is left below the horizons."""
        return all(self.reached[part] >= self._below[part] for part in FORGETTABLE)

    def writes(self, transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
        """Heights go one after another, each whole, until the horizons or the limit are reached."""
        self.reached, self.deleted = dict(self._present), 0
        for part in FORGETTABLE:
            end = min([self._below[part], *(self.reached[earlier] for earlier in _BEFORE[part])])
            while self.reached[part] < end and self.deleted < self._rows_max:
                yield from self._forget(transaction, part, self.reached[part])
                self.reached[part] += 1
            put_meta(transaction, self._environment, oldest_key(part), _number(self.reached[part]))
        yield

    def _forget(self, transaction: lmdb.Transaction[bytes], part: str, height: int) -> Iterator[None]:
        for table, key in self._rows(part, height):
            transaction.delete(key, db=self._environment.table(table))
            self.deleted += 1
            if self.deleted % _SLICE_DELETES == 0:
                yield
        if part == BLOCKS:
            for table in (store_blocks.VALIDATORS, store_blocks.PARAMS):
                self._forget_former(transaction, table, height + 1)

    def _rows(self, part: str, height: int) -> Iterator[tuple[str, bytes]]:
        """Table and key of each row of *part* that *height* has."""
        number = _number(height)
        if part == BLOCKS:
            yield store_blocks.BLOCK_IDS, self._blocks.header(height).id
            yield from ((table, number) for table in _OF_BLOCKS)
        elif part == RESULTS:
            yield store_blocks.RESULTS, number
        else:
            yield from ((PLACES, key) for key in self._place_keys(part, height))
            if part == INDEX:
                yield from ((store_blocks.TRANSACTIONS, id_) for id_ in self._blocks.block(height).transaction_ids)

    def _place_keys(self, part: str, height: int) -> Iterator[bytes]:
        senders = senders_of(self._blocks.transactions(height))
        kinds = EVENT_KINDS if part == EVENTS else INDEX_KINDS
        for space in place_rows(self._blocks.results(height), senders):
            if space[:1] in kinds:
                yield space + _number(height)

    def _forget_former(self, transaction: lmdb.Transaction[bytes], table: str, kept: int) -> None:
        """Rows of *table*, written on change, go if a later one is in force at the height *kept* already."""
        cursor = transaction.cursor(self._environment.table(table))
        while cursor.first():
            former = cursor.key()
            if not cursor.next() or cursor.key() > _number(kept):
                return
            transaction.delete(former, db=self._environment.table(table))
            self.deleted += 1


_BEFORE: Mapping[str, tuple[str, ...]] = {
    INDEX: (),
    EVENTS: (),
    RESULTS: (INDEX, EVENTS),
    BLOCKS: (INDEX, EVENTS, RESULTS),
}
"""What a height must have lost before it loses something."""


def _number(height: int) -> bytes:
    return height.to_bytes(8, "big")
