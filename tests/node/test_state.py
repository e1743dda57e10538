"""The stored state is a dict at every height, across restarts and pruning, and every value has its proof."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from consensus.application import STATE_KEY_BYTES_MAX, EngineFault
from consensus.jellyfish import EMPTY, application_hash, root_of, verify
from consensus.params import TINY
from node import state_plan
from node.state import LatestValues, StateGone
from node.store import Store, StoreFailed
from tests.node.decided import decide, write_genesis

MODULES = ("coin", "coins", "vote")
_KEYS = st.one_of(
    st.sampled_from([b"", b"\x00", b"\x00\x00", b"\x00\xff", b"a", b"a\x00", b"a\x00\x7f", b"a\xff", b"\xff" * 9]),
    st.binary(max_size=12),
    st.integers(0, 30).map(lambda number: b"n\x00" + number.to_bytes(8, "big")),
)
_CHANGES = st.dictionaries(
    st.sampled_from(MODULES), st.dictionaries(_KEYS, st.one_of(st.none(), st.binary(max_size=5)), max_size=8)
)
Model = dict[str, dict[bytes, bytes]]


def _applied(model: Model, changes: dict[str, dict[bytes, bytes | None]]) -> Model:
    after = {name: dict(model.get(name, {})) for name in MODULES}
    for name, items in changes.items():
        for key, value in items.items():
            if value is None:
                after[name].pop(key, None)
            else:
                after[name][key] = value
    return after


class StateMachine(RuleBasedStateMachine):
    """Random blocks, competing plans, pruning and restarts, against one dict for each height."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(self.folder, inline=True, map_bytes=2**17)
        self.models: list[Model] = []
        self.oldest = 0

    @initialize(changes=_CHANGES)
    def genesis(self, changes: dict[str, dict[bytes, bytes | None]]) -> None:
        whole = {name: changes.get(name, {}) for name in MODULES}
        write_genesis(self.store, whole, params=TINY)
        self.models.append(_applied({}, whole))

    @rule(changes=_CHANGES, other=_CHANGES)
    def block(self, changes: dict[str, dict[bytes, bytes | None]], other: dict[str, dict[bytes, bytes | None]]) -> None:
        decided = decide(self.store, changes)
        competing = self.store.plan(other, self.store.height + 1)
        expected = _applied(self.models[-1], other)
        for leaf in competing.roots:
            if leaf.module != "chain":
                assert leaf.root == root_of(expected[leaf.module])
        self.store.commit_inline(decided)
        self.models.append(_applied(self.models[-1], changes))

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder, inline=True)
        assert self.store.height == len(self.models) - 1

    @rule(keep=st.integers(0, 6), piece=st.integers(1, 40))
    def prune(self, keep: int, piece: int) -> None:
        self.oldest = max(self.oldest, self.store.height - keep)

        async def until_complete() -> None:
            while not await self.store.prune(self.oldest, entries_max=piece):
                pass

        trio.run(until_complete)
        assert self.store.kept.states.oldest == self.oldest

    @rule(data=st.data())
    def scan(self, data: st.DataObject) -> None:
        height = data.draw(st.integers(self.oldest, self.store.height))
        name = data.draw(st.sampled_from(MODULES))
        start, stop = data.draw(_KEYS), data.draw(st.one_of(st.none(), _KEYS))
        items = sorted(self.models[height][name].items())
        expected = [(k, v) for k, v in items if start <= k and (stop is None or k < stop)]
        state = self.store.state(height)
        assert list(state.scan(name, start, stop)) == expected
        assert list(state.scan(name, start, stop, reverse=True)) == expected[::-1]

    @rule(data=st.data(), key=_KEYS)
    def proof(self, data: st.DataObject, key: bytes) -> None:
        height = data.draw(st.integers(self.oldest, self.store.height))
        for leaf in self.store.module_roots(height):
            if leaf.module in MODULES:
                value, proof = self.store.prove(leaf.module, key, height)
                assert value == self.models[height][leaf.module].get(key)
                assert verify(leaf.root, key, value, proof)

    @invariant()
    def every_kept_height_reads_as_it_was(self) -> None:
        for height in range(self.oldest, len(self.models)):
            state = self.store.state(height)
            roots = {leaf.module: leaf.root for leaf in self.store.module_roots(height)}
            for name in MODULES:
                model = self.models[height][name]
                assert {key: state.get(name, key) for key in model} == model
                assert list(state.scan(name, b"", None)) == sorted(model.items())
                assert roots[name] == root_of(model)
        for height in range(self.oldest):
            with pytest.raises(StateGone):
                self.store.state(height)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


StateMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
test_the_state_is_a_dict_at_every_height = StateMachine.TestCase


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store at height 0 with 600 entries; its test may close it."""
    store = Store.open(tmp_path / "chain", inline=True)
    entries = {b"t\x00%04d" % number: b"v%d" % number for number in range(600)}
    write_genesis(store, {"coin": entries, "vote": {}}, params=TINY)
    return store


def test_a_module_without_entries_has_the_empty_root(store: Store) -> None:
    assert {leaf.module: leaf.root for leaf in store.module_roots(0)}["vote"] == EMPTY


def test_the_application_hash_is_over_all_modules(store: Store) -> None:
    plan = store.plan({"coin": {b"new": b"1"}}, 1)
    assert [leaf.module for leaf in plan.roots] == ["chain", "coin", "vote"]
    assert plan.application_hash == application_hash(plan.roots)


def test_a_module_that_comes_later_begins_empty(store: Store) -> None:
    store.commit_inline(decide(store, {"land": {b"plot": b"1"}}))
    assert {leaf.module: leaf.root for leaf in store.module_roots(1)}["land"] == root_of({b"plot": b"1"})
    assert "land" not in {leaf.module for leaf in store.module_roots(0)}
    with pytest.raises(KeyError):
        store.prove("land", b"plot", 0)


def test_a_scan_sees_one_height_though_blocks_are_committed_meanwhile(store: Store) -> None:
    state = store.state()
    up = state.scan("coin", b"t\x00", None)
    down = state.scan("coin", b"t\x00", None, reverse=True)
    seen_up = [next(up) for _ in range(300)]
    seen_down = [next(down) for _ in range(300)]
    store.commit_inline(decide(store, {"coin": {b"t\x00%04d" % number: None for number in range(600)}}))
    expected = [(b"t\x00%04d" % number, b"v%d" % number) for number in range(600)]
    assert seen_up + list(up) == expected
    assert seen_down + list(down) == expected[::-1]
    assert list(store.state().scan("coin", b"", None)) == []


def test_a_state_that_is_pruned_while_it_is_used_says_so(store: Store) -> None:
    state = store.state()
    scan = state.scan("coin", b"", None)
    next(scan)
    store.commit_inline(decide(store, {}))
    trio.run(store.prune, 1)
    with pytest.raises(StateGone, match="height 0 is not kept; this node has heights 1 to 1"):
        state.get("coin", b"t\x000001")
    with pytest.raises(StateGone):
        list(scan)
    with pytest.raises(StateGone):
        store.prove("coin", b"t\x000001", 0)


def test_a_height_that_is_not_decided_is_gone_too(store: Store) -> None:
    with pytest.raises(StateGone):
        store.state(1)


def test_pruning_never_takes_the_latest_state(store: Store) -> None:
    trio.run(store.prune, 10)
    assert store.state().get("coin", b"t\x000001") == b"v1"


def test_pruning_goes_in_bounded_pieces(store: Store) -> None:
    for number in range(4):
        changes = {b"t\x00%04d" % key: b"%d" % number for key in range(600)}
        store.commit_inline(decide(store, {"coin": changes}))
    pieces = 1
    while not trio.run(lambda: store.prune(4, entries_max=100)):
        pieces += 1
    assert pieces > 10
    assert store.state().get("coin", b"t\x000001") == b"3"


def test_the_cache_of_nodes_is_bounded_and_changes_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_plan, "CACHED_NODES_MAX", 3)
    store = Store.open(tmp_path / "small cache", inline=True)
    model: dict[bytes, bytes | None] = {b"%d" % number: b"0" for number in range(400)}
    write_genesis(store, {"coin": model}, params=TINY)
    for number in range(1, 5):
        changes: dict[bytes, bytes | None] = {b"%d" % key: b"%d" % number for key in range(0, 400, number)}
        model.update(changes)
        store.commit_inline(decide(store, {"coin": changes}))
        assert len(store._trees._cache) <= 3
        roots = {leaf.module: leaf.root for leaf in store.module_roots(number)}
        assert roots["coin"] == root_of({key: value for key, value in model.items() if value is not None})
    store.close()


def test_the_longest_key_fits_whatever_its_bytes(store: Store) -> None:
    keys = [byte * STATE_KEY_BYTES_MAX for byte in (b"\x00", b"\xff", b"a")]
    longest_name = "m" * 40
    store.commit_inline(decide(store, {longest_name: dict.fromkeys(keys, b"1")}))
    state = store.state()
    assert [state.get(longest_name, key) for key in keys] == [b"1"] * 3
    assert [key for key, _ in state.scan(longest_name, b"", None)] == sorted(keys)


def test_a_longer_key_is_absent_and_can_not_be_planned(store: Store) -> None:
    key = b"k" * (STATE_KEY_BYTES_MAX + 1)
    assert store.state().get("coin", key) is None
    with pytest.raises(AssertionError, match="too long a key"):
        store.plan({"coin": {key: b"1"}}, 1)


def test_a_plan_is_for_the_next_height_only(store: Store) -> None:
    with pytest.raises(AssertionError, match="a plan for 2 over 0"):
        store.plan({}, 2)


def test_a_plan_made_before_another_commit_is_not_committed(store: Store) -> None:
    first, second = decide(store, {"coin": {b"a": b"1"}}), decide(store, {"coin": {b"a": b"2"}})
    store.commit_inline(second)
    with pytest.raises(AssertionError, match="in order, once"):
        store.commit_inline(first)
    assert store.state().get("coin", b"a") == b"2"


def test_a_value_that_the_disk_changed_is_not_served_with_a_proof(store: Store) -> None:
    environment = store._environment

    def change(transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
        cursor = transaction.cursor(environment.table("values"))
        assert cursor.set_range(b"coin\x00t\x00\xff0001")
        transaction.put(cursor.key(), b"\x01forged", db=environment.table("values"))
        yield

    environment.write_inline(change)
    with pytest.raises(StoreFailed, match="does not match the state tree"):
        store.prove("coin", b"t\x000001", 0)
    with pytest.raises(StoreFailed, match="module coin does not match"):
        store.check_state()


@pytest.mark.parametrize("damage", ["a node", "a node cut short", "a node gone", "a value gone", "a value too many"])
def test_whatever_the_disk_changed_of_a_state_is_found(store: Store, damage: str) -> None:
    environment = store._environment

    def change(transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
        table = environment.table("nodes" if "node" in damage else "values")
        cursor = transaction.cursor(table)
        assert cursor.set_range(b"coin\x00" if "node" in damage else b"coin\x00t\x00\xff0001")
        key, row = cursor.item()
        match damage:
            case "a node":
                transaction.put(key, row[:-1] + bytes([row[-1] ^ 1]), db=table)
            case "a node cut short":
                transaction.put(key, row[:-1], db=table)
            case "a value too many":
                transaction.put(key.replace(b"0001", b"0001x"), row, db=table)
            case _:
                transaction.delete(key, db=table)
        yield

    environment.write_inline(change)
    with pytest.raises(StoreFailed, match="module coin does not match"):
        store.check_state()


def test_a_sound_state_is_found_sound_at_every_kept_height(store: Store) -> None:
    store.commit_inline(decide(store, {"coin": {b"t\x000001": None, b"new": b"1"}}))
    store.check_state()
    store.check_state(0)


def test_bounds_of_any_length_can_be_scanned(store: Store) -> None:
    state = store.state()
    assert list(state.scan("coin", b"t" * 5_000, b"u" * 5_000, reverse=True)) == []
    assert len(list(state.scan("coin", b"", b"u" * 5_000))) == 600


@given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.binary(max_size=1)), max_size=60), st.integers(2, 8))
def test_what_is_kept_of_the_latest_values_is_true_and_bounded(
    writes: list[tuple[int, bytes | None]], count_max: int
) -> None:
    values, model = LatestValues(count_max), dict[bytes, bytes | None]()
    for number, value in writes:
        key = b"%d" % number
        assert values.get(("coin", key)) in (..., model.get(key, ...))
        values.moved({"coin": {key: value}})
        model[key] = value
        assert values.get(("coin", key)) == value
        assert sum(values.get(("coin", key)) is not ... for key in list(model)) <= count_max


def test_an_engine_fault_is_no_result_of_a_handler(store: Store) -> None:
    state = store.state()
    store._environment._env.close()
    with pytest.raises(EngineFault):
        state.get("coin", b"never read before")
    with pytest.raises(EngineFault):
        next(state.scan("coin", b"", None))
