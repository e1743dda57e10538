"""The channels of one peer side by side: what each has waiting, and what goes into the next record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import trio

from consensus.codec import BadMessage
from p2p import frames
from p2p.channel import Channel, Inbox, Outbox, Traffic
from p2p.handshake import ChannelOffer

SHARE_BYTES = 4_096
"""What a channel that waits gets of each record at least, however busy those of higher priority are."""


@dataclass(slots=True)
class Lane:
    """A channel at one peer: both ends, and who waits for them."""

    outbox: Outbox
    inbox: Inbox
    traffic: Traffic
    arrived: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    """Services that wait for a message."""
    roomy: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    """Services that wait for room in the queue."""
    wake_at: float = math.inf
    """When credit that the rate limit holds back becomes due."""
    takes: int = 0
    """Messages that the service took since it last waited."""


class Lanes:
    """All channels that both sides of one connection have."""

    def __init__(self, channels: Sequence[Channel], offers: Iterable[ChannelOffer], now: float) -> None:
        """*offers*: the other side's limits, which bind what we send. *now*: seconds on trio's clock."""
        theirs = {offer.id: offer for offer in offers}
        self._lanes: dict[int, Lane] = {}
        for channel in sorted(channels, key=lambda channel: (-channel.priority, channel.id)):
            offer = theirs.get(channel.id)
            if offer is not None:
                traffic = Traffic()
                outbox = Outbox(channel, offer.receive_window_bytes, offer.message_bytes_max, traffic)
                self._lanes[channel.id] = Lane(outbox, Inbox(channel, now, traffic), traffic)
        self.get = self._lanes.get

    def agreed(self, channel_id: int) -> Lane:
        """The lane of a channel that the other side names. Raises BadMessage if it was not agreed."""
        lane = self._lanes.get(channel_id)
        if lane is None:
            raise BadMessage(f"channel {channel_id} was not agreed", "bad_message.channel")
        return lane

    def deliver(self, section: frames.Section) -> None:
        """What *section* brings waits for the service, which is woken. Raises BadMessage for a broken rule."""
        kind, channel_id, total, messages = section
        lane = self.agreed(channel_id)
        inbox = lane.inbox
        if kind == frames.WHOLE:
            inbox.whole(messages)
        elif kind == frames.BEGIN:
            inbox.begin(total, messages[0])
        else:
            inbox.more(messages[0])
        if inbox.queue:
            lane.arrived.unpark_all()

    def pack(self, space: int) -> list[bytes]:
        """Sections of at most *space* bytes of what waits, by priority; they leave their queues.

        Each channel of lower priority that waits keeps a small share, so that none of them starves.
        """
        sections: list[bytes] = []
        waiting = [lane for lane in self._lanes.values() if lane.outbox]
        for lower, lane in zip(range(len(waiting) - 1, -1, -1), waiting, strict=True):
            taken = lane.outbox.take(space - lower * SHARE_BYTES)
            if taken:
                space -= sum(map(len, taken))
                sections += taken
                lane.roomy.unpark_all()
        return sections

    def withheld(self, now: float) -> list[Lane]:
        """Lanes whose credit was held back by the rate limit until *now*."""
        return [lane for lane in self._lanes.values() if lane.wake_at <= now]

    def next_wake(self) -> float:
        """When the next withheld credit is due; infinity if none is."""
        return min((lane.wake_at for lane in self._lanes.values()), default=math.inf)

    def traffic(self) -> dict[str, Traffic]:
        """What has passed, by channel name."""
        return {lane.outbox.channel.name: lane.traffic for lane in self._lanes.values()}

    def waiting(self) -> dict[str, int]:
        """Messages that wait to be sent, by channel name."""
        return {lane.outbox.channel.name: len(lane.outbox) for lane in self._lanes.values()}
