"""The benchmark: how many signed transfers a network on this machine decides, what each costs, and how long it takes.

Nodes run in their default configuration: fsync, logs and indexes on. The unit of cost is one Ed25519 verification,
because seconds drift with the machine and this figure does not.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from devnet import fleet, homes, load, measure, profiled, record
from devnet.batches import Signed
from devnet.facts import wait_until_ready
from devnet.follow import Disagreement, Follower, heights_of
from devnet.http import Connection
from devnet.ledger import Ledger
from devnet.processes import Process
from devnet.record import Devnet
from devnet.workload import Workload, first_answer

Tell = Callable[[str], None]

VERIFY_DRIFT_MAX = 0.15
"""A machine whose speed changed by more while we measured has measured nothing."""
WIRE_FAMILIES = ("allting_p2p_sent_bytes_total",)
DUPLICATE_FAMILIES = ("allting_mempool_duplicates_total",)
VALID_MS = 3_600_000
SIGNED_SHARE = 1.0
"""Of the theoretical limit, for the transfers that are signed before a run: nothing decides more."""
DRAIN_SECONDS = 60.0
SHARES = {"quarter": 0.25, "half": 0.5, "three_quarters": 0.75}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    validators: int = 4
    preset: str = "TINY"
    accounts: int = 10_000
    active: int = 1_000
    runs: int = 3
    seconds: float = 20.0
    """Of each run, after the warm-up."""
    warm_up_seconds: float = 4.0
    latency_seconds: float = 15.0
    """At each of the three loads."""
    empty_seconds: float = 10.0
    window: int = 4_000
    """Transactions open at any moment of a run: enough to keep every node busy."""
    profile: Path | None = None
    """Where to write a profile of node 0, made in a run more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run at full load."""

    tx_per_s: float
    cpu_us_per_tx_and_node: float
    cpu_share: float
    """Of all cores, used by the nodes."""
    others_cpu_share: float
    """Of all cores, used neither by the nodes nor by the load. If not small: others were measured, too."""
    blocks: int
    refused: int
    """Transfers with another result than success; must be 0."""
    rss_mib: float
    wire_bytes_per_tx: float | None
    duplicates_per_tx: float | None


def bench(directory: Path, plan: Plan, tell: Tell) -> dict[str, Any]:
    """Everything that ``bench --json`` prints. *directory* must not exist; devnets live there meanwhile."""
    verify = [_unit(plan)]
    tell(f"{verify[0]:.0f} verifications per second of one core, {measure.cores()} cores")
    count = int(SIGNED_SHARE * limit_tx_per_s(verify[0], plan.validators) * (plan.seconds + plan.warm_up_seconds))
    runs: list[Run] = []
    latencies: dict[str, Any] = {}
    blocks_per_s = 0.0
    for number in range(plan.runs):
        with _network(directory, plan, tell) as net:
            transactions = _signed(net, plan, count, tell)
            trio.run(wait_until_ready, net.nodes)
            runs.append(trio.run(_full_load, net, plan, transactions))
            tell(f"run {number + 1} of {plan.runs}: {runs[-1].tx_per_s:.0f} tx/s")
            if number == plan.runs - 1:
                latencies = _latencies(net, plan, statistics.median(run.tx_per_s for run in runs), tell)
                blocks_per_s = trio.run(_nearly_empty, net, plan)
        verify.append(_unit(plan))
    if plan.profile is not None:
        _profiled_run(directory, plan, plan.profile, count, tell)
    return _figures(plan, verify, runs, latencies, blocks_per_s)


def _unit(plan: Plan) -> float:
    """Verifications a second, looked at for less time where the runs are short."""
    return measure.verify_per_s(
        rest_seconds=min(measure.REST_SECONDS, plan.seconds / 5),
        slice_seconds=min(measure.SLICE_SECONDS, plan.seconds / 60),
    )


def _profiled_run(directory: Path, plan: Plan, file: Path, count: int, tell: Tell) -> None:
    """One run more, which counts for nothing: where node 0 spends its CPU stands in *file*."""
    tell("one run more, for the profile")
    with _network(directory, plan, tell, profile=file) as net:
        transactions = _signed(net, plan, count, tell)
        trio.run(wait_until_ready, net.nodes)
        trio.run(functools.partial(_full_load, net, plan, transactions, sampled=net.nodes[0].process))


def limit_tx_per_s(verify_per_s: float, nodes: int) -> float:
    """What *nodes* on this machine could decide if they did nothing but verify each signature once."""
    return measure.cores() * verify_per_s / nodes


@contextmanager
def _network(directory: Path, plan: Plan, tell: Tell, *, profile: Path | None = None) -> Iterator[Devnet]:
    tell(f"starting {plan.validators} nodes with {plan.accounts} accounts …")
    net = homes.create(
        directory, homes.Plan(validators=plan.validators, preset=plan.preset, load_accounts=plan.accounts)
    )
    record.save(net)
    try:
        for node in net.nodes:
            under = profile if node.number == 0 else None
            net = fleet.start_node(net, node.number, profile=under)
        yield net
    finally:
        fleet.down(record.load(directory))
        shutil.rmtree(directory)


def _signed(net: Devnet, plan: Plan, count: int, tell: Tell) -> Iterator[Signed]:
    """Transfers from nonce 0 on, of which *count* are signed before anything is measured.

    More are signed as they are sent: so many are decided only if the machine was busy when its limit was taken, and
    then the figures are void.
    """
    tell(f"signing {count} transfers …")
    workload = Workload.of(net, active=plan.active)
    valid_until_ms = time.time_ns() // 1_000_000 + VALID_MS
    transfers = workload.signed(sys.maxsize, nonces=[0] * len(workload.accounts), valid_until_ms=valid_until_ms)
    return itertools.chain(list(itertools.islice(transfers, count)), transfers)


async def _full_load(net: Devnet, plan: Plan, transactions: Iterator[Signed], *, sampled: Process | None = None) -> Run:
    """One run: warm-up, measurement, draining. *sampled* is a node under the profiler, which looks while we measure."""
    ledger = Ledger()
    watched = net.nodes[0].rpc
    first = (await heights_of([watched]))[watched] + 1
    follower = Follower(first, lambda block: ledger.block(block, now=trio.current_time()), with_results=False)
    sender = load.Sender(ledger, [node.rpc for node in net.nodes])
    sending = trio.CancelScope()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.follow, watched)
            nursery.start_soon(sender.resend, nursery)
            nursery.start_soon(_send_within, sending, sender, nursery, transactions, plan.window)
            await trio.sleep(plan.warm_up_seconds)  # the load goes on meanwhile, unmeasured
            start = await _moment(net, ledger, follower)
            if sampled is not None:
                sampled.send_signal(profiled.START)
            await trio.sleep(plan.seconds)  # the measured window
            if sampled is not None:
                sampled.send_signal(profiled.STOP)
            end = await _moment(net, ledger, follower)
            sending.cancel()
            rss = measure.rss_mib(net)
            with trio.fail_after(DRAIN_SECONDS):
                await load.all_decided(ledger)
            nursery.cancel_scope.cancel()
    except* Disagreement as group:
        raise group.exceptions[0] from None
    finally:
        await sender.close()
    # Only now: to show each result costs the node more than a client that counts would ask of it.
    refused = await _refused(watched, first, follower.next_height)
    return _run(start, end, refused=refused, rss_mib=rss, nodes=len(net.nodes))


async def _send_within(
    scope: trio.CancelScope, sender: load.Sender, nursery: trio.Nursery, transactions: Iterator[Signed], window: int
) -> None:
    """Keeps *window* transactions open until *scope* is cancelled; deliveries under way go on in *nursery*."""
    with scope:
        await load.up_to(sender, nursery, transactions, window)


@dataclass(frozen=True, slots=True)
class _Moment:
    """Readings of one instant."""

    seconds: float
    cpu_seconds: float
    """Of the nodes."""
    others_cpu_seconds: float
    """Of the machine, without nodes and load."""
    committed: int
    height: int
    counters: dict[str, float]


async def _moment(net: Devnet, ledger: Ledger, follower: Follower) -> _Moment:
    counters = await measure.counters(net)
    cpu = sum(measure.cpu_seconds(net))
    others = measure.machine_cpu_seconds() - cpu - measure.own_cpu_seconds()
    return _Moment(trio.current_time(), cpu, others, len(ledger.latencies_ms), follower.next_height, counters)


async def _refused(url: str, first: int, stop: int) -> int:
    """How many transactions of the blocks *first* … *stop* - 1 have another result than success."""
    count = 0
    async with Connection(url, timeout_seconds=30.0) as connection:
        for height in range(first, stop):
            results = await connection.call("block_results", height=height)
            count += sum(1 for result in results["transactions"] if result["code"])
    return count


def _run(start: _Moment, end: _Moment, *, refused: int, rss_mib: float, nodes: int) -> Run:
    seconds = end.seconds - start.seconds
    committed = end.committed - start.committed
    if not committed:
        raise RuntimeError("nothing was decided in the whole run; look at the nodes' logs")
    cpu = end.cpu_seconds - start.cpu_seconds

    def per_transaction(families: Sequence[str]) -> float | None:
        growth = measure.grown(start.counters, end.counters, families)
        return None if growth is None else round(growth / committed, 3)

    return Run(
        tx_per_s=round(committed / seconds, 1),
        cpu_us_per_tx_and_node=round(cpu / committed / nodes * 1e6, 1),
        cpu_share=round(cpu / seconds / measure.cores(), 3),
        others_cpu_share=round((end.others_cpu_seconds - start.others_cpu_seconds) / seconds / measure.cores(), 3),
        blocks=end.height - start.height,
        refused=refused,
        rss_mib=round(rss_mib, 1),
        wire_bytes_per_tx=per_transaction(WIRE_FAMILIES),
        duplicates_per_tx=per_transaction(DUPLICATE_FAMILIES),
    )


def _latencies(net: Devnet, plan: Plan, tx_per_s: float, tell: Tell) -> dict[str, Any]:
    """The books of an open-loop load at each of `SHARES` of *tx_per_s*."""
    books: dict[str, Any] = {}
    for name, share in SHARES.items():
        rate = max(1.0, tx_per_s * share)
        tell(f"latency at {rate:.0f} tx/s …")
        load_plan = load.Plan(rate=rate, seconds=plan.latency_seconds, active=plan.active, with_results=False)
        books[name] = trio.run(functools.partial(load.run, net, load_plan))
    return books


async def _nearly_empty(net: Devnet, plan: Plan) -> float:
    """Blocks per second while there is never more than one transfer to decide."""
    workload = Workload.of(net, active=1)
    nonces = await first_answer(net, workload)
    valid_until_ms = time.time_ns() // 1_000_000 + VALID_MS
    ledger = Ledger()
    watched = net.nodes[0].rpc
    follower = Follower(
        (await heights_of([watched]))[watched] + 1,
        lambda block: ledger.block(block, now=trio.current_time()),
        poll_seconds=0.005,
    )
    sender = load.Sender(ledger, [node.rpc for node in net.nodes])
    transfers = workload.signed(int(plan.empty_seconds * 100), nonces=nonces, valid_until_ms=valid_until_ms)
    started, first = trio.current_time(), follower.next_height
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.follow, watched)
        with trio.move_on_after(plan.empty_seconds):
            await load.up_to(sender, nursery, transfers, 1)
        nursery.cancel_scope.cancel()
    await sender.close()
    return (follower.next_height - first) / (trio.current_time() - started)


def _figures(
    plan: Plan, verify: Sequence[float], runs: Sequence[Run], latencies: dict[str, Any], blocks_per_s: float
) -> dict[str, Any]:
    """*verify* has one reading more than there are runs: each run is told in the unit of the readings around it."""
    before, after = verify[0], verify[-1]
    units = [statistics.mean(around) for around in itertools.pairwise(verify)]
    costs = [run.cpu_us_per_tx_and_node * unit / 1e6 for run, unit in zip(runs, units, strict=True)]
    mean = statistics.mean(verify)
    median = _median_run(runs)
    limit = limit_tx_per_s(mean, plan.validators)
    return {
        "verify_per_s": round(mean),
        "verify_per_s_readings": [round(reading) for reading in verify],
        "void": abs(before - after) > VERIFY_DRIFT_MAX * max(before, after),
        "cores": measure.cores(),
        "nodes": plan.validators,
        "limit_tx_per_s": round(limit, 1),
        "tx_per_s": median.tx_per_s,
        "ratio": round(median.tx_per_s / limit, 3),
        "cpu_per_tx_verifies": round(statistics.median(costs), 2),
        "latency_ms": {
            rank: {name: books["latency_ms"][rank] for name, books in latencies.items()} for rank in ("p50", "p99")
        },
        "blocks_per_s": round(blocks_per_s, 2),
        "rss_mib": _typical(runs, "rss_mib"),
        "wire_bytes_per_tx": median.wire_bytes_per_tx,
        "duplicates_per_tx": median.duplicates_per_tx,
        "runs": [
            {**dataclasses.asdict(run), "cpu_per_tx_verifies": round(cost, 2)}
            for run, cost in zip(runs, costs, strict=True)
        ],
        "loads": latencies,
    }


def _median_run(runs: Sequence[Run]) -> Run:
    """The run with the median rate (the lower one of two)."""
    return sorted(runs, key=lambda run: run.tx_per_s)[(len(runs) - 1) // 2]


def _typical(runs: Sequence[Run], name: str) -> float:
    return float(statistics.median(getattr(run, name) for run in runs))
