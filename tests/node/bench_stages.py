"""What each stage of a transfer costs in one node, in verifications: ``python -m tests.node.bench_stages``.

One process, a real store, pool and town, no network; signatures are taken for good. The unit is measured between the
stages, so that a machine that drifts drifts for both. Medians of slices (50 submissions, one block).
"""

from __future__ import annotations

import base64
import gc
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from consensus.block import Commit
from consensus.chain import ChainState
from consensus.signing import public_key, sign, verify
from devnet.homes import Plan, create
from devnet.workload import Workload
from node.applications import application_for
from node.engine import write_genesis
from node.execution import Executor
from node.genesis import GenesisFile
from node.mempool import Mempool, MempoolLimits
from node.node import GC_THRESHOLDS
from node.store import Store
from node.verifier import Item

TRANSFERS = 8_000
ACCOUNTS, ACTIVE = 10_000, 1_000
BATCH = 50
BLOCK_MAX = 1_000
UNIT_SLICE = 300


class _Trusting:
    """Takes every signature for good: the unit itself is not measured here."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()

    async def verify(self, items: Sequence[Item], *, urgent: bool = False) -> list[bool]:
        await trio.lowlevel.checkpoint()
        return [True] * len(items)


class _Clock:
    """CPU seconds by stage, and of single verifications."""

    def __init__(self) -> None:
        self.slices: defaultdict[str, list[float]] = defaultdict(list)
        self._key, self._message = public_key(bytes(32)), bytes(250)
        self._signature = sign(bytes(32), self._message)

    @contextmanager
    def stage(self, name: str, count: int) -> Iterator[None]:
        """What is done within belongs to *count* transactions at stage *name*."""
        started = time.process_time()
        yield
        self.slices[name].append((time.process_time() - started) / count)

    def unit(self) -> None:
        """Some verifications are measured."""
        with self.stage("verify", UNIT_SLICE):
            for _ in range(UNIT_SLICE):
                assert verify(self._key, self._message, self._signature)

    def report(self) -> Iterator[str]:
        """A line for each stage."""
        unit = statistics.median(self.slices["verify"])
        for name, slices in self.slices.items():
            cost = statistics.median(slices)
            yield f"{name:10s} {cost * 1e6:7.1f} µs {cost / unit:6.2f} verifications"


async def _measure(folder: Path) -> None:
    devnet = create(folder / "devnet", Plan(load_accounts=ACCOUNTS))
    genesis = GenesisFile.load(Path(devnet.nodes[0].home) / "genesis.toml")
    app, clock = application_for(genesis), _Clock()
    store = Store.open(folder / "chain", inline=True)
    write_genesis(store, genesis, app)
    workload = Workload.of(devnet, active=ACTIVE)
    valid_until_ms = _now_ms() + 3_600_000
    signed = workload.signed(TRANSFERS, nonces=[0] * ACTIVE, valid_until_ms=valid_until_ms)
    raws = [base64.b64decode(transfer.text) for transfer in signed]
    pool = Mempool(app, _Trusting(), MempoolLimits(), _now_ms)
    chain = store.chain_state()
    assert chain is not None
    pool.set_chain(store.state(), chain)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    for start in range(0, len(raws), BATCH):
        with clock.stage("submit", BATCH):
            await pool.submit(raws[start : start + BATCH], source=None)
        if start % (5 * BATCH) == 0:
            clock.unit()
    executor = Executor(app, store)
    while pool.count:
        chain = await _decide(clock, executor, store, pool, chain)
        clock.unit()
    store.close()
    sys.stdout.write("\n".join(clock.report()) + "\n")


async def _decide(clock: _Clock, executor: Executor, store: Store, pool: Mempool, parent: ChainState) -> ChainState:
    """One height: proposed, checked as another node would, and committed."""
    count = min(BLOCK_MAX, pool.count)
    with clock.stage("propose", count):
        executed = await executor.propose(
            parent,
            time_ms=max(_now_ms(), parent.time_ms + parent.params.block_delay_ms),
            proposer=parent.validators.addresses[0],
            last_commit=_commit(parent, parent.height, parent.block_id) if parent.height else None,
            reap=lambda bytes_max: pool.reap(time_ms=_now_ms(), bytes_max=bytes_max, count_max=BLOCK_MAX),
            drop=pool.drop,
            until=trio.current_time() + 60,
        )
    assert len(executed.transactions) == count, "blocks are full"
    with clock.stage("check", count):
        await executor.check(parent, executed.block, executed.transactions)
    decided = executed.decided_by(_commit(parent, parent.height + 1, executed.id))
    with clock.stage("commit", count):
        await store.commit(decided)
    with clock.stage("pool", count):
        pool.committed([transaction.id for transaction in executed.transactions])
        pool.set_chain(store.state(), executed.chain_state)
    return executed.chain_state


def _commit(parent: ChainState, height: int, block_id: bytes) -> Commit:
    """A commit without signatures, which nothing measured here looks at."""
    return Commit(height, 0, block_id, (None,) * len(parent.validators.validators))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        trio.run(_measure, Path(name))
