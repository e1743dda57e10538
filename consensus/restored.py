"""The way back from a header and the entries of leaf ``chain`` to the chain state: how a newcomer goes on from a state
that it did not compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from consensus.block import Header
from consensus.chain import ChainState, FormerSet, without_priorities
from consensus.codec import BadMessage, decode
from consensus.params import Params
from consensus.shape import U63, from_bytes, shape_of
from consensus.validators import ValidatorSet

ENTRY_BYTES_MAX = 2**20
"""Larger than a full set, the largest entry of the leaf."""

_T = TypeVar("_T")
_ENDED = shape_of(tuple[U63, U63])
"""Last height of a former set, and that block's time."""


def chain_state_from(
    header: Header, *, genesis_hash: bytes, last_validators: ValidatorSet, entries: Mapping[bytes, bytes]
) -> ChainState:
    """The state after *header*, which is believed, as everyone has it who executed the chain.

    *entries* are all those of leaf ``chain`` after that block (see `consensus.chain.chain_changes`), proved by the
    header's application hash. *last_validators*, the set of the header's own height, is in no leaf: the header names it
    by hash. Raises BadMessage for a set or entries that do not belong to the header.
    """
    validators = _entry(ValidatorSet, entries, b"set\x00")
    if last_validators.hash != header.validators_hash or validators.hash != header.next_validators_hash:
        raise BadMessage("validator sets that are not those of the header", "bad_message.validators")
    set_since = max((since for since, _ in members_in(entries)), default=1)
    return ChainState(
        chain_id=header.chain_id,
        genesis_hash=genesis_hash,
        height=header.height,
        time_ms=header.time_ms,
        block_id=header.id,
        app_hash=header.app_hash,
        last_validators=without_priorities(last_validators),
        validators=validators,
        set_since=set_since,
        former_sets=tuple(_former_sets(entries)),
        params=_entry(Params, entries, b"params\x00"),
    )


def members_in(entries: Mapping[bytes, bytes]) -> Iterator[tuple[int, ValidatorSet]]:
    """The sets that leaf ``chain`` keeps, without priorities, each with its first height, ascending."""
    for since, value in _table(entries, b"members\x00"):
        yield since, from_bytes(ValidatorSet, value, bytes_max=ENTRY_BYTES_MAX)


def _former_sets(entries: Mapping[bytes, bytes]) -> Iterator[FormerSet]:
    for first_height, value in _table(entries, b"former\x00"):
        last_height, last_time_ms = _ENDED.from_wire(decode(value, bytes_max=ENTRY_BYTES_MAX))
        yield FormerSet(first_height, last_height, last_time_ms)


def _table(entries: Mapping[bytes, bytes], prefix: bytes) -> Iterator[tuple[int, bytes]]:
    """The rows of one table with a number for a key, ascending."""
    for key in sorted(entries):
        if key.startswith(prefix):
            yield int.from_bytes(key[len(prefix) :], "big"), entries[key]


def _entry(kind: type[_T], entries: Mapping[bytes, bytes], key: bytes) -> _T:
    value = entries.get(key)
    if value is None:
        raise BadMessage(f"leaf chain has no entry {key!r}", "bad_message.snapshot")
    return from_bytes(kind, value, bytes_max=ENTRY_BYTES_MAX)
