"""Nodes that could be dialled, bounded, in buckets, kept in a small file.

A node is *new* while we only heard of it, and *tried* once a dial reached it. Buckets make it dear for one liar or
one network to fill the book: where an entry may stand depends on a secret, on the group of networks that its
address is in and, for new ones, on the group of who told us. Only tried entries are passed on.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from consensus.codec import BadMessage
from consensus.shape import U63, Count, Length, PublicKey, Range, Size, from_bytes, to_bytes
from p2p.address import PeerAddress, network_group

NEW_BUCKETS, TRIED_BUCKETS, BUCKET_ENTRIES_MAX = 64, 32, 16
"""At most 1,024 new and 512 tried entries."""
BUCKETS_PER_GROUP = 8
"""Buckets that the addresses of one network group can reach."""
FAILURES_MAX = 8
"""A new node that was dialled so often in vain is forgotten; a tried one is new again."""
RETRY_BASE_MS, RETRY_MAX_MS = 5_000, 3_600_000
"""Pause after the first dial in vain; doubles each time."""
FILE_BYTES_MAX = 2**20
NEVER = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One node. Times are Unix milliseconds."""

    node_id: PublicKey
    host: Annotated[str, Length(253)]
    port: Annotated[int, Range(1, 65_535)]
    source: Annotated[str, Length(253)]
    """Network group of who told us."""
    tried: bool
    failures: Annotated[int, Range(0, 255)]
    attempted_ms: U63
    reached_ms: U63
    """0: never reached."""

    @property
    def address(self) -> PeerAddress:
        """Where it can be dialled."""
        return PeerAddress(self.node_id, self.host, self.port)

    def may_be_dialled(self, now_ms: int) -> bool:
        """Whether the pause since the last dial in vain is over."""
        if self.failures == 0:
            return True
        return now_ms - self.attempted_ms >= min(RETRY_BASE_MS << min(self.failures - 1, 20), RETRY_MAX_MS)


@dataclass(frozen=True, slots=True)
class _File:
    version: Annotated[int, Range(1, 1)]
    secret: Annotated[bytes, Size(32)]
    entries: Annotated[tuple[Entry, ...], Count(2 * NEW_BUCKETS * BUCKET_ENTRIES_MAX)]


class BadBook(ValueError):
    """The saved bytes are no address book; it can be deleted without loss of more than addresses."""


class AddressBook:
    """The nodes we know of, without ourselves."""

    def __init__(self, *, dice: random.Random, save: Callable[[bytes], None] | None = None, saved: bytes = b"") -> None:
        """*save* writes the file atomically (None: nothing is kept); *saved* is its last content, empty for none.

        Raises BadBook if *saved* is damaged.
        """
        self._save = save
        self._dice = dice
        self._entries: dict[bytes, Entry] = {}
        self._buckets: dict[tuple[bool, int], dict[bytes, None]] = {}
        self._changed = False
        self.own_id = b""
        """Set by the network: never enters the book."""
        if saved:
            try:
                file = from_bytes(_File, saved, bytes_max=FILE_BYTES_MAX)
            except BadMessage as error:
                raise BadBook(f"the address book is damaged ({error}); delete it to begin anew") from error
            self._secret = file.secret
            for entry in file.entries:
                self._insert(entry)
        else:
            self._secret = dice.randbytes(32)

    def __len__(self) -> int:
        """Nodes in the book."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, in the order in which they came."""
        return iter(list(self._entries.values()))

    def get(self, node_id: bytes) -> Entry | None:
        """What is known of the node."""
        return self._entries.get(node_id)

    def add(self, address: PeerAddress, *, source: str = "") -> bool:
        """Whether *address* is in the book now as a new one. *source*: host of who told us, "" for ourselves.

        A tried node keeps its address: strangers can't redirect it. A full bucket gives up its worst entry, or refuses.
        """
        if address.node_id == self.own_id:
            return False
        known = self._entries.get(address.node_id)
        if known is not None:
            if known.tried or known.address == address or known.failures == 0:
                return False
            self._remove(known)
        group = network_group(source) if source else ""
        entry = Entry(address.node_id, address.host, address.port, group, False, 0, NEVER, NEVER)
        self._changed = self._insert(entry) or self._changed
        return address.node_id in self._entries

    def reached(self, address: PeerAddress, now_ms: int) -> None:
        """A dial to *address* met the right node: it is tried, and may be passed on."""
        if address.node_id == self.own_id:
            return
        known = self._entries.get(address.node_id)
        source = known.source if known else ""
        if known is not None:
            self._remove(known)
        self._insert(Entry(address.node_id, address.host, address.port, source, True, 0, now_ms, now_ms))
        self._changed = True

    def failed(self, address: PeerAddress, now_ms: int) -> None:
        """A dial to *address* was in vain; after FAILURES_MAX a new node is forgotten and a tried one is new again."""
        known = self._entries.get(address.node_id)
        if known is None or known.address != address:
            return
        self._changed = True
        failures = known.failures + 1
        if failures < FAILURES_MAX:
            self._entries[known.node_id] = replace(known, failures=failures, attempted_ms=now_ms)
            return
        self._remove(known)
        if known.tried:
            self._insert(replace(known, tried=False, failures=failures // 2, attempted_ms=now_ms))

    def forget(self, node_id: bytes) -> None:
        """The node is not in the book."""
        known = self._entries.get(node_id)
        if known is not None:
            self._remove(known)
            self._changed = True

    def to_dial(self, now_ms: int, *, skip: Callable[[bytes], bool]) -> PeerAddress | None:
        """A node worth dialling now, tried ones more often than new ones; None if there is none. *skip*: by node id."""
        ready = [e for e in self._entries.values() if e.may_be_dialled(now_ms) and not skip(e.node_id)]
        if not ready:
            return None
        tried = [entry for entry in ready if entry.tried]
        new = [entry for entry in ready if not entry.tried]
        pool = tried if tried and (not new or self._dice.random() < 0.7) else new
        return self._dice.choice(pool).address

    def next_dial_ms(self, now_ms: int, *, skip: Callable[[bytes], bool]) -> int | None:
        """Milliseconds until `to_dial` has something; None if nothing will come without news."""
        waits = [
            max(0, e.attempted_ms + min(RETRY_BASE_MS << min(e.failures - 1, 20), RETRY_MAX_MS) - now_ms)
            if e.failures
            else 0
            for e in self._entries.values()
            if not skip(e.node_id)
        ]
        return min(waits, default=None)

    def to_share(self, count_max: int, *, skip: Callable[[bytes], bool]) -> list[PeerAddress]:
        """At most *count_max* addresses that were reached, drawn by lot."""
        tried = [e.address for e in self._entries.values() if e.tried and e.failures == 0 and not skip(e.node_id)]
        return self._dice.sample(tried, min(count_max, len(tried)))

    def save(self) -> None:
        """What changed since the last time is in the file. An OSError of the saver passes through."""
        if self._save is not None and self._changed:
            self._save(to_bytes(_File(1, self._secret, tuple(self._entries.values()))))
        self._changed = False

    def _insert(self, entry: Entry) -> bool:
        bucket = self._buckets.setdefault(self._bucket_of(entry), {})
        if len(bucket) >= BUCKET_ENTRIES_MAX:
            worst = max((self._entries[node_id] for node_id in bucket), key=_badness)
            if not entry.tried and _badness(worst) <= _badness(entry):
                return False
            self._remove(worst)
            if worst.tried:
                self._insert(replace(worst, tried=False))
        bucket[entry.node_id] = None
        self._entries[entry.node_id] = entry
        return True

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.node_id]
        self._buckets[self._bucket_of(entry)].pop(entry.node_id)

    def _bucket_of(self, entry: Entry) -> tuple[bool, int]:
        group = network_group(entry.host)
        slot = self._hash(entry.node_id, group) % BUCKETS_PER_GROUP
        if entry.tried:
            return True, self._hash(b"tried", group, str(slot)) % TRIED_BUCKETS
        return False, self._hash(b"new", entry.source, group, str(slot)) % NEW_BUCKETS

    def _hash(self, first: bytes, *parts: str) -> int:
        data = self._secret + first + b"\0" + "\0".join(parts).encode()
        return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def _badness(entry: Entry) -> tuple[int, int]:
    """Larger is sooner given up: many failures, long not reached."""
    return entry.failures, -entry.reached_ms
