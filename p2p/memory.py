"""The memory transport: the same face as TCP, bounded like TCP, and cut or mended at will."""

from __future__ import annotations

import errno
import operator
from collections import deque
from collections.abc import Callable

import trio

from p2p.address import Endpoint
from p2p.transport import Accepted, Listener

PIPE_BYTES_MAX = 256 * 1024
"""What one direction holds before its sender waits, about what kernels buffer."""
BACKLOG_MAX = 128
"""Connections that wait for accept before further dials are refused."""
FIRST_FREE_PORT = 40_000


class MemoryNetwork:
    """All hosts of one test or one simulated world."""

    def __init__(self) -> None:
        self._listeners: dict[Endpoint, MemoryListener] = {}
        self._links: dict[frozenset[str], dict[MemoryStream, None]] = {}
        self._severed: set[frozenset[str]] = set()
        self._next_port = FIRST_FREE_PORT

    def transport(self, host: str) -> MemoryTransport:
        """The transport of the machine *host*."""
        return MemoryTransport(self, host)

    def sever(self, one: str, other: str) -> None:
        """Hosts *one* and *other* can't reach each other: streams between them break, dials fail."""
        pair = frozenset((one, other))
        self._severed.add(pair)
        for stream in list(self._links.pop(pair, {})):
            stream.break_off()

    def mend(self, one: str, other: str) -> None:
        """Hosts *one* and *other* can dial each other again."""
        self._severed.discard(frozenset((one, other)))

    def _connect(self, from_host: str, endpoint: Endpoint) -> MemoryStream:
        pair = frozenset((from_host, endpoint.host))
        listener = self._listeners.get(endpoint)
        if pair in self._severed:
            raise OSError(errno.EHOSTUNREACH, f"no way from {from_host} to {endpoint}")
        if listener is None or not listener.has_room:
            raise OSError(errno.ECONNREFUSED, f"nobody listens at {endpoint}")
        near, far = memory_stream_pair()
        links = self._links.setdefault(pair, {})
        for stream in (near, far):
            links[stream] = None
            stream.on_close = lambda closed: links.pop(closed, None)
        listener.arrive(Accepted(far, from_host))
        return near

    def _bind(self, endpoint: Endpoint) -> MemoryListener:
        if endpoint.port == 0:
            endpoint = Endpoint(endpoint.host, self._next_port)
            self._next_port += 1
        if endpoint in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{endpoint} is in use")
        listener = self._listeners[endpoint] = MemoryListener(self, endpoint)
        return listener

    def _unbind(self, endpoint: Endpoint) -> None:
        self._listeners.pop(endpoint, None)


class MemoryTransport:
    """Dial and listen as one host of a MemoryNetwork."""

    def __init__(self, network: MemoryNetwork, host: str) -> None:
        self._network = network
        self.host = host

    async def dial(self, endpoint: Endpoint) -> trio.abc.Stream:
        """A stream to whoever listens at *endpoint*. Raises OSError when nobody does or the link is severed."""
        await trio.lowlevel.checkpoint()
        return self._network._connect(self.host, endpoint)

    async def listen(self, endpoint: Endpoint) -> Listener:
        """A listener at *endpoint*; port 0 takes a free one. Raises OSError when it is taken."""
        await trio.lowlevel.checkpoint()
        return self._network._bind(endpoint)


class MemoryListener:
    """A bounded backlog of connections."""

    def __init__(self, network: MemoryNetwork, endpoint: Endpoint) -> None:
        self._network = network
        self._endpoint = endpoint
        self._arrive, self._accept = trio.open_memory_channel[Accepted](BACKLOG_MAX)

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return self._endpoint

    @property
    def has_room(self) -> bool:
        """Whether the backlog takes another connection."""
        return self._arrive.statistics().current_buffer_used < BACKLOG_MAX

    def arrive(self, accepted: Accepted) -> None:
        """A dialled connection waits in the backlog; the caller has looked at `has_room`."""
        self._arrive.send_nowait(accepted)

    async def accept(self) -> Accepted:
        """The next connection."""
        return await self._accept.receive()

    async def aclose(self) -> None:
        """The endpoint is free again."""
        self._network._unbind(self._endpoint)
        self._accept.close()
        await trio.lowlevel.checkpoint()


class _Pipe:
    """Bytes one way, at most PIPE_BYTES_MAX under way."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.closed_by_sender = False
        self.closed_by_receiver = False
        self.broken = False
        self.changed = trio.lowlevel.ParkingLot()

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while True:
            self._check_sender()
            if not view:
                return
            room = PIPE_BYTES_MAX - self.size
            if room <= 0:
                await self.changed.park()
                continue
            self.chunks.append(bytes(view[:room]))
            self.size += len(self.chunks[-1])
            view = view[room:]
            self.changed.unpark_all()

    async def wait_for_room(self) -> None:
        while True:
            if self.closed_by_sender:
                raise trio.ClosedResourceError
            if self.size < PIPE_BYTES_MAX or self.broken or self.closed_by_receiver:
                return
            await self.changed.park()

    async def receive(self, bytes_max: int) -> bytes:
        while True:
            if self.closed_by_receiver:
                raise trio.ClosedResourceError
            if self.chunks:
                break
            if self.broken:
                raise trio.BrokenResourceError("the link broke")
            if self.closed_by_sender:
                return b""
            await self.changed.park()
        chunk = self.chunks.popleft()
        if len(chunk) > bytes_max:
            self.chunks.appendleft(chunk[bytes_max:])
            chunk = chunk[:bytes_max]
        self.size -= len(chunk)
        self.changed.unpark_all()
        return chunk

    def _check_sender(self) -> None:
        if self.closed_by_sender:
            raise trio.ClosedResourceError
        if self.broken or self.closed_by_receiver:
            raise trio.BrokenResourceError("the other side is gone")


class MemoryStream(trio.abc.Stream):
    """One end of a connection in memory."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._sending = False
        self._receiving = False
        self.on_close: Callable[[MemoryStream], object] | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """All of *data* is under way. Raises trio.BrokenResourceError when the other side is gone."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            await self._outgoing.send(bytes(data))
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Returns when there is room, or when sending would fail."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            await self._outgoing.wait_for_room()
        finally:
            self._sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes, or none at the end. Raises trio.BrokenResourceError when the link broke."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving")
        bytes_max = PIPE_BYTES_MAX if max_bytes is None else operator.index(max_bytes)
        if bytes_max < 1:
            raise ValueError("max_bytes must be positive")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            return await self._incoming.receive(bytes_max)
        finally:
            self._receiving = False

    def break_off(self) -> None:
        """Both directions fail at once, as after a reset; what was under way is lost."""
        for pipe in (self._incoming, self._outgoing):
            pipe.broken = True
            pipe.chunks.clear()
            pipe.size = 0
            pipe.changed.unpark_all()

    async def aclose(self) -> None:
        """The other side reads what is under way, then the end; its sends fail."""
        self._outgoing.closed_by_sender = True
        self._incoming.closed_by_receiver = True
        self._outgoing.changed.unpark_all()
        self._incoming.changed.unpark_all()
        if self.on_close is not None:
            self.on_close(self)
        await trio.lowlevel.checkpoint()


def memory_stream_pair() -> tuple[MemoryStream, MemoryStream]:
    """Two ends of one connection."""
    one_way, other_way = _Pipe(), _Pipe()
    return MemoryStream(one_way, other_way), MemoryStream(other_way, one_way)
