"""A backup is the chain of one height, whole, without the key that votes; what is not whole is not restored."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.codec import decode, encode
from consensus.signing import sha256
from node.admin import Admin, AdminRefused, call
from node.backup import SUMS, BadBackup, unpack, write_backup
from node.home import Home
from node.retention import STATES
from node.store import _TABLES as STORE_TABLES
from node.store import Store, StoreFailed
from node.store_check import check_store
from node.store_rows import TABLES
from tests.node.served import Served, served, text

HEIGHTS = 12


async def _lived(town: Served) -> None:
    """Twelve heights, some with payments, and a home as nodes have it."""
    home = Home(town.home)
    home.genesis.write_bytes(town.services.genesis.raw)
    town.services.config.write(home.config)
    for nonce in range(3):
        await town.call("broadcast_tx_commit", tx=text(town.payment(nonce + 1, nonce=nonce)))
    await town.height(HEIGHTS)


async def _backed_up(folder: Path) -> Path:
    """The backup of a town's node, made while the chain went on."""
    file = folder / "copy.tar"
    async with served(folder / "town") as town:
        await _lived(town)
        await write_backup(town.services.store, Home(town.home), file)
    return file


def _restored(file: Path, folder: Path) -> Home:
    home = Home(folder)
    unpack(file, home)
    store = Store.open(home.chain)
    try:
        check_store(store, sha256(home.genesis.read_bytes()))
    finally:
        store.close()
    return home


def _changed(file: Path, change: Callable[[str, bytes], bytes], *, honest_sums: bool = False) -> Path:
    """A copy of the backup whose members *change* has gone over."""
    other = file.with_name("changed.tar")
    sums = ""
    with tarfile.open(file) as old, tarfile.open(other, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            body = old.extractfile(member)
            assert body is not None
            data = change(member.name, body.read())
            if member.name == SUMS and honest_sums:
                data = sums.encode()
            sums += f"{hashlib.sha256(data).hexdigest()}  {member.name}\n"
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return other


def test_every_table_of_the_store_is_copied() -> None:
    assert sorted(TABLES) == sorted(STORE_TABLES)


async def test_a_backup_of_a_running_node_is_one_height_whole(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are decided while the rows are read: none of them is in the copy, and nothing of its height is missing."""
    monkeypatch.setattr("node.store_rows.SLICE_ROWS", 8)
    monkeypatch.setattr("node.backup.PAUSE_S", 1)
    async with served(tmp_path / "town") as town:
        await _lived(town)
        store = town.services.store
        began = store.height
        manifest = await write_backup(store, Home(town.home), tmp_path / "copy.tar")
        assert store.height > began, "the chain went on"
        home = _restored(tmp_path / "copy.tar", tmp_path / "again")
        copy = Store.open(home.chain, inline=True)
        assert copy.height == manifest["height"] >= began
        assert copy.kept.earliest == store.kept.earliest
        for height in range(1, copy.height + 1):
            assert copy.block(height) == store.block(height)
            assert copy.results(height) == store.results(height)
            assert copy.module_roots(height) == store.module_roots(height)
            assert list(copy.state(height).scan("coin", b"", None)) == list(store.state(height).scan("coin", b"", None))
        payment = town.payment(1)
        assert copy.find_transaction(payment.id) == store.find_transaction(payment.id)
        assert copy.events_after(limit=100) == [
            row for row in store.events_after(limit=100) if row[0].height <= copy.height
        ]
        copy.close()
        assert (home.path / "genesis.toml").read_bytes() == town.services.genesis.raw


async def test_no_key_that_votes_is_in_it(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path / "town") as town:
        await _lived(town)
        keys = Home(town.home).node_key.parent
        (keys / "accounts").mkdir(parents=True)
        for name in ("node.json", "validator.json", "accounts/anna.json"):
            (keys / name).write_text(name)
        file = tmp_path / "copy.tar"
        await write_backup(town.services.store, Home(town.home), file)
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as tar:
        names = [name for name in tar.getnames() if not name.startswith("chain/")]
    assert names == ["manifest.json", "genesis.toml", "config.toml", "keys/node.json", SUMS]
    home = Home(tmp_path / "again")
    unpack(file, home)
    assert home.node_key.stat().st_mode & 0o777 == 0o600
    assert not home.validator_key.exists()
    assert not home.last_sign.exists()


async def test_nothing_is_forgotten_while_it_is_copied(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path / "town") as town:
        await _lived(town)
        store = town.services.store
        async with store.copied() as rows:
            chunks = rows.chunks()
            next(chunks)
            await store.prune(8)
            await store.forget({**store.kept.earliest, "blocks": 8, "results": 8, "events": 8, "index": 8})
            assert max(store.kept.earliest.values()) == 1
            assert sum(chunk is not None for chunk in chunks) >= len(TABLES) - 2
        await store.prune(8)
        assert store.kept.earliest[STATES] == 8


async def test_a_pruned_chain_is_copied_as_it_is(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path / "town") as town:
        await _lived(town)
        store = town.services.store
        await store.prune(7)
        await store.forget({**store.kept.earliest, "blocks": 5, "results": 6, "events": 7, "index": 8})
        await write_backup(store, Home(town.home), tmp_path / "copy.tar")
        earliest = store.kept.earliest
    copy = Store.open(_restored(tmp_path / "copy.tar", tmp_path / "again").chain, inline=True)
    assert copy.kept.earliest == earliest
    await copy.forget({**earliest, "blocks": 9, "results": 9, "events": 9, "index": 9})
    assert copy.block(9)
    copy.close()


async def test_two_backups_of_one_height_are_the_same(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path / "town") as town:
        await _lived(town)
    store = Store.open(Home(tmp_path / "town").chain)
    for name in ("one.tar", "other.tar"):
        await write_backup(store, Home(tmp_path / "town"), tmp_path / name)
    store.close()
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()


async def test_a_file_is_never_written_over_and_a_failure_leaves_none(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path / "town") as town:
        await _lived(town)
        (tmp_path / "copy.tar").write_text("precious")
        with pytest.raises(FileExistsError):
            await write_backup(town.services.store, Home(town.home), tmp_path / "copy.tar")
        with pytest.raises(FileNotFoundError):
            await write_backup(town.services.store, Home(town.home), tmp_path / "nowhere" / "copy.tar")
        with trio.CancelScope() as scope:
            scope.cancel()
            await write_backup(town.services.store, Home(town.home), tmp_path / "other.tar")
        assert scope.cancelled_caught
        assert town.services.store.kept.pins.lowest is None
    assert _names(tmp_path) == {"town", "copy.tar"}
    assert (tmp_path / "copy.tar").read_text() == "precious"


async def test_what_is_cut_short_or_changed_is_named(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    file = await _backed_up(tmp_path)
    data = file.read_bytes()
    cut = tmp_path / "cut.tar"
    for number, end in enumerate((0, 100, 512, len(data) // 3, len(data) // 2, len(data) - 20_000)):
        cut.write_bytes(data[:end])
        with pytest.raises(BadBackup, match=r"cut short|no backup|damaged"):
            unpack(cut, Home(tmp_path / f"cut{number}"))
    rotten = _changed(file, lambda name, each: each[:-1] + b"\x00" if name.startswith("chain/headers") else each)
    with pytest.raises(BadBackup, match="damaged"):
        unpack(rotten, Home(tmp_path / "rotten"))
    foreign = _changed(file, lambda name, each: each.replace(b"backup 1", b"backup 9") if name[0] == "m" else each)
    with pytest.raises(BadBackup, match="no backup of this release"):
        unpack(foreign, Home(tmp_path / "foreign"))


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("manifest.json", b"[" * 100_000, "no backup of this release"),
        ("manifest.json", b'{"format": "allting backup 1"}', "names no chain and height"),
        ("config.toml", b"\xff", "is damaged"),
        ("chain/roots/", encode(()), "roots of height"),
        ("chain/meta/", b"", "is damaged"),
    ],
)
async def test_what_somebody_made_up_is_named_though_the_sums_are_right(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, name: str, data: bytes, what: str
) -> None:
    file = await _backed_up(tmp_path)

    def change(member: str, old: bytes) -> bytes:
        return data if member.startswith(name) else old

    with pytest.raises((BadBackup, StoreFailed), match=what):
        _restored(_changed(file, change, honest_sums=True), tmp_path / "again")


async def test_a_forged_value_is_found_though_the_sums_are_right(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Whoever made the backup can't make a chain of it that nobody signed."""
    file = await _backed_up(tmp_path)

    def richer(name: str, data: bytes) -> bytes:
        if not name.startswith("chain/values"):
            return data
        rows = decode(data, bytes_max=2**30)
        assert isinstance(rows, tuple)
        changed = [
            encode(999_999) if index % 2 and isinstance(row, bytes) and row[1:] == encode(1_000_000 - 6) else row
            for index, row in enumerate(rows)
        ]
        return encode(tuple(b"\x01" + row if row == encode(999_999) else row for row in changed))

    forged = _changed(file, richer, honest_sums=True)
    assert forged.read_bytes() != file.read_bytes()
    with pytest.raises(StoreFailed, match="value of module coin does not match"):
        _restored(forged, tmp_path / "forged")
    swapped = _changed(file, _without_last_commit, honest_sums=True)
    with pytest.raises(StoreFailed, match="does not hold"):
        _restored(swapped, tmp_path / "swapped")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _without_last_commit(name: str, data: bytes) -> bytes:
    """The commits without the last one."""
    if not name.startswith("chain/commits"):
        return data
    rows = decode(data, bytes_max=2**30)
    assert isinstance(rows, tuple)
    return encode(rows[:-2])


async def test_the_operator_gets_a_backup_through_the_socket(tmp_path: Path) -> None:
    async with served(tmp_path / "town") as town, trio.open_nursery() as nursery:
        await nursery.start(Admin(town.services, lambda: None).serve)
        await town.height(2)
        file = tmp_path / "copy.tar"
        ask = partial(call, town.home, "backup", file=str(file))
        answer = await trio.to_thread.run_sync(ask)
        assert answer["height"] >= 2
        assert answer["bytes"] == file.stat().st_size
        with pytest.raises(AdminRefused, match="stands there already"):
            await trio.to_thread.run_sync(ask)
        with pytest.raises(AdminRefused, match="absolute path"):
            await trio.to_thread.run_sync(partial(call, town.home, "backup", file="copy.tar"))
        nursery.cancel_scope.cancel()
    with tarfile.open(file) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)["chain_id"] == town.services.chain_id
