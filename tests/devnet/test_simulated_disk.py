"""A simulated disk keeps what was synced, may lose anything else, and is over once its power was cut."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.simulated_disk import Moment, PowerCut, SimulatedDisk, Watching, cut_at, refuse_at
from node.disk import Act, DiskFailed, Step
from node.files import write_atomically


def disk_of(seed: int = 0, watch: Watching | None = None) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed), watch)


def kept(disk: SimulatedDisk, folder: Path) -> None:
    """*folder* and what stands in it is durable."""
    disk.sync_folder(folder)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_synced_survives_and_nothing_else_is_made_up(seed: int, tmp_path: Path) -> None:
    disk, path = disk_of(seed), tmp_path / "file"
    with disk.create(path) as file:
        file.write(b"durable", 0)
        file.sync()
        kept(disk, tmp_path)
        file.write(b" and more", 7)
        file.write(b"D", 0)
        disk.cut_power()
    found = path.read_bytes()
    assert found[1:7] == b"urable"
    assert found[:1] in (b"d", b"D")
    assert all(one in (other, 0) for one, other in zip(found[7:], b" and more", strict=False))


def test_some_dice_lose_and_some_keep_and_some_tear_it(tmp_path: Path) -> None:
    found = set()
    for seed in range(60):
        disk, path = disk_of(seed), tmp_path / f"file{seed}"
        with disk.create(path) as file:
            kept(disk, tmp_path)
            file.write(b"ab", 0)
            file.write(b"cd", 2)
            disk.cut_power()
        found.add(path.read_bytes())
    assert {b"", b"ab", b"abcd", b"\0\0cd"} <= found
    assert any(len(content) in (1, 3) for content in found), "a write that is torn"


def test_a_cut_that_was_not_synced_may_come_back(tmp_path: Path) -> None:
    found = set()
    for seed in range(20):
        disk, path = disk_of(seed), tmp_path / f"file{seed}"
        with disk.create(path) as file:
            file.write(b"abcdef", 0)
            file.sync()
            kept(disk, tmp_path)
            file.truncate(2)
            assert path.read_bytes() == b"ab"
            disk.cut_power()
        found.add(path.read_bytes())
    assert found == {b"ab", b"abcdef"}


def test_names_survive_once_their_folder_is_synced_and_else_in_their_order(tmp_path: Path) -> None:
    found = set()
    for seed in range(40):
        folder = tmp_path / f"folder{seed}"
        folder.mkdir()
        (folder / "old").write_bytes(b"old")
        disk = disk_of(seed)
        with disk.create(folder / "new") as file:
            file.write(b"new", 0)
            file.sync()
        disk.replace(folder / "new", folder / "old")
        disk.link(folder / "old", folder / "too")
        disk.unlink(folder / "old")
        disk.cut_power()
        found.add(tuple(sorted((path.name, path.read_bytes()) for path in folder.iterdir())))
    assert found == {
        (("old", b"old"),),
        (("new", b"new"), ("old", b"old")),
        (("old", b"new"),),
        (("old", b"new"), ("too", b"new")),
        (("too", b"new"),),
    }


def test_a_new_folder_is_surely_there_once_the_one_above_it_is_synced(tmp_path: Path) -> None:
    """Until then it may be gone, with all that was synced in it."""
    found = set()
    for seed in range(20):
        disk = disk_of(seed)
        path = tmp_path / f"{seed}" / "new"
        path.parent.mkdir()
        disk.make_folder(path)
        if seed >= 10:
            disk.sync_folder(path.parent)
        with disk.create(path / "file") as file:
            file.write(b"x", 0)
            file.sync()
        disk.sync_folder(path)
        disk.cut_power()
        found.add((seed >= 10, path.exists()))
        assert not path.exists() or (path / "file").read_bytes() == b"x"
    assert found == {(False, False), (False, True), (True, True)}


@given(seed=st.integers(0, 2**32), number=st.integers(1, 12))
def test_a_file_written_atomically_is_the_old_one_or_the_new_one(
    tmp_path_factory: pytest.TempPathFactory, seed: int, number: int
) -> None:
    folder = tmp_path_factory.mktemp("atomic")
    path = folder / "file"
    write_atomically(path, b"old")
    count = 0

    def cut(moment: Moment, _: int) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise PowerCut

    disk = disk_of(seed, Watching(cut))
    try:
        write_atomically(path, b"new", disk=disk)
    except PowerCut:
        assert path.read_bytes() in (b"old", b"new")
    else:
        disk.cut_power()
        assert path.read_bytes() == b"new"


def test_a_watch_cuts_the_power_at_one_moment_and_from_then_on_everything_is_over(tmp_path: Path) -> None:
    gone: list[str] = []
    moment = Moment(Step("file", Act.SYNC), after=True)
    disk = SimulatedDisk(random.Random(0), cut_at(moment, 2), on_cut=lambda: gone.append("links"))
    with disk.create(tmp_path / "file") as file:
        file.sync()
        with pytest.raises(PowerCut, match="after file sync"):
            file.sync()
        with pytest.raises(PowerCut, match="off"):
            file.write(b"x", 0)
        disk.cut_power()
    assert disk.is_cut
    assert gone == ["links"]


def test_a_watch_refuses_a_step_with_the_error_of_the_system(tmp_path: Path) -> None:
    watch = refuse_at(Step("file", Act.WRITE), errno.ENOSPC, 2)
    disk = disk_of(0, watch)
    with disk.create(tmp_path / "file") as file:
        file.write(b"a", 0)
        for _ in range(2):
            with pytest.raises(DiskFailed, match="the disk is full: free space") as failed:
                file.write(b"b", 1)
            assert failed.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_bytes() == b"a"
    assert watch.counts[Moment(Step("file", Act.WRITE), after=True)] == 1
