"""Queues and credit: nothing is lost, nothing exceeds its bound, and a rate is kept by giving credit late."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.codec import BadMessage
from p2p import frames
from p2p.channel import MESSAGE_OVERHEAD_BYTES, Channel, Inbox, Outbox, Traffic
from p2p.records import RECORD_PLAINTEXT_MAX
from tests.p2p.nodes import channel

SMALL = channel(1, message_bytes_max=5_000, receive_window_bytes=12_000, send_queue_messages_max=50)


def ends(of: Channel) -> tuple[Outbox, Inbox]:
    return Outbox(of, of.receive_window_bytes, of.message_bytes_max, Traffic()), Inbox(of, 0.0, Traffic())


def deliver(sections: list[bytes], inbox: Inbox) -> None:
    for section in sections:
        for kind, _, total, messages in frames.read_sections(section):
            if kind == frames.WHOLE:
                inbox.whole(messages)
            elif kind == frames.BEGIN:
                inbox.begin(total, messages[0])
            else:
                inbox.more(messages[0])


def take_all(inbox: Inbox) -> list[bytes]:
    messages = list(inbox.queue)
    inbox.queue.clear()
    inbox.taken(len(messages), sum(map(len, messages)))
    return messages


@given(st.lists(st.integers(0, 5_000), max_size=40), st.data())
def test_whatever_is_offered_arrives_in_order_whatever_the_space_and_the_pace(
    sizes: list[int], data: st.DataObject
) -> None:
    """The invariant of credit: the sender never exceeds it, and never stands still once the service has taken all."""
    outbox, inbox = ends(SMALL)
    messages = [bytes([index % 256]) * size for index, size in enumerate(sizes)]
    waiting = list(messages)
    arrived: list[bytes] = []
    for turn in range(200):
        while waiting and outbox.offer(waiting[0]):
            waiting.pop(0)
        fair = turn >= 40  # in the end there is space, and the service takes what waits
        space = RECORD_PLAINTEXT_MAX if fair else data.draw(st.integers(0, 8_000))
        sections = outbox.take(space)
        assert sum(map(len, sections)) <= space
        deliver(sections, inbox)
        if fair or data.draw(st.booleans()):
            arrived += take_all(inbox)
            size, _ = inbox.grant(float(turn))
            if size:
                outbox.add_credit(size)
        if len(arrived) == len(messages):
            break
    assert arrived == messages


def test_a_full_queue_refuses_and_says_how_much_room_there_is() -> None:
    outbox, _ = ends(channel(1, send_queue_messages_max=3))
    assert outbox.room() == 3
    assert [outbox.offer(b"x") for _ in range(4)] == [True, True, True, False]
    assert outbox.room() == 0
    outbox.take(RECORD_PLAINTEXT_MAX)
    assert outbox.room() == 3


def test_the_bytes_of_a_queue_are_bounded_by_the_window() -> None:
    outbox, _ = ends(channel(1, message_bytes_max=1_000, receive_window_bytes=3_000, send_queue_messages_max=1_000))
    taken = sum(outbox.offer(bytes(1_000)) for _ in range(100))
    assert taken == 3
    assert outbox.room() == 0


def test_a_message_above_our_own_limit_is_our_defect_and_above_theirs_is_refused() -> None:
    outbox = Outbox(SMALL, 12_000, 100, Traffic())
    with pytest.raises(AssertionError):
        outbox.offer(bytes(5_001))
    assert not outbox.offer(bytes(101))
    assert outbox.offer(bytes(100))


def test_a_window_that_can_not_hold_the_largest_message_is_our_defect() -> None:
    with pytest.raises(AssertionError, match="window"):
        channel(1, message_bytes_max=1_000, receive_window_bytes=1_000)


def test_the_sender_stops_at_its_credit_and_goes_on_with_more() -> None:
    outbox, inbox = ends(SMALL)
    for _ in range(20):
        assert outbox.offer(bytes(1_000)) or True
    deliver(outbox.take(RECORD_PLAINTEXT_MAX), inbox)
    held = len(inbox.queue)
    assert held == SMALL.receive_window_bytes // (1_000 + MESSAGE_OVERHEAD_BYTES)
    assert outbox.take(RECORD_PLAINTEXT_MAX) == []
    take_all(inbox)
    size, due = inbox.grant(0.0)
    assert size == held * (1_000 + MESSAGE_OVERHEAD_BYTES)
    assert due == math.inf
    outbox.add_credit(size)
    assert outbox.take(RECORD_PLAINTEXT_MAX) != []


@pytest.mark.parametrize("size", [0, 1_000])
def test_more_than_the_credit_is_a_bad_message(size: int) -> None:
    _, inbox = ends(SMALL)
    fits = SMALL.receive_window_bytes // (size + MESSAGE_OVERHEAD_BYTES)
    for _ in range(fits):
        inbox.whole([bytes(size)])
    with pytest.raises(BadMessage) as refused:
        inbox.whole([bytes(size)])
    assert refused.value.code == "bad_message.beyond_credit"


def test_a_large_message_is_charged_when_it_begins() -> None:
    _, inbox = ends(SMALL)
    inbox.begin(5_000, b"x")
    inbox.more(bytes(4_999))
    inbox.begin(5_000, b"x")
    inbox.more(bytes(4_999))
    with pytest.raises(BadMessage) as refused:
        inbox.begin(5_000, b"x")
    assert refused.value.code == "bad_message.beyond_credit"


@pytest.mark.parametrize(
    ("acts", "code"),
    [
        (lambda inbox: inbox.whole([bytes(5_001)]), "bad_message.too_large"),
        (lambda inbox: inbox.begin(5_001, b"x"), "bad_message.too_large"),
        (lambda inbox: inbox.begin(1, b"x"), "bad_message.frame"),
        (lambda inbox: inbox.more(b"x"), "bad_message.frame"),
        (lambda inbox: (inbox.begin(3, b"x"), inbox.whole([b"y"])), "bad_message.frame"),
        (lambda inbox: (inbox.begin(3, b"x"), inbox.begin(3, b"y")), "bad_message.frame"),
        (lambda inbox: (inbox.begin(3, b"x"), inbox.more(b"yyy")), "bad_message.frame"),
    ],
)
def test_a_broken_order_of_pieces_is_a_bad_message(acts: object, code: str) -> None:
    _, inbox = ends(SMALL)
    assert callable(acts)
    with pytest.raises(BadMessage) as refused:
        acts(inbox)
    assert refused.value.code == code


def test_a_message_in_tiny_pieces_takes_no_more_memory_than_its_bytes() -> None:
    total = 400_000
    _, inbox = ends(channel(1, message_bytes_max=total, receive_window_bytes=2 * total))
    more = frames.more_section(1, b"xy") * 1_000
    tracemalloc.start()
    try:
        inbox.begin(total, b"ab")
        for _ in range(total // 2_000 - 1):
            deliver([more], inbox)
        assert tracemalloc.get_traced_memory()[0] < 2 * total
    finally:
        tracemalloc.stop()
    deliver([frames.more_section(1, b"xy") * 999], inbox)
    assert inbox.queue[0] == b"ab" + b"xy" * (total // 2 - 1)


def test_invented_credit_is_a_bad_message() -> None:
    outbox, _ = ends(SMALL)
    with pytest.raises(BadMessage) as refused:
        outbox.add_credit(1)
    assert refused.value.code == "bad_message.credit"


def test_credit_comes_back_no_faster_than_the_rate() -> None:
    slow = channel(1, message_bytes_max=936, receive_window_bytes=10_000, bytes_per_second_max=1_000)
    _, inbox = ends(slow)
    inbox.whole([bytes(936)] * 10)
    take_all(inbox)
    assert inbox.grant(0.0) == (10_000, math.inf)  # the burst: one window
    inbox.whole([bytes(936)] * 6)
    take_all(inbox)
    size, due = inbox.grant(0.0)
    assert (size, due) == (0, 6.0)
    assert inbox.grant(5.9)[0] == 0
    assert inbox.grant(6.0)[0] == 6_000


def test_credit_is_gathered_until_half_a_window_unless_the_sender_may_be_stuck() -> None:
    wide = channel(1, message_bytes_max=936, receive_window_bytes=100_000)
    _, inbox = ends(wide)
    inbox.whole([bytes(936)] * 10)
    take_all(inbox)
    assert inbox.grant(0.0)[0] == 0
    inbox.whole([bytes(936)] * 40)
    take_all(inbox)
    assert inbox.grant(0.0)[0] == 50_000


def test_a_long_queue_leaves_space_for_others_by_being_cut() -> None:
    outbox, inbox = ends(channel(1))
    message = bytes(range(256)) * 700
    assert outbox.offer(message)
    while outbox:
        sections = outbox.take(10_000)
        assert sum(map(len, sections)) <= 10_000
        deliver(sections, inbox)
    assert take_all(inbox) == [message]
