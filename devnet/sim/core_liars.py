"""Liars: what a validator may do that no correct one does. Each has a few tricks, and uses them now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.vote import Proposal, Vote, VoteKind
from devnet.sim.core_chain import SimBlock
from devnet.sim.core_lines import WatchedMachine
from devnet.sim.core_messages import Proposed, Synced, make_proposal, make_vote

if TYPE_CHECKING:
    from devnet.sim.core_node import Node
    from devnet.sim.core_world import World

DEFECTS = ("wrong state root", "wrong time", "wrong commit", "too large", "repeated transaction")
"""Names only, but for the time: whether a real block has one of them is judged in node worlds."""
LATE_MS_MAX = 2_000
ROUNDS_AHEAD = 9
AMNESIA = "liar: amnesia"


class Amnesiac(WatchedMachine):
    """A machine that forgets its lock at each round's beginning; `lines` counts `AMNESIA` when it had one."""

    def _start_round(self, round_: int) -> None:
        if self.locked_round != -1:
            self.lines[AMNESIA] += 1
        self.locked_round = self.valid_round = -1
        self.locked_block_id = self.valid_block_id = None
        super()._start_round(round_)


class Liar:
    """The tricks of one node."""

    def __init__(self, world: World, tricks: frozenset[str]) -> None:
        self.world = world
        self.tricks = tricks
        self.withheld: set[bytes] = set()
        """Blocks whose bodies it supplies to nobody."""

    def _does(self, trick: str, share: float) -> bool:
        """Whether it uses *trick* now; counts it."""
        if trick not in self.tricks or not self.world.chance(share):
            return False
        self.world.faults[f"liar: {trick}"] += 1
        return True

    @property
    def machine(self) -> type[WatchedMachine]:
        """The kind of machine that it runs."""
        return Amnesiac if "amnesia" in self.tricks else WatchedMachine

    def draws_defect(self) -> str | None:
        """What is wrong with the block that it builds."""
        return self.world.dice.choice(DEFECTS) if self._does("invalid_block", 0.7) else None

    def says_proposal(self, node: Node, proposal: Proposal, block: SimBlock) -> None:
        """To each peer what it likes."""
        world = self.world
        if self._does("silence", 1.0):
            return
        told: list[tuple[Proposal, SimBlock]] = [(proposal, block)]
        older = self._older_polkas(node, proposal.round)
        if older and self._does("old_polka", 0.9):
            block_id, pol_round = older[0] if world.chance(0.6) else (older[-1][0], -1)
            old = make_proposal(node.address, node.height, proposal.round, pol_round, block_id)
            told = [(old, world.blocks[block_id])]
        if self._does("two_proposals", 0.7):
            told.append(self._another_proposal(node, proposal))
        withholds = self._does("withheld_proposal", 0.6)
        partial = self._does("partial_proposal", 0.7)
        if self._does("withheld_bodies", 0.7):
            self.withheld |= {said.id for _, said in told}
        for peer in world.nodes:
            if withholds and world.chance(0.6):
                continue
            said, its_block = told[world.upto(len(told))]
            lacks = (partial and world.chance(0.5)) or (its_block.id in self.withheld and world.chance(0.4))
            world.wire.send(node, peer, Proposed(said, its_block, not lacks))

    def _older_polkas(self, node: Node, round_: int) -> list[tuple[bytes, int]]:
        """Blocks that had a polka before *round_*, with that round."""
        tally = node.machine.tally
        polkas = [(tally.value(earlier, VoteKind.PREVOTE), earlier) for earlier in range(round_)]
        return [(block_id, earlier) for block_id, earlier in polkas if block_id is not None]

    def _another_proposal(self, node: Node, proposal: Proposal) -> tuple[Proposal, SimBlock]:
        """Of the same round: a known block again with any POL round, or a new one."""
        world = self.world
        if node.known.blocks and world.chance(0.5):
            known = sorted(node.known.blocks)
            block = node.known.blocks[known[world.upto(len(known))]]
        else:
            block = world.build(node)
        pol_round = world.upto(proposal.round + 1) - 1
        return make_proposal(node.address, proposal.height, proposal.round, pol_round, block.id), block

    def says_vote(self, node: Node, vote: Vote) -> None:
        """To each peer what it likes, when it likes."""
        world = self.world
        if self._does("silence", 1.0):
            return
        values: list[bytes | None] = [vote.block_id]
        if self._does("two_votes", 0.7):
            values += [None, *sorted(node.known.blocks)]
        late = self._does("late_votes", 0.6)
        for peer in world.nodes:
            value = values[world.upto(len(values))]
            said = (
                vote if value == vote.block_id else make_vote(node.address, vote.kind, vote.height, vote.round, value)
            )
            world.wire.send(node, peer, said, held_ms=world.upto(LATE_MS_MAX) if late else 0)

    def now_and_then(self, node: Node) -> None:
        """Unasked: votes of rounds to come, votes in the name of others, and heights that were never decided."""
        if node.address in node.state.validators.addresses and self._does("early_votes", 0.1):
            self._votes_early(node)
        if self._does("votes_of_strangers", 0.1):
            self._votes_as_another(node)
        if self._does("false_heights", 0.1):
            self._claims_a_height(node)

    def _votes_early(self, node: Node) -> None:
        world = self.world
        height = node.height + world.upto(2)
        round_ = node.machine.round + 1 + world.upto(ROUNDS_AHEAD)
        values: list[bytes | None] = [None, *sorted(node.known.blocks)]
        for peer in world.nodes:
            value = values[world.upto(len(values))]
            world.wire.send(node, peer, make_vote(node.address, _kind(world), height, round_, value))

    def _votes_as_another(self, node: Node) -> None:
        """With its own signature: in the name of a stranger, or of another validator."""
        world = self.world
        named = bytes(20) if world.chance(0.5) else world.nodes[world.upto(len(world.nodes))].address
        value = next(iter(node.known.blocks), None)
        round_ = max(node.machine.round, 0)
        vote = make_vote(node.address, _kind(world), node.height, round_, value)
        forged = Vote(
            kind=vote.kind,
            height=vote.height,
            round=vote.round,
            block_id=vote.block_id,
            validator=named,
            signature=vote.signature,
        )
        for peer in world.nodes:
            if named != node.address:
                world.wire.send(node, peer, forged)

    def _claims_a_height(self, node: Node) -> None:
        """A block of its own as decided: by its own vote alone, or by votes that nobody signed."""
        world = self.world
        block = world.build(node)
        votes = [make_vote(node.address, VoteKind.PRECOMMIT, block.height, 0, block.id)]
        if world.chance(0.5):
            votes = [
                Vote(
                    kind=VoteKind.PRECOMMIT,
                    height=block.height,
                    round=0,
                    block_id=block.id,
                    validator=address,
                    signature=votes[0].signature,
                )
                for address in node.state.validators.addresses
            ]
        elif world.chance(0.5):
            votes = votes * len(node.state.validators.addresses)
        for peer in world.nodes:
            world.wire.send(node, peer, Synced(block, tuple(votes)))


def _kind(world: World) -> VoteKind:
    return VoteKind.PREVOTE if world.chance(0.5) else VoteKind.PRECOMMIT
