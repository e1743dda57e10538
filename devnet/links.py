"""The links of a devnet with faults: one process carries every connection between nodes, and can cut, delay, slow it.

Node *i* finds node *j* at a port of its own (``"i>j"``), behind which this process dials *j*. A fault belongs to a
direction of bytes, whoever dialled: ``"0>1"`` is what node 0 says to node 1. A cut link loses nothing: it carries
nothing until it is healed, as TCP would through a broken cable; then it goes on where it stopped, unless one end has
given up.

Control: one JSON line to the control port, one JSON line back (`ask`).
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

CHUNK_BYTES = 65_536
CHUNKS_MAX = 64
"""Chunks on their way in one direction; beyond, the sender feels back-pressure."""
CONNECTIONS_MAX = 32
"""Of one link at a time."""
HANG_SECONDS = 10.0
"""How long a dial into a cut link hangs before it is dropped."""
CONTROL_BYTES_MAX = 65_536
ASK_SECONDS = 5.0

PUBLIC_SETTINGS = ("cut", "delay_ms", "bytes_per_second")


@dataclass(slots=True)
class Link:
    """What happens to bytes in one direction."""

    cut: bool = False
    delay_ms: int = 0
    bytes_per_second: int = 0
    """0: as fast as the machine can."""
    changed: trio.Event = field(default_factory=trio.Event)

    def set(self, **settings: int | bool) -> None:
        """The named settings hold from now on, also for connections that stand."""
        for name, value in settings.items():
            if name not in PUBLIC_SETTINGS:
                raise ValueError(f"unknown setting {name!r}; known: {', '.join(PUBLIC_SETTINGS)}")
            setattr(self, name, value)
        self.changed.set()
        self.changed = trio.Event()

    async def whole(self) -> None:
        """Returns once the link is not cut."""
        while self.cut:
            await self.changed.wait()


class Links:
    """All links of one devnet. *places*: link name → (port to listen on, port of the node behind it)."""

    def __init__(self, places: Mapping[str, tuple[int, int]]) -> None:
        self._places = places
        self.links = {name: Link() for name in sorted(places)}

    async def run(self, control_port: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carries bytes until cancelled; *task_status* is told once every port listens."""
        async with trio.open_nursery() as nursery:
            for name, (port, target) in self._places.items():
                capacity = trio.CapacityLimiter(CONNECTIONS_MAX)
                handler = partial(self._connection, name, target, capacity)
                await nursery.start(partial(trio.serve_tcp, handler, port, host="127.0.0.1"))
            await nursery.start(partial(trio.serve_tcp, self._control, control_port, host="127.0.0.1"))
            task_status.started()

    async def _connection(
        self, name: str, target: int, capacity: trio.CapacityLimiter, near: trio.SocketStream
    ) -> None:
        there, back = self.links[name], self.links[_reverse(name)]
        if capacity.available_tokens < 1:
            await near.aclose()
            return
        async with capacity, near:
            with trio.move_on_after(HANG_SECONDS) as hang:
                await there.whole()
                await back.whole()
            if hang.cancelled_caught:
                return
            try:
                far = await trio.open_tcp_stream("127.0.0.1", target)
            except OSError:
                return  # the node is down: the dialler sees its connection close, as it should
            async with far, trio.open_nursery() as nursery:
                for source, sink, link in ((near, far, there), (far, near, back)):
                    nursery.start_soon(_carry, source, sink, link, nursery.cancel_scope)

    async def _control(self, stream: trio.SocketStream) -> None:
        try:
            line = await _line(stream)
            reply = self._apply(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reply = {"error": str(error)}
        except trio.BrokenResourceError:
            return
        await stream.send_all(json.dumps(reply).encode() + b"\n")

    def _apply(self, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        for name, fields in settings.items():
            self.links[name].set(**fields)
        return {name: {key: getattr(link, key) for key in PUBLIC_SETTINGS} for name, link in self.links.items()}


async def _carry(source: trio.SocketStream, sink: trio.SocketStream, link: Link, end: trio.CancelScope) -> None:
    """Everything that *source* says has come to *sink*, as *link* allows; then both connections end."""
    outgoing, incoming = trio.open_memory_channel[tuple[float, bytes]](CHUNKS_MAX)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, source, outgoing, link)
            async for due, chunk in incoming:
                await trio.sleep_until(due)
                await link.whole()
                await sink.send_all(chunk)
                if link.bytes_per_second:
                    await trio.sleep(len(chunk) / link.bytes_per_second)  # a slow link is what was asked for
            await link.whole()  # the end of a connection is news too: it does not pass a cut
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # an end went away: the other is told by closing, below
    end.cancel()


async def _read(source: trio.SocketStream, outgoing: trio.MemorySendChannel[tuple[float, bytes]], link: Link) -> None:
    async with outgoing:
        while True:
            size = min(CHUNK_BYTES, max(1, link.bytes_per_second // 10)) if link.bytes_per_second else CHUNK_BYTES
            try:
                chunk = await source.receive_some(size)
            except trio.BrokenResourceError:
                return  # reset: as good as its end
            if not chunk:
                return
            await outgoing.send((trio.current_time() + link.delay_ms / 1000, chunk))


async def _line(stream: trio.SocketStream) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        chunk = await stream.receive_some(CHUNK_BYTES)
        if not chunk or len(data) > CONTROL_BYTES_MAX:
            raise ValueError("expected one line of JSON")
        data += chunk
    return bytes(data)


def _reverse(name: str) -> str:
    one, other = name.split(">")
    return f"{other}>{one}"


def ask(control_port: int, settings: Mapping[str, Mapping[str, int | bool]]) -> dict[str, dict[str, Any]]:
    """The state of every link after *settings* (link name → settings) took effect. Raises OSError, ValueError."""
    with socket.create_connection(("127.0.0.1", control_port), timeout=ASK_SECONDS) as connection:
        connection.sendall(json.dumps(settings).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            chunk = connection.recv(CHUNK_BYTES)
            if not chunk:
                raise ValueError("the links process closed the connection without an answer")
            data += chunk
    reply: dict[str, Any] = json.loads(data)
    if "error" in reply:
        raise ValueError(reply["error"])
    return reply


def cuts_for(groups: list[list[int]], everyone: list[int]) -> dict[str, dict[str, int | bool]]:
    """Settings that let nodes talk within their group only. Nodes of no group are a group together."""
    named = [number for group in groups for number in group]
    if len(named) != len(set(named)):
        raise ValueError("a node stands in two groups")
    if strangers := sorted(set(named) - set(everyone)):
        raise ValueError(f"there is no node {strangers[0]}")
    rest = [number for number in everyone if number not in named]
    group_of = {number: index for index, group in enumerate([*groups, rest]) for number in group}
    return {
        f"{one}>{other}": {"cut": group_of[one] != group_of[other]}
        for one in everyone
        for other in everyone
        if one != other
    }


def healed(everyone: list[int]) -> dict[str, dict[str, int | bool]]:
    """Settings of links without faults."""
    whole: dict[str, int | bool] = {"cut": False, "delay_ms": 0, "bytes_per_second": 0}
    return {f"{one}>{other}": dict(whole) for one in everyone for other in everyone if one != other}


def main() -> None:
    """Runs the links in the first argument, JSON: ``{"control": port, "places": {"0>1": [port, target]}}``."""
    setup = json.loads(sys.argv[1])
    links = Links({name: (int(port), int(target)) for name, (port, target) in setup["places"].items()})
    trio.run(links.run, int(setup["control"]), strict_exception_groups=True)


if __name__ == "__main__":
    main()
