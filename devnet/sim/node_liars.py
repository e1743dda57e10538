"""Liars at the depth of nodes: the real node, with a mouth that says something else, and hands that do more than it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from consensus.address import key_address
from consensus.block import Block
from consensus.codec import BadMessage
from consensus.inputs import Step
from consensus.signing import public_key, sign
from consensus.vote import Proposal, Vote, VoteKind, proposal_sign_bytes, vote_sign_bytes
from devnet.sim.node_bad_blocks import BAD_BLOCKS
from devnet.sim.node_false_answers import false_answer
from devnet.sim.node_intruder import intrude
from devnet.sim.node_machine import SimNode
from devnet.sim.node_peers import Sent
from devnet.sim.node_town import CHAIN_ID, seed_of
from node import consensus_messages, sync_messages, transaction_gossip
from node.consensus_messages import BlockOnly, Bodies, ProposalWithBlock, Status, Votes
from node.engine import CHANNELS, Engine
from p2p.peer import Peer

if TYPE_CHECKING:
    from devnet.sim.node_world import NodeWorld

LATE_S = (0.1, 12.0)
AHEAD = (1, 1_000_000)
"""How far a liar claims to be ahead, heights."""
CLAIMS = 0.1
"""How many of its statuses say that who lies about the past is ahead."""
PAUSE_S = 1.0
"""Mean time between two unasked lies of a kind."""
DRIP_BYTES_PER_S = 300
FORGET_S = 0.02
"""How often amnesia strikes."""


class LyingTap:
    """What a liar says in place of what its node would."""

    def __init__(self, world: NodeWorld, node: SimNode) -> None:
        self._world = world
        self._node = node
        self._lies = node.lies
        self._dice = world.dice(f"lies/{node.number}/{node.starts}")
        self._seed = seed_of("validator", node.validator)
        self._key = public_key(self._seed)
        self._address = key_address(self._key)
        self._bad_blocks = [lie for lie in BAD_BLOCKS if lie in node.lies]

    def outgoing(self, peer: Peer, channel_id: int, message: bytes) -> Sequence[Sent]:
        """The lie, if this message gives occasion for one."""
        self._world.spoken()
        sent = self._lie(peer, channel_id, message)
        for _, said in sent:
            self._world.trace.said(self._node.number, peer.id, channel_id, said)
        return sent

    def later(self, delay_s: float, act: Callable[[], object]) -> None:
        """*act* is done after *delay_s*, if the node still runs."""
        self._world.later(self._node, delay_s, act)

    def penalises(self, peer: Peer, reason: str) -> None:
        """A liar may blame whom it likes."""

    def _lie(self, peer: Peer, channel_id: int, message: bytes) -> Sequence[Sent]:
        truth = [(0.0, message)]
        if channel_id == transaction_gossip.CHANNEL.id and "lie_withheld_bodies" in self._lies:
            return self._lied("lie_withheld_bodies", [])
        if channel_id == transaction_gossip.CHANNEL.id and "lie_bodies_until_polka" in self._lies:
            return []  # else nobody would have to ask for bodies
        try:
            if channel_id == consensus_messages.CHANNEL.id:
                return self._of_consensus(peer, consensus_messages.from_wire(message), truth)
            if channel_id == sync_messages.CHANNEL.id and self._draws("lie_sync"):
                return self._of_sync(sync_messages.from_wire(message), truth)
        except BadMessage:
            pass  # garbage of ours
        return truth

    def _of_consensus(
        self, peer: Peer, message: consensus_messages.ConsensusMessage, truth: Sequence[Sent]
    ) -> Sequence[Sent]:
        match message:
            case Votes(votes) if all(vote.validator == self._address for vote in votes):
                return self._votes(peer, votes, truth)
            case ProposalWithBlock(proposal, block) if proposal.verify(CHAIN_ID, self._key):
                return self._proposal(peer, proposal, block, truth)
            case Status() if self._draws("lie_height"):
                far = self._dice.choice((message.height + self._dice.randint(*AHEAD), self._dice.randint(1, 3)))
                return self._lied("lie_height", [(0.0, consensus_messages.to_wire(replace(message, height=far)))])
            case Status() if "lie_sync" in self._lies and self._dice.random() < CLAIMS:
                # Who claims to be ahead is asked; else a liar would wait in vain for somebody to fall behind.
                claim = replace(message, height=message.height + self._dice.randint(1, 3))
                return self._lied("lie_height", [(0.0, consensus_messages.to_wire(claim))])
            case Bodies() if "lie_withheld_bodies" in self._lies:
                return self._lied("lie_withheld_bodies", [])
            case Bodies() | BlockOnly() if "lie_bodies_until_polka" in self._lies:
                # Enough get them for a polka; the others ask again after it.
                if self._saw_polka() or self._is_fooled(peer, 0):
                    return self._lied("lie_bodies_until_polka", [])
        return truth

    def _votes(self, peer: Peer, votes: tuple[Vote, ...], truth: Sequence[Sent]) -> Sequence[Sent]:
        if "lie_two_votes" in self._lies and self._is_fooled(peer, votes[0].round):
            others = tuple([self._other(vote) for vote in votes])
            return self._lied("lie_two_votes", [(0.0, consensus_messages.to_wire(Votes(others)))])
        if self._draws("lie_late_vote"):
            return self._lied("lie_late_vote", [(self._dice.uniform(*LATE_S), truth[0][1])])
        return truth

    def _other(self, vote: Vote) -> Vote:
        """A vote of ours that contradicts *vote*."""
        height = self._world.height_of(self._node)
        known = sorted(height.candidates) if height is not None and height.number == vote.height else []
        choices = [id_ for id_ in [None, self._dice.randbytes(32), *known] if id_ != vote.block_id]
        return self.vote(vote.kind, vote.height, vote.round, self._dice.choice(choices))

    def vote(self, kind: VoteKind, height: int, round_: int, block_id: bytes | None) -> Vote:
        """A vote of ours, signed, whatever we have signed before."""
        signature = sign(self._seed, vote_sign_bytes(CHAIN_ID, kind, height, round_, block_id))
        return Vote(
            kind=kind, height=height, round=round_, block_id=block_id, validator=self._address, signature=signature
        )

    def _proposal(self, peer: Peer, proposal: Proposal, block: Block, truth: Sequence[Sent]) -> Sequence[Sent]:
        if "lie_withheld_proposal" in self._lies and self._is_fooled(peer, proposal.height):
            return self._lied("lie_withheld_proposal", [])
        fresh = proposal.pol_round < 0
        if self._bad_blocks and fresh:
            lie = self._bad_blocks[(proposal.height + proposal.round) % len(self._bad_blocks)]
            bad = BAD_BLOCKS[lie](block, self._world.committed_ids(), random.Random(block.id))
            if bad is not None:
                return self._lied(lie, [(0.0, self._proposes(proposal, bad))])
        if "lie_two_proposals" in self._lies and fresh and self._is_fooled(peer, proposal.round):
            other = replace(block, header=replace(block.header, time_ms=block.header.time_ms + 1))
            return self._lied("lie_two_proposals", [(0.0, self._proposes(proposal, other))])
        return truth

    def _proposes(self, proposal: Proposal, block: Block) -> bytes:
        signature = sign(
            self._seed, proposal_sign_bytes(CHAIN_ID, proposal.height, proposal.round, proposal.pol_round, block.id)
        )
        return consensus_messages.to_wire(
            ProposalWithBlock(replace(proposal, block_id=block.id, signature=signature), block)
        )

    def _of_sync(self, message: sync_messages.SyncMessage, truth: Sequence[Sent]) -> Sequence[Sent]:
        engine = self._node.engine
        lie = message if engine is None else false_answer(message, engine.store, self._dice)
        if lie is message:
            return truth
        return self._lied("lie_sync", [] if lie is None else [(0.0, sync_messages.to_wire(lie))])

    def _saw_polka(self) -> bool:
        height = self._world.height_of(self._node)
        return height is not None and height.machine.step >= Step.PRECOMMIT

    def _is_fooled(self, peer: Peer, salt: int) -> bool:
        """Whether *peer* is among those to whom the other story is told this time."""
        other = self._world.node_of(peer.id)
        return other is None or (other.number + salt) % 2 == 0

    def _draws(self, lie: str) -> bool:
        return lie in self._lies and self._dice.random() < 0.5

    def _lied(self, lie: str, sent: Sequence[Sent]) -> Sequence[Sent]:
        self._world.trace.counts[lie] += 1
        return sent


class LyingTasks:
    """What a liar does unasked."""

    def __init__(self, world: NodeWorld, node: SimNode, engine: Engine, tap: LyingTap) -> None:
        self._world = world
        self._node = node
        self._engine = engine
        self._tap = tap
        self._dice = world.dice(f"deeds/{node.number}/{node.starts}")

    async def run(self) -> None:
        """Lies until cancelled."""
        deeds: dict[str, Callable[[], Awaitable[None]]] = {
            "lie_amnesia": self._forget,
            "lie_early_vote": partial(self._tell, self._early_vote),
            "lie_stranger": partial(self._tell, self._stranger),
            "lie_garbage": partial(self._tell, self._garbage),
            "lie_intruder": partial(intrude, self._world, self._node, self._dice),
        }
        if "lie_drip" in self._node.lies:
            self._drip()
        async with trio.open_nursery() as nursery:
            for lie, deed in deeds.items():
                if lie in self._node.lies:
                    nursery.start_soon(deed)

    def _drip(self) -> None:
        """All that we say from now on trickles."""
        self._world.trace.fault("lie_drip", str(self._node.number))
        for other in self._world.nodes:
            if other is not self._node:
                self._world.links.way(self._node.host, other.host).bytes_per_s = DRIP_BYTES_PER_S

    async def _forget(self) -> None:
        """The lock is forgotten whenever there is one."""
        while True:
            await trio.sleep(FORGET_S)
            machine = self._engine.driver.height.machine
            if machine.locked_round >= 0 and machine.step is not Step.DECIDED:
                self._world.trace.counts["lie_amnesia"] += 1
                machine.locked_round = machine.valid_round = -1
                machine.locked_block_id = machine.valid_block_id = None

    async def _tell(self, make: Callable[[], tuple[str, int, bytes]]) -> None:
        while True:
            await trio.sleep(self._dice.expovariate(1 / PAUSE_S))
            peers = list(self._engine.network.peers.values())
            if peers:
                lie, channel_id, message = make()
                peer = self._dice.choice(peers)
                self._world.trace.fault(lie)
                self._world.trace.said(self._node.number, peer.id, channel_id, message)
                Peer.offer(peer, channel_id, message)

    def _early_vote(self) -> tuple[str, int, bytes]:
        """Votes of ours for rounds and heights to come."""
        height = self._engine.driver.height
        number = height.number + self._dice.choice((0, 0, 1, 2))
        round_ = max(0, height.machine.round) + self._dice.choice((1, 2, 30, 2**20))
        votes = tuple(
            self._tap.vote(self._dice.choice(list(VoteKind)), number, round_ + more, self._dice.randbytes(32))
            for more in range(self._dice.choice((1, 20)))
        )
        return "lie_early_vote", consensus_messages.CHANNEL.id, consensus_messages.to_wire(Votes(votes))

    def _stranger(self) -> tuple[str, int, bytes]:
        """A vote of somebody who is no validator, or one of a validator with somebody else's signature."""
        height = self._engine.driver.height
        seed = self._dice.randbytes(32)
        address = key_address(public_key(seed))
        if self._dice.random() < 0.5:
            address = self._dice.choice(height.parent.validators.addresses)
        kind, round_, block_id = VoteKind.PREVOTE, max(0, height.machine.round), self._dice.randbytes(32)
        signature = sign(seed, vote_sign_bytes(CHAIN_ID, kind, height.number, round_, block_id))
        vote = Vote(
            kind=kind, height=height.number, round=round_, block_id=block_id, validator=address, signature=signature
        )
        return "lie_stranger", consensus_messages.CHANNEL.id, consensus_messages.to_wire(Votes((vote,)))

    def _garbage(self) -> tuple[str, int, bytes]:
        """Bytes that are no message, on any channel."""
        junk = self._dice.choice(
            (
                self._dice.randbytes(self._dice.randint(1, 300)),
                bytes([0x92, self._dice.randrange(8), 0x9F]) + self._dice.randbytes(40),
                b"\x92\x00\xdd\xff\xff\xff\xff",
                b"\x91" * 4_000,
            )
        )
        return "lie_garbage", self._dice.choice(CHANNELS).id, junk
