"""What a benchmark reads off the machine and the nodes: speed of one verification, CPU, memory, counters."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from consensus.signing import public_key, sha256, sign, verify
from devnet.http import Connection, Unreachable
from devnet.record import Devnet

REST_SECONDS = 3.0
"""Before a measurement: what just ended leaves work for the kernel, and hot cores run slower than rested ones."""
SLICES = 20
SLICE_SECONDS = 0.3
"""A neighbour on a shared machine spoils some slices; their median bears up to half of them."""
BATCH = 50
"""Verifications between two looks at the clock."""
MESSAGE_BYTES = 250
"""About what a transfer's sign-bytes are."""


def verify_per_s(*, rest_seconds: float = REST_SECONDS, slice_seconds: float = SLICE_SECONDS) -> float:
    """Ed25519 verifications per second of this process alone, as the nodes verify (libsodium through PyNaCl).

    The median of `SLICES` slices, after a rest.
    """
    seed = sha256(b"allting/devnet/verify")
    key, message = public_key(seed), bytes(MESSAGE_BYTES)
    signature = sign(seed, message)
    time.sleep(rest_seconds)
    rates = []
    for _ in range(SLICES):
        count = 0
        started = time.perf_counter()
        while (passed := time.perf_counter() - started) < slice_seconds:
            for _ in range(BATCH):
                assert verify(key, message, signature)
            count += BATCH
        rates.append(count / passed)
    return statistics.median(rates)


def cores() -> int:
    """CPUs that the scheduler lets us use."""
    return len(os.sched_getaffinity(0))


def cpu_seconds(devnet: Devnet) -> list[float]:
    """CPU used so far by each running node, with its helper processes."""
    return [node.process.cpu_seconds() for node in devnet.nodes if node.process is not None]


def machine_cpu_seconds() -> float:
    """CPU that the whole machine has used since its start, by whomever, interrupts included (proc(5), ``stat``)."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = (
        int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_cpu_seconds() -> float:
    """CPU that this process has used."""
    return time.process_time()


def rss_mib(devnet: Devnet) -> float:
    """Resident memory of the largest node, helper processes included."""
    sizes = [node.process.rss_bytes() for node in devnet.nodes if node.process is not None]
    return max(sizes, default=0) / 2**20


async def counters(devnet: Devnet) -> dict[str, float]:
    """Every metric of all nodes together: family and labels → sum. Nodes that don't answer count nothing."""
    total: dict[str, float] = {}
    for node in devnet.nodes:
        async with Connection(node.rpc) as connection:
            try:
                text = (await connection.get("/metrics")).decode()
            except Unreachable:
                continue
        for name, value in parse_metrics(text).items():
            total[name] = total.get(name, 0.0) + value
    return total


def parse_metrics(text: str) -> dict[str, float]:
    """Samples of Prometheus' text format (version 0.0.4): name with labels → value."""
    samples: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples


def grown(before: Mapping[str, float], after: Mapping[str, float], families: Sequence[str]) -> float | None:
    """How much the counters of *families* (any labels) grew together; None if none of them exists."""
    names = [name for name in after if name.partition("{")[0] in families]
    return sum(after[name] - before.get(name, 0.0) for name in names) if names else None
