"""Lives of a node, and what it does to its disk in them: it decides, joins, hears of lies, learns of peers."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from consensus.signing import public_key
from devnet.simulated_disk import Moment, Watching
from node import evidence_gossip, wal
from node.snapshot_messages import StateEntries
from node.sync_messages import SyncMessage, SyncQuestion
from node.trust_root import TrustRoot
from p2p import network
from p2p.address import PeerAddress
from tests.node.small_net import seed
from tests.node.test_evidence import charges, lie, power
from tests.worlds.power import PowerNet

HEARTBEAT_MS = 500
HEIGHTS = 6
NEWCOMER = 4
WAYS = ("snapshot", "blocks", "forged snapshot")
"""In which a newcomer joins; of the last it begins to take, and then executes all blocks."""
VALIDATORS = (0, 1, 2, 3)
LIARS_MAX = 6
SAVE_SECONDS = 2.0


def begins_its_log_anew(patch: pytest.MonkeyPatch) -> None:
    """Often, so that those steps happen too."""
    patch.setattr(wal, "REWRITE_BYTES", 6_000)


async def moments_of_living(
    folder: Path, *, validators: int, second: bool, watch: Watching | None = None
) -> Counter[Moment]:
    """What engine 0 did to its disk while it lived for some heights; *second*: after it had lived before."""
    net = PowerNet(folder, Random(0), validators=validators, heartbeat_ms=HEARTBEAT_MS)
    async with trio.open_nursery() as nursery:
        if second:
            await net.start(nursery)
            await net.height(2)
            await net.kill(0)
        net.watches[0] = watch = watch or Watching()
        await net.start(nursery, *((0,) if second else range(validators)))
        await net.height(net.engines[0].store.height + 4)
        counts = Counter(watch.counts)  # what follows belongs to an orderly end
        nursery.cancel_scope.cancel()
    return counts


@asynccontextmanager
async def joined(folder: Path, way: str, patch: pytest.MonkeyPatch) -> AsyncIterator[tuple[PowerNet, trio.Nursery]]:
    """Four validators that have decided `HEIGHTS` and rest; a fifth engine, which never ran, would join by *way*."""
    net = PowerNet(folder, Random(0), full_nodes=1, heartbeat_ms=4_000_000, snapshot_interval_blocks=4)
    async with trio.open_nursery() as nursery:
        await net.start(nursery, *VALIDATORS)
        for height in range(1, HEIGHTS + 1):
            await net.sets(0, height, height)
            await net.height(height)
        net.trust_roots[NEWCOMER] = TrustRoot(HEIGHTS, net.engines[0].store.header(HEIGHTS).id)
        net.sync_mode = "blocks" if way == "blocks" else "auto"
        if way == "forged snapshot":
            for number in VALIDATORS:
                _forge(net, number, patch)
        yield net, nursery
        nursery.cancel_scope.cancel()


def _forge(net: PowerNet, number: int, patch: pytest.MonkeyPatch) -> None:
    server = net.engines[number]._sync.server
    honest = server.answer

    async def answer(question: SyncQuestion) -> SyncMessage:
        said = await honest(question)
        if not isinstance(said, StateEntries):
            return said
        return StateEntries(tuple((key, value + b"!") for key, value in said.entries))

    patch.setattr(server, "answer", answer)


async def joins(net: PowerNet, nursery: trio.Nursery) -> None:
    """The newcomer has what the others have."""
    await net.start(nursery, NEWCOMER)
    await net.height(HEIGHTS, NEWCOMER, within_s=600)
    assert net.registers(NEWCOMER) == net.registers(0)
    net.engines[NEWCOMER].store.check_state()


def forgets(net: PowerNet) -> None:
    """The newcomer, which does not run, has never run."""
    shutil.rmtree(net.folder / f"node{NEWCOMER}", ignore_errors=True)


async def moments_of_joining(net: PowerNet, nursery: trio.Nursery, watch: Watching | None = None) -> Counter[Moment]:
    """What the newcomer did to its disk until it had all heights."""
    net.watches[NEWCOMER] = watch = watch or Watching()
    await joins(net, nursery)
    counts = Counter(watch.counts)
    await net.kill(NEWCOMER)
    return counts


@asynccontextmanager
async def slandered(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[tuple[PowerNet, trio.Nursery]]:
    """Four validators that save often what they know of peers; others, which do not run, have voted twice."""
    patch.setattr(network, "SAVE_SECONDS", SAVE_SECONDS)
    powers = (10,) * len(VALIDATORS) + (1,) * LIARS_MAX
    net = PowerNet(folder, Random(0), validators=len(powers), powers=powers, heartbeat_ms=2_000)
    async with trio.open_nursery() as nursery:
        await net.start(nursery, *VALIDATORS)
        await net.height(2)
        await hears(net, None)  # so that there is something to read for the next life
        await trio.sleep(2 * SAVE_SECONDS)
        yield net, nursery
        nursery.cancel_scope.cancel()


async def hears(net: PowerNet, liar: int | None) -> None:
    """Engine 0, if it is there, knows a new peer and its faults, and was told by engine 1 of a lie of *liar*."""
    known = public_key(seed("node", 0))
    while known not in net.engines[1].network.peers:
        if net.disks[0].is_cut:
            return
        await trio.sleep(0.1)
    if liar is not None:
        charge = evidence_gossip.to_wire(charges(lie(liar, height=1)))
        net.engines[1].network.peers[known].offer(evidence_gossip.CHANNEL.id, charge)
    stranger = public_key(seed("stranger", net.engines[1].store.height))
    net.engines[0].network.book.add(PeerAddress.parse(f"{stranger.hex()}@stranger:1000"))
    net.engines[0].network.scores.penalise(stranger, "noise", 1, trio.current_time())


async def convicts(net: PowerNet, liar: int) -> None:
    """Validator *liar* has no power on any engine, and nothing waits any more."""
    with trio.fail_after(120):
        while any(power(engine, liar) or len(engine.evidence) for engine in net.engines.values()):
            await net.height(max(engine.store.height for engine in net.engines.values()) + 1)


async def moments_of_hearing(net: PowerNet, nursery: trio.Nursery, watch: Watching | None = None) -> Counter[Moment]:
    """What engine 0 did to its disk in a life in which it heard of a lie, and saved what it knew of peers."""
    await net.kill(0)
    net.watches[0] = watch = watch or Watching()
    await net.start(nursery, 0)
    await hears(net, len(VALIDATORS))
    await convicts(net, len(VALIDATORS))
    await trio.sleep(2 * SAVE_SECONDS)
    return Counter(watch.counts)
