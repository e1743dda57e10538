"""One connected peer: a small nursery with a border.

Inside run the reader, the writer and one task per service. The peer's faults (BadMessage, a broken stream, silence)
end here, with a reason; an exception of ours passes through and stops the node.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
import trio

from consensus.codec import BadMessage
from p2p import control, frames
from p2p.address import PeerAddress
from p2p.channel import CONTROL, Channel, Traffic
from p2p.control_queue import ControlQueue
from p2p.handshake import Hello, Session
from p2p.lanes import Lane, Lanes
from p2p.limits import Limits
from p2p.records import RECORD_PLAINTEXT_MAX

RECEIVE_BYTES = 256 * 1024
"""Asked of the stream at once: several records per call when the peer is busy."""
BAD_MESSAGE_POINTS = 40
"""What a broken rule costs: the third one within the half-life bans."""
TAKES_BEFORE_YIELD = 64
"""Messages that `Peer.receive` hands out without a checkpoint while some wait."""
GOODBYE_SECONDS = 0.2
"""The most that a farewell may take."""
LAST_WORDS_SECONDS = 1.0
"""How long is read on when nothing can be sent any more."""
RATE_SECONDS_MIN = 5.0
"""What a rate is taken over at least."""
_REASONS_OF_THE_STREAM = frozenset({"broken", "closed", "silent", "does_not_read"})

log = structlog.get_logger("p2p")


class PeerGone(Exception):
    """The connection is over, by no fault of ours; the text is the stable reason."""


class Peer:
    """A node that we are connected with. Services use `offer`, `send`, `receive`; the network uses `run`."""

    def __init__(
        self,
        *,
        stream: trio.abc.Stream,
        session: Session,
        address: PeerAddress | None,
        host: str,
        outbound: bool,
        channels: Sequence[Channel],
        limits: Limits,
        wall_ms: Callable[[], int],
        on_control: Callable[[Peer, control.ControlMessage], None],
        on_penalty: Callable[[Peer, str, int], None],
    ) -> None:
        self.id: bytes = session.greeting.node_id
        self.hello: Hello = session.greeting.hello
        self.address = address
        """Where it can be dialled; None if it says nothing about that."""
        self.host = host
        self.outbound = outbound
        self.connected_at = trio.current_time()
        self.reason = ""
        """Why the connection ended; "" while it lasts."""
        self.ended = trio.Event()
        self.useful_at: dict[str, float] = {}
        """Kind of service → when it last brought something new and true (`was_useful`)."""
        self.wire = Traffic()
        """Bytes and records as they pass over the stream, encrypted, all channels together."""
        self.log = log.bind(peer=self.id.hex()[:12], moniker=self.hello.moniker)
        self._stream = stream
        self._session = session
        self._limits = limits
        self._on_control = on_control
        self._on_penalty = on_penalty
        self._control = ControlQueue(limits, self.connected_at, wall_ms)
        self._rate_from = self._rate_at = (0, 0, self.connected_at)
        """Bytes received and sent, and when: what rates count from, and will next."""
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope(deadline=self.connected_at + limits.silence_max_seconds)
        self._writer_lot = trio.lowlevel.ParkingLot()
        self._writer_waits = False
        self._sending = False
        self._broken = False
        self._lanes = Lanes(channels, session.greeting.channels, self.connected_at)

    # --- for services

    def speaks(self, channel_id: int) -> bool:
        """Whether both sides have this channel; otherwise nothing can be sent or received on it."""
        return self._lanes.get(channel_id) is not None

    def offer(self, channel_id: int, message: bytes) -> bool:
        """Whether *message* will be sent; False if the queue is full or the peer lacks the channel. Never waits."""
        lane = self._lanes.get(channel_id)
        if lane is None or not lane.outbox.offer(message):
            return False
        if self._writer_waits:
            self._wake_writer()
        return True

    def offer_batch(self, channel_id: int, messages: Sequence[bytes]) -> int:
        """How many of *messages*, from the first on, will be sent; fewer than all if the queue is full. Never waits."""
        lane = self._lanes.get(channel_id)
        if lane is None:
            return 0
        count = 0
        for message in messages:
            if not lane.outbox.offer(message):
                break
            count += 1
        if count and self._writer_waits:
            self._wake_writer()
        return count

    async def send(self, channel_id: int, message: bytes) -> None:
        """*message* is in the queue, after waiting for room if need be.

        Raises PeerGone if the peer lacks the channel, or takes only smaller messages there.
        """
        await trio.lowlevel.checkpoint()
        lane = self._lanes.get(channel_id)
        if lane is None:
            raise PeerGone("channel_missing")
        if not lane.outbox.fits(message):
            raise PeerGone("limits_differ")
        while not self.offer(channel_id, message):
            await lane.roomy.park()

    def room(self, channel_id: int) -> int:
        """How many small messages `offer` would take now."""
        lane = self._lanes.get(channel_id)
        return lane.outbox.room() if lane else 0

    async def receive(self, channel_id: int) -> bytes:
        """The next message on this channel; waits for ever if the peer lacks it. Taking it gives the sender credit."""
        lane = await self._lane_with_message(channel_id)
        lane.takes += 1
        if lane.takes >= TAKES_BEFORE_YIELD:
            lane.takes = 0
            await trio.lowlevel.checkpoint()
        message = lane.inbox.queue.popleft()
        self._taken(lane, 1, len(message))
        return message

    async def receive_batch(self, channel_id: int, messages_max: int = 1_024) -> list[bytes]:
        """All messages that wait on this channel, at least one, at most *messages_max*: one hop for the whole batch."""
        await trio.lowlevel.checkpoint()
        lane = await self._lane_with_message(channel_id)
        queue = lane.inbox.queue
        if len(queue) <= messages_max:
            batch = list(queue)
            queue.clear()
        else:
            batch = [queue.popleft() for _ in range(messages_max)]
        self._taken(lane, len(batch), sum(map(len, batch)))
        return batch

    def penalise(self, reason: str, points: int) -> None:
        """*points* are counted against the peer for *reason*; enough of them ban it and end the connection."""
        self._on_penalty(self, reason, points)

    def was_useful(self, kind: str) -> None:
        """The peer has just brought us something new and true; it counts when inbound peers must give way."""
        self.useful_at[kind] = trio.current_time()

    def disconnect(self, reason: str) -> None:
        """The connection ends soon, for *reason*."""
        self.reason = self.reason or reason
        self._scope.cancel()

    # --- for the network

    @property
    def round_trip_ms(self) -> float | None:
        """Milliseconds from the latest ping to its pong; None before the first."""
        return self._control.round_trip_ms

    @property
    def clock_skew_ms(self) -> int | None:
        """How far the peer's clock is ahead of ours, in milliseconds, half a round trip unsure; None if not known."""
        return self._control.clock_skew_ms

    def traffic(self) -> dict[str, Traffic]:
        """What has passed, by channel name."""
        return self._lanes.traffic()

    def waiting(self) -> dict[str, int]:
        """Messages that wait to be sent, by channel name."""
        return self._lanes.waiting()

    def rates(self, now: float) -> tuple[float, float]:
        """Bytes a second received and sent, encrypted, since the last but one time that somebody asked or connected."""
        if now - self._rate_at[-1] >= RATE_SECONDS_MIN:
            self._rate_from, self._rate_at = self._rate_at, (self.wire.bytes_received, self.wire.bytes_sent, now)
        received, sent, since = self._rate_from
        seconds = max(now - since, RATE_SECONDS_MIN)
        return (self.wire.bytes_received - received) / seconds, (self.wire.bytes_sent - sent) / seconds

    def say(self, message: control.ControlMessage) -> None:
        """*message* goes out on channel 0 before anything else; dropped when too many wait there."""
        self._control.say(message)
        self._wake_writer()

    def probe(self) -> None:
        """A peer that does not answer within `probe_timeout_seconds` is dropped: it may be long dead."""
        self._control.ping_now()
        self._reading.deadline = min(self._reading.deadline, trio.current_time() + self._limits.probe_timeout_seconds)
        self._wake_writer()

    async def run(self, services: Mapping[str, Callable[[Peer], Awaitable[None]]]) -> str:
        """The peer has been served until it went; returns the stable reason. Closes the stream.

        Exceptions of ours (from services too) pass through.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
                    for name, serve in services.items():
                        nursery.start_soon(serve, self, name=f"{name} {self.id.hex()[:8]}")
        except* PeerGone as gone:
            self.reason = self.reason or str(_first(gone))
        except* BadMessage as bad:
            error = _first(bad)
            assert isinstance(error, BadMessage)
            self.reason = self.reason or error.code
            self.log.warning("peer_broke_rules", code=error.code, why=str(error))
            self.penalise(error.code, BAD_MESSAGE_POINTS)
        finally:
            with trio.CancelScope(shield=True):
                await self._say_goodbye()
                await trio.aclose_forcefully(self._stream)
            self.ended.set()
        return self.reason

    # --- inside

    async def _lane_with_message(self, channel_id: int) -> Lane:
        lane = self._lanes.get(channel_id)
        if lane is None:
            await trio.sleep_forever()
        assert lane is not None
        while not lane.inbox.queue:
            lane.takes = 0
            await lane.arrived.park()
        return lane

    def _taken(self, lane: Lane, count: int, size: int) -> None:
        lane.inbox.taken(count, size)
        self._grant(lane, trio.current_time())

    def _grant(self, lane: Lane, now: float) -> None:
        size, lane.wake_at = lane.inbox.grant(now)
        if size:
            self._control.credit(lane.inbox.channel.id, size)
        if size or lane.wake_at < math.inf:
            self._wake_writer()

    def _wake_writer(self) -> None:
        self._writer_waits = False
        self._writer_lot.unpark()

    async def _read(self) -> None:
        """Everything that arrives is put where it belongs at once: this task waits for nothing but the stream."""
        reader = self._session.reader
        silence_max = self._limits.silence_max_seconds
        data: bytes | bytearray = b""
        with self._reading as scope:
            while True:
                for plaintext in reader.feed(bytes(data)):
                    self.wire.messages_received += 1
                    self._deliver(plaintext)
                try:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                except (trio.BrokenResourceError, OSError) as error:
                    raise PeerGone("broken") from error
                if not data:
                    raise PeerGone(self._control.farewell or "closed")
                self.wire.bytes_received += len(data)
                if not self._broken:
                    scope.deadline = trio.current_time() + silence_max
        raise PeerGone("broken" if self._broken else "silent")

    def _deliver(self, plaintext: bytes) -> None:
        for section in frames.read_sections(plaintext):
            if section[1] == CONTROL:
                self._hear(section[0], section[3])
            else:
                self._lanes.deliver(section)

    def _hear(self, kind: int, messages: list[bytes]) -> None:
        if kind != frames.WHOLE:
            raise BadMessage("a control message in pieces", "bad_message.control")
        now = trio.current_time()
        self._control.charge(len(messages), now)
        for data in messages:
            message = control.decode_control(data)
            if isinstance(message, control.Credit):
                self._take_credit(message)
            elif not self._control.hear(message, now):
                self._on_control(self, message)
        if self._control.something_to_say:
            self._wake_writer()

    def _take_credit(self, credit: control.Credit) -> None:
        self._lanes.agreed(credit.channel_id).outbox.add_credit(credit.size)
        self._wake_writer()

    async def _write(self) -> None:
        """Whatever waits goes out, one record per send, the urgent first; pings and withheld credit go out when due."""
        writer = self._session.writer
        with trio.CancelScope() as scope:
            while True:
                now = trio.current_time()
                plaintext = self._next_plaintext(now)
                if plaintext:
                    scope.deadline = now + self._limits.send_timeout_seconds
                    self._sending = True
                    record = writer.seal(plaintext)
                    try:
                        await self._stream.send_all(record)
                    except (trio.BrokenResourceError, OSError):
                        self._broken = True
                        self._reading.deadline = min(self._reading.deadline, now + LAST_WORDS_SECONDS)
                        return  # the reader ends the peer: what arrived before may say why they left
                    self._sending = False
                    self.wire.bytes_sent += len(record)
                    self.wire.messages_sent += 1
                    scope.deadline = math.inf
                else:
                    self._writer_waits = True
                    with trio.move_on_at(min(self._control.ping_due, self._lanes.next_wake())):
                        await self._writer_lot.park()
                    self._writer_waits = False
        raise PeerGone("does_not_read")

    def _next_plaintext(self, now: float) -> bytes:
        """A record's worth of what waits, control first; empty if nothing does."""
        for lane in self._lanes.withheld(now):
            self._grant(lane, now)
        sections = self._control.take(now)
        sections += self._lanes.pack(RECORD_PLAINTEXT_MAX - sum(map(len, sections)))
        return b"".join(sections)

    async def _say_goodbye(self) -> None:
        """The other side may know why, if the stream takes it almost at once and no record is half sent."""
        if self._sending or self.reason in _REASONS_OF_THE_STREAM or self.reason.startswith("they_left"):
            return
        farewell = control.encode_control(control.Leaving(self.reason or "stopping"))
        with trio.move_on_after(GOODBYE_SECONDS):
            try:
                await self._stream.send_all(self._session.writer.seal(frames.whole_section(CONTROL, [farewell])))
            except (trio.BrokenResourceError, OSError):
                self.log.debug("farewell_not_sent")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
