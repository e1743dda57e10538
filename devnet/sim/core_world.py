"""A core world: nodes that run only `consensus/`, a network between them, and a heap of events. One seed fixes it all.

First come faults, when only safety is asked for; then `heal`, after which everything arrives and everybody runs, and
every correct node must reach a further height in bounded time. Liars go on lying.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from consensus.chain import ChainState
from consensus.effects import Effect
from consensus.inputs import Input
from consensus.validators import Update
from consensus.vote import Proposal, Vote, VoteKind
from devnet.sim import core_trace
from devnet.sim.core_chain import (
    GENESIS_TIME_MS,
    SimBlock,
    drawn_updates,
    earliest_ms,
    genesis,
    state_after,
)
from devnet.sim.core_gossip import supply
from devnet.sim.core_liars import Liar
from devnet.sim.core_messages import Message, Proposed, mark
from devnet.sim.core_nemesis import Nemesis
from devnet.sim.core_node import Node
from devnet.sim.core_plan import HEIGHTS, TWINS, Plan
from devnet.sim.core_promises import Promises
from devnet.sim.core_wire import Wire
from devnet.sim.outcome import Broken, Tell

GOSSIP_MS = 80
"""How often a node looks at what a peer lacks."""
DOWN_MS_MAX = 1_500
FURTHER_HEIGHTS = 2
"""So many more must be decided after healing, at least."""
HEAL_MS = 60_000
"""Within which the first of them must be decided: rounds may have become long by then, as each adds to its timeouts."""
HEAL_MS_PER_HEIGHT = 6_000
"""For each height that the slowest lacks: a heartbeat and a few rounds of liars."""
CLOCKS_APART_MS = 40
"""Of healed clocks: within the precision, each to each."""


class World:
    """The world of *plan*; *dice* decides everything that the plan leaves open."""

    def __init__(self, plan: Plan, dice: random.Random, tell: Tell | None = None) -> None:
        self.plan = plan
        self.tell = tell
        self.now_ms = 0
        self.epoch_ms = GENESIS_TIME_MS
        self.healed = False
        self.silent = False
        """Whether nobody supplies what a peer lacks."""
        self.faults: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        """Of Algorithm 1, by correct nodes."""
        self.lines_of_liars: Counter[str] = Counter()
        self.rounds: set[tuple[int, int]] = set()
        """(height, round) above 0 that a correct node entered."""
        self.promises = Promises()
        self.blocks: dict[bytes, SimBlock] = {}
        self._random = dice.random
        self.dice = dice
        self._digest = sha256()
        self._states: dict[bytes, ChainState] = {}
        self._events: list[tuple[int, int, Node | None, int, Any]] = []
        self._numbers = 0
        self.wire = Wire(self)
        self._populate()
        self.nemesis = Nemesis(self)

    def _populate(self) -> None:
        """Validators, reserves, and the second one of each pair of twins."""
        plan = self.plan
        keys = [
            sha256(b"validator %d %d" % (number, self.dice.getrandbits(32))).digest() for number in range(self.size)
        ]
        self.genesis = genesis(dict(zip(keys, plan.powers, strict=False)))
        self.nodes: list[Node] = []
        for number, key in enumerate(keys):
            tricks = plan.liars.get(number)
            liar = Liar(self, tricks) if tricks is not None and TWINS not in tricks else None
            self.nodes.append(Node(self, number, f"n{number}", key, liar=liar, honest=tricks is None))
        for number, tricks in plan.liars.items():
            if TWINS in tricks:
                twin = Node(self, len(self.nodes), f"n{number}'", keys[number], liar=None, honest=False)
                self.nodes.append(twin)
                self.faults["liar: twins"] += 1
        self.marks = {node.address: mark(node.address) for node in self.nodes}
        self.liars = frozenset(node.address for node in self.nodes if not node.honest)
        self.liar_keys = frozenset(node.key for node in self.nodes if not node.honest)
        for node in self.nodes:
            if not ("join" in plan.faults and len(plan.powers) <= node.number < self.size):
                self.start(node)

    @property
    def size(self) -> int:
        """How many nodes there are, second twins apart."""
        return len(self.plan.powers) + self.plan.reserves

    # Dice and time

    def chance(self, share: float) -> bool:
        """Whether something happens that happens in *share* of the cases."""
        return share > 0 and self._random() < share

    def upto(self, stop: int) -> int:
        """0 … *stop* - 1, or 0."""
        return int(self._random() * stop)

    def at(self, delay_ms: int, node: Node | None, life: int, item: Any) -> None:
        """*item* happens to *node* after *delay_ms*: if it is still in its *life* (-1: in whichever)."""
        self._numbers += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._numbers, node, life, item))

    def later(self, node: Node, delay_ms: int, event: Any) -> None:
        """*event* of *node* itself, which it does not survive."""
        self.at(delay_ms, node, node.life, event)

    def soon(self, node: Node, message: Message) -> None:
        """*message*, which has already arrived, is looked at again."""
        self.at(0, node, -1, message)

    def do(self, delay_ms: int, action: Callable[[], None]) -> None:
        """*action* is done to the world after *delay_ms*."""
        self.at(delay_ms, None, -1, action)

    # The course of things

    def start(self, node: Node) -> None:
        """*node* runs for the first time, with nothing but the genesis."""
        node.started = True
        self.note(f"{node.name} starts")
        self.do(self.upto(GOSSIP_MS), lambda: self._gossip(node))
        node.begin()

    def run(self) -> None:
        """Faults, healing, liveness. Raises Broken."""
        self.chaos()
        self.heal()
        self.settle()

    def chaos(self) -> None:
        """Faults, for as long as the plan says."""
        self._run_until(self.plan.chaos_ms, self.plan.chaos_heights)

    def settle(self) -> None:
        """After `heal`: every correct node decides `FURTHER_HEIGHTS` more than any has, and `HEIGHTS` in all."""
        target = max(HEIGHTS, self.top + FURTHER_HEIGHTS)
        limit_ms = self.now_ms + HEAL_MS + HEAL_MS_PER_HEIGHT * (target - self.bottom)
        self._run_until(limit_ms, target)
        if self.bottom < target:
            where = ", ".join(f"{node.name} h{node.height} r{node.machine.round}" for node in self.correct)
            raise Broken("liveness", f"height {target} was not reached by all until {limit_ms} ms: {where}")

    def _run_until(self, until_ms: int, height: int) -> None:
        """Until every correct node has decided *height*, or the time has come."""
        events = self._events
        while events and events[0][0] < until_ms and self.bottom < height:
            self.now_ms, _, node, life, item = heapq.heappop(events)
            if node is None:
                item()
            elif node.paused_until_ms > self.now_ms:
                self.at(node.paused_until_ms - self.now_ms, node, life, item)
            elif life == -1:
                if node.running:
                    node.receive(item)
            elif life == node.life and node.running:
                node.happens(item)

    @property
    def correct(self) -> list[Node]:
        """Nodes that must go on."""
        return [node for node in self.nodes if node.honest and node.started and not node.gone]

    @property
    def top(self) -> int:
        """The highest height that a correct node has decided."""
        return max(self.promises.decisions, default=0)

    @property
    def bottom(self) -> int:
        """The highest height that all correct nodes have decided."""
        if self._bottom is None:
            self._bottom = min((node.height for node in self.correct), default=1) - 1
        return self._bottom

    _bottom: int | None = None

    def membership_changed(self) -> None:
        """Somebody has moved on, come or gone."""
        self._bottom = None

    def heal(self) -> None:
        """From now on every message arrives, soon; every node runs, and clocks agree."""
        self.note("everything heals")
        self.healed = True
        self.silent = False
        self.wire.racing = False
        self.wire.cut.clear()
        for node in self.nodes:
            node.paused_until_ms = node.slow_ms = 0
            node.drift = 0.0
            node.offset_ms = self.upto(CLOCKS_APART_MS)
            if node.down:
                node.restart()

    # Crashes

    def crash_now(self, point: str) -> bool:
        """Whether the node that has come to *point* crashes there."""
        if self.healed or not self.chance(self.plan.crash):
            return False
        self.faults[f"crash: {point}"] += 1
        return True

    def restart_later(self, node: Node) -> None:
        """*node*, which is down, comes back."""
        life = node.life

        def back() -> None:
            if node.down and node.life == life:
                node.restart()

        self.do(10 + self.upto(DOWN_MS_MAX), back)

    # Blocks

    @property
    def build_failure(self) -> float:
        """Share of the blocks that can't be built."""
        return 0.0 if self.healed else self.plan.build_failure

    def build(self, node: Node) -> SimBlock:
        """A new block of *node*'s on its last one; a liar's may be invalid."""
        parent = node.state
        time_ms = max(node.clock_ms(), earliest_ms(parent))
        defect = node.liar.draws_defect() if node.liar is not None else None
        if defect == "wrong time":
            time_ms = earliest_ms(parent) - 1
        updates: tuple[Update, ...] = ()
        if self.chance(self.plan.set_change):
            candidates = [other.key for other in self.correct]
            updates = drawn_updates(self.dice, parent.validators, candidates, self.liar_keys)
        name = f"h{node.height}.{node.name}.{len(self.blocks)}"
        block = SimBlock(
            sha256(name.encode()).digest(), name, node.height, parent.block_id, time_ms, node.address, updates, defect
        )
        self.blocks[block.id] = block
        return block

    def state_after(self, parent: ChainState, block: SimBlock) -> ChainState:
        """What follows from *block* on *parent*; computed once for all nodes."""
        known = self._states.get(block.id)
        if known is None:
            known = self._states[block.id] = state_after(parent, block)
        return known

    def decided(self, node: Node, block: SimBlock) -> None:
        """*node* has committed *block*."""
        self.membership_changed()
        if self.tell is not None:
            self.note(f"{node.name} decides {block.name}")
        self._digest.update(b"%d decides %d %b" % (node.number, self.now_ms, block.id))
        if node.honest and block.updates and self.top == block.height and self._last_counted < block.height:
            self._last_counted = block.height
            self._count_updates(node, block)

    _last_counted = 0

    def _count_updates(self, node: Node, block: SimBlock) -> None:
        members = {member.public_key for member in node.state.validators.validators}
        for update in block.updates:
            kind = "leaves" if not update.power else "power changes" if update.public_key in members else "joins"
            self.faults[f"set: {kind}"] += 1

    # What is said

    def says_vote(self, node: Node, vote: Vote, *, half: bool) -> None:
        """*node* lets *vote* out to all peers; to some of them if it crashes meanwhile (*half*)."""
        self._digest.update(
            b"%d votes %d %d %d %b" % (node.number, self.now_ms, vote.round, vote.kind, vote.block_id or b"")
        )
        if node.honest:
            self.promises.votes(node, vote)
        if node.liar is not None:
            node.liar.says_vote(node, vote)
            return
        for peer in self.nodes:
            if not half or self._random() < 0.5:
                self.wire.send(node, peer, vote)
        if node.honest and vote.kind is VoteKind.PRECOMMIT:
            self.nemesis.somebody_precommitted()

    def says_proposal(self, node: Node, proposal: Proposal, block: SimBlock, *, half: bool) -> None:
        """Likewise *proposal* with its whole *block*."""
        self._digest.update(b"%d proposes %d %d %b" % (node.number, self.now_ms, proposal.round, block.id))
        if node.honest:
            self.promises.proposes(node, proposal)
        if node.liar is not None:
            node.liar.says_proposal(node, proposal, block)
            return
        message = Proposed(proposal, block, True)
        for peer in self.nodes:
            if not half or self._random() < 0.5:
                self.wire.send(node, peer, message)

    # Gossip

    def _gossip(self, node: Node) -> None:
        """Now and then a node sees what a peer has, and supplies what it lacks."""
        if node.gone:
            return
        self.do(GOSSIP_MS, lambda: self._gossip(node))
        node.offset_ms += GOSSIP_MS * node.drift
        if not node.running or node.paused_until_ms > self.now_ms or self.silent:
            return
        if node.liar is not None:
            node.liar.now_and_then(node)
        supply(self, node, self.nodes[self.upto(len(self.nodes))])

    # What is told

    def note(self, text: str) -> None:
        """A line of the trace."""
        if self.tell is not None:
            self.tell(f"{self.now_ms:>7}  {text}")

    def tell_of(self, node: Node, event: Input, effects: list[Effect]) -> None:
        """What *node*'s machine was given, and what it answered."""
        self.note(core_trace.step(self, node, event, effects))

    @property
    def hash(self) -> str:
        """Hex, over all that was said and decided."""
        return self._digest.hexdigest()
