"""Core worlds: only `consensus/`, hundreds of heights a second on each core. See docs/simulation.md."""

from __future__ import annotations

import random
import traceback

from devnet.sim.core_liars import AMNESIA
from devnet.sim.core_lines import LINES
from devnet.sim.core_plan import FAULTS, Plan
from devnet.sim.core_world import World
from devnet.sim.outcome import Broken, Outcome, Tell

__all__ = ["FAULTS", "LINES", "run"]


def run(seed: int, tell: Tell | None = None) -> Outcome:
    """The world of *seed*: `Depth.run`."""
    dice = random.Random(f"core world {seed}")
    plan = Plan.drawn_by(dice)
    if tell is not None:
        tell(f"seed {seed}: {plan}")
    return outcome_of(seed, World(plan, dice, tell), tell)


def outcome_of(seed: int, world: World, tell: Tell | None = None) -> Outcome:
    """*world* has run to its end."""
    violation = None
    try:
        world.run()
    except Broken as broken:
        violation = str(broken)
    except Exception as error:  # noqa: BLE001  # whatever breaks in a world is a finding, and must not lose the others
        violation = f"exception: {error!r}"
        if tell is not None:
            tell(traceback.format_exc())
    world.note(violation or "every promise held")
    faults = dict(world.faults)
    faults[AMNESIA] = world.lines_of_liars[AMNESIA]
    return Outcome(
        seed=seed,
        heights=world.bottom,
        rounds_above_0=len(world.rounds),
        virtual_ms=world.now_ms,
        faults=faults,
        lines=dict(world.lines),
        hash=world.hash,
        violation=violation,
    )
