"""Eventual delivery: a node supplies what a peer lacks, as gossip and block sync do; the network may still lose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.validators import ValidatorSet
from consensus.vote import VoteKind
from devnet.sim.core_messages import Body, Proposed, Synced, mark

if TYPE_CHECKING:
    from devnet.sim.core_node import Node
    from devnet.sim.core_world import World

SYNC_BLOCKS = 4
"""Decided blocks that a peer is given at a time."""
VOTES_INSTEAD_SHARE = 0.5
"""Of the times that a peer one height behind is given the precommits as votes, as if it had heard them late."""


def proves(message: Synced, validators: ValidatorSet) -> bool:
    """Whether the votes are a commit: precommits of one round, signed by more than 2/3 of *validators*."""
    block = message.block
    powers: dict[bytes, int] = {}
    for vote in message.votes:
        member = validators.by_address(vote.validator)
        fits = (vote.kind, vote.height, vote.block_id) == (VoteKind.PRECOMMIT, block.height, block.id)
        if member is None or not fits or vote.signature != mark(vote.validator):
            return False
        powers[vote.validator] = member.power
    one_round = len({vote.round for vote in message.votes}) == 1
    return one_round and validators.has_two_thirds(sum(powers.values()))


def supply(world: World, node: Node, peer: Node) -> None:
    """*peer* is sent what *node* has and it lacks; while a height is contested, only if it is behind."""
    if peer is node or not peer.running or (node.liar is not None and "silence" in node.liar.tricks):
        return
    if node.height > peer.height:
        _supply_decided(world, node, peer)
    elif node.height == peer.height and (world.healed or not world.plan.contested):
        versions = (node.version, peer.version)
        if node.compared.get(peer.number) != versions and not _supply_current(world, node, peer):
            node.compared[peer.number] = versions


def _supply_decided(world: World, node: Node, peer: Node) -> None:
    first = peer.height
    block, votes = node.chain[first - 1]
    if node.height == first + 1 and world.chance(VOTES_INSTEAD_SHARE):
        if block.id in peer.known.wanted:
            world.wire.send(node, peer, Body(block))
        for vote in votes:
            world.wire.send(node, peer, vote)
        return
    for decided, its_votes in node.chain[first - 1 : first - 1 + SYNC_BLOCKS]:
        world.wire.send(node, peer, Synced(decided, its_votes))


def _supply_current(world: World, node: Node, peer: Node) -> bool:
    """Whether *peer* lacked anything."""
    lacked = False
    for proposal in list(node.known.proposals.values()):
        if peer.wants_proposal(proposal):
            block = world.blocks[proposal.block_id]
            world.wire.send(node, peer, Proposed(proposal, block, _gives(node, block.id)))
            lacked = True
    for block_id in [*peer.known.headers, *peer.known.wanted]:
        if block_id not in peer.known.blocks and _gives(node, block_id):
            world.wire.send(node, peer, Body(node.known.blocks[block_id]))
            lacked = True
    ours, theirs = node.machine.tally, peer.machine.tally
    for vote in [vote for round_ in ours.rounds() for kind in VoteKind for vote in ours.all_votes(round_, kind)]:
        if theirs.wants(vote):  # also what *peer* was given before and has forgotten for later rounds of its maker
            world.wire.send(node, peer, vote)
            lacked = True
    return lacked


def _gives(node: Node, block_id: bytes) -> bool:
    withheld = node.liar is not None and block_id in node.liar.withheld
    return block_id in node.known.blocks and not withheld
