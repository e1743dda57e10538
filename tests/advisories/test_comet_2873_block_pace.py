"""cometbft#2873, tendermint#5911: how fast blocks come was a setting of each node, which a validator could ignore.

ENGINE §2 item 13. Here the block delay is a parameter of the chain, and a block before its time is invalid for all.
"""

from __future__ import annotations

import pytest

from consensus.params import TINY
from consensus.validity import InvalidBlock, check_block
from tests.consensus.chain_builder import Chain


def test_a_block_that_comes_too_early_is_invalid_whatever_its_proposer_has_set() -> None:
    chain = Chain()
    chain.extend(2)
    earliest_ms = chain.state.time_ms + TINY.block_delay_ms
    for hurry_ms in (1, TINY.block_delay_ms, TINY.block_delay_ms + 10_000):
        block, _ = chain.next_block(time_ms=earliest_ms - hurry_ms)
        with pytest.raises(InvalidBlock, match="time"):
            check_block(block, 0, chain.state, chain.leaf)
    block, _ = chain.next_block(time_ms=earliest_ms)
    check_block(block, 0, chain.state, chain.leaf)
