"""What a liar answers to who catches up, or begins with a snapshot: each answer is of the right kind, and untrue."""

from __future__ import annotations

import random
from dataclasses import replace

from consensus.block import Header
from devnet.sim.node_town import SNAPSHOT_BLOCKS
from node.retention import BLOCKS
from node.snapshot_messages import (
    SNAPSHOTS_MAX,
    Headers,
    LightBlockHere,
    ModuleRoots,
    Snapshots,
    StateEntries,
    StateNode,
)
from node.store import Store
from node.sync_messages import QUESTIONS, DecidedHeight, NoHeight, SyncMessage

SILENCE = 0.2
"""How often a liar does not answer."""


def false_answer(said: SyncMessage, store: Store, dice: random.Random) -> SyncMessage | None:
    """A lie in place of *said*, None for silence; *said* itself where it is no answer, or gives no occasion."""
    if isinstance(said, QUESTIONS):
        return said
    if dice.random() < SILENCE:
        return None
    match said:
        case DecidedHeight():
            return _block(said, dice)
        case NoHeight(height):
            return _invented(height, store) or said
        case Snapshots(heights):
            newer = max(heights, default=0) + SNAPSHOT_BLOCKS * dice.randint(1, 9)
            return Snapshots((newer, *heights)[:SNAPSHOTS_MAX])
        case LightBlockHere():
            return replace(said, header=_later(said.header))
        case Headers(headers):
            return Headers((*headers[:-1], _later(headers[-1])))
        case ModuleRoots(height, roots):
            at = dice.randrange(len(roots))
            return ModuleRoots(height, (*roots[:at], replace(roots[at], root=dice.randbytes(32)), *roots[at + 1 :]))
        case StateEntries(entries) if entries:
            (key, value), *rest = entries
            return StateEntries(dice.choice((((key, value + b"\x00"), *rest), tuple(rest))))
        case StateNode(places):
            return StateNode(tuple(place and replace(place, second=dice.randbytes(32)) for place in places))
    return said


def _block(said: DecidedHeight, dice: random.Random) -> DecidedHeight:
    """Not the block that was decided, not enough signatures, or a body too much."""
    return dice.choice(
        (
            replace(said, block=replace(said.block, header=_later(said.block.header))),
            replace(said, commit=replace(said.commit, entries=said.commit.entries[:1])),
            replace(said, transactions=(*said.transactions, b"more")),
        )
    )


def _invented(height: int, store: Store) -> DecidedHeight | None:
    """The latest block as if it were of *height*, which nobody has decided."""
    latest = store.height
    if latest < store.kept.earliest[BLOCKS]:
        return None
    block, (commit, _) = store.block(latest), store.commit_of(latest)
    return DecidedHeight(
        replace(block, header=replace(block.header, height=height)),
        store.block_transactions(latest),
        replace(commit, height=height),
    )


def _later(header: Header) -> Header:
    return replace(header, time_ms=header.time_ms + 1)
