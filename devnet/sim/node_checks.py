"""What must hold in every node world, whatever happens: looked at on every commit of every node."""

from __future__ import annotations

from dataclasses import dataclass

from city.app import Town
from consensus.address import key_address
from consensus.evidence import Evidence, from_wire
from consensus.validity import InvalidBlock, verify_commit
from consensus.vote import Proposal, Vote
from devnet.sim.node_town import CHAIN_ID, JAIL_MS
from devnet.sim.node_trace import Trace
from devnet.sim.outcome import Broken
from node.retention import BLOCKS
from node.store import Store

Said = tuple[str, int, int]
"""What was signed: kind, height and round."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A height as the first node that decided it has it."""

    node: int
    block_id: bytes
    app_hash: bytes
    round: int
    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Conviction:
    """What the evidence in a block came to."""

    accused: bytes
    """Address."""
    height: int
    """Of the block."""
    time_ms: int
    """Of the block."""
    lied_at: int


class Checker:
    """Safety. `decided` is the one history; every node must have a part of it."""

    def __init__(self, trace: Trace, liars: frozenset[bytes] = frozenset()) -> None:
        """*liars*: addresses of the validators that may be convicted."""
        self._trace = trace
        self._liars = liars
        self._convictions: list[Conviction] = []
        """By blocks, ascending."""
        self._proved: dict[bytes, int] = {}
        """The last height at which each liar is known to have voted twice."""
        self.decided: dict[int, Decided] = {}
        self.rounds_above_0 = 0
        """Rounds after the first that decided heights went through."""
        self.committed: dict[bytes, int] = {}
        """Height of each committed transaction."""
        self.submitted: dict[bytes, None] = {}
        """Everything that was ever sent by somebody."""
        self._stored: dict[int, int] = {}
        """The highest height that each node was seen to have stored."""
        self._said: dict[tuple[bytes, Said], bytes | None] = {}
        """By public key: the block id that was signed there."""

    @property
    def height(self) -> int:
        """The highest decided height."""
        return max(self.decided, default=0)

    def opened(self, node: int, store: Store) -> None:
        """*node* has started over *store*: all that it had decided is still there. Raises Broken."""
        had = self._stored.get(node, 0)
        if store.height < had:
            raise Broken("lost_height", f"node {node} had stored height {had} and came back with {store.height}")
        for height in range(max(store.kept.earliest[BLOCKS], had - 1), store.height + 1):
            self.reached(node, store, height, None)

    def landed(self, node: int, store: Store, app: Town) -> None:
        """*node* has begun with a snapshot: a state of the one history, in which everything holds. Raises Broken."""
        self._stored[node] = store.height
        if store.height in self.decided:
            self._agrees(node, store, store.height)
            self._holds(store, app)

    def reached(self, node: int, store: Store, height: int, app: Town | None) -> None:
        """*node* has stored *height*. *app*: who knows what must hold in its state. Raises Broken."""
        self._stored[node] = max(height, self._stored.get(node, 0))
        known = self.decided.get(height)
        if known is None:
            self._first(node, store, height, app)
            return
        self._agrees(node, store, height)
        if store.block(height).transaction_ids != known.transactions:
            raise Broken("contents", f"nodes {node} and {known.node} hold different transactions at height {height}")

    def _agrees(self, node: int, store: Store, height: int) -> None:
        """*node*'s header at *height* is the one that is known, if one is."""
        header, known = store.header(height), self.decided.get(height)
        if known is None:
            return
        if header.id != known.block_id:
            raise Broken(
                "fork",
                f"at height {height} node {node} decided {header.id.hex()[:16]}, "
                f"node {known.node} {known.block_id.hex()[:16]}",
            )
        if header.app_hash != known.app_hash:
            raise Broken("contents", f"nodes {node} and {known.node} hold different states at height {height}")

    def _first(self, node: int, store: Store, height: int, app: Town | None) -> None:
        block, (commit, _) = store.block(height), store.commit_of(height)
        header = block.header
        former = self.decided.get(height - 1)
        if former is not None and header.last_block_id != former.block_id:
            raise Broken("fork", f"at height {height} node {node} builds on {header.last_block_id.hex()[:16]}")
        try:
            verify_commit(CHAIN_ID, store.validators_at(height), commit, header.id)
        except InvalidBlock as invalid:
            raise Broken(
                "commit", f"node {node} stored height {height} with one that proves nothing: {invalid}"
            ) from None
        for id_ in block.transaction_ids:
            if id_ in self.committed:
                raise Broken("repeated", f"transaction {id_.hex()[:16]} at heights {self.committed[id_]} and {height}")
            if id_ not in self.submitted:
                raise Broken("invented", f"transaction {id_.hex()[:16]} at height {height} was never sent by anybody")
            self.committed[id_] = height
        for piece in block.evidence:
            self.convicts(height, header.time_ms, from_wire(piece))
        if app is not None and height == store.height:
            self._holds(store, app)
        self.decided[height] = Decided(node, header.id, header.app_hash, commit.round, block.transaction_ids)
        self.rounds_above_0 += commit.round
        self._trace.note(
            f"height {height} decided in round {commit.round}, first by node {node}: {header.id.hex()[:16]}, "
            f"state {header.app_hash.hex()[:16]}, {len(block.transaction_ids)} transactions"
        )

    def _holds(self, store: Store, app: Town) -> None:
        """What must hold in the latest state of *store*, and in jail are those whom blocks have convicted by then."""
        height, state = store.height, store.state()
        broken = app.broken_invariants(state)
        if broken:
            raise Broken("invariant", f"after height {height}: {', '.join(broken)}")
        jailed = {
            key_address(bytes.fromhex(row["key"])): (row["value"]["lied_at"], row["value"]["until"])
            for row in app.query("validators/jailings", {}, state, height=height, time_ms=0)["rows"]
            if row["value"]["tombstoned"]
        }
        convicted = {}
        for conviction in self._convictions:
            if conviction.height <= height:
                until = conviction.time_ms + JAIL_MS
                convicted[conviction.accused] = (conviction.lied_at, until)
        if jailed != convicted:
            raise Broken("jail", f"after height {height} in jail for good are {jailed}, convicted were {convicted}")
        chain = store.chain_state()
        assert chain is not None
        if any(chain.validators.by_address(address) for address in jailed):
            raise Broken("jail", f"after height {height} a validator in jail may vote")

    def convicts(self, height: int, time_ms: int, evidence: Evidence) -> None:
        """Evidence in the block at *height* is against a liar, and about what no earlier block has punished."""
        accused = evidence.accused
        if accused not in self._liars:
            raise Broken("framed", f"the block at height {height} convicts {accused.hex()}, who is honest")
        former = self._convicted_at(accused)
        if evidence.height <= former:
            raise Broken("punished_twice", f"height {height} convicts {accused.hex()} as height {former} had done")
        self._convictions.append(Conviction(accused, height, time_ms, evidence.height))
        self._trace.note(f"height {height} convicts {accused.hex()} of its votes at height {evidence.height}")

    def proved(self, node: int, evidence: Evidence) -> None:
        """*node* holds *evidence* of a decided height: it is against a liar, and a block must bear it, or has."""
        accused = evidence.accused
        if accused not in self._liars:
            raise Broken("framed", f"node {node} holds evidence against {accused.hex()}, who is honest")
        if self._proved.get(accused, -1) < evidence.height:
            self._proved[accused] = evidence.height
            self._trace.fault("double_vote_proved", f"{accused.hex()} at height {evidence.height}, by node {node}")

    def unpunished(self) -> list[str]:
        """Who is proved to have lied, and convicted by no block since."""
        return [accused.hex() for accused, height in self._proved.items() if self._convicted_at(accused) < height]

    def _convicted_at(self, accused: bytes) -> int:
        """Height of the block that convicted it last; -1: none did."""
        return max((each.height for each in self._convictions if each.accused == accused), default=-1)

    def holds_all(self, node: int, store: Store) -> None:
        """*node*'s whole chain is the one history, and it has come to its state. Raises Broken."""
        for height in range(store.kept.earliest[BLOCKS], store.height + 1):
            self.reached(node, store, height, None)
        chain = store.chain_state()
        assert chain is not None
        if chain.app_hash != self.decided[store.height].app_hash:
            raise Broken("contents", f"node {node} has another application hash after height {store.height}")

    # Signatures -----------------------------------------------------------------------------------------------------

    def signed_vote(self, node: int, key: bytes, vote: Vote) -> None:
        """*vote* of the honest validator with public *key* leaves *node*. Raises Broken if it contradicts another."""
        self._says(node, key, (vote.kind.name.lower(), vote.height, vote.round), vote.block_id)

    def signed_proposal(self, node: int, key: bytes, proposal: Proposal) -> None:
        """Likewise for a proposal."""
        self._says(node, key, ("proposal", proposal.height, proposal.round), proposal.block_id)

    def _says(self, node: int, key: bytes, place: Said, block_id: bytes | None) -> None:
        before = self._said.setdefault((key, place), block_id)
        if before != block_id:
            kind, height, round_ = place
            raise Broken(
                "double_signing",
                f"node {node} signed two {kind}s at height {height}, round {round_}: "
                f"{_short(before)} and {_short(block_id)}",
            )


def _short(block_id: bytes | None) -> str:
    return "nil" if block_id is None else block_id.hex()[:16]
