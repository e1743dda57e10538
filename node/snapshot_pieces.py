"""Pieces of a state tree: read where they are served, and verified, each by itself, where they arrive."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from consensus.application import State
from consensus.codec import BadMessage
from consensus.jellyfish import hashed_leaf, inner_hash
from consensus.signing import sha256
from node.snapshot_messages import DEPTH_MAX, PIECE_BYTES_MAX, PIECE_ENTRIES_MAX, PLACES, Place, StateEntries, StateNode
from node.state_nodes import LEAF_BYTES, WIDTH, Node, empty_node, hash_of, inner_reference, leaf_reference, rehash
from node.state_plan import StateTrees, Subtree
from node.state_tree import TreeUpdate, begins_with, build_subtree

SLICE_ENTRIES = 128
"""Read between two yields: 1 to 2 ms. A count, not a clock: simulations must repeat."""


def read_piece(
    trees: StateTrees, state: State, subtree: Subtree, *, entries_max: int = PIECE_ENTRIES_MAX
) -> Generator[None, None, StateEntries | StateNode]:
    """The answer to whoever asks for *subtree*, of the height of *state*; yields now and then. Raises StoreFailed.

    That height must stay until the end (`Kept.pins`): the tree's nodes are read without a look at the horizon.
    """
    module = subtree.module
    leaves = []
    for leaf in subtree.leaves():
        leaves.append(leaf)
        if len(leaves) > entries_max:
            yield
            return _node(subtree)
        if len(leaves) % SLICE_ENTRIES == 0:
            yield
    entries: list[tuple[bytes, bytes]] = []
    size = 0
    for number, (key_hash, _) in enumerate(leaves):
        key = trees.key_of(module, key_hash)
        value = state.get(module, key)
        assert value is not None, "a leaf of the tree has a value"
        entries.append((key, value))
        size += len(key) + len(value)
        if size > PIECE_BYTES_MAX and len(leaves) > 1:
            return _node(subtree)
        if number % SLICE_ENTRIES == SLICE_ENTRIES - 1:
            yield
    return StateEntries(tuple(entries))


def _node(subtree: Subtree) -> StateNode:
    places: list[Place | None] = []
    for nibble, child in enumerate(subtree.children()):
        if not child:
            places.append(None)
        elif len(child) == LEAF_BYTES:
            places.append(Place(False, child[:32], child[32:64]))
        else:
            places.append(Place(True, *subtree.halves_of(nibble, child)))
    return StateNode(tuple(places))


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a module's state that is known by its hash, and not by its content yet."""

    module: str
    path: bytes
    """One byte, 0…15, for each level."""
    hash: bytes
    """32 bytes; believed."""


def verified_entries(part: Part, entries: Sequence[tuple[bytes, bytes]], *, height: int) -> TreeUpdate:
    """The nodes over *entries*, which are exactly those of *part*. Raises BadMessage if they are not."""
    leaves = [(sha256(key), sha256(value)) for key, value in entries]
    for (former, _), (following, _) in pairwise(leaves):
        if former >= following:
            raise BadMessage("entries of the state out of order", "bad_message.state")
    if not all(begins_with(key_hash, part.path) for key_hash, _ in leaves):
        raise BadMessage("entries of another part of the state", "bad_message.state")
    update = build_subtree(part.path, leaves, height=height)
    if hash_of(update.root) != part.hash:
        raise BadMessage("entries that do not match the state root", "bad_message.state")
    return update


def verified_node(part: Part, places: Sequence[Place | None], *, height: int) -> tuple[Node, list[Part]]:
    """The node of *part*, and the parts below it. Raises BadMessage if *places* are not those of the node."""
    if len(part.path) >= DEPTH_MAX:
        raise BadMessage("a node below the deepest", "bad_message.state")
    node = empty_node()
    below: list[Part] = []
    number = height.to_bytes(8, "big")
    for nibble in range(PLACES):
        place = places[nibble]
        if place is None:
            continue
        path = part.path + bytes((nibble,))
        if place.is_node:
            hash_ = inner_hash(place.first, place.second)
            node[WIDTH + nibble] = inner_reference(number, hash_)
        else:
            if not begins_with(place.first, path):
                raise BadMessage("a leaf in another's place", "bad_message.state")
            hash_ = hashed_leaf(place.first, place.second)
            node[WIDTH + nibble] = leaf_reference(place.first, place.second)
        below.append(Part(part.module, path, hash_))
    rehash(node, range(PLACES))
    whole = node[1]
    if not whole or len(whole) == LEAF_BYTES or hash_of(whole) != part.hash:
        raise BadMessage("a node that does not match the state root", "bad_message.state")
    return node, below
