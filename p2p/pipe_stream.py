"""Streams and listeners within one process, over pipes that say what may happen on the way."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Protocol

import trio

from p2p.address import Endpoint
from p2p.transport import Accepted

WINDOW_BYTES = 256 * 1024
"""What one direction holds before its sender waits, about what kernels buffer."""
BACKLOG_MAX = 128
"""Connections that wait for accept before further dials are refused."""
FIRST_FREE_PORT = 40_000


class Pipe(Protocol):
    """Bytes one way. A closed end raises trio.ClosedResourceError, the other one trio.BrokenResourceError."""

    async def send(self, data: bytes) -> None:
        """All of *data* is under way."""
        ...

    async def wait_for_room(self) -> None:
        """There is room, or sending would fail."""
        ...

    async def receive(self, bytes_max: int) -> bytes:
        """What has arrived, at most *bytes_max*; b"" at the end."""
        ...

    def close_sender(self) -> None:
        """The end is under way, behind what was sent before."""
        ...

    def close_receiver(self) -> None:
        """Nobody reads any more: the sender fails."""
        ...


class PipeStream(trio.abc.Stream):
    """One end of a connection."""

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._sending = self._receiving = False

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
        bytes_max = WINDOW_BYTES if max_bytes is None else operator.index(max_bytes)
        if bytes_max < 1:
            raise ValueError("max_bytes must be positive")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            return await self._incoming.receive(bytes_max)
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        """The other side reads what is under way, then the end; its sends fail."""
        self._outgoing.close_sender()
        self._incoming.close_receiver()
        await trio.lowlevel.checkpoint()


class PipeListener:
    """A bounded backlog of connections at *endpoint*; *on_close* is told when it listens no more."""

    def __init__(self, endpoint: Endpoint, on_close: Callable[[PipeListener], None]) -> None:
        self._endpoint = endpoint
        self._on_close = on_close
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
        self._on_close(self)
        self._accept.close()
        await trio.lowlevel.checkpoint()
