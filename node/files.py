"""Files that are there whole or not at all: written beside, made durable, then put in place."""

from __future__ import annotations

import secrets
from pathlib import Path

from node.disk import DISK, Disk

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def write_atomically(
    path: Path, data: bytes, *, mode: int = PUBLIC_MODE, replace: bool = True, disk: Disk = DISK
) -> None:
    """*path* holds *data*, durably, with permissions *mode*; a crash leaves the old file or the new one.

    Raises FileExistsError if *replace* is False and something stands there (of two writers one wins), DiskFailed.
    """
    if not path.parent.is_dir():
        disk.make_folder(path.parent)
        disk.sync_folder(path.parent.parent)
    label = f"{path.name}.new"
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with disk.create(beside, mode=mode, label=label) as file:
            file.write(data, 0)
            file.sync()
        if replace:
            disk.replace(beside, path)
        else:
            disk.link(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if not replace:
        disk.unlink(beside, label=label)
    disk.sync_folder(path.parent)
