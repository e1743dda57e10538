"""What a light client remembers: bounded, never two blocks of a height, and a way back from the nearest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus import light_store
from consensus.light import BadLightBlock, TrustedBlock, TrustedGenesis
from consensus.light_store import TrustedBlocks
from consensus.signing import sha256
from tests.consensus.chain_builder import CHAIN_ID, GENESIS_HASH, GENESIS_TIME_MS, Chain, update


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Ten blocks by one validator."""
    built = Chain((10,))
    built.extend(10)
    return built


def root() -> TrustedGenesis:
    """The genesis of the chain."""
    return TrustedGenesis.of(
        chain_id=CHAIN_ID, genesis_hash=GENESIS_HASH, time_ms=GENESIS_TIME_MS, validators=[update(0, 10)]
    )


def at(chain: Chain, height: int) -> TrustedBlock:
    """*height* of *chain*, believed."""
    return TrustedBlock.of(chain.blocks[height - 1].header, chain.validators_at(height + 1))


def other(block: TrustedBlock) -> TrustedBlock:
    """Another block of the same height."""
    return replace(block, header=replace(block.header, app_hash=sha256(b"other")))


def test_the_latest_is_the_highest_and_the_root_before_any(chain: Chain) -> None:
    store = TrustedBlocks(root())
    assert (store.latest, store.all) == (root(), ())
    for height in (3, 7, 5):
        store.add(at(chain, height))
    assert store.latest == at(chain, 7)
    assert [block.height for block in store.all] == [3, 5, 7]
    assert TrustedBlocks(at(chain, 2), store.all).all == (at(chain, 2), *store.all)


def test_beyond_the_bound_the_oldest_is_forgotten(chain: Chain) -> None:
    store = TrustedBlocks(root(), most=2)
    for height in (5, 4, 6, 3):
        store.add(at(chain, height))
    assert [block.height for block in store.all] == [5, 6]
    store = TrustedBlocks(root(), most=1)
    for height in (5, 4, 6):
        store.add(at(chain, height))
    assert [block.height for block in store.all] == [6]


def test_two_blocks_of_one_height_are_never_believed(chain: Chain) -> None:
    store = TrustedBlocks(root())
    store.add(at(chain, 5))
    store.add(at(chain, 5))
    store.remember(chain.blocks[3].header)
    store.add(at(chain, 4))
    store.remember(chain.blocks[2].header)
    store.remember(chain.blocks[2].header)
    for wrong in (other(at(chain, 5)), other(at(chain, 3))):
        with pytest.raises(BadLightBlock, match="two blocks") as refusal:
            store.add(wrong)
        assert refusal.value.code == "light.two_blocks"
        with pytest.raises(BadLightBlock, match="two blocks"):
            store.remember(wrong.header)


def test_the_way_back_begins_at_the_nearest_block_above(chain: Chain) -> None:
    store = TrustedBlocks(root())
    assert store.above(1) is None
    store.add(at(chain, 9))
    store.remember(chain.blocks[4].header)
    assert store.header(5) == chain.blocks[4].header
    assert store.header(9) == chain.blocks[8].header
    assert store.header(6) is None
    found = {height: store.above(height) for height in (1, 5, 6, 9, 10)}
    assert {height: None if header is None else header.height for height, header in found.items()} == {
        1: 5,
        5: 5,
        6: 9,
        9: 9,
        10: None,
    }


def test_headers_from_ways_back_are_bounded(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_store, "HEADERS_MAX", 3)
    store = TrustedBlocks(at(chain, 10))
    for height in range(9, 4, -1):
        store.remember(chain.blocks[height - 1].header)
    assert [store.header(height) is not None for height in range(4, 11)] == [
        False,
        True,
        True,
        True,
        False,
        False,
        True,
    ]
