"""The block that an invite link vouches for: the chain that a newcomer syncs must contain it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from node.files import write_atomically
from node.stopped import NodeStopped


class BadTrustRoot(Exception):
    """The file is damaged; the text says what to do."""


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """A height and the id of its block (32 bytes)."""

    height: int
    block_id: bytes

    def require(self, height: int, block_id: bytes) -> None:
        """*block_id*, decided at *height*, is no other than the one vouched for. Raises NodeStopped."""
        if height == self.height and block_id != self.block_id:
            raise NodeStopped(
                f"block {height} of the peers is {block_id.hex()}, but the invite link vouches for "
                f"{self.block_id.hex()}: they are on another chain than who invited you. "
                "Ask for a fresh link, and whom to trust"
            )

    def write(self, path: Path) -> None:
        """*path* holds this root."""
        text = json.dumps({"height": self.height, "block_id": self.block_id.hex()})
        write_atomically(path, text.encode() + b"\n")


def read_trust_root(path: Path) -> TrustRoot | None:
    """The root in *path*; None where there is no such file. Raises BadTrustRoot."""
    try:
        fields = json.loads(path.read_bytes())
        root = TrustRoot(int(fields["height"]), bytes.fromhex(fields["block_id"]))
        if root.height < 0 or len(root.block_id) != 32:
            raise ValueError("no height and block id")
        return root
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BadTrustRoot(f"{path} is damaged ({error}); join again with the link, in an empty folder") from None
