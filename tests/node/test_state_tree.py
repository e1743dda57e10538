"""The tree in nodes of 16 is the plain Jellyfish tree of `consensus.jellyfish`, batch after batch."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.jellyfish import EMPTY, proof_of, root_of, verify
from consensus.signing import sha256
from node.state_nodes import Node, decode_node, encode_node, hash_of, hashed
from node.state_tree import TreeUpdate, prove, update_tree


class Tree:
    """A tree over a dict of encoded nodes, as the store keeps them."""

    def __init__(self) -> None:
        self.root = b""
        self.height = 0
        self.nodes: dict[bytes, bytes] = {}

    def read(self, height: bytes, path: bytes) -> Node:
        return decode_node(self.nodes[height + path])

    def plan(self, changes: dict[bytes, bytes | None]) -> TreeUpdate:
        return update_tree(self.root, changes.items(), height=self.height + 1, read_node=self.read)

    def apply(self, changes: dict[bytes, bytes | None]) -> TreeUpdate:
        update = self.plan(changes)
        self.height += 1
        for height, path in update.stale:
            del self.nodes[height + path]
        for path, node in update.written.items():
            self.nodes[self.height.to_bytes(8, "big") + path] = encode_node(node)
        self.root = update.root
        return update


_KEYS = st.integers(0, 40).map(lambda number: b"key %d" % number)
_BATCH = st.dictionaries(_KEYS, st.one_of(st.none(), st.sampled_from([b"", b"a", b"b"])), max_size=12)


@settings(max_examples=80, deadline=None)
@given(batches=st.lists(_BATCH, max_size=12))
def test_root_and_proofs_are_those_of_the_reference(batches: list[dict[bytes, bytes | None]]) -> None:
    tree = Tree()
    model: dict[bytes, bytes] = {}
    for batch in batches:
        tree.apply(batch)
        for key, value in batch.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        root = root_of(model)
        assert hash_of(tree.root) == root
        for number in range(0, 44, 4):
            key = b"key %d" % number
            proof = prove(tree.root, key, tree.read)
            assert proof == proof_of(model, key)
            assert verify(root, key, model.get(key), proof)


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(_BATCH, max_size=8))
def test_only_nodes_of_the_present_tree_remain(batches: list[dict[bytes, bytes | None]]) -> None:
    """Every node that is not named stale is reachable: what is pruned is all that there is to prune."""
    tree = Tree()
    for batch in batches:
        tree.apply(batch)
        reachable = set()
        waiting = [(tree.root, b"")]
        while waiting:
            reference, path = waiting.pop()
            if len(reference) == 40:
                reachable.add(reference[:8] + path)
                node = tree.read(reference[:8], path)
                waiting += [(node[16 + place] or b"", path + bytes((place,))) for place in range(16)]
        assert reachable == set(tree.nodes)


def test_the_empty_tree() -> None:
    tree = Tree()
    assert hash_of(tree.root) == EMPTY
    proof = prove(tree.root, b"key", tree.read)
    assert (proof.siblings, proof.leaf) == ((), None)
    tree.apply({b"key": b"value"})
    tree.apply({b"key": None})
    assert hash_of(tree.root) == EMPTY
    assert not tree.nodes


def test_one_leaf_is_its_own_root_and_needs_no_node() -> None:
    tree = Tree()
    tree.apply({b"key": b"value"})
    assert hash_of(tree.root) == root_of({b"key": b"value"})
    assert not tree.nodes


def test_a_batch_that_changes_nothing_writes_nothing() -> None:
    tree = Tree()
    tree.apply({b"%d" % number: b"value" for number in range(100)})
    update = tree.plan({b"7": b"value", b"absent": None})
    assert (update.root, update.written, update.stale) == (tree.root, {}, [])


def test_plans_over_one_tree_do_not_disturb_each_other() -> None:
    tree = Tree()
    entries = {b"%d" % number: b"value" for number in range(200)}
    tree.apply(dict(entries))
    first = tree.plan({b"1": b"first"})
    second = tree.plan({b"1": b"second", b"2": None})
    assert hash_of(first.root) == root_of(entries | {b"1": b"first"})
    del entries[b"2"]
    assert hash_of(second.root) == root_of(entries | {b"1": b"second"})
    tree.apply({b"1": b"second", b"2": None})
    assert tree.root == second.root


def test_keys_with_long_common_paths_share_a_chain_of_nodes() -> None:
    """Two keys whose hashes agree in 16 bits and more stand below four nodes of one child each."""
    by_prefix: dict[bytes, bytes] = {}
    for number in range(10_000):
        key = b"%d" % number
        other = by_prefix.setdefault(sha256(key)[:2], key)
        if other != key:
            break
    else:
        pytest.fail("no two of 10,000 keys share 16 bits")
    tree = Tree()
    tree.apply({key: b"one", other: b"two"})
    assert hash_of(tree.root) == root_of({key: b"one", other: b"two"})
    assert len(tree.nodes) >= 5
    for absent in (b"absent", b"nowhere", b"none"):
        assert verify(hash_of(tree.root), absent, None, prove(tree.root, absent, tree.read))
    tree.apply({key: None})
    assert hash_of(tree.root) == root_of({other: b"two"})
    assert not tree.nodes, "the lone leaf rises to the root"


def test_a_node_reads_as_it_was_written() -> None:
    tree = Tree()
    update = tree.apply({b"%d" % number: b"value" for number in range(60)})
    for node in update.written.values():
        again = decode_node(encode_node(node))
        assert again[16:] == node[16:]
        assert hashed(again)[1] == node[1]
        assert again[1] is None, "a node that is shared is not changed"


def test_a_thousand_keys_in_random_batches() -> None:
    dice = random.Random(7)
    tree = Tree()
    model: dict[bytes, bytes] = {}
    for _ in range(15):
        batch: dict[bytes, bytes | None] = {}
        for _ in range(120):
            key = b"%d" % dice.randrange(1_000)
            batch[key] = None if dice.random() < 0.3 else b"%d" % dice.randrange(5)
        tree.apply(batch)
        for key, value in batch.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        assert hash_of(tree.root) == root_of(model)
