"""The trees of all modules: plans for blocks that are not decided yet, what a decided one writes, and proofs.

Tables: ``nodes`` (``module ‖ 00 ‖ height ‖ path`` → node), ``roots`` (height → references of all modules' roots), and
``stale`` (height ‖ number → rows of nodes and values that states from that height on do not need).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import lmdb

from consensus.application import STATE_KEY_BYTES_MAX, Changes
from consensus.block import ModuleRoot
from consensus.codec import decode, encode
from consensus.jellyfish import TreeProof, application_hash, hashed_leaf, verify
from consensus.shape import MESSAGE_BYTES_MAX, shape_of
from consensus.signing import sha256
from node.state import KEYS, VALUES, StateHorizon, StoredState, key_row, write_values
from node.state_nodes import INNER_BYTES, WIDTH, Node, decode_node, encode_node, hash_of, hashed
from node.state_tree import ReadNode, TreeUpdate, leaves_below, prove, reference_at, update_tree
from node.store_environment import Environment, StoreFailed, failed

NODES, ROOTS, STALE = "nodes", "roots", "stale"
CACHED_DEPTH_MAX = 3
"""Nodes down to this depth are cached: 4,369 of a large tree. Below, a node is seldom met twice."""
CACHED_NODES_MAX = 8_192
"""About 20 MB."""
STALE_ROWS_MAX = 256
"""Stale entries in one row of table ``stale``."""
SLICE_PUTS = 1_024
"""Puts between two yields to the loop: 2 to 4 ms. A count, not a clock: simulations must repeat."""


@dataclass(frozen=True, slots=True, eq=False)
class TreePlan:
    """What a block would make of the trees. Nothing is written; several plans for one height may exist."""

    height: int
    roots: tuple[ModuleRoot, ...]
    """Of every module, sorted by name, after the block."""
    application_hash: bytes
    """32 bytes, over `roots`."""
    parent: Mapping[str, bytes]
    """References of the roots that the plan starts from."""
    updates: Mapping[str, TreeUpdate]
    """Of the modules that have changes."""


@dataclass(frozen=True, slots=True, eq=False)
class Subtree:
    """A part of one module's tree at one height, to be read along the tree. Not longer than that height is kept."""

    module: str
    height: int
    path: bytes
    """One byte, 0…15, for each level."""
    reference: bytes
    read_node: ReadNode

    def leaves(self) -> Iterator[tuple[bytes, bytes]]:
        """Hashes of key and value of each leaf, the former ascending."""
        return leaves_below(self.reference, self.path, self.read_node)

    def children(self) -> list[bytes]:
        """The 16 references in the node that stands here; there must be one."""
        return [child or b"" for child in self.read_node(self.reference[:8], self.path)[WIDTH:]]

    def halves_of(self, nibble: int, reference: bytes) -> tuple[bytes, bytes]:
        """32 bytes each: what *reference*, the node at place *nibble*, is the hash of."""
        node = hashed(self.read_node(reference[:8], self.path + bytes((nibble,))))
        return hash_of(node[2]), hash_of(node[3])


_ROOTS_ROW = shape_of(tuple[tuple[str, bytes], ...])


class StateTrees:
    """The trees of the latest commit, and of older ones until they are pruned."""

    def __init__(self, environment: Environment, horizon: StateHorizon) -> None:
        self._environment = environment
        self._horizon = horizon
        self._cache: OrderedDict[bytes, Node] = OrderedDict()
        self._references: dict[str, bytes] = self.references(horizon.latest) if horizon.latest >= 0 else {}

    def references(self, height: int) -> dict[str, bytes]:
        """The root reference of each module in the state of *height*, sorted by name. Raises StateGone, StoreFailed."""
        self._horizon.check(height)
        row = self._environment.get(ROOTS, height.to_bytes(8, "big"))
        if row is None:
            raise failed(self._environment.path, lmdb.CorruptedError(f"the roots of height {height} are missing"))
        return dict(_ROOTS_ROW.from_wire(decode(row, bytes_max=MESSAGE_BYTES_MAX)))

    def plan(self, changes: Changes, height: int) -> TreePlan:
        """What *changes* in block *height* would make of the latest trees. A module named here first begins empty."""
        assert height == self._horizon.latest + 1, f"a plan for {height} over {self._horizon.latest}"
        references = dict(self._references)
        updates: dict[str, TreeUpdate] = {}
        for module in sorted(changes):
            items = changes[module]
            assert all(len(key) <= STATE_KEY_BYTES_MAX for key in items), f"module {module} has too long a key"
            update = update_tree(
                references.get(module, b""), items.items(), height=height, read_node=self.reader(module)
            )
            references[module] = update.root
            updates[module] = update
        roots = tuple(ModuleRoot(name, hash_of(references[name])) for name in sorted(references))
        return TreePlan(height, roots, application_hash(roots), self._references, updates)

    def write(self, transaction: lmdb.Transaction[bytes], plan: TreePlan, changes: Changes) -> Iterator[None]:
        """Values, nodes, roots and the stale list of *plan*'s block are put; yields now and then."""
        assert plan.parent is self._references, "a plan is committed over the state that it was made for"
        height = plan.height.to_bytes(8, "big")
        table = self._environment.table(NODES)
        stale: list[bytes] = []
        puts = 0
        values, keys = self._environment.table(VALUES), self._environment.table(KEYS)
        for former in write_values(transaction, values, changes, plan.height, keys):
            if former:
                stale.append(b"V" + former)
            puts += 1
            if puts % SLICE_PUTS == 0:
                yield
        for module, update in plan.updates.items():
            space = _space(module)
            stale += [b"N" + space + former + path for former, path in update.stale]
            for path, node in sorted(update.written.items()):
                transaction.put(space + height + path, encode_node(node), db=table)
                puts += 1
                if puts % SLICE_PUTS == 0:
                    yield
        references = self._references | {module: update.root for module, update in plan.updates.items()}
        roots = encode(tuple(sorted(references.items())))
        transaction.put(height, roots, db=self._environment.table(ROOTS))
        for number, start in enumerate(range(0, len(stale), STALE_ROWS_MAX)):
            row = encode(tuple(stale[start : start + STALE_ROWS_MAX]))
            transaction.put(height + number.to_bytes(4, "big"), row, db=self._environment.table(STALE))

    def committed(self, plan: TreePlan) -> None:
        """*plan*'s trees are the latest: its transaction is committed."""
        self._references = dict(
            sorted((self._references | {module: update.root for module, update in plan.updates.items()}).items())
        )
        height = plan.height.to_bytes(8, "big")
        for module, update in plan.updates.items():
            space = _space(module)
            for former, path in update.stale:
                self._cache.pop(space + former + path, None)
            for path, node in update.written.items():
                if len(path) <= CACHED_DEPTH_MAX:
                    self._remember(space + height + path, node)

    def prove(self, module: str, key: bytes, height: int) -> tuple[bytes | None, TreeProof]:
        """The value of *key* at *height* and its proof, checked against the root.

        Raises StateGone, KeyError (there was no such module), StoreFailed (the disk changed the value).
        """
        reference = self.references(height)[module]
        value = StoredState(self._environment, self._horizon, height).get(module, key)
        proof = prove(reference, key, self.reader(module))
        if not verify(hash_of(reference), key, value, proof):
            raise self._damaged(module)
        return value, proof

    def walk(self, module: str, path: bytes, height: int) -> Subtree:
        """What lies at *path* in *module*'s tree of *height*. Raises StateGone, KeyError (there was no such module)."""
        read_node = self.reader(module)
        reference = reference_at(self.references(height)[module], path, read_node)
        return Subtree(module, height, path, reference, read_node)

    def key_of(self, module: str, key_hash: bytes) -> bytes:
        """The key behind a hash that stands in *module*'s tree."""
        key = self._environment.get(KEYS, key_row(module, key_hash))
        if key is None or sha256(key) != key_hash:
            raise self._damaged(module)
        return key

    def check(self, height: int) -> None:
        """Every value of the state of *height* matches the state tree, and there is no other.

        Reads all of it, and holds a way down the tree at a time. Raises StateGone, StoreFailed.
        """
        state = StoredState(self._environment, self._horizon, height)
        for module, reference in self.references(height).items():
            leaves = 0
            for key_hash, value_hash in self._checked_leaves(module, reference, b""):
                value = state.get(module, self.key_of(module, key_hash))
                if value is None or sha256(value) != value_hash:
                    raise self._damaged(module)
                leaves += 1
            if sum(1 for _ in state.scan(module, b"", None)) != leaves:
                raise self._damaged(module)

    def _checked_leaves(self, module: str, reference: bytes, path: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Key hash and value hash of each entry behind *reference*, every hash on the way computed again."""
        if len(reference) == INNER_BYTES:
            data = self._environment.get(NODES, _space(module) + reference[:8] + path)
            try:
                node = hashed(decode_node(data or b""))
            except AssertionError as error:
                raise self._damaged(module) from error
            if hash_of(node[1]) != hash_of(reference):
                raise self._damaged(module)
            for place in range(WIDTH):
                yield from self._checked_leaves(module, node[WIDTH + place] or b"", path + bytes((place,)))
        elif reference:
            if hashed_leaf(reference[:32], reference[32:64]) != reference[64:]:
                raise self._damaged(module)
            yield reference[:32], reference[32:64]

    def _damaged(self, module: str) -> StoreFailed:
        return StoreFailed(
            f"{self._environment.path}: a value of module {module} does not match the state tree: the disk changed it. "
            f"Check the disk, then restore a backup, or move the folder away: the node catches up from its peers"
        )

    def reader(self, module: str) -> ReadNode:
        """Reads nodes of *module*'s trees, by height and path."""
        space = _space(module)
        cache = self._cache
        environment = self._environment

        def read_node(height: bytes, path: bytes) -> Node:
            key = space + height + path
            node = cache.get(key)
            if node is not None:
                cache.move_to_end(key)
                return node
            data = environment.get(NODES, key)
            assert data is not None, f"node of {module} at {path.hex()}, height {int.from_bytes(height, 'big')}"
            node = decode_node(data)
            if len(path) <= CACHED_DEPTH_MAX:
                self._remember(key, node)
            return node

        return read_node

    def _remember(self, key: bytes, node: Node) -> None:
        self._cache[key] = node
        if len(self._cache) > CACHED_NODES_MAX:
            self._cache.popitem(last=False)


def node_row(module: str, height: int, path: bytes) -> bytes:
    """The row of the node that the block at *height* wrote at *path*."""
    return _space(module) + height.to_bytes(8, "big") + path


def _space(module: str) -> bytes:
    """The beginning of the keys of *module*'s nodes."""
    return module.encode("ascii") + b"\x00"
