"""From one block to the next: the facts that carry over, and the block that is built on them.

The entries that `chain_changes` gives for the engine's
own leaf ``chain`` are covered by the application hash of the very block that decides them, so they hold nothing that
depends on that block's id or application hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated

from consensus import merkle
from consensus.address import key_address
from consensus.application import BlockInfo, BlockOutcome, Misbehaviour, Result, State
from consensus.block import HEADER_VERSION, Block, Commit, Header, ModuleRoot
from consensus.codec import Wire, encode
from consensus.evidence import Past
from consensus.jellyfish import application_hash
from consensus.leaf import BlockMark, leaf_key
from consensus.params import HOUR_MS, Params
from consensus.shape import U63, Count, Hash, to_bytes
from consensus.signing import sha256
from consensus.transaction import ChainId
from consensus.validators import Update, ValidatorSet
from consensus.vote import Height

UNDECIDED = bytes(32)
"""Stands for block id and application hash in a state whose header does not exist yet."""

FORMER_SETS_MAX = 4_096
"""Former sets that are kept for evidence; beyond, the oldest goes though it is not too old."""


@dataclass(frozen=True, slots=True)
class FormerSet:
    """A validator set that was in force from *first_height* to *last_height*, both included."""

    first_height: Height
    last_height: Height
    last_time_ms: U63
    """Time of the block at *last_height*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """What is known after the block at `height`, and all that the next block's validity depends on.

    Stored with each commit. Height 0 is the state before block 1: its block id is the genesis hash, its time the
    genesis time.
    """

    chain_id: ChainId
    genesis_hash: Hash
    height: Height
    time_ms: U63
    block_id: Hash
    app_hash: Hash
    last_validators: ValidatorSet
    """Of `height`: those whose commit the next block carries. Empty at height 0."""
    validators: ValidatorSet
    """Of `height` + 1, priorities already advanced."""
    set_since: Height
    """The first height at which the members and powers of `validators` are in force."""
    former_sets: Annotated[tuple[FormerSet, ...], Count(FORMER_SETS_MAX)]
    """Sets before `validators` on which evidence can still rest, oldest first; their members are in leaf ``chain``."""
    params: Params
    """Of `height` + 1."""

    @classmethod
    def genesis(
        cls,
        *,
        chain_id: str,
        genesis_hash: bytes,
        time_ms: int,
        validators: Iterable[Update],
        params: Params,
        app_hash: bytes = UNDECIDED,
    ) -> ChainState:
        """The state before block 1. Raises BadUpdate or BadParams for a set or parameters that can't begin a chain."""
        params.check()
        return cls(
            chain_id=chain_id,
            genesis_hash=genesis_hash,
            height=0,
            time_ms=time_ms,
            block_id=genesis_hash,
            app_hash=app_hash,
            last_validators=ValidatorSet(()),
            validators=ValidatorSet.of(validators),
            set_since=1,
            former_sets=(),
            params=params,
        )

    def past(self, state: State) -> Past:
        """What evidence in the next block is judged by; *state* is that after `height`."""
        return Past(state, chain_id=self.chain_id, height=self.height, time_ms=self.time_ms, params=self.params)

    def decided(self, header: Header) -> ChainState:
        """This state, which `next_state` gave, with the id and application hash of the header that it led to."""
        assert header.height == self.height, (header.height, self.height)
        return replace(self, block_id=header.id, app_hash=header.app_hash)


def params_hash(params: Params) -> bytes:
    """32 bytes, SHA-256 of the canonical bytes of *params*."""
    return sha256(to_bytes(params))


def results_hash(results: Sequence[Result]) -> bytes:
    """32 bytes, RFC 6962 over the canonical bytes of ``begin``, each transaction's result, ``end``."""
    return merkle.root([result.encoded for result in results])


def transactions_root(ids: Sequence[bytes]) -> bytes:
    """32 bytes, RFC 6962 over the transactions' ids. Asked for several times a block, so the last few are kept."""
    return _root_of_ids(tuple(ids))


@lru_cache(maxsize=4)
def _root_of_ids(ids: tuple[bytes, ...]) -> bytes:
    return merkle.root(ids)


def evidence_root(evidence: Sequence[Wire]) -> bytes:
    """32 bytes, RFC 6962 over the canonical bytes of each piece."""
    return merkle.root([encode(item) for item in evidence])


def commit_hash(commit: Commit | None) -> bytes:
    """32 bytes, the hash of *commit*; SHA-256 of nothing for the None of block 1."""
    return sha256(b"") if commit is None else commit.hash


def next_state(parent: ChainState, info: BlockInfo, outcome: BlockOutcome) -> ChainState:
    """The state after the block that *info* describes, whose execution gave *outcome*; its header does not exist yet.

    Block id and application hash are `UNDECIDED` until `ChainState.decided`. Raises BadUpdate or BadParams for updates
    that no chain can go on with: the application must not decide such, so this is our defect and stops the node.
    """
    validators = parent.validators.advanced().updated(outcome.validator_updates)
    changed = validators.hash != parent.validators.hash
    params = parent.params
    if outcome.params is not None:
        outcome.params.check()
        params = outcome.params
    former_sets = parent.former_sets
    if changed:
        former_sets += (FormerSet(parent.set_since, info.height, info.time_ms),)
    return ChainState(
        chain_id=parent.chain_id,
        genesis_hash=parent.genesis_hash,
        height=info.height,
        time_ms=info.time_ms,
        block_id=UNDECIDED,
        app_hash=UNDECIDED,
        last_validators=parent.validators,
        validators=validators,
        set_since=info.height + 1 if changed else parent.set_since,
        former_sets=_unexpired(former_sets, info, params),
        params=params,
    )


def _unexpired(former_sets: tuple[FormerSet, ...], info: BlockInfo, params: Params) -> tuple[FormerSet, ...]:
    """Those of *former_sets* that evidence in the next block can rest on: too old is too old in time and in blocks."""
    kept = tuple(
        former
        for former in former_sets
        if former.last_time_ms + params.evidence_age_ms >= info.time_ms
        or former.last_height + params.evidence_age_blocks >= info.height
    )
    return kept[-FORMER_SETS_MAX:]


def chain_changes(
    parent: ChainState | None, following: ChainState, evidence: Sequence[Misbehaviour] = ()
) -> Mapping[bytes, bytes | None]:
    """What changes in leaf ``chain`` (`consensus.leaf`) from *parent* to *following*; everything, for genesis (None).

    None deletes; keys to delete may be absent. *evidence*: what that of the block between the two proved. The way
    back is `consensus.restored`.
    """
    changes: dict[bytes, bytes | None] = {leaf_key("set"): to_bytes(following.validators)}
    if parent is None or parent.params != following.params:
        changes[leaf_key("params")] = to_bytes(following.params)
    if parent is None or parent.set_since != following.set_since:
        changes[leaf_key("members", following.set_since)] = to_bytes(without_priorities(following.validators))
    if parent is not None:
        kept = {former.first_height for former in following.former_sets} | {following.set_since}
        known = [former.first_height for former in parent.former_sets] + [parent.set_since]
        gone = [height for height in known if height not in kept]
        changes.update({leaf_key(table, height): None for table in ("members", "former") for height in gone})
        if parent.set_since != following.set_since:
            ended = following.former_sets[-1]
            changes[leaf_key("former", ended.first_height)] = to_bytes(BlockMark(ended.last_height, ended.last_time_ms))
    hour = following.time_ms // HOUR_MS
    if parent is None or parent.time_ms // HOUR_MS != hour:
        changes[leaf_key("hour", hour)] = to_bytes(BlockMark(following.height, following.time_ms))
    if parent is not None:
        changes.update({leaf_key("hour", old): None for old in _hours_to_forget(parent, following)})
    convicted = encode(following.height)
    changes.update({leaf_key("convicted", key_address(lie.public_key)): convicted for lie in evidence})
    return changes


def _hours_to_forget(parent: ChainState, following: ChainState) -> Iterator[int]:
    """Hours that leave the evidence window between two blocks. Those without a block have no entry.

    Entries of *parent* lie within its own window, so there are never more than that window has hours.
    """
    kept_since = _first_hour(following)
    return iter(range(_first_hour(parent), min(kept_since, parent.time_ms // HOUR_MS + 1)))


def _first_hour(state: ChainState) -> int:
    """The first hour whose entry is kept: an older one's blocks are all older than evidence may be."""
    return max(0, (state.time_ms - state.params.evidence_age_ms) // HOUR_MS)


def without_priorities(validators: ValidatorSet) -> ValidatorSet:
    """The same members and powers with all priorities 0: what a set's hash vouches for, and no more."""
    return ValidatorSet(tuple([replace(validator, priority=0) for validator in validators.validators]))


def build_block(
    parent: ChainState,
    following: ChainState,
    *,
    time_ms: int,
    proposer: bytes,
    last_commit: Commit | None,
    evidence: Sequence[Wire] = (),
    transaction_ids: Sequence[bytes],
    results: Sequence[Result],
    module_roots: Sequence[ModuleRoot],
) -> Block:
    """The block on *parent* that leads to *following*; *module_roots* are those after it, sorted by name."""
    header = Header(
        version=HEADER_VERSION,
        chain_id=parent.chain_id,
        height=parent.height + 1,
        time_ms=time_ms,
        last_block_id=parent.block_id,
        last_commit_hash=commit_hash(last_commit),
        transactions_root=transactions_root(transaction_ids),
        validators_hash=parent.validators.hash,
        next_validators_hash=following.validators.hash,
        params_hash=params_hash(parent.params),
        app_hash=application_hash(module_roots),
        results_hash=results_hash(results),
        evidence_root=evidence_root(evidence),
        proposer=proposer,
    )
    return Block(header, last_commit, tuple(evidence), tuple(transaction_ids), tuple(module_roots))
