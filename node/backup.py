"""A backup: one tar file with the chain as it was at one height, and what a home needs, but no key that votes.

Members, in this order: ``manifest.json``; ``genesis.toml``, ``config.toml``, ``trust_root.json`` and ``keys/node.json``
as far as the home has them; ``chain/TABLE/NUMBER``, rows of the store; ``SHA256SUMS``, which says that the file is
whole. The consensus key and what it signed last stay where they are: two machines with one key sign twice (DESIGN §4).
Account keys have words of their own (``allting keys``).
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import secrets
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trio

from consensus.codec import BadMessage
from consensus.signing import sha256
from node.disk import DISK, Disk, File
from node.files import PRIVATE_MODE, write_atomically
from node.home import Home
from node.store import Store
from node.store_check import check_store
from node.store_environment import StoreFailed
from node.store_rows import CHUNK_BYTES_MAX, TABLES, Chunk, write_rows

FORMAT = "allting backup 1"
MANIFEST, SUMS, CHAIN = "manifest.json", "SHA256SUMS", "chain"
MEMBERS_MAX = 1_000_000
"""Of a backup that is read: a terabyte of chunks."""
SUMS_BYTES_MAX = 256 * 2**20
SMALL_BYTES_MAX = 64 * 2**20
WRITE_BYTES = 2**20
"""Are handed to the operating system at once."""
PAUSE_S = 0.002
"""After each millisecond of reading: the chain has two thirds of the node."""

Tell = Callable[[int, int], None]
"""Is told of progress: bytes written, and about how many there will be."""


class BadBackup(Exception):
    """The file is no whole backup; the text says what to do."""


def _home_files(home: Home) -> dict[str, Path]:
    """What a backup holds of a home beside the chain, by name in the backup."""
    return {
        "genesis.toml": home.genesis,
        "config.toml": home.config,
        "trust_root.json": home.trust_root,
        "keys/node.json": home.node_key,
    }


# Writing --------------------------------------------------------------------------------------------------------------


async def write_backup(
    store: Store, home: Home, file: Path, tell: Tell = lambda done, total: None, *, disk: Disk = DISK
) -> dict[str, Any]:
    """*file* holds a backup of *store*'s latest height and of *home*, durably, mode 0600; returns its manifest.

    A crash leaves no *file* or a whole one. The store may go on meanwhile. Raises FileExistsError where *file* stands
    already, OSError.
    """
    async with store.copied() as rows:
        manifest = _manifest(store)
        total = store.used_bytes
        with _Writer(file, mtime_s=manifest["time_ms"] // 1000, disk=disk) as writer:
            writer.add(MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")
            for name, path in _home_files(home).items():
                if path.exists():
                    writer.add(name, path.read_bytes())
            number = 0
            for chunk in rows.chunks():
                if chunk is None:
                    await trio.sleep(PAUSE_S)
                    continue
                await trio.to_thread.run_sync(writer.add, f"{CHAIN}/{chunk.table}/{number:06}", chunk.data)
                number += 1
                tell(writer.written, max(total, writer.written))
            size = await trio.to_thread.run_sync(writer.finish)
    return {**manifest, "bytes": size}


def _manifest(store: Store) -> dict[str, Any]:
    chain = store.chain_state()
    assert chain is not None, "a node has its genesis"
    return {
        "format": FORMAT,
        "chain_id": chain.chain_id,
        "genesis_hash": chain.genesis_hash.hex(),
        "height": chain.height,
        "block_id": chain.block_id.hex(),
        "time_ms": chain.time_ms,
    }


class _Writer:
    """A backup in the making, beside the place that it takes when it is whole."""

    def __init__(self, file: Path, *, mtime_s: int, disk: Disk) -> None:
        if file.exists():
            raise FileExistsError(errno.EEXIST, "a file stands there already; choose another name", str(file))
        self._path = file
        self._mtime_s = mtime_s
        self._beside = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
        self._disk = disk
        self._label = f"{file.name}.new"
        self._file = disk.create(self._beside, mode=PRIVATE_MODE, label=self._label)
        self._tar = tarfile.open(  # noqa: SIM115  # lives as long as the writer
            fileobj=_Growing(self._file), mode="w|", format=tarfile.USTAR_FORMAT, bufsize=WRITE_BYTES
        )
        self._sums: list[str] = []
        self.written = 0
        """Bytes of members so far."""

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._beside.unlink(missing_ok=True)

    def add(self, name: str, data: bytes) -> None:
        """A member *name* with *data*."""
        self._sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
        self._put(name, data)

    def finish(self) -> int:
        """The file is whole, on the disk, and in its place; returns its bytes."""
        self._put(SUMS, "".join(self._sums).encode())
        self._tar.close()
        self._file.sync()
        self._disk.link(self._beside, self._path)  # never over an existing file
        self._disk.unlink(self._beside, label=self._label)
        self._disk.sync_folder(self._path.parent)
        return self._path.stat().st_size

    def _put(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(data), PRIVATE_MODE, self._mtime_s
        self._tar.addfile(member, io.BytesIO(data))
        self.written += len(data)


class _Growing(io.RawIOBase):
    """Each write stands behind the last one in *file*."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._size = 0

    def write(self, data: Any, /) -> int:
        self._file.write(data, self._size)
        self._size += len(data)
        return len(data)


# Reading --------------------------------------------------------------------------------------------------------------


def restore(
    file: Path,
    home: Home,
    tell: Tell = lambda done, total: None,
    tell_checked: Tell = lambda done, total: None,
    *,
    disk: Disk = DISK,
) -> dict[str, Any]:
    """*home* is that of the backup in *file*, every block, signature and value in it checked; returns the manifest.

    The settings come last: a crash leaves a whole home, or one without settings, which is none. *tell_checked* hears
    of heights. Raises BadBackup, StoreFailed, FileExistsError, OSError.
    """
    manifest = unpack(file, home, tell, disk=disk)
    store = Store.open(home.chain, disk=disk)
    try:
        check_store(store, sha256(home.genesis.read_bytes()), tell_checked)
    finally:
        store.close()
    write_atomically(home.config, manifest.pop("config").encode(), disk=disk)
    return manifest


def unpack(file: Path, home: Home, tell: Tell = lambda done, total: None, *, disk: Disk = DISK) -> dict[str, Any]:
    """*home* holds the chain and the files of the backup in *file*, but its settings; returns the manifest.

    The settings are returned in it as ``config``: whoever calls writes them once the chain is checked, for they say
    that the home is complete. Raises BadBackup, StoreFailed, OSError.
    """
    reader = _Reader(file, tell)
    try:
        first, data = reader.next()
        manifest = _read_manifest(file, first, data)
        files = _home_files(home)
        settings = ""
        name, data = reader.next()
        while not name.startswith(f"{CHAIN}/") and name != SUMS:
            path = files.pop(name, None)
            if path is None:
                raise BadBackup(f"{file} holds {name!r:.60}, which no backup of this release has there")
            if path == home.config:
                settings = data.decode()
            else:
                mode = PRIVATE_MODE if name.startswith("keys/") else 0o644
                write_atomically(path, data, mode=mode, replace=False, disk=disk)
            name, data = reader.next()
        write_rows(home.chain, reader.chunks(name, data), disk=disk)
    except (tarfile.TarError, EOFError) as error:
        raise BadBackup(f"{file} is cut short or no backup ({error}); take another copy of it") from error
    except (BadMessage, UnicodeError) as error:
        raise BadBackup(f"{file} is damaged: {error}; take another copy of it") from error
    finally:
        reader.close()
    return {**manifest, "config": settings}


def _read_manifest(file: Path, name: str, data: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(data) if name == MANIFEST else None
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BadBackup(f"{file} is no backup of this release (it has no {MANIFEST} that says “{FORMAT}”)")
    if type(manifest.get("chain_id")) is not str or type(manifest.get("height")) is not int:
        raise BadBackup(f"{file} is damaged: its {MANIFEST} names no chain and height; take another copy of it")
    return manifest


class _Reader:
    """The members of a backup in their order; the sums at the end are compared with what was read."""

    def __init__(self, file: Path, tell: Tell) -> None:
        self._path = file
        self._tell = tell
        self._total = file.stat().st_size
        self._file = file.open("rb")
        try:
            self._tar = tarfile.open(fileobj=self._file, mode="r|")  # noqa: SIM115  # lives as long as the reader
        except tarfile.TarError as error:
            self._file.close()
            raise BadBackup(f"{file} is no backup ({error}); give the file that `allting backup` wrote") from error
        self._sums: list[str] = []

    def close(self) -> None:
        """The file is closed."""
        self._file.close()

    def next(self) -> tuple[str, bytes]:
        """Name and bytes of the next member. Raises BadBackup where the file ends or a member is larger than any is."""
        member = self._tar.next()
        if member is None:
            raise BadBackup(f"{self._path} is cut short: it does not end with {SUMS}; take another copy of it")
        limit = SUMS_BYTES_MAX if member.name == SUMS else max(CHUNK_BYTES_MAX, SMALL_BYTES_MAX)
        body = self._tar.extractfile(member) if member.isreg() and member.size <= limit else None
        if body is None or len(self._sums) > MEMBERS_MAX:
            raise BadBackup(f"{self._path} holds {member.name!r:.60}, which no backup has")
        data = body.read()
        if len(data) != member.size:
            raise BadBackup(f"{self._path} is cut short; take another copy of it")
        if member.name != SUMS:
            self._sums.append(f"{hashlib.sha256(data).hexdigest()}  {member.name}\n")
        elif data != "".join(self._sums).encode():
            raise BadBackup(f"{self._path} is damaged: what it holds is not what {SUMS} says; take another copy of it")
        self._tell(self._file.tell(), self._total)
        return member.name, data

    def chunks(self, name: str, data: bytes) -> Iterator[Chunk]:
        """The chunks of rows from the member *name* on, up to the sums, which hold."""
        while name != SUMS:
            folder, _, rest = name.partition("/")
            table = rest.partition("/")[0]
            if folder != CHAIN or table not in TABLES:
                raise BadBackup(f"{self._path} holds {name!r:.60}, which no backup of this release has")
            yield Chunk(table, data)
            name, data = self.next()


__all__ = ["BadBackup", "StoreFailed", "restore", "unpack", "write_backup"]
