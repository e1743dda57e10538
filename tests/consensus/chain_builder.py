"""A small chain with real keys and signatures, made block by block, for the tests of facts about blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from consensus.application import BlockInfo, BlockOutcome, Result
from consensus.block import Block, Commit, LightBlock, ModuleRoot
from consensus.chain import ChainState, build_block, chain_changes, next_state
from consensus.evidence import Evidence, to_wire
from consensus.params import TINY, Params
from consensus.signing import public_key, sha256, sign
from consensus.validators import Update, ValidatorSet
from consensus.validity import commit_from_votes, judged_evidence
from consensus.vote import Vote, VoteKind, vote_sign_bytes

CHAIN_ID = "ting-test-1"
GENESIS_HASH = sha256(b"genesis")
GENESIS_TIME_MS = 1_790_000_000_000
RESULT = Result("", 0, 0, ())


def seed(number: int) -> bytes:
    """The seed of validator *number*."""
    return sha256(b"validator %d" % number)


def update(number: int, power: int) -> Update:
    """Validator *number* gets *power*."""
    return Update(public_key(seed(number)), power)


SEEDS = {public_key(seed(number)): seed(number) for number in range(16)}


def signed_vote(
    secret: bytes,
    block_id: bytes | None,
    *,
    height: int = 1,
    round_: int = 0,
    kind: VoteKind = VoteKind.PRECOMMIT,
    chain_id: str = CHAIN_ID,
) -> Vote:
    """A vote with a true signature by *secret*'s key."""
    message = vote_sign_bytes(chain_id, kind, height, round_, block_id)
    validator = ValidatorSet.of([Update(public_key(secret), 1)]).addresses[0]
    signature = sign(secret, message)
    return Vote(kind=kind, height=height, round=round_, block_id=block_id, validator=validator, signature=signature)


class Leaf:
    """A `State` whose only module is the engine's leaf ``chain``."""

    def __init__(self, changes: Mapping[bytes, bytes | None]) -> None:
        self.rows = {key: value for key, value in changes.items() if value is not None}

    def after(self, changes: Mapping[bytes, bytes | None]) -> Leaf:
        """The leaf with *changes*."""
        return Leaf({**self.rows, **changes})

    def get(self, module: str, key: bytes) -> bytes | None:
        """See `State`."""
        assert module == "chain"
        return self.rows.get(key)

    def scan(
        self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """See `State`."""
        assert module == "chain"
        assert stop is not None
        return iter(sorted([item for item in self.rows.items() if start <= item[0] < stop], reverse=reverse))


class Chain:
    """Validators 0, 1, … with these powers; `state` is that after the latest block of `blocks`."""

    def __init__(self, powers: Sequence[int] = (10, 10, 10, 10), params: Params = TINY) -> None:
        self.genesis = ChainState.genesis(
            chain_id=CHAIN_ID,
            genesis_hash=GENESIS_HASH,
            time_ms=GENESIS_TIME_MS,
            validators=[update(number, power) for number, power in enumerate(powers)],
            params=params,
        )
        self.state = self.genesis
        self.states = [self.genesis]
        self.blocks: list[Block] = []
        self.commit: Commit | None = None
        self.leaf = Leaf(chain_changes(None, self.genesis))
        """The state after `state`: leaf ``chain`` alone."""

    def next_block(
        self,
        *,
        time_ms: int | None = None,
        ids: Sequence[bytes] = (),
        updates: Iterable[Update] = (),
        params: Params | None = None,
        app: bytes = b"",
        evidence: Iterable[Evidence] = (),
    ) -> tuple[Block, ChainState]:
        """A valid block on `state`, and the state after it; nothing is decided. *evidence* may be false."""
        parent = self.state
        time_ms = parent.time_ms + 1_000 if time_ms is None else time_ms
        proposer = parent.validators.proposer(0).address
        info = BlockInfo(
            chain_id=CHAIN_ID,
            height=parent.height + 1,
            time_ms=time_ms,
            parent_time_ms=parent.time_ms,
            proposer=proposer,
            params=parent.params,
            validators=parent.validators,
        )
        outcome = BlockOutcome(result=RESULT, validator_updates=tuple(updates), params=params)
        following = next_state(parent, info, outcome)
        block = build_block(
            parent,
            following,
            time_ms=time_ms,
            proposer=proposer,
            last_commit=self.commit,
            evidence=[to_wire(piece) for piece in evidence],
            transaction_ids=ids,
            results=[RESULT] * (2 + len(ids)),
            module_roots=[ModuleRoot("chain", sha256(app)), ModuleRoot("coin", bytes(32))],
        )
        return block, following.decided(block.header)

    def decide(self, block: Block, following: ChainState) -> None:
        """*block* is decided in round 0, with everybody's precommit."""
        self.commit = self.commit_for(block)
        proved = judged_evidence(block.evidence, self.state, self.leaf)
        self.leaf = self.leaf.after(chain_changes(self.state, following, proved))
        self.blocks.append(block)
        self.state = following
        self.states.append(following)

    def extend(
        self,
        count: int = 1,
        *,
        time_ms: int | None = None,
        updates: Iterable[Update] = (),
        params: Params | None = None,
        app: bytes = b"",
        evidence: Iterable[Evidence] = (),
    ) -> None:
        """*count* more blocks are decided."""
        for _ in range(count):
            self.decide(*self.next_block(time_ms=time_ms, updates=updates, params=params, app=app, evidence=evidence))

    def commit_for(self, block: Block, *, round_: int = 0, signers: Iterable[int] | None = None) -> Commit:
        """The commit of *block* by the members of its set with the places *signers* (all by default)."""
        members = self.states[block.header.height - 1].validators
        places = range(len(members.validators)) if signers is None else signers
        votes = [
            signed_vote(
                SEEDS[members.validators[place].public_key], block.id, height=block.header.height, round_=round_
            )
            for place in places
        ]
        return commit_from_votes(members, votes, block.header.height, round_, block.id)

    def light_block(self, height: int, *, signers: Iterable[int] | None = None) -> LightBlock:
        """The light block of *height*."""
        block = self.blocks[height - 1]
        return LightBlock(block.header, self.commit_for(block, signers=signers), False)

    def validators_at(self, height: int) -> ValidatorSet:
        """The set of *height*."""
        return self.states[height - 1].validators
