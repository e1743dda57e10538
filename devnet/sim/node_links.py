"""The network of a node world: streams with latency, jitter, bandwidth and stalls, each direction by itself.

A stream is TCP's: what is lost on the way is sent again below, so a cut is a silence, and then either what was sent
arrives, or the connection breaks.
"""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from p2p.address import Endpoint
from p2p.pipe_stream import FIRST_FREE_PORT, WINDOW_BYTES, PipeListener, PipeStream
from p2p.transport import Accepted, Listener

PIECE_BYTES = 4_096
"""On a slow way data arrives in pieces of this size."""
HOLD_S = 3_600.0
"""A receiver with nothing under way looks again after this at the latest."""


@dataclass(slots=True)
class Way:
    """One direction between two hosts."""

    latency_s: float
    jitter_s: float
    bytes_per_s: float | None = None
    is_cut: bool = False
    """Nothing gets through; what is sent waits."""
    pipes: dict[Pipe, None] = field(default_factory=dict)


class Links:
    """All hosts of a world and the ways between them. *dice* decide jitter, and what a new way is like."""

    def __init__(self, dice: random.Random, *, latency_max_s: float) -> None:
        self._dice = dice
        self._latency_max_s = latency_max_s
        self._ways: dict[tuple[str, str], Way] = {}
        self._listeners: dict[Endpoint, PipeListener] = {}
        self._ports = FIRST_FREE_PORT
        self._changed = trio.lowlevel.ParkingLot()
        self._off: dict[str, None] = {}

    def transport(self, host: str) -> SimTransport:
        """The transport of the machine *host*."""
        return SimTransport(self, host)

    def way(self, from_host: str, to_host: str) -> Way:
        """The direction from one host to another; both must be named once before it exists."""
        way = self._ways.get((from_host, to_host))
        if way is None:
            latency_s = self._dice.uniform(0.0005, self._latency_max_s)
            way = self._ways[from_host, to_host] = Way(latency_s, latency_s * self._dice.choice((0.1, 0.5, 2.0)))
        return way

    def cut(self, from_host: str, to_host: str) -> None:
        """Nothing from *from_host* reaches *to_host* until `mend`; streams stay, silent."""
        self.way(from_host, to_host).is_cut = True

    def mend(self, from_host: str, to_host: str) -> None:
        """The direction works again; what was sent meanwhile arrives."""
        way = self.way(from_host, to_host)
        way.is_cut = False
        self._changed.unpark_all()
        for pipe in way.pipes:
            pipe.wake()

    def reset(self, one: str, other: str) -> None:
        """All streams between the two hosts break; what was under way is lost."""
        for pipe in self._pipes(one, other):
            pipe.break_off()

    def power_off(self, host: str, *, silently: bool) -> None:
        """*host* is gone at once. *silently*: nobody is told, as when the power fails; else its streams are reset."""
        if silently:
            self._off[host] = None
        for (from_host, to_host), way in self._ways.items():
            for pipe in list(way.pipes):
                if not silently:
                    pipe.break_off()
                elif to_host == host:
                    pipe.lose_receiver()
                elif from_host == host:
                    pipe.lose_sender()
        for endpoint in [endpoint for endpoint in self._listeners if endpoint.host == host]:
            del self._listeners[endpoint]

    def power_on(self, host: str) -> None:
        """*host* is back: what its peers still took for connections breaks."""
        self._off.pop(host, None)
        for (from_host, to_host), way in self._ways.items():
            if host in (from_host, to_host):
                for pipe in list(way.pipes):
                    pipe.break_off()

    async def connect(self, from_host: str, endpoint: Endpoint) -> PipeStream:
        """A stream to whoever listens at *endpoint*, after a round trip. Waits while a direction is cut."""
        there, back = self.way(from_host, endpoint.host), self.way(endpoint.host, from_host)
        await trio.sleep(self.transit_s(there) + self.transit_s(back))
        while there.is_cut or back.is_cut or endpoint.host in self._off:
            await self._changed.park()
        listener = self._listeners.get(endpoint)
        if listener is None or not listener.has_room or from_host in self._off:
            raise OSError(errno.ECONNREFUSED, f"nobody listens at {endpoint}")
        outgoing, incoming = Pipe(self, there), Pipe(self, back)
        listener.arrive(Accepted(PipeStream(outgoing, incoming), from_host))
        return PipeStream(incoming, outgoing)

    def transit_s(self, way: Way) -> float:
        """How long the next piece takes on *way*."""
        return way.latency_s + self._dice.random() * way.jitter_s

    def bind(self, endpoint: Endpoint) -> PipeListener:
        """A listener at *endpoint*. Raises OSError when it is taken."""
        if endpoint.port == 0:
            endpoint = Endpoint(endpoint.host, self._ports)
            self._ports += 1
        if endpoint in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{endpoint} is in use")
        listener = self._listeners[endpoint] = PipeListener(endpoint, self._unbind)
        return listener

    def _unbind(self, listener: PipeListener) -> None:
        if self._listeners.get(listener.endpoint) is listener:
            del self._listeners[listener.endpoint]

    def _pipes(self, one: str, other: str) -> Iterator[Pipe]:
        for pair in ((one, other), (other, one)):
            way = self._ways.get(pair)
            if way is not None:
                yield from list(way.pipes)


class SimTransport:
    """Dial and listen as one host."""

    def __init__(self, links: Links, host: str) -> None:
        self._links = links
        self.host = host

    async def dial(self, endpoint: Endpoint) -> trio.abc.Stream:
        """A stream to whoever listens at *endpoint*. Raises OSError when nobody does."""
        return await self._links.connect(self.host, endpoint)

    async def listen(self, endpoint: Endpoint) -> Listener:
        """A listener at *endpoint*; port 0 takes a free one. Raises OSError when it is taken."""
        await trio.lowlevel.checkpoint()
        return self._links.bind(endpoint)


class Pipe:
    """Bytes one way, each piece with the moment at which it arrives; an empty piece is the end."""

    def __init__(self, links: Links, way: Way) -> None:
        self._links = links
        self._way = way
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._arrives_at = 0.0
        self._sender_closed = self._receiver_closed = False
        self._broken = self._receiver_lost = self._sender_lost = False
        self._lot = trio.lowlevel.ParkingLot()
        way.pipes[self] = None

    def wake(self) -> None:
        """Both ends look again."""
        self._lot.unpark_all()

    def break_off(self) -> None:
        """Both ends fail; what was under way is lost."""
        self._broken = True
        self._pieces.clear()
        self._size = 0
        self._way.pipes.pop(self, None)
        self.wake()

    def lose_receiver(self) -> None:
        """Nobody will ever read; the sender notices nothing."""
        self._receiver_lost = True
        self.wake()

    def lose_sender(self) -> None:
        """Nothing comes any more; the receiver notices nothing."""
        self._sender_lost = True
        self.wake()

    def close_sender(self) -> None:
        """The end is under way, behind what was sent before."""
        if not self._sender_closed:
            self._sender_closed = True
            if not self._broken and not self._sender_lost:
                self._put(b"")
            self._leave_way()

    def close_receiver(self) -> None:
        """Nobody reads any more: the sender fails, unless its peer's machine is gone and can't tell."""
        if self._receiver_lost:
            return
        self._receiver_closed = True
        self.wake()
        self._leave_way()

    def _leave_way(self) -> None:
        if self._sender_closed and self._receiver_closed:
            self._way.pipes.pop(self, None)

    def _put(self, data: bytes) -> None:
        now, way = trio.current_time(), self._way
        step = PIECE_BYTES if way.bytes_per_s is not None else max(1, len(data))
        sent_at = now
        for start in range(0, max(1, len(data)), step):
            piece = data[start : start + step]
            if way.bytes_per_s is not None:
                sent_at = max(sent_at, self._arrives_at - way.latency_s) + len(piece) / way.bytes_per_s
            self._arrives_at = max(self._arrives_at, sent_at + self._links.transit_s(way))
            self._pieces.append((self._arrives_at, piece))
        self._size += len(data)
        self.wake()

    async def send(self, data: bytes) -> None:
        """All of *data* is under way. Raises trio.BrokenResourceError when the other side is gone."""
        while data:
            self._check_sender()
            room = WINDOW_BYTES - self._size
            if room <= 0:
                await self._lot.park()
                continue
            self._put(data[:room])
            data = data[room:]
        self._check_sender()

    async def wait_for_room(self) -> None:
        """There is room, or sending would fail."""
        while True:
            if self._sender_closed:
                raise trio.ClosedResourceError
            if self._size < WINDOW_BYTES or self._broken or self._receiver_closed:
                return
            await self._lot.park()

    async def receive(self, bytes_max: int) -> bytes:
        """What has arrived, at most *bytes_max*; b"" at the end. Raises trio.BrokenResourceError."""
        while True:
            if self._receiver_closed:
                raise trio.ClosedResourceError
            if self._broken:
                raise trio.BrokenResourceError("the link broke")
            wait_s = HOLD_S
            if self._pieces and not self._way.is_cut and not self._sender_lost:
                wait_s = self._pieces[0][0] - trio.current_time()
                if wait_s <= 0:
                    return self._take(bytes_max)
            with trio.move_on_after(wait_s):
                await self._lot.park()

    def _take(self, bytes_max: int) -> bytes:
        now = trio.current_time()
        taken: list[bytes] = []
        room = bytes_max
        while self._pieces and room and self._pieces[0][0] <= now:
            at, piece = self._pieces[0]
            if not piece:
                if not taken:
                    return b""
                break
            if len(piece) > room:
                self._pieces[0] = (at, piece[room:])
                piece = piece[:room]
            else:
                self._pieces.popleft()
            taken.append(piece)
            room -= len(piece)
            self._size -= len(piece)
        self.wake()
        return b"".join(taken)

    def _check_sender(self) -> None:
        if self._sender_closed:
            raise trio.ClosedResourceError
        if self._broken or self._receiver_closed:
            raise trio.BrokenResourceError("the other side is gone")
