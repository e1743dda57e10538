"""One module's Jellyfish tree: what a batch of changes makes of it, and proofs. Reads nodes, writes none.

The plain reference is `consensus.jellyfish.root_of`; this is the same tree, kept in nodes of 16, changed in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from consensus.jellyfish import DEPTH_MAX, TreeProof
from consensus.signing import sha256
from node.state_nodes import (
    INNER_BYTES,
    LEAF_BYTES,
    LEVELS,
    WIDTH,
    Node,
    empty_node,
    hash_of,
    hashed,
    inner_reference,
    leaf_reference,
    rehash,
)

ReadNode = Callable[[bytes, bytes], Node]
"""The node that the block at a height (8 bytes, big-endian) wrote at a path (one byte, 0…15, for each level)."""

_Change = tuple[bytes, bytes]
"""Key hash, and the new leaf's reference; ``b""`` removes the key. Lists of them are sorted, key hashes distinct."""


@dataclass(slots=True)
class TreeUpdate:
    """What a batch does to one tree."""

    root: bytes
    """The reference of the new root."""
    written: dict[bytes, Node] = field(default_factory=dict)
    """New nodes by path; their height is the update's."""
    stale: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Height (8 bytes) and path of the nodes that the new tree no longer has."""


def update_tree(
    root: bytes, changes: Iterable[tuple[bytes, bytes | None]], *, height: int, read_node: ReadNode
) -> TreeUpdate:
    """The tree behind reference *root* after *changes* in block *height*: distinct keys, values or None to remove."""
    batch = sorted([(sha256(key), b"" if value is None else sha256(value)) for key, value in changes])
    batch = [(key_hash, value and leaf_reference(key_hash, value)) for key_hash, value in batch]
    update = TreeUpdate(root)
    if batch:
        update.root = _Pass(update, height, read_node).changed(root, b"", batch)
    return update


def build_subtree(path: bytes, leaves: Iterable[tuple[bytes, bytes]], *, height: int) -> TreeUpdate:
    """The tree at *path* (one byte, 0…15, for each level) that holds exactly *leaves*, as nodes that *height* wrote.

    *leaves*: hashes of key and value, the former ascending, each beginning with *path*.
    """
    update = TreeUpdate(b"")
    batch = [(key_hash, leaf_reference(key_hash, value_hash)) for key_hash, value_hash in leaves]
    if batch:
        update.root = _Pass(update, height, _no_node).changed(b"", path, batch)
    return update


def _no_node(height: bytes, path: bytes) -> Node:
    raise AssertionError("a tree that is built from nothing reads no node")


def reference_at(root: bytes, path: bytes, read_node: ReadNode) -> bytes:
    """What stands at *path* in the tree behind reference *root*; a lone leaf also where it would stand if it sank."""
    reference = root
    for depth, nibble in enumerate(path):
        if len(reference) != INNER_BYTES:
            return reference if begins_with(reference[:32], path) else b""
        reference = _child(read_node(reference[:8], path[:depth]), nibble)
    return reference


def leaves_below(reference: bytes, path: bytes, read_node: ReadNode) -> Iterator[tuple[bytes, bytes]]:
    """Hashes of key and value of each leaf below *reference*, which stands at *path*, the former ascending."""
    if len(reference) == LEAF_BYTES:
        yield reference[:32], reference[32:64]
    elif reference:
        node = read_node(reference[:8], path)
        for nibble in range(WIDTH):
            yield from leaves_below(_child(node, nibble), path + bytes((nibble,)), read_node)


def begins_with(key_hash: bytes, path: bytes) -> bool:
    """Whether *key_hash*, if there is one, lies below *path*."""
    return bool(key_hash) and all(_nibble(key_hash, depth) == nibble for depth, nibble in enumerate(path))


def _child(node: Node, nibble: int) -> bytes:
    return node[WIDTH + nibble] or b""


def prove(root: bytes, key: bytes, read_node: ReadNode) -> TreeProof:
    """The proof for *key*, present or absent, in the tree behind reference *root*."""
    key_hash = sha256(key)
    siblings: list[bytes] = []
    reference, path = root, b""
    while len(reference) == INNER_BYTES:
        assert len(path) < DEPTH_MAX // LEVELS, "a tree is no deeper than its paths"
        nibble = _nibble(key_hash, len(path))
        reference = _descend(hashed(read_node(reference[:8], path)), nibble, siblings)
        path += bytes((nibble,))
    return TreeProof(tuple(siblings), (reference[:32], reference[32:64]) if reference else None)


def _descend(node: Node, nibble: int, siblings: list[bytes]) -> bytes:
    """What stands at the end of the four bits *nibble*, or before: a lone leaf or nothing on the way there.

    Appends to *siblings* the hashes of what is passed.
    """
    number = 1
    for shift in range(LEVELS - 1, -1, -1):
        here = node[number]
        assert here is not None
        if not here or len(here) == LEAF_BYTES:
            return here
        number = 2 * number + (nibble >> shift & 1)
        siblings.append(hash_of(node[number ^ 1]))
    return node[number] or b""


def _nibble(key_hash: bytes, depth: int) -> int:
    """The four bits of *key_hash* that decide at a node of *depth*."""
    return key_hash[depth >> 1] & 15 if depth & 1 else key_hash[depth >> 1] >> 4


class _Pass:
    """One recursive pass over the nodes that a batch touches; fills an update."""

    def __init__(self, update: TreeUpdate, height: int, read_node: ReadNode) -> None:
        self._written = update.written
        self._stale = update.stale
        self._height = height.to_bytes(8, "big")
        self._read_node = read_node

    def changed(self, reference: bytes, path: bytes, batch: list[_Change]) -> bytes:
        """What stands at *path*, where *reference* stood, after *batch*."""
        if len(reference) == INNER_BYTES:
            return self._changed_node(reference, path, batch)
        if len(batch) == 1 and (not reference or reference[:32] == batch[0][0]):
            return batch[0][1]
        leaves = [change for change in batch if change[1]]
        if reference:
            key_hash = reference[:32]
            if all(key_hash != change[0] for change in batch):
                leaves.append((key_hash, reference))
                leaves.sort()
        return self._built(path, leaves)

    def _changed_node(self, reference: bytes, path: bytes, batch: list[_Change]) -> bytes:
        height = reference[:8]
        node = self._read_node(height, path)
        if len(batch) == 1:
            return self._changed_place(reference, path, node, batch)
        changed: dict[int, bytes] = {}
        for nibble, group in _by_nibble(batch, len(path)):
            former = node[WIDTH + nibble] or b""
            following = self.changed(former, path + bytes((nibble,)), group)
            if following != former:
                changed[nibble] = following
        if not changed:
            return reference
        self._stale.append((height, path))
        node = node.copy()
        for nibble, following in changed.items():
            node[WIDTH + nibble] = following
        return self._closed(path, node, changed)

    def _changed_place(self, reference: bytes, path: bytes, node: Node, batch: list[_Change]) -> bytes:
        """The same for a single change, which is what most nodes at the bottom see."""
        key_hash, leaf = batch[0]
        nibble = _nibble(key_hash, len(path))
        former = node[WIDTH + nibble] or b""
        if leaf and former[:32] == key_hash and len(former) == LEAF_BYTES:
            following = leaf  # a value of a known key
        else:
            following = self.changed(former, path + bytes((nibble,)), batch)
        if following == former:
            return reference
        self._stale.append((reference[:8], path))
        node = node.copy()
        node[WIDTH + nibble] = following
        return self._closed(path, node, (nibble,))

    def _built(self, path: bytes, leaves: list[_Change]) -> bytes:
        """A new subtree at *path* of *leaves*."""
        if len(leaves) <= 1:
            return leaves[0][1] if leaves else b""
        node = empty_node()
        places = []
        for nibble, group in _by_nibble(leaves, len(path)):
            node[WIDTH + nibble] = self._built(path + bytes((nibble,)), group)
            places.append(nibble)
        return self._closed(path, node, places)

    def _closed(self, path: bytes, node: Node, places: Collection[int]) -> bytes:
        """The reference for *node*, in which *places* changed: a lone leaf rises, and no node is written for it."""
        rehash(node, places)
        whole = node[1]
        assert whole is not None
        if not whole or len(whole) == LEAF_BYTES:
            return whole
        self._written[path] = node
        return inner_reference(self._height, whole)


def _by_nibble(batch: list[_Change], depth: int) -> list[tuple[int, list[_Change]]]:
    """*batch* cut into runs with the same four bits at *depth*."""
    if len(batch) == 1:
        return [(_nibble(batch[0][0], depth), batch)]
    groups: list[tuple[int, list[_Change]]] = []
    group: list[_Change] = []
    at, is_low = depth >> 1, depth & 1
    last = -1
    for change in batch:
        byte = change[0][at]
        nibble = byte & 15 if is_low else byte >> 4
        if nibble != last:
            group = []
            groups.append((nibble, group))
            last = nibble
        group.append(change)
    return groups
