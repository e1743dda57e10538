"""Nodes of the state tree: 16 places to a node, hashed as four levels of a binary tree.

A *reference* says what stands in a place, and is the same in a node and as a tree's root:

- ``b""``: nothing;
- 96 bytes: a leaf, ``key hash ‖ value hash ‖ leaf hash``;
- 40 bytes: a node, ``height ‖ hash``; the height (8 bytes, big-endian) is that of the block that wrote the node.

Leaves stand inside their parent: a changed key costs no read and no write of its own.

In memory a node is a heap of 32: numbers 16…31 are the references in its places, number *i* below is what stands over
2*i* and 2*i* + 1: nothing, a lone leaf that rises, or the 32-byte hash of both. So number 1 is what the whole node is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import TypeAlias

from consensus.jellyfish import EMPTY, hashed_leaf

WIDTH = 16
"""Places in a node; it stands for `LEVELS` levels of the binary tree."""
LEVELS = 4
LEAF_BYTES = 96
INNER_BYTES = 40

Node: TypeAlias = "list[bytes | None]"
"""A heap as above. Never changed once it is shared; None in numbers 1…15 of a node whose hashes were not needed yet."""

_ALL = tuple(range(WIDTH - 1, 0, -1))
_ABOVE = tuple(tuple(WIDTH + place >> level for level in range(1, LEVELS + 1)) for place in range(WIDTH))
"""For each place, the numbers of the heap that stand over it, from below."""
_ABOVE_BITS = tuple(sum(1 << number for number in numbers) for numbers in _ABOVE)
"""The same as bits."""

_sha256 = hashlib.sha256


def leaf_reference(key_hash: bytes, value_hash: bytes) -> bytes:
    """The reference of the leaf with these hashes of key and value (32 bytes each)."""
    return key_hash + value_hash + hashed_leaf(key_hash, value_hash)


def inner_reference(height: bytes, hash_: bytes) -> bytes:
    """The reference of the node with *hash_* that the block at *height* (8 bytes, big-endian) wrote."""
    return height + hash_


def hash_of(reference: bytes | None) -> bytes:
    """32 bytes: what a reference, or a number of a heap, hashes to; `EMPTY` for nothing."""
    return reference[-32:] if reference else EMPTY


def empty_node() -> Node:
    """A node without children."""
    return [b""] * (2 * WIDTH)


def encode_node(node: Node) -> bytes:
    """The bytes of *node*: the lengths of its 16 references, a byte each, then the references."""
    children: list[bytes] = node[WIDTH:]  # type: ignore[assignment]  # no None among the children
    return bytes(map(len, children)) + b"".join(children)


def decode_node(data: bytes) -> Node:
    """The node with these bytes, its hashes not computed."""
    node: Node = [None] * WIDTH
    at = WIDTH
    for length in data[:WIDTH]:
        node.append(data[at : at + length])
        at += length
    assert at == len(data), "a node is exactly its references"
    return node


def rehash(node: Node, places: Collection[int]) -> None:
    """The hashes of *node* are right, given that only *places* changed since they were (all, if none were computed)."""
    numbers: Iterable[int]
    if node[1] is None:
        numbers = _ALL
    elif len(places) == 1:
        (place,) = places
        numbers = _ABOVE[place]
    else:
        bits = 0
        for place in places:
            bits |= _ABOVE_BITS[place]
        numbers = [number for number in _ALL if bits >> number & 1]
    for number in numbers:
        left, right = node[2 * number], node[2 * number + 1]
        if left and right:
            node[number] = _sha256(b"\x01" + left[-32:] + right[-32:]).digest()
        elif left:
            node[number] = left if len(left) == LEAF_BYTES else _sha256(b"\x01" + left[-32:] + EMPTY).digest()
        elif right:
            node[number] = right if len(right) == LEAF_BYTES else _sha256(b"\x01" + EMPTY + right[-32:]).digest()
        else:
            node[number] = b""


def hashed(node: Node) -> Node:
    """*node* with all its hashes."""
    if node[1] is None:
        node = node.copy()
        rehash(node, ())
    return node
