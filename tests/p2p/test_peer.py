"""One peer: what ends it, what does not, and what it owes to others while one of its services is slow."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing

from consensus.codec import BadMessage
from p2p import frames
from p2p.channel import Channel
from p2p.control import AskAddresses, Credit, Leaving, Ping, Pong, decode_control
from p2p.handshake import Session
from p2p.limits import Limits
from p2p.peer import BAD_MESSAGE_POINTS, Peer
from tests.p2p.nodes import Bench, channel, identity, idle, make_bench, session_pair, until


async def swallow(peer: Peer) -> None:
    """A service that takes everything at once."""
    while True:
        await peer.receive_batch(1)


def control_messages(sections: list[frames.Section]) -> list[object]:
    return [decode_control(data) for _, channel_id, _, messages in sections if channel_id == 0 for data in messages]


async def keep_quiet(bench: Bench) -> None:
    """The stranger reads, but says nothing."""
    await bench.stranger.read_until_closed()


async def test_a_silent_peer_is_dropped_at_the_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench()
    nursery.start_soon(keep_quiet, bench)
    began = trio.current_time()
    await bench.run(idle)
    assert bench.reason == "silent"
    assert trio.current_time() - began == pytest.approx(60.0)
    assert bench.penalties == []


async def test_a_peer_that_answers_pings_stays(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    bench = await make_bench()

    async def answer() -> None:
        data = b""
        while True:
            for plaintext in bench.stranger.session.reader.feed(data):
                for message in control_messages(frames.read_sections(plaintext)):
                    if isinstance(message, Ping):
                        await trio.sleep(0.25)
                        await bench.stranger.say(Pong(message.number, 1_800_000_003_125))
            data = bytes(await bench.stranger.stream.receive_some())

    nursery.start_soon(answer)
    nursery.start_soon(bench.run, idle)
    await trio.sleep(1)
    assert bench.peer.round_trip_ms == pytest.approx(250)
    assert bench.peer.clock_skew_ms is not None
    assert bench.peer.clock_skew_ms == pytest.approx(3_000, abs=1)  # half the round trip is accounted for
    await trio.sleep(600)
    assert bench.reason is None
    nursery.cancel_scope.cancel()


async def test_pings_are_answered_while_every_service_sleeps(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench()
    nursery.start_soon(bench.run, idle)
    await trio.testing.wait_all_tasks_blocked()
    await bench.stranger.send_plaintext(frames.whole_section(1, [b"never taken"] * 100))
    await bench.stranger.say(Ping(77))
    pongs: list[Pong] = []
    while not pongs:
        for plaintext in bench.stranger.session.reader.feed(bytes(await bench.stranger.stream.receive_some())):
            pongs += [m for m in control_messages(frames.read_sections(plaintext)) if isinstance(m, Pong)]
    assert pongs == [Pong(77, pongs[0].time_ms)]
    assert trio.current_time() < 1
    nursery.cancel_scope.cancel()


async def test_a_peer_that_stops_reading_is_dropped_and_never_blocks_offer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench()

    async def chatter() -> None:
        while True:
            await trio.sleep(5)
            await bench.stranger.say(AskAddresses())

    async def push(peer: Peer) -> None:
        while True:
            peer.offer(1, bytes(50_000))
            await trio.sleep(0.01)

    async def tiny_pipe(peer: Peer) -> None:
        lane = peer._lanes.agreed(1)
        lane.outbox._window = lane.outbox._credit = 10**9  # credit does not save the liar
        await trio.sleep_forever()

    nursery.start_soon(chatter)
    began = trio.current_time()
    with trio.fail_after(100):
        await bench.run(tiny_pipe, push)
    assert bench.reason == "does_not_read"
    assert trio.current_time() - began < 35
    nursery.cancel_scope.cancel()


async def test_a_slow_service_stops_its_own_channel_only(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    slow, fast = channel(1, receive_window_bytes=250_000), channel(2)
    (near, near_session), (far, far_session) = await session_pair_of((slow, fast))
    sender, receiver = peer_of(near, near_session, (slow, fast)), peer_of(far, far_session, (slow, fast))
    got: list[bytes] = []

    async def fill(peer: Peer) -> None:
        while peer.offer(1, bytes(10_000)):
            pass
        for index in range(50):
            await peer.send(2, bytes([index]))
        await trio.sleep_forever()

    async def read_fast(peer: Peer) -> None:
        while True:
            got.append(await peer.receive(2))

    nursery.start_soon(sender.run, {"fill": fill})
    nursery.start_soon(receiver.run, {"read": read_fast})
    await until(lambda: len(got) == 50)
    waiting = sender.waiting()
    assert waiting["channel1"] > 0
    assert waiting["channel2"] == 0
    await trio.sleep(300)
    assert sender.reason == receiver.reason == ""
    nursery.cancel_scope.cancel()


async def test_an_urgent_message_does_not_wait_for_a_large_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bulk = channel(3, priority=1, message_bytes_max=10**7, receive_window_bytes=2 * 10**7)
    votes = channel(1, priority=10)
    bench = await make_bench((votes, bulk))
    order: list[int] = []

    async def speak(peer: Peer) -> None:
        assert peer.offer(3, bytes(10**7))
        await trio.sleep(1)  # the pipe is full now, and the stranger has read nothing yet
        assert peer.offer(1, b"vote")

    nursery.start_soon(bench.run, speak)
    await trio.sleep(2)
    stranger = bench.stranger
    while 1 not in order:
        for plaintext in stranger.session.reader.feed(bytes(await stranger.stream.receive_some())):
            order += [section[1] for section in frames.read_sections(plaintext)]
    assert order.count(3) < 10, "at most what was under way, of more than 150 records"
    nursery.cancel_scope.cancel()


async def test_a_waiting_channel_of_low_priority_keeps_a_share(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    high, low = channel(1, priority=10, receive_window_bytes=10**7), channel(2, priority=1)
    bench = await make_bench((high, low))

    async def speak(peer: Peer) -> None:
        while peer.offer(1, bytes(60_000)):
            pass
        assert peer.offer(2, b"small")

    nursery.start_soon(bench.run, speak)
    await trio.sleep(1)
    records: list[list[frames.Section]] = []
    while len(records) < 2:
        data = bytes(await bench.stranger.stream.receive_some())
        records += map(frames.read_sections, bench.stranger.session.reader.feed(data))
    assert 2 in {section[1] for record in records[:2] for section in record}, "the first may be the ping alone"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("plaintext", "code"),
    [
        (b"", "bad_message.frame"),
        (frames.whole_section(9, [b"x"]), "bad_message.channel"),
        (frames.whole_section(1, [b"x" * 60_000]) * 1, ""),
        (frames.begin_section(1, 200_001, b"x"), "bad_message.too_large"),
        (frames.whole_section(0, [b"garbage"]), "bad_message.trailing_bytes"),
        (frames.begin_section(0, 100, b"x"), "bad_message.control"),
        (frames.whole_section(1, [b""] * 10_000), "bad_message.beyond_credit"),
    ],
)
async def test_a_broken_rule_ends_the_peer_with_its_code(
    plaintext: bytes, code: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench()
    nursery.start_soon(bench.run, idle)
    await trio.testing.wait_all_tasks_blocked()
    await bench.stranger.send_plaintext(plaintext)
    await trio.testing.wait_all_tasks_blocked()
    assert bench.reason == (code or None)
    assert bench.penalties == ([(code, BAD_MESSAGE_POINTS)] if code else [])
    if code:
        farewell = control_messages(await bench.stranger.read_until_closed())[-1]
        assert farewell == Leaving(code)
    nursery.cancel_scope.cancel()


async def test_a_peer_that_sends_beyond_its_credit_is_dropped(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench()
    nursery.start_soon(bench.run, idle)
    with suppress(trio.BrokenResourceError):
        for _ in range(100):
            await bench.stranger.send_plaintext(frames.whole_section(1, [bytes(60_000)]))
    await until(lambda: bench.reason is not None)
    assert bench.reason == "bad_message.beyond_credit"
    nursery.cancel_scope.cancel()


async def test_a_flood_of_pings_is_dropped_and_costs_no_memory(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench(limits=Limits(control_messages_per_second=10))
    nursery.start_soon(bench.run, idle)
    with suppress(trio.BrokenResourceError):
        for number in range(30):
            await bench.stranger.say(Ping(number))
    await until(lambda: bench.reason is not None)
    assert bench.reason == "bad_message.control_flood"
    nursery.cancel_scope.cancel()


async def test_credit_that_was_never_spent_is_refused(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench()
    nursery.start_soon(bench.run, idle)
    await trio.testing.wait_all_tasks_blocked()
    await bench.stranger.say(Credit(1, 1))
    await until(lambda: bench.reason is not None)
    assert bench.reason == "bad_message.credit"
    nursery.cancel_scope.cancel()


async def test_a_tampered_record_ends_the_peer(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    bench = await make_bench()
    nursery.start_soon(bench.run, idle)
    record = bytearray(bench.stranger.session.writer.seal(frames.whole_section(1, [b"x"])))
    record[-1] ^= 1
    await bench.stranger.stream.send_all(record)
    await until(lambda: bench.reason is not None)
    assert bench.reason == "bad_message.undecryptable"
    nursery.cancel_scope.cancel()


async def test_a_service_that_finds_a_bad_message_ends_the_peer_and_nothing_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bench = await make_bench()

    async def serve(peer: Peer) -> None:
        raise BadMessage("a lie", "bad_message.lie")

    await bench.run(serve, idle)
    assert bench.reason == "bad_message.lie"
    assert bench.penalties == [("bad_message.lie", BAD_MESSAGE_POINTS)]


@pytest.mark.parametrize("error", [ValueError("our bug"), AssertionError("ours"), OSError("disk full")])
async def test_an_error_of_ours_passes_the_border(error: Exception, autojump_clock: trio.testing.MockClock) -> None:
    bench = await make_bench()

    async def serve(peer: Peer) -> None:
        raise error

    with pytest.raises(BaseExceptionGroup) as raised:
        await bench.run(serve, idle)
    assert raised.group_contains(type(error), match=str(error))


async def test_the_end_of_the_stream_ends_the_peer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench()
    nursery.start_soon(bench.run, idle)
    await trio.testing.wait_all_tasks_blocked()
    await bench.stranger.stream.aclose()
    await until(lambda: bench.reason is not None)
    assert bench.reason in {"closed", "broken"}
    assert bench.penalties == []


async def test_a_farewell_tells_why(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    bench = await make_bench()
    nursery.start_soon(bench.run, idle)
    await trio.testing.wait_all_tasks_blocked()
    await bench.stranger.say(Leaving("stopping"))
    await bench.stranger.stream.aclose()
    await until(lambda: bench.reason is not None)
    assert bench.reason == "they_left.stopping"


async def test_send_waits_for_room_and_receive_batch_takes_all_that_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    narrow = channel(1, send_queue_messages_max=10)
    (near, near_session), (far, far_session) = await session_pair_of((narrow,))
    sender, receiver = peer_of(near, near_session, (narrow,)), peer_of(far, far_session, (narrow,))
    batches: list[list[bytes]] = []

    async def speak(peer: Peer) -> None:
        assert peer.offer_batch(1, [b"%d" % index for index in range(25)]) == 10
        assert peer.room(1) == 0
        assert not peer.offer(1, b"no room")
        for index in range(10, 100):
            await peer.send(1, b"%d" % index)

    async def listen(peer: Peer) -> None:
        while True:
            batches.append(await peer.receive_batch(1, 7))

    nursery.start_soon(sender.run, {"speak": speak})
    nursery.start_soon(receiver.run, {"listen": listen})
    await until(lambda: sum(map(len, batches)) == 100)
    assert [message for batch in batches for message in batch] == [b"%d" % index for index in range(100)]
    assert max(map(len, batches)) <= 7
    traffic = receiver.traffic()["channel1"]
    assert (traffic.messages_received, traffic.bytes_received) == (100, sum(len(b"%d" % i) for i in range(100)))
    assert receiver.wire.bytes_received > traffic.bytes_received
    nursery.cancel_scope.cancel()


async def test_a_channel_that_the_peer_lacks_takes_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    both, ours_only = channel(1), channel(2)
    (near, near_session), _ = await session_pair_of((both,))
    peer = peer_of(near, near_session, (both, ours_only))
    assert peer.speaks(1)
    assert not peer.speaks(2)
    assert not peer.offer(2, b"x")
    assert peer.offer_batch(2, [b"x"]) == 0
    assert peer.room(2) == 0

    async def serve(peer: Peer) -> None:
        with trio.move_on_after(10) as waiting:
            await peer.receive(2)
        assert waiting.cancelled_caught
        await peer.send(2, b"x")

    assert await peer.run({"serve": serve}) == "channel_missing"


async def test_a_message_that_the_peer_is_too_narrow_for_does_not_wait_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    narrow, wide = channel(1, message_bytes_max=100), channel(1)
    (near, near_session), _ = await session_pair(identity(2, (wide,)), identity(1, (narrow,)))
    peer = peer_of(near, near_session, (wide,))

    async def serve(peer: Peer) -> None:
        assert not peer.offer(1, bytes(101))
        await peer.send(1, bytes(101))

    assert await peer.run({"serve": serve}) == "limits_differ"


async def test_the_rate_of_a_channel_is_kept_without_stopping_the_peer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    slow = channel(1, message_bytes_max=936, receive_window_bytes=10_000, bytes_per_second_max=1_000)
    (near, near_session), (far, far_session) = await session_pair_of((slow,))
    sender, receiver = peer_of(near, near_session, (slow,)), peer_of(far, far_session, (slow,))
    got: list[float] = []

    async def speak(peer: Peer) -> None:
        while True:
            await peer.send(1, bytes(936))

    async def listen(peer: Peer) -> None:
        while True:
            await peer.receive(1)
            got.append(trio.current_time())

    nursery.start_soon(sender.run, {"speak": speak})
    nursery.start_soon(receiver.run, {"listen": listen})
    await trio.sleep(200)
    assert 190 <= len(got) <= 222  # 1,000 bytes a second with the overhead, a window or two in the beginning
    assert sender.reason == receiver.reason == ""
    nursery.cancel_scope.cancel()


async def test_disconnect_ends_the_peer_with_the_reason_and_says_so(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench()

    async def serve(peer: Peer) -> None:
        await trio.sleep(1)
        peer.disconnect("no_use")
        await trio.sleep_forever()

    await bench.run(serve)
    assert bench.reason == "no_use"
    assert control_messages(await bench.stranger.read_until_closed())[-1] == Leaving("no_use")


async def test_a_probe_that_gets_no_answer_drops_the_peer_soon(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = await make_bench()

    async def serve(peer: Peer) -> None:
        peer.probe()
        await trio.sleep_forever()

    nursery.start_soon(keep_quiet, bench)
    began = trio.current_time()
    await bench.run(serve)
    assert bench.reason == "silent"
    assert trio.current_time() - began == pytest.approx(5.0)


async def session_pair_of(
    channels: tuple[Channel, ...],
) -> tuple[tuple[trio.abc.Stream, Session], tuple[trio.abc.Stream, Session]]:
    return await session_pair(identity(2, channels), identity(1, channels))


def peer_of(stream: trio.abc.Stream, session: Session, channels: tuple[Channel, ...]) -> Peer:
    return Peer(
        stream=stream,
        session=session,
        address=None,
        host="elsewhere",
        outbound=True,
        channels=channels,
        limits=Limits(),
        wall_ms=lambda: 0,
        on_control=lambda peer, message: None,
        on_penalty=lambda peer, reason, points: None,
    )
