"""Channels: what they are, and the two ends of one at one peer, with credit in between.

Credit: a sender may have at most a window of bytes under way that the other side's service has not taken yet. The
window is the receiver's; the receiver gives credit back as its service takes messages. So whatever arrives has a
place, the reader never waits, and a slow service slows its own channel of that peer and nothing else. The rate
limit works the same way: credit comes back no faster than `Channel.bytes_per_second_max`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from consensus.codec import BadMessage
from p2p import frames

MESSAGE_OVERHEAD_BYTES = 64
"""What each message costs in credit and in queues beside its bytes, so that empty messages are bounded too."""
CONTROL = 0
"""The channel that p2p itself uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A stream of messages of one subject between two peers; both must declare it alike."""

    id: int
    """1…255; 0 is p2p's own."""
    name: str
    priority: int
    """What waits on a channel of higher priority is sent first; equal priorities by id."""
    message_bytes_max: int
    send_queue_messages_max: int
    """Beyond that `offer` refuses and `send` waits. The queue's bytes are bounded too, by the receive window."""
    receive_window_bytes: int
    """Bytes of messages (each with MESSAGE_OVERHEAD_BYTES more) that may be under way or wait for our service."""
    bytes_per_second_max: int
    """What one peer may send us on this channel, in the long run; a window more in a burst."""

    def __post_init__(self) -> None:
        assert 1 <= self.id <= 255, "channel ids are 1…255"
        assert self.message_bytes_max >= 1
        assert self.send_queue_messages_max >= 1
        assert self.bytes_per_second_max >= 1
        assert self.receive_window_bytes >= self.message_bytes_max + MESSAGE_OVERHEAD_BYTES, (
            f"channel {self.name}: the window must hold the largest message and {MESSAGE_OVERHEAD_BYTES} bytes"
        )


@dataclass(slots=True)
class Traffic:
    """What has passed over one channel; only grows."""

    bytes_sent: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0

    def add(self, other: Traffic) -> None:
        """*other* is counted in here too."""
        self.bytes_sent += other.bytes_sent
        self.bytes_received += other.bytes_received
        self.messages_sent += other.messages_sent
        self.messages_received += other.messages_received


class Outbox:
    """The sending end: a bounded queue, the other side's credit, and at most one large message under way."""

    __slots__ = (
        "_bytes",
        "_credit",
        "_message_bytes_max",
        "_queue",
        "_rest",
        "_rest_at",
        "_traffic",
        "_window",
        "channel",
    )

    def __init__(self, channel: Channel, window: int, message_bytes_max: int, traffic: Traffic) -> None:
        """*window*, *message_bytes_max*: the other side's limits in bytes."""
        self.channel = channel
        self._window = self._credit = window
        self._message_bytes_max = message_bytes_max
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._rest = b""
        self._rest_at = 0
        self._traffic = traffic

    def __len__(self) -> int:
        """Messages that wait, the one under way included."""
        return len(self._queue) + bool(self._rest)

    def add_credit(self, size: int) -> None:
        """*size* bytes more may be sent. Raises BadMessage if that would exceed the window: they invented it."""
        self._credit += size
        if self._credit > self._window:
            raise BadMessage(f"credit beyond the window of channel {self.channel.name}", "bad_message.credit")

    def fits(self, message: bytes) -> bool:
        """Whether the other side takes messages of this size at all."""
        return len(message) <= self._message_bytes_max

    def room(self) -> int:
        """How many messages `offer` would take now, as long as they are small."""
        if self._bytes > self.channel.receive_window_bytes:
            return 0
        return self.channel.send_queue_messages_max - len(self._queue)

    def offer(self, message: bytes) -> bool:
        """Whether *message* is in the queue now; False if that is full."""
        channel = self.channel
        size = len(message)
        assert size <= channel.message_bytes_max, (
            f"channel {channel.name}: {size} bytes, at most {channel.message_bytes_max}"
        )
        if len(self._queue) >= channel.send_queue_messages_max or self._bytes > channel.receive_window_bytes:
            return False
        if size > self._message_bytes_max:
            return False
        self._queue.append(message)
        self._bytes += size + MESSAGE_OVERHEAD_BYTES
        return True

    def take(self, space: int) -> list[bytes]:
        """Sections of at most *space* bytes in all, with whatever may be sent now; they leave the queue."""
        sections = []
        if self._rest:
            if space <= frames.HEADER_BYTES:
                return []
            piece = self._next_piece(space - frames.HEADER_BYTES)
            sections.append(frames.more_section(self.channel.id, piece))
            space -= frames.HEADER_BYTES + len(piece)
        batch = self._take_whole(space)
        if batch:
            sections.append(frames.whole_section(self.channel.id, batch))
            space -= len(sections[-1])
        if space >= frames.SPLIT_BYTES_MIN and self._next_does_not_fit():
            message = self._pop()
            self._rest, self._rest_at = message, 0
            piece = self._next_piece(space - frames.BEGIN_HEADER_BYTES)
            sections.append(frames.begin_section(self.channel.id, len(message), piece))
        return sections

    def _take_whole(self, space: int) -> list[bytes]:
        if self._rest:
            return []
        queue, credit = self._queue, self._credit
        batch: list[bytes] = []
        space -= frames.HEADER_BYTES
        used = 0
        for message in queue:
            size = len(message)
            space -= size + frames.LENGTH_BYTES
            cost = size + MESSAGE_OVERHEAD_BYTES
            if space < 0 or used + cost > credit:
                break
            used += cost
            batch.append(message)
        for _ in batch:
            queue.popleft()
        self._bytes -= used
        self._credit -= used
        traffic = self._traffic
        traffic.messages_sent += len(batch)
        traffic.bytes_sent += used - len(batch) * MESSAGE_OVERHEAD_BYTES
        return batch

    def _next_does_not_fit(self) -> bool:
        """Whether the next message stayed behind for want of space, not of credit, and is worth a cut."""
        if self._rest or not self._queue:
            return False
        size = len(self._queue[0])
        return size > frames.SPLIT_BYTES_MIN and size + MESSAGE_OVERHEAD_BYTES <= self._credit

    def _pop(self) -> bytes:
        message = self._queue.popleft()
        cost = len(message) + MESSAGE_OVERHEAD_BYTES
        self._bytes -= cost
        self._credit -= cost
        self._traffic.messages_sent += 1
        self._traffic.bytes_sent += len(message)
        return message

    def _next_piece(self, size: int) -> bytes:
        start = self._rest_at
        piece = self._rest[start : start + size]
        self._rest_at = start + len(piece)
        if self._rest_at == len(self._rest):
            self._rest = b""
        return piece


class Inbox:
    """The receiving end: messages that wait for the service, the credit we gave, and how fast it goes back."""

    __slots__ = ("_begun", "_given", "_missing", "_pending", "_tokens", "_tokens_at", "_traffic", "channel", "queue")

    def __init__(self, channel: Channel, now: float, traffic: Traffic) -> None:
        """*now*: seconds on the clock that `grant` is asked with."""
        self.channel = channel
        self.queue: deque[bytes] = deque()
        self._given = channel.receive_window_bytes
        self._pending = 0
        self._begun = bytearray()  # a list of pieces would hold an object for each, however small
        self._missing = 0
        self._tokens = float(channel.receive_window_bytes)
        self._tokens_at = now
        self._traffic = traffic

    def whole(self, messages: list[bytes]) -> None:
        """*messages* wait for the service. Raises BadMessage if the sender broke a limit."""
        if self._missing:
            raise BadMessage("a message inside another one", "bad_message.frame")
        size = sum(map(len, messages))
        if len(max(messages, key=len)) > self.channel.message_bytes_max:
            raise BadMessage(f"too large for channel {self.channel.name}", "bad_message.too_large")
        self._charge(size + MESSAGE_OVERHEAD_BYTES * len(messages))
        self._traffic.bytes_received += size
        self._traffic.messages_received += len(messages)
        self.queue.extend(messages)

    def begin(self, total: int, piece: bytes) -> None:
        """The first *piece* of a message of *total* bytes is kept. Raises BadMessage if the sender broke a limit."""
        if self._missing:
            raise BadMessage("a message inside another one", "bad_message.frame")
        if total > self.channel.message_bytes_max:
            raise BadMessage(f"too large for channel {self.channel.name}", "bad_message.too_large")
        if len(piece) >= total:
            raise BadMessage("a piece as long as its message", "bad_message.frame")
        self._charge(total + MESSAGE_OVERHEAD_BYTES)
        self._begun += piece
        self._missing = total - len(piece)
        self._traffic.bytes_received += len(piece)

    def more(self, piece: bytes) -> None:
        """The next *piece* is kept; the last one makes the message wait for the service. Raises BadMessage."""
        if len(piece) > self._missing:
            raise BadMessage("a piece of nothing", "bad_message.frame")
        self._begun += piece
        self._missing -= len(piece)
        self._traffic.bytes_received += len(piece)
        if self._missing == 0:
            self.queue.append(bytes(self._begun))
            self._begun = bytearray()
            self._traffic.messages_received += 1

    def taken(self, count: int, size: int) -> None:
        """The service has taken *count* messages of *size* bytes together; their credit may go back."""
        self._pending += size + count * MESSAGE_OVERHEAD_BYTES

    def grant(self, now: float) -> tuple[int, float]:
        """Credit in bytes to give back at once (0: none), and when to ask again (infinity: after the next `taken`)."""
        pending = self._pending
        window = self.channel.receive_window_bytes
        if pending == 0:
            return 0, math.inf
        short = self._given < self.channel.message_bytes_max + MESSAGE_OVERHEAD_BYTES  # the largest may be waiting
        if not short and 2 * pending < window:
            return 0, math.inf
        rate = self.channel.bytes_per_second_max
        self._tokens = min(float(window), self._tokens + (now - self._tokens_at) * rate)
        self._tokens_at = now
        if self._tokens < pending:
            return 0, now + (pending - self._tokens) / rate
        self._tokens -= pending
        self._pending = 0
        self._given += pending
        return pending, math.inf

    def _charge(self, cost: int) -> None:
        if cost > self._given:
            raise BadMessage(f"beyond the credit of channel {self.channel.name}", "bad_message.beyond_credit")
        self._given -= cost
