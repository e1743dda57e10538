"""Node worlds: the real node, several times, in one process. See docs/simulation.md."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import trio

from devnet.sim.node_lines import LINES, counted_into
from devnet.sim.node_plan import FAULTS, Plan
from devnet.sim.node_scheduling import run_deterministically
from devnet.sim.node_trace import Trace
from devnet.sim.node_world import NodeWorld
from devnet.sim.outcome import Outcome, Tell

__all__ = ["FAULTS", "LINES", "run"]

MEMORY_DISK = Path("/dev/shm")
"""Where the stores of worlds lie, if the machine has it: the simulator decides what survives, not fsync."""


def run(seed: int, tell: Tell | None = None) -> Outcome:
    """The world of *seed*: `Depth.run`."""
    plan = Plan.of(seed)
    if tell is not None:
        tell(f"seed {seed}: {plan}")
    return outcome_of(plan, tell)


def outcome_of(plan: Plan, tell: Tell | None = None) -> Outcome:
    """The world of *plan* has passed; nothing of it is left on the disk."""
    folder = Path(tempfile.mkdtemp(prefix="allting-world-", dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None))
    lines: Counter[str] = Counter()

    async def live() -> tuple[NodeWorld, float]:
        world = NodeWorld(plan, folder, tell)
        with _logs_into(world.trace), counted_into(lines, lambda number: world.nodes[number].honest):
            await world.run()
        return world, trio.current_time()

    try:
        world, ended_s = run_deterministically(live, seed=plan.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(
        seed=plan.seed,
        heights=world.bottom or world.checker.height,
        rounds_above_0=world.checker.rounds_above_0,
        virtual_ms=round(ended_s * 1000),
        faults=dict(sorted(world.trace.counts.items())),
        lines=dict(sorted(lines.items())),
        hash=world.trace.hash,
        violation=str(world.violation) if world.violation is not None else None,
    )


@contextmanager
def _logs_into(trace: Trace) -> Iterator[None]:
    """What nodes log stands in the trace, and nowhere else."""

    def remark(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        node, what = event.pop("node", "?"), event.pop("event")
        trace.remark(f"node {node}: {what} " + " ".join(f"{key}={_shown(value)}" for key, value in event.items()))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, remark],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _shown(value: object) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else str(value)
