"""What a seed decides before a node world begins: who there is, how good the network is, and what may go wrong."""

from __future__ import annotations

import random
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
CLOCK_FAULTS = ("clock_skew", "clock_drift", "clock_jump")
TOWN_CHANGES = ("power_change", "validator_leaves", "validator_joins", "params_change")
ALL = (*NETWORK_FAULTS, *PROCESS_FAULTS, *CLOCK_FAULTS, *TOWN_CHANGES)
"""In the order in which they are drawn and begun."""
FAULTS = frozenset(ALL)


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
    exchange: bool
    """Whether nodes find each other through a few of them, instead of knowing all."""

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The world of *seed*: a random subset of faults, so that rare ones meet without the common ones' noise."""
        dice = random.Random(f"plan/{seed}")
        size = dice.choice((3, 4, 4, 4, 4, 5))
        even = dice.random() < 0.6
        share = dice.choice((0.1, 0.25, 0.5))
        return cls(
            seed=seed,
            powers=tuple(10 if even else dice.randint(8, 12) for _ in range(size)),
            full_nodes=dice.choice((0, 1, 1, 2)),
            latency_max_s=dice.choice((0.005, 0.03, 0.1)),
            load_interval_s=dice.choice((0.1, 0.3, 1.0)),
            faults=frozenset(fault for fault in ALL if dice.random() < share),
            exchange=dice.random() < 0.2,
        )

    @property
    def size(self) -> int:
        """All nodes."""
        return len(self.powers) + self.full_nodes
