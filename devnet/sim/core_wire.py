"""The wire of a core world: what messages take to arrive, and what becomes of them on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.vote import Vote, VoteKind
from devnet.sim.core_chain import PARAMS
from devnet.sim.core_messages import Message, Proposed

if TYPE_CHECKING:
    from devnet.sim.core_node import Node
    from devnet.sim.core_world import World

CALM_DELAY_MS = 15
"""A message that nothing delays takes up to so long."""
DELAYED_SHARE = 0.3
"""Of the messages, where messages are delayed."""
PREVOTE_LATE, PRECOMMIT_LATE = 6, 1
"""While messages race with timers a vote takes up to so many timeouts of its step longer: polkas are seen by some."""
PROPOSAL_LATE_SHARE = 0.25
"""Of the proposals, meanwhile; each takes up to two propose timeouts longer."""


class Wire:
    """Links between all nodes of *world*, with the faults of its plan until it is healed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.racing = world.plan.contested
        """Whether messages arrive about when timers fire."""
        self.cut: set[tuple[int, int]] = set()
        """Directed links (numbers of sender and receiver) that carry nothing."""
        self._arrivals: dict[tuple[int, int], int] = {}
        """By link: when the latest message on its way arrives, in ms."""

    def send(self, sender: Node, peer: Node, message: Message, *, held_ms: int = 0) -> None:
        """*message* is on its way, unless the link loses it; *held_ms*: how long a liar has kept it back."""
        if peer is sender or not peer.started:
            return
        world = self._world
        dice, plan = world.dice.random, world.plan
        if world.healed:
            world.at(held_ms + 1 + int(dice() * CALM_DELAY_MS), peer, -1, message)
            return
        link = (sender.number, peer.number)
        if link in self.cut:
            return
        if plan.loss and dice() < plan.loss:
            world.faults["loss"] += 1
            return
        held_ms += sender.slow_ms + peer.slow_ms
        if self.racing:
            held_ms += self._late_for_its_timer(message)
        self._carry(link, peer, message, held_ms)
        if plan.duplicate and dice() < plan.duplicate:
            world.faults["duplicate"] += 1
            self._carry(link, peer, message, held_ms + world.upto(300))

    def _late_for_its_timer(self, message: Message) -> int:
        """How much later a message arrives while messages race with timers, in ms."""
        world = self._world
        if isinstance(message, Vote):
            share = PREVOTE_LATE if message.kind is VoteKind.PREVOTE else PRECOMMIT_LATE
            return world.upto(share * PARAMS.prevote_ms(message.round))
        if isinstance(message, Proposed) and world.chance(PROPOSAL_LATE_SHARE):
            return world.upto(2 * PARAMS.propose_ms(message.proposal.round))
        return 0

    def _carry(self, link: tuple[int, int], peer: Node, message: Message, more_ms: int) -> None:
        world = self._world
        delay_ms = 1 + world.upto(CALM_DELAY_MS) + more_ms
        if world.plan.delay_ms_max and world.dice.random() < DELAYED_SHARE:
            world.faults["delay"] += 1
            delay_ms += world.upto(world.plan.delay_ms_max)
        arrival_ms = world.now_ms + delay_ms
        if arrival_ms < self._arrivals.get(link, 0):
            world.faults["reordering"] += 1
        else:
            self._arrivals[link] = arrival_ms
        world.at(delay_ms, peer, -1, message)
