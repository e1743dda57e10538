"""A running light client: its parts, and what it does when two chains are proved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from consensus.application import Application
from consensus.light import Trusted
from consensus.light_store import TrustedBlocks
from node.genesis import GenesisFile
from node.light.follower import Divergence, Follower
from node.light.memory import Kept, LightMemory
from node.light.source import Source, SourceGone, SourceRefused
from node.light.sources import Sources
from node.rpc import shapes

_log = structlog.get_logger("light")

KEEP_SECONDS = 5.0
"""Progress of this time may be lost in a crash; it is verified again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """Everything that a served request may use."""

    genesis: GenesisFile
    app: Application
    follower: Follower
    started_ms: int

    @property
    def sources(self) -> Sources:
        """Who is asked."""
        return self.follower.sources


class Keeper:
    """Writes what is believed, now and then and at the end."""

    def __init__(self, memory: LightMemory, genesis_hash: bytes, follower: Callable[[], Follower]) -> None:
        self._memory = memory
        self._genesis_hash = genesis_hash
        self._follower = follower
        self._changed = False

    def note(self) -> None:
        """There is more to keep."""
        self._changed = True

    def write(self) -> None:
        """All is kept."""
        follower = self._follower()
        if self._changed:
            self._changed = False
            self._memory.write(self._genesis_hash, Kept(follower.blocks.all, follower.params))

    async def run(self) -> None:
        """Keeps what was noted, until cancelled."""
        while True:
            await trio.sleep(KEEP_SECONDS)
            self.write()


@asynccontextmanager
async def running(
    *,
    genesis: GenesisFile,
    app: Application,
    root: Trusted,
    sources: list[Source],
    memory: LightMemory,
    now_ms: Callable[[], int],
    fresh: bool = True,
) -> AsyncIterator[Light]:
    """A light client that begins at *root*, or where it was, for as long as the context lasts.

    Raises MemoryDamaged, also if two chains were proved to it before.
    """
    memory.require_undivided()
    kept = memory.read(genesis.hash)
    blocks = TrustedBlocks(root, () if kept is None else kept.blocks)
    alarm = Alarm(memory, sources)
    follower = Follower(
        blocks=blocks,
        params=genesis.params if kept is None else kept.params,
        sources=Sources(sources),
        now_ms=now_ms,
        keep=lambda: keeper.note(),
        alarm=alarm.raise_it,
    )
    keeper = Keeper(memory, genesis.hash, lambda: follower)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        if fresh:
            nursery.start_soon(follower.keep_fresh)
        try:
            yield Light(genesis=genesis, app=app, follower=follower, started_ms=now_ms())
        finally:
            keeper.write()
        nursery.cancel_scope.cancel()


class Alarm:
    """What is done once two chains are proved."""

    def __init__(self, memory: LightMemory, sources: list[Source]) -> None:
        self._memory = memory
        self._sources = sources
        """All that were named at the start: who was dropped meanwhile gets the proof, too."""

    async def raise_it(self, divergence: Divergence) -> None:
        """The divergence is on the disk, and every node that answers has the evidence."""
        self._memory.write_divergence(divergence_json(divergence))
        async with trio.open_nursery() as nursery:
            for source in self._sources:
                nursery.start_soon(self._tell, source, divergence)

    async def _tell(self, source: Source, divergence: Divergence) -> None:
        for evidence in divergence.evidence:
            try:
                answer = await source.call("broadcast_evidence", evidence=shapes.base64_text(evidence.encoded))
                why = answer.get("text", "") if isinstance(answer, dict) and answer.get("code") else ""
                event = "light_evidence_refused" if why else "light_evidence_given"
                _log.info(event, node=source.name, height=evidence.height, block=evidence.header.id, why=why)
            except SourceRefused as refusal:  # by the side that the evidence is not for
                _log.info(
                    "light_evidence_refused",
                    node=source.name,
                    height=evidence.height,
                    block=evidence.header.id,
                    why=str(refusal),
                )
            except SourceGone as error:
                _log.warning("light_evidence_not_given", node=source.name, why=str(error))


def divergence_json(divergence: Divergence) -> dict[str, Any]:
    """Both sides, for people and programs."""
    verdict = divergence.verdict
    return {
        "common_height": verdict.common_height,
        "primary": {"node": divergence.primary, "header": shapes.header_json(verdict.primary)},
        "witness": {"node": divergence.witness, "header": shapes.header_json(verdict.witness)},
        "evidence": [shapes.base64_text(evidence.encoded) for evidence in divergence.evidence],
    }
