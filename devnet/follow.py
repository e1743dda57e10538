"""Follows the blocks of several nodes: each height reaches the listener once, from whichever node had it first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from devnet.http import Connection, Refusal, Unreachable
from devnet.ledger import Block

POLL_SECONDS = 0.05
AWAY_SECONDS = 0.5
"""Before a node that gave no answer is asked again."""


class Disagreement(Exception):
    """Two nodes decided different blocks at one height: the worst that can happen. The text names both."""


@dataclass(slots=True)
class Follower:
    """What is known of the chain so far."""

    next_height: int
    """Blocks from this height on are followed."""
    listener: Callable[[Block], None]
    with_results: bool = True
    """Whether result codes are asked for."""
    poll_seconds: float = POLL_SECONDS
    heights: dict[str, int] = field(default_factory=dict)
    """URL → the last height seen there."""
    _hashes: dict[int, str] = field(default_factory=dict)

    async def follow(self, url: str) -> None:
        """Reads the blocks of the node at *url* until cancelled. Raises Disagreement."""
        height = self.next_height
        async with Connection(url, timeout_seconds=5.0) as connection:
            while True:
                try:
                    await self._read(connection, height)
                except Unreachable:
                    await trio.sleep(AWAY_SECONDS)  # a dead node is not hammered
                except Refusal:  # not decided there yet
                    await trio.sleep(self.poll_seconds)  # how exactly latency is read
                else:
                    self.heights[url] = height
                    height += 1

    async def _read(self, connection: Connection, height: int) -> None:
        known = self._hashes.get(height)
        if known is None:
            block, results = await self._block(connection, height)
            hash_ = block["header"]["hash"]
            known = self._hashes.setdefault(height, hash_)  # another node's may have come while we waited
            if known == hash_ and height == self.next_height:
                self.next_height += 1
                codes = None if results is None else [result["code"] for result in results["transactions"]]
                self.listener(Block(height, block["header"]["time_ms"], block["transaction_ids"], codes))
        else:
            hash_ = (await connection.call("header", height=height))["header"]["hash"]
        if hash_ != known:
            raise Disagreement(f"height {height}: {connection.url} decided {hash_}, another node {known}")

    async def _block(self, connection: Connection, height: int) -> tuple[Any, Any]:
        if not self.with_results:
            return (await connection.call("block", height=height))["block"], None
        block, results = await connection.batch(
            [("block", {"height": height}), ("block_results", {"height": height, "events": False})]
        )
        if isinstance(block, Refusal):
            raise block
        if isinstance(results, Refusal):
            raise results
        return block["block"], results


async def heights_of(urls: list[str]) -> dict[str, int]:
    """URL → latest height, of the nodes that answer."""
    found: dict[str, int] = {}
    for url in urls:
        async with Connection(url, timeout_seconds=3.0) as connection:
            try:
                found[url] = (await connection.call("status"))["sync_info"]["latest_block_height"]
            except (Unreachable, Refusal):
                continue
    return found
