"""What a seed draws before its world begins: who takes part, who lies and how, and which faults there are."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from devnet.sim.core_chain import POWER_MAX

NETWORK_FAULTS = ("loss", "duplicate", "delay")
"""Of each message."""
NEMESIS_FAULTS = (
    "split",
    "asymmetric",
    "swizzle",
    "race",
    "silence",
    "pause",
    "slow",
    "skew",
    "drift",
    "power_cut",
    "join",
    "leave",
)
"""Done to links and nodes now and then (`core_nemesis`)."""
NODE_FAULTS = ("crash", "build_failure", "set_change")
TRICKS = (
    "two_proposals",
    "two_votes",
    "amnesia",
    "old_polka",
    "withheld_proposal",
    "partial_proposal",
    "withheld_bodies",
    "invalid_block",
    "late_votes",
    "early_votes",
    "votes_of_strangers",
    "false_heights",
    "silence",
)
"""What a liar may do (`core_liars`); twins are two honest nodes with one key."""
TWINS = "twins"

FAULTS = frozenset(
    {
        *NETWORK_FAULTS,
        "reordering",
        *NEMESIS_FAULTS,
        "untimely",
        "build_failure",
        "idle",
        "crash: idle",
        "crash: before the log was synced",
        "crash: log synced, signer not",
        "crash: signer synced, not spoken",
        "crash: half spoken",
        "crash: before the commit",
        "crash: after the commit",
        "crash: logged inputs lost",
        "set: joins",
        "set: leaves",
        "set: power changes",
        *(f"liar: {trick}" for trick in (*TRICKS, TWINS)),
        "liar: caught",
    }
)
"""All that must occur in a long run."""

SIZES = (1, 2, 3, 4, 4, 4, 4, 4, 5, 5, 6, 7)
RESERVES = (0, 0, 1, 2)
CHAOS_MS_MAX = 10_000
CONTESTED_SHARE = 0.35
"""Of the worlds: about every fifth of them, or more, carries out each of the rare lines about locks."""
CONTESTED_MS = 60_000
CONTESTED_HEIGHTS = 58
"""The chaos of a contested world lasts until one of them is reached: most heights end without any dilemma."""
HEIGHTS = 20
"""A world lasts at least so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a world is made of."""

    powers: tuple[int, ...]
    """Of the first validators."""
    reserves: int = 0
    """Full nodes, which may become validators."""
    liars: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """Number of the node → its tricks."""
    faults: frozenset[str] = frozenset()
    loss: float = 0.0
    duplicate: float = 0.0
    delay_ms_max: int = 0
    """Of messages that are delayed; the others take at most `core_world.CALM_DELAY_MS`."""
    crash: float = 0.0
    """Share of the times a node speaks or commits at which it crashes."""
    build_failure: float = 0.0
    contested: bool = False
    """Whether for all of the chaos messages race with timers, and only who is a height behind is supplied."""
    load: float = 1.0
    """Share of heights at which a node has something to decide at once; else the heartbeat comes."""
    set_change: float = 0.0
    """Share of blocks that change the set."""
    signer_memory: bool = True
    """Whether nodes keep one beside the log; without it the log alone protects."""
    chaos_ms: int = CHAOS_MS_MAX
    """Faults end after this time, or once `chaos_heights` are decided."""
    chaos_heights: int = HEIGHTS - 2

    @classmethod
    def drawn_by(cls, dice: random.Random) -> Plan:
        """A random subset of everything, of random strength (swarm testing)."""
        if dice.random() < CONTESTED_SHARE:
            return cls._drawn_contested(dice)
        size = dice.choice(SIZES)
        powers = tuple(dice.randint(1, POWER_MAX) for _ in range(size))
        faults = frozenset(name for name in (*NETWORK_FAULTS, *NEMESIS_FAULTS, *NODE_FAULTS) if dice.random() < 0.35)
        return cls(
            powers=powers,
            reserves=dice.choice(RESERVES),
            liars=_drawn_liars(dice, powers),
            faults=faults,
            loss=dice.choice((0.02, 0.1, 0.3)) if "loss" in faults else 0.0,
            duplicate=dice.choice((0.05, 0.3)) if "duplicate" in faults else 0.0,
            delay_ms_max=dice.choice((100, 250, 600)) if "delay" in faults else 0,
            crash=dice.choice((0.005, 0.02, 0.06)) if "crash" in faults else 0.0,
            build_failure=dice.choice((0.1, 0.4)) if "build_failure" in faults else 0.0,
            load=dice.choice((1.0, 1.0, 0.7, 0.2)),
            set_change=dice.choice((0.2, 0.6)) if "set_change" in faults else 0.0,
            signer_memory=dice.random() < 0.5,
            chaos_ms=dice.randint(CHAOS_MS_MAX // 4, CHAOS_MS_MAX),
        )

    @classmethod
    def _drawn_contested(cls, dice: random.Random) -> Plan:
        """Equal validators that lock different blocks in different rounds, and one that proposes what had a polka.

        The rare lines about locks are carried out here; in worlds with everything, rounds fail before anybody locks.
        """
        size = dice.choice((4, 4, 7))
        return cls(
            powers=(1,) * size,
            liars=dict.fromkeys(range((size - 1) // 3), frozenset({"old_polka", "amnesia", "two_votes"})),
            contested=True,
            crash=dice.choice((0.0, 0.02)),
            load=1.0,
            chaos_ms=CONTESTED_MS,
            chaos_heights=CONTESTED_HEIGHTS,
        )


def _drawn_liars(dice: random.Random, powers: tuple[int, ...]) -> dict[int, frozenset[str]]:
    """Some validators below 1/3 of the power, each with a few tricks or a twin; in a third of the worlds nobody."""
    liars: dict[int, frozenset[str]] = {}
    if dice.random() < 0.33:
        return liars
    numbers = list(range(len(powers)))
    dice.shuffle(numbers)
    lying = 0
    for number in numbers:
        if 3 * (lying + powers[number]) < sum(powers):
            lying += powers[number]
            tricks = (TWINS,) if dice.random() < 0.2 else dice.sample(TRICKS, dice.randint(1, 5))
            liars[number] = frozenset(tricks)
    return liars
