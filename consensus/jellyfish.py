"""The pure half of the state tree: a Jellyfish Merkle tree hashed as a binary one, its proofs, the application hash.

A key's path is the 256 bits of its SHA-256, most significant first; bit 0 goes left. A lone leaf stands where its path
becomes unique, by bit: an inner node has two inner children, or a leaf and something, or nothing and an inner child;
never nothing and a leaf, since that leaf rises in its stead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from consensus import merkle
from consensus.block import ModuleRoot
from consensus.shape import Count, Hash
from consensus.signing import sha256

EMPTY = bytes(32)
"""The hash of a subtree without entries, and the root of an empty tree."""

DEPTH_MAX = 256


@dataclass(frozen=True, slots=True)
class TreeProof:
    """What stands at the end of a key's path, and the way from there to the root.

    The same proof shows presence (the leaf is the key's) and absence (another leaf, or nothing, stands in its place).
    """

    siblings: Annotated[tuple[Hash, ...], Count(DEPTH_MAX)]
    """From the root downward: number *d* is the node beside the path at depth *d* + 1, where bit *d* decides."""
    leaf: tuple[Hash, Hash] | None
    """Key hash and value hash of the leaf at the end of the path; None where nothing stands there."""


def leaf_hash(key: bytes, value: bytes) -> bytes:
    """32 bytes, the hash of the leaf that holds *value* under *key*: H(00 ‖ H(key) ‖ H(value))."""
    return hashed_leaf(sha256(key), sha256(value))


def hashed_leaf(key_hash: bytes, value_hash: bytes) -> bytes:
    """32 bytes, the hash of the leaf with these hashes of key and value."""
    return sha256(b"\x00" + key_hash + value_hash)


def inner_hash(left: bytes, right: bytes) -> bytes:
    """32 bytes, the hash of the node over two children: H(01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right)


def bit(path: bytes, depth: int) -> int:
    """Bit number *depth* of *path*, most significant first: 0 goes left, 1 right."""
    return path[depth >> 3] >> (7 - (depth & 7)) & 1


def common_bits(first: bytes, second: bytes) -> int:
    """How many leading bits two paths of 32 bytes share, 0…256."""
    return DEPTH_MAX - (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_length()


def verify(root: bytes, key: bytes, value: bytes | None, proof: TreeProof) -> bool:
    """Whether *proof* shows that the tree with *root* holds *value* under *key* (None: holds nothing). Never raises."""
    if len(proof.siblings) > DEPTH_MAX or any(len(sibling) != len(EMPTY) for sibling in proof.siblings):
        return False
    path = sha256(key)
    node = _end_of_path(path, value, proof)
    if node is None:
        return False
    for depth in range(len(proof.siblings) - 1, -1, -1):
        sibling = proof.siblings[depth]
        node = inner_hash(sibling, node) if bit(path, depth) else inner_hash(node, sibling)
    return node == root


def _end_of_path(path: bytes, value: bytes | None, proof: TreeProof) -> bytes | None:
    """The hash that must stand at the end of *path*, None where the proof's leaf contradicts the claim."""
    if proof.leaf is None:
        return EMPTY if value is None else None
    key_hash, value_hash = proof.leaf
    if len(key_hash) != len(EMPTY) or len(value_hash) != len(EMPTY):
        return None
    if value is not None:
        return hashed_leaf(path, value_hash) if (key_hash, value_hash) == (path, sha256(value)) else None
    stands_in_its_place = key_hash != path and common_bits(key_hash, path) >= len(proof.siblings)
    return hashed_leaf(key_hash, value_hash) if stands_in_its_place else None


def root_of(entries: Mapping[bytes, bytes]) -> bytes:
    """32 bytes, the root of the tree with exactly *entries*: the plain reference, from scratch."""
    leaves = _leaves(entries)
    return _subtree(leaves, 0, len(leaves), 0)


def proof_of(entries: Mapping[bytes, bytes], key: bytes) -> TreeProof:
    """The proof for *key*, present or absent, in the tree with exactly *entries*: the plain reference, from scratch."""
    leaves, path = _leaves(entries), sha256(key)
    low, high, depth = 0, len(leaves), 0
    siblings = []
    while high - low > 1:
        middle = _split(leaves, low, high, depth)
        if bit(path, depth):
            siblings.append(_subtree(leaves, low, middle, depth + 1))
            low = middle
        else:
            siblings.append(_subtree(leaves, middle, high, depth + 1))
            high = middle
        depth += 1
    return TreeProof(tuple(siblings), leaves[low] if low < high else None)


_Leaves = Sequence[tuple[bytes, bytes]]


def _leaves(entries: Mapping[bytes, bytes]) -> _Leaves:
    """(key hash, value hash) of all entries, in the order of their paths."""
    return sorted((sha256(key), sha256(value)) for key, value in entries.items())


def _split(leaves: _Leaves, low: int, high: int, depth: int) -> int:
    """Where, between *low* and *high*, the paths with bit 1 at *depth* begin."""
    while low < high:
        middle = (low + high) // 2
        if bit(leaves[middle][0], depth):
            high = middle
        else:
            low = middle + 1
    return low


def _subtree(leaves: _Leaves, low: int, high: int, depth: int) -> bytes:
    if low == high:
        return EMPTY
    if high - low == 1:
        return hashed_leaf(*leaves[low])
    middle = _split(leaves, low, high, depth)
    return inner_hash(_subtree(leaves, low, middle, depth + 1), _subtree(leaves, middle, high, depth + 1))


def module_leaf(module: ModuleRoot) -> bytes:
    """The leaf data of *module* in the application hash: length byte ‖ name ‖ 20 (hex) ‖ root, as ICS-23 can say it."""
    name = module.module.encode("utf-8")  # ASCII in a valid block; at most 160 bytes in any other
    return bytes([len(name)]) + name + bytes([len(module.root)]) + module.root


def application_hash(module_roots: Sequence[ModuleRoot]) -> bytes:
    """32 bytes, RFC 6962 over the modules' leaves, which must be sorted by name."""
    return merkle.root([module_leaf(module) for module in module_roots])
