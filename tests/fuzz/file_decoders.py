"""Files that somebody sent: backups, whole and by their rows, and the state that a genesis goes on from."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from consensus.chain import ChainState
from consensus.codec import BadMessage, encode
from consensus.shape import to_bytes
from consensus.signing import sha256
from node.backup import MANIFEST, SUMS, BadBackup, unpack
from node.genesis_state import LoadedState, _load
from node.home import Home
from node.store import Store, StoreFailed
from node.store_check import check_store
from node.store_meta import _OF_A_CHAIN, FORMAT, _sum
from node.store_rows import TABLES, read_chunk
from tests.fuzz.decoder import Decoder
from tests.fuzz.grammar import WIRE, damaged, values_of

MANIFESTS = (
    b'{"format": "allting backup 1", "chain_id": "a", "height": 1}',
    b'{"format": "allting backup 1"}',
    b"[" * 3_000,
    b"\xff",
    b"9" * 5_000,
)
FILES = ("genesis.toml", "config.toml", "trust_root.json", "keys/node.json", "../x", "chain/headers/../x", "chain")


def _state(data: bytes) -> LoadedState:
    state = LoadedState()
    _load(state, data)
    return state


def _state_bytes(state: LoadedState) -> bytes:
    rows: list[Any] = [state.modules[0]]
    for entry in state.scan(state.modules[0], b"", None):
        rows += entry
    return encode(tuple(rows))


def _unpacked(data: bytes) -> Any:
    """What a backup says, once its rows are a store that was checked, as by ``allting restore``."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        file = Path(folder) / "backup.tar"
        file.write_bytes(data)
        home = Home(Path(folder) / "home")
        manifest = unpack(file, home)
        store = Store.open(home.chain, inline=True)
        try:
            check_store(store, sha256(b""))
        finally:
            store.close()
        return manifest


_MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # a folder with a lot's name in it
"""Where a file costs no disk."""


def _tar(members: list[tuple[str, bytes]]) -> bytes:
    """A backup with these members, and sums that hold."""
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in (*members, (SUMS, sums.encode(errors="surrogateescape"))):
            member = tarfile.TarInfo(name)  # surrogates stand for bytes that are no UTF-8
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _backups() -> st.SearchStrategy[bytes]:
    manifests = (st.just(MANIFESTS[0]) | st.just(MANIFESTS[0]) | st.sampled_from(MANIFESTS)).map(
        lambda data: [(MANIFEST, data)]
    )
    nothing: st.SearchStrategy[list[tuple[str, bytes]]] = st.just([])
    files = (
        nothing
        | st.just([("genesis.toml", b"")])
        | st.lists(st.tuples(st.sampled_from(FILES), st.binary(max_size=40)), max_size=3)
    )
    names = st.sampled_from([*TABLES, "nonsense", "ö"]).map(lambda table: f"chain/{table}/000000") | st.just(
        "chain/headers/\udcff"
    )
    chunks = st.lists(st.tuples(names, CHUNKS.flatmap(lambda data: st.just(data) | damaged(data))), max_size=3)
    facts = nothing | st.tuples(CHAINS, st.integers(0, 3), WIRE | REFERENCES).map(_chain)
    return st.tuples(manifests, files, facts, chunks).map(
        lambda parts: _tar([member for part in parts for member in part])
    )


def _chain(parts: tuple[ChainState | bytes, int, Any]) -> list[tuple[str, bytes]]:
    """A chain's own facts, and the roots of its state."""
    chain, height, roots = parts
    if isinstance(chain, bytes):
        return [("chain/meta/000000", _facts(chain, height))]
    row = encode((chain.height.to_bytes(8, "big"), encode(roots)))
    return [("chain/meta/000000", _facts(to_bytes(chain), height)), ("chain/roots/000000", row)]


def _facts(chain: bytes, height: int) -> bytes:
    """Rows of table ``meta`` whose sums hold."""
    facts = {key: height.to_bytes(8, "big") for key in _OF_A_CHAIN} | {b"chain_state": chain, b"genesis": b""}
    rows = {key: _sum(key, value) + value for key, value in facts.items()} | {b"format": FORMAT}
    return encode(tuple(part for row in sorted(rows.items()) for part in row))


CHAINS = st.binary(max_size=20) | values_of(ChainState).map(
    lambda chain: dataclasses.replace(chain, genesis_hash=sha256(b""))
)
REFERENCES = st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=12) | st.just(bytes(72))), max_size=2).map(
    tuple
)
ROWS = st.lists(st.binary(min_size=1, max_size=20), max_size=6, unique=True).map(sorted)
CHUNKS = ROWS.map(lambda rows: encode(tuple(part for row in rows for part in (row, row))))
STATES = st.tuples(st.text(max_size=8), ROWS).map(
    lambda parts: encode((parts[0], *(part for row in parts[1] for part in (row, row))))
)

FILE_DECODERS = (
    Decoder("state of a genesis", _state, (BadMessage,), STATES | WIRE.map(encode), _state_bytes),
    Decoder("rows of a backup", read_chunk, (BadMessage,), CHUNKS),
    Decoder("backup", _unpacked, (BadBackup, StoreFailed), _backups()),
)
