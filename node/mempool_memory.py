"""What the mempool remembers of transactions that no longer wait, within bounds."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from consensus.transaction import Transaction

V = TypeVar("V")


class Recent(Generic[V]):
    """The last *count_max* values that were put, by id; the oldest is forgotten first."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._values: OrderedDict[bytes, V] = OrderedDict()

    def put(self, identity: bytes, value: V) -> None:
        """*identity* is the youngest, with *value*."""
        self._values.pop(identity, None)
        self._values[identity] = value
        if len(self._values) > self._count_max:
            self._values.popitem(last=False)

    def get(self, identity: bytes) -> V | None:
        """Its value, None if forgotten or never put."""
        return self._values.get(identity)

    def pop(self, identity: bytes) -> V | None:
        """Its value, which is forgotten now."""
        return self._values.pop(identity, None)

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._values

    def __len__(self) -> int:
        return len(self._values)


class VerifiedBodies:
    """Transactions with verified signatures that came for a block and don't wait in the pool; bounded by bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._bodies: OrderedDict[bytes, Transaction] = OrderedDict()

    def put(self, transaction: Transaction) -> None:
        """*transaction* is kept; the oldest go when there are more than the bytes allowed."""
        if transaction.id in self._bodies or len(transaction.raw) > self._bytes_max:
            return
        self._bodies[transaction.id] = transaction
        self._bytes += len(transaction.raw)
        while self._bytes > self._bytes_max:
            _, oldest = self._bodies.popitem(last=False)
            self._bytes -= len(oldest.raw)

    def get(self, identity: bytes) -> Transaction | None:
        """The transaction with this id, if kept."""
        return self._bodies.get(identity)

    def pop(self, identity: bytes) -> Transaction | None:
        """The transaction with this id, if kept; no longer kept."""
        transaction = self._bodies.pop(identity, None)
        if transaction is not None:
            self._bytes -= len(transaction.raw)
        return transaction


class ArrivalLog:
    """Ids in the order in which they were admitted, for readers that go on where they left off."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._readers = trio.lowlevel.ParkingLot()
        self._first = 0
        self._ids: deque[bytes] = deque()

    @property
    def end(self) -> int:
        """The place after the last arrival."""
        return self._first + len(self._ids)

    def append(self, identity: bytes) -> None:
        """*identity* arrived last; readers hear of it with the next `wake`. The oldest may be forgotten."""
        self._ids.append(identity)
        if len(self._ids) > self._count_max:
            self._ids.popleft()
            self._first += 1

    def wake(self) -> None:
        """Readers look again; once for a whole batch."""
        self._readers.unpark_all()

    async def wait(self, place: int) -> None:
        """Returns once something stands at *place* or later."""
        await trio.lowlevel.checkpoint()
        while self.end <= place:
            await self._readers.park()

    def since(self, place: int, count_max: int) -> tuple[list[bytes], int]:
        """At most *count_max* ids from *place* on (or from the oldest kept), and the place after them."""
        start = max(place, self._first)
        stop = min(self.end, start + count_max)
        offset = start - self._first
        # Indexing a deque walks from its nearer end: cheap for readers that are up to date.
        return [self._ids[index] for index in range(offset, offset + stop - start)], max(stop, start)


@dataclass(slots=True)
class Counters:
    """What the pool has seen since the node started; for metrics."""

    accepted: int = 0
    duplicates: int = 0
    """Transactions that came again while they waited or were being verified."""
    duplicate_bytes: int = 0
    displaced: int = 0
    """Replaced by the same sender, or evicted by another's higher priority."""
    expired: int = 0
    committed: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """By code."""

    def repeat(self, size: int) -> None:
        """One more of *size* bytes came that was here already."""
        self.duplicates += 1
        self.duplicate_bytes += size

    def refuse(self, code: str) -> None:
        """One more was refused, or left the pool, with *code*."""
        self.refused[code] = self.refused.get(code, 0) + 1
