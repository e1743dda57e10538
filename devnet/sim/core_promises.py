"""The safety checker of a core world: what correct nodes said and decided, over all crashes, and what it must obey."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from consensus.vote import Proposal, Vote, VoteKind
from devnet.sim.core_chain import SimBlock, is_valid
from devnet.sim.core_messages import mark
from devnet.sim.outcome import Broken

if TYPE_CHECKING:
    from devnet.sim.core_node import Node


class Promises:
    """Remembers across crashes what no node may forget. Raises Broken."""

    def __init__(self) -> None:
        self.decisions: dict[int, SimBlock] = {}
        """By height, of the first correct node that decided it."""
        self._votes: dict[tuple[bytes, int, VoteKind, int], bytes | None] = {}
        self._proposals: dict[tuple[bytes, int, int], tuple[bytes, int]] = {}
        self._precommits: dict[tuple[bytes, int], tuple[int, bytes]] = {}
        """Round and block of the last precommit for a block of an address at a height."""

    def votes(self, node: Node, vote: Vote) -> None:
        """*node*, a correct one, lets *vote* out, perhaps again."""
        slot = (vote.validator, vote.height, vote.kind, vote.round)
        said = self._votes.setdefault(slot, vote.block_id)
        if said != vote.block_id:
            raise Broken(
                "double_vote", f"{node.name} voted twice: {_show(said)} and {_show(vote.block_id)} in {slot[1:]}"
            )
        if vote.block_id is None:
            return
        if not is_valid(node.world.blocks[vote.block_id], node.state):
            raise Broken("invalid_vote", f"{node.name} voted for an invalid block, {vote}")
        tally = node.machine.tally
        if vote.kind is VoteKind.PRECOMMIT:
            if not tally.has_quorum(vote.round, VoteKind.PREVOTE, vote.block_id):
                raise Broken("no_polka", f"{node.name} precommitted without a polka, {vote}")
            self._precommits[vote.validator, vote.height] = (vote.round, vote.block_id)
            return
        locked_round, locked = self._precommits.get((vote.validator, vote.height), (-1, None))
        if locked not in (None, vote.block_id) and locked_round < vote.round:
            later = range(locked_round, vote.round)
            if not any(tally.has_quorum(round_, VoteKind.PREVOTE, vote.block_id) for round_ in later):
                raise Broken("lock", f"{node.name} left its lock of round {locked_round} without a later polka, {vote}")

    def proposes(self, node: Node, proposal: Proposal) -> None:
        """*node*, a correct one, lets *proposal* out, perhaps again."""
        said = (proposal.block_id, proposal.pol_round)
        slot = (node.address, proposal.height, proposal.round)
        if self._proposals.setdefault(slot, said) != said:
            raise Broken("double_proposal", f"{node.name} proposed twice in {slot[1:]}")

    def decides(self, node: Node, block: SimBlock, votes: Iterable[Vote]) -> None:
        """*node*, a correct one, commits *block* because of *votes*."""
        backers: set[bytes] = set()
        validators = node.state.validators
        power = 0
        for vote in votes:
            member = validators.by_address(vote.validator)
            genuine = member is not None and vote.signature == mark(vote.validator)
            fits = (vote.kind, vote.height, vote.block_id) == (VoteKind.PRECOMMIT, block.height, block.id)
            if member is None or not genuine or not fits or vote.validator in backers:
                raise Broken("bad_commit", f"{node.name} counted {vote} towards {block.name}")
            backers.add(vote.validator)
            power += member.power
            self._check_really_said(node, vote)
        if not validators.has_two_thirds(power):
            raise Broken(
                "no_quorum", f"{node.name} decided {block.name} with power {power} of {validators.total_power}"
            )
        if not is_valid(block, node.state):
            raise Broken("invalid_decision", f"{node.name} decided {block.name}, which is invalid: {block.defect}")
        first = self.decisions.setdefault(block.height, block)
        if first.id != block.id:
            raise Broken("fork", f"height {block.height}: {first.name} and, by {node.name}, {block.name}")

    def _check_really_said(self, node: Node, vote: Vote) -> None:
        """A correct validator's vote in a commit is one that it let out."""
        if vote.validator in node.world.liars:
            return
        slot = (vote.validator, vote.height, vote.kind, vote.round)
        if self._votes.get(slot, b"") != vote.block_id:
            raise Broken("never_said", f"{node.name} counted {vote}, which its validator never let out")

    def accuses(self, node: Node, first: Vote, second: Vote) -> None:
        """*node*, a correct one, has found two votes of one validator."""
        slots = [(vote.validator, vote.height, vote.kind, vote.round) for vote in (first, second)]
        if slots[0] != slots[1] or first.block_id == second.block_id:
            raise Broken("no_evidence", f"{node.name} takes {first} and {second} for a double vote")
        if first.validator not in node.world.liars:
            raise Broken("false_charge", f"{node.name} accuses an honest validator: {first} and {second}")


def _show(block_id: bytes | None) -> str:
    return "nil" if block_id is None else block_id.hex()[:8]
