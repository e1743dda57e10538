"""Where two states differ: by module and key, found by tree hashes alone, so that what is equal is never read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from node.state_nodes import INNER_BYTES, WIDTH, hash_of
from node.state_tree import ReadNode
from node.store import Store

ENTRIES_MAX = 10_000
"""Differing entries of one module that are looked up; whoever has more differs in something else than an entry."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two states that are compared."""

    store: Store
    height: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry that differs; None: it is absent there."""

    key: bytes
    left: bytes | None
    right: bytes | None


@dataclass(frozen=True, slots=True)
class ModuleDifference:
    """A module whose roots differ."""

    module: str
    left_root: bytes
    """32 bytes; empty where the module is not there."""
    right_root: bytes
    entries: tuple[Difference, ...]
    """In key order, at most as many as were asked for."""
    count: int
    """How many differ: exactly, or `ENTRIES_MAX` for that many or more."""


def compare(left: Side, right: Side, *, entries_max: int = 100) -> list[ModuleDifference]:
    """The modules that differ, by name. Raises StateGone for a height that is not kept."""
    left_roots, right_roots = (side.store.trees.references(side.height) for side in (left, right))
    found = []
    for module in sorted({*left_roots, *right_roots}):
        ours, theirs = left_roots.get(module), right_roots.get(module)
        if ours is not None and theirs is not None and hash_of(ours) == hash_of(theirs):
            continue
        readers = left.store.trees.reader(module), right.store.trees.reader(module)
        differing = list(islice(_differing(ours or b"", theirs or b"", *readers, b""), ENTRIES_MAX))
        entries = [_entry(module, key_hash, is_left, left, right) for key_hash, is_left in differing]
        entries.sort(key=lambda entry: entry.key)
        roots = [b"" if each is None else hash_of(each) for each in (ours, theirs)]
        found.append(ModuleDifference(module, roots[0], roots[1], tuple(entries[:entries_max]), len(entries)))
    return found


def _differing(
    left: bytes, right: bytes, read_left: ReadNode, read_right: ReadNode, path: bytes
) -> Iterator[tuple[bytes, bool]]:
    """Hashes of the keys that differ in the subtrees behind two references at *path*; whether the left one has each."""
    if hash_of(left) == hash_of(right):
        return
    if len(left) == len(right) == INNER_BYTES:
        ours, theirs = read_left(left[:8], path), read_right(right[:8], path)
        for place in range(WIDTH):
            one, other = ours[WIDTH + place] or b"", theirs[WIDTH + place] or b""
            yield from _differing(one, other, read_left, read_right, path + bytes((place,)))
        return
    ours_here, theirs_here = dict(_leaves(left, read_left, path)), dict(_leaves(right, read_right, path))
    for key_hash in sorted({*ours_here, *theirs_here}):
        if ours_here.get(key_hash) != theirs_here.get(key_hash):
            yield key_hash, key_hash in ours_here


def _leaves(reference: bytes, read_node: ReadNode, path: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key hash and value hash of every entry behind *reference*."""
    if len(reference) == INNER_BYTES:
        node = read_node(reference[:8], path)
        for place in range(WIDTH):
            yield from _leaves(node[WIDTH + place] or b"", read_node, path + bytes((place,)))
    elif reference:
        yield reference[:32], reference[32:64]


def _entry(module: str, key_hash: bytes, is_left: bool, left: Side, right: Side) -> Difference:
    """The entry behind *key_hash*, of which a side that has it knows the key."""
    key = (left if is_left else right).store.trees.key_of(module, key_hash)
    values = [side.store.state(side.height).get(module, key) for side in (left, right)]
    return Difference(key, values[0], values[1])
