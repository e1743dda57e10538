"""One machine of a node world: what stays when its process is gone, and the process while there is one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import trio

from devnet.sim.node_clock import NodeClock
from devnet.simulated_disk import SimulatedDisk
from node.engine import Engine


@dataclass(eq=False)
class SimNode:
    """See above."""

    number: int
    folder: Path
    validator: int
    """Whose consensus key it has: its own number's, but for a twin."""
    lies: frozenset[str] = frozenset()
    clock: NodeClock = field(default_factory=NodeClock)
    disk: SimulatedDisk = field(default_factory=lambda: SimulatedDisk(random.Random(0)))
    """Of this life; another one at each start."""
    fuse: int | None = None
    """So many moments at the disk until the power is cut; None: it is not going to be."""
    refusing: int | None = None
    """The system's error with which the disk answers whoever wants to write."""
    was_refused: bool = False
    """Whether it did so in this life."""
    engine: Engine | None = None
    starts: int = 0
    joined: bool = True
    """Whether it belongs to the network now; who left may come back at the end."""
    newcomer: bool = False
    """Whether it comes to a chain that has begun, and does not stand anywhere in it yet."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    nursery: trio.Nursery | None = None
    stopped: trio.Event = field(default_factory=trio.Event)

    @property
    def honest(self) -> bool:
        """Whether it does what it should."""
        return not self.lies

    @property
    def host(self) -> str:
        """Its name on the network."""
        return f"node{self.number}"

    @property
    def is_running(self) -> bool:
        """Whether its process runs, or is starting."""
        return self.starts > 0 and not self.stopped.is_set()
