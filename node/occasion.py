"""When a height that waits has something to decide (DESIGN §4): an idle chain makes no block but the heartbeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from consensus.chain import ChainState
from node.evidence_pool import EvidencePool
from node.mempool import Mempool

CLOCK_LOOK_S = 5.0
"""How often own clock is looked at while something waits for it: it may be set, or have stood while we slept."""


async def occasion(
    parent: ChainState, mempool: Mempool, evidence: EvidencePool, due_ms: int | None, now_ms: Callable[[], int]
) -> None:
    """The block delay after *parent* is over, and work or evidence waits, or *due_ms* or the heartbeat has come."""
    earliest_ms = parent.time_ms + parent.params.block_delay_ms
    while (left_s := _sleep_s(earliest_ms, now_ms)) > 0:  # noqa: ASYNC110  # a clock gives no sign
        await trio.sleep(left_s)
    latest_ms = parent.time_ms + parent.params.heartbeat_ms
    if due_ms is not None:
        latest_ms = min(latest_ms, due_ms)
    while (left_s := _sleep_s(latest_ms, now_ms)) > 0:
        with trio.move_on_after(left_s):
            await _first_of(mempool.wait_for_work, evidence.wait_for_work)
            return


async def _first_of(*waits: Callable[[], Awaitable[None]]) -> None:
    """One of *waits* has returned."""

    async def wait(one: Callable[[], Awaitable[None]]) -> None:
        await one()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for one in waits:
            nursery.start_soon(wait, one)


def _sleep_s(until_ms: int, now_ms: Callable[[], int]) -> float:
    return min((until_ms - now_ms()) / 1000, CLOCK_LOOK_S)
