"""A node's folder: what stands where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under *path*; nothing is created by naming them."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings of this node (TOML)."""
        return self.path / "config.toml"

    @property
    def genesis(self) -> Path:
        """The town's genesis, byte for byte."""
        return self.path / "genesis.toml"

    @property
    def genesis_state(self) -> Path:
        """The state that the genesis goes on from, where it names one (`node.genesis_state`)."""
        return self.path / "genesis.state"

    @property
    def trust_root(self) -> Path:
        """The block that the invite link vouched for, on a node that joined by one (JSON)."""
        return self.path / "trust_root.json"

    @property
    def node_key(self) -> Path:
        """The key behind the node id."""
        return self.path / "keys" / "node.json"

    @property
    def validator_key(self) -> Path:
        """The consensus key; absent on a full node."""
        return self.path / "keys" / "validator.json"

    @property
    def data(self) -> Path:
        """What the node writes while it runs."""
        return self.path / "data"

    @property
    def chain(self) -> Path:
        """The LMDB environment."""
        return self.data / "chain"

    @property
    def evidence(self) -> Path:
        """The LMDB environment of the evidence pool."""
        return self.data / "evidence"

    @property
    def snapshot(self) -> Path:
        """The LMDB environment with what has come of a snapshot; absent on a node that has begun."""
        return self.data / "snapshot"

    @property
    def wal(self) -> Path:
        """The write-ahead log of consensus."""
        return self.data / "consensus.wal"

    @property
    def last_sign(self) -> Path:
        """What the validator key signed last."""
        return self.data / "last_sign.json"

    @property
    def addresses(self) -> Path:
        """The address book."""
        return self.data / "addresses.json"

    @property
    def scores(self) -> Path:
        """Bans and points of peers."""
        return self.data / "scores.bin"

    @property
    def admin_socket(self) -> Path:
        """Where the node's owner gives orders."""
        return self.path / "admin.sock"
