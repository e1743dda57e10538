"""A state is read in pieces, each of which proves itself; together they are the state, and no lie passes for one."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Generator, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consensus.codec import BadMessage
from consensus.jellyfish import EMPTY, root_of
from consensus.params import TINY
from consensus.restored import chain_state_from, members_in
from node.snapshot_messages import DEPTH_MAX, PIECE_BYTES_MAX, Place, StateEntries, StateNode
from node.snapshot_pieces import SLICE_ENTRIES, Part, verified_entries, verified_node
from node.state_nodes import hash_of, inner_reference
from node.store import Store
from node.store_import import Landing, Piece
from tests.node.decided import GENESIS, decide, write_genesis

Changes = dict[bytes, bytes | None]
_KEYS = st.one_of(st.sampled_from([b"", b"\x00", b"a\x00", b"a\x00\xff"]), st.integers(0, 40).map(lambda n: b"k%d" % n))
_HISTORY = st.lists(
    st.dictionaries(_KEYS, st.one_of(st.none(), st.binary(max_size=3)), max_size=25), min_size=1, max_size=6
)
OFTEN = dataclasses.replace(TINY, snapshot_interval_blocks=1)


def piece_at(store: Store, height: int, part: Part, *, entries_max: int = 3) -> StateEntries | StateNode:
    """What *store* answers to whoever asks for *part*."""
    return read_through(store.read_piece(part.module, part.path, height, entries_max=entries_max))


def read_through(reading: Generator[None, None, StateEntries | StateNode]) -> StateEntries | StateNode:
    """What *reading* gives in the end."""
    while True:
        try:
            next(reading)
        except StopIteration as done:
            piece: StateEntries | StateNode = done.value
            return piece


def pieces_of(store: Store, height: int, module: str, root: bytes) -> Iterator[tuple[Part, Piece, bytes]]:
    """All verified pieces of a module, from above, each with its part and what stands there."""
    todo = [Part(module, b"", root)] if root != EMPTY else []
    while todo:
        part = todo.pop()
        answer = piece_at(store, height, part)
        if isinstance(answer, StateEntries):
            assert len(answer.entries) <= 3
            update = verified_entries(part, answer.entries, height=height)
            yield part, Piece(module, answer.entries, update.written), update.root
        else:
            node, below = verified_node(part, answer.places, height=height)
            todo += below
            reference = inner_reference(height.to_bytes(8, "big"), part.hash)
            yield part, Piece(module, (), {part.path: node}), reference


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A module of 60 entries at height 1."""
    store = Store.open(tmp_path / "chain", inline=True, map_bytes=2**20)
    write_genesis(store, {"coin": {}}, params=OFTEN)
    store.commit_inline(decide(store, {"coin": {b"k%d" % number: b"v%d" % number for number in range(60)}}))
    yield store
    store.close()


def root_at(store: Store, height: int, module: str = "coin") -> bytes:
    """The root of a module's tree."""
    return next(leaf.root for leaf in store.module_roots(height) if leaf.module == module)


async def imported(source: Store, store: Store, height: int) -> None:
    """*store* stands at the state of *height*, by the pieces of *source*."""
    await store.begin_import()
    references: dict[str, bytes] = {}
    entries: dict[bytes, bytes] = {}
    for leaf in source.module_roots(height):
        references[leaf.module] = b""
        for part, piece, reference in pieces_of(source, height, leaf.module, leaf.root):
            if not part.path:
                references[leaf.module] = reference
            if leaf.module == "chain":
                entries.update(piece.entries)
            await store.import_pieces([piece], height)
    header = source.header(height)
    chain = chain_state_from(
        header, genesis_hash=bytes(32), last_validators=source.validators_at(height), entries=entries
    )
    await store.finish_import(
        Landing(
            header=header,
            commit=source.commit_of(height)[0],
            chain_state=chain,
            members=tuple(members_in(entries)),
            roots=references,
            genesis=source.genesis_bytes(),
        )
    )


@given(history=_HISTORY, pruned=st.integers(0, 6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_all_pieces_are_the_state_at_every_kept_height(history: list[Changes], pruned: int) -> None:
    """Also after keys were deleted, came back, and were pruned."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "chain", inline=True, map_bytes=2**20)
        write_genesis(store, {"coin": {}}, params=OFTEN)
        model: dict[bytes, bytes] = {}
        models = [model]
        for changes in history:
            store.commit_inline(decide(store, {"coin": changes}))
            kept = {**models[-1], **{key: value for key, value in changes.items() if value is not None}}
            models.append({key: value for key, value in kept.items() if changes.get(key, b"") is not None})

        async def prune() -> None:
            while not await store.prune(pruned):
                pass

        trio.run(prune)
        for height in range(store.kept.states.oldest, store.height + 1):
            root = root_at(store, height)
            assert root == root_of(models[height])
            found = [entry for _, piece, _ in pieces_of(store, height, "coin", root) for entry in piece.entries]
            assert sorted(found) == sorted(models[height].items())
        store.close()


async def test_a_store_that_imported_the_state_goes_on_like_the_others(store: Store, tmp_path: Path) -> None:
    store.commit_inline(decide(store, {"coin": {b"k3": None, b"new": b"1"}}))
    other = Store.open(tmp_path / "other", inline=True, map_bytes=2**20)
    write_genesis(other, {"coin": {b"only at genesis": b"1"}}, params=OFTEN)
    await imported(store, other, 2)
    assert (other.height, other.kept.states.oldest, other.kept.earliest["blocks"]) == (2, 2, 3)
    other.check_state()
    assert dict(other.state().scan("coin", b"", None)) == dict(store.state().scan("coin", b"", None))
    assert other.prove("coin", b"new", 2)[0] == b"1"
    assert other.module_roots(2) == store.module_roots(2)
    assert other.header(2) == store.header(2)
    assert other.genesis_bytes() == GENESIS
    assert (other.validators_at(2).hash, other.params_at(3)) == (store.validators_at(2).hash, store.params_at(3))
    assert not other.kept.has_header(1)
    for missing in (other.block, other.results):
        with pytest.raises(KeyError):
            missing(2)
    assert other.kept.snapshot_heights() == (2,), "it can serve what it got"
    changes: dict[str, Changes] = {"coin": {b"k4": b"later", b"k5": None, b"x": b"y"}}
    decided = decide(other, changes)
    assert decided.block.header == decide(store, changes).block.header
    other.commit_inline(decided)
    other.check_state()
    other.close()
    again = Store.open(tmp_path / "other", inline=True)
    assert (again.height, again.kept.earliest["blocks"]) == (3, 3)
    again.close()


async def test_a_crash_in_the_middle_of_an_import_leaves_an_empty_store(store: Store, tmp_path: Path) -> None:
    """Whatever was written: nothing of it is read, and another import can begin."""
    folder = tmp_path / "other"
    other = Store.open(folder, inline=True, map_bytes=2**20)
    write_genesis(other, {"coin": {}}, params=OFTEN)
    await other.begin_import()
    for _, piece, _ in pieces_of(store, 1, "coin", root_at(store, 1)):
        await other.import_pieces([piece], 1)
        assert other.height == -1
    other.close()
    again = Store.open(folder, inline=True)
    assert (again.height, again.chain_state()) == (-1, None)
    await imported(store, again, 1)
    assert again.height == 1
    again.close()


async def test_an_import_that_is_given_up_leaves_an_empty_store(store: Store) -> None:
    await store.begin_import()
    await store.abandon_import()
    assert store.height == -1
    write_genesis(store, {"coin": {}}, params=OFTEN)
    assert store.height == 0


async def test_snapshots_are_kept_when_older_states_are_pruned(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "chain", inline=True, map_bytes=2**20)
    write_genesis(store, {"coin": {}}, params=dataclasses.replace(TINY, snapshot_interval_blocks=3))
    offered = []
    for number in range(11):
        store.commit_inline(decide(store, {"coin": {b"k": b"%d" % number}}))
        offered.append(store.kept.snapshot_heights())
    assert offered == [(), (), (3,), (3,), (3,), (6, 3), (6, 3), (6, 3), (9, 6), (9, 6), (9, 6)]
    await store.prune(11)
    assert store.kept.states.oldest == 6
    assert store.kept.snapshot_heights() == (9, 6)
    store.close()


async def test_a_piece_that_is_half_read_when_its_height_is_due_to_go_is_read_to_its_end(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "chain", inline=True, map_bytes=2**22)
    write_genesis(store, {"coin": {}}, params=OFTEN)
    blocks = [{b"k%d" % key: b"%d.%d" % (height, key) for key in range(2 * SLICE_ENTRIES)} for height in range(4)]
    store.commit_inline(decide(store, {"coin": {**blocks[0]}}))
    reading = store.read_piece("coin", b"", 1)
    next(reading)
    for block in blocks[1:]:
        store.commit_inline(decide(store, {"coin": {**block}}))
    while not await store.prune(4):
        pass
    piece = read_through(reading)
    assert isinstance(piece, StateEntries)
    assert dict(piece.entries) == blocks[0]
    while not await store.prune(4):
        pass
    assert store.kept.states.oldest == 3, "it goes once nobody reads it"
    store.close()


def test_a_piece_is_bounded_in_bytes(tmp_path: Path) -> None:
    """A single entry may be larger; several may not."""
    store = Store.open(tmp_path / "chain", inline=True, map_bytes=2**24)
    write_genesis(store, {"coin": {}}, params=OFTEN)
    large: Changes = {b"k%d" % number: bytes(PIECE_BYTES_MAX // 2) for number in range(4)}
    store.commit_inline(decide(store, {"coin": large}))
    root = root_at(store, 1)
    assert isinstance(piece_at(store, 1, Part("coin", b"", root), entries_max=100), StateNode)
    found = [entry for _, piece, _ in pieces_of(store, 1, "coin", root) for entry in piece.entries]
    assert len(found) == 4
    store.close()


def test_lies_about_entries_are_refused(store: Store) -> None:
    parts = [(part, piece) for part, piece, _ in pieces_of(store, 1, "coin", root_at(store, 1)) if piece.entries]
    for (part, piece), (_, other) in pairwise(parts):
        entries = tuple(piece.entries)
        key, value = entries[0]
        lies = [
            entries[1:],
            (*entries, other.entries[0]),
            ((key, value + b"!"), *entries[1:]),
            ((key + b"!", value), *entries[1:]),
            (*entries, entries[-1]),
            tuple(other.entries),
            (),
        ]
        if len(entries) > 1:
            lies.append(entries[::-1])
        for lie in lies:
            with pytest.raises(BadMessage) as refused:
                verified_entries(part, lie, height=1)
            assert refused.value.code == "bad_message.state"


def test_lies_about_a_node_are_refused(store: Store) -> None:
    part = Part("coin", b"", root_at(store, 1))
    answer = piece_at(store, 1, part)
    assert isinstance(answer, StateNode)
    verified_node(part, answer.places, height=1)
    for index, place in enumerate(answer.places):
        lies: list[Place | None] = [Place(True, bytes(32), bytes(32)), Place(False, bytes(32), bytes(32)), None]
        if place is not None:
            lies += [Place(not place.is_node, place.first, place.second), Place(True, place.second, place.first)]
            lies.append(Place(False, bytes([index << 4]) + place.first[1:], place.second))
        for lie in lies:
            if lie == place:
                continue
            changed = (*answer.places[:index], lie, *answer.places[index + 1 :])
            with pytest.raises(BadMessage):
                verified_node(part, changed, height=1)
    with pytest.raises(BadMessage):
        verified_node(part, (None,) * 16, height=1)


def test_a_leaf_can_not_pass_for_a_node(store: Store) -> None:
    """Nor a single leaf for the node above it; nor is there a node below the deepest."""
    leaf = next(piece for _, piece, _ in pieces_of(store, 1, "coin", root_at(store, 1)) if len(piece.entries) == 1)
    update = verified_entries(
        part := next(p for p, each, _ in pieces_of(store, 1, "coin", root_at(store, 1)) if each == leaf),
        leaf.entries,
        height=1,
    )
    key_hash, value_hash = update.root[:32], update.root[32:64]
    for is_node in (False, True):
        places: list[Place | None] = [None] * 16
        places[
            key_hash[len(part.path) >> 1] >> 4 if len(part.path) % 2 == 0 else key_hash[len(part.path) >> 1] & 15
        ] = Place(is_node, key_hash, value_hash)
        with pytest.raises(BadMessage):
            verified_node(part, places, height=1)
    deepest = Part("coin", bytes(DEPTH_MAX), hash_of(update.root))
    with pytest.raises(BadMessage):
        verified_node(deepest, [Place(False, bytes(32), bytes(32)), *[None] * 15], height=1)
