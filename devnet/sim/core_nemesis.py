"""What is done to the links and nodes of a core world while faults last: one thing after another, from what it drew."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devnet.sim.core_plan import NEMESIS_FAULTS

if TYPE_CHECKING:
    from devnet.sim.core_node import Node
    from devnet.sim.core_world import World

PAUSE_BETWEEN_MS_MAX = 500
MENDS_SHARE = 0.4
"""Of the acts; the others break something."""
PAUSE_MS_MAX = 1_500
SLOW_MS_MAX = 250
SILENCE_MS_MAX = 2_000
RACE_MS_MAX = 4_000
SKEW_MS_MAX = 1_500
"""Well beyond the precision (100 ms) with the delay (800 ms)."""
DRIFT_MAX = 0.1
SWIZZLE_STEP_MS = 60


class Nemesis:
    """Acts until the world heals."""

    def __init__(self, world: World) -> None:
        self.world = world
        acts: dict[str, Callable[[], bool]] = {
            "split": self._split,
            "asymmetric": self._cut_one_way,
            "swizzle": self._swizzle,
            "race": self._race,
            "silence": self._silence,
            "pause": self._pause,
            "slow": self._slow,
            "skew": self._skew,
            "drift": self._drift,
            "power_cut": self._arm_power_cut,
            "join": self._join,
            "leave": self._leave,
        }
        faults = world.plan.faults
        self._acts = {name: acts[name] for name in NEMESIS_FAULTS if name in faults}
        if "crash" in faults:
            self._acts["crash: idle"] = self._crash
        self._power_cut_armed = False
        if self._acts:
            self._next()

    def _next(self) -> None:
        self.world.do(self.world.upto(PAUSE_BETWEEN_MS_MAX), self._act)

    def _act(self) -> None:
        world = self.world
        if world.healed:
            return
        self._next()
        if world.chance(MENDS_SHARE):
            self._mend()
            return
        name = list(self._acts)[world.upto(len(self._acts))]
        if self._acts[name]():
            world.faults[name] += 1
            world.note(f"nemesis: {name}")

    def _mend(self) -> None:
        """Links carry everything, and a clock is set right."""
        self.world.wire.cut.clear()
        node = self._anybody()
        node.offset_ms = node.drift = 0.0
        node.slow_ms = 0

    def _anybody(self) -> Node:
        return self.world.nodes[self.world.upto(len(self.world.nodes))]

    # Links

    def _split(self) -> bool:
        """Two sides that can't hear each other."""
        side = [self.world.chance(0.5) for _ in self.world.nodes]
        self._cut([(a, b) for a, left in enumerate(side) for b, right in enumerate(side) if left != right])
        return len(set(side)) == 2

    def _cut_one_way(self) -> bool:
        """One side hears the other no more, but is heard by it; often a side is one node, deaf or mute."""
        nodes = self.world.nodes
        if self.world.chance(0.5):
            left = {self._anybody().number}
        else:
            left = {node.number for node in nodes if self.world.chance(0.5)}
        right = {node.number for node in nodes} - left
        speakers, hearers = (left, right) if self.world.chance(0.5) else (right, left)
        self._cut([(a, b) for a in speakers for b in hearers])
        return bool(left and right)

    def _swizzle(self) -> bool:
        """The links of some nodes are cut one by one, and healed in another order."""
        world = self.world
        links = [(a.number, b.number) for a in world.nodes for b in world.nodes if a is not b and world.chance(0.5)]
        if not links:
            return False
        world.dice.shuffle(links)
        for step, link in enumerate(links):
            world.do(step * world.upto(SWIZZLE_STEP_MS), lambda link=link: self._cut([link]))  # type: ignore[misc]
        world.dice.shuffle(links)
        for step, link in enumerate(links):
            delay_ms = (len(links) + step) * SWIZZLE_STEP_MS // 2
            world.do(delay_ms, lambda link=link: world.wire.cut.discard(link))  # type: ignore[misc]
        return True

    def _cut(self, links: list[tuple[int, int]]) -> None:
        if not self.world.healed:
            self.world.wire.cut.update(links)

    def _race(self) -> bool:
        """For a while messages arrive about when their timers fire: some see a polka in time, others too late."""
        world = self.world
        world.wire.racing = True

        def end() -> None:
            world.wire.racing = False

        world.do(world.upto(RACE_MS_MAX), end)
        return True

    def _silence(self) -> bool:
        """Nobody supplies what a peer lacks, for a while."""
        world = self.world
        world.silent = True

        def end() -> None:
            world.silent = False

        world.do(world.upto(SILENCE_MS_MAX), end)
        return True

    # Nodes

    def _crash(self) -> bool:
        node = self._anybody()
        if not node.running:
            return False
        node.crash()
        return True

    def _pause(self) -> bool:
        node = self._anybody()
        node.paused_until_ms = self.world.now_ms + 50 + self.world.upto(PAUSE_MS_MAX)
        return node.running

    def _slow(self) -> bool:
        node = self._anybody()
        node.slow_ms = 20 + self.world.upto(SLOW_MS_MAX)
        return node.running

    def _skew(self) -> bool:
        node = self._anybody()
        node.offset_ms = float(self.world.upto(2 * SKEW_MS_MAX) - SKEW_MS_MAX)
        return node.running

    def _drift(self) -> bool:
        node = self._anybody()
        node.drift = DRIFT_MAX * (2 * self.world.dice.random() - 1)
        return node.running

    def _arm_power_cut(self) -> bool:
        """Counted here, and done when next somebody has precommitted: the worst moment."""
        armed, self._power_cut_armed = self._power_cut_armed, True
        return not armed

    def somebody_precommitted(self) -> None:
        """A correct node has just let its precommit out: if so armed, all nodes lose power in the next milliseconds."""
        if self._power_cut_armed and not self.world.healed:
            self._power_cut_armed = False
            self.world.do(self.world.upto(15), self._power_cut)

    def _power_cut(self) -> None:
        if self.world.healed:
            return
        self.world.note("nemesis: the power fails everywhere")
        for node in self.world.nodes:
            if node.running:
                node.crash()

    def _join(self) -> bool:
        """A node that was not there starts from nothing."""
        world = self.world
        waiting = [node for node in world.nodes if not node.started]
        if not waiting:
            return False
        world.start(waiting[0])
        world.membership_changed()
        return True

    def _leave(self) -> bool:
        """A node that is no validator, and nobody is about to make one, goes for good."""
        world = self.world
        followers = [node for node in world.nodes[len(world.plan.powers) :] if node.honest and node.running]
        if not followers or world.plan.set_change:
            return False
        followers[world.upto(len(followers))].gone = True
        world.membership_changed()
        return True
