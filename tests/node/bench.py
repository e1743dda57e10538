"""One validator's consensus without a network: real store, log, signer, pool and application, scripted peers.

The test holds the keys of all validators, so it can say whatever the others say, lies included.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import trio
import trio.lowlevel

from consensus.address import key_address
from consensus.block import Block, Commit
from consensus.codec import BadMessage
from consensus.params import TINY
from consensus.signing import public_key, sign
from consensus.transaction import Message, Transaction
from consensus.validators import Update, ValidatorSet
from consensus.validity import commit_from_votes
from consensus.vote import Proposal, Vote, VoteKind, proposal_sign_bytes, vote_sign_bytes
from node import consensus_messages, sync_messages
from node.block_sync import BlockSync
from node.consensus_driver import ConsensusDriver
from node.consensus_gossip import ConsensusGossip
from node.engine import write_genesis
from node.evidence_pool import EvidencePool
from node.execution import Executed, Executor
from node.genesis import GenesisFile, genesis_toml
from node.heights import Heights
from node.mempool import Mempool, MempoolLimits
from node.serving_budget import ServingBudget
from node.signer import Signer
from node.store import Store
from node.trust_root import TrustRoot
from node.verifier import InlineVerifier
from node.voice import Voice
from node.wal import Wal
from p2p.channel import Traffic
from p2p.peer import Peer
from tests.node.register_town import RegisterTown, signed
from tests.node.small_net import CHAIN_ID, START_MS, seed

SIZE = 4
PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT


class FakePeer:
    """A peer that says what the test tells it to, and keeps what it is told."""

    def __init__(self, number: int) -> None:
        self.id = bytes([number]) * 32
        self.said: dict[int, deque[bytes]] = {1: deque(), 3: deque()}
        self.heard: list[Any] = []
        """Messages to it, decoded."""
        self.penalties: list[str] = []
        self.useful: list[str] = []
        self.bytes_received = 0
        self.takes_messages = True
        self._lot = trio.lowlevel.ParkingLot()

    def was_useful(self, kind: str) -> None:
        self.useful.append(kind)

    def says(self, *messages: Any) -> None:
        """These messages arrive; bytes go as they are, on the consensus channel."""
        for message in messages:
            if isinstance(message, bytes):
                self.said[1].append(message)
            elif isinstance(message, sync_messages.SyncMessage):
                self.said[3].append(sync_messages.to_wire(message))
            else:
                self.said[1].append(consensus_messages.to_wire(message))
        self._lot.unpark_all()

    def told(self, kind: type) -> list[Any]:
        """The messages of *kind* that it was sent."""
        return [message for message in self.heard if isinstance(message, kind)]

    def offer(self, channel_id: int, message: bytes) -> bool:
        """As `Peer.offer`."""
        table = consensus_messages if channel_id == 1 else sync_messages
        assert len(message) <= table.MESSAGE_BYTES_MAX
        if self.takes_messages:
            self.heard.append(table.from_wire(message))
        return self.takes_messages

    async def send(self, channel_id: int, message: bytes) -> None:
        """As `Peer.send`."""
        await trio.lowlevel.checkpoint()
        self.offer(channel_id, message)

    async def receive(self, channel_id: int) -> bytes:
        """As `Peer.receive`."""
        while not self.said[channel_id]:
            await self._lot.park()
        return self.said[channel_id].popleft()

    def penalise(self, reason: str, points: int) -> None:
        """As `Peer.penalise`."""
        self.penalties.append(reason)

    def traffic(self) -> dict[str, Traffic]:
        """As `Peer.traffic`."""
        return {"sync": Traffic(bytes_received=self.bytes_received)}


class Bench:
    """Validator *own* of four with equal power; None: a full node."""

    def __init__(
        self,
        folder: Path,
        *,
        own: int | None = 0,
        trust_root: TrustRoot | None = None,
        epoch: float | None = None,
        app: RegisterTown | None = None,
        served_bytes_per_second: int = 2**26,
        wrap_wal: Callable[[Wal], Wal] = lambda wal: wal,
        wrap_signer: Callable[[Signer], Signer] = lambda signer: signer,
        wrap_store: Callable[[Store], Store] = lambda store: store,
        **params: int,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.app = app or RegisterTown()
        self.store = wrap_store(Store.open(folder / "chain", map_bytes=2**24, inline=True))
        fresh = self.store.height < 0
        write_genesis(self.store, genesis(**params), self.app)
        self.signer: Signer | None = None
        if own is not None:
            path, key = folder / "last_sign.json", seed("validator", own)
            self.signer = Signer.create(key, path, CHAIN_ID) if fresh else Signer.open(key, path, CHAIN_ID)
            self.signer = wrap_signer(self.signer)
        self.wal = wrap_wal(Wal.open(folder / "consensus.wal"))
        self._epoch = trio.current_time() if epoch is None else epoch
        self.verifier = InlineVerifier()
        self.mempool = Mempool(self.app, self.verifier, MempoolLimits(), self.now_ms)
        chain = self.store.chain_state()
        assert chain is not None
        self.mempool.set_chain(self.store.state(), chain)
        self.evidence = EvidencePool.open(folder / "evidence")
        self.evidence.set_chain(self.store.state(), chain)
        self.executor = Executor(self.app, self.store)
        self.heights = Heights(self.store.height)
        self.driver = ConsensusDriver(
            store=self.store,
            mempool=self.mempool,
            evidence=self.evidence,
            executor=self.executor,
            wal=self.wal,
            voice=Voice(self.signer, self.wal, CHAIN_ID),
            heights=self.heights,
            now_ms=self.now_ms,
            trust_root=trust_root,
        )
        self.gossip = ConsensusGossip(
            chain_id=CHAIN_ID, driver=self.driver, mempool=self.mempool, store=self.store, now_ms=self.now_ms
        )
        self.sync = BlockSync(
            chain_id=CHAIN_ID,
            store=self.store,
            mempool=self.mempool,
            driver=self.driver,
            gossip=self.gossip,
            budget=ServingBudget(
                bytes_per_second_max=served_bytes_per_second, bytes_per_second_per_peer_max=served_bytes_per_second
            ),
        )
        self._nursery: trio.Nursery

    def now_ms(self) -> int:
        """Own clock: the genesis time at *epoch* (trio time), by default when this bench was made."""
        return START_MS + round((trio.current_time() - self._epoch) * 1000)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Bench]:
        """It decides until the block ends; then it is gone, as by kill -9."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(self.verifier.run)
                await self._nursery.start(self.driver.run)
                await self._nursery.start(self.sync.run)
                yield self
                self._nursery.cancel_scope.cancel()
        finally:
            self.close()

    def close(self) -> None:
        """Its folders are free for another one."""
        self.evidence.close()
        self.store.close()

    def meets(self, number: int) -> Link:
        """A new peer is connected."""
        link = Link(FakePeer(number))
        self._nursery.start_soon(link.serve, self)
        return link

    # What the others say --------------------------------------------------------------------------------------------

    async def block(self, *transactions: bytes, proposer: int = 1, time_ms: int | None = None) -> Executed:
        """A valid block of the height in progress."""
        parent = self.driver.height.parent
        return await self.executor.propose(
            parent,
            time_ms=time_ms or max(self.now_ms(), parent.time_ms + parent.params.block_delay_ms),
            proposer=address(proposer),
            last_commit=self.driver.last_commit.commit,
            reap=lambda _: [Transaction.decode(raw) for raw in transactions],
            drop=_must_not_drop,
            until=math.inf,
        )

    def proposer(self, round_: int) -> int:
        """The number of the validator that proposes in *round_*."""
        proposer = self.driver.height.parent.validators.proposer(round_).address
        return next(number for number in range(SIZE) if address(number) == proposer)

    def round_of(self, number: int, *, from_round: int = 0) -> int:
        """The first round from *from_round* on that validator *number* proposes in."""
        return next(round_ for round_ in range(from_round, 50) if self.proposer(round_) == number)

    def proposal(self, round_: int, block: Block, *, pol_round: int = -1, height: int | None = None) -> Proposal:
        """A proposal by the proposer of *round_*."""
        height = height or self.driver.height.number
        message = proposal_sign_bytes(CHAIN_ID, height, round_, pol_round, block.id)
        signature = sign(seed("validator", self.proposer(round_)), message)
        return Proposal(height=height, round=round_, pol_round=pol_round, block_id=block.id, signature=signature)

    def votes(self, kind: VoteKind, round_: int, block_id: bytes | None, *voters: int) -> consensus_messages.Votes:
        """Votes of *voters* at the height in progress."""
        height = self.driver.height.number
        return consensus_messages.Votes(tuple(vote(kind, height, round_, block_id, voter) for voter in voters))

    async def decides(self, link: Link, *transactions: bytes) -> Block:
        """The height in progress is decided in round 0 on a block that *link* brings, by the others' votes."""
        number = self.driver.height.number
        executed = await self.block(*transactions)
        link.peer.says(
            self.votes(PRECOMMIT, 0, executed.id, 1, 2, 3),
            consensus_messages.BlockOnly(executed.block),
        )
        bodies = tuple(transaction.raw for transaction in executed.transactions)
        with trio.fail_after(30):
            while self.driver.height.number == number:
                await trio.sleep(0.01)
                link.peer.says(consensus_messages.BlockOnly(executed.block))
                if bodies:
                    link.peer.says(consensus_messages.Bodies(number, executed.id, bodies))
        return executed.block


class Link:
    """A peer while it is served."""

    def __init__(self, peer: FakePeer) -> None:
        self.peer = peer
        self.fault: BadMessage | None = None
        """What it broke."""
        self.ended = trio.Event()
        self._scope = trio.CancelScope()

    async def serve(self, bench: Bench) -> None:
        """Both services talk with the peer; its fault ends only it, as in `Peer.run`."""
        peer = cast(Peer, self.peer)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(bench.gossip.serve, peer)
                    nursery.start_soon(bench.sync.serve, peer)
        except* BadMessage as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            assert isinstance(error, BadMessage)
            self.fault = error
        finally:
            self.ended.set()

    async def leaves(self) -> None:
        """The connection is over."""
        self._scope.cancel()
        await self.ended.wait()


def genesis(**params: int) -> GenesisFile:
    """The town of four."""
    changed = {name: value for name, value in params.items() if value != getattr(TINY, name)}
    return GenesisFile.parse(
        genesis_toml(
            chain_id=CHAIN_ID,
            time_ms=START_MS,
            application="register",
            modules={"register": 1},
            preset="TINY",
            params=changed,
            town={
                "members": [
                    {"public_key": public_key(seed("validator", number)).hex(), "power": 10} for number in range(SIZE)
                ]
            },
        )
    )


def address(number: int) -> bytes:
    """The address of validator *number*."""
    return key_address(public_key(seed("validator", number)))


def vote(kind: VoteKind, height: int, round_: int, block_id: bytes | None, number: int) -> Vote:
    """A vote of validator *number*."""
    signature = sign(seed("validator", number), vote_sign_bytes(CHAIN_ID, kind, height, round_, block_id))
    return Vote(
        kind=kind, height=height, round=round_, block_id=block_id, validator=address(number), signature=signature
    )


def commit_of(bench: Bench, block: Block, *voters: int) -> Commit:
    """A commit of the height in progress for *block*, in round 0."""
    height = bench.driver.height
    votes = [vote(PRECOMMIT, height.number, 0, block.id, voter) for voter in voters]
    return commit_from_votes(height.parent.validators, votes, height.number, 0, block.id)


def transaction(nonce: int, *, account: int = 0, key: int = 1, value: int = 1, name: str = "set") -> bytes:
    """A transaction that sets a register."""
    message = Message("register", name, (key, value))
    return signed(CHAIN_ID, seed("account", account), nonce, message, valid_until_ms=START_MS + 3_600_000)


async def settled(times: int = 20) -> None:
    """Everything that could happen without waiting has happened."""
    for _ in range(times):
        await trio.lowlevel.checkpoint()


def resigned(proposal: Proposal, number: int) -> Proposal:
    """*proposal* as if validator *number* had signed it."""
    message = proposal_sign_bytes(CHAIN_ID, proposal.height, proposal.round, proposal.pol_round, proposal.block_id)
    return dataclasses.replace(proposal, signature=sign(seed("validator", number), message))


def _must_not_drop(identity: bytes, code: str, text: str) -> None:
    raise AssertionError(f"{identity.hex()}: {code} {text}")


def first_proposer(round_: int) -> int:
    """The number of the validator that proposes in *round_* of height 1."""
    validators = ValidatorSet.of([Update(public_key(seed("validator", number)), 10) for number in range(SIZE)])
    return next(number for number in range(SIZE) if address(number) == validators.proposer(round_).address)
