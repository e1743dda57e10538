"""Forgetting old state: what the stale list names, a bounded piece at a time. Blocks, results and indexes stay."""

from __future__ import annotations

from collections.abc import Iterator

import lmdb

from consensus.codec import decode
from node.state import KEYS, VALUES, forget_key, is_deletion
from node.state_plan import NODES, ROOTS, STALE
from node.store_blocks import ROW_BYTES_MAX
from node.store_environment import Environment
from node.store_meta import OLDEST_STATE, put_meta

PRUNE_ENTRIES_MAX = 4_096
"""Most nodes and values deleted in one go: about 10 ms."""
_SLICE_DELETES = 512


class Pruning:
    """One bounded piece of pruning, as writes of one transaction."""

    def __init__(self, environment: Environment, oldest: int, *, entries_max: int) -> None:
        self._environment = environment
        self._oldest = oldest
        self._entries_max = entries_max
        self.deleted = 0
        """Nodes and values deleted."""
        self.is_complete = False
        """Nothing is left that only states before the oldest height need."""

    def writes(self, transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
        """States before the oldest height are gone, and up to `entries_max` of what only they needed."""
        self.deleted, self.is_complete = 0, False
        oldest = self._oldest.to_bytes(8, "big")
        put_meta(transaction, self._environment, OLDEST_STATE, oldest)
        yield from self._delete_stale(transaction, (self._oldest + 1).to_bytes(8, "big"))
        if self.deleted < self._entries_max:
            yield from self._delete_roots(transaction, oldest)
        self.is_complete = self.deleted < self._entries_max

    def _delete_stale(self, transaction: lmdb.Transaction[bytes], end: bytes) -> Iterator[None]:
        """Rows of the stale list before *end* go, and what they name: no kept state needs what was stale by then."""
        tables = {b"N": self._environment.table(NODES), b"V": self._environment.table(VALUES)}
        values, keys = tables[b"V"], self._environment.table(KEYS)
        cursor = transaction.cursor(self._environment.table(STALE))
        while self.deleted < self._entries_max and cursor.first() and cursor.key() < end:
            entries = decode(cursor.value(), bytes_max=ROW_BYTES_MAX)
            assert isinstance(entries, tuple)
            for entry in entries:
                assert isinstance(entry, bytes)
                deletion = entry[:1] == b"V" and is_deletion(transaction.get(entry[1:], None, values))
                transaction.delete(entry[1:], db=tables[entry[:1]])
                if deletion:
                    forget_key(transaction, (values, keys), entry[1:])
                self.deleted += 1
                if self.deleted % _SLICE_DELETES == 0:
                    yield
            cursor.first()
            cursor.delete()

    def _delete_roots(self, transaction: lmdb.Transaction[bytes], end: bytes) -> Iterator[None]:
        cursor = transaction.cursor(self._environment.table(ROOTS))
        while self.deleted < self._entries_max and cursor.first() and cursor.key() < end:
            cursor.delete()
            self.deleted += 1
            if self.deleted % _SLICE_DELETES == 0:
                yield
