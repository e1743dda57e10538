"""What a world does to its nodes. Each fault is a task of its own with dice of its own; a seed draws a few of them."""

from __future__ import annotations

import errno
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import trio

from devnet.sim.node_machine import SimNode
from devnet.sim.node_plan import ALL, Plan
from devnet.sim.node_town_changes import TOWN_CHANGES

if TYPE_CHECKING:
    from devnet.sim.node_world import NodeWorld

Fault = Callable[["NodeWorld", random.Random], Awaitable[None]]

PAUSE_S = 1.5
"""Mean time between two faults of a kind."""
SLOW_BYTES_PER_S = 3_000
FUSE_MOMENTS_MAX = 30
"""A height has about ten steps at the disk, each with a moment before and after it; a start has as many."""
LATE_HEIGHTS = 10
"""Who was never there comes once some height below it is decided."""
SKEW_MAX_MS = 5_000
"""Of any clocks; the chain's time can run ahead so far, and the town then waits for it."""
SKEW_ONE_MAX_MS = 3_600_000
"""Of one clock."""


async def _pause(dice: random.Random, mean_s: float = PAUSE_S) -> None:
    await trio.sleep(dice.expovariate(1 / mean_s))


def _pair(world: NodeWorld, dice: random.Random) -> tuple[SimNode, SimNode]:
    one, other = dice.sample(world.nodes, 2)
    return one, other


# The network --------------------------------------------------------------------------------------------------------


async def break_connections(world: NodeWorld, dice: random.Random) -> None:
    """Connections break, and can be made again at once."""
    while True:
        await _pause(dice)
        one, other = _pair(world, dice)
        world.trace.fault("break", f"{one.number} {other.number}")
        world.links.reset(one.host, other.host)


async def cut(world: NodeWorld, dice: random.Random) -> None:
    """Two nodes can't reach each other for a while; their connections hang."""
    while True:
        await _pause(dice)
        one, other = _pair(world, dice)
        world.trace.fault("cut", f"{one.number} {other.number}")
        _cut(world, one, other)
        await _pause(dice)
        _mend(world, one, other)


async def one_way(world: NodeWorld, dice: random.Random) -> None:
    """What one node says does not reach another, though it hears that one."""
    while True:
        await _pause(dice)
        one, other = _pair(world, dice)
        world.trace.fault("one_way", f"{one.number} {other.number}")
        world.links.cut(one.host, other.host)
        await _pause(dice)
        world.links.mend(one.host, other.host)


async def split(world: NodeWorld, dice: random.Random) -> None:
    """The town falls into two parts, sometimes only one of which hears the other."""
    while True:
        await _pause(dice, 2 * PAUSE_S)
        here = dice.sample(world.nodes, dice.randrange(1, len(world.nodes)))
        there = [node for node in world.nodes if node not in here]
        deaf = dice.random() < 0.3
        world.trace.fault("split", f"{_numbers(here)} | {_numbers(there)}{' one way' if deaf else ''}")
        for one in here:
            for other in there:
                world.links.cut(one.host, other.host)
                if not deaf:
                    world.links.cut(other.host, one.host)
        await _pause(dice, 2 * PAUSE_S)
        for one in here:
            for other in there:
                _mend(world, one, other)


async def swizzle(world: NodeWorld, dice: random.Random) -> None:
    """Links go one by one, and come back in another order (FoundationDB's swizzle-clogging)."""
    while True:
        await _pause(dice, 2 * PAUSE_S)
        pairs = list(combinations(world.nodes, 2))
        some = dice.sample(pairs, dice.randint(1, len(pairs)))
        world.trace.fault("swizzle", f"{len(some)} links")
        for one, other in some:
            _cut(world, one, other)
            await trio.sleep(dice.random())
        dice.shuffle(some)
        for one, other in some:
            _mend(world, one, other)
            await trio.sleep(dice.random())


async def flap(world: NodeWorld, dice: random.Random) -> None:
    """A link goes on and off quickly."""
    while True:
        await _pause(dice, 2 * PAUSE_S)
        one, other = _pair(world, dice)
        world.trace.fault("flap", f"{one.number} {other.number}")
        for _ in range(dice.randint(3, 10)):
            _cut(world, one, other)
            await trio.sleep(dice.random() * 0.3)
            _mend(world, one, other)
            await trio.sleep(dice.random() * 0.3)


async def slow_peer(world: NodeWorld, dice: random.Random) -> None:
    """All that a node says, or hears, trickles."""
    while True:
        await _pause(dice)
        slow = dice.choice(world.nodes)
        speaks = dice.random() < 0.5
        world.trace.fault("slow_peer", f"{slow.number} {'speaks' if speaks else 'hears'}")
        others = [node for node in world.nodes if node is not slow]
        ways = [
            world.links.way(slow.host, other.host) if speaks else world.links.way(other.host, slow.host)
            for other in others
        ]
        for way in ways:
            way.bytes_per_s = SLOW_BYTES_PER_S
        await _pause(dice)
        for way in ways:
            way.bytes_per_s = None


async def drop_message(world: NodeWorld, dice: random.Random) -> None:
    """Messages are lost, now and then for a while."""
    while True:
        world.message_faults.drop = dice.choice((0.0, 0.02, 0.2))
        await _pause(dice)


async def duplicate_message(world: NodeWorld, dice: random.Random) -> None:
    """Messages come twice, the second time late."""
    while True:
        world.message_faults.duplicate = dice.choice((0.0, 0.05, 0.3))
        await _pause(dice)


async def delay_message(world: NodeWorld, dice: random.Random) -> None:
    """Messages overtake each other."""
    while True:
        world.message_faults.delay = dice.choice((0.0, 0.05, 0.3))
        await _pause(dice)


# Processes ----------------------------------------------------------------------------------------------------------


async def kill(world: NodeWorld, dice: random.Random) -> None:
    """Processes are killed and started again."""
    while True:
        await _pause(dice)
        await _down_and_up(world, dice, [dice.choice(world.nodes)], "kill", world.kill)


async def power_cut(world: NodeWorld, dice: random.Random) -> None:
    """Machines lose power: their peers notice nothing until they are back."""
    while True:
        await _pause(dice)
        await _down_and_up(world, dice, [dice.choice(world.nodes)], "power_cut", world.cut_power)


async def kill_all(world: NodeWorld, dice: random.Random) -> None:
    """Every process is gone at the same moment, or the whole town has no power."""
    while True:
        await _pause(dice, 3 * PAUSE_S)
        await _down_and_up(world, dice, world.nodes, "kill_all", dice.choice((world.kill, world.cut_power)))


async def _down_and_up(
    world: NodeWorld, dice: random.Random, nodes: list[SimNode], name: str, down: Callable[[SimNode], None]
) -> None:
    """Those of *nodes* that run and are honest go down, and start again after a while, each by itself."""
    victims = [node for node in nodes if node.is_running and node.honest]
    if not victims:
        return
    world.trace.fault(name, _numbers(victims))
    for node in victims:
        down(node)
    await _up(world, dice, victims)


async def _up(world: NodeWorld, dice: random.Random, nodes: list[SimNode]) -> None:
    """All of *nodes*, once they are down, start again."""
    for node in nodes:
        await node.stopped.wait()
    for node in dice.sample(nodes, len(nodes)):
        await trio.sleep(dice.expovariate(1.0))
        if not node.is_running:
            world.start(node)


# Disks --------------------------------------------------------------------------------------------------------------


async def crash_at_step(world: NodeWorld, dice: random.Random) -> None:
    """The power goes right before or right after some step at the disk, also one of a start."""
    while True:
        await _pause(dice)
        victims = [node for node in world.nodes if node.is_running and node.honest]
        if victims:
            node = dice.choice(victims)
            node.fuse = dice.randint(1, FUSE_MOMENTS_MAX)
            await _up(world, dice, [node])


async def crash_all_at_commit(world: NodeWorld, dice: random.Random) -> None:
    """The whole town loses power when the first node is about to commit what was decided."""
    while True:
        await _pause(dice, 3 * PAUSE_S)
        victims = [node for node in world.nodes if node.is_running and node.honest]
        world.blackout_due = True
        while world.blackout_due:  # noqa: ASYNC110  # the next commit comes with the next height
            await trio.sleep(0.05)
        await _up(world, dice, [node for node in victims if node.disk.is_cut])


async def disk_error(world: NodeWorld, dice: random.Random) -> None:
    """A disk fails whoever writes: the node must stop; some time later the disk is well, and the node starts again."""
    await _refuse(world, dice, "disk_error", errno.EIO)


async def disk_full(world: NodeWorld, dice: random.Random) -> None:
    """A disk is full for a while: likewise."""
    await _refuse(world, dice, "disk_full", errno.ENOSPC)


async def _refuse(world: NodeWorld, dice: random.Random, name: str, error: int) -> None:
    while True:
        await _pause(dice)
        victims = [node for node in world.nodes if node.is_running and node.honest and node.refusing is None]
        if victims:
            node = dice.choice(victims)
            world.trace.fault(name, str(node.number))
            node.refusing = error
            await node.stopped.wait()
            await _pause(dice)
            if not node.is_running and dice.random() < 0.3:
                world.start(node)  # too early: it must not come up
                await _pause(dice)
            node.refusing = None
            await _up(world, dice, [node])


async def leave(world: NodeWorld, dice: random.Random) -> None:
    """Full nodes leave, and are away until others have gone on without them."""
    while True:
        await _pause(dice)
        full = [
            node for node in world.nodes[len(world.plan.powers) : world.plan.size] if node.is_running and node.honest
        ]
        if full:
            node = dice.choice(full)
            world.trace.fault("leave", str(node.number))
            node.joined = False
            dice.choice((world.kill, world.cut_power))(node)
            await node.stopped.wait()


async def join_late(world: NodeWorld, dice: random.Random) -> None:
    """Full nodes that were away, or never there, join; these from some height on, so that snapshots can be had."""
    first = dice.randrange(LATE_HEIGHTS)
    while True:
        await _pause(dice, 2 * PAUSE_S)
        away = [
            node
            for node in world.nodes
            if not node.joined and not node.is_running and (node.starts or world.checker.height >= first)
        ]
        if away:
            node = dice.choice(away)
            world.trace.fault("join_late", str(node.number))
            world.start(node)


# Clocks -------------------------------------------------------------------------------------------------------------


async def clock_skew(world: NodeWorld, dice: random.Random) -> None:
    """Clocks are wrong from the beginning: all of them a little, or one of them by up to an hour."""
    if dice.random() < 0.5:
        for node in world.nodes:
            node.clock.jump(dice.uniform(-1, 1) * dice.choice((100, 1_000, SKEW_MAX_MS)))
        world.trace.fault("clock_skew", "all")
    else:
        node = dice.choice(world.nodes)
        node.clock.jump(dice.uniform(-SKEW_ONE_MAX_MS, SKEW_ONE_MAX_MS))
        world.trace.fault("clock_skew", f"{node.number} {node.clock.offset_ms:.0f} ms")
    await trio.sleep_forever()


async def clock_drift(world: NodeWorld, dice: random.Random) -> None:
    """Clocks run too fast or too slow."""
    while True:
        node = dice.choice(world.nodes)
        rate = 1 + dice.uniform(-1, 1) * dice.choice((0.0001, 0.01, 0.1))
        world.trace.fault("clock_drift", f"{node.number} {rate:.5f}")
        node.clock.drift(rate)
        await _pause(dice)


async def clock_jump(world: NodeWorld, dice: random.Random) -> None:
    """Clocks are set, ahead or back."""
    while True:
        await _pause(dice)
        node = dice.choice(world.nodes)
        ms = dice.uniform(-SKEW_MAX_MS, SKEW_MAX_MS) - node.clock.offset_ms / 2
        world.trace.fault("clock_jump", f"{node.number} {ms:.0f} ms")
        node.clock.jump(ms)


# All of them --------------------------------------------------------------------------------------------------------

_FAULTS: Mapping[str, Fault] = {
    "break": break_connections,
    "cut": cut,
    "one_way": one_way,
    "split": split,
    "swizzle": swizzle,
    "flap": flap,
    "slow_peer": slow_peer,
    "drop_message": drop_message,
    "duplicate_message": duplicate_message,
    "delay_message": delay_message,
    "kill": kill,
    "power_cut": power_cut,
    "kill_all": kill_all,
    "crash_at_step": crash_at_step,
    "crash_all_at_commit": crash_all_at_commit,
    "disk_error": disk_error,
    "disk_full": disk_full,
    "leave": leave,
    "join_late": join_late,
    "clock_skew": clock_skew,
    "clock_drift": clock_drift,
    "clock_jump": clock_jump,
    **TOWN_CHANGES,
}


def faults_of(plan: Plan) -> Iterator[tuple[str, Fault]]:
    """The faults that *plan* allows, in a fixed order."""
    for name in ALL:
        if name in plan.faults:
            yield name, _FAULTS[name]


async def heal(world: NodeWorld) -> None:
    """Everything works again, and every node runs; only liars go on."""
    world.blackout_due = False
    world.message_faults.drop = world.message_faults.duplicate = world.message_faults.delay = 0.0
    for one, other in combinations(world.nodes, 2):
        _mend(world, one, other)
        if one.honest and other.honest:
            for way in (world.links.way(one.host, other.host), world.links.way(other.host, one.host)):
                way.bytes_per_s = None
    for node in world.nodes:
        node.clock.set_right()
        node.fuse = node.refusing = None
        if node.disk.is_cut or node.scope.cancel_called:
            await node.stopped.wait()
        if not node.is_running:
            world.start(node)


def _cut(world: NodeWorld, one: SimNode, other: SimNode) -> None:
    world.links.cut(one.host, other.host)
    world.links.cut(other.host, one.host)


def _mend(world: NodeWorld, one: SimNode, other: SimNode) -> None:
    world.links.mend(one.host, other.host)
    world.links.mend(other.host, one.host)


def _numbers(nodes: list[SimNode]) -> str:
    return ",".join(str(node.number) for node in nodes)
