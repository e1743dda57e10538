"""The power goes at every step of `compact`, `backup`, `restore` and `keys unlock`, and of what a start mends."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consensus.chain import ChainState
from consensus.signing import sha256
from devnet.simulated_disk import PowerCut, SimulatedDisk, Watching, cut_at
from node.disk import Act, Disk
from node.home import Home
from node.signer import Signer
from node.store_check import check_store
from node.store_compact import compact
from node.store_environment import DATA_FILE, Environment
from node.wal import Wal
from tests.node.small_net import CHAIN_ID
from tests.worlds import care

DICE = range(3)
"""What a cut takes of the unsynced is chance: each moment is tried with several dice."""


@pytest.fixture(scope="module")
def needy(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return care.needy_home(tmp_path_factory.mktemp("needy"))


def _cuts(act: Callable[[Home, Disk], None], needy: Home, folder: Path) -> Iterator[tuple[str, Home]]:
    """Copies of the home *needy*, each after the power went at another moment of *act*."""
    fresh = folder / "home"
    shutil.copytree(needy.path, fresh)
    watch = Watching()
    act(Home(fresh), SimulatedDisk(random.Random(0), watch))
    for moment, count in sorted(watch.counts.items()):
        for number in {1, count}:
            for dice in DICE:
                shutil.rmtree(fresh)
                shutil.copytree(needy.path, fresh)
                with pytest.raises(PowerCut):
                    act(Home(fresh), SimulatedDisk(random.Random(dice), cut_at(moment, number)))
                yield f"{moment} ({number})", Home(fresh)


def _whole(home: Home) -> ChainState | None:
    """What the chain in *home* stands at; all of it was checked."""
    with care.opened(home) as store:
        check_store(store, sha256(home.genesis.read_bytes()))
        return store.chain_state()


def test_compacting_leaves_the_old_file_or_the_new_one(needy: Home, tmp_path: Path) -> None:
    before = (needy.chain / DATA_FILE).stat().st_size
    sizes, moments = set(), set()
    for moment, home in _cuts(care.compacts, needy, tmp_path):
        moments.add(moment)
        sizes.add((home.chain / DATA_FILE).stat().st_size)
        assert _whole(home) == _whole(needy), moment
        compact(home.chain)
        assert {path.name for path in home.chain.iterdir()} == {DATA_FILE, "in_use"}, moment
    assert len(sizes) == 2, "the old one, and the new one"
    assert max(sizes) == before
    assert {f"before {DATA_FILE} {act} (1)" for act in (Act.WRITE, Act.SYNC, Act.REPLACE)} <= moments


def test_a_backup_is_there_whole_or_not_at_all(needy: Home, tmp_path: Path) -> None:
    seen = set()
    for moment, home in _cuts(care.backs_up, needy, tmp_path):
        file = care.new_backup(home)
        seen.add(file.exists())
        if not file.exists():
            care.backs_up(home, Disk())
        assert file.read_bytes() == care.kept_backup(needy).read_bytes(), moment
    assert seen == {False, True}


def test_a_restored_home_has_its_settings_only_once_it_is_whole(needy: Home, tmp_path: Path) -> None:
    """Without settings it is none: nothing starts there."""
    seen = set()
    for moment, home in _cuts(care.restores, needy, tmp_path):
        again = care.restored(home)
        seen.add(again.config.exists())
        if again.config.exists():
            assert _whole(again) == _whole(needy), moment
            assert again.config.read_bytes() == needy.config.read_bytes()
            assert again.node_key.read_bytes() == needy.node_key.read_bytes()
    assert seen == {False, True}


@pytest.mark.parametrize(("act", "after"), [(care.unlocks, "waiting"), (care.unlocks_at_risk, "yes")])
def test_a_key_that_is_being_unlocked_is_locked_or_unlocked(
    act: Callable[[Home, Disk], None], after: str, needy: Home, tmp_path: Path
) -> None:
    """Never forgotten, which would let it sign anything."""
    seen = set()
    for _, home in _cuts(act, needy, tmp_path):
        signer = Signer.open(care.VALIDATOR, home.last_sign, CHAIN_ID)
        seen.add(signer.state)
        signer.close()
    assert seen == {"locked", after}


def test_a_first_start_may_end_at_any_step(needy: Home, tmp_path: Path) -> None:
    """The next one finds its signer's memory, or a folder that is as fresh as before."""
    for moment, home in _cuts(care.begins, needy, tmp_path):
        care.begins(home, Disk())
        assert care.begun(home).last_sign.exists(), moment


def test_a_signer_that_may_speak_is_not_forgotten(needy: Home, tmp_path: Path) -> None:
    """Nor the folders that its memory lies in: the next start would take the key for a fresh one."""
    for dice in range(10):
        home = Home(Path(shutil.copytree(needy.path, tmp_path / f"{dice}")))
        disk = SimulatedDisk(random.Random(dice))
        care.begins(home, disk)
        disk.cut_power()
        assert care.begun(home).last_sign.exists()


def test_what_a_start_mends_may_be_interrupted(needy: Home, tmp_path: Path) -> None:
    """A torn log, and a file without pages that nobody uses."""
    for moment, home in _cuts(care.opens_log, needy, tmp_path / "log"):
        log = Wal.open(home.wal)
        assert log.entries() == care.LOGGED, moment
        log.close()
    for moment, home in _cuts(care.opens_table, needy, tmp_path / "table"):
        environment = Environment.open(care.table_folder(home), (care.TABLE,), map_bytes=2**24)
        assert environment.get(care.TABLE, b"0") == b"kept", moment
        environment.close()
