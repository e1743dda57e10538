"""What a node of a core world knows of the height in progress; a crash leaves of it what the log brings back."""

from __future__ import annotations

from consensus.vote import Proposal, Vote, VoteKind
from devnet.sim.core_chain import SimBlock


class Known:
    """Proposals, votes and blocks, as `node.height.HeightInProgress` keeps them."""

    def __init__(self) -> None:
        self.proposals: dict[int, Proposal] = {}
        """The first of each round."""
        self.timely: dict[int, bool] = {}
        """Of the proposal of each round."""
        self.fed: set[tuple[int, bytes]] = set()
        """Round and block of the proposals that the machine was given."""
        self.votes: dict[tuple[int, VoteKind, bytes, bytes | None], Vote] = {}
        """All that the machine was given."""
        self.blocks: dict[bytes, SimBlock] = {}
        """Complete here."""
        self.headers: dict[bytes, SimBlock] = {}
        """Of blocks whose bodies are missing."""
        self.wanted: set[bytes] = set()
        """Blocks that the machine has asked for."""
        self.judged: set[bytes] = set()
        """Blocks that were executed."""

    def has_proposal(self, proposal: Proposal, *, timely: bool) -> None:
        """*proposal* is the one of its round."""
        self.proposals[proposal.round] = proposal
        self.timely[proposal.round] = timely

    def has_block(self, block: SimBlock) -> None:
        """*block* is complete here, and executed."""
        self.blocks[block.id] = block
        self.judged.add(block.id)
