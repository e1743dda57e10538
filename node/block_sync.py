"""Block sync: catching up with peers that are ahead, at any time and back, by verified commits only.

What a peer claims of its height only decides whom to ask. A peer is judged by answers per request, never by bytes per
second: a quiet chain is no fault.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
import trio

from consensus.application import Inadmissible
from consensus.codec import BadMessage
from consensus.params import Params
from consensus.signing import sha256
from consensus.validity import InvalidBlock, check_block, contents_belong, verify_commit
from node.consensus_driver import ConsensusDriver, Synced
from node.consensus_gossip import ConsensusGossip
from node.height import Candidate
from node.mempool import Mempool
from node.serving_budget import Asker, ServingBudget
from node.stopped import refused_decision
from node.store import Store
from node.sync_messages import (
    CHANNEL,
    DECIDED_OVERHEAD_BYTES,
    QUESTIONS,
    UNASKED_BYTES_MAX,
    DecidedHeight,
    NoHeight,
    SyncQuestion,
    WantHeight,
    claims_height,
    from_wire,
    to_wire,
)
from node.sync_server import SyncServer
from p2p.peer import Peer

log = structlog.get_logger("sync")

GRACE_S = 0.4
"""A peer that decided a moment before us is not ahead yet: our own votes get us there sooner."""
WINDOW_HEIGHTS = 16
"""Heights asked for at a time."""
PER_PEER_MAX = 4
"""Answers that one peer may owe us."""
ANOTHER_S = 3.0
"""After this another peer is asked too."""
ANSWER_S = 10.0
"""Who has sent nothing at all for so long is not trusted for a while."""
DISTRUST_S = 30.0
"""How long a peer that did not answer, or lied, is not asked again; twice as long each time in a row."""
DISTRUST_DOUBLINGS_MAX = 6
LOOK_S = 1.0
PROGRESS_S = 5.0
"""Between two lines of the log that say how far a long catching up is."""


@dataclass(slots=True)
class _Source:
    """A peer that can be asked. It stays here while it is distrusted, though it be gone."""

    peer: Peer | None = None
    owes: dict[int, float] = field(default_factory=dict)
    """Heights asked of it and not answered yet, with the trio time of asking."""
    bytes_received: int = 0
    heard_at: float = 0.0
    """trio time at which it last sent something, or was asked while it owed nothing."""
    distrusted_until: float = 0.0
    faults: int = 0
    """How often it was distrusted since it last gave a block that holds."""
    earliest: int = 0
    """The lowest height whose block it holds, as it says."""


@dataclass(slots=True)
class _Answer:
    """What a peer sent for a height. Only bytes until it is looked into: as objects it may take many times as much."""

    peer_id: bytes
    data: bytes
    message: DecidedHeight | None = None

    def read(self, params: Params) -> DecidedHeight:
        """The message. Raises BadMessage, also if no block that *params* allow is so large."""
        if self.message is None:
            bytes_max = params.block_bytes_max + DECIDED_OVERHEAD_BYTES
            if len(self.data) > bytes_max:
                raise BadMessage(f"{len(self.data)} bytes, at most {bytes_max}", "bad_message.too_large")
            message = from_wire(self.data)
            assert isinstance(message, DecidedHeight), "its beginning was looked at"
            self.message = message
        return self.message


class BlockSync:
    """The service on channel `sync`, and the task (`run`) that asks when we are behind."""

    def __init__(
        self,
        *,
        chain_id: str,
        store: Store,
        mempool: Mempool,
        driver: ConsensusDriver,
        gossip: ConsensusGossip,
        budget: ServingBudget,
        genesis_state: Path | None = None,
    ) -> None:
        """*genesis_state* is the file that newcomers need beside the genesis, if the chain goes on from a state."""
        self._chain_id = chain_id
        self._store = store
        self._mempool = mempool
        self._driver = driver
        self._gossip = gossip
        self.server = SyncServer(store, genesis_state)
        self._budget = budget
        self._sources: dict[bytes, _Source] = {}
        """By peer id."""
        self._received: dict[int, _Answer] = {}
        """By height."""
        self._arrived = trio.Event()
        self.catching_up = False
        """Whether verified commits of peers are being applied."""

    # Serving --------------------------------------------------------------------------------------------------------

    async def serve(self, peer: Peer) -> None:
        """Answers *peer* and takes its answers until it goes. Raises BadMessage for what no honest peer says."""
        source = self._sources.setdefault(peer.id, _Source())
        source.peer = peer
        source.bytes_received = source.earliest = 0
        asker = Asker()
        try:
            while True:
                data = await peer.receive(CHANNEL.id)
                if self._take(peer.id, source, data):
                    continue
                if len(data) > UNASKED_BYTES_MAX:
                    continue  # a late answer at best: as objects it would take many times its bytes
                message = from_wire(data)
                match message:
                    case DecidedHeight():
                        pass  # late
                    case NoHeight(height, earliest):
                        self._take_refusal(peer.id, source, height, earliest)
                    case _ if isinstance(message, QUESTIONS):
                        make = partial(self._answer, message)
                        await peer.send(CHANNEL.id, await self._budget.answer(asker, make))
                    case _:
                        raise BadMessage("an answer that nobody asked for", "bad_message.unasked")
        finally:
            source.peer = None
            source.owes.clear()
            self._forget_gone()
            self._arrived.set()

    async def _answer(self, question: SyncQuestion) -> bytes:
        return to_wire(await self.server.answer(question))

    def _take(self, peer_id: bytes, source: _Source, data: bytes) -> bool:
        """Whether *data* is an answer that is owed, however late; the first for its height will be looked into."""
        for height in source.owes:
            if claims_height(data, height):
                del source.owes[height]
                if height >= self._driver.height.number:
                    self._received.setdefault(height, _Answer(peer_id, data))
                    self._arrived.set()
                return True
        return False

    def _take_refusal(self, peer_id: bytes, source: _Source, height: int, earliest: int) -> None:
        """A peer that began with a snapshot lacks what was before it; any other owes what it claims to hold."""
        if source.owes.pop(height, None) is None:
            return
        if height < earliest and source.earliest in (0, earliest):
            source.earliest = earliest
            self._arrived.set()
        else:
            log.info("peer_lacks_height", peer=peer_id.hex(), height=height)
            self._distrust(peer_id)

    def _distrust(self, peer_id: bytes) -> None:
        """Not asked for a while, even if it connects anew."""
        source = self._sources.setdefault(peer_id, _Source())
        source.distrusted_until = trio.current_time() + DISTRUST_S * 2 ** min(source.faults, DISTRUST_DOUBLINGS_MAX)
        source.faults += 1
        source.owes.clear()
        self._arrived.set()

    def _forget_gone(self) -> None:
        """Who is gone is remembered only while distrusted."""
        now = trio.current_time()
        self._sources = {
            peer_id: source
            for peer_id, source in self._sources.items()
            if source.peer is not None or source.distrusted_until > now
        }

    # Catching up ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Whenever peers are ahead, their blocks are verified and applied, until nobody trusted is ahead."""
        task_status.started()
        while True:
            await trio.sleep(GRACE_S if self._ahead() else LOOK_S)
            if self._ahead(since=trio.current_time() - GRACE_S):
                await self._catch_up()

    def _ahead(self, since: float | None = None) -> dict[bytes, int]:
        """Trusted peers that say they are above our height (and have, since the trio time *since*), with theirs."""
        current, now = self._driver.height, trio.current_time()
        ahead = {}
        for peer_id, source in self._sources.items():
            view = self._gossip.views.get(peer_id)
            if view is None or view.status is None or source.peer is None or source.distrusted_until > now:
                continue
            theirs = view.status.height
            began_s = max(current.began_s, view.ahead_since or now)
            if theirs > current.number and (since is None or theirs > current.number + 1 or began_s <= since):
                ahead[peer_id] = theirs
        return ahead

    async def _catch_up(self) -> None:
        first = self._driver.height.number
        told_s = trio.current_time()
        try:
            while self._ahead() or self._driver.height.number in self._received:
                number = self._driver.height.number
                self._received = {h: answer for h, answer in self._received.items() if h >= number}
                self._ask(number)
                if trio.current_time() - told_s >= PROGRESS_S:
                    told_s = trio.current_time()
                    log.info("sync_progress", height=number - 1, first=first)
                if number in self._received:
                    await self._apply(number, self._received.pop(number))
                else:
                    # Nobody has proved that there is more: what claims to be ahead does not keep us from voting.
                    self._driver.voice.muted = False
                    await self._wait()
        finally:
            self._driver.voice.muted = self.catching_up = False
            self._received.clear()
        if self._driver.height.number > first + 1:
            log.info("synced", first=first, last=self._driver.height.number - 1)

    def _ask(self, number: int) -> None:
        """Each of the next heights is asked of a peer that claims to hold it; of one more if that takes too long."""
        now = trio.current_time()
        ahead = self._ahead()
        free = {i: len(self._sources[i].owes) for i in ahead if len(self._sources[i].owes) < PER_PEER_MAX}
        for height in range(number, number + WINDOW_HEIGHTS):
            if not free:
                return
            late = all(now - source.owes.get(height, -math.inf) >= ANOTHER_S for source in self._sources.values())
            if height in self._received or not late:
                continue
            able = sorted(
                (owed, peer_id)
                for peer_id, owed in free.items()
                if ahead[peer_id] > height
                and self._sources[peer_id].earliest <= height
                and height not in self._sources[peer_id].owes
            )
            for _, peer_id in able:
                asked = self._request(self._sources[peer_id], height, now)
                free[peer_id] += asked
                if not asked or free[peer_id] == PER_PEER_MAX:
                    del free[peer_id]
                if asked:
                    break

    def _request(self, source: _Source, height: int, now: float) -> bool:
        if source.peer is None or not source.peer.offer(CHANNEL.id, to_wire(WantHeight(height))):
            return False
        if not source.owes:
            source.heard_at = now
        source.owes[height] = now
        return True

    async def _wait(self) -> None:
        """Until an answer came, or a while passed; who owes something and sends nothing is not asked for a while."""
        with trio.move_on_after(LOOK_S):
            await self._arrived.wait()
        self._arrived = trio.Event()
        now = trio.current_time()
        for peer_id, source in list(self._sources.items()):
            if source.peer is None or not source.owes:
                continue
            received = source.peer.traffic()[CHANNEL.name].bytes_received
            if received != source.bytes_received:
                source.bytes_received, source.heard_at = received, now
            elif now - source.heard_at >= ANSWER_S:
                log.info("peer_did_not_answer", peer=peer_id.hex())
                self._distrust(peer_id)

    async def _apply(self, number: int, received: _Answer) -> None:
        """What was received, if it is what it says, is our next block, *number*."""
        peer_id = received.peer_id
        try:
            answer = received.read(self._driver.height.parent.params)
            synced = await self._verified(answer)
        except (BadMessage, InvalidBlock) as lie:
            log.warning("sync_answer_refused", peer=peer_id.hex(), height=number, why=str(lie))
            self._distrust(peer_id)
            self._received = {h: other for h, other in self._received.items() if other.peer_id != peer_id}
            peer = self._sources[peer_id].peer
            if peer is not None:
                peer.penalise(f"sync: {lie}", 50)
            return
        if synced is not None:
            self._driver.voice.muted = self.catching_up = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._verify_ahead, answer)
                await self._driver.apply(synced)
            source = self._sources.get(peer_id)
            if source is not None and source.peer is not None:
                source.faults = 0
                source.peer.was_useful(CHANNEL.name)

    async def _verify_ahead(self, applied: DecidedHeight) -> None:
        """While *applied* is executed and written, the signatures of the next height are verified, if it is here.

        Only where the same set decides it: then its commit can be checked first, and no peer makes us verify bodies of
        a block that nobody decided. What does not hold comes to light when it is the height's turn.
        """
        received = self._received.get(applied.block.header.height + 1)
        validators = self._driver.height.parent.validators
        if received is None or applied.block.header.next_validators_hash != validators.hash:
            return
        try:
            answer = received.read(self._driver.height.parent.params)
            if contents_belong(answer.block) and answer.commit.height == answer.block.header.height:
                verify_commit(self._chain_id, validators, answer.commit, answer.block.id)
                _require_bodies(answer)
                await self._mempool.bodies.admit(answer.transactions)
        except (BadMessage, InvalidBlock, Inadmissible) as lie:
            log.debug("sync_ahead_refused", height=applied.block.header.height + 1, why=str(lie))

    async def _verified(self, answer: DecidedHeight) -> Synced | None:
        """*answer*, verified by its commit; None if our height is decided.

        Raises BadMessage or InvalidBlock for a lie, NodeStopped for a decision that we refuse.
        """
        height, block = self._driver.height, answer.block
        if not contents_belong(block):
            raise BadMessage("a block whose parts are not those of its header", "bad_message.block")
        if block.header.height != height.number:
            return None
        if answer.commit.height != height.number:
            raise BadMessage("a commit of another height", "bad_message.commit")
        verify_commit(self._chain_id, height.parent.validators, answer.commit, block.id)
        _require_bodies(answer)
        candidate = height.candidates.get(block.id)
        if candidate is None or not candidate.complete:
            candidate = Candidate(block, [None] * len(block.transaction_ids))
        try:
            bodies_bytes = sum(len(raw) for raw in answer.transactions)
            check_block(block, bodies_bytes, height.parent, self._store.state())
            if not candidate.complete:
                candidate.fill(await self._mempool.bodies.admit(answer.transactions))
        except (InvalidBlock, Inadmissible, BadMessage) as invalid:
            # The commit is real: it is not the peer that is wrong.
            raise refused_decision(height.number, block.id, invalid) from invalid
        return Synced(candidate, answer.commit) if self._driver.height is height else None


def _require_bodies(answer: DecidedHeight) -> None:
    """The bodies are those of the block. Raises BadMessage."""
    if tuple(sha256(raw) for raw in answer.transactions) != answer.block.transaction_ids:
        raise BadMessage("bodies that are not of the block", "bad_message.bodies")
