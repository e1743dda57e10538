"""Where admitted transactions wait: a queue for each sender in nonce order, and two orders in which room is made.

When the room is full, what pays less gives way; and where a newcomer pays too little for that, the tail of the sender
that has the largest share, as long as that share is larger than the newcomer's: nobody fills the room for the others.

Pure bookkeeping, without clock, application or loop. Whatever happens, the room is within its limits, and `count` and
`bytes` are those of its contents.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator

from consensus.transaction import NONCE_AHEAD_MAX, Transaction
from node.mempool_entries import Entry, MempoolLimits, NoRoom, SenderQueue

__all__ = ["Entry", "MempoolLimits", "NoRoom", "WaitingRoom"]

REPLACEMENT_PERCENT = 10
"""A transaction in another's place pays at least this much more."""
SPARE_MARKS_MAX = 1_024
"""Stale marks kept in an order, beyond one for each entry, before it is built anew."""
MISFITS_MAX = 64
"""Transactions too large for the rest of a block that `reap` passes over before it ends."""


class WaitingRoom:
    """All that waits. Every method leaves the limits kept."""

    def __init__(self, limits: MempoolLimits) -> None:
        self._limits = limits
        self.entries: dict[bytes, Entry] = {}
        """By transaction id."""
        self.bytes = 0
        self._queues: dict[bytes, SenderQueue] = {}
        self._ready_senders: dict[bytes, None] = {}
        """Senders whose next nonce is here, an ordered set."""
        self._clearing: list[tuple[bool, int, int, bytes]] = []
        """Heap of (ready, priority, -sequence, id): who goes first when room is needed. Some marks are stale."""
        self._paid_for: Counter[bytes] = Counter()
        """How many wait of each account that pays for others."""
        self._crowding: list[tuple[int, bytes]] = []
        """Heap of (-share, sender): who has most. Some marks are stale."""
        self._expiry: list[tuple[int, bytes]] = []
        """Heap of (valid until, id). Some marks are stale."""

    @property
    def count(self) -> int:
        """How many transactions wait."""
        return len(self.entries)

    @property
    def has_ready(self) -> bool:
        """Whether some transaction could stand in the next block by its nonce."""
        return bool(self._ready_senders)

    def at(self, sender: bytes, nonce: int) -> Entry | None:
        """The transaction that holds *nonce* in *sender*'s queue."""
        queue = self._queues.get(sender)
        return queue.by_nonce.get(nonce) if queue else None

    def next_nonce(self, sender: bytes) -> int:
        """The nonce that *sender*, who has something here, is to use next."""
        return self._queues[sender].next_nonce

    def ready_heads(self) -> Iterator[Entry]:
        """The next transaction of each sender that has one. The room must not change meanwhile."""
        for sender in self._ready_senders:
            queue = self._queues[sender]
            yield queue.by_nonce[queue.next_nonce]

    def parked_heads(self) -> Iterator[Entry]:
        """The lowest nonce of each sender whose next one is missing. The room must not change meanwhile."""
        for sender, queue in self._queues.items():
            if sender not in self._ready_senders:
                yield queue.by_nonce[min(queue.by_nonce)]

    def check(self, transaction: Transaction, sender: bytes, next_nonce: int, priority: int) -> list[Entry]:
        """What would have to leave for *transaction* (replaced or evicted). Raises NoRoom; changes nothing."""
        nonce, size = transaction.body.nonce, len(transaction.raw)
        queue = self._queues.get(sender)
        if queue is not None and queue.next_nonce > next_nonce:
            next_nonce = queue.next_nonce  # a nonce that was used stays used
        if nonce < next_nonce:
            raise NoRoom("tx.nonce_used", f"nonce {nonce} was used; the next one is {next_nonce}")
        if nonce > next_nonce + NONCE_AHEAD_MAX:
            raise NoRoom(
                "tx.nonce_too_far", f"nonce {nonce} is more than {NONCE_AHEAD_MAX} ahead of the next one, {next_nonce}"
            )
        leaving: list[Entry] = []
        free_count = self._limits.transactions_max - len(self.entries)
        free_bytes = self._limits.bytes_max - self.bytes
        if queue is not None:
            own = queue.by_nonce.get(nonce) or self._own_to_give_way(queue, nonce)
            if own is not None:
                if own.transaction.body.nonce == nonce:
                    _check_fee(transaction, own.transaction)
                leaving.append(own)
                free_count += 1
                free_bytes += len(own.transaction.raw)
            freed = sum(len(entry.transaction.raw) for entry in leaving)
            if queue.bytes - freed + size > self._limits.per_sender_bytes_max:
                raise NoRoom("tx.sender_full", f"{queue.bytes} bytes of this sender wait already")
        payer = _other_payer(transaction)
        if payer is not None:
            paid = self._paid_for[payer] - sum(_other_payer(entry.transaction) == payer for entry in leaving)
            if paid >= self._limits.per_payer_max:
                raise NoRoom("tx.payer_full", f"{paid} transactions that this account pays for wait already")
        if free_count >= 1 and free_bytes >= size:
            return leaving
        ready = nonce <= (max(queue.ready_end, next_nonce) if queue else next_nonce)
        return leaving + self._to_evict(transaction, sender, (ready, priority), free_count, free_bytes, leaving)

    def _own_to_give_way(self, queue: SenderQueue, nonce: int) -> Entry | None:
        """Which of the sender's own must leave for *nonce*: none, or the last one if it has too many."""
        if len(queue.by_nonce) < self._limits.per_sender_max:
            return None
        last = max(queue.by_nonce)
        if last < nonce:
            raise NoRoom("tx.sender_full", f"{len(queue.by_nonce)} transactions of this sender wait already")
        return queue.by_nonce[last]  # an earlier nonce is worth more: without it the last one could never go

    def _to_evict(
        self,
        transaction: Transaction,
        sender: bytes,
        rank: tuple[bool, int],
        free_count: int,
        free_bytes: int,
        leaving: list[Entry],
    ) -> list[Entry]:
        """Entries whose leaving makes room: those of lower rank (parked ones, then low priority, then late comers), and
        then tails of senders with a larger share."""
        nonce, size = transaction.body.nonce, len(transaction.raw)
        looked_at: list[tuple[bool, int, int, bytes]] = []
        victims: list[Entry] = []
        passed = {entry.transaction.id for entry in leaving}
        try:
            while free_count < 1 or free_bytes < size:
                entry = self._first_to_clear()
                if entry is None or (entry.ready, entry.priority) >= rank:
                    break
                looked_at.append(heapq.heappop(self._clearing))
                if entry.transaction.id in passed:  # an entry can bear the same mark twice
                    continue
                passed.add(entry.transaction.id)
                if entry.sender == sender and entry.transaction.body.nonce < nonce:
                    continue  # without it the new one could never go
                victims.append(entry)
                free_count += 1
                free_bytes += len(entry.transaction.raw)
        finally:
            for mark in looked_at:
                heapq.heappush(self._clearing, mark)
        if rank[0] and (free_count < 1 or free_bytes < size):
            tails = self._tails_of_the_largest(transaction, sender, free_count, free_bytes, passed)
            victims += tails
            free_count += len(tails)
            free_bytes += sum(len(entry.transaction.raw) for entry in tails)
        if free_count < 1 or free_bytes < size:
            raise NoRoom("tx.pool_full", "the pool is full, and nothing in it has a lower priority; try again later")
        return victims

    def _tails_of_the_largest(
        self, transaction: Transaction, sender: bytes, free_count: int, free_bytes: int, passed: set[bytes]
    ) -> list[Entry]:
        """Last transactions of those whose share is larger than *sender*'s would be, until there is room, or no more.

        *passed*: ids of what leaves anyway.
        """
        size = len(transaction.raw)
        queue = self._queues.get(sender)
        own_share = self._share(len(queue.by_nonce) + 1, queue.bytes + size) if queue else self._share(1, size)
        looked_at: list[tuple[int, bytes]] = []
        shrunk: list[tuple[int, bytes, int, int]] = []
        """Heap of (-share, sender, count, bytes) of those who have lost something here."""
        seen: set[bytes] = set()
        victims: list[Entry] = []
        try:
            while free_count < 1 or free_bytes < size:
                mark = self._most_crowding()
                if shrunk and (mark is None or shrunk[0][:2] < mark):
                    share, largest, count, total = heapq.heappop(shrunk)
                elif mark is not None:
                    looked_at.append(heapq.heappop(self._crowding))
                    share, largest = mark
                    if largest in seen:  # a sender can bear the same mark twice
                        continue
                    seen.add(largest)
                    count, total = len(self._queues[largest].by_nonce), self._queues[largest].bytes
                else:
                    break
                if largest == sender or -share <= own_share:
                    break
                tail = self._tail(largest, passed)
                if tail is None:
                    continue
                passed.add(tail.transaction.id)
                victims.append(tail)
                free_count += 1
                free_bytes += len(tail.transaction.raw)
                count, total = count - 1, total - len(tail.transaction.raw)
                heapq.heappush(shrunk, (-self._share(count, total), largest, count, total))
        finally:
            for former in looked_at:
                heapq.heappush(self._crowding, former)
        return victims

    def _tail(self, sender: bytes, passed: set[bytes]) -> Entry | None:
        """The last transaction of *sender* that is not among those *passed*."""
        by_nonce = self._queues[sender].by_nonce
        left = (nonce for nonce, entry in by_nonce.items() if entry.transaction.id not in passed)
        last = max(left, default=None)
        return None if last is None else by_nonce[last]

    def _share(self, count: int, size: int) -> int:
        """How much of the room *count* transactions of *size* bytes are, by what they use more of; only compared."""
        return max(count * self._limits.bytes_max, size * self._limits.transactions_max)

    def _most_crowding(self) -> tuple[int, bytes] | None:
        """The true mark of the sender with the largest share."""
        while self._crowding:
            share, sender = self._crowding[0]
            queue = self._queues.get(sender)
            if queue is not None and -share == self._share(len(queue.by_nonce), queue.bytes):
                return self._crowding[0]
            heapq.heappop(self._crowding)
        return None

    def _resized(self, entry: Entry, queue: SenderQueue, change: int) -> None:
        """*entry* has come into *queue* (*change* 1) or left it (-1): what is counted is true again."""
        size = change * len(entry.transaction.raw)
        queue.bytes += size
        self.bytes += size
        if queue.by_nonce:
            heapq.heappush(self._crowding, (-self._share(len(queue.by_nonce), queue.bytes), entry.sender))
        payer = _other_payer(entry.transaction)
        if payer is not None:
            self._paid_for[payer] += change
            if not self._paid_for[payer]:
                del self._paid_for[payer]

    def _first_to_clear(self) -> Entry | None:
        while self._clearing:
            ready, priority, late, identity = self._clearing[0]
            entry = self.entries.get(identity)
            if entry is not None and entry.sequence == -late and entry.ready is ready and entry.priority == priority:
                return entry
            heapq.heappop(self._clearing)
        return None

    def add(self, entry: Entry, next_nonce: int) -> list[Entry]:
        """*entry* waits; returns what left for it. Raises NoRoom with nothing changed. Its id must not be here."""
        transaction, sender = entry.transaction, entry.sender
        assert transaction.id not in self.entries, "the same transaction twice"
        leaving = self.check(transaction, sender, next_nonce, entry.priority)
        for former in leaving:
            self.remove(former)
        queue = self._queues.get(sender)
        if queue is None:
            queue = self._queues[sender] = SenderQueue(next_nonce)
        queue.by_nonce[transaction.body.nonce] = entry
        self.entries[transaction.id] = entry
        self._resized(entry, queue, 1)
        heapq.heappush(self._expiry, (transaction.body.valid_until_ms, transaction.id))
        leaving += self.advance(sender, next_nonce)
        if transaction.body.nonce == queue.ready_end:
            self._extend(sender, queue)
        elif not entry.ready:
            self._mark(entry)
        self._compact()
        return leaving

    def remove(self, entry: Entry) -> None:
        """*entry* no longer waits; what follows it in its sender's queue is parked."""
        transaction = entry.transaction
        del self.entries[transaction.id]
        queue = self._queues[entry.sender]
        nonce = transaction.body.nonce
        del queue.by_nonce[nonce]
        self._resized(entry, queue, -1)
        if not queue.by_nonce:
            del self._queues[entry.sender]
            self._ready_senders.pop(entry.sender, None)
        elif nonce < queue.ready_end:
            for later in range(nonce + 1, queue.ready_end):
                parked = queue.by_nonce[later]
                parked.ready = False
                self._mark(parked)
            queue.ready_end = nonce
            if nonce == queue.next_nonce:
                del self._ready_senders[entry.sender]

    def advance(self, sender: bytes, next_nonce: int) -> list[Entry]:
        """*sender*'s next nonce by the state is *next_nonce* or later; returns those that it has made void."""
        queue = self._queues.get(sender)
        if queue is None or next_nonce <= queue.next_nonce:
            return []
        void = [entry for nonce, entry in queue.by_nonce.items() if nonce < next_nonce]
        for entry in void:
            del queue.by_nonce[entry.transaction.body.nonce]
            del self.entries[entry.transaction.id]
            self._resized(entry, queue, -1)
        queue.next_nonce = next_nonce
        if not queue.by_nonce:
            del self._queues[sender]
            self._ready_senders.pop(sender, None)
            return void
        if queue.ready_end <= next_nonce:
            queue.ready_end = next_nonce
            self._ready_senders.pop(sender, None)
            self._extend(sender, queue)
        return void

    def expire(self, time_ms: int) -> list[Entry]:
        """Nothing that is void in a block at *time_ms* waits any more; returns what left."""
        gone: list[Entry] = []
        while self._expiry and self._expiry[0][0] < time_ms:
            _, identity = heapq.heappop(self._expiry)
            entry = self.entries.get(identity)
            if entry is not None:
                self.remove(entry)
                gone.append(entry)
        return gone

    def reap(self, *, time_ms: int, bytes_max: int, count_max: int) -> Iterator[Transaction]:
        """Transactions for a block at *time_ms*: by priority between senders, by nonce within, none parked or expired.

        The room may change between two of them: who leaves takes the rest of that sender along.
        """
        order = [(-entry.priority, entry.sequence, entry) for entry in self.ready_heads()]
        heapq.heapify(order)
        misfits = 0
        while order and count_max > 0 and misfits < MISFITS_MAX:
            _, _, entry = heapq.heappop(order)
            transaction = entry.transaction
            if self.entries.get(transaction.id) is not entry or transaction.body.valid_until_ms < time_ms:
                continue
            if len(transaction.raw) > bytes_max:
                misfits += 1
                continue
            bytes_max -= len(transaction.raw)
            count_max -= 1
            yield transaction
            following = self.at(entry.sender, transaction.body.nonce + 1)
            if following is not None and following.ready and self.entries.get(transaction.id) is entry:
                heapq.heappush(order, (-following.priority, following.sequence, following))

    def _extend(self, sender: bytes, queue: SenderQueue) -> None:
        """Marks as ready what follows without a gap."""
        while (entry := queue.by_nonce.get(queue.ready_end)) is not None:
            entry.ready = True
            self._mark(entry)
            queue.ready_end += 1
        if queue.ready_end > queue.next_nonce:
            self._ready_senders[sender] = None

    def _mark(self, entry: Entry) -> None:
        heapq.heappush(self._clearing, (entry.ready, entry.priority, -entry.sequence, entry.transaction.id))

    def _compact(self) -> None:
        """Keeps stale marks within bounds: each order is at most about twice as long as the room."""
        most = 2 * self.count + SPARE_MARKS_MAX
        if len(self._clearing) > most:
            self._clearing = [(e.ready, e.priority, -e.sequence, e.transaction.id) for e in self.entries.values()]
            heapq.heapify(self._clearing)
        if len(self._crowding) > most:
            self._crowding = [(-self._share(len(q.by_nonce), q.bytes), sender) for sender, q in self._queues.items()]
            heapq.heapify(self._crowding)
        if len(self._expiry) > most:
            self._expiry = [(e.transaction.body.valid_until_ms, e.transaction.id) for e in self.entries.values()]
            heapq.heapify(self._expiry)


def _other_payer(transaction: Transaction) -> bytes | None:
    """Who pays for *transaction*, if it is not its sender."""
    payer = transaction.body.fee_payer
    return None if payer == transaction.body.sender else payer


def _check_fee(transaction: Transaction, former: Transaction) -> None:
    """Raises NoRoom unless *transaction* pays enough more than *former*, whose nonce it has."""
    fee, least = transaction.body.fee, former.body.fee + max(1, -(-former.body.fee * REPLACEMENT_PERCENT // 100))
    if fee < least:
        raise NoRoom(
            "tx.underpriced_replacement",
            f"another transaction with nonce {former.body.nonce} waits; to replace it, pay a fee of at least {least}",
        )
