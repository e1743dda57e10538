"""The state that a new chain goes on from: a file beside the genesis, which names the hash of each of its chunks.

A chunk is its length (4 bytes, big-endian) and the canonical array (module, key, value, key, value, …): entries of one
module in key order, closed at a mebibyte; modules in order of their names. So the same state is the same bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from consensus.application import Application, Genesis, State
from consensus.codec import BadMessage, decode, encode
from consensus.signing import sha256
from consensus.validators import Update
from node.disk import DISK
from node.files import PUBLIC_MODE
from node.genesis import STATE_CHUNKS_MAX, BadGenesis, FormerState, GenesisFile

CHUNK_BYTES = 2**20
CHUNK_BYTES_MAX = 18 * 2**20
"""A chunk that is a mebibyte but for one byte, and one value of the largest size."""
ENGINE = "chain"
"""The engine's own leaf: sets, parameters and hours of a chain belong to that chain alone."""


def write_state(state: State, modules: Iterable[str], path: Path) -> tuple[bytes, ...]:
    """*path* holds all entries of *modules* in *state*, durably; returns the hash of each chunk. Raises BadGenesis."""
    hashes: list[bytes] = []
    beside = path.with_name(path.name + ".new")
    with DISK.create(beside, mode=PUBLIC_MODE) as file:
        at = 0
        for chunk in _chunks(state, sorted(modules)):
            data = len(chunk).to_bytes(4, "big") + chunk
            file.write(data, at)
            at += len(data)
            hashes.append(sha256(chunk))
            if len(hashes) > STATE_CHUNKS_MAX:
                raise BadGenesis(f"the state is larger than {STATE_CHUNKS_MAX} MiB: no genesis can carry it")
        file.sync()
    DISK.replace(beside, path)
    DISK.sync_folder(path.parent)
    return tuple(hashes)


def _chunks(state: State, modules: Iterable[str]) -> Iterator[bytes]:
    for module in modules:
        gathered: list[str | bytes] = [module]
        size = 0
        for key, value in state.scan(module, b"", None):
            gathered += (key, value)
            size += len(key) + len(value)
            if size >= CHUNK_BYTES:
                yield encode(tuple(gathered))
                gathered, size = [module], 0
        if len(gathered) > 1:
            yield encode(tuple(gathered))


class LoadedState:
    """A state in memory, as an application reads it."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[bytes, bytes]] = {}
        self._keys: dict[str, list[bytes]] = {}

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules with entries, by name."""
        return tuple(sorted(self._rows))

    def add(self, module: str, key: bytes, value: bytes) -> None:
        """An entry after all of its module so far. Raises BadMessage where it is not."""
        keys = self._keys.setdefault(module, [])
        if keys and keys[-1] >= key:
            raise BadMessage(f"entries of {module} are out of order")
        keys.append(key)
        self._rows.setdefault(module, {})[key] = value

    def get(self, module: str, key: bytes) -> bytes | None:
        """The value of *key* in *module*, None if absent."""
        return self._rows.get(module, {}).get(key)

    def scan(
        self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys in [start, stop) with their values, ascending (descending if *reverse*)."""
        keys, rows = self._keys.get(module, []), self._rows.get(module, {})
        found = keys[bisect_left(keys, start) : len(keys) if stop is None else bisect_left(keys, stop)]
        return iter([(key, rows[key]) for key in (reversed(found) if reverse else found)])


def read_state(path: Path, former: FormerState) -> LoadedState:
    """The state in *path*, every chunk of which is one that *former* names. Raises BadGenesis."""
    state = LoadedState()
    try:
        with path.open("rb") as file:
            for number, hash_ in enumerate(former.chunks):
                _load(state, _read_chunk(file, path, number, hash_))
            if file.read(1):
                raise BadGenesis(f"{path}: more follows than the genesis names; take the file that belongs to it")
    except FileNotFoundError:
        raise BadGenesis(f"{path} is missing: the genesis goes on from that state; put it beside the genesis") from None
    except BadMessage as error:
        raise BadGenesis(f"{path}: {error}; whoever made this genesis made it wrong") from error
    return state


def chunk_of(path: Path, number: int) -> bytes | None:
    """Chunk *number* (from 0) of the file in *path*, None where there is none."""
    try:
        with path.open("rb") as file:
            for _ in range(number):
                size = file.read(4)
                file.seek(int.from_bytes(size, "big"), 1)
            size = file.read(4)
            chunk = file.read(min(int.from_bytes(size, "big"), CHUNK_BYTES_MAX))
    except FileNotFoundError:
        return None
    return chunk or None


def _read_chunk(file: BinaryIO, path: Path, number: int, hash_: bytes) -> bytes:
    size = int.from_bytes(file.read(4), "big")
    chunk = file.read(size) if size <= CHUNK_BYTES_MAX else b""
    if sha256(chunk) != hash_:
        raise BadGenesis(f"{path}: chunk {number} is not the one that the genesis names; take the file again")
    return chunk


def _load(state: LoadedState, chunk: bytes) -> None:
    items = decode(chunk, bytes_max=CHUNK_BYTES_MAX)
    if not isinstance(items, tuple) or len(items) < 3 or len(items) % 2 == 0:
        raise BadMessage("a chunk is a module and its entries")
    module, rows = items[0], items[1:]
    if not isinstance(module, str) or module == ENGINE:
        raise BadMessage("a chunk names a module of the application")
    for key, value in zip(rows[::2], rows[1::2], strict=True):
        if not isinstance(key, bytes) or not isinstance(value, bytes):
            raise BadMessage("keys and values are bytes")
        state.add(module, key, value)


# What a genesis begins with -------------------------------------------------------------------------------------------


def first_state(genesis: GenesisFile, app: Application, path: Path) -> Genesis:
    """What the chain of *genesis* begins with; *path* holds the state that it goes on from, if it names one.

    Raises ValueError (BadGenesis where it is about the files) saying what is wrong.
    """
    if genesis.state is None:
        return app.genesis(genesis.town, chain_id=genesis.chain_id, time_ms=genesis.time_ms, params=genesis.params)
    former = read_state(path, genesis.state)
    foreign = sorted(set(former.modules) - set(app.module_names))
    if foreign:
        raise BadGenesis(f"{path}: has entries of modules that this town does not have: {', '.join(foreign)}")
    first = app.resume(
        former, genesis.founders, chain_id=genesis.chain_id, time_ms=genesis.time_ms, params=genesis.params
    )
    if sorted(first.validators, key=_by_key) != sorted(founders_of(genesis), key=_by_key):
        raise ValueError("validators: the application would begin with others than the genesis names")
    return first


def first_validators(genesis: GenesisFile, app: Application) -> tuple[Update, ...]:
    """The first set of *genesis*'s chain; needs no state file. Raises ValueError."""
    if genesis.state is not None:
        return founders_of(genesis)
    first = app.genesis(genesis.town, chain_id=genesis.chain_id, time_ms=genesis.time_ms, params=genesis.params)
    return first.validators


def founders_of(genesis: GenesisFile) -> tuple[Update, ...]:
    """The founders as the engine's validators."""
    return tuple(Update(founder.public_key, founder.power) for founder in genesis.founders)


def _by_key(update: Update) -> bytes:
    return update.public_key
