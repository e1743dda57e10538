"""A world of machines from a seed: a network that loses, repeats, delays and splits, and nodes that lie and crash.

Nothing but machines and a heap of events: blocks are names, signatures are taken on trust. First come faults, when
only safety is asked for; then `heal`, after which everything arrives, and every correct machine must decide (liveness).
Liars go on lying.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
from dataclasses import dataclass, field
from typing import TypeAlias

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
from consensus.inputs import BeginRound, BlockArrived, Input, ProposalReceived, TimerFired, ValueBuilt, VoteReceived
from consensus.machine import Machine
from consensus.params import TINY
from consensus.signing import sha256
from consensus.validators import Update, ValidatorSet
from consensus.vote import Proposal, Vote, VoteKind

HEIGHT = 1
PARAMS = dataclasses.replace(
    TINY, propose_timeout_ms=300, prevote_timeout_ms=100, precommit_timeout_ms=100, timeout_step_ms=50
)
GOSSIP_MS = 60
CALM_DELAY_MS = 15

Message: TypeAlias = Vote | Proposal


class Broken(AssertionError):
    """A promise of the protocol does not hold in this world."""


class Fork(Broken):
    """Two correct machines decided different blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong until the world heals."""

    loss: float = 0.0
    duplicate: float = 0.0
    untimely: float = 0.0
    build_failure: float = 0.0
    delay_ms_max: int = CALM_DELAY_MS
    splits: bool = False
    crashes: bool = False
    silence: bool = False
    """Nobody supplies what a peer lacks."""

    @classmethod
    def drawn_by(cls, dice: random.Random) -> Faults:
        """A random subset, of random strength."""
        return cls(
            loss=dice.choice((0.0, 0.1, 0.4)),
            duplicate=dice.choice((0.0, 0.3)),
            untimely=dice.choice((0.0, 0.3)),
            build_failure=dice.choice((0.0, 0.3)),
            delay_ms_max=dice.choice((CALM_DELAY_MS, 150, 250, 600)),
            splits=dice.random() < 0.5,
            crashes=dice.random() < 0.5,
            silence=dice.random() < 0.3,
        )


@dataclass(slots=True)
class Node:
    """One machine with what its driver keeps. Twins, two nodes of one address, lie by following the rules twice."""

    number: int
    address: bytes
    machine: Machine
    honest: bool
    babbles: bool = False
    """Tells each peer another vote, and some for rounds far ahead."""
    side: int = 0
    down: bool = False
    inputs: list[Input] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    signed: dict[tuple[int, int], bytes | None] = field(default_factory=dict)
    proposals: list[Proposal] = field(default_factory=list)
    blocks: set[bytes] = field(default_factory=set)
    wanted: set[bytes] = field(default_factory=set)


class World:
    """*size* validators of random power, of whom *liars* lie (None: some, below 1/3), half of them as twins."""

    def __init__(self, seed: int, *, size: int, faults: Faults, liars: int | None = None, equal: bool = False) -> None:
        self.dice = random.Random(seed)
        self.faults = faults
        self.now_ms = 0
        self.healed = False
        self.validity: dict[bytes, bool] = {}
        self.decision: bytes | None = None
        self.decided = 0
        powers = [10 if equal else self.dice.randint(1, 10) for _ in range(size)]
        keys = [sha256(f"{seed}/{number}".encode()) for number in range(size)]
        self.validators = ValidatorSet.of([Update(key, power) for key, power in zip(keys, powers, strict=True)])
        self.liars = self._choose_liars(liars)
        self.nodes: list[Node] = []
        for address in self.validators.addresses:
            twins = address in self.liars and (equal or self.dice.random() < 0.5)
            for side in range(2 if twins else 1):
                honest = address not in self.liars
                node = Node(len(self.nodes), address, self._machine(address), honest, not honest and not twins, side)
                self.nodes.append(node)
        self._events: list[tuple[int, int, int, Input | Message | None]] = []
        self._number = 0
        for node in self.nodes:
            self._at(self.dice.randint(0, 400), node, BeginRound(HEIGHT))
            self._at(self.dice.randint(0, GOSSIP_MS), node, None)

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.honest]

    def run(self, until_ms: int) -> None:
        """Everything before *until_ms* has happened, or every correct machine has decided."""
        while self._events and self._events[0][0] < until_ms and self.decided < len(self.honest):
            self.now_ms, _, number, event = heapq.heappop(self._events)
            self._deliver(self.nodes[number], event)

    def heal(self) -> None:
        """From now on every message arrives, soon, and every node runs."""
        self.healed = True
        for node in self.nodes:
            if node.down:
                self._restart(node)

    def split(self) -> None:
        """Two sides that can't hear each other; twins stay on one each."""
        for node in self.nodes:
            twins = sum(other.address == node.address for other in self.nodes) > 1
            if not twins:
                node.side = self.dice.randint(0, 1)

    # Events

    def _at(self, delay_ms: int, node: Node, event: Input | Message | None) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._number, node.number, event))

    def _deliver(self, node: Node, event: Input | Message | None) -> None:
        if event is None:
            self._gossip(node)
        elif not node.down:
            self._feed(node, self._input(node, event))

    def _input(self, node: Node, event: Input | Message) -> Input:
        if isinstance(event, Vote):
            return VoteReceived(event)
        if isinstance(event, Proposal):
            if event not in node.proposals:
                node.proposals.append(event)
            node.blocks.add(event.block_id)
            timely = self.healed or self.dice.random() >= self.faults.untimely
            return ProposalReceived(event, self.validity[event.block_id], timely)
        if isinstance(event, BlockArrived):
            node.blocks.add(event.block_id)
        return event

    def _feed(self, node: Node, event: Input) -> None:
        own = [event]
        while own:
            event = own.pop(0)
            node.inputs.append(event)
            round_before = node.machine.round
            effects = node.machine.handle(event)
            node.effects += effects
            machine = node.machine
            if not (machine.round >= round_before and machine.valid_round >= machine.locked_round):
                raise Broken("rounds only rise, and what is locked is valid")
            for effect in effects:
                own += [self._input(node, message) for message in self._perform(node, effect)]

    def _perform(self, node: Node, effect: Effect) -> list[Message]:
        """The effect is done; returns our own messages, which come back at once."""
        match effect:
            case StartTimer(round=round_, step=step, duration_ms=duration_ms):
                self._at(duration_ms, node, TimerFired(HEIGHT, round_, step))
            case BuildValue(round=round_):
                if self.healed or self.dice.random() >= self.faults.build_failure:
                    self._at(self.dice.randint(0, 20), node, ValueBuilt(HEIGHT, round_, self._block(node, valid=True)))
            case SignProposal(round=round_, pol_round=pol_round, block_id=block_id):
                return [self._propose(node, round_, pol_round, block_id)]
            case SignVote(kind=kind, round=round_, block_id=block_id):
                return [self._vote(node, kind, round_, block_id)]
            case FetchBlock(block_id=block_id):
                node.wanted.add(block_id)
            case Decide():
                self._check_decision(node, effect)
            case FoundEquivocation(first=first, second=second):
                proved = first.validator == second.validator and (first.kind, first.round) == (
                    second.kind,
                    second.round,
                )
                if first.validator not in self.liars or not proved or first.block_id == second.block_id:
                    raise Broken(f"an honest validator is accused: {effect}")
            case RefusedDecision():
                raise Broken(f"an invalid block was decided: {effect}")
            case EnteredRound() | EnteredStep() | KeepBlock():
                pass
        return []

    # What nodes say

    def _propose(self, node: Node, round_: int, pol_round: int, block_id: bytes) -> Proposal:
        said = _proposal(round_, pol_round, block_id)
        other = _proposal(round_, -1, self._block(node, valid=self.dice.random() < 0.5)) if node.babbles else said
        for peer in self.nodes:
            self._send(node, peer, self.dice.choice((said, other)))
        return said

    def _vote(self, node: Node, kind: VoteKind, round_: int, block_id: bytes | None) -> Vote:
        if node.signed.setdefault((kind, round_), block_id) != block_id:
            raise Broken("a machine contradicts itself")
        said = _vote(node.address, kind, round_, block_id)
        for peer in self.nodes:
            self._send(node, peer, self._lie(node, said) if node.babbles else said)
        return said

    def _lie(self, node: Node, said: Vote) -> Vote:
        round_ = said.round + (self.dice.randint(1, 9) if self.dice.random() < 0.1 else 0)
        block_id = self.dice.choice((said.block_id, None, *sorted(self.validity)))
        return _vote(node.address, said.kind, round_, block_id)

    def _block(self, node: Node, *, valid: bool) -> bytes:
        block_id = sha256(f"{node.number}/{len(self.validity)}".encode())
        self.validity[block_id] = valid
        node.blocks.add(block_id)
        return block_id

    # The network

    def _send(self, sender: Node, peer: Node, message: Message | BlockArrived) -> None:
        if peer is sender:
            return
        if self.healed:
            self._at(self.dice.randint(1, CALM_DELAY_MS), peer, message)
            return
        if (self.faults.splits and sender.side != peer.side) or self.dice.random() < self.faults.loss:
            return
        for _ in range(2 if self.dice.random() < self.faults.duplicate else 1):
            self._at(self.dice.randint(1, self.faults.delay_ms_max), peer, message)

    def _gossip(self, node: Node) -> None:
        """Now and then a node sees what a peer has, and supplies what it lacks; and its fate is drawn again."""
        self._at(GOSSIP_MS, node, None)
        if not self.healed:
            if self.faults.crashes and self.dice.random() < 0.1:
                self._restart(node) if node.down else self._crash(node)
            if self.faults.splits and self.dice.random() < 0.02:
                self.split()
        if node.down or (self.faults.silence and not self.healed):
            return
        peer = self.dice.choice(self.nodes)
        for said in node.proposals:
            if said not in peer.proposals and peer.machine.decided is None:
                self._send(node, peer, said)
        for block_id in sorted(node.blocks & (peer.wanted - peer.blocks)):
            self._send(node, peer, BlockArrived(HEIGHT, block_id, self.validity[block_id]))
        for round_ in node.machine.tally.rounds():
            for kind in VoteKind:
                known = peer.machine.tally.all_votes(round_, kind)
                for vote in node.machine.tally.all_votes(round_, kind):
                    if vote not in known:
                        self._send(node, peer, vote)

    # Crashes

    def _machine(self, address: bytes) -> Machine:
        machine = Machine(height=HEIGHT, validators=self.validators, params=PARAMS, own_address=address)
        machine.start()
        return machine

    def _crash(self, node: Node) -> None:
        node.down = True

    def _restart(self, node: Node) -> None:
        """The logged inputs, fed again, give the same effects; then what was under way begins anew."""
        node.down = False
        node.machine = self._machine(node.address)
        effects = [effect for event in node.inputs for effect in node.machine.handle(event)]
        if effects != node.effects:
            raise Broken("a replay differs")
        self._at(0, node, BeginRound(HEIGHT))
        for effect in effects:
            if isinstance(effect, StartTimer | BuildValue) and effect.round == node.machine.round:
                self._perform(node, effect)

    # Promises

    def _check_decision(self, node: Node, decide: Decide) -> None:
        if not node.honest:
            return
        self.decided += 1
        votes = node.machine.tally.votes(decide.round, VoteKind.PRECOMMIT).values()
        backers = [vote.validator for vote in votes if vote.block_id == decide.block_id]
        power = sum(member.power for member in self.validators.validators if member.address in backers)
        if not self.validators.has_two_thirds(power):
            raise Broken("a decision without its commit")
        if not self.validity[decide.block_id]:
            raise Broken("an invalid block was decided")
        if self.decision not in (None, decide.block_id):
            raise Fork(f"{decide.block_id.hex()} and {(self.decision or b'').hex()}")
        self.decision = decide.block_id

    def _choose_liars(self, count: int | None) -> frozenset[bytes]:
        members = list(self.validators.validators)
        self.dice.shuffle(members)
        if count is not None:
            return frozenset(member.address for member in members[:count])
        liars: set[bytes] = set()
        power = 0
        for member in members[: self.dice.randint(0, len(members))]:
            if 3 * (power + member.power) < self.validators.total_power:
                power += member.power
                liars.add(member.address)
        return frozenset(liars)


def _vote(address: bytes, kind: VoteKind, round_: int, block_id: bytes | None) -> Vote:
    return Vote(kind=kind, height=HEIGHT, round=round_, block_id=block_id, validator=address, signature=bytes(64))


def _proposal(round_: int, pol_round: int, block_id: bytes) -> Proposal:
    return Proposal(height=HEIGHT, round=round_, pol_round=pol_round, block_id=block_id, signature=bytes(64))
