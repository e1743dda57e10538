"""The power goes at every step of `compact`, `backup` and `restore`: the old or the new is there then, whole."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from consensus.chain import ChainState
from consensus.signing import sha256
from consensus.transaction import Message, Transaction
from devnet.grow import Grower
from devnet.simulated_disk import PowerCut, SimulatedDisk, Watching, cut_at
from node.backup import restore, write_backup
from node.config import Config
from node.disk import Act, Disk
from node.engine import write_genesis
from node.files import write_atomically
from node.home import Home
from node.store import Store
from node.store_check import check_store
from node.store_compact import compact
from tests.node.register_town import RegisterTown, signed
from tests.node.small_net import CHAIN_ID, START_MS, SmallNet, seed

HEIGHTS = 4
DICE = range(3)
"""What a cut takes of the unsynced is chance: each moment is tried with several dice."""

Care = Callable[[Home, Disk], object]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of a node that has decided some heights and forgotten the states of the first."""
    home = Home(tmp_path_factory.mktemp("lived"))
    net = SmallNet(home.path)
    home.genesis.write_bytes(net.genesis.raw)
    Config.defaults().write(home.config)
    write_atomically(home.node_key, b"a key")
    with _opened(home) as store:
        app = RegisterTown()
        write_genesis(store, net.genesis, app)
        grower = Grower(store, app, [seed("validator", number) for number in range(4)])
        for number in range(HEIGHTS):
            message = Message("register", "set", (number % 2, number))
            raw = signed(CHAIN_ID, seed("account", 0), number, message, valid_until_ms=START_MS + 3_600_000)
            trio.run(grower.block, [Transaction.decode(raw)])
        trio.run(store.prune, HEIGHTS)
    return home


@contextmanager
def _opened(home: Home) -> Iterator[Store]:
    store = Store.open(home.chain, inline=True)
    try:
        yield store
    finally:
        store.close()


def _whole(home: Home) -> ChainState | None:
    """What the chain in *home* stands at; all of it was checked."""
    with _opened(home) as store:
        check_store(store, sha256(home.genesis.read_bytes()))
        return store.chain_state()


def _cuts(care: Care, fresh: Callable[[str], Home]) -> Iterator[tuple[str, Home]]:
    """Homes that *fresh* made, each after the power went at another moment of *care*."""
    watch = Watching()
    care(fresh("listed"), SimulatedDisk(random.Random(0), watch))
    for place, (moment, count) in enumerate(sorted(watch.counts.items())):
        for number in {1, count}:
            for dice in DICE:
                home = fresh(f"{place}-{number}-{dice}")
                with pytest.raises(PowerCut):
                    care(home, SimulatedDisk(random.Random(dice), cut_at(moment, number)))
                yield f"{moment} ({number})", home


def test_compacting_leaves_the_old_file_or_the_new_one(lived: Home, tmp_path: Path) -> None:
    def fresh(name: str) -> Home:
        return Home(Path(shutil.copytree(lived.path, tmp_path / name / "home")))

    def care(home: Home, disk: Disk) -> None:
        compact(home.chain, disk=disk)

    before = (lived.chain / "data.mdb").stat().st_size
    sizes, moments = set(), set()
    for moment, home in _cuts(care, fresh):
        moments.add(moment)
        sizes.add((home.chain / "data.mdb").stat().st_size)
        assert _whole(home) == _whole(lived), moment
        compact(home.chain)
        assert {path.name for path in home.chain.iterdir()} == {"data.mdb", "in_use"}, moment
    assert len(sizes) == 2, "the old one, and the new one"
    assert max(sizes) == before
    assert {f"before data.mdb {act} (1)" for act in (Act.WRITE, Act.SYNC, Act.REPLACE)} <= moments


def test_a_backup_is_there_whole_or_not_at_all(lived: Home, tmp_path: Path) -> None:
    def fresh(name: str) -> Home:
        return Home(Path(shutil.copytree(lived.path, tmp_path / name / "home")))

    def care(home: Home, disk: Disk) -> None:
        with _opened(home) as store:
            trio.run(partial(write_backup, store, home, home.path / "copy.tar", disk=disk))

    seen = set()
    for moment, home in _cuts(care, fresh):
        file = home.path / "copy.tar"
        seen.add(file.exists())
        if not file.exists():
            care(home, Disk())
        restored = Home(home.path / "again")
        restore(file, restored)
        assert _whole(restored) == _whole(lived), moment
    assert seen == {False, True}


def test_a_restored_home_has_its_settings_only_once_it_is_whole(lived: Home, tmp_path: Path) -> None:
    """Without settings it is none: nothing starts there."""
    file = tmp_path / "copy.tar"
    with _opened(lived) as store:
        trio.run(write_backup, store, lived, file)

    def fresh(name: str) -> Home:
        return Home(tmp_path / name / "home")

    def care(home: Home, disk: Disk) -> None:
        restore(file, home, disk=disk)

    seen = set()
    for moment, home in _cuts(care, fresh):
        seen.add(home.config.exists())
        if home.config.exists():
            assert _whole(home) == _whole(lived), moment
            assert home.config.read_bytes() == lived.config.read_bytes()
            assert home.node_key.read_bytes() == lived.node_key.read_bytes()
    assert seen == {False, True}
