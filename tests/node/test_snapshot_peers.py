"""A newcomer takes from its peers what it asked for, and reads nothing large that it did not."""

from __future__ import annotations

import random
import tracemalloc
from typing import cast

import pytest
from trio.testing import MockClock

from consensus.codec import BadMessage
from node.snapshot_peers import Sources
from node.sync_messages import CHANNEL
from p2p.peer import Peer
from tests.node.bench import FakePeer


async def test_a_large_answer_that_a_newcomer_did_not_ask_for_ends_the_peer_unread(autojump_clock: MockClock) -> None:
    peer = FakePeer(66)
    many = 1_000_000
    peer.said[CHANNEL.id].append(b"\xdd" + many.to_bytes(4, "big") + b"\x91\x00" * many)
    tracemalloc.start()
    try:
        with pytest.raises(BadMessage) as error:
            await Sources(random.Random(1)).serve(cast(Peer, peer))
        assert tracemalloc.get_traced_memory()[1] < many
    finally:
        tracemalloc.stop()
    assert error.value.code == "bad_message.unasked"
