"""Why a node can't go on."""

from __future__ import annotations


class NodeStopped(Exception):
    """The node can't go on; the text says why and what to do."""


def refused_decision(height: int, block_id: bytes, why: Exception | None) -> NodeStopped:
    """The reason to stop when more than 2/3 decided a block that this node refuses (*why*: None after a restart)."""
    return NodeStopped(
        f"more than 2/3 decided block {block_id.hex()} at height {height}, which this node refuses: "
        f"{why or 'the log above says why'}. It computes something else than the others: compare versions, then start "
        "again"
    )
