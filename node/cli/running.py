"""Runs what needs the event loop, and turns what stopped it into one sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import structlog
import trio

from consensus.application import EngineFault
from node import log as node_log
from node.cli.screen import Failed, Screen, SystemRefused
from node.consensus_log import UnreadableRecord
from node.disk import DISK, DiskFailed
from node.files import PUBLIC_MODE
from node.invite import Terms
from node.joining import NobodyAnswered, fetch_genesis
from node.joining import fetch_state as fetch_genesis_state
from node.node import run_node
from node.rpc.connections import PortInUse
from node.signer import SignerStateDamaged, SignerStateMissing
from node.stopped import NodeStopped
from node.store import StoreFailed, StoreInUse
from node.wal import WalDamaged

log = structlog.get_logger("node")

SENTENCES: dict[type[BaseException], str] = {
    NodeStopped: "node.stopped",
    EngineFault: "node.fault",
    StoreInUse: "node.in_use",
    StoreFailed: "node.store",
    DiskFailed: "node.disk",
    PortInUse: "node.port_in_use",
    WalDamaged: "node.log_damaged",
    UnreadableRecord: "node.log_damaged",
    SignerStateMissing: "node.signer_state",
    SignerStateDamaged: "node.signer_state",
    NobodyAnswered: "join.nobody_answered",
}
"""What may end a node, with a text for its operator; the code is what --json gives."""


def run(home: Path) -> None:
    """The node of *home* has run until it was told to stop. Raises Failed with the reason if it stopped by itself."""
    until_stopped(run_node, home)


def until_stopped(serve: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """*serve* has run with *arguments* until it was told to stop. Raises Failed with the reason if it stopped."""
    try:
        trio.run(serve, *arguments)
    except (Exception, EngineFault, BaseExceptionGroup) as error:
        said = _said(error)
        log.error("node_stopped", why=str(said) or type(said).__name__)
        raise said from error


def fetch(terms: Terms) -> bytes:
    """The genesis file that an invite's *terms* name, from the peers that they name. Raises Failed."""
    ask = partial(fetch_genesis, chain_id=terms.chain_id, genesis_hash=terms.genesis_hash, peers=terms.peers)
    node_log.configure(level="error")  # reconnecting while we ask is nobody's concern
    try:
        return trio.run(ask)
    except Exception as error:
        raise _said(error) from error


def fetch_state(terms: Terms, chunks: Sequence[bytes], path: Path, screen: Screen) -> None:
    """*path* holds the state that the genesis goes on from, from the peers that *terms* name. Raises Failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    node_log.configure(level="error")
    try:
        with DISK.create(beside, mode=PUBLIC_MODE) as file:
            at = 0

            def write(chunk: bytes) -> None:
                nonlocal at
                data = len(chunk).to_bytes(4, "big") + chunk
                file.write(data, at)
                at += len(data)

            trio.run(
                partial(
                    fetch_genesis_state,
                    chunks,
                    write,
                    chain_id=terms.chain_id,
                    genesis_hash=terms.genesis_hash,
                    peers=terms.peers,
                    tell=screen.steps("fetching the state, chunks"),
                )
            )
            file.sync()
        DISK.replace(beside, path)
        DISK.sync_folder(path.parent)
    except Exception as error:
        beside.unlink(missing_ok=True)
        raise _said(error) from error


def _said(error: BaseException) -> BaseException:
    """*error* as a Failed or SystemRefused if its family has a text for people, else its first cause as it is."""
    first = _cause(error)
    for family, code in SENTENCES.items():
        if isinstance(first, family):
            return Failed(str(first), code=code)
    if isinstance(first, OSError) and first.errno is not None:
        return SystemRefused(first)
    return first


def _cause(error: BaseException) -> BaseException:
    """The first thing that went wrong; in a group the consequences of the stop stand behind it."""
    first = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
