"""What became of each transaction of a load: the books behind *nothing lost*. Pure: time comes in, nothing goes out.

A transaction that a node accepted must end as committed, as refused with a result, or as expired; what ends as none of
these is lost. One that is found on the chain twice is repeated. Both must be 0.
"""

from __future__ import annotations

import enum
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from devnet.batches import Answer, Signed

RESEND_SECONDS = 5.0
"""An accepted transaction that is not on the chain for this long is sent again, to another node."""
RETRY_SECONDS = 0.5
"""One that no node could take for now is tried again after this."""

PASSING_CODES = frozenset({"tx.pool_full", "tx.sender_full", "tx.nonce_too_far"})
"""Answers that may be different in a moment."""


class State(enum.Enum):
    """Where a transaction stands."""

    SENT = "sent"
    ACCEPTED = "accepted"
    COMMITTED = "committed"
    REFUSED = "refused"
    EXPIRED = "expired"
    REJECTED = "rejected"


@dataclass(slots=True, eq=False)
class Entry:
    """One transaction's line in the books. Times are seconds of the caller's clock."""

    transaction: Signed
    due: float
    """When the schedule wanted it sent: latency counts from here, also if we were late."""
    state: State = State.SENT
    accepted: bool = False
    tries: int = 1
    last_sent: float = 0.0
    last_node: int = 0
    place: tuple[int, int] | None = None
    code: str = ""
    """Of its refusal or rejection."""


@dataclass(frozen=True, slots=True)
class Block:
    """A decided block as a follower found it."""

    height: int
    time_ms: int
    ids: Sequence[str]
    codes: Sequence[str] | None
    """Result codes, in the order of *ids*; None: not asked for, all count as committed."""


@dataclass(slots=True)
class Ledger:
    """All transactions of one load."""

    entries: dict[str, Entry] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    """Of committed transactions, in order of commitment."""
    resent: int = 0
    repeated: int = 0
    chain_time_ms: int = 0
    open: int = 0
    """Sent or accepted, and not yet decided."""
    first_commit: float | None = None
    last_commit: float | None = None
    _overdue: list[tuple[float, str]] = field(default_factory=list)
    """A heap: when to look again at which transaction."""

    def send(self, transaction: Signed, *, due: float, now: float, node: int) -> None:
        """*transaction* is on its way for the first time, to *node*."""
        assert transaction.id not in self.entries
        self.entries[transaction.id] = Entry(transaction, due, last_sent=now, last_node=node)
        self.open += 1
        heapq.heappush(self._overdue, (now + RESEND_SECONDS, transaction.id))

    def again(self, transaction: Signed, *, now: float, node: int) -> None:
        """The same bytes are on their way again, to *node*."""
        entry = self.entries[transaction.id]
        entry.last_sent, entry.last_node = now, node
        entry.tries += 1
        heapq.heappush(self._overdue, (now + RESEND_SECONDS, transaction.id))

    def answered(self, transaction: Signed, answer: Answer, *, now: float) -> None:
        """A node said *answer* to *transaction*."""
        entry = self.entries[transaction.id]
        if not answer.code:
            entry.accepted = True
            if entry.state is State.SENT:
                entry.state = State.ACCEPTED
        elif entry.state is State.SENT:
            entry.code = answer.code
            if answer.code in PASSING_CODES:
                heapq.heappush(self._overdue, (now + RETRY_SECONDS, transaction.id))
            elif entry.tries == 1:  # a later try may be refused because an earlier one, without an answer, went through
                entry.state = State.REJECTED
                self.open -= 1

    def block(self, block: Block, *, now: float) -> None:
        """*block* was decided. Each height is told once."""
        self.chain_time_ms = max(self.chain_time_ms, block.time_ms)
        for index, id_ in enumerate(block.ids):
            entry = self.entries.get(id_)
            if entry is not None:
                self._decided(entry, (block.height, index), block.codes[index] if block.codes else "", now)

    def _decided(self, entry: Entry, place: tuple[int, int], code: str, now: float) -> None:
        if entry.place is not None:
            self.repeated += 1
            return
        entry.place = place
        if entry.state in (State.SENT, State.ACCEPTED):
            self.open -= 1
        entry.state, entry.code = (State.REFUSED, code) if code else (State.COMMITTED, "")
        entry.accepted = True  # whatever the answers were: somebody took it
        if not code:
            self.latencies_ms.append((now - entry.due) * 1000)
            self.first_commit = now if self.first_commit is None else self.first_commit
            self.last_commit = now

    def overdue(self, now: float, *, limit: int) -> list[Entry]:
        """At most *limit* undecided transactions that should be sent again now, longest waiting first.

        What the chain's time has passed is expired instead: no later block can hold it.
        """
        found: list[Entry] = []
        while self._overdue and self._overdue[0][0] <= now and len(found) < limit:
            _, id_ = heapq.heappop(self._overdue)
            entry = self.entries[id_]
            if entry.state not in (State.SENT, State.ACCEPTED):
                continue
            if entry.transaction.valid_until_ms < self.chain_time_ms:
                entry.state = State.EXPIRED if entry.accepted else State.REJECTED
                entry.code = entry.code or "tx.expired"
                self.open -= 1
                continue
            found.append(entry)
        self.resent += sum(1 for entry in found if entry.accepted)
        return found

    def count(self, *states: State) -> int:
        """How many transactions are in one of *states*."""
        return sum(1 for entry in self.entries.values() if entry.state in states)

    def codes(self, state: State) -> dict[str, int]:
        """How often which code led to *state*."""
        found = Counter(entry.code for entry in self.entries.values() if entry.state is state)
        return dict(sorted(found.items()))


def report(ledger: Ledger) -> dict[str, object]:
    """The books as ``load --json`` prints them. Latency: from the scheduled sending to the block being seen."""
    committed = ledger.count(State.COMMITTED)
    span = (ledger.last_commit or 0.0) - (ledger.first_commit or 0.0)
    return {
        "sent": len(ledger.entries),
        "accepted": sum(1 for entry in ledger.entries.values() if entry.accepted),
        "committed": committed,
        "refused": ledger.count(State.REFUSED),
        "expired": ledger.count(State.EXPIRED),
        "rejected": ledger.count(State.REJECTED),
        "resent": ledger.resent,
        "lost": ledger.count(State.ACCEPTED),
        "repeated": ledger.repeated,
        "tx_per_s": round(committed / span, 1) if span > 0 else 0.0,
        "latency_ms": latency(ledger.latencies_ms),
        "refused_codes": ledger.codes(State.REFUSED),
        "rejected_codes": ledger.codes(State.REJECTED),
    }


def latency(values_ms: Iterable[float]) -> Mapping[str, float | None]:
    """p50, p99 and max of *values_ms* (nearest rank); None where there are none."""
    ordered = sorted(values_ms)
    if not ordered:
        return {"p50": None, "p99": None, "max": None}
    return {
        "p50": round(ordered[(len(ordered) - 1) * 50 // 100], 1),
        "p99": round(ordered[(len(ordered) - 1) * 99 // 100], 1),
        "max": round(ordered[-1], 1),
    }
