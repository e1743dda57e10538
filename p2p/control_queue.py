"""What waits to be said on channel 0 at one peer: one ping, one pong, one credit per channel, a few sayings."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from consensus.codec import BadMessage
from p2p import control, frames
from p2p.channel import CONTROL
from p2p.limits import Limits

SAYINGS_MAX = 8
"""Other control messages that wait; more are dropped."""


class ControlQueue:
    """Pings, pongs, credits and the rest, and what the pongs told."""

    def __init__(self, limits: Limits, now: float, wall_ms: Callable[[], int]) -> None:
        """*now*: seconds on trio's clock; *wall_ms*: Unix milliseconds, for the skew between nodes' clocks."""
        self.round_trip_ms: float | None = None
        self.clock_skew_ms: int | None = None
        self.farewell = ""
        """Why the other side leaves, once it has said so."""
        self.ping_due = now
        self._limits = limits
        self._wall_ms = wall_ms
        self._number = 0
        self._pinged_at: float | None = None
        self._pinged_wall_ms = 0
        self._pong: int | None = None
        self._credits: dict[int, int] = {}
        self._sayings: deque[bytes] = deque()
        self._allowance = 2.0 * limits.control_messages_per_second
        self._allowance_at = now

    @property
    def something_to_say(self) -> bool:
        """Whether `take` has something besides pings that are not due."""
        return bool(self._credits or self._sayings or self._pong is not None)

    def say(self, message: control.ControlMessage) -> None:
        """*message* waits to be sent; dropped if SAYINGS_MAX wait already."""
        if len(self._sayings) < SAYINGS_MAX:
            self._sayings.append(control.encode_control(message))

    def credit(self, channel_id: int, size: int) -> None:
        """*size* bytes more of credit wait to be given for the channel."""
        self._credits[channel_id] = self._credits.get(channel_id, 0) + size

    def ping_now(self) -> None:
        """A ping is due at once."""
        self.ping_due = 0.0

    def charge(self, count: int, now: float) -> None:
        """*count* control messages arrived. Raises BadMessage when there are too many a second."""
        rate = self._limits.control_messages_per_second
        self._allowance = min(2.0 * rate, self._allowance + (now - self._allowance_at) * rate) - count
        self._allowance_at = now
        if self._allowance < 0:
            raise BadMessage("too many control messages", "bad_message.control_flood")

    def hear(self, message: control.ControlMessage, now: float) -> bool:
        """Whether *message* was a ping, a pong or a farewell, which are dealt with here."""
        match message:
            case control.Ping(number):
                self._pong = number
            case control.Pong(number, time_ms):
                self._measure(number, time_ms, now)
            case control.Leaving(reason):
                self.farewell = f"they_left.{reason}" if reason.isascii() and reason.isprintable() else "they_left"
            case _:
                return False
        return True

    def take(self, now: float) -> list[bytes]:
        """The sections to send now; empty if there is nothing to say. They leave the queue."""
        messages = []
        if self._pong is not None:
            messages.append(control.encode_control(control.Pong(self._pong, self._wall_ms())))
            self._pong = None
        if now >= self.ping_due:
            messages.append(self._ping(now))
        if self._credits:
            messages += [control.encode_control(control.Credit(*credit)) for credit in self._credits.items()]
            self._credits.clear()
        if self._sayings:
            messages.append(self._sayings.popleft())  # one a record: an answer with addresses may be large
        return [frames.whole_section(CONTROL, messages)] if messages else []

    def _ping(self, now: float) -> bytes:
        self._number += 1
        self._pinged_at = now
        self._pinged_wall_ms = self._wall_ms()
        self.ping_due = now + self._limits.ping_interval_seconds
        return control.encode_control(control.Ping(self._number))

    def _measure(self, number: int, time_ms: int, now: float) -> None:
        if number != self._number or self._pinged_at is None:
            return
        self.round_trip_ms = (now - self._pinged_at) * 1_000
        if time_ms:
            self.clock_skew_ms = time_ms - (self._pinged_wall_ms + self._wall_ms()) // 2
        self._pinged_at = None
