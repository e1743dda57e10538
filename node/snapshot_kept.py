"""Verified pieces of a snapshot, until it is complete: a newcomer that is stopped on the way asks only for the rest.

They lie in a folder of their own, which nobody needs to believe: each is verified again before it is used. A piece
serves any later snapshot as well, if that part of the state has not changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import lmdb

from node.disk import Disk
from node.store_environment import MAP_BYTES, Environment
from node.sync_messages import SyncMessage, from_wire, to_wire

_PIECES = "pieces"


class KeptPieces:
    """Answers of peers that were found to be true, on the disk."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    @classmethod
    def open(cls, folder: Path, disk: Disk) -> KeptPieces:
        """Those in *folder*, which is created if absent. Raises StoreInUse, StoreFailed."""
        return cls(Environment.open(folder, (_PIECES,), map_bytes=MAP_BYTES, disk=disk))

    def get(self, hash_: bytes) -> SyncMessage | None:
        """What was put under *hash_*, if the disk did not change it. Raises BadMessage for what is no message."""
        data = self._environment.get(_PIECES, hash_)
        return None if data is None else from_wire(data)

    def put(self, answers: Mapping[bytes, SyncMessage]) -> None:
        """*answers*, each by the hash that it was verified by, are on the disk. Nothing runs yet that can't wait."""

        def writes(transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
            for hash_, answer in answers.items():
                transaction.put(hash_, to_wire(answer), db=self._environment.table(_PIECES))
            yield

        self._environment.write_inline(writes)

    def close(self) -> None:
        """What is kept stays for the next start."""
        self._environment.close()


def discard_pieces(folder: Path) -> None:
    """Nothing is kept in *folder* any more; what can't be deleted now goes at the next start."""
    shutil.rmtree(folder, ignore_errors=True)
