"""Whether a stored chain is what its own hashes and signatures say: after a restore, or when a disk is suspected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from consensus.chain import params_hash, results_hash
from consensus.codec import BadMessage
from consensus.jellyfish import application_hash
from consensus.signing import sha256
from consensus.validity import InvalidBlock, contents_belong, verify_commit
from node.retention import BLOCKS, RESULTS
from node.state import StateGone
from node.store import Store, StoreFailed


def check_store(store: Store, genesis_hash: bytes, tell: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Every kept block leads to the next, with its transactions, results, set and commit; the latest state is its tree.

    And the chain begins with *genesis_hash*. Reads all of it and waits for nothing. Raises StoreFailed naming the first
    thing that does not hold.
    """
    chain = store.chain_state()
    if chain is None or chain.genesis_hash != genesis_hash:
        raise StoreFailed("the chain is not the one of this genesis file")
    first = store.kept.earliest[BLOCKS]
    for height in range(first, store.height + 1):
        with _must_hold(f"height {height}"):
            _check_height(store, chain.chain_id, height, is_first=height == first)
        tell(height - first + 1, store.height - first + 1)
    with _must_hold("the latest state"):
        if store.height and store.header(store.height).id != chain.block_id:
            raise StoreFailed("the latest block is not the one that the chain's state names")
        store.check_state()
        if store.height and application_hash(store.module_roots(store.height)) != chain.app_hash:
            raise StoreFailed("the state is not the one that the latest header commits to")


def check_latest(store: Store) -> None:
    """The state that the next block builds on is that of the latest header; for every start. Raises StoreFailed."""
    chain = store.chain_state()
    if chain is None or chain.height == 0:
        return
    header = store.header(chain.height)
    said = (chain.block_id, chain.time_ms, chain.app_hash, chain.last_validators.hash, chain.validators.hash)
    signed = (header.id, header.time_ms, header.app_hash, header.validators_hash, header.next_validators_hash)
    if said != signed:
        raise StoreFailed(
            f"the chain's state at height {chain.height} is not that of its header: the disk changed it. Check the "
            "disk, then restore a backup, or move the folder data/chain away: the node catches up from its peers"
        )


@contextmanager
def _must_hold(what: str) -> Iterator[None]:
    """Rows that are missing or no rows of a store mean that *what* does not hold. Raises StoreFailed."""
    try:
        yield
    except (KeyError, AssertionError, BadMessage, InvalidBlock, StateGone) as error:
        raise StoreFailed(f"{what} does not hold: {error or type(error).__name__}") from error


def _check_height(store: Store, chain_id: str, height: int, *, is_first: bool) -> None:
    block, header = store.block(height), store.header(height)
    _require(header == block.header and header.height == height, "another height's block")
    _require(contents_belong(block), "the parts of the block are not those of its header")
    if not is_first:
        _require(header.last_block_id == store.header(height - 1).id, "the block before it is another")
    ids = tuple(sha256(raw) for raw in store.block_transactions(height))
    _require(ids == block.transaction_ids, "the transactions are not those of the block")
    if height >= store.kept.earliest[RESULTS]:
        _require(header.results_hash == results_hash(store.results(height)), "the results are not those of the header")
    validators = store.validators_at(height)
    _require(header.validators_hash == validators.hash, "the validators are not those of the header")
    _require(header.params_hash == params_hash(store.params_at(height)), "the parameters are not those of the header")
    verify_commit(chain_id, validators, store.commit_of(height)[0], header.id)


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise BadMessage(text)
