"""One height is one durable transaction: whole or not at all, read back as it was written, by one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import lmdb
import pytest
import trio

from consensus.application import BlockOutcome
from consensus.chain import ChainState
from consensus.params import TINY
from consensus.signing import public_key, sha256
from consensus.validators import Update
from node import state_plan, store_blocks, store_environment, store_prune
from node.store import DecidedBlock, Store, StoreFailed, StoreInUse
from node.store_environment import Environment
from tests.node.decided import GENESIS, NOTHING, decide, transaction, write_genesis


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "chain"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store.open(folder, map_bytes=2**20)
    write_genesis(store, {"coin": {b"start": b"1"}}, params=TINY)
    yield store
    store.close()


def _grown(store: Store, blocks: int) -> list[DecidedBlock]:
    """*blocks* more heights, committed."""
    decided = []
    for number in range(blocks):
        raws = [transaction(10 * number + index) for index in range(3)]
        decided.append(decide(store, {"coin": {b"k": b"%d" % number}}, transactions=raws))
        store.commit_inline(decided[-1])
    return decided


def test_an_empty_store_has_no_chain(folder: Path) -> None:
    store = Store.open(folder)
    assert store.height == -1
    assert store.chain_state() is None
    with pytest.raises(KeyError):
        store.genesis_bytes()
    store.close()


def test_the_genesis_is_height_0(store: Store, folder: Path) -> None:
    assert store.height == 0
    assert store.genesis_bytes() == GENESIS
    assert store.state().get("coin", b"start") == b"1"
    store.close()
    again = Store.open(folder)
    assert again.height == 0
    assert again.genesis_bytes() == GENESIS
    again.close()


def test_a_chain_begins_once(store: Store) -> None:
    chain = store.chain_state()
    assert chain is not None
    with pytest.raises(AssertionError, match="begins once"):
        store.write_genesis(GENESIS, chain, {}, store.plan({}, 1))


async def test_what_is_committed_is_read_back_also_after_a_restart(store: Store, folder: Path) -> None:
    raws = (transaction(0), transaction(1))
    decided = decide(store, {"coin": {b"k": b"v"}}, transactions=raws)
    await store.commit(decided)
    opened = store
    for restart in (False, True):
        if restart:
            store.close()
            opened = Store.open(folder)
        assert opened.height == 1
        assert opened.block(1) == decided.block
        assert opened.header(1) == decided.block.header
        assert opened.block_transactions(1) == raws
        assert opened.results(1) == decided.results
        assert opened.commit_of(1) == (decided.commit, False)
        assert opened.height_of_block_id(decided.block.id) == 1
        assert opened.find_transaction(sha256(raws[1])) == (1, 1)
        assert opened.module_roots(1) == decided.plan.roots
        assert opened.chain_state() == decided.chain_state
        assert opened.state().get("coin", b"k") == b"v"
    opened.close()


def test_the_next_block_brings_the_canonical_commit(store: Store) -> None:
    first, second = _grown(store, 2)
    assert store.commit_of(1) == (second.block.last_commit, True)
    assert store.commit_of(1)[0] != first.commit
    assert store.commit_of(2) == (second.commit, False)


def test_what_is_not_stored_is_a_key_error(store: Store) -> None:
    for read in (store.block, store.header, store.block_transactions, store.results, store.commit_of):
        for height in (-1, 0, 1, 2**80):
            with pytest.raises(KeyError, match=f"height {height} is not stored"):
                read(height)
    assert store.height_of_block_id(bytes(32)) is None
    assert store.find_transaction(bytes(32)) is None
    assert store.find_transaction(b"") is None
    for missing in (0, 2):
        with pytest.raises(KeyError):
            store.validators_at(missing)
        with pytest.raises(KeyError):
            store.params_at(missing)


def test_sets_and_parameters_are_those_of_their_height(store: Store) -> None:
    joined = Update(public_key(b"9" * 32), 5)
    changed = TINY.replaced(heartbeat_ms=2_000)
    _grown(store, 1)
    store.commit_inline(
        decide(store, {}, outcome=BlockOutcome(result=NOTHING, validator_updates=(joined,), params=changed))
    )
    _grown(store, 2)
    sizes = [len(store.validators_at(height).validators) for height in range(1, 6)]
    assert sizes == [4, 4, 5, 5, 5]
    assert [store.params_at(height).heartbeat_ms for height in range(1, 6)] == [1_000, 1_000, 2_000, 2_000, 2_000]
    for height in range(1, 5):
        assert store.validators_at(height).hash == store.header(height).validators_hash
    chain = store.chain_state()
    assert chain is not None
    assert (store.validators_at(4), store.validators_at(5)) == (chain.last_validators, chain.validators)


def test_heights_are_written_in_order_and_once(store: Store) -> None:
    (decided,) = _grown(store, 1)
    with pytest.raises(AssertionError, match="in order, once: 1 after 1"):
        store.commit_inline(decided)


async def test_a_height_is_committed_though_every_common_thread_waits_for_a_name_server(store: Store) -> None:
    common = trio.to_thread.current_default_thread_limiter()
    while common.available_tokens:
        common.acquire_on_behalf_of_nowait(object())
    with trio.fail_after(30):
        await store.commit(decide(store, {"coin": {b"k": b"v"}}))
    assert store.height == 1


async def test_reads_during_a_commit_see_the_former_height_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit stops at its first yield, and in its thread before the disk has it: nobody sees half of it."""
    monkeypatch.setattr(state_plan, "SLICE_PUTS", 1)
    monkeypatch.setattr(store_blocks, "SLICE_PUTS", 1)
    keys = [b"%d" % number for number in range(50)]
    await store.commit(decide(store, {"coin": dict.fromkeys(keys, b"old")}))
    decided = decide(store, {"coin": dict.fromkeys(keys, b"new")}, transactions=[transaction(1)])
    is_done = trio.Event()

    async def commit() -> None:
        await store.commit(decided)
        is_done.set()

    looks = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        while not is_done.is_set():
            if store.height == 1:
                looks += 1
                assert {store.state().get("coin", key) for key in keys} == {b"old"}
                assert [value for _, value in store.state().scan("coin", b"", b"9")].count(b"new") == 0
                assert store.find_transaction(sha256(transaction(1))) is None
                value, _ = store.prove("coin", b"1", 1)
                assert value == b"old"
            await trio.lowlevel.checkpoint()
    assert looks > 20
    assert {store.state().get("coin", key) for key in keys} == {b"new"}


async def test_a_commit_that_is_cancelled_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_plan, "SLICE_PUTS", 1)
    decided = decide(store, {"coin": {b"%d" % number: b"x" for number in range(50)}})
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.commit(decided)
    assert scope.cancelled_caught
    assert store.height == 0
    assert store.state().get("coin", b"1") is None
    await store.commit(decided)
    assert store.state().get("coin", b"1") == b"x"


async def test_pruning_beside_commits_waits_for_its_turn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_prune, "_SLICE_DELETES", 1)
    _grown(store, 6)
    decided = decide(store, {"coin": {b"k": b"last"}})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.commit, decided)
        nursery.start_soon(store.prune, 5)
        nursery.start_soon(store.prune, 6)
    assert (store.height, store.kept.states.oldest) == (7, 6)
    assert store.state(6).get("coin", b"k") == b"5"


def test_the_map_grows_before_and_during_a_commit(folder: Path) -> None:
    store = Store.open(folder, map_bytes=2**17)
    write_genesis(store, {"coin": {}}, params=TINY)
    state = store.state()
    for number in range(3):
        changes: dict[bytes, bytes | None] = {b"%d-%d" % (number, key): bytes(3_000) for key in range(100)}
        store.commit_inline(decide(store, {"coin": changes}))
    assert store.used_bytes > 2**19
    assert store.state().get("coin", b"2-99") == bytes(3_000)
    assert state.get("coin", b"2-99") is None
    store.close()
    again = Store.open(folder, map_bytes=2**17)
    assert again.state().get("coin", b"2-99") == bytes(3_000)
    _grown(again, 1)
    again.close()


async def test_the_map_grows_during_a_commit_in_the_loop(folder: Path) -> None:
    store = Store.open(folder, map_bytes=2**17)
    write_genesis(store, {"coin": {}}, params=TINY)
    await store.commit(decide(store, {"coin": {b"%d" % key: bytes(3_000) for key in range(100)}}))
    assert store.state().get("coin", b"99") == bytes(3_000)
    store.close()


def test_what_fits_in_no_map_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_environment, "_GROWTHS_MAX", 1)
    with pytest.raises(StoreFailed, match="does not fit"):
        store.commit_inline(decide(store, {"coin": {b"%d" % key: bytes(3_000) for key in range(1_000)}}))
    assert store.height == 0


def test_the_folder_is_for_one_process(store: Store, folder: Path) -> None:
    with pytest.raises(StoreInUse, match=f"{folder} is in use by another process"):
        Store.open(folder)
    program = f"from pathlib import Path; from node.store import Store; Store.open(Path({str(folder)!r}))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert other.returncode != 0
    assert "StoreInUse" in other.stderr


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreFailed, match="file/chain: check the disk and the folder's owner"):
        Store.open(tmp_path / "file" / "chain")


def test_a_damaged_file_is_named_and_frees_the_folder(folder: Path) -> None:
    Store.open(folder).close()
    (folder / "data.mdb").write_bytes(b"garbage" * 2_000)
    for _ in range(2):
        with pytest.raises(StoreFailed, match="is damaged, or no chain of this release"):
            Store.open(folder)


def _rows(environment: Environment, values: list[bytes | None]) -> None:
    def put(transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
        for number, value in enumerate(values):
            key, table = b"%d" % number, environment.table("a")
            transaction.delete(key, db=table) if value is None else transaction.put(key, value, db=table)
        yield

    environment.write_inline(put)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_a_file_whose_end_is_missing_is_damaged_and_kills_nobody(tmp_path: Path, share: float) -> None:
    """A look at a missing page would end the process without a word."""
    environment = Environment.open(tmp_path, ("a",), map_bytes=2**24)
    _rows(environment, [bytes([number]) * 3_000 for number in range(200)])
    environment.close()
    os.truncate(tmp_path / "data.mdb", int((tmp_path / "data.mdb").stat().st_size * share))
    with pytest.raises(StoreFailed, match="is damaged"):
        Environment.open(tmp_path, ("a",), map_bytes=2**24)


def test_a_file_without_pages_that_nobody_uses_is_whole(tmp_path: Path) -> None:
    """LMDB may leave the last pages of a file unwritten."""
    environment = Environment.open(tmp_path, ("a",), map_bytes=2**24)
    _rows(environment, [b"kept"])
    _rows(environment, [b"kept", *[bytes(3_000)] * 200])
    for _ in range(6):  # what is in use moves to pages that are free
        _rows(environment, [b"kept", *[None] * 200])
    size = environment.used_bytes
    environment.close()
    os.truncate(tmp_path / "data.mdb", size - 3 * 4_096)
    environment = Environment.open(tmp_path, ("a",), map_bytes=2**24)
    assert environment.get("a", b"0") == b"kept"
    assert (tmp_path / "data.mdb").stat().st_size >= size
    environment.close()


def test_a_store_of_another_release_is_named(store: Store, folder: Path) -> None:
    def change(transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
        transaction.put(b"format", b"allting store 0", db=store._environment.table("meta"))
        yield

    store._environment.write_inline(change)
    store.close()
    with pytest.raises(StoreFailed, match="written by another release"):
        Store.open(folder)


def _facts(store: Store) -> dict[bytes, bytes]:
    return dict(store._environment.all_rows("meta"))


def test_what_the_disk_changed_in_any_fact_of_a_store_is_noticed_before_it_is_used(store: Store, folder: Path) -> None:
    _grown(store, 3)
    facts = _facts(store)
    assert len(facts) == 9
    store.close()
    for key, row in facts.items():
        flipped = row[:-1] + bytes((row[-1] ^ 1,))
        renamed = key[:-1] + bytes((key[-1] ^ 1,))
        for changed in ({key: flipped}, {key: b""}, {key: None}, {key: None, renamed: row}):
            _put_facts(folder, changed)
            with pytest.raises(StoreFailed, match="restore a backup, or move the folder away"):
                Store.open(folder)
            _put_facts(folder, {key: row, renamed: None})
    store = Store.open(folder)
    assert (store.height, _facts(store)) == (3, facts)
    store.close()


def test_a_store_that_lost_all_of_its_facts_is_not_taken_for_an_empty_one(store: Store, folder: Path) -> None:
    lost = dict.fromkeys(_facts(store))
    store.close()
    _put_facts(folder, lost)
    with pytest.raises(StoreFailed, match="restore a backup, or move the folder away"):
        Store.open(folder)


def _put_facts(folder: Path, rows: Mapping[bytes, bytes | None]) -> None:
    """As a disk that changes them: nothing is checked."""
    with lmdb.open(str(folder), max_dbs=32, lock=False) as env:
        table = env.open_db(b"meta")
        with env.begin(write=True) as transaction:
            for key, row in rows.items():
                if row is None:
                    transaction.delete(key, db=table)
                else:
                    transaction.put(key, row, db=table)


def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    error = lmdb.Error("mdb_txn_commit: No space left on device")
    assert "free space" in str(store_environment.failed(tmp_path, error))
    assert "the disk failed" in str(store_environment.failed(tmp_path, lmdb.Error("mdb_get: Input/output error")))
    assert "check the disk" in str(store_environment.failed(tmp_path, lmdb.Error("mdb_get: something new")))


class _BadDisk:
    """An environment whose transactions can't be committed."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment

    def __getattr__(self, name: str) -> object:
        return getattr(self._environment, name)

    def begin(self, write: bool = False) -> object:
        transaction = self._environment.begin(write=write)
        return _BadTransaction(transaction) if write else transaction


class _BadTransaction:
    def __init__(self, transaction: lmdb.Transaction[bytes]) -> None:
        self._transaction = transaction

    def __getattr__(self, name: str) -> object:
        return getattr(self._transaction, name)

    def cursor(self, db: object) -> object:
        return self._transaction.cursor(db)  # type: ignore[arg-type]  # a table's handle

    def commit(self) -> None:
        self._transaction.abort()
        raise lmdb.DiskError("mdb_txn_commit: No space left on device")


async def test_a_disk_that_refuses_leaves_the_former_height(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = decide(store, {"coin": {b"k": b"v"}})
    monkeypatch.setattr(store._environment, "_env", _BadDisk(store._environment._env))
    with pytest.raises(StoreFailed, match="is full: free space"):
        await store.commit(decided)
    with pytest.raises(StoreFailed, match="is full: free space"):
        store.commit_inline(decided)
    assert store.height == 0
    store.close()
    again = Store.open(folder)
    assert again.height == 0
    assert isinstance(again.chain_state(), ChainState)
    again.close()


def test_a_process_that_is_killed_loses_no_committed_height(tmp_path: Path) -> None:
    """The child says each height once it is committed, and dies in the midst of the next ones."""
    folder = tmp_path / "chain"
    program = f"""
import os, sys
from pathlib import Path
from consensus.params import TINY
from node.store import Store
from tests.node.decided import decide, write_genesis
store = Store.open(Path({str(folder)!r}))
write_genesis(store, {{"coin": {{}}}}, params=TINY)
for number in range(1, 1000):
    store.commit_inline(decide(store, {{"coin": {{b"%d" % key: b"%d" % number for key in range(50)}}}}))
    print(number, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = 0
    for line in child.stdout:
        said = int(line)
        if said == 5:
            child.kill()
    child.wait(timeout=30)
    child.stdout.close()
    store = Store.open(folder)
    assert store.height >= said >= 5
    assert {store.state().get("coin", b"%d" % key) for key in range(50)} == {b"%d" % store.height}
    _grown(store, 1)
    store.close()


def test_closing_twice_is_closing(folder: Path) -> None:
    store = Store.open(folder)
    store.close()
    store.close()
