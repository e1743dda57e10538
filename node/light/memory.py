"""What a light client keeps in its folder: the blocks that it believes, and a divergence that it found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consensus.codec import BadMessage
from consensus.light import BadLightBlock, TrustedBlock
from consensus.light_store import TRUSTED_MAX
from consensus.params import Params
from node.disk import DISK
from node.files import write_atomically
from node.light.faults import MemoryDamaged
from node.rpc import shapes

BLOCKS_FILE = "light_blocks.json"
DIVERGENCE_FILE = "light_divergence.json"
PRIVATE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Kept:
    """What was believed when the client last ran."""

    blocks: tuple[TrustedBlock, ...]
    """Lowest first, at least one."""
    params: Params
    """In force at the latest of them."""


class LightMemory:
    """The files of a light client in *folder*; each is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._blocks = folder / BLOCKS_FILE
        self._divergence = folder / DIVERGENCE_FILE

    def read(self, genesis_hash: bytes) -> Kept | None:
        """What was believed of the chain with this genesis; None before. Raises MemoryDamaged."""
        try:
            kept = json.loads(self._blocks.read_bytes())
            if kept["genesis_hash"] != genesis_hash.hex():
                return None
            sets = {key: shapes.validators_from_json(value) for key, value in kept["sets"].items()}
            headers = [shapes.header_from_json(each) for each in kept["headers"][-TRUSTED_MAX:]]
            blocks = tuple(TrustedBlock.of(header, sets[header.next_validators_hash.hex()]) for header in headers)
            if not blocks:
                raise ValueError("no block")
            return Kept(blocks, shapes.params_from_json(kept["params"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, BadMessage, BadLightBlock) as error:
            raise MemoryDamaged(
                f"{self._blocks} is damaged ({error}); delete it to begin again at the root of trust"
            ) from error

    def write(self, genesis_hash: bytes, kept: Kept) -> None:
        """*kept* will be read back. Sets, which seldom change, are written once each."""
        sets = {block.header.next_validators_hash.hex(): block.next_validators for block in kept.blocks}
        shown = {
            "genesis_hash": genesis_hash.hex(),
            "params": shapes.params_json(kept.params),
            "sets": {key: shapes.validators_json(value) for key, value in sets.items()},
            "headers": [shapes.header_json(block.header) for block in kept.blocks],
        }
        write_atomically(self._blocks, json.dumps(shown).encode() + b"\n", mode=PRIVATE_MODE)

    def forget(self) -> None:
        """Trust begins anew; a divergence that was found stays beside, as something of the past."""
        if self._blocks.exists():
            DISK.unlink(self._blocks, label=BLOCKS_FILE)
        if self._divergence.exists():
            DISK.replace(self._divergence, self._divergence.with_suffix(".old.json"))

    def write_divergence(self, shown: dict[str, Any]) -> None:
        """Two chains were proved: a start is refused from now on."""
        write_atomically(self._divergence, json.dumps(shown, indent=2).encode() + b"\n", mode=PRIVATE_MODE)

    def divided_after(self) -> int | None:
        """The last height that two chains, which were proved to this client, have in common; None without such.

        Raises MemoryDamaged.
        """
        try:
            return int(json.loads(self._divergence.read_bytes())["common_height"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise MemoryDamaged(f"{self._divergence} is damaged ({error}); look at it, then move it away") from error

    def require_undivided(self) -> None:
        """Raises MemoryDamaged if two chains were proved to this client before."""
        if self.divided_after() is not None:
            raise MemoryDamaged(
                f"two chains were proved to this client ({self._divergence} has both headers): ask people which one is "
                "your town's, and begin again with a fresh link from one of them (allting light --trust LINK)"
            )
