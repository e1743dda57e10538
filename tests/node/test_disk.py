"""Each step on the disk has a name and can be watched; what the system refuses comes with advice."""

from __future__ import annotations

import ast
import errno
import os
from pathlib import Path

import pytest

import node
from node.disk import Disk, DiskFailed, Step, advice
from node.files import PRIVATE_MODE, write_atomically

ROOT = Path(node.__file__).parent
WRITES = {"replace", "rename", "link", "symlink", "fsync", "fdatasync", "truncate", "ftruncate", "write", "pwrite"}
COPIES = {"move", "copy", "copy2", "copyfile", "copytree"}
MODES = frozenset(start + binary + update for start in "wax" for binary in ("", "b") for update in ("", "+")) | {
    "r+",
    "r+b",
}
PROMISE_NOTHING = {
    "log.py": {"replace", "write"},  # lines for people: the node goes on without them
    "store_environment.py": {"ftruncate", "pwrite", "copy"},  # who holds the lock; and LMDB's copy, which is a step
}
"""What may be written beside the door, by module."""


class Journal:
    """A watch that writes down what it saw."""

    def __init__(self, refuse: int = 0) -> None:
        self.lines: list[str] = []
        self._refuse = refuse

    def before(self, step: Step) -> None:
        self.lines.append(f"before {step}")
        if self._refuse:
            raise OSError(self._refuse, os.strerror(self._refuse))

    def after(self, step: Step) -> None:
        self.lines.append(f"after {step}")


def test_an_atomic_write_is_five_named_steps_the_same_in_every_run(tmp_path: Path) -> None:
    for _ in range(2):
        journal = Journal()
        write_atomically(tmp_path / "file", b"x", disk=Disk(journal))
        assert [line.removeprefix("before ") for line in journal.lines if line.startswith("before")] == [
            "file.new open",
            "file.new write",
            "file.new sync",
            "file replace",
            f"{tmp_path.name} sync folder",
        ]
        assert len(journal.lines) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_must_be_new_is_linked(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"x", mode=PRIVATE_MODE, replace=False)
    assert (tmp_path / "file").stat().st_mode & 0o777 == PRIVATE_MODE
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file", b"y", replace=False)
    assert (tmp_path / "file").read_bytes() == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "the disk is full: free space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "can only be read"),
        (errno.EACCES, "give the folder to the user"),
        (errno.EIO, "the disk failed: check it"),
        (errno.EMFILE, "check the disk and the folder's owner"),
    ],
)
def test_what_the_system_refuses_says_what_to_do(number: int, text: str, tmp_path: Path) -> None:
    with pytest.raises(DiskFailed, match=text) as failed:
        write_atomically(tmp_path / "file", b"x", disk=Disk(Journal(number)))
    assert failed.value.errno == number
    assert os.strerror(number) in str(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_or_in_the_way_keeps_its_own_error(tmp_path: Path) -> None:
    disk = Disk()
    with pytest.raises(FileNotFoundError):
        disk.read(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        disk.open(tmp_path / "file")
    assert not disk.exists(tmp_path / "file")


def test_an_open_file_reads_writes_and_ends(tmp_path: Path) -> None:
    disk = Disk()
    with disk.create(tmp_path / "file") as file:
        file.write(b"abcdef", 0)
        file.write(b"X", 2)
        file.truncate(4)
        file.sync()
        assert file.read(100) == b"abXd"
    file.close()
    with disk.open(tmp_path / "file") as again:
        assert again.read(2) == b"ab"
    disk.unlink(tmp_path / "file")
    assert not disk.exists(tmp_path / "file")


def test_an_unknown_error_has_advice_too(tmp_path: Path) -> None:
    assert advice(tmp_path, None, "odd") == f"{tmp_path}: check the disk and the folder's owner, then start again (odd)"


def test_whatever_must_outlive_a_power_cut_goes_through_the_one_door() -> None:
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        beside = {name for call in ast.walk(ast.parse(path.read_text())) if (name := _writes(call))}
        if beside and path.name != "disk.py":
            found[str(path.relative_to(ROOT))] = beside
    assert found == PROMISE_NOTHING


def _writes(call: ast.AST) -> str:
    """What *call* does to the disk without the door, "" if nothing."""
    if not isinstance(call, ast.Call):
        return ""
    modes = [
        each.value for each in (*call.args, *(word.value for word in call.keywords)) if isinstance(each, ast.Constant)
    ]
    match call.func:
        case ast.Name(id="open") | ast.Attribute(attr="open" | "fdopen"):
            return "open" if any(mode in MODES for mode in modes) else ""
        case ast.Attribute(value=ast.Name(id="os" | "shutil"), attr=name) if name in WRITES | COPIES:
            return name
        case ast.Attribute(attr="write_text" | "write_bytes" | "touch" | "rename" | "hardlink_to" as name):
            return name
        case ast.Attribute(value=ast.Attribute(attr="_env"), attr="copy"):
            return "copy"
    return ""
