"""The state tree's pure half: its shape, its proofs of presence and absence, and the application hash."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import merkle
from consensus.block import ModuleRoot
from consensus.jellyfish import (
    DEPTH_MAX,
    EMPTY,
    TreeProof,
    application_hash,
    bit,
    common_bits,
    hashed_leaf,
    inner_hash,
    leaf_hash,
    module_leaf,
    proof_of,
    root_of,
    verify,
)
from consensus.shape import from_bytes, to_bytes
from consensus.signing import sha256

keys = st.binary(max_size=3)
maps = st.dictionaries(keys, st.binary(max_size=3), max_size=40)


@dataclass(frozen=True)
class Leaf:
    """A lone leaf of the incremental tree."""

    path: bytes
    hash: bytes


@dataclass(frozen=True)
class Inner:
    """An inner node of the incremental tree."""

    left: Node
    right: Node


Node = Leaf | Inner | None


def inserted(node: Node, leaf: Leaf, depth: int = 0) -> Node:
    """*node* with *leaf* added or replaced: how a tree grows one entry at a time."""
    if node is None or (isinstance(node, Leaf) and node.path == leaf.path):
        return leaf
    if isinstance(node, Leaf):
        return inserted(inserted(Inner(None, None), node, depth), leaf, depth)
    if bit(leaf.path, depth):
        return Inner(node.left, inserted(node.right, leaf, depth + 1))
    return Inner(inserted(node.left, leaf, depth + 1), node.right)


def removed(node: Node, path: bytes, depth: int = 0) -> Node:
    """*node* without the leaf at *path*; a leaf that is left alone rises."""
    if node is None or isinstance(node, Leaf):
        return None if node is not None and node.path == path else node
    if bit(path, depth):
        left, right = node.left, removed(node.right, path, depth + 1)
    else:
        left, right = removed(node.left, path, depth + 1), node.right
    if left is None and (right is None or isinstance(right, Leaf)):
        return right
    if right is None and isinstance(left, Leaf):
        return left
    return Inner(left, right)


def hash_of(node: Node) -> bytes:
    """The hash of the incremental tree."""
    if node is None:
        return EMPTY
    return node.hash if isinstance(node, Leaf) else inner_hash(hash_of(node.left), hash_of(node.right))


@given(st.lists(st.tuples(keys, st.none() | st.binary(max_size=3)), max_size=60))
@settings(max_examples=60)
def test_the_root_does_not_depend_on_history(changes: list[tuple[bytes, bytes | None]]) -> None:
    """Entries put, replaced and removed one by one give the root of what is left."""
    tree: Node = None
    entries: dict[bytes, bytes] = {}
    for key, value in changes:
        if value is None:
            entries.pop(key, None)
            tree = removed(tree, sha256(key))
        else:
            entries[key] = value
            tree = inserted(tree, Leaf(sha256(key), leaf_hash(key, value)))
    assert root_of(entries) == hash_of(tree)


def test_small_trees_are_those_of_the_definition() -> None:
    """None, one, and two that part at the first bit."""
    assert root_of({}) == EMPTY
    assert root_of({b"a": b"1"}) == leaf_hash(b"a", b"1") == sha256(b"\x00" + sha256(b"a") + sha256(b"1"))
    left = next(key for key in (b"a", b"b", b"c", b"d") if not bit(sha256(key), 0))
    right = next(key for key in (b"a", b"b", b"c", b"d") if bit(sha256(key), 0))
    expected = sha256(b"\x01" + leaf_hash(left, b"1") + leaf_hash(right, b"2"))
    assert root_of({right: b"2", left: b"1"}) == expected


def test_a_lone_leaf_stands_where_its_path_becomes_unique() -> None:
    """Two keys that share bits part below as many inner nodes, each beside an empty subtree."""
    numbered = sorted((sha256(b"%d" % number), b"%d" % number) for number in range(300))
    (first, first_key), (second, second_key) = max(
        pairwise(numbered), key=lambda pair: common_bits(pair[0][0], pair[1][0])
    )
    shared = common_bits(first, second)
    assert shared >= 8
    node = inner_hash(leaf_hash(first_key, b"1"), leaf_hash(second_key, b"2"))
    for depth in reversed(range(shared)):
        node = inner_hash(EMPTY, node) if bit(first, depth) else inner_hash(node, EMPTY)
    assert root_of({first_key: b"1", second_key: b"2"}) == node
    assert proof_of({first_key: b"1", second_key: b"2"}, first_key).siblings[:shared] == (EMPTY,) * shared


@given(maps, keys)
def test_presence_and_absence_are_proved(entries: dict[bytes, bytes], key: bytes) -> None:
    """For any key, by the same proof, which survives the wire."""
    root, proof = root_of(entries), from_bytes(TreeProof, to_bytes(proof_of(entries, key)))
    assert verify(root, key, entries.get(key), proof)


@given(maps, keys, st.binary(max_size=3))
def test_the_opposite_is_not_proved(entries: dict[bytes, bytes], key: bytes, value: bytes) -> None:
    """Neither another value, nor absence of what is there, nor presence of what is not."""
    root, proof = root_of(entries), proof_of(entries, key)
    if entries.get(key) != value:
        assert not verify(root, key, value, proof)
    if key in entries:
        assert not verify(root, key, None, proof)


@given(maps, keys, st.data())
def test_a_proof_for_one_key_tells_no_lie_of_another(
    entries: dict[bytes, bytes], key: bytes, data: st.DataObject
) -> None:
    """What it shows of another key, the leaf that stands in the first one's place, is true."""
    other = data.draw(keys | st.sampled_from(sorted(entries)) if entries else keys)
    root, proof = root_of(entries), proof_of(entries, key)
    claims = {None, b"", *entries.values()}
    assert {claim for claim in claims if verify(root, other, claim, proof)} <= {entries.get(other)}


@given(maps, keys, st.data())
def test_a_flipped_bit_is_refused(entries: dict[bytes, bytes], key: bytes, data: st.DataObject) -> None:
    """Anywhere in the proof or in the root."""
    root, proof = root_of(entries), proof_of(entries, key)
    flip = 1 << data.draw(st.integers(0, 255))

    def flipped(hash_: bytes) -> bytes:
        return (int.from_bytes(hash_, "big") ^ flip).to_bytes(32, "big")

    value = entries.get(key)
    assert not verify(flipped(root), key, value, proof)
    for place, sibling in enumerate(proof.siblings):
        siblings = (*proof.siblings[:place], flipped(sibling), *proof.siblings[place + 1 :])
        assert not verify(root, key, value, replace(proof, siblings=siblings))
    if proof.leaf is not None:
        key_hash, value_hash = proof.leaf
        assert not verify(root, key, value, replace(proof, leaf=(flipped(key_hash), value_hash)))
        assert not verify(root, key, value, replace(proof, leaf=(key_hash, flipped(value_hash))))


def test_a_leaf_from_elsewhere_proves_no_absence() -> None:
    """It must share the path as far as the proof goes: another corner of the tree is no answer."""
    entries = {b"%d" % number: b"x" for number in range(50)}
    root, target = root_of(entries), b"7"
    for other in entries.keys() - {target}:
        elsewhere = proof_of(entries, other)
        assert not verify(root, target, None, elsewhere)


def test_a_shortened_or_lengthened_proof_is_refused() -> None:
    """The path ends where the leaf stands."""
    entries = {b"%d" % number: b"x" for number in range(50)}
    proof = proof_of(entries, b"7")
    assert not verify(root_of(entries), b"7", b"x", replace(proof, siblings=proof.siblings[:-1]))
    assert not verify(root_of(entries), b"7", b"x", replace(proof, siblings=(*proof.siblings, EMPTY)))


@pytest.mark.parametrize(
    "proof",
    [
        TreeProof((bytes(32),) * (DEPTH_MAX + 1), None),
        TreeProof((b"short",), None),
        TreeProof((), (b"short", bytes(32))),
        TreeProof((), (bytes(32), b"short")),
        TreeProof((bytes(32),) * DEPTH_MAX, (bytes(32), bytes(32))),
    ],
)
@pytest.mark.parametrize("value", [None, b"1"])
def test_nonsense_is_refused_without_an_error(proof: TreeProof, value: bytes | None) -> None:
    """Whatever a stranger sends."""
    assert not verify(root_of({b"a": b"1"}), b"a", value, proof)
    assert not verify(b"", b"a", value, proof)


def test_a_proof_may_be_as_deep_as_a_path_is_long() -> None:
    """Two keys whose paths differ in the last bit only: nobody can find them, but the tree has room."""
    path = sha256(b"a")
    siblings = tuple(sha256(b"%d" % depth) for depth in range(DEPTH_MAX))
    node = hashed_leaf(path, sha256(b"1"))
    for depth in reversed(range(DEPTH_MAX)):
        node = inner_hash(siblings[depth], node) if bit(path, depth) else inner_hash(node, siblings[depth])
    assert verify(node, b"a", b"1", TreeProof(siblings, (path, sha256(b"1"))))


def test_a_leaf_has_one_way_to_be_read() -> None:
    """A byte moved from one of its hashes to the other gives the same leaf, which would hide the key that is there."""
    entries = {b"a": b"1"}
    proof = proof_of(entries, b"a")
    assert proof.leaf is not None
    both = b"".join(proof.leaf)
    assert verify(root_of(entries), b"a", b"1", proof)
    for cut in (31, 33):
        assert not verify(root_of(entries), b"a", None, TreeProof((), (both[:cut], both[cut:])))


def test_nothing_stands_in_an_empty_tree() -> None:
    """Every absence is proved by nothing at all."""
    assert verify(EMPTY, b"a", None, TreeProof((), None))
    assert not verify(EMPTY, b"a", b"", TreeProof((), None))


@given(st.binary(min_size=32, max_size=32), st.integers(0, 255))
def test_bits_are_counted_from_the_most_significant(path: bytes, depth: int) -> None:
    """Bit 0 is the first."""
    assert f"{int.from_bytes(path, 'big'):0256b}"[depth] == str(bit(path, depth))
    other = (int.from_bytes(path, "big") ^ 1 << 255 - depth).to_bytes(32, "big")
    assert common_bits(path, other) == depth
    assert common_bits(path, path) == DEPTH_MAX


def test_the_application_hash_names_its_modules() -> None:
    """Leaf data is length ‖ name ‖ 32 ‖ root, in an RFC 6962 tree, so that one module can be proved."""
    roots = [ModuleRoot("chain", sha256(b"1")), ModuleRoot("coin", EMPTY)]
    assert module_leaf(roots[1]) == b"\x04coin\x20" + EMPTY
    leaves = [module_leaf(module) for module in roots]
    assert application_hash(roots) == merkle.root(leaves)
    assert merkle.verify(application_hash(roots), leaves[1], merkle.prove(leaves, 1))


def test_any_name_from_the_wire_can_be_hashed() -> None:
    """A block with such a name is refused for it, not by an accident in hashing."""
    assert len(module_leaf(ModuleRoot("\U0001f600" * 40, EMPTY))) == 1 + 160 + 1 + 32


def test_the_hash_of_a_leaf_is_that_of_its_hashes() -> None:
    """So a proof need not hold the entry itself."""
    assert leaf_hash(b"key", b"value") == hashed_leaf(sha256(b"key"), sha256(b"value"))
