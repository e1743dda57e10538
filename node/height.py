"""One height in progress: the machine, and the blocks that it talks about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from consensus.block import Block
from consensus.chain import ChainState
from consensus.inputs import ProposalReceived
from consensus.machine import Machine
from consensus.transaction import Transaction
from consensus.validity import InvalidBlock
from consensus.vote import Proposal, Vote, VoteKind
from node.execution import Executed

ROUNDS_AHEAD_MAX = 16
"""Proposals of rounds further ahead wait for votes to bring us there."""


@dataclass(eq=False)
class Candidate:
    """A block that was proposed or voted for, on its way to a verdict."""

    block: Block
    bodies: list[Transaction | None]
    executed: Executed | None = None
    refused: InvalidBlock | None = None
    """Why it is invalid."""
    judged: bool = False
    """Whether it is known to be valid or invalid; stays so when the results are dropped."""
    changed: trio.Event = field(default_factory=trio.Event)
    """Set, and replaced, when a body came."""
    acquiring: bool = False
    """Whether a verdict is being worked on."""
    logged: bool = False
    """Whether the write-ahead log holds the whole block."""

    @property
    def complete(self) -> bool:
        """Whether all bodies are here."""
        return None not in self.bodies

    @property
    def missing(self) -> tuple[int, ...]:
        """Indexes of the bodies that we lack."""
        return tuple(index for index, body in enumerate(self.bodies) if body is None)

    @property
    def transactions(self) -> tuple[Transaction, ...]:
        """All bodies, of a candidate that misses none."""
        bodies = tuple(body for body in self.bodies if body is not None)
        assert len(bodies) == len(self.bodies), "a body is missing"
        return bodies

    def fill(self, transactions: Sequence[Transaction]) -> None:
        """Bodies take their places; those of other blocks are ignored."""
        by_id = {transaction.id: transaction for transaction in transactions}
        for index, wanted in enumerate(self.block.transaction_ids):
            if self.bodies[index] is None and wanted in by_id:
                self.bodies[index] = by_id[wanted]
        self.wake()

    def accept(self, executed: Executed) -> None:
        """The block is valid, and this is what it does."""
        self.executed = executed
        self.judged = True
        self.wake()

    def refuse(self, reason: InvalidBlock) -> None:
        """The block is invalid."""
        self.refused = reason
        self.judged = True
        self.wake()

    def restore(self, transactions: Sequence[Transaction]) -> None:
        """The block is complete and known to be valid, as the log says; its results are computed again when needed."""
        self.fill(transactions)
        self.judged = self.logged = True

    def wake(self) -> None:
        """Whoever waits for a change looks again."""
        self.changed.set()
        self.changed = trio.Event()


class HeightInProgress:
    """The height after the stored one."""

    def __init__(self, parent: ChainState, own_address: bytes | None) -> None:
        member = own_address is not None and parent.validators.by_address(own_address) is not None
        self.parent = parent
        self.number = parent.height + 1
        self.machine = Machine(
            height=self.number,
            validators=parent.validators,
            params=parent.params,
            own_address=own_address if member else None,
        )
        self.proposals: dict[int, Proposal] = {}
        """The first verified proposal of each round."""
        self.timely: dict[bytes, bool] = {}
        """By proposal signature: whether it came in time, by own clock."""
        self.candidates: dict[bytes, Candidate] = {}
        """At most two a round: that of its proposal, and one that more than 2/3 voted for. All stay, since any may be
        decided while the height lasts (L49). Rounds last ever longer, which bounds them."""
        self.wanted: set[bytes] = set()
        """Blocks that more than 2/3 voted for and that we lack."""
        self.fed: set[bytes] = set()
        """Signatures of the proposals that the machine has got."""
        self.own_votes: dict[tuple[VoteKind, int], Vote] = {}
        """What our key has signed at this height, from the log and since."""
        self.own_proposals: dict[int, Proposal] = {}
        self.began_s = trio.current_time()
        """trio time at which it became the height in progress."""

    def candidate(self, block: Block) -> Candidate:
        """The candidate for *block*, new or known."""
        known = self.candidates.get(block.id)
        if known is None:
            known = self.candidates[block.id] = Candidate(block, [None] * len(block.transaction_ids))
        return known

    def wants_proposal(self, proposal: Proposal) -> bool:
        """Whether *proposal* (its signature yet unverified) would tell us something.

        A proposer that lies has one place a round, the first to come, and another only for what got 2/3 elsewhere.
        """
        known = self.proposals.get(proposal.round)
        if known is None:
            return proposal.round <= self.machine.round + ROUNDS_AHEAD_MAX
        return proposal.block_id in self.wanted and known.block_id not in self.wanted

    def complete_proposal(self, round_: int) -> tuple[Proposal, Block] | None:
        """The proposal of *round_* with its block, if we could serve all its bodies."""
        proposal = self.proposals.get(round_)
        if proposal is None:
            return None
        candidate = self.candidates.get(proposal.block_id)
        if candidate is None or not candidate.complete:
            return None
        return proposal, candidate.block

    def own_proposal(self, proposal: Proposal) -> ProposalReceived:
        """Our own *proposal*, whose block is here and valid, as the machine gets it back."""
        self.proposals[proposal.round] = proposal
        self.timely[proposal.signature] = True
        self.fed.add(proposal.signature)
        return ProposalReceived(proposal, valid=True, timely=True)

    def forget_results(self) -> None:
        """Results of blocks neither proposed now nor valid nor locked are dropped; computed again if decided."""
        kept = {self.machine.locked_block_id, self.machine.valid_block_id}
        kept |= {p.block_id for r, p in self.proposals.items() if r >= self.machine.round}
        for block_id, candidate in self.candidates.items():
            if block_id not in kept:
                candidate.executed = None
