"""What the nodes of a devnet say of themselves: for the live view, ``status``, and waiting until they are ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import trio

from devnet import record
from devnet.fleet import StartFailed, tail
from devnet.http import Connection, Refusal, Unreachable
from devnet.record import Devnet, Node

READY_HEIGHT = 3
READY_SECONDS = 60.0
POLL_SHARE = 0.01
"""Of the time waited so far, added to the next wait."""
POLL_SECONDS = 0.1
ANSWER_SECONDS = 3.0
SAID = "Error: "
"""So begins the last line of a node that can say why it ends."""
RATE_BLOCKS_MAX = 20
"""The rate is that of the last blocks, at most this many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """One node at one moment. Fields but the first three are None where the node gave no answer."""

    name: str
    rpc: str
    state: str
    """running, paused, stopped, or silent (its process lives, but does not answer)."""
    height: int | None = None
    round: int | None = None
    peers: int | None = None
    waiting: int | None = None
    """Transactions in its mempool."""
    block_time_ms: int | None = None
    """From block to block, the median of its latest ones."""
    transactions_per_second: float | None = None
    """Over its latest blocks."""
    app_hash: str | None = None
    catching_up: bool | None = None


class Observer:
    """Asks one node again and again over one connection, and knows how fast it goes."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(url, timeout_seconds=ANSWER_SECONDS)
        self._seen: dict[int, tuple[int, int]] = {}
        """Height → (time ms, transactions) of the latest blocks."""

    async def close(self) -> None:
        """Its connection is closed."""
        await self._connection.close()

    async def facts(self, node: Node) -> NodeFacts:
        """*node* now. Never raises for a node that is away."""
        if not node.running():
            return NodeFacts(name=node.name, rpc=node.rpc, state="stopped")
        if node.paused:
            return NodeFacts(name=node.name, rpc=node.rpc, state="paused")
        try:
            status, consensus, waiting = await self._connection.batch(
                [("status", {}), ("consensus_state", {}), ("num_unconfirmed_txs", {})]
            )
            sync = _answer(status)["sync_info"]
            await self._learn(sync["latest_block_height"], earliest=sync.get("earliest_block_height", 1))
        except (Unreachable, Refusal):
            return NodeFacts(name=node.name, rpc=node.rpc, state="silent")
        return NodeFacts(
            name=node.name,
            rpc=node.rpc,
            state="running",
            height=sync["latest_block_height"],
            round=_answer(consensus)["round"],
            peers=sync["peers"],
            waiting=_answer(waiting)["n_txs"],
            block_time_ms=self._block_time_ms(),
            transactions_per_second=self._rate(),
            app_hash=sync["latest_app_hash"],
            catching_up=sync["catching_up"],
        )

    async def _learn(self, height: int, *, earliest: int = 1) -> None:
        """The latest blocks are known, as far as the node has them: *earliest* is where they begin there."""
        first = max(earliest, height - RATE_BLOCKS_MAX + 1, max(self._seen, default=0) + 1)
        for wanted in range(first, height + 1):
            block = (await self._connection.call("block", height=wanted))["block"]
            self._seen[wanted] = (block["header"]["time_ms"], len(block["transaction_ids"]))
        for old in [seen for seen in self._seen if seen <= height - RATE_BLOCKS_MAX]:
            del self._seen[old]

    def _block_time_ms(self) -> int | None:
        """The median, since a night for which the network was stopped says nothing of how fast it is."""
        times = sorted(time_ms for time_ms, _ in self._seen.values())
        return round(median(later - earlier for earlier, later in pairwise(times))) if len(times) > 1 else None

    def _rate(self) -> float | None:
        times = [time_ms for time_ms, _ in self._seen.values()]
        if len(times) < 2 or max(times) == min(times):
            return None
        first = min(self._seen)
        count = sum(transactions for height, (_, transactions) in self._seen.items() if height != first)
        return 1000 * count / (max(times) - min(times))


def _answer(result: Any) -> dict[str, Any]:
    if isinstance(result, Refusal):
        raise result
    assert isinstance(result, dict)
    return result


async def all_facts(nodes: Sequence[Node]) -> list[NodeFacts]:
    """Each of *nodes* now, asked at the same time."""
    found: dict[str, NodeFacts] = {}

    async def ask(node: Node) -> None:
        observer = Observer(node.rpc)
        found[node.name] = await observer.facts(node)
        await observer.close()

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(ask, node)
    return [found[node.name] for node in nodes]


async def wait_until_ready(
    nodes: Sequence[Node],
    *,
    height: int = READY_HEIGHT,
    seconds: float = READY_SECONDS,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Each of *nodes* answers and has decided *height*. Raises StartFailed after *seconds*, or as soon as one ended."""
    began = time.monotonic()
    told = ""
    while True:
        heights = {facts.name: facts.height for facts in await all_facts(nodes)}
        if all(found is not None and found >= height for found in heights.values()):
            return
        for node in nodes:
            if not node.running():
                raise StartFailed(_why_ended(node))
        text = ", ".join(f"{name} {'…' if found is None else found}" for name, found in heights.items())
        if text != told:
            tell(f"heights: {text}")
            told = text
        waited = time.monotonic() - began
        if waited > seconds:
            logs = "\n".join(f"--- {node.name}\n{tail(node.log, 5)}" for node in nodes)
            raise StartFailed(f"not every node reached height {height} in {seconds:.0f} s ({text})\n{logs}")
        # Other processes can only be asked; of one that works for long, seldom: answers cost it time, too.
        await trio.sleep(POLL_SECONDS + POLL_SHARE * waited)


def _why_ended(node: Node) -> str:
    """What a node said last: its own sentence if it had one, else the end of its log."""
    said = tail(node.log, 1)
    if said.startswith(SAID):
        return f"{node.name} can't start: {said.removeprefix(SAID)} (its home: {node.home})"
    return f"{node.name} ended while it started:\n{tail(node.log)}"


def reread(devnet: Devnet) -> Devnet:
    """The record as it is now: another command may have changed it."""
    return record.load(devnet.directory)
