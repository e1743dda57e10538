"""Leaf ``chain`` of the application hash: what the engine itself keeps in the state, and how its keys are made.

``set``: the validator set of the next height with its priorities. ``params``: those of the next height. ``members`` +
first height: a set without priorities, in force since then; ``former`` + the same height: the last block (`BlockMark`)
of one that is not any more. ``hour`` + number of the hour: the first block (`BlockMark`) in it. ``convicted`` +
validator: the height of the block that last convicted it. Sets and hours are kept for the evidence window, convictions
for good: there are no more of them than lying validators.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.shape import U63

LEAF = "chain"
"""Its name among the modules."""


@dataclass(frozen=True, slots=True)
class BlockMark:
    """A block that something is counted from."""

    height: U63
    time_ms: U63


def leaf_key(table: str, *parts: int | bytes) -> bytes:
    """The key of a row: table, 00, integers as 8 bytes big-endian, bytes after their length in 2 (DESIGN §5)."""
    return table.encode("ascii") + b"\x00" + b"".join(map(_part, parts))


def _part(part: int | bytes) -> bytes:
    return part.to_bytes(8, "big") if isinstance(part, int) else len(part).to_bytes(2, "big") + part
