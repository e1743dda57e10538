"""A devnet as its users have it: through the command ``allting`` and JSON-RPC, nothing else."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from consensus.address import to_text
from consensus.signing import sign
from devnet import record
from devnet.record import Devnet
from node.home import Home
from node.keys import KeyFile

ALLTING = (sys.executable, "-m", "node.cli.main")
COMMAND_SECONDS = 120
POLL_SECONDS = 0.1

T = TypeVar("T")


class CommandFailed(AssertionError):
    """A command ended with another exit code than 0."""


class RpcRefused(Exception):
    """JSON-RPC answered with an error; `code` is the stable string."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code = error.get("data", {}).get("code", "")
        self.number = error["code"]


def run(*arguments: str, seconds: float = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
    """What ``allting *arguments*`` did, whatever its exit code."""
    return subprocess.run([*ALLTING, *arguments], capture_output=True, text=True, timeout=seconds, check=False)


def succeed(*arguments: str, seconds: float = COMMAND_SECONDS) -> str:
    """The output of ``allting *arguments*``, which must succeed."""
    done = run(*arguments, seconds=seconds)
    if done.returncode:
        raise CommandFailed(f"allting {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def until(condition: Callable[[], T], what: str, *, seconds: float = 60) -> T:
    """The first true answer of *condition*; AssertionError naming *what* after *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(POLL_SECONDS)


def rpc(url: str, method: str, **params: Any) -> Any:
    """The result of one JSON-RPC call, made with nothing but the standard library. Raises RpcRefused, OSError."""
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, call, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=40) as answer:
            reply = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            reply = json.load(error)
    if "error" in reply:
        raise RpcRefused(reply["error"])
    return reply["result"]


def act(url: str, key: KeyFile, *messages: dict[str, Any], fee: int = 0) -> dict[str, Any]:
    """What came of *messages*, prepared by the node, signed here, and waited for: the answer of broadcast_tx_commit."""
    prepared = rpc(url, "prepare_tx", messages=list(messages), signers=[key.public_key.hex()], fee=fee)
    signature = sign(key.unlock(), base64.b64decode(prepared["sign_bytes"]))
    assembled = rpc(url, "assemble_tx", body=prepared["body"], signatures=[signature.hex()])
    answer: dict[str, Any] = rpc(url, "broadcast_tx_commit", tx=assembled["tx"])
    return answer


class Network:
    """One devnet in *directory*."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def up(self, *options: str) -> None:
        """It runs, detached, every node at height 3 or more."""
        succeed("devnet", "up", "--detach", "--dir", str(self.directory), *options)

    def devnet(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> str:
        """The output of ``allting devnet`` for this network."""
        return succeed("devnet", arguments[0], "--dir", str(self.directory), *arguments[1:], seconds=seconds)

    @property
    def record(self) -> Devnet:
        """What devnet.json says now."""
        return record.load(self.directory)

    @property
    def urls(self) -> list[str]:
        """RPC of each node."""
        return [node.rpc for node in self.record.nodes]

    def key(self, name: str) -> KeyFile:
        """The key of test account *name*."""
        return KeyFile.load(self.directory / "keys" / "accounts" / f"{name}.json", kind="account")

    def address(self, name: str) -> str:
        """The address of test account *name*."""
        return to_text(self.key(name).address)

    def validator_key(self, number: int) -> KeyFile:
        """The key with which node *number* votes."""
        return KeyFile.load(Home(Path(self.record.node(number).home)).validator_key, kind="validator")

    def query(self, path: str, *, node: int = 0, **arguments: Any) -> Any:
        """What node *node* answers to a query at its latest height."""
        return rpc(self.urls[node], "query", path=path, args=arguments)["answer"]

    def height(self, node: int = 0) -> int:
        """The latest height of *node*."""
        return int(rpc(self.urls[node], "status")["sync_info"]["latest_block_height"])

    def until_height(self, height: int, *, nodes: list[int] | None = None, seconds: float = 60) -> None:
        """The *nodes* (all, if None) have decided *height*."""
        for node in range(len(self.urls)) if nodes is None else nodes:
            until(lambda node=node: _reached(self.urls[node], height), f"node {node} at {height}", seconds=seconds)  # type: ignore[misc]

    def app_hashes(self, height: int) -> set[str]:
        """The application hashes that the running nodes have for *height*."""
        running = [node.rpc for node in self.record.nodes if node.running()]
        return {rpc(url, "header", height=height)["header"]["app_hash"] for url in running}

    def blocks(self, *, node: int = 0) -> list[dict[str, Any]]:
        """Every block of *node*, from height 1 on."""
        return [rpc(self.urls[node], "block", height=height)["block"] for height in range(1, self.height(node) + 1)]

    def log_lines(self, level: str) -> list[dict[str, Any]]:
        """Log lines of *level* of all nodes. A line that is no JSON (a traceback) counts as an error."""
        found: list[dict[str, Any]] = []
        for node in self.record.nodes:
            for line in node.log.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = {"level": "error", "event": "no JSON", "line": line}
                if entry.get("level") == level:
                    found.append({"node": node.name, **entry})
        return found

    def pids(self) -> list[int]:
        """Every living process of the network."""
        net = self.record
        processes = [node.process for node in net.nodes] + [net.links.process if net.links else None]
        return [pid for process in processes if process is not None for pid in process.session()]

    def end(self) -> None:
        """Whatever a story left behind is gone."""
        if (self.directory / record.FILE).exists():
            self.devnet("down")


def _reached(url: str, height: int) -> bool:
    try:
        return int(rpc(url, "status")["sync_info"]["latest_block_height"]) >= height
    except OSError:
        return False
