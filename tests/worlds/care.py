"""What operators do to a home, and what an opening mends there, on any disk; and a home that has need of it all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import lmdb
import trio

from consensus.signing import public_key
from consensus.transaction import Message, Transaction
from devnet.grow import Grower
from node.backup import restore, write_backup
from node.config import Config
from node.disk import Disk
from node.engine import write_genesis
from node.files import write_atomically
from node.genesis import GenesisFile
from node.home import Home
from node.keys import KeyFile
from node.node import open_belongings
from node.signer import Signer
from node.signer_state import unlock, unlock_at_risk
from node.store import Store
from node.store_compact import compact
from node.store_environment import DATA_FILE, Environment
from node.wal import Wal
from tests.node.register_town import RegisterTown, signed
from tests.node.small_net import CHAIN_ID, START_MS, SmallNet, seed

HEIGHTS = 4
VALIDATOR = seed("validator", 0)
LOGGED = [b"one", b"other"]
TABLE = "rows"
ROWS_MAX = 200


def needy_home(folder: Path) -> Home:
    """In *folder*: heights, free pages, a backup, a key that is locked, a torn log, a table whose file is short."""
    home = Home(folder)
    folder.mkdir(parents=True, exist_ok=True)
    net = SmallNet(folder)
    home.genesis.write_bytes(net.genesis.raw)
    Config.defaults().write(home.config)
    write_atomically(home.node_key, b"a key")
    with opened(home) as store:
        app = RegisterTown()
        write_genesis(store, net.genesis, app)
        grower = Grower(store, app, [seed("validator", number) for number in range(4)])
        for number in range(HEIGHTS):
            message = Message("register", "set", (number % 2, number))
            raw = signed(CHAIN_ID, seed("account", 0), number, message, valid_until_ms=START_MS + 3_600_000)
            trio.run(grower.block, [Transaction.decode(raw)])
        trio.run(store.prune, HEIGHTS)
        trio.run(write_backup, store, home, kept_backup(home))
    begun(home).path.mkdir()
    begun(home).genesis.write_bytes(net.genesis.raw)
    KeyFile.create("node", seed=seed("node", 0)).write(begun(home).node_key)
    KeyFile.create("validator", seed=VALIDATOR).write(begun(home).validator_key)
    signer = Signer.create(VALIDATOR, home.last_sign, CHAIN_ID)
    signer.lock("it was seen elsewhere")
    signer.close()
    wal = Wal.open(home.wal)
    for payload in LOGGED:
        wal.append(payload)
    wal.close()
    with home.wal.open("ab") as file:
        file.write(b"\xa1\x7eWR torn")
    _short_table(table_folder(home))
    return home


@contextmanager
def opened(home: Home) -> Iterator[Store]:
    """Its chain."""
    store = Store.open(home.chain, inline=True)
    try:
        yield store
    finally:
        store.close()


def kept_backup(home: Home) -> Path:
    """Where the backup lies that there is."""
    return home.path / "kept.tar"


def new_backup(home: Home) -> Path:
    """Where `backs_up` makes one."""
    return home.path / "new.tar"


def restored(home: Home) -> Home:
    """What `restores` makes."""
    return Home(home.path / "again")


def begun(home: Home) -> Home:
    """What `begins` lets begin."""
    return Home(home.path / "begun")


def table_folder(home: Home) -> Path:
    """Of the table whose file is short."""
    return home.data / "table"


def compacts(home: Home, disk: Disk) -> None:
    """`allting compact`."""
    compact(home.chain, disk=disk)


def backs_up(home: Home, disk: Disk) -> None:
    """`allting backup`."""
    with opened(home) as store:
        trio.run(partial(write_backup, store, home, new_backup(home), disk=disk))


def restores(home: Home, disk: Disk) -> None:
    """`allting restore`."""
    restore(kept_backup(home), restored(home), disk=disk)


def unlocks(home: Home, disk: Disk) -> None:
    """`allting keys unlock`."""
    unlock(home.last_sign, public_key(VALIDATOR), CHAIN_ID, since_ms=START_MS, disk=disk)


def unlocks_at_risk(home: Home, disk: Disk) -> None:
    """`allting keys unlock`, with the risk taken."""
    unlock_at_risk(home.last_sign, public_key(VALIDATOR), CHAIN_ID, height=HEIGHTS + 1, disk=disk)


def begins(home: Home, disk: Disk) -> None:
    """A validator's first start, up to where it would speak."""
    fresh = begun(home)
    with open_belongings(fresh, Config.defaults(), GenesisFile.load(fresh.genesis), RegisterTown(), disk=disk):
        pass


def opens_log(home: Home, disk: Disk) -> None:
    """The torn end is cut."""
    Wal.open(home.wal, disk=disk).close()


def opens_table(home: Home, disk: Disk) -> None:
    """The file is as long as it should be."""
    Environment.open(table_folder(home), (TABLE,), map_bytes=2**24, disk=disk).close()


CARES = (begins, compacts, backs_up, restores, unlocks, unlocks_at_risk, opens_log, opens_table)


def _short_table(folder: Path) -> None:
    """One row; the file lacks pages at its end that are free."""
    environment = Environment.open(folder, (TABLE,), map_bytes=2**24)
    _put(environment, [b"kept"])
    _put(environment, [b"kept", *[bytes(3_000)] * ROWS_MAX])
    for _ in range(6):  # what is in use moves to pages that are free
        _put(environment, [b"kept", *[None] * ROWS_MAX])
    size = environment.used_bytes
    environment.close()
    os.truncate(folder / DATA_FILE, size - 3 * 4_096)


def _put(environment: Environment, values: list[bytes | None]) -> None:
    def writes(transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
        table = environment.table(TABLE)
        for number, value in enumerate(values):
            key = b"%d" % number
            transaction.delete(key, db=table) if value is None else transaction.put(key, value, db=table)
        yield

    environment.write_inline(writes)
