"""Files whose bytes and names must outlive a power cut: whole writes, and folders that remember their entries."""

from __future__ import annotations

import os
from pathlib import Path


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """All of *data* is handed to the operating system, at the file's position. Raises OSError."""
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.write(descriptor, view[written:])


def write_all_at(descriptor: int, data: bytes, at: int) -> None:
    """All of *data* is handed to the operating system, at byte *at*. Raises OSError."""
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.pwrite(descriptor, view[written:], at + written)


def sync_folder(path: Path) -> None:
    """The names in folder *path* are on the disk (fsync): files created or renamed there stay. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
