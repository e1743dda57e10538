"""The node's own settings: a TOML file in which an unknown key is an error that names its line.

Nothing here must agree between nodes; what must is in the genesis file and the chain's parameters.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.files import write_atomically
from node.log import FORMATS, LEVELS
from node.retention import Keep, Retention
from node.toml import BadToml, Document, value_toml

CONFIG_BYTES_MAX = 2**20
MONIKER_LENGTH_MAX = 64
MIB = 2**20

Check = Callable[[Any], "str | None"]
"""Says what is wrong with a value of the right type; None: nothing."""


class BadConfig(BadToml):
    """The configuration can't be used; names file, line and key, and says what to do."""


def setting(default: Any, note: str, check: Check | None = None) -> Any:
    """A dataclass field with what the written file says about it."""
    return field(default=default, metadata={"note": note, "check": check})


def between(low: int, high: int) -> Check:
    """A check that a number is in *low* … *high*."""
    return lambda value: None if low <= value <= high else f"{value} is not in {low}…{high}"


def one_of(*choices: str) -> Check:
    """A check that a text is one of *choices*."""
    return lambda value: None if value in choices else f"“{value:.40}” is not one of {', '.join(choices)}"


def split_host_port(text: str) -> tuple[str, int]:
    """Host (IPv6 without brackets) and port 0…65535 of ``host:port``. Raises ValueError with a sentence."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"“{text:.80}” is not host:port, such as 127.0.0.1:26656 (port 0…65535)")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"“{text:.80}”: write an IPv6 address in brackets, such as [::1]:26656")
    return host, int(port)


def _is_address(value: str) -> str | None:
    try:
        split_host_port(value)
    except ValueError as error:
        return str(error)
    return None


def _is_address_or_empty(value: str) -> str | None:
    return _is_address(value) if value else None


def _are_peers(value: tuple[str, ...]) -> str | None:
    for peer in value:
        identity, at, address = peer.partition("@")
        if not at or not re.fullmatch(r"[0-9a-f]{64}", identity):
            return f"“{peer:.100}” is not nodeid@host:port (the node id is 64 hex digits, from: allting status)"
        if wrong := _is_address(address):
            return wrong
    return None


def _are_node_ids(value: tuple[str, ...]) -> str | None:
    bad = [text for text in value if not re.fullmatch(r"[0-9a-f]{64}", text)]
    return f"“{bad[0]:.80}” is no node id (64 hex digits, from: allting node id)" if bad else None


def _is_moniker(value: str) -> str | None:
    if not 1 <= len(value) <= MONIKER_LENGTH_MAX or not value.isprintable():
        return f"a moniker has 1…{MONIKER_LENGTH_MAX} printable characters"
    return None


def _are_hosts(value: tuple[str, ...]) -> str | None:
    bad = [host for host in value if not host or "/" in host or " " in host]
    return f"“{bad[0]:.60}” is not a host name" if bad else None


@dataclass(frozen=True, slots=True, kw_only=True)
class P2pConfig:
    """How this node meets its peers."""

    listen: str = setting("127.0.0.1:26656", "Where peers reach this node: host:port; port 0 picks one.", _is_address)
    external_address: str = setting(
        "", "What peers are told, if it differs from listen (behind NAT): host:port.", _is_address_or_empty
    )
    persistent_peers: tuple[str, ...] = setting((), "Peers to stay connected with: nodeid@host:port.", _are_peers)
    seeds: tuple[str, ...] = setting(
        (), "Peers to ask for addresses when none are known, and to leave then: nodeid@host:port.", _are_peers
    )
    private_peers: tuple[str, ...] = setting((), "Node ids of peers that nobody is told of.", _are_node_ids)
    unconditional_peers: tuple[str, ...] = setting(
        (), "Node ids that are let in beyond the limits, never banned, and never displaced.", _are_node_ids
    )
    exchange: bool = setting(True, "Tell peers of other peers, and learn from them; false: only the peers named here.")
    inbound_peers_max: int = setting(
        40, "Connections that others opened; beyond, the least useful gives way to a newcomer.", between(0, 1000)
    )
    outbound_peers_max: int = setting(10, "Connections that this node opens, beside persistent peers.", between(0, 100))
    peers_per_host_max: int = setting(8, "Inbound connections from one network address.", between(1, 1000))
    exempt_loopback: bool = setting(
        True, "No limits per address for this machine itself; false if peers come through a proxy on it."
    )
    bytes_per_second_max: int = setting(
        128 * MIB, "Received from one peer on one channel, in the long run.", between(64 * 1024, 2**32)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcConfig:
    """How people and programs reach this node."""

    listen: str = setting("127.0.0.1:26657", "Where JSON-RPC, the web page and metrics are served.", _is_address)
    allowed_hosts: tuple[str, ...] = setting(
        ("localhost", "127.0.0.1", "[::1]"), "Host headers that are answered (without port).", _are_hosts
    )
    body_bytes_max: int = setting(2 * MIB, "The largest request body.", between(1024, 64 * MIB))
    batch_calls_max: int = setting(50, "Calls in one JSON-RPC batch.", between(1, 1000))
    calls_per_second_max: int = setting(200, "Calls by one address; loopback is exempt.", between(1, 1_000_000))
    concurrent_requests_max: int = setting(200, "Requests in work at once.", between(1, 100_000))
    websockets_max: int = setting(100, "Open WebSockets.", between(0, 100_000))
    subscriptions_per_client_max: int = setting(16, "Subscriptions on one WebSocket.", between(1, 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class MempoolConfig:
    """How much may wait for a block."""

    transactions_max: int = setting(20_000, "Transactions that wait.", between(1, 1_000_000))
    bytes_max: int = setting(64 * MIB, "Their bytes.", between(64 * 1024, 2**34))
    per_sender_max: int = setting(64, "Transactions that wait of one sender.", between(1, 1024))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyConfig:
    """Where signatures are verified."""

    processes: int = setting(1, "Helper processes that verify signatures; 0: in the node's own.", between(0, 64))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What the log looks like."""

    format: str = setting("console", "console (for people) or json (one object a line).", one_of(*FORMATS))
    level: str = setting("info", "debug, info, warning or error.", one_of(*LEVELS))
    file: str = setting(
        "", "Where the log goes, in the node's folder; empty: standard error, which whoever starts the node must bound."
    )
    file_bytes_max: int = setting(
        16 * MIB, "Then the file is renamed to FILE.1, and an older FILE.1 is gone.", between(64 * 1024, 2**32)
    )


def _is_keep(value: str) -> str | None:
    try:
        Keep.parse(value)
    except ValueError as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """The database of the chain, and how much of the past it keeps.

    The defaults are for a small machine that runs for years: accounts can be looked up for a year and a month (an idle
    town makes 0.3 MB a day, a transaction adds about 1 KB), every state for a week (a transaction adds about 12 KB).
    """

    map_bytes: int = setting(
        1024 * MIB, "Room of the database file (sparse) to begin with; it grows by itself.", between(16 * MIB, 2**46)
    )
    keep_blocks: str = setting(
        "400 days",
        "Blocks with their transactions: all, or N days (block time, back from the latest block), or N heights. "
        "Never less than evidence can rest on; nothing else is kept longer.",
        _is_keep,
    )
    keep_results: str = setting("400 days", "What came of each transaction. Nothing below is kept longer.", _is_keep)
    keep_events: str = setting("400 days", "The log of events.", _is_keep)
    keep_index: str = setting("400 days", "Finding transactions by hash, address and event.", _is_keep)
    keep_states: str = setting(
        "7 days",
        "States of former heights: queries, proofs, export. The last two snapshots stay in any case.",
        _is_keep,
    )

    def retention(self) -> Retention:
        """The same, as the pruner takes it."""
        return Retention.of(
            blocks=self.keep_blocks,
            results=self.keep_results,
            events=self.keep_events,
            index=self.keep_index,
            states=self.keep_states,
        )


SYNC_MODES = ("auto", "blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """How a node that joins a chain comes to its present state, and what it gives to those that come later."""

    mode: str = setting(
        "auto",
        "auto (begin with a snapshot that the invite link proves, if peers have one) or blocks (execute all).",
        one_of(*SYNC_MODES),
    )
    served_bytes_per_second_max: int = setting(
        64 * MIB,
        "Blocks and states sent to all peers that ask for them, in the long run; what is beyond waits.",
        between(MIB, 2**32),
    )
    served_bytes_per_second_per_peer_max: int = setting(32 * MIB, "The same, to one peer.", between(64 * 1024, 2**32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a node. Immutable; use dataclasses.replace for variants."""

    moniker: str = setting("node", "The name that peers and people see.", _is_moniker)
    p2p: P2pConfig = P2pConfig()
    rpc: RpcConfig = RpcConfig()
    mempool: MempoolConfig = MempoolConfig()
    verify: VerifyConfig = VerifyConfig()
    log: LogConfig = LogConfig()
    store: StoreConfig = StoreConfig()
    sync: SyncConfig = SyncConfig()

    @classmethod
    def defaults(cls) -> Config:
        """The settings of a node whose file is empty."""
        return cls()

    @classmethod
    def load(cls, path: Path) -> Config:
        """The settings in *path*; absent keys have their defaults. Raises BadConfig."""
        try:
            with path.open("rb") as file:
                data = file.read(CONFIG_BYTES_MAX + 1)
        except FileNotFoundError:
            raise BadConfig(f"{path}: there is no configuration here; run allting init, or give --home") from None
        if len(data) > CONFIG_BYTES_MAX:
            raise BadConfig(f"{path}: larger than {CONFIG_BYTES_MAX} bytes; is this a configuration?")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise BadConfig(f"{path}, line {line}: not UTF-8") from None
        return cls.parse(text, name=str(path))

    @classmethod
    def parse(cls, text: str, *, name: str = "config.toml") -> Config:
        """The settings that TOML *text* gives. Raises BadConfig naming key and line."""
        document = Document(text, name=name, error=BadConfig)
        config: Config = _read(cls, document, document.data, ())
        _check_retention(document, config.store)
        return config

    def render(self) -> str:
        """A TOML text that parses as these settings, with a comment for each."""
        lines = ["# Settings of this node. Unknown keys are errors; absent ones have the values of allting init.", ""]
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if not dataclasses.is_dataclass(value):
                lines += _render_setting(item, value)
                continue
            lines += ["", f"[{item.name}]"]
            for inner in dataclasses.fields(value):
                lines += _render_setting(inner, getattr(value, inner.name))
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """*path* holds these settings."""
        write_atomically(path, self.render().encode())


def _check_retention(document: Document, store: StoreConfig) -> None:
    """Raises BadConfig where something would be kept longer than what it is found in: it can't be."""
    for shorter, longer in (
        ("keep_results", "keep_blocks"),
        ("keep_events", "keep_results"),
        ("keep_index", "keep_results"),
        ("keep_states", "keep_blocks"),
    ):
        wanted, most = getattr(store, shorter), getattr(store, longer)
        if Keep.parse(wanted).is_longer_than(Keep.parse(most)):
            path = ("store", shorter if shorter in document.data.get("store", {}) else longer)
            raise document.fault(path, f"{shorter} is {wanted}, but {longer} is {most}: keep the latter as long")


def _render_setting(item: dataclasses.Field[Any], value: Any) -> list[str]:
    return [f"# {item.metadata['note']}", f"{item.name} = {value_toml(value)}"]


def _read(kind: Any, document: Document, table: dict[str, Any], path: tuple[str, ...]) -> Any:
    fields = {item.name: item for item in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = (*path, key)
        if key not in fields:
            raise document.fault(where, f"unknown key; known here: {', '.join(fields)}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, dict):
                raise document.fault(where, f"must be a table: [{key}]")
            values[key] = _read(hints[key], document, value, where)
        else:
            values[key] = _checked(fields[key], hints[key], document, value, where)
    return kind(**values)


def _checked(item: dataclasses.Field[Any], hint: Any, document: Document, value: Any, where: tuple[str, ...]) -> Any:
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or any(type(text) is not str for text in value):
            raise document.fault(where, "must be a list of texts in quotes")
        value = tuple(value)
    elif type(value) is not hint:
        wanted = {int: "a whole number", str: "a text in quotes", bool: "true or false"}[hint]
        raise document.fault(where, f"must be {wanted}, not {type(value).__name__}")
    check: Check | None = item.metadata["check"]
    wrong = check(value) if check else None
    if wrong:
        raise document.fault(where, wrong)
    return value
