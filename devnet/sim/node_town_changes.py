"""What the town itself does to the engine in a world: other powers, validators and parameters, by its votes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import trio

from consensus.signing import public_key, sha256
from devnet.sim.node_plan import POWER_HIGH, POWER_LOW
from devnet.sim.node_town import BALLOT_MS, PERSONS, message, seed_of

if TYPE_CHECKING:
    from devnet.sim.node_world import NodeWorld

PAUSE_S = 2.0
"""Mean time between two questions to the town."""
VALIDATORS_MIN = 3
PARAMS = (
    ("heartbeat_ms", 500, 3_000),
    ("block_delay_ms", 50, 400),
    ("timeout_step_ms", 100, 1_000),
    ("evidence_age_blocks", 5, 200),
    ("precision_ms", 200, 1_000),
)

Change = Callable[["NodeWorld", random.Random], Awaitable[None]]


async def power_change(world: NodeWorld, dice: random.Random) -> None:
    """Validators get another power."""
    while True:
        await _pause(dice)
        honest = [number for number in _members(world) if world.nodes[number].honest]
        if not honest:
            continue
        number = dice.choice(honest)
        power = dice.randint(POWER_LOW, POWER_HIGH)
        world.trace.fault("power_change", f"{number} gets {power}")
        await _ask(world, _told("validators.set_power", public_key=_key(number), power=power))


async def validator_leaves(world: NodeWorld, dice: random.Random) -> None:
    """Validators leave the set; their nodes go on as full nodes, and may come back."""
    while True:
        await _pause(dice)
        members = [number for number in _members(world) if world.nodes[number].honest]
        if len(_members(world)) > VALIDATORS_MIN + any(not node.honest for node in world.nodes) and members:
            number = dice.choice(members)
            world.trace.fault("validator_leaves", str(number))
            if dice.random() < 0.5:
                await _sent(world, 0, message("validators.resign", public_key=_key(number)))
            else:
                await _ask(world, _told("validators.remove", public_key=_key(number)))


async def validator_joins(world: NodeWorld, dice: random.Random) -> None:
    """Full nodes become validators, whether they have caught up or not."""
    while True:
        await _pause(dice)
        members = _members(world)
        others = [node.number for node in world.honest if node.number not in members]
        if others:
            number = dice.choice(others)
            world.trace.fault("validator_joins", str(number))
            await _sent(world, 0, message("validators.apply", public_key=_key(number), name=f"node{number}"))
            power = dice.randint(POWER_LOW, POWER_HIGH)
            await _ask(world, _told("validators.admit", public_key=_key(number), power=power))


async def params_change(world: NodeWorld, dice: random.Random) -> None:
    """The engine's parameters change."""
    while True:
        await _pause(dice)
        name, low, high = dice.choice(PARAMS)
        value = dice.randint(low, high)
        world.trace.fault("params_change", f"{name} = {value}")
        await _ask(world, _told("governance.set_param", module="engine", name=name, value=value))


TOWN_CHANGES: Mapping[str, Change] = {
    "power_change": power_change,
    "validator_leaves": validator_leaves,
    "validator_joins": validator_joins,
    "params_change": params_change,
}


async def _pause(dice: random.Random) -> None:
    await trio.sleep(dice.expovariate(1 / PAUSE_S))


def _key(number: int) -> str:
    return public_key(seed_of("validator", number)).hex()


def _members(world: NodeWorld) -> list[int]:
    """Numbers of the nodes that are validators, as the node that is furthest sees it."""
    engines = [node.engine for node in world.honest if node.engine is not None]
    latest = max(engines, key=lambda engine: engine.store.height, default=None)
    if latest is None:
        return list(range(len(world.plan.powers)))
    validators = latest.driver.height.parent.validators
    keys = {validator.public_key for validator in validators.validators}
    return [
        node.number for node in world.nodes[: world.plan.size] if public_key(seed_of("validator", node.number)) in keys
    ]


def _told(message_name: str, **arguments: object) -> Mapping[str, object]:
    """A message as it stands in a proposal."""
    return {message_name: arguments}


async def _sent(world: NodeWorld, account: int, what: object) -> str:
    """The result code of a message of *account*, once it is decided."""
    return (await world.load.decided(await world.load.send(account, what))).code  # type: ignore[arg-type]


async def _ask(world: NodeWorld, what: Mapping[str, object]) -> None:
    """The town has voted on *what*, and the ballot is over."""
    async with world.ballots:
        proposal = message("governance.propose", title="a change", body_hash=sha256(b"why").hex(), messages=[what])
        if await _sent(world, 0, proposal):
            return
        world.proposals += 1
        vote = message("governance.vote", proposal=world.proposals, choice="yes")
        for person in range(PERSONS):
            await world.load.send(person, vote)
        await trio.sleep(2 * BALLOT_MS / 1000)
