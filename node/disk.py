"""The disk as our own files and the store reach it: each step has a name, and can be watched, refused or be the last.

What survives a power cut is decided by the order of these steps, so a test must be able to stop between any two of
them. A node runs on `DISK`, which nobody watches; a simulator brings a `Disk` of its own.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self


class Act(enum.StrEnum):
    """What can be done to the disk."""

    READ = "read"
    OPEN = "open"
    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC = "sync"
    REPLACE = "replace"
    LINK = "link"
    UNLINK = "unlink"
    MAKE_FOLDER = "make folder"
    SYNC_FOLDER = "sync folder"
    COMMIT = "commit"
    """A write transaction of the store, whole or not at all."""


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One thing done to the disk. A node does few different ones, each many times."""

    name: str
    """Of the file or folder, without what differs from run to run."""
    act: Act

    def __str__(self) -> str:
        return f"{self.name} {self.act}"


class Watch(Protocol):
    """Who is asked around each step."""

    def before(self, step: Step) -> None:
        """*step* is about to be done. An OSError raised here is what the disk answers; anything else passes."""

    def after(self, step: Step) -> None:
        """*step* is done."""


class DiskFailed(OSError):
    """The disk refused, and the node must stop; the text says what to do."""

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.errno = number


_ADVICE = {
    errno.ENOSPC: "the disk is full: free space, then start again; nothing is lost",
    errno.EDQUOT: "the quota of this user is used up: free space or raise it, then start again; nothing is lost",
    errno.EROFS: "the file system can only be read, as systems do after a disk error: check the disk, mount it for "
    "writing, then start again",
    errno.EACCES: "this user may not use it: give the folder to the user who runs the node, then start again",
    errno.EPERM: "this user may not use it: give the folder to the user who runs the node, then start again",
    errno.EIO: "the disk failed: check it (the system's log says more), then start again; if it refuses, "
    "restore a backup",
}
_OTHERWISE = "check the disk and the folder's owner, then start again"


def advice(path: Path, number: int | None, reported: str) -> str:
    """What the operator is told when the system *reported* error *number* (None: unknown) about *path*."""
    return f"{path}: {_ADVICE.get(number or 0, _OTHERWISE)} ({reported})"


class Disk:
    """Files by their paths. Methods raise DiskFailed for what the system refuses, FileNotFoundError, FileExistsError.

    The methods with an underscore do the work of one step; a simulated disk keeps its books there.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self.watch = watch
        self.syncs = True
        """Whether what is synced must outlive the machine; a simulation spares the wait."""

    @contextmanager
    def step(self, act: Act, path: Path, label: str = "") -> Iterator[None]:
        """What happens within is one step on *path*, called *label* (else by the path's name)."""
        try:
            if self.watch is None:
                yield
                return
            step = Step(label or path.name, act)
            self.watch.before(step)
            yield
            self.watch.after(step)
        except (FileNotFoundError, FileExistsError, DiskFailed):
            raise
        except OSError as error:
            raise DiskFailed(advice(path, error.errno, error.strerror or str(error)), error.errno) from error

    def exists(self, path: Path) -> bool:
        """Whether something stands at *path*."""
        return path.exists()

    def read(self, path: Path) -> bytes:
        """All of *path*."""
        with self.step(Act.READ, path):
            return path.read_bytes()

    def open(self, path: Path) -> File:
        """The file at *path*, which must be there, for reading and writing."""
        with self.step(Act.OPEN, path):
            return File(self, path, path.name, os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def create(self, path: Path, *, mode: int = 0o600, label: str = "") -> File:
        """An empty file with permissions *mode* at *path*, over whatever stood there."""
        with self.step(Act.OPEN, path, label):
            return self._create(path, mode, label or path.name)

    @contextmanager
    def written_by_another(self, path: Path) -> Iterator[None]:
        """A library that knows no `Disk` makes the file *path* within; it is durable once it was opened and synced."""
        with self.step(Act.WRITE, path):
            yield
            self._written_by_another(path)

    def replace(self, source: Path, target: Path) -> None:
        """*source* stands at *target*, in place of what stood there; surely so after `sync_folder`."""
        with self.step(Act.REPLACE, target):
            self._replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """*source* stands at *target* too; surely so after `sync_folder`. Raises FileExistsError."""
        with self.step(Act.LINK, target):
            self._link(source, target)

    def unlink(self, path: Path, *, label: str = "") -> None:
        """Nothing stands at *path*."""
        with self.step(Act.UNLINK, path, label):
            self._unlink(path)

    def make_folder(self, path: Path) -> None:
        """*path* is a folder; surely so, with what will be in it, after `sync_folder` of the one that it is in."""
        if not path.is_dir():
            with self.step(Act.MAKE_FOLDER, path):
                self._make_folder(path)

    def sync_folder(self, path: Path) -> None:
        """The names in folder *path* survive a power cut."""
        with self.step(Act.SYNC_FOLDER, path):
            self._sync_folder(path)

    def _create(self, path: Path, mode: int, label: str) -> File:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        os.fchmod(descriptor, mode)  # the umask may have taken bits away
        return File(self, path, label, descriptor)

    def _written_by_another(self, path: Path) -> None:
        pass

    def _replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def _link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def _unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def _make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def _sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write(self, file: File, data: bytes | bytearray, at: int) -> None:
        with memoryview(data) as view:
            written = 0
            while written < len(view):
                written += os.pwrite(file.descriptor, view[written:], at + written)

    def _truncate(self, file: File, size: int) -> None:
        os.ftruncate(file.descriptor, size)

    def _sync(self, file: File) -> None:
        os.fdatasync(file.descriptor)


class File:
    """An open file of a `Disk`; closed at the end of a ``with``."""

    def __init__(self, disk: Disk, path: Path, label: str, descriptor: int) -> None:
        self._disk = disk
        self.path = path
        self.label = label
        """What its steps are called by."""
        self.descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """The first *size* bytes, or all that there are."""
        with self._disk.step(Act.READ, self.path, self.label):
            return os.pread(self.descriptor, size, 0)

    def write(self, data: bytes | bytearray, at: int) -> None:
        """All of *data* is handed to the operating system, at byte *at*."""
        with self._disk.step(Act.WRITE, self.path, self.label):
            self._disk._write(self, data, at)

    def truncate(self, size: int) -> None:
        """The file has *size* bytes."""
        with self._disk.step(Act.TRUNCATE, self.path, self.label):
            self._disk._truncate(self, size)

    def sync(self) -> None:
        """What was written, and the size, survive a power cut. Not to be tried again after it failed."""
        with self._disk.step(Act.SYNC, self.path, self.label):
            self._disk._sync(self)

    def close(self) -> None:
        """The file is closed; a second time does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


DISK = Disk()
"""This machine's disk."""
