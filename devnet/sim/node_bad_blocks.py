"""Blocks that no honest node may accept, made from good ones: whole and consistent but for one thing."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from consensus.block import Block, Signed
from consensus.chain import commit_hash, transactions_root
from consensus.jellyfish import application_hash

TOO_MANY = 5_001
"""Transactions: one more than a block of the preset may hold."""
PAST_MS = 10_000_000

Spoil = Callable[[Block, Sequence[bytes], random.Random], Block | None]
"""The bad block, from the good one and the ids of committed transactions; None where this can't be done to it."""


def _state_root(block: Block, committed: Sequence[bytes], dice: random.Random) -> Block | None:
    """Somebody has coins that nobody gave."""
    roots = list(block.module_roots)
    at = dice.randrange(len(roots))
    roots[at] = replace(roots[at], root=dice.randbytes(32))
    header = replace(block.header, app_hash=application_hash(roots))
    return replace(block, header=header, module_roots=tuple(roots))


def _time(block: Block, committed: Sequence[bytes], dice: random.Random) -> Block | None:
    """Before its parent, or far ahead of all clocks."""
    return replace(block, header=replace(block.header, time_ms=block.header.time_ms + dice.choice((-PAST_MS, PAST_MS))))


def _commit(block: Block, committed: Sequence[bytes], dice: random.Random) -> Block | None:
    """A commit without its quorum, with a forged signature, or of somebody who was not asked."""
    commit = block.last_commit
    if commit is None:
        return None
    forged = (Signed(True, dice.randbytes(64)), *commit.entries[1:])
    lies = (
        replace(commit, entries=forged),
        replace(commit, entries=(*commit.entries[:1], *[None] * (len(commit.entries) - 1))),
        replace(commit, entries=(*commit.entries, commit.entries[0])),
        replace(commit, round=commit.round + 1),
    )
    other = dice.choice(lies)
    return replace(block, header=replace(block.header, last_commit_hash=commit_hash(other)), last_commit=other)


def _too_large(block: Block, committed: Sequence[bytes], dice: random.Random) -> Block | None:
    """More transactions than a block may hold."""
    return _with_ids(block, tuple(dice.randbytes(32) for _ in range(TOO_MANY)))


def _repeated(block: Block, committed: Sequence[bytes], dice: random.Random) -> Block | None:
    """A transaction of an earlier block once more, or one twice."""
    if block.transaction_ids and dice.random() < 0.5:
        return _with_ids(block, (*block.transaction_ids, block.transaction_ids[0]))
    if committed:
        return _with_ids(block, (*block.transaction_ids, dice.choice(committed)))
    return None


def _with_ids(block: Block, ids: tuple[bytes, ...]) -> Block:
    return replace(block, header=replace(block.header, transactions_root=transactions_root(ids)), transaction_ids=ids)


BAD_BLOCKS: Mapping[str, Spoil] = {
    "lie_state_root": _state_root,
    "lie_time": _time,
    "lie_commit": _commit,
    "lie_too_large": _too_large,
    "lie_repeated_transaction": _repeated,
}
