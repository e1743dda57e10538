"""What a snapshot writes: the state of one height from elsewhere, in bounded transactions, complete only at the end.

Until then the store says of itself that an import is under way; a store that is opened like that is emptied, and begins
anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import lmdb

from consensus.block import Commit, Header
from consensus.chain import ChainState, params_hash, without_priorities
from consensus.codec import encode
from consensus.shape import to_bytes
from consensus.signing import sha256
from consensus.validators import ValidatorSet
from node.state import KEYS, VALUES, first_version, key_row
from node.state_nodes import Node, encode_node
from node.state_plan import NODES, ROOTS, node_row
from node.store_blocks import (
    BLOCK_IDS,
    COMMITS,
    HEADERS,
    PARAMS,
    VALIDATORS,
    commit_row,
    height_row,
)
from node.store_environment import Environment
from node.store_meta import CHAIN_STATE, IMPORTING, META, put_beginning, put_meta

SLICE_PUTS = 1_024


@dataclass(frozen=True, slots=True)
class Piece:
    """Verified entries and nodes of one module's state."""

    module: str
    entries: Sequence[tuple[bytes, bytes]]
    """Keys and values."""
    nodes: Mapping[bytes, Node]
    """By path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """Where a node goes on from a state that it did not compute."""

    header: Header
    commit: Commit
    """More than 2/3 for the header."""
    chain_state: ChainState
    members: Sequence[tuple[int, ValidatorSet]]
    """The sets that evidence can rest on, each with its first height."""
    roots: Mapping[str, bytes]
    """References of the roots of all modules' trees."""
    genesis: bytes


def clear(transaction: lmdb.Transaction[bytes], environment: Environment, *, importing: bool) -> Iterator[None]:
    """Every table is empty; with *importing* an import is under way. Yields now and then."""
    for name in environment.table_names:
        transaction.drop(environment.table(name), delete=False)
        yield
    if importing:
        put_meta(transaction, environment, IMPORTING, b"")


def put_pieces(
    transaction: lmdb.Transaction[bytes], environment: Environment, pieces: Sequence[Piece], height: int
) -> Iterator[None]:
    """*pieces* of the state of *height* are put; yields now and then."""
    values, keys, nodes = (environment.table(name) for name in (VALUES, KEYS, NODES))
    puts = 0
    for piece in pieces:
        for key, value in piece.entries:
            transaction.put(*first_version(piece.module, key, value, height), db=values)
            transaction.put(key_row(piece.module, sha256(key)), key, db=keys)
            puts += 2
            if puts % SLICE_PUTS == 0:
                yield
        for path, node in piece.nodes.items():
            transaction.put(node_row(piece.module, height, path), encode_node(node), db=nodes)
        yield


def put_landing(transaction: lmdb.Transaction[bytes], environment: Environment, landing: Landing) -> Iterator[None]:
    """The import is complete: chain state, header, commit, sets and parameters of the snapshot's height are put."""
    header, chain = landing.header, landing.chain_state
    number = height_row(header.height)

    def put(table: str, key: bytes, value: bytes) -> None:
        transaction.put(key, value, db=environment.table(table))

    put(ROOTS, number, encode(tuple(sorted(landing.roots.items()))))
    put(HEADERS, number, to_bytes(header))
    put(COMMITS, number, commit_row(landing.commit, canonical=False))
    put(BLOCK_IDS, header.id, number)
    yield
    put(VALIDATORS, number, to_bytes(without_priorities(chain.last_validators)))
    for since, validators in landing.members:
        put(VALIDATORS, height_row(since), to_bytes(validators))
    if header.params_hash == params_hash(chain.params):
        put(PARAMS, number, to_bytes(chain.params))
    put(PARAMS, height_row(header.height + 1), to_bytes(chain.params))
    put_beginning(transaction, environment, landing.genesis, header.height)
    put_meta(transaction, environment, CHAIN_STATE, to_bytes(chain))
    transaction.delete(IMPORTING, db=environment.table(META))
    yield
