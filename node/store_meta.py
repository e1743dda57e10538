"""Table ``meta``: what a store says of itself, a row for each fact, with a checksum: no hash of the chain covers them.

Headers and state trees vouch for the set and the parameters in the chain's state, but not for the priorities of its
last set, nor for what is still kept.
"""

from __future__ import annotations

import lmdb

from consensus.signing import sha256
from node.retention import BLOCKS, EVENTS, INDEX, RESULTS
from node.store_environment import Environment, StoreFailed, failed

META = "meta"
FORMAT = b"allting store 4"
FORGETTABLE = (INDEX, EVENTS, RESULTS, BLOCKS)
"""The parts of a height, in the order in which it loses them."""
IMPORTING = b"importing"
"""The only row while an import is under way."""
IMPORTED = b"imported"
"""The height of the state that this store began with."""
_FORMAT, CHAIN_STATE, GENESIS, OLDEST_STATE = b"format", b"chain_state", b"genesis", b"oldest_state"
_SUM_BYTES = 8


def oldest_key(part: str) -> bytes:
    """The row with the lowest height of *part* that has not been deleted."""
    return f"oldest_{part}".encode("ascii")


_OF_A_CHAIN = {_FORMAT, CHAIN_STATE, GENESIS, OLDEST_STATE, IMPORTED, *map(oldest_key, FORGETTABLE)}


def put_beginning(transaction: lmdb.Transaction[bytes], environment: Environment, genesis: bytes, height: int) -> None:
    """The store is one of this release, of the chain of *genesis*, and has the state of *height* and what follows."""
    transaction.put(_FORMAT, FORMAT, db=environment.table(META))
    put_meta(transaction, environment, GENESIS, genesis)
    for key in (OLDEST_STATE, IMPORTED):
        put_meta(transaction, environment, key, height.to_bytes(8, "big"))
    for part in FORGETTABLE:
        put_meta(transaction, environment, oldest_key(part), (height + 1).to_bytes(8, "big"))


def put_meta(transaction: lmdb.Transaction[bytes], environment: Environment, key: bytes, value: bytes) -> None:
    """The fact *key* is *value*."""
    transaction.put(key, _sum(key, value) + value, db=environment.table(META))


def read_meta(environment: Environment, key: bytes) -> bytes | None:
    """The fact *key*, None if it is not written. Raises StoreFailed if it is not what was written."""
    row = environment.get(META, key)
    return None if row is None else _checked(environment, key, row)


def check_meta(environment: Environment) -> None:
    """All facts of a chain are there, or that an import is under way, or the store is empty; and each is what was
    written. Raises StoreFailed, also for a store of another release.
    """
    rows = dict(environment.all_rows(META))
    if not any(size.rows for size in environment.table_sizes().values()):
        return
    said = rows.get(_FORMAT, FORMAT)
    if said != FORMAT:
        raise StoreFailed(
            f"{environment.path} was written by another release of allting, or is damaged: it says {said!r:.40}, and "
            f"not {FORMAT!r}. Use that release, restore a backup, or move the folder away: the node then syncs from "
            "its peers"
        )
    for key, row in rows.items():
        if key != _FORMAT:
            _checked(environment, key, row)
    if rows.keys() not in ({IMPORTING}, _OF_A_CHAIN):
        raise failed(environment.path, lmdb.CorruptedError("rows of table meta are missing"))


def _checked(environment: Environment, key: bytes, row: bytes) -> bytes:
    value = row[_SUM_BYTES:]
    if row[:_SUM_BYTES] != _sum(key, value):
        raise failed(environment.path, lmdb.CorruptedError(f"the disk changed {key!r:.40} in table meta"))
    return value


def _sum(key: bytes, value: bytes) -> bytes:
    return sha256(key + value)[:_SUM_BYTES]
