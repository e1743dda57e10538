"""The LMDB environment under the store: one process, one writer at a time, a map that grows, reads from one snapshot.

LMDB's own locks are off (``lock=False``): its write lock belongs to a thread, and a thread that makes thousands of
puts beside a busy loop waits for the GIL again and again (2,000 puts: 2 ms in the loop, 320 ms in a thread). So the
loop puts, in slices, and a thread only commits: one call, in which the fsync is. What the locks did is done here: a
lock on a file keeps other processes out, `_writing` lets one writer in, and all reads go through one snapshot that is
opened after each commit, before the next writer begins. (LMDB reuses only pages that the last two snapshots do not
need, so the snapshot holds nothing up.)
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lmdb
import trio

from node.disk import DISK, Act, Disk, DiskFailed, advice
from node.store_probe import is_readable

DATA_FILE = "data.mdb"
"""LMDB's, in the folder of an environment."""
MAP_BYTES = 2**30
"""First size of the map: address space, not disk; the file is as large as what was written."""
_FILL_MAX_PERCENT = 80
_GROWTHS_MAX = 16
_TABLES_MAX = 32

Writes = Callable[["lmdb.Transaction[bytes]"], Iterator[None]]
"""Puts everything into the transaction; yields now and then, where the loop may do something else. May be run again."""


class StoreFailed(DiskFailed):
    """The disk or the database refused. The node must stop; the text says what to do."""


class StoreInUse(StoreFailed):
    """Another process has the folder open."""


class Environment:
    """Tables of bytes, written whole transactions at a time. Belongs to the thread that opened it."""

    def __init__(
        self, path: Path, lock_descriptor: int, env: lmdb.Environment, tables: tuple[str, ...], disk: Disk
    ) -> None:
        self.path = path
        self._lock_descriptor = lock_descriptor
        self._env = env
        self._disk = disk
        with disk.step(Act.COMMIT, path, f"{path.name} tables"), env.begin(write=True) as transaction:
            self._tables = {name: env.open_db(name.encode("ascii"), transaction) for name in tables}
        self._writing = trio.Lock()
        self._threads = trio.CapacityLimiter(1)
        """Our own: the common ones may all wait for name servers, which strangers choose."""
        self._cursors: dict[str, lmdb.Cursor[bytes]] = {}
        self._snapshot: lmdb.Transaction[bytes] = env.begin()

    @classmethod
    def open(cls, path: Path, tables: tuple[str, ...], *, map_bytes: int, disk: Disk = DISK) -> Environment:
        """The environment in folder *path*, created if absent. Raises StoreInUse, StoreFailed."""
        path = Path(path)
        with _disk_errors(path):
            disk.make_folder(path)
            with disk.step(Act.OPEN, path):
                descriptor = os.open(path / "in_use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take_lock(descriptor, path)
            with _disk_errors(path):
                env = lmdb.open(
                    str(path),
                    map_size=map_bytes,
                    max_dbs=_TABLES_MAX,
                    mode=0o600,
                    lock=False,
                    readahead=False,
                    meminit=False,
                    sync=disk.syncs,
                )
                try:
                    _require_whole(path, env, disk)
                    environment = cls(path, descriptor, env, tables, disk)
                    disk.sync_folder(path)
                    disk.sync_folder(path.parent)
                    return environment
                except BaseException:
                    env.close()
                    raise
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """The folder is free for another process."""
        if self._lock_descriptor >= 0:
            self._cursors.clear()
            self._snapshot.abort()
            self._env.close()
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value under *key* in the latest commit."""
        try:
            return self._snapshot.get(key, None, self._tables[table])
        except lmdb.Error as error:
            raise failed(self.path, error) from error

    def cursor(self, table: str) -> lmdb.Cursor[bytes]:
        """A cursor over *table* in the latest commit, shared: position it, read, keep it across no await or yield."""
        cursor = self._cursors.get(table)
        if cursor is None:
            cursor = self._cursors[table] = self._snapshot.cursor(self._tables[table])
        return cursor

    def all_rows(self, table: str) -> list[tuple[bytes, bytes]]:
        """Every row of a small *table*, in key order."""
        with _disk_errors(self.path):
            cursor = self.cursor(table)
            return list(cursor.iternext()) if cursor.first() else []

    def last_at_or_before(self, table: str, key: bytes) -> tuple[bytes, bytes] | None:
        """The last row of *table* whose key is not above *key*."""
        with _disk_errors(self.path):
            cursor = self.cursor(table)
            found = cursor.set_range(key)
            if found and cursor.key() == key:
                return cursor.item()
            return cursor.item() if (cursor.prev() if found else cursor.last()) else None

    def first_at_or_after(self, table: str, key: bytes) -> tuple[bytes, bytes] | None:
        """The first row of *table* whose key is not below *key*."""
        with _disk_errors(self.path):
            cursor = self.cursor(table)
            return cursor.item() if cursor.set_range(key) else None

    @property
    def table_names(self) -> tuple[str, ...]:
        """All tables."""
        return tuple(self._tables)

    def table(self, name: str) -> lmdb._Database:
        """The handle of a table, for use within a write transaction."""
        return self._tables[name]

    async def write(self, writes: Writes, *, label: str = "") -> None:
        """All of *writes* is on the disk, or nothing. The loop goes on meanwhile, reading the former commit.

        *label* is what the step on the disk is called by, if not by the folder's name.
        """
        async with self._writing:
            for _ in range(_GROWTHS_MAX):
                with self._attempt() as attempt:
                    for _ in writes(attempt.transaction):
                        await trio.lowlevel.checkpoint()
                    with self._disk.step(Act.COMMIT, self.path, label):
                        await trio.to_thread.run_sync(attempt.transaction.commit, limiter=self._threads)
                    attempt.is_committed = True
                if attempt.is_committed:
                    return
        raise self._does_not_fit()

    def write_inline(self, writes: Writes, *, label: str = "") -> None:
        """As `write`, without the loop: tests, the simulator, and what is written before the node runs."""
        for _ in range(_GROWTHS_MAX):
            with self._attempt() as attempt:
                for _ in writes(attempt.transaction):
                    pass
                with self._disk.step(Act.COMMIT, self.path, label):
                    attempt.transaction.commit()
                attempt.is_committed = True
            if attempt.is_committed:
                return
        raise self._does_not_fit()

    async def idle(self) -> None:
        """No write is under way, until the caller's next await."""
        async with self._writing:
            pass

    def copy_compact(self, folder: Path) -> None:
        """The same tables without free pages are in the empty *folder*, durably. Nothing may be written meanwhile."""
        file = folder / DATA_FILE
        with _disk_errors(self.path):
            with self._disk.written_by_another(file):
                self._env.copy(str(folder), compact=True)
            with self._disk.open(file) as copy:
                copy.sync()
            self._disk.sync_folder(folder)

    @property
    def used_bytes(self) -> int:
        """Bytes of the file that have been written, freed pages included."""
        return (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]

    def table_sizes(self) -> dict[str, TableSize]:
        """Rows and bytes of each table, in the latest commit."""
        sizes = {}
        for name, table in self._tables.items():
            found = self._snapshot.stat(table)
            pages = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
            sizes[name] = TableSize(found["entries"], pages * found["psize"])
        return sizes

    @property
    def map_bytes(self) -> int:
        """Present size of the map."""
        return self._env.info()["map_size"]

    @contextmanager
    def _attempt(self) -> Iterator[_Attempt]:
        """One transaction: committed within, or aborted. Where the map was too small, it has grown, to try again."""
        with _disk_errors(self.path):
            if self.used_bytes * 100 > self.map_bytes * _FILL_MAX_PERCENT:
                self._grow()
            attempt = _Attempt(self._env.begin(write=True))
            try:
                yield attempt
            except lmdb.MapFullError:
                attempt.transaction.abort()
                self._grow()
            except BaseException:
                attempt.transaction.abort()
                raise
            else:
                self._renew_snapshot()

    def _grow(self) -> None:
        """The map is twice as large. No transaction may be open while it moves."""
        self._cursors.clear()
        self._snapshot.abort()
        self._env.set_mapsize(2 * self.map_bytes)
        self._snapshot = self._env.begin()

    def _renew_snapshot(self) -> None:
        self._cursors.clear()
        self._snapshot.abort()
        self._snapshot = self._env.begin()

    def _does_not_fit(self) -> StoreFailed:
        return StoreFailed(f"{self.path}: one block does not fit in a map that grew {_GROWTHS_MAX} times")


@dataclass(frozen=True, slots=True)
class TableSize:
    """What a table holds."""

    rows: int
    bytes: int
    """Of its pages."""


@dataclass(slots=True)
class _Attempt:
    transaction: lmdb.Transaction[bytes]
    is_committed: bool = False


def _require_whole(path: Path, env: lmdb.Environment, disk: Disk) -> None:
    """No page that is in use lies behind the end of the file: to look at it would end the process (SIGBUS).

    Raises StoreFailed. A file that is shorter than its database says may be whole all the same: pages at the end that
    a commit took and gave back are never written. Then all of it is read once, and the file made as long as it should.
    """
    size = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    file = path / DATA_FILE
    if file.stat().st_size < size:
        if not is_readable(path):
            raise failed(path, lmdb.CorruptedError("the end of data.mdb is missing"))
        with disk.open(file) as data:
            data.truncate(size)
            data.sync()  # before LMDB's next commit, which takes the size for granted


def _take_lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise StoreInUse(
            f"{path} is in use by another process (number {holder}). Stop that node first, or choose another home"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """What LMDB or the system reports within becomes StoreFailed; but a full map is no full disk, and stays."""
    try:
        yield
    except lmdb.MapFullError:
        raise
    except StoreFailed:
        raise
    except DiskFailed as error:
        raise StoreFailed(str(error), error.errno) from error
    except (lmdb.Error, OSError) as error:
        raise failed(path, error) from error


_REPORTED = {
    os.strerror(number): number
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
}
"""By what LMDB's binding says: it gives no error number."""


def failed(path: Path, error: Exception) -> StoreFailed:
    """The StoreFailed for what LMDB or the system reported about the environment in *path*."""
    if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)):
        return StoreFailed(
            f"{path} is damaged, or no chain of this release ({error}). Check the disk, then restore a backup, or "
            f"move the folder away: the node catches up from its peers"
        )
    number = next((number for text, number in _REPORTED.items() if text in str(error)), None)
    return StoreFailed(advice(path, number, str(error)), number)
