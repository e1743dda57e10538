"""A chain for tests of the store: blocks that follow from each other, with any changes and results, without a town."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consensus.application import BlockInfo, BlockOutcome, Changes, Event, Result
from consensus.block import Commit, Signed
from consensus.chain import ChainState, build_block, chain_changes, next_state
from consensus.params import Params
from consensus.signing import public_key, sha256
from consensus.transaction import Body, Message
from consensus.validators import Update
from node.store import DecidedBlock, Store

CHAIN_ID = "store-test-1"
GENESIS = b'chain_id = "store-test-1"\n'
SEEDS = tuple(bytes([number]) * 32 for number in range(1, 5))
NOTHING = Result("", 0, 0, ())


def write_genesis(store: Store, changes: Changes, *, params: Params) -> None:
    """Height 0 is stored, with the modules of *changes* and the engine's own."""
    chain = ChainState.genesis(
        chain_id=CHAIN_ID,
        genesis_hash=bytes(32),
        time_ms=1_000_000,
        validators=[Update(public_key(seed), 10) for seed in SEEDS],
        params=params,
    )
    whole = {**changes, "chain": chain_changes(None, chain)}
    store.write_genesis(GENESIS, chain, whole, store.plan(whole, 0))


def transaction(number: int, seed: bytes = SEEDS[0], sender: bytes = b"s" * 20) -> bytes:
    """The bytes of a transaction that differs from others by *number*."""
    body = Body(
        chain_id=CHAIN_ID,
        sender=sender,
        nonce=number,
        valid_until_ms=2_000_000,
        fee=0,
        fee_payer=None,
        messages=(Message("coin", "send", (number,)),),
        signers=(public_key(seed),),
    )
    return body.signed(seed).raw


def decide(
    store: Store,
    changes: Changes,
    *,
    transactions: Sequence[bytes] = (),
    events: Mapping[int, Sequence[Event]] | None = None,
    outcome: BlockOutcome | None = None,
) -> DecidedBlock:
    """The next block over *store*, decided but not committed; *events* by index of the result."""
    parent = store.chain_state()
    assert parent is not None
    height = parent.height + 1
    info = BlockInfo(
        chain_id=CHAIN_ID,
        height=height,
        time_ms=parent.time_ms + 1_000,
        parent_time_ms=parent.time_ms,
        proposer=parent.validators.addresses[0],
        params=parent.params,
        validators=parent.validators,
    )
    following = next_state(parent, info, outcome or BlockOutcome(result=NOTHING))
    whole = {**changes, "chain": chain_changes(parent, following)}
    plan = store.plan(whole, height)
    results = tuple(Result("", 0, 0, tuple((events or {}).get(index, ()))) for index in range(len(transactions) + 2))
    block = build_block(
        parent,
        following,
        time_ms=info.time_ms,
        proposer=info.proposer,
        last_commit=None if height == 1 else _commit(height - 1, parent.block_id, signed=4),
        transaction_ids=[sha256(raw) for raw in transactions],
        results=results,
        module_roots=plan.roots,
    )
    return DecidedBlock(
        block=block,
        transactions=tuple(transactions),
        commit=_commit(height, block.id, signed=3),
        results=results,
        changes=whole,
        plan=plan,
        chain_state=following.decided(block.header),
    )


def _commit(height: int, block_id: bytes, *, signed: int) -> Commit:
    """A commit in the right shape; its signatures are not."""
    entries = tuple(Signed(True, bytes(64)) if index < signed else None for index in range(len(SEEDS)))
    return Commit(height, 0, block_id, entries)
