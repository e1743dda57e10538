"""What the methods about the chain answer with, be it out of a store or proved to a light client: the same objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consensus.application import Application, Result
from consensus.block import Block, Commit, Header
from consensus.transaction import Transaction
from node.genesis import GenesisFile
from node.rpc import shapes

PER_PAGE_MAX = 100


def of_genesis(genesis: GenesisFile) -> dict[str, Any]:
    """The genesis file, byte for byte, and its hash."""
    return {
        "chain_id": genesis.chain_id,
        "hash": genesis.hash.hex(),
        "application": genesis.application,
        "document": genesis.raw.decode(),
    }


def of_block(block: Block, bodies: Sequence[bytes]) -> dict[str, Any]:
    """A block with its transactions."""
    return {"block_id": block.id.hex(), "block": shapes.block_json(block, bodies)}


def of_commit(header: Header, commit: Commit, *, canonical: bool) -> dict[str, Any]:
    """A header with its commit."""
    return {"header": shapes.header_json(header), "commit": shapes.commit_json(commit, canonical=canonical)}


def of_validators(
    height: int, members: Sequence[dict[str, Any]], page: int | None, per_page: int | None
) -> dict[str, Any]:
    """One page (from 1) of the *members* that decide *height*."""
    size = min(PER_PAGE_MAX, per_page or PER_PAGE_MAX)
    start = (max(1, page or 1) - 1) * size
    return {
        "height": height,
        "total": len(members),
        "total_power": sum(member["power"] for member in members),
        "validators": members[start : start + size],
    }


def of_results(height: int, shown: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The results of a block: ``begin``, each transaction, ``end``."""
    return {"height": height, "begin": shown[0], "transactions": shown[1:-1], "end": shown[-1]}


def of_transaction(app: Application, height: int, index: int, raw: bytes, results: Sequence[Result]) -> dict[str, Any]:
    """The transaction at *index* (from 0) of a block with these *results*, and what came of it."""
    return {
        "height": height,
        "index": index,
        **shapes.transaction_json(app, Transaction.decode(raw)),
        "result": shapes.result_json(app, results[index + 1]),
    }
