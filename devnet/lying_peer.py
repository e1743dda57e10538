"""A node that is honest in everything but what it answers to those who are behind.

``python -m devnet.lying_peer HOME KIND``: for benchmarks and stories; *KIND* is a name in `LIES`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from node import block_sync
from node.node import run_node
from node.snapshot_messages import Snapshots, StateEntries, StateNode
from node.sync_messages import DecidedHeight, SyncMessage, SyncQuestion
from node.sync_server import SyncServer


class Forging(SyncServer):
    """Changes states and blocks a little."""

    async def answer(self, question: SyncQuestion) -> SyncMessage:
        """The honest answer, with one thing in it that is not so."""
        answer = await super().answer(question)
        match answer:
            case StateEntries(entries) if entries:
                return StateEntries(((entries[0][0], entries[0][1] + b"!"), *entries[1:]))
            case StateNode(places):
                return StateNode(places[::-1])
            case DecidedHeight(block):
                header = dataclasses.replace(block.header, app_hash=bytes(32))
                return dataclasses.replace(answer, block=dataclasses.replace(block, header=header))
        return answer


class Stalling(SyncServer):
    """Says what it offers, and then nothing more."""

    async def answer(self, question: SyncQuestion) -> SyncMessage:
        """Never comes, but for the offer."""
        answer = await super().answer(question)
        if not isinstance(answer, Snapshots):
            await trio.sleep_forever()
        return answer


LIES: Mapping[str, type[SyncServer]] = {"forging": Forging, "stalling": Stalling}


def main() -> None:
    """Runs the node until it is told to stop."""
    home, kind = sys.argv[1:]
    block_sync.SyncServer = LIES[kind]  # type: ignore[attr-defined]  # the one thing that differs from an honest node
    trio.run(run_node, Path(home))


if __name__ == "__main__":
    main()
