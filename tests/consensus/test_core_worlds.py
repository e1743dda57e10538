"""Worlds of machines: one block for all whatever happens, and a block for all once the network heals."""

from __future__ import annotations

import random

import pytest

from tests.consensus.core_world import Faults, Fork, World

SEEDS = range(240)
CHAOS_MS = 6_000
CALM_MS = 60_000


def drawn(seed: int) -> World:
    dice = random.Random(f"world {seed}")
    return World(seed, size=dice.randint(4, 7), faults=Faults.drawn_by(dice))


@pytest.mark.parametrize("first", range(0, len(SEEDS), 24))
def test_correct_machines_decide_one_block_through_faults_and_liars_and_all_of_them_after_healing(first: int) -> None:
    for seed in SEEDS[first : first + 24]:
        world = drawn(seed)
        world.run(CHAOS_MS)
        world.heal()
        world.run(CHAOS_MS + CALM_MS)
        assert world.decided == len(world.honest), f"seed {seed}: {world.faults}"


def test_calm_world_decides_in_round_0() -> None:
    world = World(1, size=4, faults=Faults(), liars=0)
    world.run(CHAOS_MS)
    assert world.decided == 4
    assert {node.machine.round for node in world.nodes} == {0}


def test_lonely_validator_decides_alone() -> None:
    world = World(1, size=1, faults=Faults(), liars=0)
    world.run(CHAOS_MS)
    assert world.decided == 1


def test_worlds_do_try_faults_and_liars() -> None:
    """The drawn worlds are no fair-weather ones: rounds fail, liars are caught, nodes crash, blocks are fetched."""
    worlds = [drawn(seed) for seed in range(40)]
    for world in worlds:
        world.run(CHAOS_MS)
    told = {type(effect).__name__ for world in worlds for node in world.honest for effect in node.effects}
    assert {"FoundEquivocation", "FetchBlock", "SignProposal", "Decide", "KeepBlock"} <= told
    assert max(node.machine.round for world in worlds for node in world.honest) >= 3
    assert any(world.decided < len(world.honest) for world in worlds)


def twins_on_both_sides(seed: int, liars: int) -> World:
    """Four equal validators, *liars* of them twins with one on each side of a split that never heals."""
    world = World(seed, size=4, faults=Faults(splits=True), liars=liars, equal=True)
    for side, node in enumerate(world.honest):
        node.side = side % 2
    world.split = lambda: None  # type: ignore[method-assign]
    return world


def test_checker_sees_the_fork_that_more_than_a_third_of_liars_can_make() -> None:
    with pytest.raises(Fork):
        twins_on_both_sides(0, liars=2).run(CHAOS_MS)


@pytest.mark.parametrize("seed", range(5))
def test_fewer_liars_cannot_fork_in_the_same_split(seed: int) -> None:
    world = twins_on_both_sides(seed, liars=1)
    world.run(CHAOS_MS)
    world.heal()
    world.run(CHAOS_MS + CALM_MS)
    assert world.decided == 3
