"""How long it takes to join a long chain, by snapshot and by blocks, and how large that is; liars in every third run.

A chain of so many blocks is made by one process (`devnet.grow`), three nodes serve it, and newcomers join with a link's
trust root, one after another, on their default configuration.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from consensus.transaction import Transaction
from devnet import fleet, homes, measure
from devnet.accounts import Transfer, sign_transfer
from devnet.facts import wait_until_ready
from devnet.fleet import StartFailed
from devnet.grow import Grower
from devnet.ports import free_ports
from devnet.processes import Process, start
from devnet.record import Devnet, Node
from devnet.workload import FEE, Workload
from node.applications import application_for
from node.config import Config, LogConfig, P2pConfig, RpcConfig, SyncConfig
from node.engine import write_genesis
from node.genesis import GenesisFile
from node.home import Home
from node.keys import KeyFile
from node.store import Store
from node.trust_root import TrustRoot

Tell = Callable[[str], None]

SERVERS = 3
LIARS = {1: "forging", 2: "stalling"}
"""Numbers of the servers that lie in every third run."""
LIE_EVERY = 3
ROOT_BELOW = 5
"""The link vouches for a block so far below the latest."""
WAIT_MS = 1_000
"""Block time between two blocks."""
SENDERS = 1_000
JOIN_SECONDS = 3_600.0
WAYS = {"snapshot": "auto", "blocks": "blocks"}
SENT = ("allting_p2p_sent_bytes_total",)
VALID_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    blocks: int = 20_000
    transfers: int = 2
    """In each block."""
    accounts: int = 10_000
    """That the genesis funds: the size of the state."""
    runs: int = 3
    """Of each way."""
    ways: tuple[str, ...] = tuple(WAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """One newcomer."""

    way: str
    liars: int
    """Of the three peers."""
    seconds: float
    """From its start until it stood at the latest height."""
    cpu_seconds: float
    received_mib: float
    """What the peers sent it."""
    disk_mib: float
    """Its chain folder afterwards."""
    began_at: int
    """The height of the snapshot; 0: all blocks were executed."""


def bench(directory: Path, plan: Plan, tell: Tell) -> dict[str, Any]:
    """Everything that ``bench-join --json`` prints. *directory* must not exist; chain and nodes live there."""
    started = time.monotonic()
    net = homes.create(
        directory,
        homes.Plan(load_accounts=plan.accounts, time_ms=time.time_ns() // 1_000_000 - (plan.blocks + 60) * WAIT_MS),
    )
    try:
        root = trio.run(_grow, net, plan, tell)
        grown_seconds = time.monotonic() - started
        source = Home(Path(net.nodes[0].home)).chain
        size = _disk_bytes(source)
        tell(f"{plan.blocks} blocks, {size / 2**20:.0f} MiB, made in {grown_seconds:.0f} s")
        for node in net.nodes[:SERVERS]:
            home = Home(Path(node.home))
            home.validator_key.unlink()
            if not home.chain.exists():
                shutil.copytree(source, home.chain)
        joins = []
        for number in range(plan.runs):
            for way in plan.ways:
                joins.append(_run(net, plan, root, way=way, lies=number % LIE_EVERY == LIE_EVERY - 1, tell=tell))
        return _figures(plan, grown_seconds, size, joins)
    finally:
        shutil.rmtree(directory)


async def _grow(net: Devnet, plan: Plan, tell: Tell) -> TrustRoot:
    """Node 0's store holds the chain; returned: what a link of its vouches for."""
    home = Home(Path(net.nodes[0].home))
    genesis = GenesisFile.load(home.genesis)
    app = application_for(genesis)
    seeds = [KeyFile.load(Home(Path(node.home)).validator_key, kind="validator").unlock() for node in net.nodes]
    home.data.mkdir(parents=True, exist_ok=True)
    store = Store.open(home.chain, inline=True)
    try:
        write_genesis(store, genesis, app)
        grower = Grower(store, app, seeds)
        transfers = _transfers(net, plan)
        for height in range(1, plan.blocks + 1):
            await grower.block([next(transfers) for _ in range(plan.transfers)], wait_ms=WAIT_MS)
            if height % 1_000 == 0:
                tell(f"{height} of {plan.blocks} blocks made")
        height = max(1, plan.blocks - ROOT_BELOW)
        return TrustRoot(height, store.header(height).id)
    finally:
        store.close()


def _transfers(net: Devnet, plan: Plan) -> Iterator[Transaction]:
    accounts = Workload.of(net, active=min(SENDERS, plan.accounts)).accounts
    valid_until_ms = time.time_ns() // 1_000_000 + VALID_MS
    size = len(accounts)
    for number in range(plan.blocks * plan.transfers):
        sender, turn = number % size, number // size
        transfer = Transfer(
            sender=accounts[sender], to=accounts[(sender + 1 + turn * 7) % size].address, nonce=turn, amount=1
        )
        raw = sign_transfer(transfer, chain_id=net.chain_id, valid_until_ms=valid_until_ms, fee=FEE)
        yield Transaction.decode(raw)


def _run(net: Devnet, plan: Plan, root: TrustRoot, *, way: str, lies: bool, tell: Tell) -> Join:
    with _serving(net, LIARS if lies else {}) as servers:
        trio.run(functools.partial(wait_until_ready, servers.nodes, height=plan.blocks))
        join = trio.run(_join, servers, plan, root, way)
    join = dataclasses.replace(join, liars=len(LIARS) if lies else 0)
    liars = f", {join.liars} of {SERVERS} peers lying" if lies else ""
    tell(
        f"by {way}{liars}: {join.seconds:.1f} s, {join.received_mib:.1f} MiB received, {join.disk_mib:.1f} MiB on disk"
    )
    return join


@contextmanager
def _serving(net: Devnet, liars: dict[int, str]) -> Iterator[Devnet]:
    """The three nodes run."""
    nodes: list[Node] = []
    try:
        for node in net.nodes[:SERVERS]:
            kind = liars.get(node.number)
            command = fleet.node_command(node)
            if kind is not None:
                command = [sys.executable, "-m", "devnet.lying_peer", node.home, kind]
            process = start(command, environment=fleet.environment_of(node.number), log=node.log)
            nodes.append(dataclasses.replace(node, process=process))
        yield dataclasses.replace(net, nodes=tuple(nodes))
    finally:
        for node in nodes:
            if node.process is not None:
                node.process.stop()


async def _join(servers: Devnet, plan: Plan, root: TrustRoot, way: str) -> Join:
    node = _newcomer(servers, root, WAYS[way])
    before = await measure.counters(servers)
    started = time.monotonic()
    process: Process = start(fleet.node_command(node), environment=dict(os.environ), log=node.log)
    node = dataclasses.replace(node, process=process)
    try:
        await wait_until_ready([node], height=plan.blocks, seconds=JOIN_SECONDS)
        seconds = time.monotonic() - started
        cpu = process.cpu_seconds()
        sent = measure.grown(before, await measure.counters(servers), SENT) or 0.0
    finally:
        process.stop()
    home = Home(Path(node.home))
    join = Join(
        way=way,
        liars=0,
        seconds=round(seconds, 2),
        cpu_seconds=round(cpu, 2),
        received_mib=round(sent / 2**20, 2),
        disk_mib=round(_disk_bytes(home.chain) / 2**20, 2),
        began_at=_began_at(node.log),
    )
    shutil.rmtree(home.path)
    return join


def _newcomer(servers: Devnet, root: TrustRoot, mode: str) -> Node:
    """A home such as ``allting join LINK`` makes."""
    home = Home(servers.directory / "node9")
    rpc, p2p = free_ports(2)
    key = KeyFile.create("node")
    key.write(home.node_key)
    home.genesis.write_bytes(Home(Path(servers.nodes[0].home)).genesis.read_bytes())
    root.write(home.trust_root)
    peers = tuple(f"{node.node_id}@{node.p2p}" for node in servers.nodes)
    Config(
        moniker="newcomer",
        p2p=P2pConfig(listen=f"127.0.0.1:{p2p}", persistent_peers=peers),
        rpc=RpcConfig(listen=f"127.0.0.1:{rpc}"),
        log=LogConfig(format="json"),
        sync=SyncConfig(mode=mode),
    ).write(home.config)
    return Node(
        name="node9",
        home=str(home.path),
        rpc=f"http://127.0.0.1:{rpc}",
        p2p=f"127.0.0.1:{p2p}",
        node_id=key.public_key.hex(),
    )


def _began_at(log: Path) -> int:
    """The height of the snapshot with which the node of *log* began. Raises StartFailed for a log that is none."""
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise StartFailed(f"{log}: {line[:200]}") from error
        if entry.get("event") == "snapshot_restored":
            return int(entry["height"])
    return 0


def _disk_bytes(folder: Path) -> int:
    """What the files in *folder* take on the disk (LMDB's are sparse)."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def _figures(plan: Plan, grown_seconds: float, size: int, joins: list[Join]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "height": plan.blocks,
        "transfers": plan.blocks * plan.transfers,
        "accounts": plan.accounts,
        "chain_mib": round(size / 2**20, 2),
        "made_in_seconds": round(grown_seconds, 1),
    }
    for way in plan.ways:
        for name, of in (("", 0), ("_with_liars", len(LIARS))):
            found = [join for join in joins if join.way == way and join.liars == of]
            if found:
                seconds = statistics.median(join.seconds for join in found)
                figures[f"{way}{name}"] = {
                    "seconds": seconds,
                    "ms_per_block": round(seconds / plan.blocks * 1_000, 3),
                    "received_mib": statistics.median(join.received_mib for join in found),
                    "disk_mib": statistics.median(join.disk_mib for join in found),
                }
    figures["runs"] = [dataclasses.asdict(join) for join in joins]
    return figures
