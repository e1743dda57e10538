"""The memory transport: the same face as TCP, bounded like TCP, and cut or mended at will."""

from __future__ import annotations

import errno
from collections import deque

import trio

from p2p.address import Endpoint
from p2p.pipe_stream import FIRST_FREE_PORT, WINDOW_BYTES, PipeListener, PipeStream
from p2p.transport import Accepted, Listener


class MemoryNetwork:
    """All hosts of one test or one simulated world."""

    def __init__(self) -> None:
        self._listeners: dict[Endpoint, PipeListener] = {}
        self._links: dict[frozenset[str], dict[_Pipe, None]] = {}
        self._severed: set[frozenset[str]] = set()
        self._next_port = FIRST_FREE_PORT

    def transport(self, host: str) -> MemoryTransport:
        """The transport of the machine *host*."""
        return MemoryTransport(self, host)

    def sever(self, one: str, other: str) -> None:
        """Hosts *one* and *other* can't reach each other: streams between them break, dials fail."""
        pair = frozenset((one, other))
        self._severed.add(pair)
        for pipe in self._links.pop(pair, {}):
            pipe.break_off()

    def mend(self, one: str, other: str) -> None:
        """Hosts *one* and *other* can dial each other again."""
        self._severed.discard(frozenset((one, other)))

    def _connect(self, from_host: str, endpoint: Endpoint) -> PipeStream:
        pair = frozenset((from_host, endpoint.host))
        listener = self._listeners.get(endpoint)
        if pair in self._severed:
            raise OSError(errno.EHOSTUNREACH, f"no way from {from_host} to {endpoint}")
        if listener is None or not listener.has_room:
            raise OSError(errno.ECONNREFUSED, f"nobody listens at {endpoint}")
        near, far = memory_stream_pair(self._links.setdefault(pair, {}))
        listener.arrive(Accepted(far, from_host))
        return near

    def _bind(self, endpoint: Endpoint) -> PipeListener:
        if endpoint.port == 0:
            endpoint = Endpoint(endpoint.host, self._next_port)
            self._next_port += 1
        if endpoint in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{endpoint} is in use")
        listener = self._listeners[endpoint] = PipeListener(endpoint, self._unbind)
        return listener

    def _unbind(self, listener: PipeListener) -> None:
        if self._listeners.get(listener.endpoint) is listener:
            del self._listeners[listener.endpoint]


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


class _Pipe:
    """Bytes one way, at most WINDOW_BYTES under way; among those of its link while either end is open."""

    def __init__(self, link: dict[_Pipe, None]) -> None:
        self._link = link
        link[self] = None
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._closed_by_sender = False
        self._closed_by_receiver = False
        self._broken = False
        self._changed = trio.lowlevel.ParkingLot()

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while True:
            self._check_sender()
            if not view:
                return
            room = WINDOW_BYTES - self._size
            if room <= 0:
                await self._changed.park()
                continue
            self._chunks.append(bytes(view[:room]))
            self._size += len(self._chunks[-1])
            view = view[room:]
            self._changed.unpark_all()

    async def wait_for_room(self) -> None:
        while True:
            if self._closed_by_sender:
                raise trio.ClosedResourceError
            if self._size < WINDOW_BYTES or self._broken or self._closed_by_receiver:
                return
            await self._changed.park()

    async def receive(self, bytes_max: int) -> bytes:
        while True:
            if self._closed_by_receiver:
                raise trio.ClosedResourceError
            if self._chunks:
                break
            if self._broken:
                raise trio.BrokenResourceError("the link broke")
            if self._closed_by_sender:
                return b""
            await self._changed.park()
        chunk = self._chunks.popleft()
        if len(chunk) > bytes_max:
            self._chunks.appendleft(chunk[bytes_max:])
            chunk = chunk[:bytes_max]
        self._size -= len(chunk)
        self._changed.unpark_all()
        return chunk

    def close_sender(self) -> None:
        self._closed_by_sender = True
        self._closed()

    def close_receiver(self) -> None:
        self._closed_by_receiver = True
        self._closed()

    def break_off(self) -> None:
        """Both ends fail at once, as after a reset; what was under way is lost."""
        self._broken = True
        self._chunks.clear()
        self._size = 0
        self._changed.unpark_all()

    def _closed(self) -> None:
        self._changed.unpark_all()
        if self._closed_by_sender and self._closed_by_receiver:
            self._link.pop(self, None)

    def _check_sender(self) -> None:
        if self._closed_by_sender:
            raise trio.ClosedResourceError
        if self._broken or self._closed_by_receiver:
            raise trio.BrokenResourceError("the other side is gone")


def memory_stream_pair(link: dict[_Pipe, None] | None = None) -> tuple[PipeStream, PipeStream]:
    """Two ends of one connection, whose pipes are among those of *link*."""
    link = {} if link is None else link
    one_way, other_way = _Pipe(link), _Pipe(link)
    return PipeStream(one_way, other_way), PipeStream(other_way, one_way)
