"""What we know of a peer at the height in progress: what it said it holds, and what we sent it lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import trio

from consensus.params import VALIDATORS_MAX
from consensus.vote import Vote, VoteKind
from node.consensus_messages import Status
from p2p.peer import Peer

RESEND_S = 0.5
"""What was sent is sent again only if a status still lacks it after this."""
HOLDS_S = 5.0
"""Likewise for what the peer itself sent: it may have forgotten it (a later round of the same validator came)."""
LATER_MESSAGES_MAX = 2 * VALIDATORS_MAX + 64
LATER_BYTES_MAX = 2**20
"""Of messages for the next height, raw; what finds no room is sent again when we say that we lack it."""

ASKS_BURST_BYTES = 64 * 2**20
ASKS_BYTES_PER_S = 8 * 2**20
"""Of blocks and bodies that one peer gets in the long run, and at once: several times the largest block."""
ASK_BYTES = 64 * 2**10
"""What each question for a block or its bodies counts for at least: the whole block is read to answer it."""

VoteKey = tuple[int, VoteKind, int, bytes | None]
"""Round, kind, index in the set, block id: a liar may have two votes in one place."""


class PeerView:
    """What we know of a peer at the height in progress."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.status: Status | None = None
        self.ahead_since: float | None = None
        """trio time since which its height is above ours."""
        self.wake = trio.Event()
        self.blocks: set[bytes] = set()
        """Blocks of this height that it sent us: it can serve their bodies."""
        self._height = 0
        self._due: dict[VoteKey, float] = {}
        self._proposals_due: dict[int, float] = {}
        self._later: deque[tuple[int, bytes]] = deque()
        self._later_bytes = 0
        self._asks_left = float(ASKS_BURST_BYTES)
        self._asks_at = 0.0

    def may_ask(self, now: float) -> bool:
        """Whether the peer may be given of a block now; a question costs a few bytes, its answer a block."""
        gained = (now - self._asks_at) * ASKS_BYTES_PER_S
        self._asks_left = min(float(ASKS_BURST_BYTES), self._asks_left + gained)
        self._asks_at = now
        return self._asks_left >= ASK_BYTES

    def asked(self, size: int) -> None:
        """The peer was given *size* bytes."""
        self._asks_left -= max(size, ASK_BYTES)

    def at(self, height: int) -> PeerView:
        """This view, cleared if it was of another height."""
        if self._height != height:
            self._height = height
            self._due.clear()
            self._proposals_due.clear()
            self.blocks.clear()
        return self

    def votes_to_send(self, missing: Iterator[tuple[VoteKey, Vote]], now: float) -> list[Vote]:
        """Those of *missing* that were not sent lately; they count as sent now."""
        votes = []
        for key, vote in missing:
            if self._due.get(key, now) <= now:
                self._due[key] = now + RESEND_S
                votes.append(vote)
        return votes

    def proposal_due(self, round_: int, now: float) -> bool:
        """Whether the proposal of *round_* was not sent lately; it counts as sent now."""
        if self._proposals_due.get(round_, now) > now:
            return False
        self._proposals_due[round_] = now + RESEND_S
        return True

    def holds(self, key: VoteKey, now: float) -> None:
        """The peer has this vote, which is one that we hold too: it sent it."""
        self._due[key] = now + HOLDS_S

    def keep_for_later(self, height: int, message: bytes) -> None:
        """*message*, for a *height* to come, will be among `due_messages`, if there is room for it."""
        if len(self._later) < LATER_MESSAGES_MAX and self._later_bytes + len(message) <= LATER_BYTES_MAX:
            self._later.append((height, message))
            self._later_bytes += len(message)

    def due_messages(self, height: int) -> Iterator[bytes]:
        """The kept messages whose height is at most *height*, in the order in which they came; kept no longer."""
        while self._later and self._later[0][0] <= height:
            _, message = self._later.popleft()
            self._later_bytes -= len(message)
            yield message
