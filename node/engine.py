"""The engine of a node: store, pool, consensus, gossip, sync and network put together. It hosts an application.

Clock, dice and transport come from outside, so that a simulation can bring its own.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import trio

from consensus.application import Application
from consensus.chain import ChainState, chain_changes
from consensus.evidence import DuplicateVote, Uncounted
from consensus.vote import VoteKind
from node import consensus_messages, divergence_gossip, evidence_gossip, sync_messages, transaction_gossip
from node.block_sync import BlockSync
from node.clock import ClockWatch
from node.config import Config
from node.consensus_driver import ConsensusDriver
from node.consensus_gossip import ConsensusGossip
from node.disk import DISK, Disk
from node.divergence_gossip import DivergenceGossip
from node.divergence_pool import DivergencePool
from node.evidence_gossip import EvidenceGossip
from node.evidence_pool import EvidencePool
from node.execution import Executor
from node.files import write_atomically
from node.genesis import GenesisFile
from node.genesis_state import first_state
from node.heights import Heights
from node.home import Home
from node.mempool import Mempool, MempoolLimits
from node.pruner import Pruner
from node.serving_budget import ServingBudget
from node.signer import Signer
from node.stopped import NodeStopped
from node.store import Store
from node.transaction_gossip import TransactionGossip
from node.trust_root import TrustRoot
from node.verifier import new_verifier
from node.voice import Voice
from node.wal import Wal
from p2p.address import Endpoint, PeerAddress
from p2p.address_book import AddressBook, BadBook
from p2p.channel import Channel
from p2p.handshake import Hello
from p2p.limits import Limits
from p2p.named import NamedPeers
from p2p.network import Network, Service
from p2p.peer import Peer
from p2p.transport import TcpTransport, Transport

log = structlog.get_logger("node")

CHANNELS = (
    consensus_messages.CHANNEL,
    transaction_gossip.CHANNEL,
    sync_messages.CHANNEL,
    evidence_gossip.CHANNEL,
    divergence_gossip.CHANNEL,
)


SENDER_SHARE = 16
"""Of the pool's bytes one sender may have one in so many."""
SENDER_BYTES_MIN = 2**20
"""What a sender may have of a small pool, all the same: the largest transaction."""


def wall_clock_ms() -> int:
    """This machine's clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an engine takes from the world."""

    transport: Transport = field(default_factory=TcpTransport)
    now_ms: Callable[[], int] = wall_clock_ms
    dice: random.Random = field(default_factory=random.SystemRandom)
    disk: Disk = DISK
    make_peer: Callable[..., Peer] = Peer
    """As for `p2p.network.Network`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What an engine owns on disk, opened by whoever closes it."""

    home: Home
    config: Config
    genesis: GenesisFile
    node_seed: bytes
    store: Store
    evidence: EvidencePool
    wal: Wal
    signer: Signer | None
    """None on a full node."""
    trust_root: TrustRoot | None
    """What the invite link vouches for, on a node that joined by one."""


class Engine:
    """Everything between the sockets of peers and the disk."""

    def __init__(self, own: Belongings, app: Application, around: Surroundings) -> None:
        self._own = own
        chain = own.store.chain_state()
        assert chain is not None, "the genesis has been written"
        self.store = own.store
        self.heights = Heights(own.store.height)
        self._verifier = new_verifier(own.config.verify.processes)
        self.mempool = Mempool(app, self._verifier, _mempool_limits(own.config), around.now_ms)
        self.mempool.set_chain(own.store.state(), chain)
        self.evidence = own.evidence
        self.evidence.set_chain(own.store.state(), chain)
        self.driver = ConsensusDriver(
            store=own.store,
            mempool=self.mempool,
            evidence=self.evidence,
            executor=Executor(app, own.store),
            wal=own.wal,
            voice=Voice(own.signer, own.wal, own.genesis.chain_id),
            heights=self.heights,
            now_ms=around.now_ms,
            trust_root=own.trust_root,
        )
        self._gossip = ConsensusGossip(
            chain_id=own.genesis.chain_id,
            driver=self.driver,
            mempool=self.mempool,
            store=own.store,
            now_ms=around.now_ms,
        )
        self._sync = BlockSync(
            chain_id=own.genesis.chain_id,
            store=own.store,
            mempool=self.mempool,
            driver=self.driver,
            gossip=self._gossip,
            budget=ServingBudget(
                bytes_per_second_max=own.config.sync.served_bytes_per_second_max,
                bytes_per_second_per_peer_max=own.config.sync.served_bytes_per_second_per_peer_max,
            ),
            genesis_state=own.home.genesis_state,
        )
        self._transactions = TransactionGossip(self.mempool)
        self._pruner = Pruner(own.store, self.heights, own.config.store.retention())
        self._evidence_gossip = EvidenceGossip(self.evidence)
        self.divergences = DivergencePool(
            genesis=own.genesis, store=own.store, heights=self.heights, convict=self._convict
        )
        self._divergence_gossip = DivergenceGossip(self.divergences)
        self.network = self._network(around)
        if own.wal.cut_bytes:
            log.warning("log_tail_cut", bytes=own.wal.cut_bytes)
        self.driver.voice.introduce()
        self._clock = ClockWatch(around.now_ms, lambda: self.driver.height.parent)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Decides with its peers until cancelled; started once it listens. The first failure of a part ends all."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._clock.run)
            await nursery.start(self._verifier.run)
            await nursery.start(self.driver.run)
            await nursery.start(self.network.run)
            await nursery.start(self._sync.run)
            await nursery.start(self._pruner.run)
            nursery.start_soon(self.divergences.run)
            task_status.started()

    def status(self) -> dict[str, Any]:
        """Where consensus stands, as JSON-ready facts."""
        height = self.driver.height
        machine = height.machine
        votes = {
            f"{kind.name.lower()}s": {
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
            "catching_up": self._sync.catching_up or self.driver.awaits_trust_root(),
            "signing": self.driver.voice.signing,
            "equivocations": self.driver.equivocations,
            "evidence_waiting": len(self.evidence),
        }

    def _convict(self, evidence: DuplicateVote) -> None:
        """Two votes of one round, found in an attack on light clients, wait for a block like others."""
        try:
            self.evidence.add(evidence)
        except Uncounted as reason:  # too old, or punished by now
            log.debug("evidence_not_counted", validator=evidence.accused, height=evidence.height, why=str(reason))

    def _network(self, around: Surroundings) -> Network:
        own, p2p = self._own, self._own.config.p2p
        scores_file = own.home.scores
        return Network(
            seed=own.node_seed,
            hello=Hello(
                chain_id=own.genesis.chain_id,
                genesis_hash=own.genesis.hash,
                moniker=own.config.moniker,
                listen_address=p2p.external_address or None,
            ),
            channels=[
                dataclasses.replace(
                    channel, bytes_per_second_max=min(channel.bytes_per_second_max, p2p.bytes_per_second_max)
                )
                for channel in CHANNELS
            ],
            services={
                "consensus": _where_spoken(consensus_messages.CHANNEL, self._gossip.serve),
                "transactions": _where_spoken(transaction_gossip.CHANNEL, self._transactions.serve),
                "sync": _where_spoken(sync_messages.CHANNEL, self._sync.serve),
                "evidence": _where_spoken(evidence_gossip.CHANNEL, self._evidence_gossip.serve),
                "divergence": _where_spoken(divergence_gossip.CHANNEL, self._divergence_gossip.serve),
            },
            transport=around.transport,
            book=_address_book(own.home.addresses, around),
            limits=Limits(
                inbound_max=p2p.inbound_peers_max,
                # Who must know nobody but the peers that are named dials nobody else.
                outbound_max=p2p.outbound_peers_max if p2p.exchange else 0,
                per_host_max=p2p.peers_per_host_max,
                exempt_loopback=p2p.exempt_loopback,
            ),
            named=NamedPeers(
                persistent=map(PeerAddress.parse, p2p.persistent_peers),
                unconditional=map(bytes.fromhex, p2p.unconditional_peers),
                private=map(bytes.fromhex, p2p.private_peers),
                seeds=map(PeerAddress.parse, p2p.seeds),
            ),
            save_scores=lambda data: write_atomically(scores_file, data, disk=around.disk),
            saved_scores=around.disk.read(scores_file) if around.disk.exists(scores_file) else b"",
            listen_addr=Endpoint.parse(p2p.listen),
            clock=around.now_ms,
            dice=around.dice,
            make_peer=around.make_peer,
        )


def write_genesis(store: Store, genesis: GenesisFile, app: Application, state_file: Path | None = None) -> None:
    """The store holds this genesis, and the state in *state_file* if the genesis goes on from one.

    Raises NodeStopped if the store holds another, or if this one can't begin a chain.
    """
    if store.height >= 0:
        if store.genesis_bytes() != genesis.raw:
            raise NodeStopped(
                "the genesis file is not the one that this data folder began with; put the old file back, or start "
                "with an empty data folder"
            )
        return
    try:
        first = first_state(genesis, app, state_file or Path("genesis.state"))
        chain = ChainState.genesis(
            chain_id=genesis.chain_id,
            genesis_hash=genesis.hash,
            time_ms=genesis.time_ms,
            validators=first.validators,
            params=genesis.params,
        )
    except ValueError as error:
        raise NodeStopped(f"the genesis can't begin a chain: {genesis.located(error)}") from error
    changes = {**first.changes, "chain": chain_changes(None, chain)}
    store.write_genesis(genesis.raw, chain, changes, store.plan(changes, 0))


def _address_book(file: Path, around: Surroundings) -> AddressBook:
    """The book that *file* holds; an empty one if it holds none, for addresses can be learned again."""

    def save(data: bytes) -> None:
        write_atomically(file, data, disk=around.disk)

    saved = around.disk.read(file) if around.disk.exists(file) else b""
    try:
        return AddressBook(dice=around.dice, save=save, saved=saved)
    except BadBook as error:
        log.warning("address_book_damaged", file=str(file), why=str(error))
        return AddressBook(dice=around.dice, save=save)


def _where_spoken(channel: Channel, serve: Service) -> Service:
    """*serve*, for peers that have *channel*: a newcomer that only asks for the genesis has one alone."""

    async def served(peer: Peer) -> None:
        if peer.speaks(channel.id):
            await serve(peer)

    return served


def _mempool_limits(config: Config) -> MempoolLimits:
    pool = config.mempool
    return MempoolLimits(
        transactions_max=pool.transactions_max,
        bytes_max=pool.bytes_max,
        per_sender_max=pool.per_sender_max,
        per_sender_bytes_max=max(pool.bytes_max // SENDER_SHARE, SENDER_BYTES_MIN),
    )
