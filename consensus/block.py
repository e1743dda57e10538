"""Headers, commits and blocks: what a height decides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from consensus.evidence import EVIDENCE_BYTES_MAX
from consensus.params import TRANSACTIONS_MAX, VALIDATORS_MAX
from consensus.shape import U63, Address, Anything, Count, Encoded, Hash, Range, Signature, to_bytes
from consensus.signing import sha256
from consensus.transaction import ChainId, Name
from consensus.vote import Height, Round

HEADER_VERSION = 1
EVIDENCE_MAX = 16


@dataclass(frozen=True)
class Header:
    """Everything that a height's signatures vouch for. The block id is its hash."""

    version: Annotated[int, Range(HEADER_VERSION, HEADER_VERSION)]
    chain_id: ChainId
    height: Height
    time_ms: U63
    last_block_id: Hash
    """The genesis hash in header 1."""
    last_commit_hash: Hash
    transactions_root: Hash
    """RFC 6962 over the ids."""
    validators_hash: Hash
    next_validators_hash: Hash
    params_hash: Hash
    """Those in force at this height."""
    app_hash: Hash
    """After this block."""
    results_hash: Hash
    """RFC 6962 over ``begin``, each transaction, ``end``."""
    evidence_root: Hash
    proposer: Address

    @cached_property
    def id(self) -> bytes:
        """32 bytes: the block id."""
        return sha256(to_bytes(self))


@dataclass(frozen=True, slots=True)
class Signed:
    """One validator's entry in a commit."""

    for_block: bool
    """False: it precommitted nil."""
    signature: Signature


@dataclass(frozen=True)
class Commit:
    """Precommits of more than 2/3 of the power for one block, in the order of the height's set, None where absent."""

    height: Height
    round: Round
    block_id: Hash
    entries: Annotated[tuple[Signed | None, ...], Count(VALIDATORS_MAX)]

    @cached_property
    def hash(self) -> bytes:
        """32 bytes, SHA-256 of the canonical bytes."""
        return sha256(to_bytes(self))


@dataclass(frozen=True, slots=True)
class ModuleRoot:
    """One leaf of the application hash."""

    module: Name
    root: Hash


@dataclass(frozen=True)
class Block:
    """A block without the transactions' bodies, which peers fill in from their mempools."""

    header: Header
    last_commit: Commit | None
    """Of the parent, by the canonical choice of this block's proposer; None in block 1."""
    evidence: Annotated[tuple[Annotated[Anything, Encoded(EVIDENCE_BYTES_MAX)], ...], Count(EVIDENCE_MAX)]
    transaction_ids: Annotated[tuple[Hash, ...], Count(TRANSACTIONS_MAX)]
    module_roots: Annotated[tuple[ModuleRoot, ...], Count(256)]
    """Leaves of the application hash, sorted by name, so that a mismatch names the module."""

    @property
    def id(self) -> bytes:
        """32 bytes: the header's hash."""
        return self.header.id


@dataclass(frozen=True)
class LightBlock:
    """A header with any commit of more than 2/3 for it."""

    header: Header
    commit: Commit
    canonical: bool
    """Whether the commit is the one that the next header chose."""
