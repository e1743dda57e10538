"""Gossip about the height in progress: the origin pushes its votes and proposals, statuses show gaps, gaps are filled.

Tendermint needs eventual delivery: on connect, on each step and periodically, peers tell what they hold, and each
supplies what the other lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import trio

from consensus.application import Inadmissible
from consensus.block import Block
from consensus.codec import BadMessage
from consensus.inputs import Step
from consensus.signing import sha256
from consensus.validity import InvalidBlock, contents_belong
from consensus.vote import Proposal, Vote, VoteKind
from node.consensus_driver import ConsensusDriver
from node.consensus_messages import (
    BODIES_BYTES_MAX,
    BODY_OVERHEAD_BYTES,
    CHANNEL,
    ROUNDS_SHOWN_MAX,
    UNASKED_BYTES_MAX,
    VOTES_MAX,
    BlockOnly,
    Bodies,
    ConsensusMessage,
    Held,
    ProposalWithBlock,
    Status,
    Votes,
    WantBlock,
    WantBodies,
    claims_bodies,
    from_wire,
    to_wire,
)
from node.height import HeightInProgress
from node.mempool import Mempool
from node.peer_view import PeerView, VoteKey
from node.store import Store
from node.votes_ahead import VotesAhead
from p2p.peer import Peer

STATUS_INTERVAL_S = 1.0
"""The longest time without a status; in between, each step sends one."""
RELAY_S = 0.1
"""A vote that we have had for this long, and that a peer's status lacks, did not reach it from its origin: we relay."""


class ConsensusGossip:
    """The service on channel `consensus`, and the driver's `Publisher`."""

    def __init__(
        self, *, chain_id: str, driver: ConsensusDriver, mempool: Mempool, store: Store, now_ms: Callable[[], int]
    ) -> None:
        self._chain_id = chain_id
        self._driver = driver
        self._mempool = mempool
        self._store = store
        self._now_ms = now_ms
        self.views: dict[bytes, PeerView] = {}
        """By peer id."""
        self._seen: dict[bytes, float] = {}
        """Signatures of the height's votes of others: trio time at which they came."""
        self._seen_height = 0
        self._ahead = VotesAhead()
        driver.follow(self)

    async def serve(self, peer: Peer) -> None:
        """Talks with *peer* until it goes. Raises BadMessage for what no honest peer says."""
        view = PeerView(peer)
        self.views[peer.id] = view
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._speak, view)
                while True:
                    await self._take(view, await peer.receive(CHANNEL.id))
        finally:
            del self.views[peer.id]

    # The driver's publisher -----------------------------------------------------------------------------------------

    def publish_proposal(self, proposal: Proposal, block: Block) -> None:
        """Every peer gets *proposal*, as far as its queue has room; statuses repair the rest."""
        message = to_wire(ProposalWithBlock(proposal, block))
        for view in self.views.values():
            if view.at(proposal.height).proposal_due(proposal.round, trio.current_time()):
                view.peer.offer(CHANNEL.id, message)

    def publish_vote(self, vote: Vote) -> None:
        """Every peer gets *vote*, as far as its queue has room; statuses repair the rest."""
        message = to_wire(Votes((vote,)))
        index = self._driver.height.parent.validators.index_of(vote.validator)
        assert index is not None
        now = trio.current_time()
        for view in self.views.values():
            view.at(vote.height).votes_to_send(iter([((vote.round, vote.kind, index, vote.block_id), vote)]), now)
            view.peer.offer(CHANNEL.id, message)

    def status_changed(self) -> None:
        """Every peer gets our status; messages that came too early get their turn."""
        for view in self.views.values():
            view.wake.set()

    def ask_block(self, height: int, block_id: bytes, attempt: int) -> None:
        """One peer, another at each attempt, is asked for the block."""
        self._ask(height, block_id, WantBlock(height, block_id), attempt)

    def ask_bodies(self, height: int, block_id: bytes, indexes: tuple[int, ...], attempt: int) -> None:
        """One peer, another at each attempt, is asked for the bodies."""
        self._ask(height, block_id, WantBodies(height, block_id, indexes), attempt)

    def _ask(self, height: int, block_id: bytes, message: ConsensusMessage, attempt: int) -> None:
        """Who sent us the block first, then everyone else, in turn."""
        views = sorted(self.views.values(), key=lambda view: (block_id not in view.at(height).blocks, view.peer.id))
        if views:
            views[attempt % len(views)].peer.offer(CHANNEL.id, to_wire(message))

    # Speaking -------------------------------------------------------------------------------------------------------

    async def _speak(self, view: PeerView) -> None:
        while True:
            height = self._driver.height
            for message in view.due_messages(height.number):
                await self._take(view, message)
            await view.peer.send(CHANNEL.id, to_wire(self._status()))
            self._supply(view)
            await self._pause(view)
            view.wake = trio.Event()

    async def _pause(self, view: PeerView) -> None:
        """Until something changed, or a status is due; while a round is on, gaps are filled in between."""
        with trio.move_on_after(STATUS_INTERVAL_S):
            while not view.wake.is_set():
                active = self._driver.height.machine.step is not Step.WAIT
                with trio.move_on_after(RELAY_S if active else STATUS_INTERVAL_S):
                    await view.wake.wait()
                    return
                self._supply(view)

    def _status(self) -> Status:
        height = self._driver.height
        machine = height.machine
        size = len(height.parent.validators.validators)
        held = []
        for round_ in self._rounds(height):
            for kind in VoteKind:
                mask = bytearray((size + 7) // 8)
                for address in machine.tally.votes(round_, kind):
                    index = height.parent.validators.index_of(address)
                    assert index is not None
                    mask[index // 8] |= 1 << index % 8
                held.append(Held(round_, kind, bytes(mask), machine.tally.value(round_, kind)))
        complete = tuple(r for r in self._rounds(height) if height.complete_proposal(r) is not None)
        return Status(height.number, machine.round, machine.step, complete, tuple(held), self._now_ms())

    @staticmethod
    def _rounds(height: HeightInProgress) -> list[int]:
        """The rounds worth talking about: the latest, those of lock and valid value, that of the proposal's polka."""
        machine = height.machine
        latest = range(max(0, machine.round - 2), max(0, machine.round) + 3)
        proposal = height.proposals.get(machine.round)
        old = (machine.valid_round, machine.locked_round, proposal.pol_round if proposal else -1)
        rounds = sorted({r for r in old if 0 <= r < machine.round} | set(latest))
        assert len(rounds) <= ROUNDS_SHOWN_MAX
        return rounds

    def _supply(self, view: PeerView) -> None:
        """The peer gets what its last status lacks."""
        height = self._driver.height
        status = view.status
        if status is None or status.height != height.number or self._driver.voice.failed:
            return
        view.at(height.number)
        now = trio.current_time()
        for round_ in sorted({max(0, status.round), max(0, height.machine.round)}):
            complete = height.complete_proposal(round_)
            if complete is not None and round_ not in status.proposals and view.proposal_due(round_, now):
                view.peer.offer(CHANNEL.id, to_wire(ProposalWithBlock(*complete)))
        votes = view.votes_to_send(self._missing(height, status), now)
        for start in range(0, len(votes), VOTES_MAX):
            view.peer.offer(CHANNEL.id, to_wire(Votes(tuple(votes[start : start + VOTES_MAX]))))

    def _missing(self, height: HeightInProgress, status: Status) -> Iterator[tuple[VoteKey, Vote]]:
        """Votes that we hold and the sender of *status* did not."""
        shown = {(held.round, held.kind): held for held in status.votes}
        fresh_since = trio.current_time() - RELAY_S
        tally = height.machine.tally
        for round_ in sorted(set(self._rounds(height)) | {held.round for held in status.votes}):
            for kind in VoteKind:
                held = shown.get((round_, kind))
                decided = tally.value(round_, kind)
                unknown = decided is not None and (held is None or held.decided != decided)
                for vote in tally.all_votes(round_, kind):
                    index = height.parent.validators.index_of(vote.validator)
                    assert index is not None
                    has = held is not None and _has(held.mask, index)
                    wanted = not has or (unknown and vote.block_id == decided)
                    if wanted and self._seen.get(vote.signature, 0.0) <= fresh_since:
                        yield (round_, kind, index, vote.block_id), vote

    # Listening ------------------------------------------------------------------------------------------------------

    async def _take(self, view: PeerView, data: bytes) -> None:
        """What *data* says counts, and others have had their turn: it may have been long to read."""
        if len(data) > UNASKED_BYTES_MAX and claims_bodies(data) and not self._misses_bodies():
            return  # a late answer at best
        message = from_wire(data)
        if _height_of(message) == self._driver.height.number + 1:
            view.keep_for_later(self._driver.height.number + 1, data)
        match message:
            case Status():
                self._take_status(view, message)
            case Votes(votes):
                self._take_votes(view, votes)
            case ProposalWithBlock():
                self._take_proposal(view, message)
            case BlockOnly(block):
                self._take_block(view, block)
            case WantBlock():
                self._answer_block(view, message)
            case WantBodies():
                self._answer_bodies(view, message)
            case Bodies():
                await self._take_bodies(view, message)
        await trio.lowlevel.checkpoint()

    def _take_status(self, view: PeerView, status: Status) -> None:
        number = self._driver.height.number
        view.status = status
        if status.height <= number:
            view.ahead_since = None
        elif view.ahead_since is None:
            view.ahead_since = trio.current_time()
        self._supply(view)

    def _take_votes(self, view: PeerView, votes: tuple[Vote, ...]) -> None:
        height = self._driver.height
        for vote in votes:
            if vote.height == height.number:
                self._take_vote(view.at(height.number), height, vote)
            elif vote.height == height.number - 1:
                self._take_late_vote(height, vote)

    def _take_vote(self, view: PeerView, height: HeightInProgress, vote: Vote) -> None:
        validator = height.parent.validators.by_address(vote.validator)
        index = height.parent.validators.index_of(vote.validator)
        if validator is None or index is None:
            raise BadMessage(f"a vote of {vote.validator.hex()}, who is no validator", "bad_message.stranger")
        now = trio.current_time()
        if self._seen_height != height.number:
            self._seen_height = height.number
            self._seen.clear()
            self._ahead.clear()
        if self._driver.wants_vote(vote):
            if vote.round > height.machine.round + 1 and not self._ahead.take(vote.validator, now):
                return
            if not vote.verify(self._chain_id, validator.public_key):
                raise BadMessage("a vote whose signature is wrong", "bad_message.signature")
            if vote.validator == self._driver.voice.address:
                self._driver.voice.heard(height, vote)
            self._seen[vote.signature] = now
            self._driver.vote_arrived(vote)
            view.peer.was_useful(CHANNEL.name)
        elif not _is_known(height, vote):
            return
        view.holds((vote.round, vote.kind, index, vote.block_id), now)

    def _take_late_vote(self, height: HeightInProgress, vote: Vote) -> None:
        validator = height.parent.last_validators.by_address(vote.validator)
        last = self._driver.last_commit
        if validator is None or not (last.lacks(vote) or last.doubts(vote)):
            return
        if not vote.verify(self._chain_id, validator.public_key):
            raise BadMessage("a vote whose signature is wrong", "bad_message.signature")
        self._driver.late_vote_arrived(vote)

    def _take_proposal(self, view: PeerView, message: ProposalWithBlock) -> None:
        height = self._driver.height
        proposal, block = message.proposal, message.block
        if proposal.height != height.number:
            return
        if block.id != proposal.block_id:
            raise BadMessage("a proposal with another block", "bad_message.proposal")
        if block.id in height.candidates:
            view.at(height.number).blocks.add(block.id)
        if not height.wants_proposal(proposal):
            return
        proposer = height.parent.validators.proposer(proposal.round)
        if not proposal.verify(self._chain_id, proposer.public_key):
            raise BadMessage("a proposal that its round's proposer did not sign", "bad_message.signature")
        _require_contents(block)
        if proposer.address == self._driver.voice.address:
            self._driver.voice.heard(height, proposal)
        view.at(height.number).blocks.add(block.id)
        self._driver.proposal_arrived(proposal, block)
        view.peer.was_useful(CHANNEL.name)

    def _take_block(self, view: PeerView, block: Block) -> None:
        height = self._driver.height
        if block.id in height.wanted and block.id not in height.candidates:
            _require_contents(block)
            view.at(height.number).blocks.add(block.id)
            self._driver.block_arrived(block)

    def _answer_block(self, view: PeerView, wanted: WantBlock) -> None:
        height = self._driver.height
        candidate = height.candidates.get(wanted.block_id)
        if candidate is None or not view.may_ask(trio.current_time()):
            return
        proposed = (each for each in height.proposals.values() if each.block_id == wanted.block_id)
        proposal = next(proposed, None)
        whole = BlockOnly(candidate.block) if proposal is None else ProposalWithBlock(proposal, candidate.block)
        answer = to_wire(whole)
        view.asked(len(answer))
        view.peer.offer(CHANNEL.id, answer)

    def _answer_bodies(self, view: PeerView, wanted: WantBodies) -> None:
        """As many of the bodies as fit in one message, one at least; they ask again for the rest."""
        if any(index <= former for former, index in pairwise(wanted.indexes)):
            raise BadMessage("indexes of bodies that do not ascend", "bad_message.bodies")
        if not view.may_ask(trio.current_time()):
            return
        raws = self._bodies(wanted)
        chosen: list[bytes] = []
        size = 0
        for index in wanted.indexes:
            raw = raws[index] if index < len(raws) else None
            if raw is None:
                continue
            size += len(raw) + BODY_OVERHEAD_BYTES
            if chosen and size > BODIES_BYTES_MAX:
                break
            chosen.append(raw)
        view.asked(sum(map(len, chosen)))
        if chosen:
            view.peer.offer(CHANNEL.id, to_wire(Bodies(wanted.height, wanted.block_id, tuple(chosen))))

    def _bodies(self, wanted: WantBodies) -> list[bytes | None]:
        candidate = self._driver.height.candidates.get(wanted.block_id)
        if candidate is not None:
            return [body.raw if body is not None else None for body in candidate.bodies]
        if wanted.height == self._store.height and self._store.height_of_block_id(wanted.block_id) == wanted.height:
            return list(self._store.block_transactions(wanted.height))
        return []

    def _misses_bodies(self) -> bool:
        return any(
            not candidate.judged and not candidate.complete for candidate in self._driver.height.candidates.values()
        )

    async def _take_bodies(self, view: PeerView, message: Bodies) -> None:
        candidate = self._driver.height.candidates.get(message.block_id)
        if candidate is None or candidate.judged:
            return
        missing = {candidate.block.transaction_ids[index] for index in candidate.missing}
        known = set(candidate.block.transaction_ids)
        ids = {sha256(raw): raw for raw in message.transactions}
        if not ids.keys() <= known:
            raise BadMessage("bodies that are not of the block", "bad_message.bodies")
        wanted = [raw for id_, raw in sorted(ids.items()) if id_ in missing]
        try:
            candidate.fill(await self._mempool.bodies.admit(wanted))
        except (BadMessage, Inadmissible) as bad:
            # The block's own ids commit to these bytes: it is the block that is bad, not who sent its bodies.
            candidate.refuse(InvalidBlock("block.inadmissible", str(bad)))


def _is_known(height: HeightInProgress, vote: Vote) -> bool:
    """Whether *vote*, of which only the content was looked at, is one that we hold."""
    known = height.machine.tally.vote(vote.round, vote.kind, vote.validator)
    return known is not None and known.block_id == vote.block_id


def _has(mask: bytes, index: int) -> bool:
    return index // 8 < len(mask) and bool(mask[index // 8] >> index % 8 & 1)


def _require_contents(block: Block) -> None:
    if not contents_belong(block):
        raise BadMessage("a block whose parts are not those of its header", "bad_message.block")


def _height_of(message: ConsensusMessage) -> int:
    match message:
        case Votes(votes):
            return votes[0].height
        case ProposalWithBlock(proposal, _):
            return proposal.height
        case _:
            return 0
