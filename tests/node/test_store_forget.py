"""Forgotten heights are gone whole, rows and all; what is kept is found as before, also after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from consensus.application import BlockOutcome, Event
from consensus.params import TINY
from consensus.signing import public_key, sha256
from consensus.validators import Update
from node.disk import Disk
from node.events import BEGINNING, Cursor, Kind
from node.retention import BLOCKS, EVENTS, INDEX, PARTS, RESULTS, STATES
from node.store import HeightGone, Store
from tests.node.decided import NOTHING, decide, transaction, write_genesis

HEIGHTS = 12
ANNA, BJORN = b"a" * 20, b"b" * 20
PAID = Event("coin", "sent", (ANNA, BJORN, 5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "chain"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """Twelve heights, each with two transactions and two events; the set changes at 3, 6 and 9."""
    store = Store.open(folder, map_bytes=2**20, inline=True)
    write_genesis(store, {"coin": {b"start": b"1"}}, params=TINY)
    for height in range(1, HEIGHTS + 1):
        joins = (Update(public_key(b"%032d" % height), 5),) if height % 3 == 2 else ()
        store.commit_inline(
            decide(
                store,
                {"coin": {b"k": b"%d" % height}},
                transactions=_raws(height),
                events={0: [Event("town", "began", (height,))], 1: [PAID]},
                outcome=BlockOutcome(result=NOTHING, validator_updates=joins),
            )
        )
    yield store
    store.close()


def _raws(height: int) -> list[bytes]:
    return [transaction(2 * height), transaction(2 * height + 1)]


def _forget(store: Store, rows_max: int = 4_096, **below: int) -> None:
    """What lies under *below* is gone, in as many pieces as it takes."""
    horizons = {**store.kept.earliest, **below}
    while not trio.run(lambda: store.forget(horizons, rows_max=rows_max)):
        pass


def _rows(store: Store) -> dict[str, int]:
    return {table: size.rows for table, size in store.table_sizes().items()}


def test_forgotten_heights_leave_no_row(store: Store, folder: Path, tmp_path: Path) -> None:
    """As many rows stand in each table as each kept height has: places are found under 8 keys a height."""
    before = _rows(store)
    _forget(store, blocks=8, results=8, events=8, index=8)
    after = _rows(store)
    gone = {table: (before[table] - after[table]) / 7 for table in before}
    assert gone["blocks"] == gone["headers"] == gone["bodies"] == gone["commits"] == gone["results"] == 1
    assert (gone["block_ids"], gone["transactions"]) == (1, 2)
    assert after["places"] * HEIGHTS == before["places"] * (HEIGHTS - 7)
    assert after["validators"] == 3, "those in force at 8, and at 9 and 12"
    for table in ("params", "values", "nodes", "roots", "stale"):
        assert gone[table] == 0


def test_what_is_kept_is_read_as_before(store: Store, folder: Path) -> None:
    def seen() -> list[object]:
        return [
            (
                store.block(height),
                store.block_transactions(height),
                store.results(height),
                store.commit_of(height),
                store.validators_at(height).hash,
                store.params_at(height),
                store.find_transaction(sha256(_raws(height)[1])),
                store.height_of_block_id(store.header(height).id),
            )
            for height in range(8, HEIGHTS + 1)
        ]

    before = seen()
    _forget(store, blocks=8, results=8, events=8, index=8)
    assert seen() == before
    store.close()
    store = Store.open(folder)
    assert seen() == before
    assert store.kept.earliest == {BLOCKS: 8, RESULTS: 8, EVENTS: 8, INDEX: 8, STATES: 0}
    store.close()


def test_a_forgotten_height_says_of_what_and_from_where_on(store: Store) -> None:
    _forget(store, blocks=5, results=8, events=9, index=10)
    reads = (store.block, store.header, store.block_transactions, store.commit_of, store.validators_at, store.params_at)
    for read in reads:
        with pytest.raises(HeightGone, match="blocks begin at 5") as gone:
            read(4)
        assert (gone.value.part, gone.value.earliest) == (BLOCKS, 5)
        read(5)
    with pytest.raises(HeightGone, match="results begin at 8"):
        store.results(7)
    assert store.results(8)
    assert store.height_of_block_id(store.header(5).id) == 5


def test_the_index_leads_only_to_what_it_keeps(store: Store) -> None:
    _forget(store, index=10)
    assert store.find_transaction(sha256(_raws(9)[0])) is None
    assert store.find_transaction(sha256(_raws(10)[0])) == (10, 0)
    for newest_first in (False, True):
        found = store.search(Kind.ADDRESS, ANNA, limit=100, newest_first=newest_first)
        assert sorted({place.height for place in found}) == [10, 11, 12]
    assert store.search(Kind.EVENT, b"coin.sent", limit=1) == [Cursor(10, 1, 0)]
    assert [place.height for place in store.search(Kind.EVENT, b"coin.sent", after=Cursor(10, 1, 0))] == [11, 12]
    assert len(store.events_after(BEGINNING)) == 2 * HEIGHTS, "the log of events is another part"


def test_a_reader_of_events_learns_that_some_are_gone(store: Store) -> None:
    _forget(store, events=9, index=9)
    assert [cursor for cursor, _ in store.events_after(BEGINNING, limit=2)] == [Cursor(9, 0, 0), Cursor(9, 1, 0)]
    assert len(store.events_after(Cursor(9, 0, 0), module="coin")) == 4
    for behind in (Cursor(8, 1, 0), Cursor(3, 0, -1)):
        with pytest.raises(HeightGone, match="events begin at 9"):
            store.events_after(behind)


def test_a_small_piece_at_a_time_comes_to_the_same(store: Store, tmp_path: Path) -> None:
    other = Store.open(tmp_path / "other", inline=True)
    write_genesis(other, {"coin": {b"start": b"1"}}, params=TINY)
    while other.height < HEIGHTS:
        height = other.height + 1
        joins = (Update(public_key(b"%032d" % height), 5),) if height % 3 == 2 else ()
        events = {0: [Event("town", "began", (height,))], 1: [PAID]}
        outcome = BlockOutcome(result=NOTHING, validator_updates=joins)
        changes: dict[bytes, bytes | None] = {b"k": b"%d" % height}
        other.commit_inline(
            decide(other, {"coin": changes}, transactions=_raws(height), events=events, outcome=outcome)
        )
    _forget(store, blocks=6, results=7, events=8, index=9)
    _forget(other, rows_max=1, blocks=6, results=7, events=8, index=9)
    assert _rows(store) == _rows(other)
    assert store.kept.earliest == other.kept.earliest
    other.close()


def test_a_piece_that_was_cut_off_is_finished_after_a_restart(store: Store, folder: Path) -> None:
    horizons = {**store.kept.earliest, BLOCKS: 9, RESULTS: 9, EVENTS: 9, INDEX: 9}
    assert not trio.run(lambda: store.forget(horizons, rows_max=1))
    with pytest.raises(HeightGone):
        store.block(8)
    store.close()
    again = Store.open(folder, inline=True)
    assert again.block(8), "its rows are there still"
    _forget(again, blocks=9, results=9, events=9, index=9)
    assert _rows(again)["blocks"] == 4
    again.close()


async def test_forgetting_waits_its_turn_and_lets_others_have_theirs(folder: Path) -> None:
    store = Store.open(folder)
    write_genesis(store, {"coin": {}}, params=TINY)
    for number in range(5):
        await store.commit(decide(store, {"coin": {b"k": b"%d" % number}}, transactions=[transaction(number)]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.forget, {**store.kept.earliest, **dict.fromkeys((BLOCKS, RESULTS, EVENTS, INDEX), 4)})
        nursery.start_soon(store.commit, decide(store, {"coin": {b"k": b"last"}}))
    assert (store.height, store.kept.earliest[BLOCKS]) == (6, 4)
    assert _rows(store)["blocks"] == 3
    store.close()


def test_a_file_stops_growing_once_as_much_is_forgotten_as_is_written(folder: Path) -> None:
    disk = Disk()
    disk.syncs = False
    store = Store.open(folder, inline=True, disk=disk)
    write_genesis(store, {"coin": {}}, params=TINY.replaced(snapshot_interval_blocks=20))
    sizes = []
    for number in range(1, 241):
        changes: dict[bytes, bytes | None] = {b"%d" % (number * 7 % 50 + each): b"%d" % number for each in range(5)}
        store.commit_inline(decide(store, {"coin": changes}, transactions=[transaction(number)], events={1: [PAID]}))
        if number % 16 == 0 and number > 40:
            _forget(store, blocks=number - 40, results=number - 40, events=number - 40, index=number - 40)
            while not trio.run(store.prune, number - 40):
                pass
        sizes.append(store.used_bytes)
    assert sizes[-1] < sizes[119] * 1.1, "twice the heights, the same file"
    store.close()


def test_the_latest_height_is_never_forgotten(store: Store) -> None:
    _forget(store, **{part: 10**6 for part in PARTS if part != STATES})
    assert store.kept.earliest[BLOCKS] == HEIGHTS
    assert store.block(HEIGHTS)
    assert store.commit_of(HEIGHTS)
