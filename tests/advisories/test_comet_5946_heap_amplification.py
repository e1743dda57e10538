"""cometbft#5946: a message well within its size limit became many times its bytes as objects, and filled the heap.

There a filter on the bytes came before decoding. Here the codec refuses what announces more than it brings, a batch of
tiny messages counts for more than its bytes, and large answers that nobody asked for are not decoded at all.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import trio.testing

from consensus.codec import BadMessage, decode, encode
from node.sync_messages import CHANNEL, MESSAGE_BYTES_MAX
from p2p.channel import MESSAGE_OVERHEAD_BYTES, Inbox, Traffic
from tests.node.bench import Bench
from tests.p2p.nodes import channel


def peak_of(data: bytes) -> int:
    """The most memory that refusing or reading *data* took, in bytes."""
    tracemalloc.start()
    try:
        decode(data, bytes_max=len(data))
    except BadMessage:
        pass  # what counts is what it cost
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\x7f\xff\xff\xff" * 1_000,
        b"\xdc\xff\xff" * 20_000,
        b"\x91" * 100_000,
        b"\xc6\x7f\xff\xff\xff" + bytes(100),
        b"\xdf\x7f\xff\xff\xff",
    ],
)
def test_what_announces_more_than_it_brings_costs_no_more_than_its_bytes(bomb: bytes) -> None:
    assert peak_of(bomb) < 20 * len(bomb) + 100_000


def test_the_most_objects_that_bytes_can_become_are_bounded() -> None:
    many = encode(tuple(number.to_bytes(2, "big") for number in range(60_000)))
    assert peak_of(many) < 20 * len(many)


def test_tiny_messages_use_up_credit_as_if_they_were_larger() -> None:
    narrow = channel(receive_window_bytes=10_000, message_bytes_max=1_000)
    inbox = Inbox(narrow, 0.0, Traffic())
    with pytest.raises(BadMessage, match="credit"):
        inbox.whole([b""] * (10_000 // MESSAGE_OVERHEAD_BYTES + 1))
    assert not inbox.queue


def test_a_size_beyond_the_channels_is_refused_when_it_is_announced_not_when_it_has_come() -> None:
    inbox = Inbox(channel(message_bytes_max=1_000), 0.0, Traffic())
    with pytest.raises(BadMessage, match="too large"):
        inbox.begin(1_001, b"x")
    with pytest.raises(BadMessage, match="a piece of nothing"):
        inbox.more(b"x")


async def test_large_answers_that_nobody_asked_for_are_not_decoded(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    monkeypatch.setattr("node.block_sync.from_wire", lambda data: read.append(len(data)))
    flood = encode((1, tuple(number.to_bytes(3, "big") for number in range(500_000))))
    assert len(flood) <= MESSAGE_BYTES_MAX
    async with Bench(tmp_path).running() as bench:
        link = bench.meets(1)
        for _ in range(20):
            link.peer.said[CHANNEL.id].append(flood)
        link.peer.says()
        await trio.testing.wait_all_tasks_blocked()
        assert not link.peer.said[CHANNEL.id], "it was taken from the queue"
        assert read == []
        assert not link.ended.is_set(), "an answer can be late"
