"""A node world: the real node, several times, in one process that a seed fixes down to the order of its tasks."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog
import trio

from city.app import Town
from consensus.signing import public_key
from devnet.sim.node_checks import Checker
from devnet.sim.node_clock import NodeClock
from devnet.sim.node_faults import faults_of, heal
from devnet.sim.node_links import Links
from devnet.sim.node_load import Load
from devnet.sim.node_peers import MessageFaults, Sent, SignatureWatch, TappedPeer
from devnet.sim.node_plan import FAULT_HEIGHTS, HEIGHTS_MIN, Plan
from devnet.sim.node_town import CHAIN_ID, genesis, seed_of
from devnet.sim.node_trace import Trace
from devnet.sim.outcome import Broken, Tell
from node import consensus_messages
from node.applications import application_for
from node.config import Config, P2pConfig, VerifyConfig
from node.engine import Belongings, Engine, Surroundings, write_genesis
from node.home import Home
from node.signer import Signer
from node.store import Store
from node.wal import Wal
from p2p.peer import Peer

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


@dataclass(eq=False)
class SimNode:
    """One machine: what stays when its process is gone, and the process while there is one."""

    number: int
    folder: Path
    honest: bool = True
    clock: NodeClock = field(default_factory=NodeClock)
    engine: Engine | None = None
    app: Town | None = None
    starts: int = 0
    joined: bool = True
    """Whether it belongs to the network now; who left may come back at the end."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    nursery: trio.Nursery | None = None
    stopped: trio.Event = field(default_factory=trio.Event)

    @property
    def host(self) -> str:
        """Its name on the network."""
        return f"node{self.number}"

    @property
    def is_running(self) -> bool:
        """Whether its process runs, or is starting."""
        return self.starts > 0 and not self.stopped.is_set()


class NodeWorld:
    """All nodes of one seed and everything that happens to them."""

    def __init__(self, plan: Plan, folder: Path, tell: Tell | None = None) -> None:
        self.plan = plan
        self.trace = Trace(tell)
        self.checker = Checker(self.trace)
        self.links = Links(self.dice("links"), latency_max_s=plan.latency_max_s)
        self.genesis = genesis(plan.powers)
        self.nodes = [SimNode(number, folder / f"node{number}") for number in range(plan.size)]
        for node in self.nodes[len(plan.powers) :]:
            node.joined = "join_late" not in plan.faults
        self.message_faults = MessageFaults()
        self.load = Load(self, self.dice("load"))
        self.ballots = trio.Lock()
        """One question to the town at a time."""
        self.proposals = 0
        """So many were made; each has the next number."""
        self.violation: Broken | None = None
        self.messages = 0
        self._world: trio.Nursery

    def dice(self, purpose: str) -> random.Random:
        """Dice of their own for each *purpose*, so that one more throw here changes nothing there."""
        return random.Random(f"{self.plan.seed}/{purpose}")

    def running(self) -> list[SimNode]:
        """Nodes whose engine runs."""
        return [node for node in self.nodes if node.engine is not None]

    # The story of a world -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The world has passed; `violation` says what went wrong, if anything did."""
        async with trio.open_nursery() as self._world:
            self._world.start_soon(self._story)
        self.trace.note(str(self.violation or "every promise held"))

    async def _story(self) -> None:
        for node in self.nodes:
            if node.joined:
                self.start(node)
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

    async def _be_live(self) -> None:
        """All nodes move on together, and what was sent is decided."""
        wanted = max(self.checker.height + CALM_HEIGHTS, HEIGHTS_MIN)
        with trio.move_on_after(CALM_S) as patience:
            await self._until(lambda: all(self._height(node) >= wanted for node in self.nodes))
            await self.load.finish()
        if patience.cancelled_caught:
            heights = {node.number: self._height(node) for node in self.nodes}
            self.fail(
                Broken(
                    "liveness",
                    f"{CALM_S:.0f} s after all was healed, height {wanted} or a transaction "
                    f"is missing; heights {heights}",
                )
            )
            return
        for node in self.running():
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

    # Nodes come and go ----------------------------------------------------------------------------------------------

    def start(self, node: SimNode) -> None:
        """The process of *node* runs, over whatever its folder holds."""
        assert not node.is_running
        node.starts += 1
        node.joined = True
        node.scope = trio.CancelScope()
        node.stopped = trio.Event()
        self.links.power_on(node.host)
        self.trace.note(f"node {node.number} starts")
        self._world.start_soon(self._run, node)

    async def kill(self, node: SimNode, *, silently: bool) -> None:
        """The process of *node* is gone, as by kill -9, or its machine (*silently*): nothing is said or written."""
        self.links.power_off(node.host, silently=silently)
        node.scope.cancel()
        await node.stopped.wait()

    async def _run(self, node: SimNode) -> None:
        own: Belongings | None = None
        with structlog.contextvars.bound_contextvars(node=node.number):
            try:
                with node.scope:
                    own = self._open(node)
                    await self._live(node, own)
            except Exception as error:  # noqa: BLE001  # whatever ends a node without need is what the world looks for
                for line in "".join(traceback.format_exception(error)).splitlines():
                    self.trace.remark(line)
                self.fail(Broken("stopped", f"node {node.number}: {_first(error)!r}"))
            finally:
                node.engine = node.nursery = None
                if own is not None:
                    _abandon(own)
                node.stopped.set()

    async def _live(self, node: SimNode, own: Belongings) -> None:
        app = application_for(self.genesis)
        assert isinstance(app, Town)
        node.app = app
        write_genesis(own.store, self.genesis, app)
        self.checks(partial(self.checker.opened, node.number, own.store))
        tap = HonestTap(self, node)
        around = Surroundings(
            transport=self.links.transport(node.host),
            now_ms=node.clock.now_ms,
            dice=self.dice(f"node{node.number}/{node.starts}"),
            make_peer=partial(TappedPeer, tap=tap),
        )
        engine = Engine(own, app, around)
        async with trio.open_nursery() as node.nursery:
            node.engine = engine
            node.nursery.start_soon(self._watch, node, engine)
            await engine.run()

    async def _watch(self, node: SimNode, engine: Engine) -> None:
        """Each height that the node commits is looked at."""
        seen = engine.store.height
        while True:
            await engine.heights.wait_beyond(seen)
            for height in range(seen + 1, engine.store.height + 1):
                self.checks(partial(self.checker.reached, node.number, engine.store, height, node.app))
            seen = engine.store.height

    def _open(self, node: SimNode) -> Belongings:
        home = Home(node.folder)
        home.data.mkdir(parents=True, exist_ok=True)
        key = seed_of("validator", node.number)
        store = Store.open(home.chain, map_bytes=MAP_BYTES, inline=True)
        fresh = store.height < 0 and not home.last_sign.exists()
        signer = (Signer.create if fresh else Signer.open)(key, home.last_sign, CHAIN_ID)
        return Belongings(
            home=home,
            config=self._config(node),
            genesis=self.genesis,
            node_seed=seed_of("node", node.number),
            store=store,
            wal=Wal.open(home.wal),
            signer=signer,
            trust_root=None,
        )

    def _config(self, node: SimNode) -> Config:
        known = self.nodes[:2] if self.plan.exchange else self.nodes
        p2p = P2pConfig(
            listen=f"{node.host}:{PORT}",
            persistent_peers=tuple(
                f"{public_key(seed_of('node', other.number)).hex()}@{other.host}:{PORT}"
                for other in known
                if other is not node
            ),
            exchange=self.plan.exchange,
        )
        return replace(Config.defaults(), moniker=node.host, p2p=p2p, verify=VerifyConfig(processes=0))


class HonestTap:
    """The mouth of an honest node: what it says is watched, and suffers what the world does to messages."""

    def __init__(self, world: NodeWorld, node: SimNode) -> None:
        self._world = world
        self._node = node
        self._dice = world.dice(f"messages/{node.number}/{node.starts}")
        self._watch = SignatureWatch(node.number, seed_of("validator", node.number), world.checker)

    def outgoing(self, peer: Peer, channel_id: int, message: bytes) -> Sequence[Sent]:
        """*message*, perhaps late, twice, or not at all."""
        world = self._world
        world.messages += 1
        if world.messages > MESSAGES_MAX:
            world.fail(Broken("runaway", f"more than {MESSAGES_MAX} messages"))
        world.trace.said(self._node.number, peer.id, channel_id, message)
        if channel_id == consensus_messages.CHANNEL.id:
            world.checks(partial(self._watch.sees, message))
        if world.message_faults.any:
            return world.message_faults.befall(message, self._dice, world.trace)
        return [(0.0, message)]

    def later(self, delay_s: float, act: Callable[[], object]) -> None:
        """*act* is done after *delay_s*, if the node still runs."""
        if self._node.nursery is not None:
            self._node.nursery.start_soon(_later, delay_s, act)

    def penalises(self, peer: Peer, reason: str) -> None:
        """An honest node blames nobody who is honest."""
        number = int(peer.hello.moniker.removeprefix("node"))
        if self._world.nodes[number].honest:
            self._world.fail(
                Broken("blames", f"node {self._node.number} blames node {number}, who is honest: {reason}")
            )


async def _later(delay_s: float, act: Callable[[], object]) -> None:
    await trio.sleep(delay_s)
    act()


def _abandon(own: Belongings) -> None:
    """Files are closed as the system closes those of a killed process: what was not written stays unwritten."""
    own.wal._broken = True
    own.wal.close()
    if own.signer is not None:
        own.signer.close()
    own.store.close()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
