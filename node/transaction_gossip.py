"""Transactions between pools, on a channel of their own.

The node that a client spoke to pushes bodies to all its peers at once. Others announce ids a little later, and only of
what still waits then: in a well-connected town a block has mostly been faster. Who lacks an announced body asks one of
its announcers, and after a time-out the next. A peer that was away is told of everything that waits. What is still
missing when a block is proposed, consensus fetches itself.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog
import trio

from consensus.codec import BadMessage, decode, encode
from node.mempool import Mempool, Outcome
from node.mempool_memory import Recent
from p2p.channel import Channel

log = structlog.get_logger("transactions")

TRANSACTION_BYTES_MAX = 2**20
"""Larger ones, should parameters ever allow them, are not gossiped."""
MESSAGE_BYTES_MAX = TRANSACTION_BYTES_MAX + 4_096
FLUSH_BYTES = 60_000
"""Bodies gather up to this in one message: a record of the connection."""
IDS_PER_MESSAGE_MAX = 1_024
ID_BYTES = 32
MESSAGES_PER_TURN = 16
"""Messages of a peer that become one batch for the verifier."""

RELAY_AFTER_S = 0.15
"""Between a transaction's arrival from a peer and its announcement to others; twice that at most."""
ASK_TIMEOUT_S = 2.0
"""For a body that was asked for; then another announcer is asked."""
ANNOUNCED_MAX = 8_192
"""Announced ids of one peer that are looked into at a time; more are left for other announcers."""
ANSWERS_WAITING_MAX = 4_096
REFUSED_FETCHES_MAX = 2
"""So many times a body is fetched that our pool then refuses; the next block may change its mind, but seldom does."""

LIES = frozenset({"tx.bad_signature", "tx.wrong_chain"})
"""Refusals of what no honest node passes on, beside ``bad_message.*``."""

CHANNEL = Channel(
    id=2,
    name="transactions",
    priority=5,
    message_bytes_max=MESSAGE_BYTES_MAX,
    send_queue_messages_max=64,
    receive_window_bytes=2 * MESSAGE_BYTES_MAX,
    bytes_per_second_max=16 * 2**20,
)

_BODIES, _ANNOUNCE, _ASK = 0, 1, 2


class GossipPeer(Protocol):
    """What the gossip needs of a peer (`p2p.peer.Peer`)."""

    id: bytes

    async def send(self, channel_id: int, message: bytes) -> None:
        """*message* is in the queue, after waiting for room."""

    def was_useful(self, kind: str) -> None:
        """The peer has just brought something new and true."""

    async def receive_batch(self, channel_id: int, messages_max: int = ...) -> list[bytes]:
        """What waits on the channel, at least one message."""


@dataclass(slots=True)
class GossipCounters:
    """What was said since the node started; for metrics."""

    pushed: int = 0
    announced: int = 0
    asked: int = 0
    answered: int = 0
    missed: int = 0
    """Bodies that an announcer did not send in time."""


@dataclass(slots=True, eq=False)
class _Link:
    """One connected peer."""

    peer: GossipPeer
    bit: int
    """Its bit in `Entry.holders`."""
    due: list[tuple[float, int, bytes]] = field(default_factory=list)
    """Heap of (when to look, number, id): ids that it announced."""
    pending: set[bytes] = field(default_factory=set)
    """The ids in `due`."""
    number: int = 0
    asked: set[bytes] = field(default_factory=set)
    """Ids that we asked of it and that have neither come nor timed out."""
    answers: deque[bytes] = field(default_factory=deque)
    """Ids that it asked for."""
    announced: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    questioned: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def look(self, when: float, identity: bytes) -> None:
        """*identity* is looked into at *when* (trio's clock), if it is not already going to be."""
        if identity not in self.pending:
            self.pending.add(identity)
            self.number += 1
            heapq.heappush(self.due, (when, self.number, identity))

    def next_due(self, now: float) -> bytes | None:
        """An id that is to be looked into by *now*; no longer going to be."""
        if not self.due or self.due[0][0] > now:
            return None
        _, _, identity = heapq.heappop(self.due)
        self.pending.discard(identity)
        return identity


class TransactionGossip:
    """Keeps the pools of connected nodes alike. `serve` runs for each peer."""

    def __init__(self, mempool: Mempool) -> None:
        self._mempool = mempool
        self._bits_used = 0
        self._asked: dict[bytes, float] = {}
        """Id → until when some peer has time to send it. At most what the links' `asked` hold together."""
        self._refused: Recent[int] = Recent(10_000)
        """Id → how often its body came and was refused."""
        self.counters = GossipCounters()

    async def serve(self, peer: GossipPeer) -> None:
        """Exchanges transactions with *peer* until cancelled. Raises BadMessage when it breaks a rule."""
        with self._linked(peer) as link:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._push, link)
                nursery.start_soon(self._announce, link)
                nursery.start_soon(self._answer, link)
                nursery.start_soon(self._ask, link)
                await self._listen(link)

    @contextmanager
    def _linked(self, peer: GossipPeer) -> Iterator[_Link]:
        """A link with a bit of its own, which is cleared everywhere when the peer is gone."""
        bit = ~self._bits_used & (self._bits_used + 1)
        self._bits_used |= bit
        link = _Link(peer, bit)
        try:
            yield link
        finally:
            self._bits_used &= ~bit
            for entry in self._mempool.entries():
                entry.holders &= ~bit
            for identity in link.asked:
                self._asked.pop(identity, None)

    # --- what we have

    async def _push(self, link: _Link) -> None:
        """Bodies that our clients bring from now on go out at once; what gathers meanwhile goes together."""
        submissions = self._mempool.submissions
        place = submissions.end
        while True:
            await submissions.wait(place)
            ids, place = submissions.since(place, IDS_PER_MESSAGE_MAX)
            self.counters.pushed += await self._send_bodies(link, ids)

    async def _announce(self, link: _Link) -> None:
        """Ids of all that waits, then of what comes from others and still waits after a while."""
        arrivals, pushed_from = self._mempool.arrivals, self._mempool.arrivals.end
        place = 0
        while True:
            await arrivals.wait(place)
            end = arrivals.end
            await trio.sleep(RELAY_AFTER_S)
            while place < end:
                ids, place = arrivals.since(place, min(IDS_PER_MESSAGE_MAX, end - place))
                first = place - len(ids)
                news = [
                    identity
                    for at, identity in enumerate(ids, first)
                    if self._is_news(link, identity, at < pushed_from)
                ]
                if news:
                    self.counters.announced += len(news)
                    await link.peer.send(CHANNEL.id, encode((_ANNOUNCE, b"".join(news))))

    def _is_news(self, link: _Link, identity: bytes, before_link: bool) -> bool:
        """Whether the peer may lack *identity*, and no push of ours brings it."""
        entry = self._mempool.entry(identity)
        if entry is None or entry.holders & link.bit or identity in link.pending:  # pending: it told us itself
            return False
        return before_link or entry.source is not None

    async def _answer(self, link: _Link) -> None:
        """Bodies that the peer asked for, as far as they still wait here."""
        while True:
            while not link.answers:
                await link.questioned.park()
            ids = [link.answers.popleft() for _ in range(min(len(link.answers), IDS_PER_MESSAGE_MAX))]
            for identity in ids:
                entry = self._mempool.entry(identity)
                if entry is not None:
                    entry.holders &= ~link.bit  # whatever we believed: it asks
            self.counters.answered += await self._send_bodies(link, ids)

    async def _send_bodies(self, link: _Link, ids: Sequence[bytes]) -> int:
        """Sends the bodies of *ids* that wait here and that the peer is not known to have; returns their number."""
        bodies: list[bytes] = []
        size = count = 0
        for identity in ids:
            entry = self._mempool.entry(identity)
            if entry is None or entry.holders & link.bit:
                continue
            raw = entry.transaction.raw
            if len(raw) > TRANSACTION_BYTES_MAX:
                continue  # consensus fetches it with its block
            entry.holders |= link.bit
            if bodies and size + len(raw) > FLUSH_BYTES:
                await link.peer.send(CHANNEL.id, encode((_BODIES, bodies)))
                bodies, size = [], 0
            bodies.append(raw)
            size += len(raw)
            count += 1
        if bodies:
            await link.peer.send(CHANNEL.id, encode((_BODIES, bodies)))
        return count

    # --- what we lack

    async def _listen(self, link: _Link) -> None:
        """Takes what the peer says; its bodies become one batch. While we verify, its channel waits."""
        while True:
            bodies: list[bytes] = []
            for message in await link.peer.receive_batch(CHANNEL.id, MESSAGES_PER_TURN):
                kind, content = _read(message)
                if kind == _BODIES:
                    bodies += content
                elif kind == _ANNOUNCE:
                    self._heard(link, content)
                else:
                    link.answers.extend(content[: ANSWERS_WAITING_MAX - len(link.answers)])
                    link.questioned.unpark_all()
            if bodies:
                for outcome in await self._mempool.submit(bodies, source=link.peer.id):
                    self._received(link, outcome)

    def _heard(self, link: _Link, ids: Sequence[bytes]) -> None:
        """The peer has *ids*; those that we lack are looked into."""
        now = trio.current_time()
        for identity in ids:
            entry = self._mempool.entry(identity)
            if entry is not None:
                entry.holders |= link.bit
            elif not self._mempool.knows(identity) and len(link.due) < ANNOUNCED_MAX:
                link.look(now, identity)
        if link.due:
            link.announced.unpark_all()

    def _received(self, link: _Link, outcome: Outcome) -> None:
        """What follows from the pool's verdict on a body of this peer."""
        code, identity = outcome.code, outcome.id
        if code.startswith("bad_message.") or code in LIES:
            raise BadMessage(f"a transaction that no honest node passes on: {outcome.text}", code)
        if identity is None:
            return
        self._asked.pop(identity, None)
        entry = self._mempool.entry(identity)
        if entry is not None:
            if entry.source == link.peer.id:
                link.peer.was_useful(CHANNEL.name)
            entry.holders |= link.bit
        elif code:
            self._refused.put(identity, (self._refused.get(identity) or 0) + 1)

    async def _ask(self, link: _Link) -> None:
        """Asks for announced bodies that nobody brings; leaves an id to another announcer while that one has time."""
        while True:
            wanted = self._due(link, trio.current_time())
            for start in range(0, len(wanted), IDS_PER_MESSAGE_MAX):
                self.counters.asked += len(wanted[start : start + IDS_PER_MESSAGE_MAX])
                await link.peer.send(CHANNEL.id, encode((_ASK, b"".join(wanted[start : start + IDS_PER_MESSAGE_MAX]))))
            with trio.move_on_at(link.due[0][0] if link.due else trio.current_time() + 3600):
                await link.announced.park()

    def _due(self, link: _Link, now: float) -> list[bytes]:
        """The ids to ask this peer for now."""
        wanted: list[bytes] = []
        missed = 0
        while (identity := link.next_due(now)) is not None:
            until = self._asked.get(identity, 0.0)
            if identity in link.asked:  # its time is over, or it came
                link.asked.discard(identity)
                if until <= now:
                    self._asked.pop(identity, None)
                missed += not self._mempool.knows(identity)
            elif self._mempool.knows(identity) or (self._refused.get(identity) or 0) >= REFUSED_FETCHES_MAX:
                continue
            elif until > now:
                link.look(until, identity)
            else:
                self._asked[identity] = now + ASK_TIMEOUT_S
                link.asked.add(identity)
                link.look(now + ASK_TIMEOUT_S, identity)
                wanted.append(identity)
        if missed:
            self.counters.missed += missed
            log.debug("transaction_body_missing", peer=link.peer.id, count=missed)
        return wanted


def _read(message: bytes) -> tuple[int, Sequence[bytes]]:
    """Kind, and bodies or ids, of a message on this channel. Raises BadMessage."""
    value = decode(message, bytes_max=MESSAGE_BYTES_MAX)
    if type(value) is not tuple or len(value) != 2 or type(value[0]) is not int:
        raise BadMessage("a message about transactions is an array of a kind and a content")
    kind, content = value
    if kind == _BODIES and type(content) is tuple and all(type(raw) is bytes for raw in content):
        return _BODIES, content  # type: ignore[return-value]  # just checked
    if kind in (_ANNOUNCE, _ASK) and type(content) is bytes and len(content) % ID_BYTES == 0:
        if len(content) > IDS_PER_MESSAGE_MAX * ID_BYTES:
            raise BadMessage(f"more than {IDS_PER_MESSAGE_MAX} ids", "bad_message.out_of_range")
        return kind, [content[at : at + ID_BYTES] for at in range(0, len(content), ID_BYTES)]
    raise BadMessage("neither bodies nor ids of transactions")
