"""What the mempool remembers of transactions that no longer wait, within bounds."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

V = TypeVar("V")

FINAL_CODES = frozenset({"tx.bad_signature", "tx.undecidable"})
"""Refusals that no later state can undo: the same bytes are not looked at again while they are remembered."""


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


class Refusals:
    """Why transactions were not let in, or left; by id, as long as it is recent."""

    def __init__(self, count_max: int) -> None:
        self._recent: Recent[tuple[str, str]] = Recent(count_max)

    def put(self, identity: bytes, code: str, text: str) -> None:
        """*identity* was refused last with *code* and *text*."""
        self._recent.put(identity, (code, text))

    def forgive(self, identity: bytes) -> None:
        """*identity* was let in, or is in a block."""
        self._recent.pop(identity)

    def get(self, identity: bytes) -> tuple[str, str] | None:
        """Code and text of its last refusal."""
        return self._recent.get(identity)

    def final(self, identity: bytes) -> tuple[str, str] | None:
        """The same, if no later state can undo it."""
        refusal = self._recent.get(identity)
        return refusal if refusal is not None and refusal[0] in FINAL_CODES else None


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
