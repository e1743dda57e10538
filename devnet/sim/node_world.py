"""A node world: the real node, several times, in one process that a seed fixes down to the order of its tasks."""

from __future__ import annotations

import errno
import os
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path

import structlog
import trio

from city.app import Town
from consensus.address import key_address
from consensus.signing import public_key
from devnet.sim.node_checks import Checker
from devnet.sim.node_faults import faults_of, heal
from devnet.sim.node_liars import LyingTap, LyingTasks
from devnet.sim.node_links import Links
from devnet.sim.node_load import Load
from devnet.sim.node_machine import SimNode
from devnet.sim.node_peers import HonestTap, MessageFaults, TappedPeer
from devnet.sim.node_plan import FAULT_HEIGHTS, HEIGHTS_MIN, TWIN, Plan
from devnet.sim.node_town import genesis, seed_of
from devnet.sim.node_trace import Trace
from devnet.sim.outcome import Broken, Tell
from devnet.simulated_disk import Moment, PowerCut, SimulatedDisk, Watching
from node.applications import application_for
from node.config import Config, P2pConfig, VerifyConfig
from node.disk import Act, Step
from node.engine import Engine, Surroundings
from node.height import HeightInProgress
from node.home import Home
from node.keys import KeyFile
from node.node import open_belongings
from node.snapshot_start import begin_with_snapshot
from node.store import Store
from node.trust_root import TrustRoot

PORT = 1000
FAULTS_S = 40.0
"""Faults happen for so long at most."""
CALM_HEIGHTS = 3
"""Heights that every node must decide after everything is healed."""
CALM_S = 600.0
"""In which it must: rounds have grown long, dials are far apart, and who was silent is distrusted for a while."""
MESSAGES_MAX = 2_000_000
"""A world that says more runs away."""
MAP_BYTES = 2**24
WRITING = frozenset({Act.OPEN, Act.WRITE, Act.SYNC, Act.REPLACE, Act.LINK, Act.SYNC_FOLDER, Act.COMMIT})
"""What a disk that is full or broken refuses."""
BEFORE_COMMIT = Moment(Step("chain", Act.COMMIT), after=False)


class NodeWorld:
    """All nodes of one seed and everything that happens to them."""

    def __init__(self, plan: Plan, folder: Path, tell: Tell | None = None) -> None:
        self.plan = plan
        self.port = PORT
        self.trace = Trace(tell)
        liars = (key_address(public_key(seed_of("validator", number))) for number in plan.liars)
        self.checker = Checker(self.trace, frozenset(liars))
        self.links = Links(self.dice("links"), latency_max_s=plan.latency_max_s)
        self.genesis = genesis(plan.powers)
        self.nodes = [SimNode(number, folder / f"node{number}", validator=number) for number in range(plan.size)]
        for number, lies in plan.liars.items():
            self.nodes[number].lies = lies
            if TWIN in lies:
                twin = len(self.nodes)
                self.nodes.append(SimNode(twin, folder / f"node{twin}", validator=number, lies=frozenset((TWIN,))))
                self.trace.counts[TWIN] += 1
        for node in self.nodes[len(plan.powers) : plan.size]:
            node.joined = "join_late" not in plan.faults or not node.honest
        self._numbers = {public_key(seed_of("node", node.number)): node.number for node in self.nodes}
        self.message_faults = MessageFaults()
        self.load = Load(self, self.dice("load"))
        self.blackout_due = False
        """Whether the next commit of a node is the moment at which all machines lose power."""
        self.ballots = trio.Lock()
        """One question to the town at a time."""
        self.proposals = 0
        """So many were made; each has the next number."""
        self.violation: Broken | None = None
        self.messages = 0
        self.bottom = 0
        """The height that every honest node has decided, in a world that ended well."""
        self._world: trio.Nursery

    def dice(self, purpose: str) -> random.Random:
        """Dice of their own for each *purpose*, so that one more throw here changes nothing there."""
        return random.Random(f"{self.plan.seed}/{purpose}")

    @property
    def honest(self) -> list[SimNode]:
        """Those of whom something is promised."""
        return [node for node in self.nodes if node.honest]

    def node_of(self, node_id: bytes) -> SimNode | None:
        """The node with this id; None for strangers."""
        number = self._numbers.get(node_id)
        return None if number is None else self.nodes[number]

    def running(self) -> list[SimNode]:
        """Nodes whose engine runs."""
        return [node for node in self.nodes if node.engine is not None]

    # The story of a world -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The world has passed; `violation` says what went wrong, if anything did."""
        async with trio.open_nursery() as self._world:
            self._world.start_soon(self._story)
        self.trace.note(self.violation.code if self.violation is not None else "every promise held")
        if self.violation is not None:
            self.trace.remark(str(self.violation))

    async def _story(self) -> None:
        for node in self.nodes:
            if node.joined:
                self.start(node)
        self._split(self.plan.split)
        async with trio.open_nursery() as troubles:
            troubles.start_soon(self.load.run, self.plan.load_interval_s)
            for name, fault in faults_of(self.plan):
                troubles.start_soon(fault, self, self.dice(name), name=name)
            with trio.move_on_after(FAULTS_S):
                await self._until(lambda: self.checker.height >= FAULT_HEIGHTS)
            troubles.cancel_scope.cancel()
        self.trace.note("everything is healed")
        await heal(self)
        await self._be_live()
        self._world.cancel_scope.cancel()

    def _split(self, sides: Sequence[Sequence[int]]) -> None:
        for side, other_side in permutations(sides, 2):
            for one in side:
                for other in other_side:
                    self.links.cut(self.nodes[one].host, self.nodes[other].host)

    async def _be_live(self) -> None:
        """All nodes move on together, and what was sent is decided."""
        wanted = max(self.checker.height + CALM_HEIGHTS, HEIGHTS_MIN)
        with trio.move_on_after(CALM_S) as patience:
            await self._until(lambda: all(self._height(node) >= wanted for node in self.honest))
            await self.load.finish()
            await self._until(lambda: not self.checker.unpunished())
        if patience.cancelled_caught:
            heights = {node.number: self._height(node) for node in self.honest}
            self.fail(
                Broken(
                    "liveness",
                    f"{CALM_S:.0f} s after all was healed, height {wanted}, a transaction or a conviction "
                    f"is missing; heights {heights}, at large {self.checker.unpunished()}",
                )
            )
            return
        self.bottom = min(self._height(node) for node in self.honest)
        for node in self.honest:
            assert node.engine is not None
            self.checks(partial(self.checker.holds_all, node.number, node.engine.store))

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110  # several conditions of several engines; virtual time costs nothing
            await trio.sleep(0.1)

    @staticmethod
    def _height(node: SimNode) -> int:
        return node.engine.store.height if node.engine is not None else -1

    def fail(self, violation: Broken) -> None:
        """*violation* is the world's verdict, if it is the first; the world ends."""
        if self.violation is None:
            self.violation = violation
        self._world.cancel_scope.cancel()

    def checks(self, look: Callable[[], object]) -> None:
        """*look* is done; what it finds ends the world."""
        try:
            look()
        except Broken as violation:
            self.fail(violation)

    # For taps and liars ---------------------------------------------------------------------------------------------

    def spoken(self) -> None:
        """One more message has been said."""
        self.messages += 1
        if self.messages > MESSAGES_MAX:
            self.fail(Broken("runaway", f"more than {MESSAGES_MAX} messages"))

    def later(self, node: SimNode, delay_s: float, act: Callable[[], object]) -> None:
        """*act* is done after *delay_s*, if this life of *node* lasts so long."""
        if node.nursery is not None:
            node.nursery.start_soon(_later, delay_s, act)

    def height_of(self, node: SimNode) -> HeightInProgress | None:
        """What *node* is deciding."""
        return node.engine.driver.height if node.engine is not None else None

    def committed_ids(self) -> Sequence[bytes]:
        """Transactions that are decided."""
        return list(self.checker.committed)

    # Nodes come and go ----------------------------------------------------------------------------------------------

    def start(self, node: SimNode) -> None:
        """The process of *node* runs, over whatever its folder holds."""
        assert not node.is_running
        if node.starts == 0 and self.checker.height > 0:
            self._invite(node)
        node.starts += 1
        node.joined = True
        node.scope = trio.CancelScope()
        node.stopped = trio.Event()
        node.disk = SimulatedDisk(
            self.dice(f"disk{node.number}/{node.starts}"),
            Watching(partial(self._at_moment, node)),
            on_cut=partial(self.links.power_off, node.host, silently=True),
        )
        self.links.power_on(node.host)
        self.trace.note(f"node {node.number} starts")
        self._world.start_soon(self._run, node)

    def _invite(self, node: SimNode) -> None:
        """*node* comes to a chain that has begun; half of the time somebody's link vouches for one of its blocks."""
        node.newcomer = True
        dice = self.dice(f"join/{node.number}")
        if dice.random() < 0.5:
            height = dice.randint(1, self.checker.height)
            node.folder.mkdir()
            TrustRoot(height, self.checker.decided[height].block_id).write(Home(node.folder).trust_root)

    def kill(self, node: SimNode) -> None:
        """The process of *node* is gone, as by kill -9: nothing is said or written any more; its machine goes on."""
        self.links.power_off(node.host, silently=False)
        node.disk.is_cut = True
        node.scope.cancel()

    def cut_power(self, node: SimNode) -> None:
        """The machine of *node* is off: what was not synced is lost, and its peers notice nothing."""
        node.disk.cut_power()
        node.scope.cancel()

    def _at_moment(self, node: SimNode, moment: Moment, number: int) -> None:
        """*node* stands right before or after a step on its disk."""
        if node.refusing is not None and not moment.after and moment.step.act in WRITING:
            self.trace.note(f"node {node.number}: the disk refuses {moment.step}: {errno.errorcode[node.refusing]}")
            node.was_refused = True
            raise OSError(node.refusing, os.strerror(node.refusing))
        if self.blackout_due and node.honest and moment == BEFORE_COMMIT:
            self.blackout_due = False
            victims = [other for other in self.honest if other.is_running]
            self.trace.fault("crash_all_at_commit", f"of node {node.number}, {len(victims)} nodes")
            for other in victims:
                if other is not node:
                    self.cut_power(other)
            raise PowerCut(str(moment))
        if node.fuse is not None:
            node.fuse -= 1
            if node.fuse <= 0:
                node.fuse = None
                self.trace.fault("crash_at_step", f"{node.number} {moment}")
                self.trace.counts[f"crash {moment}"] += 1
                raise PowerCut(str(moment))

    async def _run(self, node: SimNode) -> None:
        with structlog.contextvars.bound_contextvars(node=node.number):
            try:
                with node.scope:
                    await self._live(node)
            except BaseException as error:  # noqa: BLE001  # whatever ends a node is judged
                self._judge_end(node, error)
            finally:
                node.engine = node.nursery = None
                node.stopped.set()

    def _judge_end(self, node: SimNode, error: BaseException) -> None:
        """*error* ended *node*: what the world did to it is no defect, everything else is."""
        why = [leaf for leaf in _leaves(error) if not isinstance(leaf, (PowerCut, trio.Cancelled))]
        for leaf in why:
            if not isinstance(leaf, Exception):
                raise leaf
        if why and node.was_refused and all(isinstance(leaf, OSError) for leaf in why):
            self.trace.note(f"node {node.number} stops: {type(why[0]).__name__}")
            self.trace.remark(str(why[0]))
            self.links.power_off(node.host, silently=False)
            why = []
        if why and node.honest:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self.trace.remark(line)
            kind = type(why[0]).__name__
            self.fail(Broken("stopped", f"node {node.number}: {kind}: {self._text(node, why[0])}"))

    @staticmethod
    def _text(node: SimNode, error: BaseException) -> str:
        """What *error* says, without where the scratch folder happens to lie."""
        return str(error).replace(str(node.folder), node.host)

    async def _live(self, node: SimNode) -> None:
        app = application_for(self.genesis)
        assert isinstance(app, Town)
        home = Home(node.folder)
        if not home.node_key.exists():
            KeyFile.create("node", seed=seed_of("node", node.number)).write(home.node_key)
            KeyFile.create("validator", seed=seed_of("validator", node.validator)).write(home.validator_key)
        node.was_refused = False
        config = self._config(node)
        with open_belongings(home, config, self.genesis, app, disk=node.disk, inline=True) as own:
            if node.honest:
                self.checks(partial(self.checker.opened, node.number, own.store))
            lying = None if node.honest else LyingTap(self, node)
            tap = lying or HonestTap(self, node)
            around = Surroundings(
                transport=self.links.transport(node.host),
                now_ms=node.clock.now_ms,
                dice=self.dice(f"node{node.number}/{node.starts}"),
                make_peer=partial(TappedPeer, tap=tap),
                disk=node.disk,
            )
            asking = HonestTap(self, node, befallen=False)
            await begin_with_snapshot(own, app, replace(around, make_peer=partial(TappedPeer, tap=asking)))
            self._has_come(node, own.store, app)
            engine = Engine(own, app, around)
            async with trio.open_nursery() as node.nursery:
                node.engine = engine
                if lying is None:
                    node.nursery.start_soon(self._watch, node, engine, app)
                    node.nursery.start_soon(self._watch_proofs, node, engine)
                else:
                    node.nursery.start_soon(LyingTasks(self, node, engine, lying).run)
                await engine.run()

    async def _watch(self, node: SimNode, engine: Engine, app: Town) -> None:
        """Each height that the node commits is looked at."""
        seen = engine.store.height
        while True:
            await engine.heights.wait_beyond(seen)
            for height in range(seen + 1, engine.store.height + 1):
                self.checks(partial(self.checker.reached, node.number, engine.store, height, app))
            seen = engine.store.height

    async def _watch_proofs(self, node: SimNode, engine: Engine) -> None:
        """What the node can prove must come into a block."""
        while True:
            version = engine.evidence.version
            for evidence in engine.evidence.ripe():
                self.checks(partial(self.checker.proved, node.number, evidence))
            await engine.evidence.wait_beyond(version)

    def _has_come(self, node: SimNode, store: Store, app: Town) -> None:
        """A newcomer stands at a snapshot, or at genesis."""
        if node.newcomer:
            node.newcomer = False
            self.trace.fault("join_by_snapshot" if store.height > 0 else "join_by_blocks", f"{node.number}")
            if node.honest and store.height > 0:
                self.checks(partial(self.checker.landed, node.number, store, app))

    def _config(self, node: SimNode) -> Config:
        known = self.nodes[:2] if self.plan.exchange else self.nodes[: self.plan.size]
        p2p = P2pConfig(
            listen=f"{node.host}:{PORT}",
            persistent_peers=tuple(
                f"{public_key(seed_of('node', other.number)).hex()}@{other.host}:{PORT}"
                for other in known
                if other is not node
            ),
            exchange=self.plan.exchange,
        )
        return replace(
            Config.defaults(),
            moniker=node.host,
            p2p=p2p,
            verify=VerifyConfig(processes=0),
            store=replace(Config.defaults().store, map_bytes=MAP_BYTES),
        )


async def _later(delay_s: float, act: Callable[[], object]) -> None:
    await trio.sleep(delay_s)
    act()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
