"""The state of one height as the genesis of a new chain: what the survivors of a lost quorum go on with.

Two nodes that export the same height with the same answers write the same bytes, so that comparing one hash is the
agreement. The new chain has an id of its own, which every signature covers, and begins at height 1: whatever was signed
for the former chain means nothing there. Block time goes on: what is due or open keeps its time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consensus.application import Application, Founder
from consensus.jellyfish import application_hash
from consensus.signing import sha256
from consensus.transaction import CHAIN_ID_LENGTH_MAX
from node.files import write_atomically
from node.genesis import FormerState, GenesisFile, resumed_toml
from node.genesis_state import ENGINE, first_state, write_state
from node.home import Home
from node.store import Store, StoreFailed

_NUMBERED = re.compile(r"(.*-)([1-9][0-9]{0,8})")


class CannotExport(Exception):
    """This height can't be exported here; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    folder: Path
    chain_id: str
    genesis_hash: bytes
    """What the others must have, too."""
    height: int
    app_hash: bytes
    time_ms: int


def next_chain_id(chain_id: str) -> str:
    """The id of the chain that goes on from *chain_id*: ``ting-town-2`` after ``ting-town-1``, else with ``-2``."""
    numbered = _NUMBERED.fullmatch(chain_id)
    following = f"{numbered[1]}{int(numbered[2]) + 1}" if numbered else f"{chain_id}-2"
    if len(following) > CHAIN_ID_LENGTH_MAX:
        raise CannotExport(f"{following} is too long a chain id; give one with --chain-id")
    return following


def export(
    store: Store,
    genesis: GenesisFile,
    app: Application,
    founders: Sequence[Founder],
    folder: Path,
    *,
    height: int,
    chain_id: str,
    time_ms: int | None = None,
) -> Exported:
    """*folder* holds genesis and state of the chain *chain_id*, which goes on from *height* with *founders*.

    Every value was checked against the header of that height, and the new genesis by the application, whose invariants
    hold. *time_ms* is the new chain's time (None: that of *height*'s block). Raises CannotExport, StateGone,
    StoreFailed, and ValueError for a genesis that could begin no chain.
    """
    if not 1 <= height <= store.height:
        raise CannotExport(f"height {height} is not decided here; this node has heights 1 to {store.height}")
    if chain_id == genesis.chain_id:
        raise CannotExport("the new chain needs an id of its own: old signatures must mean nothing there")
    header = store.header(height)
    state = store.state(height)
    begins_ms = header.time_ms if time_ms is None else time_ms
    if begins_ms < header.time_ms:
        raise CannotExport(f"the new chain can't begin before block {height}, whose time is {header.time_ms} ms")
    store.check_state(height)
    roots = store.module_roots(height)
    if application_hash(roots) != header.app_hash:
        raise StoreFailed(f"the state of height {height} is not the one that its header commits to; check the disk")
    folder.mkdir(parents=True, exist_ok=True)
    place = Home(folder)
    modules = [root.module for root in roots if root.module != ENGINE]
    former = FormerState(
        chain_id=genesis.chain_id,
        height=height,
        app_hash=header.app_hash,
        chunks=write_state(state, modules, place.genesis_state),
    )
    raw = resumed_toml(
        genesis, former, founders, chain_id=chain_id, time_ms=begins_ms, params=store.params_at(height + 1)
    )
    first_state(GenesisFile.parse(raw), app, place.genesis_state)
    write_atomically(place.genesis, raw)
    return Exported(folder, chain_id, sha256(raw), height, header.app_hash, begins_ms)
