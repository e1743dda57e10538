"""One running node: everything is put together here, and one nursery is the node.

A failure in any part stops the whole with a reason; nothing goes on half alive.
"""

from __future__ import annotations

import gc
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import trio

from consensus.application import Application
from consensus.chain import ChainState, chain_changes
from consensus.vote import VoteKind
from node import consensus_messages, sync_messages, transaction_gossip
from node import log as node_log
from node.admin import serve_admin
from node.applications import application_for
from node.block_sync import BlockSync, TrustRoot
from node.config import Config
from node.consensus_driver import ConsensusDriver, NodeStopped
from node.consensus_gossip import ConsensusGossip
from node.execution import Executor
from node.files import write_atomically
from node.genesis import GenesisFile
from node.heights import Heights
from node.home import Home
from node.invite import Invite
from node.keys import KeyFile
from node.mempool import Mempool, MempoolLimits
from node.rpc.server import serve_rpc
from node.services import Services
from node.signer import Signer
from node.store import Store
from node.transaction_gossip import TransactionGossip
from node.verifier import new_verifier
from node.voice import Voice
from node.wal import Wal
from p2p.address import Endpoint, PeerAddress
from p2p.address_book import AddressBook
from p2p.handshake import Hello
from p2p.limits import Limits
from p2p.network import Network
from p2p.transport import TcpTransport, Transport

log = structlog.get_logger("node")

CHANNELS = (consensus_messages.CHANNEL, transaction_gossip.CHANNEL, sync_messages.CHANNEL)
GC_THRESHOLDS = (50_000, 20, 50)
"""A node makes few cycles; frequent collections of a large heap cost more than they free (DESIGN §11)."""


async def run_node(home: Path, *, task_status: trio.TaskStatus[Services] = trio.TASK_STATUS_IGNORED) -> None:
    """The node of folder *home* runs until SIGINT or SIGTERM; started once it answers RPC.

    Raises what stopped it, with a text for people: BadConfig, BadGenesis, KeyFault, StoreInUse, PortInUse, …
    """
    folder = Home(home)
    config = Config.load(folder.config)
    node_log.configure(format=config.log.format, level=config.log.level)
    genesis = GenesisFile.load(folder.genesis)
    app = application_for(genesis)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_signal, nursery.cancel_scope)
        async with open_node(folder, config, genesis, app) as node:
            services: Services = await nursery.start(node.run)
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            task_status.started(services)
            log.info("node_started", moniker=config.moniker, chain=genesis.chain_id, height=node.store.height)
            await trio.sleep_forever()


async def _until_signal(scope: trio.CancelScope) -> None:
    """The node has been told to stop."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("node_stopping", signal=signal.Signals(number).name)
            scope.cancel()


@asynccontextmanager
async def open_node(
    folder: Home,
    config: Config,
    genesis: GenesisFile,
    app: Application,
    *,
    transport: Transport | None = None,
) -> AsyncIterator[Node]:
    """The parts of a node, with its files open; closed at the end."""
    folder.data.mkdir(parents=True, exist_ok=True)
    node_seed = KeyFile.load(folder.node_key, kind="node").unlock()
    store = Store.open(folder.chain, map_bytes=config.store.map_bytes)
    try:
        fresh = prepare_store(store, genesis, app)
        signer = _open_signer(folder, genesis.chain_id, fresh=fresh)
        try:
            wal = Wal.open(folder.wal)
            try:
                yield Node(folder, config, genesis, app, store, wal, signer, node_seed, transport or TcpTransport())
            finally:
                wal.close()
        finally:
            if signer is not None:
                signer.close()
    finally:
        store.close()


def prepare_store(store: Store, genesis: GenesisFile, app: Application) -> bool:
    """The store holds this genesis and what followed from it. Returns whether it was empty. Raises NodeStopped."""
    stored = store.genesis_bytes() if store.height >= 0 else None
    if stored is not None:
        if stored != genesis.raw:
            raise NodeStopped(
                "the genesis file is not the one that this data folder began with; put the old file back, or start "
                "with an empty data folder"
            )
        return False
    try:
        first = app.genesis(genesis.town, chain_id=genesis.chain_id, time_ms=genesis.time_ms, params=genesis.params)
        chain = ChainState.genesis(
            chain_id=genesis.chain_id,
            genesis_hash=genesis.hash,
            time_ms=genesis.time_ms,
            validators=first.validators,
            params=genesis.params,
        )
    except ValueError as error:
        raise NodeStopped(f"the genesis can't begin a chain: {error}") from error
    changes = {**first.changes, "chain": chain_changes(None, chain)}
    store.write_genesis(genesis.raw, chain, changes, store.plan(changes, 0))
    return True


def _open_signer(folder: Home, chain_id: str, *, fresh: bool) -> Signer | None:
    """The signer of the validator key, if there is one; in a fresh folder it has signed nothing."""
    if not folder.validator_key.exists():
        return None
    seed = KeyFile.load(folder.validator_key, kind="validator").unlock()
    if fresh and not folder.last_sign.exists():
        return Signer.create(seed, folder.last_sign, chain_id)
    return Signer.open(seed, folder.last_sign, chain_id)


class Node:
    """The parts, and the nursery in which they run."""

    def __init__(
        self,
        folder: Home,
        config: Config,
        genesis: GenesisFile,
        app: Application,
        store: Store,
        wal: Wal,
        signer: Signer | None,
        node_seed: bytes,
        transport: Transport,
    ) -> None:
        self._folder = folder
        self._config = config
        self._genesis = genesis
        self._app = app
        self._signer = signer
        self._node_seed = node_seed
        self.store = store
        chain = store.chain_state()
        assert chain is not None, "prepare_store has written the genesis"
        self.heights = Heights(store.height)
        self._verifier = new_verifier(config.verify.processes)
        self.mempool = Mempool(app, self._verifier, _mempool_limits(config), _now_ms)
        self.mempool.set_chain(store.state(), chain)
        self.driver = ConsensusDriver(
            store=store,
            mempool=self.mempool,
            executor=Executor(app, store),
            wal=wal,
            voice=Voice(signer, wal),
            heights=self.heights,
            now_ms=_now_ms,
        )
        self._gossip = ConsensusGossip(
            chain_id=genesis.chain_id, driver=self.driver, mempool=self.mempool, store=store, now_ms=_now_ms
        )
        self._sync = BlockSync(
            chain_id=genesis.chain_id,
            store=store,
            mempool=self.mempool,
            driver=self.driver,
            gossip=self._gossip,
            trust_root=_trust_root(folder),
        )
        self._transactions = TransactionGossip(self.mempool)
        self.network = self._network(transport)
        if wal.cut_bytes:
            log.warning("log_tail_cut", bytes=wal.cut_bytes)

    async def run(self, *, task_status: trio.TaskStatus[Services] = trio.TASK_STATUS_IGNORED) -> None:
        """The node lives; started once it serves RPC. The first failure of a part ends all."""
        services = self._services()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._verifier.run)
            await nursery.start(self.driver.run)
            await nursery.start(self.network.run)
            await nursery.start(self._sync.run)
            await nursery.start(serve_rpc, services)
            await nursery.start(serve_admin, services)
            task_status.started(services)

    def _network(self, transport: Transport) -> Network:
        p2p = self._config.p2p
        book_file = self._folder.addresses
        return Network(
            seed=self._node_seed,
            hello=Hello(
                chain_id=self._genesis.chain_id,
                genesis_hash=self._genesis.hash,
                moniker=self._config.moniker,
                listen_address=p2p.external_address or None,
            ),
            channels=CHANNELS,
            services={
                "consensus": self._gossip.serve,
                "transactions": self._transactions.serve,
                "sync": self._sync.serve,
            },
            transport=transport,
            book=AddressBook(
                dice=random.SystemRandom(),
                save=lambda data: write_atomically(book_file, data),
                saved=book_file.read_bytes() if book_file.exists() else b"",
            ),
            limits=Limits(
                inbound_max=p2p.inbound_peers_max,
                outbound_max=p2p.outbound_peers_max,
                per_host_max=p2p.peers_per_host_max,
            ),
            persistent_peers=[PeerAddress.parse(text) for text in p2p.persistent_peers],
            listen_addr=Endpoint.parse(p2p.listen),
            clock=_now_ms,
        )

    def _services(self) -> Services:
        async def submit(raws: Any) -> Any:
            return await self.mempool.submit(raws, source=None)

        return Services(
            home=self._folder.path,
            chain_id=self._genesis.chain_id,
            genesis=self._genesis,
            config=self._config,
            app=self._app,
            store=self.store,
            mempool=self.mempool,
            network=self.network,
            heights=self.heights,
            signer=self._signer,
            node_seed=self._node_seed,
            started_ms=_now_ms(),
            now_ms=_now_ms,
            consensus_status=self._consensus_status,
            submit=submit,
        )

    def _consensus_status(self) -> dict[str, Any]:
        """Where consensus stands, as JSON-ready facts."""
        height = self.driver.height
        machine = height.machine
        votes = {
            kind.name.lower() + "s": {
                address.hex(): vote.block_id.hex() if vote.block_id else None
                for address, vote in sorted(machine.tally.votes(max(0, machine.round), kind).items())
            }
            for kind in VoteKind
        }
        return {
            "height": height.number,
            "round": machine.round,
            "step": machine.step.name.lower(),
            "proposer": height.parent.validators.proposer(max(0, machine.round)).address.hex(),
            "locked_round": machine.locked_round,
            "locked_block_id": machine.locked_block_id.hex() if machine.locked_block_id else None,
            "valid_round": machine.valid_round,
            "valid_block_id": machine.valid_block_id.hex() if machine.valid_block_id else None,
            **votes,
            "catching_up": self._sync.catching_up,
            "equivocations": self.driver.equivocations,
        }


def _trust_root(folder: Home) -> TrustRoot | None:
    """What the invite link vouches for, on a node that joined by one."""
    if not folder.invite.exists():
        return None
    invite = Invite.parse(folder.invite.read_text().strip())
    return TrustRoot(invite.height, invite.block_id) if invite.height > 0 else None


def _mempool_limits(config: Config) -> MempoolLimits:
    pool = config.mempool
    return MempoolLimits(
        transactions_max=pool.transactions_max, bytes_max=pool.bytes_max, per_sender_max=pool.per_sender_max
    )


def _now_ms() -> int:
    """Own clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000
