"""What a seed decides before a node world begins: who there is, how good the network is, and what may go wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

HEIGHTS_MIN = 20
"""A world that ends well has decided at least so many."""
FAULT_HEIGHTS = 16
"""So many are decided under faults, if the faults allow it; the rest after everything is healed."""

NETWORK_FAULTS = (
    "break",
    "cut",
    "one_way",
    "split",
    "swizzle",
    "flap",
    "slow_peer",
    "drop_message",
    "duplicate_message",
    "delay_message",
)
PROCESS_FAULTS = ("kill", "power_cut", "kill_all", "leave", "join_late")
DISK_FAULTS = ("crash_at_step", "crash_all_at_commit", "disk_error", "disk_full")
CLOCK_FAULTS = ("clock_skew", "clock_drift", "clock_jump")
TOWN_CHANGES = ("power_change", "validator_leaves", "validator_joins", "params_change")
ALL = (*NETWORK_FAULTS, *PROCESS_FAULTS, *DISK_FAULTS, *CLOCK_FAULTS, *TOWN_CHANGES)
"""In the order in which they are drawn and begun."""
TWIN = "lie_twin"
LIES = (
    "lie_two_votes",
    "lie_two_proposals",
    "lie_amnesia",
    "lie_withheld_proposal",
    "lie_withheld_bodies",
    "lie_bodies_until_polka",
    "lie_state_root",
    "lie_time",
    "lie_commit",
    "lie_too_large",
    "lie_repeated_transaction",
    "lie_late_vote",
    "lie_early_vote",
    "lie_stranger",
    "lie_height",
    "lie_sync",
    "lie_garbage",
    "lie_intruder",
    "lie_drip",
    TWIN,
)
"""What liars do; see `devnet.sim.node_liars`."""
JOINS = ("join_by_snapshot", "join_by_blocks")
"""How full nodes come to a chain that has begun."""
PROVED = "double_vote_proved"
"""An honest node can prove that a liar voted twice; then a block must convict it."""
FAULTS = frozenset((*ALL, *LIES, *JOINS, PROVED))
"""What must occur in a long run."""
POWER_LOW, POWER_HIGH = 10, 14
"""Powers of validators; a liar has the least, so that it stays below a third whatever the town decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One world, before anything happens in it."""

    seed: int
    powers: tuple[int, ...]
    """Of the validators of the genesis."""
    full_nodes: int
    """Nodes with a key that is no validator's at first."""
    latency_max_s: float
    load_interval_s: float
    """Mean pause between two transactions."""
    faults: frozenset[str]
    """Which of `ALL` may happen."""
    liars: Mapping[int, frozenset[str]]
    """Which nodes lie, and how; they hold less than a third of the power."""
    exchange: bool
    """Whether nodes find each other through a few of them, instead of knowing all."""
    split: tuple[tuple[int, ...], ...] = ()
    """Sides that can't reach each other while faults last, for worlds that are made by hand."""

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The world of *seed*: a random subset of faults, so that rare ones meet without the common ones' noise."""
        dice = random.Random(f"plan/{seed}")
        size = dice.choice((3, 4, 4, 4, 4, 5))
        even = dice.random() < 0.6
        share = dice.choice((0.1, 0.25, 0.5))
        powers = [POWER_LOW if even else dice.randint(POWER_LOW, POWER_HIGH) for _ in range(size)]
        full_nodes = dice.choice((0, 0, 1, 1, 2))
        liars: dict[int, frozenset[str]] = {}
        if dice.random() < 0.5 and size + full_nodes > 3:
            liar = (
                dice.randrange(size) if size > 3 else dice.randrange(size, size + full_nodes)
            )  # of three, one is a third
            some = dice.choice((0.1, 0.25, 0.5))
            liars[liar] = frozenset(lie for lie in LIES if dice.random() < some) or frozenset((dice.choice(LIES),))
            if liar < size:
                powers[liar] = POWER_LOW
        return cls(
            seed=seed,
            powers=tuple(powers),
            full_nodes=full_nodes,
            liars=liars,
            latency_max_s=dice.choice((0.005, 0.03, 0.1)),
            load_interval_s=dice.choice((0.2, 0.5, 1.0)),
            faults=frozenset(fault for fault in ALL if dice.random() < share),
            exchange=dice.random() < 0.2,
        )

    @property
    def size(self) -> int:
        """All nodes."""
        return len(self.powers) + self.full_nodes
