"""Merkle trees of RFC 6962 over SHA-256: a leaf is H(00 ‖ data), an inner node H(01 ‖ left ‖ right).

Lists in headers are such trees. The prefixes keep an inner node from being passed off as a leaf.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from consensus.shape import U63, Count, Hash
from consensus.signing import sha256

_HASH_BYTES = 32
_hash = hashlib.sha256
"""For whole levels, without a call of ours for each node."""
_SIBLINGS_MAX = 63
"""A tree whose number of leaves fits in 63 bits is no deeper."""


@dataclass(frozen=True, slots=True)
class Proof:
    """That a leaf stands at *index* among *total*: the hashes beside its path, from the leaf upward."""

    index: U63
    total: U63
    siblings: Annotated[tuple[Hash, ...], Count(_SIBLINGS_MAX)]


def leaf_hash(data: bytes) -> bytes:
    """32 bytes, the hash of a leaf with *data*."""
    return sha256(b"\x00" + data)


def inner_hash(left: bytes, right: bytes) -> bytes:
    """32 bytes, the hash of the node over two nodes' hashes."""
    return sha256(b"\x01" + left + right)


def root(leaves: Sequence[bytes]) -> bytes:
    """32 bytes, the root over the leaves' data; SHA-256 of nothing where there are none."""
    if not leaves:
        return sha256(b"")
    level = [_hash(b"\x00" + data).digest() for data in leaves]
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def prove(leaves: Sequence[bytes], index: int) -> Proof:
    """The proof that ``leaves[index]`` is the leaf number *index* (from 0) of the tree over *leaves*."""
    assert 0 <= index < len(leaves), index
    level = [leaf_hash(data) for data in leaves]
    siblings = []
    place = index
    while len(level) > 1:
        beside = place ^ 1
        if beside < len(level):
            siblings.append(level[beside])
        level = _level_above(level)
        place >>= 1
    return Proof(index, len(leaves), tuple(siblings))


def verify(root: bytes, leaf: bytes, proof: Proof) -> bool:
    """Whether *proof* shows that *leaf* (data) is in the tree with *root*, at its index (RFC 9162, 2.1.3.2).

    Never raises. The total is proved only as far as the shape of the path shows it.
    """
    if not 0 <= proof.index < proof.total or any(len(sibling) != _HASH_BYTES for sibling in proof.siblings):
        return False
    node = leaf_hash(leaf)
    place, last = proof.index, proof.total - 1
    for sibling in proof.siblings:
        if last == 0:
            return False
        while place == last and not place & 1:  # a last node without a neighbour rises as it is
            place >>= 1
            last >>= 1
        node = inner_hash(sibling, node) if place & 1 else inner_hash(node, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and node == root


def _level_above(level: Sequence[bytes]) -> list[bytes]:
    """Nodes over pairs; an odd last one rises as it is, which splits at the largest power of two as RFC 6962 does."""
    pairs = zip(level[::2], level[1::2], strict=False)
    above = [_hash(b"\x01" + left + right).digest() for left, right in pairs]
    if len(level) % 2:
        above.append(level[-1])
    return above
