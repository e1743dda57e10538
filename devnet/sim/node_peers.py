"""Between a node's services and its connections: everything that it says is watched, and may be lost or changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import trio

from consensus.address import key_address
from consensus.codec import BadMessage
from consensus.signing import public_key
from devnet.sim.node_checks import Checker
from devnet.sim.node_machine import SimNode
from devnet.sim.node_town import CHAIN_ID, seed_of
from devnet.sim.node_trace import Trace
from devnet.sim.outcome import Broken
from node import consensus_messages
from node.consensus_messages import ProposalWithBlock, Votes
from p2p.peer import Peer

if TYPE_CHECKING:
    from devnet.sim.node_world import NodeWorld

Sent = tuple[float, bytes]
"""A message, and after how many seconds it is really sent."""


class Tap(Protocol):
    """What becomes of the messages of one node."""

    def outgoing(self, peer: Peer, channel_id: int, message: bytes) -> Sequence[Sent]:
        """What is sent to *peer* in place of *message*."""

    def later(self, delay_s: float, act: Callable[[], object]) -> None:
        """*act* is done after *delay_s*, if the node still runs."""

    def penalises(self, peer: Peer, reason: str) -> None:
        """The node blames *peer*."""


class _Passed(bytes):
    """A message that has been through the tap."""


class TappedPeer(Peer):
    """A peer whose outgoing messages go through a tap."""

    def __init__(self, *, tap: Tap, **given: Any) -> None:
        super().__init__(**given)
        self._tap = tap

    def offer(self, channel_id: int, message: bytes) -> bool:
        """As `Peer.offer`; True also for what the tap swallows."""
        if isinstance(message, _Passed):
            return super().offer(channel_id, message)
        taken = True
        for delay_s, sent in self._tap.outgoing(self, channel_id, message):
            if delay_s > 0:
                self._tap.later(delay_s, partial(self.offer, channel_id, _Passed(sent)))
            else:
                taken = super().offer(channel_id, sent) and taken
        return taken

    def offer_batch(self, channel_id: int, messages: Sequence[bytes]) -> int:
        """As `Peer.offer_batch`."""
        count = 0
        for message in messages:
            if not self.offer(channel_id, message):
                break
            count += 1
        return count

    async def send(self, channel_id: int, message: bytes) -> None:
        """As `Peer.send`."""
        if isinstance(message, _Passed):
            await super().send(channel_id, message)
            return
        await trio.lowlevel.checkpoint()
        for delay_s, sent in self._tap.outgoing(self, channel_id, message):
            if delay_s > 0:
                self._tap.later(delay_s, partial(self.offer, channel_id, _Passed(sent)))
            else:
                await super().send(channel_id, _Passed(sent))

    def penalise(self, reason: str, points: int) -> None:
        """As `Peer.penalise`."""
        self._tap.penalises(self, reason)
        super().penalise(reason, points)


class HonestTap:
    """The mouth of an honest node: what it says is watched, and suffers what the world does to messages."""

    def __init__(self, world: NodeWorld, node: SimNode, *, befallen: bool = True) -> None:
        """*befallen*: whether messages suffer at all."""
        self._befallen = befallen
        self._world = world
        self._node = node
        self._dice = world.dice(f"messages/{node.number}/{node.starts}")
        self._watch = SignatureWatch(node.number, seed_of("validator", node.validator), world.checker)

    def outgoing(self, peer: Peer, channel_id: int, message: bytes) -> Sequence[Sent]:
        """*message*, perhaps late, twice, or not at all."""
        world = self._world
        world.spoken()
        world.trace.said(self._node.number, peer.id, channel_id, message)
        if channel_id == consensus_messages.CHANNEL.id:
            world.checks(partial(self._watch.sees, message))
        # A newcomer and whom it asks for a snapshot count on the order of a stream; it has no number of ours yet.
        if world.message_faults.any and self._befallen and world.node_of(peer.id) is not None:
            return world.message_faults.befall(message, self._dice, world.trace)
        return [(0.0, message)]

    def later(self, delay_s: float, act: Callable[[], object]) -> None:
        """*act* is done after *delay_s*, if the node still runs."""
        self._world.later(self._node, delay_s, act)

    def penalises(self, peer: Peer, reason: str) -> None:
        """An honest node blames nobody who is honest."""
        other = self._world.node_of(peer.id)
        if other is not None and other.honest:
            text = f"node {self._node.number} blames node {other.number}, who is honest: {reason}"
            self._world.fail(Broken("blames", text))


@dataclass(slots=True)
class MessageFaults:
    """How often messages between nodes are lost, doubled or late; the connections below know nothing of it."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_max_s: float = 2.0

    def befall(self, message: bytes, dice: random.Random, trace: Trace) -> list[Sent]:
        """What arrives of *message*, and when."""
        if dice.random() < self.drop:
            trace.counts["drop_message"] += 1
            return []
        sent = [(0.0, message)]
        if dice.random() < self.duplicate:
            trace.counts["duplicate_message"] += 1
            sent.append((dice.random() * self.delay_max_s, message))
        if dice.random() < self.delay:
            trace.counts["delay_message"] += 1
            sent[0] = (dice.random() * self.delay_max_s, message)
        return sent

    @property
    def any(self) -> bool:
        """Whether anything may happen."""
        return bool(self.drop or self.duplicate or self.delay)


class SignatureWatch:
    """Looks at everything that a validator says in its own name."""

    def __init__(self, node: int, key_seed: bytes, checker: Checker) -> None:
        self._node = node
        self._key = public_key(key_seed)
        self._address = key_address(self._key)
        self._checker = checker
        self._latest: dict[bytes, None] = {}

    def sees(self, message: bytes) -> None:
        """*message* of channel `consensus` leaves. Raises Broken."""
        if message in self._latest:
            return
        self._latest[message] = None
        if len(self._latest) > 64:
            del self._latest[next(iter(self._latest))]
        try:
            said = consensus_messages.from_wire(message)
        except BadMessage:
            return
        match said:
            case Votes(votes):
                for vote in votes:
                    if vote.validator == self._address and vote.verify(CHAIN_ID, self._key):
                        self._checker.signed_vote(self._node, self._key, vote)
            case ProposalWithBlock(proposal, _):
                if proposal.verify(CHAIN_ID, self._key):
                    self._checker.signed_proposal(self._node, self._key, proposal)
            case _:
                pass
