"""Whom a newcomer can ask: peers that answer questions in order, until they lie, stall or go."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog
import trio

from consensus.codec import BadMessage
from node.snapshot_messages import Snapshots, WantSnapshots
from node.sync_messages import CHANNEL, QUESTIONS, UNASKED_BYTES_MAX, NoHeight, SyncMessage, from_wire, to_wire
from p2p.peer import Peer

log = structlog.get_logger("snapshot")

ANSWER_S = 15.0
"""What one answer (half a MiB) may take, byte by byte or not; who is slower is asked no more."""
LIE_POINTS = 100


class NoAnswer(Exception):
    """The peer went, or let the time pass."""


@dataclass(slots=True, eq=False)
class _Question:
    answer: SyncMessage | None = None
    done: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True, eq=False)
class Source:
    """A peer that can be asked."""

    peer: Peer
    usable: bool = True
    """Whether it neither lied nor stalled nor went, nor was passed over."""
    offers: tuple[int, ...] | None = None
    """The snapshots that it says it has; None: not asked yet."""
    under_way: int = 0
    """Parts of the state that it was asked for."""
    questions: deque[_Question] = field(default_factory=deque)
    sending: trio.Lock = field(default_factory=trio.Lock)

    async def ask(self, question: SyncMessage, *, within_s: float = ANSWER_S) -> SyncMessage:
        """The peer's answer. Raises NoAnswer; the peer is not usable then."""
        waiting = _Question()
        with trio.move_on_after(within_s):
            await self._send(question, waiting)
            await waiting.done.wait()
        if waiting.answer is None:
            if self.usable or not waiting.done.is_set():
                self.usable = False
                log.info("peer_did_not_answer", peer=self.peer.id.hex())
            raise NoAnswer
        return waiting.answer

    async def _send(self, question: SyncMessage, waiting: _Question) -> None:
        """*question* is on its way; *waiting* stands in the same place among those that wait for an answer."""
        async with self.sending:
            self.questions.append(waiting)
            sent = False
            try:
                await self.peer.send(CHANNEL.id, to_wire(question))
                sent = True
            finally:
                self.usable = self.usable and sent

    def lied(self, why: str) -> None:
        """It is asked no more, and that is logged and counted against it."""
        if self.usable:
            self.usable = False
            log.warning("snapshot_answer_refused", peer=self.peer.id.hex(), why=why)
            self.peer.penalise(f"snapshot: {why}", LIE_POINTS)

    def pass_over(self, why: str) -> None:
        """It is asked no more, and that is logged; it may be no fault of its own."""
        self.usable = False
        log.warning("snapshot_peer_passed_over", peer=self.peer.id.hex(), why=why)


class Sources:
    """The service on channel `sync` of a node that only asks."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._sources: dict[bytes, Source] = {}
        self._unusable: set[bytes] = set()
        """Ids of those who lied, stalled or were passed over: coming back does not help. As many as were dialled."""
        self.changed = trio.Event()

    def usable(self, height: int | None = None) -> list[Source]:
        """Those who can be asked; with *height*, those who offer that snapshot. In an order that no peer can choose."""
        found = [
            source
            for source in self._sources.values()
            if source.usable and (height is None or height in (source.offers or ()))
        ]
        self._dice.shuffle(found)
        return found

    def wake(self) -> None:
        """Whoever waits for a change looks again."""
        self.changed.set()
        self.changed = trio.Event()

    def offered(self) -> dict[int, int]:
        """The snapshots that are offered, each with how many peers do."""
        counts: dict[int, int] = {}
        for source in self.usable():
            for height in source.offers or ():
                counts[height] = counts.get(height, 0) + 1
        return counts

    def waits(self) -> Iterator[Source]:
        """Those who have not yet said what they offer."""
        return (source for source in self.usable() if source.offers is None)

    async def serve(self, peer: Peer) -> None:
        """Takes the answers of *peer* until it goes. Raises BadMessage for what nobody asked for."""
        source = Source(peer, usable=peer.id not in self._unusable)
        self._sources[peer.id] = source
        self.wake()
        try:
            while True:
                data = await peer.receive(CHANNEL.id)
                if len(data) > UNASKED_BYTES_MAX and not source.questions:
                    raise BadMessage("an answer that nobody asked for", "bad_message.unasked")
                message = from_wire(data)
                if isinstance(message, QUESTIONS):
                    await peer.send(CHANNEL.id, to_wire(_nothing_here(message)))
                elif source.questions:
                    question = source.questions.popleft()
                    question.answer = message
                    question.done.set()
                else:
                    raise BadMessage("an answer that nobody asked for", "bad_message.unasked")
        finally:
            if not source.usable:
                self._unusable.add(peer.id)
            source.usable = False
            for question in source.questions:
                question.done.set()
            if self._sources.get(peer.id) is source:
                del self._sources[peer.id]
            self.wake()


def _nothing_here(question: SyncMessage) -> SyncMessage:
    """What a newcomer answers to another one."""
    return Snapshots(()) if isinstance(question, WantSnapshots) else NoHeight(getattr(question, "height", 0), 1)
