"""A database file without its free pages, in place of the one that had them. Only while no node runs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from node.disk import DISK, Disk
from node.store import Store
from node.store_environment import DATA_FILE, StoreFailed

BESIDE = "compacting"
WATCH_S = 0.5


def compact(
    folder: Path, tell: Callable[[int, int], None] = lambda done, total: None, *, disk: Disk = DISK
) -> tuple[int, int]:
    """The store in *folder* holds the same rows in a file without free pages; returns its bytes before and after.

    A crash leaves the old file or the new one, whole. *tell* hears of bytes written, and how many at most there will
    be. Raises StoreInUse while a node runs, StoreFailed.
    """
    beside = folder / BESIDE
    store = Store.open(folder, disk=disk)
    try:
        shutil.rmtree(beside, ignore_errors=True)  # what a crash left of an earlier attempt
        used = sum(size.bytes for size in store.table_sizes().values())
        free = shutil.disk_usage(folder).free
        if free < used:
            raise StoreFailed(f"{folder}: {used} bytes are needed beside the old file, {free} are free")
        before = (folder / DATA_FILE).stat().st_size
        beside.mkdir(mode=0o700)
        with _watched(beside / DATA_FILE, used, tell):
            store.copy_compact(beside)
        _check(store, beside, disk)
        disk.replace(beside / DATA_FILE, folder / DATA_FILE)
        disk.sync_folder(folder)
        return before, (folder / DATA_FILE).stat().st_size
    finally:
        store.close()
        shutil.rmtree(beside, ignore_errors=True)


def _check(store: Store, beside: Path, disk: Disk) -> None:
    """The copy opens, and holds as many rows of each table, and the same chain. Raises StoreFailed."""
    copy = Store.open(beside, disk=disk)
    try:
        rows, copied = ({name: size.rows for name, size in each.table_sizes().items()} for each in (store, copy))
        if rows != copied or copy.chain_state() != store.chain_state():
            raise StoreFailed(f"{beside}: the copy is not what it was made of; the old file stays. Check the disk")
    finally:
        copy.close()


class _watched:  # noqa: N801  # used as a statement
    """While inside, *tell* hears how large the file at *path* is."""

    def __init__(self, path: Path, total: int, tell: Callable[[int, int], None]) -> None:
        self._path = path
        self._total = total
        self._tell = tell
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(WATCH_S):
            if self._path.exists():
                self._tell(min(self._path.stat().st_size, self._total), self._total)
