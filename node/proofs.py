"""Answers that need no trust in the node that gives them: proofs up to a header, and signatures up to a set we trust.

Trust begins at the genesis file or at the block that an invite link vouches for, and follows adjacent light blocks. The
last header so believed is kept in HOME/light.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from consensus.application import Application, ProofTarget
from consensus.block import Header, LightBlock, ModuleRoot
from consensus.codec import BadMessage
from consensus.jellyfish import application_hash, verify
from consensus.light import (
    BadLightBlock,
    Trusted,
    TrustedBlock,
    TrustedGenesis,
    verify_adjacent,
    verify_backwards,
)
from node.client import Client
from node.files import write_atomically
from node.genesis import GenesisFile
from node.genesis_state import first_validators
from node.home import Home
from node.rpc import shapes
from node.trust_root import TrustRoot, read_trust_root

BATCH = 25
"""Light blocks asked for at once."""
SAVE_EVERY = 500
"""Blocks after which progress is kept, in case the rest is interrupted."""
STALE_HEARTBEATS = 2


class NotProved(Exception):
    """The node's answer does not follow from what we trust; the text says where it breaks. Believe none of it."""


class LightClient:
    """Follows a chain from a root of trust by what any node says, believing only what is signed."""

    def __init__(
        self,
        client: Client,
        genesis: GenesisFile,
        application: Application,
        *,
        home: Path,
        now_ms: Callable[[], int] | None = None,
        step: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """*step* is told of progress: blocks verified, and how many there are."""
        self._client = client
        self._genesis = genesis
        self._application = application
        self._home = Home(home)
        self._path = home / "light.json"
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._step = step

    def header(self, height: int) -> Header:
        """The header of *height* (1 or later), believed. Raises NotProved, RpcFailed, Unreachable."""
        trusted = self._stored() or self._root()
        try:
            if height > trusted.height:
                trusted = self._follow(trusted, height)
            assert isinstance(trusted, TrustedBlock), "height 1 or later"
            return self._back(trusted.header, height)
        except BadLightBlock as error:
            raise NotProved(f"the node shows a chain that is not the one we trust: {error}") from error
        except BadMessage as error:
            raise NotProved(f"the node's answer is malformed: {error}") from error

    def _root(self) -> Trusted:
        """Where trust begins: the invite's block if there is one, else the genesis."""
        root = read_trust_root(self._home.trust_root)
        if root is not None and root.height > 0:
            return self._invited(root)
        genesis = self._genesis
        return TrustedGenesis.of(
            chain_id=genesis.chain_id,
            genesis_hash=genesis.hash,
            time_ms=genesis.time_ms,
            validators=first_validators(genesis, self._application),
        )

    def _invited(self, root: TrustRoot) -> TrustedBlock:
        answer = self._client.call("light_block", height=root.height)
        try:
            block, _, next_validators = _light_block(answer)
            return TrustedBlock.root(block.header, root.block_id, next_validators)
        except (BadLightBlock, BadMessage) as error:
            raise NotProved(f"the node's chain does not contain the block of your invite: {error}") from error

    def _follow(self, trusted: Trusted, height: int) -> TrustedBlock:
        """The block at *height*, later than *trusted*, after every one in between was verified and signed for."""
        start = trusted.height
        while trusted.height < height:
            heights = range(trusted.height + 1, min(height, trusted.height + BATCH) + 1)
            answers = self._client.batch([("light_block", {"height": each}) for each in heights])
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
                block, validators, next_validators = _light_block(answer)
                trusted = verify_adjacent(
                    trusted, block, validators, next_validators, self._now_ms(), self._genesis.params
                )
                if (trusted.height - start) % SAVE_EVERY == 0:
                    self._keep(trusted)
            self._step(trusted.height - start, height - start)
        assert isinstance(trusted, TrustedBlock), "height was later"
        self._keep(trusted)
        return trusted

    def _back(self, header: Header, height: int) -> Header:
        """The header at *height*, no later than the believed *header*, along the chain of hashes."""
        total = header.height - height
        while header.height > height:
            heights = range(header.height - 1, max(height, header.height - BATCH) - 1, -1)
            for answer in self._client.batch([("header", {"height": each}) for each in heights]):
                if isinstance(answer, Exception):
                    raise answer
                parent = shapes.header_from_json(_part(answer, "header"))
                verify_backwards(header, parent)
                header = parent
            self._step(total - (header.height - height), total)
        return header

    def _stored(self) -> TrustedBlock | None:
        """What was believed last, if it is of this chain."""
        try:
            kept = json.loads(self._path.read_bytes())
            if kept["genesis_hash"] != self._genesis.hash.hex():
                return None
            header = shapes.header_from_json(kept["header"])
            return TrustedBlock.of(header, shapes.validators_from_json(kept["next_validators"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, BadMessage, BadLightBlock) as error:
            raise NotProved(
                f"{self._path} is damaged ({error}); delete it to begin again at the root of trust"
            ) from error

    def _keep(self, trusted: Trusted) -> None:
        assert isinstance(trusted, TrustedBlock), "the genesis is kept as a file already"
        kept = {
            "genesis_hash": self._genesis.hash.hex(),
            "header": shapes.header_json(trusted.header),
            "next_validators": shapes.validators_json(trusted.next_validators),
        }
        write_atomically(self._path, json.dumps(kept).encode() + b"\n", mode=0o600)


class Prover:
    """Queries whose answers are computed from proved entries alone."""

    def __init__(
        self,
        client: Client,
        genesis: GenesisFile,
        application: Application,
        *,
        home: Path,
        now_ms: Callable[[], int] | None = None,
        step: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._client = client
        self._genesis = genesis
        self._application = application
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self.light = LightClient(client, genesis, application, home=home, now_ms=self._now_ms, step=step)

    def query(self, path: str, args: Mapping[str, Any], *, height: int | None = None) -> dict[str, Any]:
        """The proved answer, with its block's height, id, time, and age when the node gave it.

        ``stale`` if the chain had then made no block for two heartbeats.

        Raises NotProved, QueryRefused (also where a query can't be proved), RpcFailed, Unreachable.
        """
        targets = self._application.proof_targets(path, args)
        given = self._client.call("query", path=path, args=dict(args), height=height, prove=True)
        given_ms = self._now_ms()  # the way to its header may take minutes, in which the answer grows no staler
        at = _part(given, "height")
        if type(at) is not int or at < 1 or (height is not None and at != height):
            raise NotProved(f"the node answered for height {at!r:.40} instead of {height or 'its latest'}")
        header = self.light.header(at)
        values = proved_values(targets, _part(given, "proof"), header)
        answer = shapes.plain(self._application.answer_from_proof(path, args, values))
        if answer != given.get("answer") or header.time_ms != given.get("time_ms"):
            raise NotProved("the node's answer is not what its own proof shows; believe nothing it says")
        heartbeat_ms = self._genesis.params.heartbeat_ms
        stale = height is None and header.time_ms + STALE_HEARTBEATS * heartbeat_ms < given_ms
        return {
            "height": at,
            "block_id": header.id.hex(),
            "time_ms": header.time_ms,
            "age_ms": max(0, given_ms - header.time_ms),
            "stale": stale,
            "answer": answer,
        }


def proved_values(targets: Sequence[ProofTarget], proof: Any, header: Header) -> list[bytes | None]:
    """The value of each target (None: absent) that *proof* shows in the state after *header*. Raises NotProved."""
    try:
        roots = shapes.module_roots_from_json(_part(proof, "module_roots"))
        entries = _part(proof, "entries")
        if application_hash(roots) != header.app_hash:
            raise NotProved("the proof's module roots are not those of the block's application hash")
        if not isinstance(entries, list) or len(entries) != len(targets):
            raise NotProved(f"the proof does not have one entry for each of the {len(targets)} that the answer needs")
        return [_proved_value(target, entry, roots) for target, entry in zip(targets, entries, strict=True)]
    except BadMessage as error:
        raise NotProved(f"the proof is malformed: {error}") from error


def _proved_value(target: ProofTarget, entry: Any, roots: Sequence[ModuleRoot]) -> bytes | None:
    root = next((each.root for each in roots if each.module == target.module), None)
    if root is None:
        raise NotProved(f"the application hash has no leaf for the module {target.module}")
    if _part(entry, "module") != target.module or _part(entry, "key") != target.key.hex():
        raise NotProved(f"the proof is not for the entry {target.key.hex()} of {target.module}, which the answer needs")
    shown = _part(entry, "value")
    try:
        value = None if shown is None else bytes.fromhex(shown)
    except (TypeError, ValueError):
        raise NotProved("a proved value is not hex") from None
    if not verify(root, target.key, value, shapes.tree_proof_from_json(entry)):
        raise NotProved(f"the proof for the entry {target.key.hex()} of {target.module} does not hold")
    return value


def _light_block(answer: Any) -> tuple[LightBlock, Any, Any]:
    """A light block, the validators of its height and those of the next, as a node showed them. Raises BadMessage."""
    block = LightBlock(
        header=shapes.header_from_json(_part(answer, "header")),
        commit=shapes.commit_from_json(_part(answer, "commit")),
        canonical=False,
    )
    validators = shapes.validators_from_json(_part(answer, "validators"))
    return block, validators, shapes.validators_from_json(_part(answer, "next_validators"))


def _part(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise NotProved(f"the node's answer has no {name}")
    return value[name]
