"""``DIR/devnet.json``: which nodes, where, with which pids. Each command reads it, and changes it under a lock."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devnet.processes import Process

FILE = "devnet.json"
NOBODY: Mapping[str, int | None] = {"pid": None, "born": None}


class NoDevnet(Exception):
    """The folder holds no devnet; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of the devnet. ``pid`` is None while it does not run."""

    name: str
    home: str
    rpc: str
    """URL."""
    p2p: str
    """host:port on which the node itself listens."""
    node_id: str
    """64 hex digits."""
    process: Process | None = None
    paused: bool = False

    @property
    def number(self) -> int:
        """The N of ``kill N``."""
        return int(self.name.removeprefix("node"))

    @property
    def log(self) -> Path:
        """Its log: JSON lines, appended to over restarts."""
        return Path(self.home) / "log.jsonl"

    def running(self) -> bool:
        """Whether its process lives (paused or not)."""
        return self.process is not None and self.process.alive()


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The process through which all links run on a devnet with faults."""

    control: int
    """Port of loopback on which it takes orders."""
    ports: dict[str, int]
    """``"0>1"`` → the port at which node 0 finds node 1."""
    process: Process | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Devnet:
    """What the file says."""

    directory: Path
    chain_id: str
    preset: str
    nodes: tuple[Node, ...]
    keys: tuple[str, ...]
    """Names of the funded test keys in ``DIR/keys/accounts``; all but ``stranger`` are persons."""
    load_accounts: int
    """How many accounts `devnet.accounts` derives and the genesis funds."""
    links: Links | None = None
    watcher: Process | None = None
    """The ``up`` in whose terminal the devnet runs, until it is taken down; None if it runs in the background."""

    def node(self, number: int) -> Node:
        """Node *number*; raises NoDevnet if there is none."""
        for node in self.nodes:
            if node.number == number:
                return node
        raise NoDevnet(f"there is no node {number}; this devnet has {', '.join(str(n.number) for n in self.nodes)}")

    def with_node(self, node: Node) -> Devnet:
        """The same with *node* in place of the one of its name."""
        return dataclasses.replace(self, nodes=tuple(node if n.name == node.name else n for n in self.nodes))


def load(directory: Path) -> Devnet:
    """The devnet of *directory*. Raises NoDevnet."""
    try:
        text = (directory / FILE).read_text()
    except FileNotFoundError:
        raise NoDevnet(f"no devnet in {directory}; start one: allting devnet up --dir {directory}") from None
    fields = json.loads(text)
    links = fields["links"]
    return Devnet(
        directory=directory,
        chain_id=fields["chain_id"],
        preset=fields["preset"],
        nodes=tuple(_node(node) for node in fields["nodes"]),
        keys=tuple(fields["keys"]),
        load_accounts=fields["load_accounts"],
        links=links and Links(control=links["control"], ports=links["ports"], process=_process(links)),
        watcher=_process(fields.get("watcher", NOBODY)),  # records made before there were watchers have none
    )


@contextmanager
def changing(directory: Path, *, new: bool = False) -> Iterator[None]:
    """No other command changes this devnet meanwhile. Raises NoDevnet if there is none, unless it may be *new*."""
    if new:
        directory.mkdir(parents=True, exist_ok=True)
    else:
        load(directory)  # a folder without a devnet gets no lock either
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def save(devnet: Devnet) -> None:
    """The file says what *devnet* says; a reader sees the old text or the new one."""
    links = devnet.links
    fields = {
        "chain_id": devnet.chain_id,
        "preset": devnet.preset,
        "nodes": [_node_fields(node) for node in devnet.nodes],
        "keys": list(devnet.keys),
        "load_accounts": devnet.load_accounts,
        "links": links and {"control": links.control, "ports": links.ports, **_process_fields(links.process)},
        "watcher": _process_fields(devnet.watcher),
    }
    path = devnet.directory / FILE
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(fields, indent=1) + "\n")
    os.replace(fresh, path)


def _node(fields: dict[str, Any]) -> Node:
    names = ("name", "home", "rpc", "p2p", "node_id", "paused")
    return Node(**{name: fields[name] for name in names}, process=_process(fields))


def _node_fields(node: Node) -> dict[str, Any]:
    names = ("name", "home", "rpc", "p2p", "node_id", "paused")
    return {**{name: getattr(node, name) for name in names}, **_process_fields(node.process)}


def _process(fields: Mapping[str, Any]) -> Process | None:
    return None if fields["pid"] is None else Process(fields["pid"], fields["born"])


def _process_fields(process: Process | None) -> dict[str, int | None]:
    return dict(NOBODY) if process is None else {"pid": process.pid, "born": process.born}
