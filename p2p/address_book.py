"""Nodes that could be dialled, bounded, in buckets, kept in a small file.

A node is *new* while we only heard of it, and *tried* once a dial reached it. Buckets make it dear for one liar or
one network to fill the book: which of them an entry may stand in depends on a secret and, for new ones, on the network
of who told us, for tried ones on their own network. What stands in a full bucket leaves only if it does not answer any
more: new entries after dials in vain, tried ones after a test. Only tried entries are passed on.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from consensus.codec import BadMessage
from consensus.shape import U63, Count, Length, PublicKey, Range, Size, from_bytes, to_bytes
from p2p.address import PeerAddress, network_group

NEW_BUCKETS, TRIED_BUCKETS, BUCKET_ENTRIES_MAX = 128, 64, 16
"""At most 2,048 new and 1,024 tried entries."""
NEW_BUCKETS_PER_SOURCE = 8
"""Buckets that all who tell from one network can reach, whatever they tell: a sixteenth."""
TRIED_BUCKETS_PER_GROUP = 4
"""Buckets that the nodes of one network can reach: a sixteenth. Most of a small town may live in one."""
GIVES_WAY_FAILURES = 3
"""Dials in vain after which an entry of a full bucket makes room."""
CHALLENGERS_MAX = 16
"""Reached nodes that wait for the test of whom they would displace; more are merely new."""
FRESH_MS = 600_000
"""So long after it was reached an entry needs no test."""
ANCHORS_MAX = 4
"""Peers of the last run that are dialled first, whatever the book was filled with meanwhile."""
FAILURES_MAX = 8
"""A new node that was dialled so often in vain is forgotten; a tried one is new again."""
RETRY_BASE_MS, RETRY_MAX_MS = 5_000, 3_600_000
"""Pause after the first dial in vain; doubles each time."""
TRIED_SHARE = 0.7
"""How often a tried node is drawn where new ones could be."""
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
    version: Annotated[int, Range(2, 2)]
    secret: Annotated[bytes, Size(32)]
    entries: Annotated[tuple[Entry, ...], Count((NEW_BUCKETS + TRIED_BUCKETS) * BUCKET_ENTRIES_MAX)]
    anchors: Annotated[tuple[PublicKey, ...], Count(ANCHORS_MAX)]


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
        self._bucket_of: dict[bytes, tuple[bool, int]] = {}
        self._challengers: dict[bytes, Entry] = {}
        """Node id of a tried entry that is to be tested → who gets its place otherwise."""
        self._anchors: tuple[bytes, ...] = ()
        self._anchors_left: list[bytes] = []
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
            self._anchors = file.anchors
            self._anchors_left = list(file.anchors)
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

        A tried node keeps its address: strangers can't redirect it. In a full bucket it takes the place of a dead one.
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
        entry = Entry(address.node_id, address.host, address.port, source, True, 0, now_ms, now_ms)
        if not self._insert(entry):
            self._challenge(entry)
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

    def to_dial(self, now_ms: int, *, skip: Callable[[bytes], bool], groups: Container[str] = ()) -> PeerAddress | None:
        """A node worth dialling now; None if there is none. *skip*: by node id.

        *groups*: networks to avoid if possible. First the anchors; then tried ones more often than new ones, and every
        bucket alike, however full it is.
        """
        while self._anchors_left:
            anchor = self._entries.get(self._anchors_left.pop(0))
            if anchor is not None and not skip(anchor.node_id):
                return anchor.address
        ready = [e for e in self._entries.values() if e.may_be_dialled(now_ms) and not skip(e.node_id)]
        ready = [e for e in ready if network_group(e.host) not in groups] or ready
        if not ready:
            return None
        tried = [entry for entry in ready if entry.tried]
        new = [entry for entry in ready if not entry.tried]
        return self._draw(tried if tried and (not new or self._dice.random() < TRIED_SHARE) else new).address

    def to_test(self, now_ms: int, *, skip: Callable[[bytes], bool]) -> PeerAddress | None:
        """Whom to dial only to see whether it is there: a tried one that was challenged, else a new one. See `tested`.

        *skip*: by node id; who is connected needs no test.
        """
        for incumbent_id in list(self._challengers):
            incumbent = self._entries.get(incumbent_id)
            alive = incumbent is not None and (skip(incumbent_id) or now_ms - incumbent.reached_ms < FRESH_MS)
            if incumbent is None or not incumbent.tried or alive:
                del self._challengers[incumbent_id]
            else:
                return incumbent.address
        new = [
            entry
            for entry in self._entries.values()
            if not entry.tried
            and entry.may_be_dialled(now_ms)
            and now_ms - entry.reached_ms >= FRESH_MS
            and not skip(entry.node_id)
        ]
        return self._draw(new).address if new else None

    def tested(self, address: PeerAddress, now_ms: int, *, there: bool) -> None:
        """The node that `to_test` named was dialled; if it is not *there*, who challenged it takes its place."""
        challenger = self._challengers.pop(address.node_id, None)
        if there:
            self.reached(address, now_ms)
            return
        self.failed(address, now_ms)
        incumbent = self._entries.get(address.node_id)
        if challenger is not None and incumbent is not None and incumbent.tried:
            self._remove(incumbent)
            self.reached(challenger.address, challenger.reached_ms)
            self._insert(replace(incumbent, tried=False))

    @property
    def tried(self) -> int:
        """How many entries were reached by a dial."""
        return sum(entry.tried for entry in self._entries.values())

    def keep_anchors(self, node_ids: Sequence[bytes]) -> None:
        """The first ANCHORS_MAX of *node_ids* that are tried will be dialled first in the next run."""
        known = [node_id for node_id in node_ids if (entry := self._entries.get(node_id)) is not None and entry.tried]
        anchors = tuple(known[:ANCHORS_MAX])
        if anchors and anchors != self._anchors:
            self._anchors = anchors
            self._changed = True

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
            self._save(to_bytes(_File(2, self._secret, tuple(self._entries.values()), self._anchors)))
        self._changed = False

    def _draw(self, entries: Sequence[Entry]) -> Entry:
        """One of *entries*, by lot: first a bucket, so that who fills one is drawn no more often."""
        by_bucket: dict[tuple[bool, int], list[Entry]] = {}
        for entry in entries:
            by_bucket.setdefault(self._bucket_of[entry.node_id], []).append(entry)
        return self._dice.choice(self._dice.choice(list(by_bucket.values())))

    def _challenge(self, entry: Entry) -> None:
        """*entry* found its bucket full of what answered last time: it is new until the worst there was tested."""
        self._insert(replace(entry, tried=False))
        worst = self._worst(self._place(entry))
        if worst is not None and worst.node_id not in self._challengers and len(self._challengers) < CHALLENGERS_MAX:
            self._challengers[worst.node_id] = entry

    def _insert(self, entry: Entry) -> bool:
        """Whether *entry* stands in its bucket now; a dead one may have left for it."""
        place = self._place(entry)
        worst = self._worst(place)
        if worst is not None:
            if worst.failures < GIVES_WAY_FAILURES or worst.failures <= entry.failures:
                return False
            self._remove(worst)
            if worst.tried:
                self._insert(replace(worst, tried=False))
        self._buckets.setdefault(place, {})[entry.node_id] = None
        self._bucket_of[entry.node_id] = place
        self._entries[entry.node_id] = entry
        return True

    def _worst(self, place: tuple[bool, int]) -> Entry | None:
        """Who would leave the bucket first; None while it has room."""
        bucket = self._buckets.get(place, {})
        if len(bucket) < BUCKET_ENTRIES_MAX:
            return None
        return max((self._entries[node_id] for node_id in bucket), key=_badness)

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.node_id]
        self._buckets[self._bucket_of.pop(entry.node_id)].pop(entry.node_id)

    def _place(self, entry: Entry) -> tuple[bool, int]:
        group = network_group(entry.host)
        if entry.tried:
            slot = self._hash(entry.node_id, group) % TRIED_BUCKETS_PER_GROUP
            return True, self._hash(b"tried", group, str(slot)) % TRIED_BUCKETS
        slot = self._hash(entry.node_id, group, entry.source) % NEW_BUCKETS_PER_SOURCE
        return False, self._hash(b"new", entry.source, str(slot)) % NEW_BUCKETS

    def _hash(self, first: bytes, *parts: str) -> int:
        data = self._secret + first + b"\0" + "\0".join(parts).encode()
        return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def _badness(entry: Entry) -> tuple[int, int]:
    """Larger is sooner given up: many failures, long not reached."""
    return entry.failures, -entry.reached_ms
