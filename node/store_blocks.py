"""What a decided height writes besides its state, and how it is read: blocks, bodies, commits, results, sets, indexes.

Keys of heights are 8 bytes big-endian. Commits, validator sets and parameters are not written twice: the canonical
commit replaces our own when the next block brings it, sets and parameters are written where they change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import lmdb

from consensus.application import Changes, Result
from consensus.block import Block, Commit, Header
from consensus.chain import ChainState, without_priorities
from consensus.codec import decode, encode, encode_array
from consensus.params import Params
from consensus.shape import INTEGER_MAX, from_bytes, shape_of, to_bytes
from consensus.validators import ValidatorSet
from node.events import PLACES, write_places
from node.state_plan import TreePlan
from node.store_environment import Environment
from node.store_meta import CHAIN_STATE, put_beginning, put_meta, read_meta

HEADERS, BLOCKS, BODIES, COMMITS, RESULTS = "headers", "blocks", "bodies", "commits", "results"
VALIDATORS, PARAMS, BLOCK_IDS, TRANSACTIONS = "validators", "params", "block_ids", "transactions"

ROW_BYTES_MAX = 2**31
"""Nothing that was stored is refused for its size when it is read."""
SLICE_PUTS = 1_024

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedBlock:
    """Everything that one height's commit writes."""

    block: Block
    transactions: tuple[bytes, ...]
    """Their complete bytes, in the block's order."""
    commit: Commit
    """Our own; the next block brings the canonical one."""
    results: tuple[Result, ...]
    """``begin``, each transaction, ``end``."""
    changes: Changes
    """The application's and those of leaf ``chain``."""
    plan: TreePlan
    """For exactly these changes."""
    chain_state: ChainState
    """After this block."""
    senders: tuple[bytes | None, ...] | None = None
    """Of the transactions; None: read from their bytes."""


def put_genesis(
    transaction: lmdb.Transaction[bytes],
    environment: Environment,
    genesis: bytes,
    chain_state: ChainState,
) -> None:
    """The genesis file, and the state before block 1, are put."""
    put_beginning(transaction, environment, genesis, 0)
    _put_chain_state(transaction, environment, None, chain_state)


def put_block(
    transaction: lmdb.Transaction[bytes], environment: Environment, decided: DecidedBlock, former: ChainState
) -> Iterator[None]:
    """Block, bodies, commits, results, indexes and chain state of *decided* are put; yields now and then."""
    block = decided.block
    number = height_row(block.header.height)

    def put(table: str, key: bytes, value: bytes) -> None:
        transaction.put(key, value, db=environment.table(table))

    put(HEADERS, number, to_bytes(block.header))
    put(BLOCKS, number, to_bytes(block))
    put(BODIES, number, encode(decided.transactions))
    put(COMMITS, number, commit_row(decided.commit, canonical=False))
    if block.last_commit is not None:
        put(COMMITS, height_row(block.header.height - 1), commit_row(block.last_commit, canonical=True))
    put(RESULTS, number, encode_array([result.encoded for result in decided.results]))
    put(BLOCK_IDS, block.id, number)
    _put_chain_state(transaction, environment, former, decided.chain_state)
    yield
    table = environment.table(TRANSACTIONS)
    for index, id_ in enumerate(block.transaction_ids):
        transaction.put(id_, number + index.to_bytes(4, "big"), db=table)
        if index % SLICE_PUTS == SLICE_PUTS - 1:
            yield
    senders = decided.senders
    if senders is None:
        senders = senders_of(decided.transactions)
        yield
    write_places(transaction, environment.table(PLACES), block.header.height, decided.results, senders)
    yield


class Blocks:
    """Reads of decided heights. Each raises KeyError for a height that is not stored."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def block(self, height: int) -> Block:
        """The block at *height*, without bodies."""
        return self._record(Block, BLOCKS, height)

    def header(self, height: int) -> Header:
        """The header at *height*."""
        return self._record(Header, HEADERS, height)

    def transactions(self, height: int) -> tuple[bytes, ...]:
        """The complete bytes of the transactions at *height*, in order."""
        rows = decode(self._row(BODIES, height), bytes_max=ROW_BYTES_MAX)
        assert isinstance(rows, tuple)
        return rows  # type: ignore[return-value]  # `put_block` wrote bytes

    def results(self, height: int) -> tuple[Result, ...]:
        """The results at *height*: ``begin``, each transaction, ``end``."""
        rows: tuple[Result, ...] = shape_of(tuple[Result, ...]).from_wire(
            decode(self._row(RESULTS, height), bytes_max=ROW_BYTES_MAX)
        )
        return rows

    def commit(self, height: int) -> tuple[Commit, bool]:
        """The commit for *height*, and whether it is the canonical one, which the next block brought."""
        row = decode(self._row(COMMITS, height), bytes_max=ROW_BYTES_MAX)
        assert isinstance(row, tuple)
        commit: Commit = shape_of(Commit).from_wire(row[1])
        return commit, bool(row[0])

    def validators(self, height: int) -> ValidatorSet:
        """The members and powers that decide *height*, priorities 0."""
        return self._since(ValidatorSet, VALIDATORS, height)

    def params(self, height: int) -> Params:
        """The parameters in force at *height*."""
        return self._since(Params, PARAMS, height)

    def height_of(self, block_id: bytes) -> int | None:
        """The height of a decided block, None if there is no such block."""
        row = self._environment.get(BLOCK_IDS, block_id) if block_id else None
        return None if row is None else int.from_bytes(row, "big")

    def find_transaction(self, id_: bytes) -> tuple[int, int] | None:
        """Height and index (from 0) of a transaction, None if it was not decided."""
        row = self._environment.get(TRANSACTIONS, id_) if id_ else None
        return None if row is None else (int.from_bytes(row[:8], "big"), int.from_bytes(row[8:], "big"))

    def chain_state(self) -> ChainState | None:
        """After the latest block; None in an empty store."""
        row = self.meta(CHAIN_STATE)
        return None if row is None else from_bytes(ChainState, row, bytes_max=ROW_BYTES_MAX)

    def meta(self, key: bytes) -> bytes | None:
        """The fact *key* of `node.store_meta`; None if it is not written."""
        return read_meta(self._environment, key)

    def _row(self, table: str, height: int) -> bytes:
        row = self._environment.get(table, height_row(height)) if 0 <= height <= INTEGER_MAX else None
        if row is None:
            raise KeyError(f"height {height} is not stored")
        return row

    def _record(self, kind: type[_T], table: str, height: int) -> _T:
        return from_bytes(kind, self._row(table, height), bytes_max=ROW_BYTES_MAX)

    def _since(self, kind: type[_T], table: str, height: int) -> _T:
        """The latest record written for a height not above *height*."""
        found = self._environment.last_at_or_before(table, height_row(height)) if height >= 1 else None
        if found is None:
            raise KeyError(f"height {height} is not stored")
        return from_bytes(kind, found[1], bytes_max=ROW_BYTES_MAX)


def _put_chain_state(
    transaction: lmdb.Transaction[bytes], environment: Environment, former: ChainState | None, following: ChainState
) -> None:
    """The chain state is put, and set and parameters of the next height where they differ from the former ones."""
    put_meta(transaction, environment, CHAIN_STATE, to_bytes(following))
    next_height = height_row(following.height + 1)
    if former is None or former.set_since != following.set_since:
        transaction.put(
            next_height, to_bytes(without_priorities(following.validators)), db=environment.table(VALIDATORS)
        )
    if former is None or former.params != following.params:
        transaction.put(next_height, to_bytes(following.params), db=environment.table(PARAMS))


def commit_row(commit: Commit, *, canonical: bool) -> bytes:
    """The row of table ``commits`` for *commit*."""
    return encode((canonical, shape_of(Commit).to_wire(commit)))


def senders_of(transactions: Sequence[bytes]) -> tuple[bytes | None, ...]:
    """The senders of decided *transactions*, from their bytes."""
    return tuple([_sender(raw) for raw in transactions])


def _sender(raw: bytes) -> bytes | None:
    fields = decode(raw, bytes_max=ROW_BYTES_MAX)
    assert isinstance(fields, tuple)
    sender = fields[2]
    assert sender is None or isinstance(sender, bytes), "a decided block holds well-formed transactions"
    return sender


def height_row(height: int) -> bytes:
    """8 bytes: the key of *height*."""
    return height.to_bytes(8, "big")
