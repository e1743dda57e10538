"""Block sync: catching up with peers that are ahead, at any time and back, by verified commits only.

What a peer claims of its height only decides whom to ask. A peer is judged by answers per request, never by bytes per
second: a quiet chain is no fault.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
import trio

from consensus.application import Inadmissible
from consensus.chain import InvalidBlock, check_block, contents_belong, verify_commit
from consensus.codec import BadMessage
from consensus.signing import sha256
from node.consensus_driver import ConsensusDriver, NodeStopped, Synced, refused_decision
from node.consensus_gossip import ConsensusGossip
from node.height import Candidate
from node.mempool import Mempool
from node.peer_view import PeerView
from node.store import Store
from node.sync_messages import (
    CHANNEL,
    DecidedHeight,
    Genesis,
    NoHeight,
    SyncMessage,
    WantGenesis,
    WantHeight,
    from_wire,
    to_wire,
)
from node.trust_root import TrustRoot
from p2p.peer import Peer

log = structlog.get_logger("sync")

GRACE_S = 0.4
"""A peer that decided a moment before us is not ahead yet: our own votes get us there sooner."""
WINDOW_HEIGHTS = 16
"""Heights asked for at a time."""
PER_PEER_MAX = 4
ANSWER_S = 10.0
"""How long a peer has to answer a request."""
DISTRUST_S = 30.0
"""How long a peer that did not answer, or lied, is not asked again."""
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class _Request:
    peer: bytes
    deadline: float


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
        trust_root: TrustRoot | None,
    ) -> None:
        self._chain_id = chain_id
        self._store = store
        self._mempool = mempool
        self._driver = driver
        self._gossip = gossip
        self._trust_root = trust_root
        self._peers: dict[bytes, Peer] = {}
        self._requests: dict[int, _Request] = {}
        self._received: dict[int, tuple[bytes, DecidedHeight]] = {}
        self._distrusted: dict[bytes, float] = {}
        self._arrived = trio.Event()

    @property
    def catching_up(self) -> bool:
        """Whether verified commits of peers are being applied."""
        return self._driver.voice.muted

    # Serving --------------------------------------------------------------------------------------------------------

    async def serve(self, peer: Peer) -> None:
        """Answers *peer* and takes its answers until it goes. Raises BadMessage for what no honest peer says."""
        self._peers[peer.id] = peer
        try:
            while True:
                message = from_wire(await peer.receive(CHANNEL.id))
                match message:
                    case WantHeight(height):
                        await peer.send(CHANNEL.id, to_wire(self._answer(height)))
                    case WantGenesis():
                        await peer.send(CHANNEL.id, to_wire(Genesis(self._store.genesis_bytes())))
                    case DecidedHeight():
                        self._take(peer, message)
                    case NoHeight(height):
                        self._refused(peer, height)
                    case Genesis():
                        raise BadMessage("a genesis file that nobody asked for", "bad_message.unasked")
        finally:
            del self._peers[peer.id]
            self._distrusted.pop(peer.id, None)

    def _answer(self, height: int) -> SyncMessage:
        if not 1 <= height <= self._store.height:
            return NoHeight(height)
        return DecidedHeight(
            self._store.block(height), self._store.block_transactions(height), self._store.commit_of(height)[0]
        )

    def _take(self, peer: Peer, message: DecidedHeight) -> None:
        height = message.block.header.height
        request = self._requests.get(height)
        if request is None or request.peer != peer.id:
            return  # it was asked, but its time was over
        del self._requests[height]
        self._received[height] = (peer.id, message)
        self._arrived.set()

    def _refused(self, peer: Peer, height: int) -> None:
        request = self._requests.get(height)
        if request is not None and request.peer == peer.id:
            del self._requests[height]
            self._distrust(peer.id)

    def _distrust(self, peer_id: bytes) -> None:
        """Not asked for a while; what it has sent and was asked for is forgotten."""
        self._distrusted[peer_id] = trio.current_time() + DISTRUST_S
        self._requests = {h: request for h, request in self._requests.items() if request.peer != peer_id}
        self._received = {h: answer for h, answer in self._received.items() if answer[0] != peer_id}
        self._arrived.set()

    # Catching up ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Whenever peers are ahead, their blocks are verified and applied, until nobody trusted is ahead."""
        task_status.started()
        while True:
            await trio.sleep(GRACE_S if self._ahead() else LOOK_S)
            if self._ahead(since=trio.current_time() - GRACE_S):
                await self._catch_up()

    def _ahead(self, since: float | None = None) -> list[PeerView]:
        """Trusted peers that say they are above our height (and have, since the trio time *since*)."""
        number, now = self._driver.height.number, trio.current_time()
        return [
            view
            for view in self._gossip.views.values()
            if view.status is not None
            and view.status.height > number
            and view.peer.id in self._peers
            and self._distrusted.get(view.peer.id, 0.0) <= now
            and (since is None or view.status.height > number + 1 or (view.ahead_since or now) <= since)
        ]

    async def _catch_up(self) -> None:
        first = self._driver.height.number
        try:
            while self._ahead():
                number = self._driver.height.number
                self._forget_below(number)
                self._ask(number)
                if number in self._received:
                    peer_id, answer = self._received.pop(number)
                    await self._apply(peer_id, answer)
                    continue
                await self._wait()
        finally:
            self._driver.voice.muted = False
            self._requests.clear()
            self._received.clear()
        if self._driver.height.number > first + 1:
            log.info("synced", first=first, last=self._driver.height.number - 1)

    def _forget_below(self, number: int) -> None:
        self._requests = {h: request for h, request in self._requests.items() if h >= number}
        self._received = {h: answer for h, answer in self._received.items() if h >= number}

    def _ask(self, number: int) -> None:
        """Each of the next heights is asked of one peer that claims to hold it."""
        now = trio.current_time()
        for height in range(number, number + WINDOW_HEIGHTS):
            if height in self._requests or height in self._received:
                continue
            load = {view.peer.id: 0 for view in self._ahead() if view.status and view.status.height > height}
            for request in self._requests.values():
                if request.peer in load:
                    load[request.peer] += 1
            free = sorted((count, peer_id) for peer_id, count in load.items() if count < PER_PEER_MAX)
            if not free:
                return
            peer_id = free[0][1]
            if self._peers[peer_id].offer(CHANNEL.id, to_wire(WantHeight(height))):
                self._requests[height] = _Request(peer_id, now + ANSWER_S)

    async def _wait(self) -> None:
        """Until an answer came, or a request ran out of time: who did not answer is not asked for a while."""
        now = trio.current_time()
        deadline = min((request.deadline for request in self._requests.values()), default=now + LOOK_S)
        with trio.move_on_at(min(deadline, now + LOOK_S)):
            await self._arrived.wait()
        self._arrived = trio.Event()
        now = trio.current_time()
        for request in list(self._requests.values()):
            if request.deadline <= now:
                log.info("peer_did_not_answer", peer=request.peer.hex())
                self._distrust(request.peer)

    async def _apply(self, peer_id: bytes, answer: DecidedHeight) -> None:
        """The answer, if it is what it says, is our next block."""
        try:
            synced = await self._verified(answer)
        except (BadMessage, InvalidBlock) as lie:
            log.warning("sync_answer_refused", peer=peer_id.hex(), height=answer.block.header.height, why=str(lie))
            if peer_id in self._peers:
                self._peers[peer_id].penalise(f"sync: {lie}", 50)
            self._distrust(peer_id)
            return
        if synced is not None:
            self._driver.voice.muted = True
            await self._driver.apply(synced)

    async def _verified(self, answer: DecidedHeight) -> Synced | None:
        """*answer*, verified by its commit; None if our height is decided.

        Raises BadMessage or InvalidBlock for a lie, NodeStopped for a decision that we refuse.
        """
        height, block = self._driver.height, answer.block
        if not contents_belong(block):
            raise BadMessage("a block whose parts are not those of its header", "bad_message.block")
        if block.header.height != height.number:
            return None
        verify_commit(self._chain_id, height.parent.validators, answer.commit, block.id)
        self._check_trust_root(block.header.height, block.id)
        if tuple(sha256(raw) for raw in answer.transactions) != block.transaction_ids:
            raise BadMessage("bodies that are not of the block", "bad_message.bodies")
        candidate = height.candidates.get(block.id)
        if candidate is None or candidate.missing:
            candidate = Candidate(block, [None] * len(block.transaction_ids))
        try:
            check_block(block, sum(len(raw) for raw in answer.transactions), height.parent)
            if candidate.missing:
                candidate.fill(await self._mempool.admit_bodies(answer.transactions))
        except (InvalidBlock, Inadmissible, BadMessage) as invalid:
            # The commit is real: it is not the peer that is wrong.
            raise refused_decision(block, invalid) from invalid
        return Synced(candidate, answer.commit) if self._driver.height is height else None

    def _check_trust_root(self, height: int, block_id: bytes) -> None:
        root = self._trust_root
        if root is not None and root.height == height and root.block_id != block_id:
            raise NodeStopped(
                f"block {height} of the peers is {block_id.hex()}, but the invite link vouches for "
                f"{root.block_id.hex()}: they are on another chain than who invited you. "
                "Ask for a fresh link, and whom to trust"
            )
