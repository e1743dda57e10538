"""What we know of a peer at the height in progress: what it said it holds, and what we sent it lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import trio

from consensus.params import VALIDATORS_MAX
from consensus.vote import Vote, VoteKind
from node.consensus_messages import ConsensusMessage, Status
from p2p.peer import Peer

RESEND_S = 0.5
"""What was sent is sent again only if a status still lacks it after this."""

VoteKey = tuple[int, VoteKind, int, bytes | None]
"""Round, kind, index in the set, block id: a liar may have two votes in one place."""


class PeerView:
    """What we know of a peer at the height in progress."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.status: Status | None = None
        self.status_at = 0.0
        """trio time at which the last status came."""
        self.ahead_since: float | None = None
        """trio time since which its height is above ours."""
        self.wake = trio.Event()
        self._height = 0
        self._sent: dict[VoteKey, float] = {}
        self._proposals_sent: dict[int, float] = {}
        self.blocks: set[bytes] = set()
        """Blocks of this height that it sent us: it can serve their bodies."""
        self.later: deque[ConsensusMessage] = deque(maxlen=2 * VALIDATORS_MAX + 64)
        """Messages for the next height."""

    def at(self, height: int) -> PeerView:
        """This view, cleared if it was of another height."""
        if self._height != height:
            self._height = height
            self._sent.clear()
            self._proposals_sent.clear()
            self.blocks.clear()
        return self

    def votes_to_send(self, missing: Iterator[tuple[VoteKey, Vote]], now: float) -> list[Vote]:
        """Those of *missing* that were not sent lately; they count as sent now."""
        due = []
        for key, vote in missing:
            if now - self._sent.get(key, -RESEND_S) >= RESEND_S:
                self._sent[key] = now
                due.append(vote)
        return due

    def proposal_due(self, round_: int, now: float) -> bool:
        """Whether the proposal of *round_* was not sent lately; it counts as sent now."""
        if now - self._proposals_sent.get(round_, -RESEND_S) < RESEND_S:
            return False
        self._proposals_sent[round_] = now
        return True

    def has(self, key: VoteKey, now: float) -> None:
        """The peer has this vote: it sent it."""
        self._sent[key] = now + 3600
