"""A node of a core world: a machine, and what a driver does around it, log and crashes included, without any I/O.

The order is the driver's: an input is logged, then handled; our own messages are logged and handled before what peers
send; then the log is synced, then the signer's memory; then we speak, then we commit. A crash loses what was unsynced.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from consensus.address import key_address
from consensus.chain import ChainState
from consensus.effects import (
    Decide,
    Effect,
)
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
from consensus.vote import Proposal, Vote, VoteKind
from devnet.sim.core_acts import perform
from devnet.sim.core_chain import SimBlock, earliest_ms, is_valid
from devnet.sim.core_disk import Log, SignerMemory
from devnet.sim.core_gossip import proves
from devnet.sim.core_known import Known
from devnet.sim.core_lines import WatchedMachine
from devnet.sim.core_messages import (
    Body,
    Build,
    Judged,
    Message,
    Proposed,
    Synced,
    Wake,
    mark,
)
from devnet.sim.core_restart import replay
from devnet.sim.outcome import Broken

if TYPE_CHECKING:
    from devnet.sim.core_liars import Liar
    from devnet.sim.core_world import World

ROUNDS_AHEAD_MAX = 16
"""As the driver's (`node.height`): proposals of rounds further ahead wait for votes to bring us there."""
AHEAD_MAX = 64
"""Messages of the next height that are kept until it begins."""
BUILD_MS_MAX = 20
CLOCK_LOOK_MS = 5_000
"""How often a waiting node looks at its clock, which may be set meanwhile."""


class _Crash(Exception):
    """The node crashes in the midst of its work."""


class Node:
    """One machine after another, and what its driver keeps. Twins are two nodes with one key."""

    def __init__(self, world: World, number: int, name: str, key: bytes, *, liar: Liar | None, honest: bool) -> None:
        self.world = world
        self.number = number
        self.name = name
        self.key = key
        self.address = key_address(key)
        self.liar = liar
        self.honest = honest
        self.started = False
        self.gone = False
        self.down = False
        self.life = 0
        """Counts restarts: timers of a former life mean nothing."""
        self.paused_until_ms = 0
        self.slow_ms = 0
        """How much longer its messages and executions take."""
        self.offset_ms = 0.0
        """Of its clock."""
        self.drift = 0.0
        """Of its clock: 0.01 gains 1 %."""
        self.version = 0
        """Rises whenever what it could supply, or lacks, may have changed."""
        self.compared: dict[int, tuple[int, int]] = {}
        """Peer → both versions when it last lacked nothing."""
        self.chain: list[tuple[SimBlock, tuple[Vote, ...]]] = []
        self.signer = SignerMemory()
        self._ahead: list[Message] = []
        self._begin_height(world.genesis)

    @property
    def running(self) -> bool:
        """Whether it takes part now."""
        return self.started and not self.down and not self.gone

    def clock_ms(self) -> int:
        """What it believes the time to be."""
        return self.world.epoch_ms + self.world.now_ms + int(self.offset_ms)

    # Heights

    def _begin_height(self, state: ChainState) -> None:
        """In WAIT of the height after *state*."""
        self.state = state
        self.height = state.height + 1
        self.log = Log()
        self.unspoken: list[Vote | Proposal] = []
        self.decision: Decide | None = None
        self.machine = self.fresh_machine(self.world.lines if self.honest else self.world.lines_of_liars)
        self.known = Known()
        self.version += 1

    def fresh_machine(self, lines: Counter[str]) -> WatchedMachine:
        """A machine of this height that has seen nothing."""
        make = self.liar.machine if self.liar is not None else WatchedMachine
        machine = make(
            height=self.height,
            validators=self.state.validators,
            params=self.state.params,
            own_address=self.address,
            lines=lines,
        )
        machine.start()
        return machine

    def begin(self) -> None:
        """It looks for something to decide, and takes what came too early."""
        parent = self.state
        if self.world.chance(self.world.plan.load):
            self._wake_at(earliest_ms(parent))
        else:
            self.world.faults["idle"] += 1
            self._wake_at(parent.time_ms + parent.params.heartbeat_ms)
        ahead, self._ahead = self._ahead, []
        for message in ahead:
            self.world.soon(self, message)

    def _wake_at(self, clock_ms: int) -> None:
        delay_ms = min(max(clock_ms - self.clock_ms(), 0), CLOCK_LOOK_MS)
        self.world.later(self, delay_ms, Wake(self.height, clock_ms))

    # What happens to it

    def happens(self, event: TimerFired | Build | Wake | Judged) -> None:
        """Something of its own: a timer, a clock, a result."""
        if event.height != self.height:
            return
        match event:
            case Wake(clock_ms=clock_ms):
                if self.machine.step is Step.WAIT:
                    if self.clock_ms() < clock_ms:
                        self._wake_at(clock_ms)
                    else:
                        self._handle(BeginRound(self.height))
            case Build(round=round_):
                if self.machine.round == round_ and self.machine.step is Step.PROPOSE:
                    block = self.world.build(self)
                    self.known.has_block(block)
                    self._handle(ValueBuilt(self.height, round_, block.id))
            case Judged(block_id=block_id):
                self.known.judged.add(block_id)
                self._tell_verdict(self.known.blocks[block_id])
            case _:
                self._handle(event)

    def receive(self, message: Message) -> None:
        """Something from the network; what an honest peer can't have sent is dropped here, before the machine."""
        if isinstance(message, Vote):
            if message.height != self.height:
                self._keep_ahead(message.height, message)
            elif self._is_members(message) and self.machine.tally.wants(message):
                self._handle(VoteReceived(message))
        elif isinstance(message, Proposed):
            if message.proposal.height != self.height:
                self._keep_ahead(message.proposal.height, message)
            elif message.block.id == message.proposal.block_id and self.wants_proposal(message.proposal):
                self._proposal_arrived(message)
        elif isinstance(message, Body):
            if message.block.height == self.height and (
                message.block.id in self.known.headers or message.block.id in self.known.wanted
            ):
                self._block_arrived(message.block)
        else:
            self._sync(message)

    def _keep_ahead(self, height: int, message: Message) -> None:
        if height == self.height + 1 and len(self._ahead) < AHEAD_MAX:
            self._ahead.append(message)

    def _is_members(self, vote: Vote) -> bool:
        """Whether a member of the set has signed *vote*: the votes of strangers end here."""
        member = self.state.validators.index_of(vote.validator) is not None
        return member and vote.signature == self.world.marks[vote.validator]

    def wants_proposal(self, proposal: Proposal) -> bool:
        """Whether *proposal* is its proposer's, and would tell something; as `HeightInProgress.wants_proposal`."""
        known = self.known.proposals.get(proposal.round)
        if known is not None and not (
            proposal.block_id in self.known.wanted and known.block_id not in self.known.wanted
        ):
            return False
        if proposal.round > self.machine.round + ROUNDS_AHEAD_MAX:
            return False
        return proposal.signature == mark(self.state.validators.proposer(proposal.round).address)

    def _proposal_arrived(self, message: Proposed) -> None:
        proposal, block = message.proposal, message.block
        timely = self.state.params.timely(
            block_time_ms=block.time_ms, received_ms=self.clock_ms(), round_=proposal.round
        )
        self.version += 1
        self.known.has_proposal(proposal, timely=timely)
        if not timely and self.honest:
            self.world.faults["untimely"] += 1
        height = self.height
        hurries = message.complete and self.world.chance(0.5)  # then the proposal itself ends the waiting
        if proposal.round == 0 and self.machine.step is Step.WAIT and not hurries:
            self._handle(HeaderSeen(self.height))
        if self.height == height and not self.down:
            if message.complete or block.id in self.known.blocks:
                self._block_arrived(block)
            else:
                self.known.headers[block.id] = block

    def _block_arrived(self, block: SimBlock) -> None:
        """All of *block* is here; it is executed, which takes a while on a slow node."""
        self.version += 1
        self.known.headers.pop(block.id, None)
        self.known.blocks[block.id] = block
        if block.id in self.known.judged:
            self._tell_verdict(block)
        elif self.slow_ms:
            self.world.later(self, self.slow_ms, Judged(self.height, block.id))
        else:
            self.known.judged.add(block.id)
            self._tell_verdict(block)

    def _tell_verdict(self, block: SimBlock) -> None:
        """The machine gets each proposal of *block*, and the block, as the driver does it."""
        life, height = self.life, self.height
        valid = is_valid(block, self.state)
        for round_, proposal in list(self.known.proposals.items()):
            if proposal.block_id == block.id and (round_, block.id) not in self.known.fed:
                self.known.fed.add((round_, block.id))
                self._handle(ProposalReceived(proposal, valid, self.known.timely[round_]))
                if (self.life, self.height) != (life, height):
                    return
        if block.id in self.known.wanted:
            self._handle(BlockArrived(self.height, block.id, valid))

    def _sync(self, message: Synced) -> None:
        """A decided block from a peer that is ahead counts if its commit is more than 2/3 of our set's power."""
        if message.block.height == self.height and proves(message, self.state.validators):
            self._commit(message.block, message.votes)

    # The machine, the log, our voice

    def _handle(self, event: Input) -> None:
        self._work(deque((event,)))

    def _work(self, queue: deque[Input], effects: tuple[Effect, ...] = ()) -> None:
        """*effects* are done and *queue* is handled; then we speak, then we commit; unless a crash comes first."""
        self.version += 1
        try:
            for effect in effects:
                perform(self, effect, queue)
            self._drain(queue)
            if self.unspoken:
                self._speak()
            if self.decision is not None:
                self._commit_decision(self.decision)
        except _Crash:
            self.crash()

    def _drain(self, queue: deque[Input]) -> None:
        machine = self.machine
        while queue and self.decision is None:
            event = queue.popleft()
            if isinstance(event, VoteReceived):
                vote = event.vote
                self.known.votes[vote.round, vote.kind, vote.validator, vote.block_id] = vote
            round_, locked_round = machine.round, machine.locked_round
            answer = machine.handle(event)
            self.log.append(event, answer)
            if self.world.tell is not None:
                self.world.tell_of(self, event, answer)
            if self.honest and not (
                machine.round >= round_ and machine.valid_round >= machine.locked_round >= locked_round
            ):
                raise Broken(
                    "rounds", f"{self.name}: a round or a lock went back, or the lock is later than the valid value"
                )
            for effect in answer:
                perform(self, effect, queue)

    def _speak(self) -> None:
        """What we said is durable and out."""
        self._crash_if("before the log was synced")
        self.log.sync()
        self._crash_if("log synced, signer not")
        self.signer.sync()
        self._crash_if("signer synced, not spoken")
        unspoken, self.unspoken = self.unspoken, []
        half = self.world.crash_now("half spoken")
        for message in unspoken:
            if isinstance(message, Vote):
                self.world.says_vote(self, message, half=half)
            else:
                self.world.says_proposal(self, message, self.world.blocks[message.block_id], half=half)
        if half:
            raise _Crash

    def _crash_if(self, point: str) -> None:
        if self.world.crash_now(point):
            raise _Crash

    def _commit_decision(self, decide: Decide) -> None:
        self._crash_if("before the commit")
        votes = self.machine.tally.votes(decide.round, VoteKind.PRECOMMIT).values()
        block = self.world.blocks[decide.block_id]
        self._commit(block, tuple(vote for vote in votes if vote.block_id == block.id))

    def _commit(self, block: SimBlock, votes: tuple[Vote, ...]) -> None:
        """*block* is durable, in one step with all that follows from it, and the next height begins."""
        if self.honest:
            self.world.promises.decides(self, block, votes)
        self.world.decided(self, block)
        self.chain.append((block, votes))
        self._begin_height(self.world.state_after(self.state, block))
        if self.world.crash_now("after the commit"):
            self.crash()
        else:
            self.begin()

    # Crashes

    def crash(self) -> None:
        """It is down, and of what was logged since the last sync a part is lost."""
        self.down = True
        self.life += 1
        self._ahead = []
        if self.log.crash(self.world.dice.random()):
            self.world.faults["crash: logged inputs lost"] += 1
        self.signer.crash()
        self.world.note(f"{self.name} crashes at height {self.height} with {len(self.log.inputs)} logged inputs")
        self.world.restart_later(self)

    def restart(self) -> None:
        """The logged inputs, fed to a fresh machine, give the same effects; then what was under way goes on."""
        self.down = False
        self.life += 1
        self.unspoken = []
        self.decision = None
        self.known = Known()
        wanted = replay(self)
        self.world.note(f"{self.name} is back at height {self.height} with {len(self.log.inputs)} logged inputs")
        if self.machine.step is Step.WAIT:
            self.begin()
        self._work(deque(), tuple(wanted))
