"""The driver: feeds the consensus machine, does what it asks, and commits what it decides.

Log, fsync, then speak: inputs are logged before they are handled; what we sign is in the log, on the disk, before it
leaves. One task (`run`) owns the machine; timers, building and executing run beside it, for one height at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from consensus.block import Block, Commit
from consensus.effects import (
    BuildValue,
    Decide,
    Effect,
    EnteredRound,
    EnteredStep,
    FetchBlock,
    FoundEquivocation,
    KeepBlock,
    RefusedDecision,
    SignProposal,
    SignVote,
    StartTimer,
)
from consensus.evidence import DuplicateVote
from consensus.inputs import (
    BeginRound,
    BlockArrived,
    HeaderSeen,
    Input,
    ProposalReceived,
    Step,
    TimerFired,
    ValueBuilt,
    VoteReceived,
)
from consensus.validity import InvalidBlock, commit_from_votes
from consensus.vote import Proposal, Vote, VoteKind
from node.acquisition import Acquisition, Supplier
from node.consensus_inbox import Inbox
from node.consensus_log import LoggedBlock, block_here, to_record
from node.consensus_replay import replay
from node.evidence_pool import EvidencePool
from node.execution import Executed, Executor, Undecidable
from node.height import Candidate, HeightInProgress
from node.heights import Heights
from node.last_commit import LastCommit
from node.mempool import Mempool
from node.occasion import occasion
from node.stopped import NodeStopped, refused_decision
from node.store import Store
from node.trust_root import TrustRoot
from node.voice import Voice
from node.wal import Wal

log = structlog.get_logger("consensus")


class Publisher(Supplier, Protocol):
    """What the driver needs of the gossip."""

    def publish_proposal(self, proposal: Proposal, block: Block) -> None:
        """Peers that lack our proposal get it."""

    def publish_vote(self, vote: Vote) -> None:
        """Peers that lack our vote get it."""

    def status_changed(self) -> None:
        """Peers learn where we are."""


@dataclass(frozen=True, slots=True)
class Synced:
    """A block of our own height with a verified commit, from a peer that is ahead."""

    candidate: Candidate
    commit: Commit


class ConsensusDriver:
    """One height after another, for ever."""

    _tasks: trio.Nursery
    """Timers, building and judging, of the height in progress."""
    _publisher: Publisher
    _acquisition: Acquisition

    def __init__(
        self,
        *,
        store: Store,
        mempool: Mempool,
        executor: Executor,
        evidence: EvidencePool,
        wal: Wal,
        voice: Voice,
        heights: Heights,
        now_ms: Callable[[], int],
        trust_root: TrustRoot | None,
    ) -> None:
        """Raises NodeStopped if the stored chain does not contain *trust_root*."""
        self._store = store
        self._mempool = mempool
        self._evidence = evidence
        self.executor = executor
        self._wal = wal
        self.voice = voice
        self._heights = heights
        self._now_ms = now_ms
        self._trust_root = trust_root
        # Below the blocks that are kept it was compared when that height was decided, or when its snapshot was fetched.
        if trust_root is not None and trust_root.height > 0 and store.kept.has_header(trust_root.height):
            trust_root.require(trust_root.height, store.header(trust_root.height).id)
        self._inbox = Inbox()
        self._lot = trio.lowlevel.ParkingLot()
        self._decided: Decide | None = None
        self._synced: Synced | None = None
        self._stopped = False
        """Whether no task can be started any more: the height is over, or the driver failed."""
        self.equivocations = 0
        """Proved double votes since the start."""
        self.height = self._next_height()
        stored = store.commit_of(store.height)[0] if store.height > 0 else None
        parent = self.height.parent
        if stored is not None:
            header = store.header(store.height)
            self.voice.decided(parent.last_validators, header, stored, parent.params.precision_ms)
        self.last_commit = LastCommit(parent.last_validators, stored)

    # What others tell the driver ------------------------------------------------------------------------------------

    def follow(self, publisher: Publisher) -> None:
        """*publisher* carries what the driver says; called once, before `run`."""
        self._publisher = publisher
        self._acquisition = Acquisition(self._mempool, self._evidence, self.executor, publisher, self._now_ms)

    def feed(self, input_: Input) -> None:
        """*input_* will be handled, in order, if its height is still in progress then."""
        self._inbox.put(input_)
        self._lot.unpark_all()

    def wants_vote(self, vote: Vote) -> bool:
        """Whether *vote*, a member's and of this height, would count and is not on its way to the machine yet."""
        return not self._inbox.holds(vote) and self.height.machine.tally.wants(vote)

    def vote_arrived(self, vote: Vote) -> None:
        """A verified vote that `wants_vote` approved is on its way to the machine."""
        self.feed(VoteReceived(vote))

    def late_vote_arrived(self, vote: Vote) -> None:
        """A verified vote of the stored height is part of our next proposal's commit, or proves that its maker lied."""
        proof = self.last_commit.take(vote)
        if proof is not None:
            self._convict(proof)

    def proposal_arrived(self, proposal: Proposal, block: Block) -> None:
        """A verified proposal of this height that `HeightInProgress.wants_proposal` approved is looked into."""
        height = self.height
        params = height.parent.params
        timely = params.timely(block_time_ms=block.header.time_ms, received_ms=self._now_ms(), round_=proposal.round)
        height.timely[proposal.signature] = timely
        if not timely:
            log.info("proposal_untimely", height=height.number, round=proposal.round, block_ms=block.header.time_ms)
        height.proposals[proposal.round] = proposal
        if proposal.round == 0 and height.machine.step is Step.WAIT:
            self.feed(HeaderSeen(height.number))
        self.block_arrived(block)

    def block_arrived(self, block: Block) -> None:
        """A block that was proposed, or that more than 2/3 voted for, is being completed, executed and judged."""
        if self._is_over or self._stopped:
            return
        candidate = self.height.candidate(block)
        if candidate.judged:
            self._tell_verdict(self.height, candidate)
        elif not candidate.acquiring:
            candidate.acquiring = True
            self._tasks.start_soon(self._acquire, self.height, candidate)

    async def apply(self, synced: Synced) -> None:
        """*synced*, verified by its commit, is committed, unless its height was decided otherwise meanwhile."""
        number = synced.candidate.block.header.height
        if self.height.number == number:
            self._synced = synced
            self._lot.unpark_all()
            await self._heights.wait_beyond(number - 1)

    # The loop -------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Decides height after height. Raises NodeStopped when it can't go on; started once the log is replayed."""
        replayed = False
        while True:
            async with trio.open_nursery() as self._tasks:
                try:
                    if replayed:
                        self._handle(self.height.machine.start())
                    else:
                        replay(self, self._wal.entries())
                        replayed = True
                        task_status.started()
                    await self._decide()
                finally:
                    self._stopped = True
                self._tasks.cancel_scope.cancel()
            self._stopped = False
            await self._commit(*await self._decision())

    async def _decide(self) -> None:
        """The height in progress is decided."""
        self._tasks.start_soon(self._await_work, self.height)
        self._publisher.status_changed()
        self._drain()
        while not self._is_over:
            await self._lot.park()
            self._drain()

    def awaits_trust_root(self) -> bool:
        """Whether the block that an invite vouches for, and with it what its town had told, is still to come."""
        return self._trust_root is not None and self._store.height < self._trust_root.height

    @property
    def _is_over(self) -> bool:
        """Whether the height in progress is decided and only its commit is awaited."""
        return self._decided is not None or self._synced is not None

    def _next_height(self) -> HeightInProgress:
        parent = self._store.chain_state()
        assert parent is not None, "the genesis is stored before the driver is made"
        return HeightInProgress(parent, self.voice.address)

    def _drain(self) -> None:
        """All that has arrived is handled; then the log is durable, then we speak."""
        height = self.height
        while self._decided is None and (taken := self._inbox.take()) is not None:
            input_, is_own = taken
            if not is_own:
                self._log(height, input_)
            self._handle(height.machine.handle(input_))
        for message in self.voice.take_unspoken():
            if isinstance(message, Vote):
                self._publisher.publish_vote(message)
            else:
                self._publisher.publish_proposal(message, height.candidates[message.block_id].block)

    def _log(self, height: HeightInProgress, input_: Input) -> None:
        """*input_* is in the log, after the block that it says is here, so that a replay lacks nothing.

        Durable with the next vote of ours: so also is a whole block before our precommit for it leaves (DESIGN §3).
        """
        block_id = block_here(input_)
        candidate = height.candidates[block_id] if block_id is not None else None
        if candidate is not None and not candidate.logged:
            candidate.logged = True
            bodies = tuple(transaction.raw for transaction in candidate.transactions)
            self._wal.append(to_record(height.number, LoggedBlock(candidate.block, bodies)))
        self._wal.append(to_record(height.number, input_))

    def _handle(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        """*effect* is done, or under way."""
        height = self.height
        match effect:
            case StartTimer():
                self._tasks.start_soon(self._timer, effect)
            case BuildValue():
                self._tasks.start_soon(self._build, height, effect.round)
            case SignProposal():
                proposal = self.voice.proposal(height, effect)
                if proposal is not None:
                    self._inbox.put_own(height.own_proposal(proposal))
            case SignVote():
                vote = self.voice.vote(height, effect)
                if vote is not None:
                    self._inbox.put_own(VoteReceived(vote))
            case EnteredRound():
                if effect.round > 0:
                    log.info("round_entered", height=effect.height, round=effect.round)
                height.forget_results()
            case EnteredStep():
                self._publisher.status_changed()
            case KeepBlock():
                height.forget_results()
            case FetchBlock():
                self._fetch(height, effect.block_id)
            case Decide():
                self._decided = effect
            case RefusedDecision():
                known = height.candidates.get(effect.block_id)
                raise refused_decision(height.number, effect.block_id, known.refused if known else None)
            case FoundEquivocation():
                self._convict(DuplicateVote.of(effect.first, effect.second))

    def _convict(self, evidence: DuplicateVote) -> None:
        """*evidence*, found at the height in progress or the one before, waits for a block, if it counts."""
        self.equivocations += 1
        vote = evidence.first
        log.warning("equivocation_found", validator=vote.validator.hex(), height=vote.height, round=vote.round)
        self._evidence.found(evidence)

    # What the machine asks for --------------------------------------------------------------------------------------

    async def _timer(self, effect: StartTimer) -> None:
        await trio.sleep(effect.duration_ms / 1000)
        self.feed(TimerFired(effect.height, effect.round, effect.step))

    async def _await_work(self, height: HeightInProgress) -> None:
        await occasion(height.parent, self._mempool, self._evidence, self.executor.next_due_ms(), self._now_ms)
        self.feed(BeginRound(height.number))

    async def _build(self, height: HeightInProgress, round_: int) -> None:
        proposer = self.voice.address
        assert proposer is not None, "only a validator is asked to build"
        block = await self._acquisition.build(height, round_, proposer, self.last_commit.commit)
        self.feed(ValueBuilt(height.number, round_, block.id))

    def _fetch(self, height: HeightInProgress, block_id: bytes) -> None:
        """The block that more than 2/3 voted for is known here, now or once a peer has sent it."""
        height.wanted.add(block_id)
        candidate = height.candidates.get(block_id)
        if candidate is None:
            self._tasks.start_soon(self._acquisition.fetch, height, block_id)
        else:
            self.block_arrived(candidate.block)

    async def _acquire(self, height: HeightInProgress, candidate: Candidate) -> None:
        if await self._acquisition.judge(height, candidate):
            self._tell_verdict(height, candidate)
        candidate.acquiring = False

    def _tell_verdict(self, height: HeightInProgress, candidate: Candidate) -> None:
        """The machine gets what this verdict makes known: each proposal of the block, and the block."""
        valid = candidate.refused is None
        for proposal in height.proposals.values():
            if proposal.block_id == candidate.block.id and proposal.signature not in height.fed:
                height.fed.add(proposal.signature)
                self.feed(ProposalReceived(proposal, valid=valid, timely=height.timely[proposal.signature]))
        if candidate.block.id in height.wanted:
            self.feed(BlockArrived(height.number, candidate.block.id, valid))
        self._publisher.status_changed()

    # The end of a height --------------------------------------------------------------------------------------------

    async def _decision(self) -> tuple[Executed, Commit]:
        """What was decided, with its results, and a commit for it."""
        height = self.height
        if self._decided is not None:
            round_, block_id = self._decided.round, self._decided.block_id
            candidate = height.candidates[block_id]
            votes = height.machine.tally.votes(round_, VoteKind.PRECOMMIT).values()
            commit = commit_from_votes(height.parent.validators, votes, height.number, round_, block_id)
        else:
            assert self._synced is not None
            candidate, commit = self._synced.candidate, self._synced.commit
        if candidate.executed is not None:
            return candidate.executed, commit
        try:
            return await self.executor.check(height.parent, candidate.block, candidate.transactions), commit
        except InvalidBlock as invalid:
            raise refused_decision(height.number, candidate.block.id, invalid) from invalid
        except Undecidable as undecidable:
            raise NodeStopped(f"{undecidable}, but more than 2/3 decided it: give this node more memory") from None

    async def _commit(self, executed: Executed, commit: Commit) -> None:
        """The decided block is durable with all that follows from it; the next height is in progress."""
        number = self.height.number
        if self._trust_root is not None:
            self._trust_root.require(number, executed.id)
        parent = self.height.parent
        last_commit = LastCommit(parent.validators, commit, self.height.machine.tally)
        # Before the decision is stored: the proof is on the disk before the votes that it is made of are forgotten.
        for proof in (*self.last_commit.compared(executed.block.last_commit), *last_commit.compared(commit)):
            self._convict(proof)
        await self._store.commit(executed.decided_by(commit))
        self.voice.decided(parent.validators, executed.block.header, commit, parent.params.precision_ms)
        self._wal.reset(number)
        self._mempool.committed([transaction.id for transaction in executed.transactions])
        self._mempool.set_chain(self._store.state(), executed.chain_state)
        self._evidence.set_chain(self._store.state(), executed.chain_state, committed=len(executed.block.evidence))
        log.debug("height_decided", height=number, round=commit.round, transactions=len(executed.transactions))
        self._decided = self._synced = None
        self.height = self._next_height()
        self.last_commit = last_commit
        # What is still in the inbox is too late for the machine, but not for the commit that we propose next.
        for vote in self._inbox.clear():
            self.late_vote_arrived(vote)
        self._heights.reached(number)
