"""Two states are compared by their trees: exactly what differs is named, and what is equal is not read."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.params import TINY
from node.state_diff import Difference, Side, compare
from node.store import Store
from tests.node.decided import decide, write_genesis

ROWS = st.dictionaries(st.binary(max_size=4), st.binary(min_size=1, max_size=3), max_size=40)


def _store(folder: Path, *states: dict[bytes, bytes], module: str = "coin") -> Store:
    """A chain with one height for each of *states* of one module."""
    store = Store.open(folder, inline=True)
    write_genesis(store, {module: {}, "other": {b"same": b"1"}}, params=TINY)
    former: dict[bytes, bytes] = {}
    for state in states:
        changes: dict[bytes, bytes | None] = {**dict.fromkeys(set(former) - set(state)), **state}
        store.commit_inline(decide(store, {module: changes}))
        former = state
    return store


@settings(max_examples=15, deadline=None)
@given(ROWS, ROWS, st.booleans())
def test_exactly_what_differs_is_found(first: dict[bytes, bytes], second: dict[bytes, bytes], twice: bool) -> None:
    """Whatever way led to each: the second chain may have had the first one's rows before."""
    with tempfile.TemporaryDirectory() as folder:
        left = _store(Path(folder) / "left", {}, first)
        right = _store(Path(folder) / "right", first if twice else {}, second)
        found = {each.module: each for each in compare(Side(left, 2), Side(right, 2), entries_max=1_000)}
        expected = [
            Difference(key, first.get(key), second.get(key))
            for key in sorted({*first, *second})
            if first.get(key) != second.get(key)
        ]
        assert ("coin" in found) == bool(expected)
        if expected:
            assert list(found["coin"].entries) == expected
            assert found["coin"].count == len(expected)
        assert set(found) <= {"coin", "chain"}, "an equal module is not named"
        left.close()
        right.close()


def test_two_heights_of_one_chain(tmp_path: Path) -> None:
    store = _store(tmp_path, {b"a": b"1", b"b": b"1"}, {b"a": b"2", b"c": b"1"})
    found = {each.module: each for each in compare(Side(store, 1), Side(store, 2))}
    assert found["coin"].entries == (
        Difference(b"a", b"1", b"2"),
        Difference(b"b", b"1", None),
        Difference(b"c", None, b"1"),
    )
    assert "other" not in found
    store.close()


def test_a_module_that_one_side_lacks_is_all_difference(tmp_path: Path) -> None:
    left = _store(tmp_path / "left", {b"a": b"1"})
    right = _store(tmp_path / "right", {b"a": b"1"}, module="money")
    found = {each.module: each for each in compare(Side(left, 1), Side(right, 1), entries_max=1)}
    assert found["coin"].entries == (Difference(b"a", b"1", None),)
    assert (found["coin"].right_root, found["money"].left_root) == (b"", b"")
    left.close()
    right.close()


def test_equal_subtrees_are_not_read(tmp_path: Path) -> None:
    rows = {b"%d" % number: b"x" for number in range(3_000)}
    left = _store(tmp_path / "left", rows)
    right = _store(tmp_path / "right", {**rows, b"1234": b"y"})
    reads = 0
    reader = left.trees.reader

    def counted(module: str):  # type: ignore[no-untyped-def]  # as it is
        read = reader(module)

        def node(height: bytes, path: bytes):  # type: ignore[no-untyped-def]
            nonlocal reads
            reads += 1
            return read(height, path)

        return node

    left.trees.reader = counted  # type: ignore[method-assign]
    found = {each.module: each for each in compare(Side(left, 1), Side(right, 1))}
    assert found["coin"].entries == (Difference(b"1234", b"x", b"y"),)
    assert reads <= 6, "one way down of several hundred nodes"
    left.close()
    right.close()
