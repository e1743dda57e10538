"""An idle chain makes no blocks; a new devnet is woken by small transfers until it has shown that it decides."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from devnet.batches import broadcast
from devnet.follow import heights_of
from devnet.http import Connection, Refusal, Unreachable
from devnet.record import Devnet
from devnet.workload import Workload
from node.genesis import GenesisFile

SOON_MS = 5_000
"""A chain whose heartbeat is not longer than this wakes by itself."""
VALID_MS = 600_000
PATIENCE_SECONDS = 1.0
"""How long a transfer may take before the next one is tried: while peers still meet, one may wait in a pool."""


def sleeps(devnet: Devnet) -> bool:
    """Whether *devnet* would stay at height 0 for long."""
    genesis = GenesisFile.load(Path(devnet.nodes[0].home) / "genesis.toml")
    return genesis.params.heartbeat_ms > SOON_MS and devnet.load_accounts > 0


async def wake(devnet: Devnet, *, height: int) -> None:
    """Sends one transfer after the other to the first node until it has decided *height*."""
    workload = Workload.of(devnet, active=1)
    url = devnet.nodes[0].rpc
    async with Connection(url) as connection:
        while True:
            reached = (await heights_of([url])).get(url)
            if reached is not None and reached >= height:
                return
            if reached is not None:
                await _transfer(connection, workload)
                await _beyond(url, reached)
            else:
                await trio.sleep(0.1)


async def _transfer(connection: Connection, workload: Workload) -> None:
    valid_until_ms = time.time_ns() // 1_000_000 + VALID_MS
    try:
        nonces = await workload.nonces(connection)
        await broadcast(connection, list(workload.signed(1, nonces=nonces, valid_until_ms=valid_until_ms)))
    except (Unreachable, Refusal):
        await trio.sleep(0.1)  # it has only just started


async def _beyond(url: str, height: int) -> None:
    with trio.move_on_after(PATIENCE_SECONDS):
        while (await heights_of([url])).get(url, 0) <= height:  # noqa: ASYNC110 - another process decides
            await trio.sleep(0.05)
