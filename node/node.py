"""One running node: an engine and what it serves people with. One nursery is the node.

A failure in any part stops the whole with a reason; nothing goes on half alive.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import structlog
import trio

from consensus.application import Application
from node import log as node_log
from node.admin import Admin
from node.applications import application_for
from node.config import Config
from node.disk import DISK, Disk
from node.engine import Belongings, Engine, Surroundings, write_genesis
from node.evidence_pool import EvidencePool
from node.genesis import GenesisFile
from node.home import Home
from node.keys import KeyFile
from node.log import BoundedFile
from node.mempool import Outcome
from node.rpc.server import serve_rpc
from node.services import Services
from node.signer import Signer
from node.snapshot_start import begin_with_snapshot
from node.store import Store
from node.store_check import check_latest
from node.trust_root import read_trust_root
from node.wal import Wal

log = structlog.get_logger("node")

GC_THRESHOLDS = (50_000, 20, 50)
"""A node makes few cycles; frequent collections of a large heap cost more than they free (DESIGN §11)."""


async def run_node(
    home: Path, *, disk: Disk = DISK, task_status: trio.TaskStatus[Services] = trio.TASK_STATUS_IGNORED
) -> None:
    """The node of folder *home* runs until SIGINT or SIGTERM; started once it answers RPC.

    Raises what stopped it, with a text for people: BadConfig, BadGenesis, KeyFault, StoreInUse, PortInUse, …
    """
    folder = Home(home)
    config = Config.load(folder.config)
    with _logging(folder, config):
        await _run(folder, config, disk, task_status)


@contextmanager
def _logging(folder: Home, config: Config) -> Iterator[None]:
    """The log goes where the configuration says."""
    if not config.log.file:
        node_log.configure(format=config.log.format, level=config.log.level)
        yield
        return
    file = BoundedFile(folder.path / config.log.file, config.log.file_bytes_max, redirect=True)
    try:
        node_log.configure(format=config.log.format, level=config.log.level, stream=file)
        yield
    finally:
        file.give_back()


async def _run(folder: Home, config: Config, disk: Disk, task_status: trio.TaskStatus[Services]) -> None:
    genesis = GenesisFile.load(folder.genesis)
    app = application_for(genesis)
    with open_belongings(folder, config, genesis, app, disk=disk) as own:
        around = Surroundings(disk=disk)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_signal, nursery.cancel_scope)
            await begin_with_snapshot(own, app, around)
            engine = Engine(own, app, around)
            services = services_of(own, app, engine, around)
            await nursery.start(engine.run)
            url = await nursery.start(serve_rpc, services)
            await nursery.start(Admin(services, nursery.cancel_scope.cancel).serve)
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            log.info("node_started", moniker=config.moniker, chain=genesis.chain_id, height=own.store.height, rpc=url)
            task_status.started(services)


async def until_signal(scope: trio.CancelScope) -> None:
    """The process has been told to stop."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("node_stopping", signal=signal.Signals(number).name)
            scope.cancel()


@contextmanager
def open_belongings(
    folder: Home, config: Config, genesis: GenesisFile, app: Application, *, disk: Disk = DISK, inline: bool = False
) -> Iterator[Belongings]:
    """What the node owns on *disk*, open; closed at the end. An empty store has got the genesis.

    With *inline*, the store uses no thread (the simulator).
    """
    disk.make_folder(folder.data)
    disk.sync_folder(folder.path)  # before anything is signed: what was signed must not be lost with its folder
    node_seed = KeyFile.load(folder.node_key, kind="node").unlock()
    trust_root = read_trust_root(folder.trust_root)
    store = Store.open(folder.chain, map_bytes=config.store.map_bytes, inline=inline, disk=disk)
    try:
        # Before the genesis: a crash in between must leave a folder that still counts as fresh.
        signer = _open_signer(folder, genesis.chain_id, fresh=store.height < 0, disk=disk)
        try:
            write_genesis(store, genesis, app, folder.genesis_state)
            check_latest(store)
            wal = Wal.open(folder.wal, disk=disk)
            try:
                with closing(EvidencePool.open(folder.evidence, disk=disk)) as evidence:
                    yield Belongings(
                        home=folder,
                        config=config,
                        genesis=genesis,
                        node_seed=node_seed,
                        store=store,
                        evidence=evidence,
                        wal=wal,
                        signer=signer,
                        trust_root=trust_root,
                    )
            finally:
                wal.close()
        finally:
            if signer is not None:
                signer.close()
    finally:
        store.close()


def _open_signer(folder: Home, chain_id: str, *, fresh: bool, disk: Disk) -> Signer | None:
    """The signer of the validator key, if there is one; in a *fresh* folder it has signed nothing."""
    if not folder.validator_key.exists():
        return None
    seed = KeyFile.load(folder.validator_key, kind="validator").unlock()
    if fresh and not disk.exists(folder.last_sign):
        return Signer.create(seed, folder.last_sign, chain_id, disk=disk)
    return Signer.open(seed, folder.last_sign, chain_id, disk=disk)


def services_of(own: Belongings, app: Application, engine: Engine, around: Surroundings) -> Services:
    """What the RPC of the node that *engine* runs may look at and do."""

    async def submit(raws: Sequence[bytes]) -> list[Outcome]:
        return await engine.mempool.submit(raws, source=None)

    return Services(
        home=own.home.path,
        chain_id=own.genesis.chain_id,
        genesis=own.genesis,
        config=own.config,
        app=app,
        store=own.store,
        mempool=engine.mempool,
        evidence=own.evidence,
        divergences=engine.divergences,
        network=engine.network,
        heights=engine.heights,
        signer=own.signer,
        node_seed=own.node_seed,
        started_ms=around.now_ms(),
        now_ms=around.now_ms,
        consensus_status=engine.status,
        submit=submit,
    )
