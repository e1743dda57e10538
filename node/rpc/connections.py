"""The listening socket and its connections: how many, how slow, and how they end. Hypercorn speaks HTTP on each."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, LifespanState

from node.rpc.limits import is_loopback

_log = structlog.get_logger("rpc")

BACKLOG = 1024
PER_ADDRESS_MAX = 32
"""Connections of one address; loopback is bounded by the total alone."""
SEND_SECONDS_MAX = 30
"""A client that takes nothing for so long while we send is cut off."""
LINGER_SECONDS = 1
"""After a connection is closed its tasks have so long to end: Hypercorn may start to wait for its next request."""


class PortInUse(Exception):
    """The address can't be listened on; says which and what to do."""


class BoundedStream:
    """A connection of a client as Hypercorn uses it, with sends that end and a close that ends everything."""

    def __init__(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        self._stream = stream
        self._scope = scope
        self.socket = stream.socket

    async def send_all(self, data: bytes) -> None:
        """*data* is on its way. Hypercorn shields its sends from cancellation, so they are bounded here."""
        with trio.move_on_after(SEND_SECONDS_MAX) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            await self.aclose()
            raise trio.BrokenResourceError("the client does not read")

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        """The next bytes, empty at the end."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """No more is sent."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """The connection is closed, and its tasks end soon, whatever they wait for."""
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + LINGER_SECONDS)
        await self._stream.aclose()


class Connections:
    """Accepts clients up to a bound, and serves an ASGI application to each.

    At the bound the connection that has asked nothing for longest makes room: neither silence nor half a request, sent
    a byte at a time, keeps others out.
    """

    def __init__(self, app: ASGIFramework, *, total_max: int, websocket_bytes_max: int) -> None:
        self._app = app
        self._config = _hypercorn_config(websocket_bytes_max)
        self._context = WorkerContext(None)
        self._total_max = total_max
        self._by_address: Counter[str] = Counter()
        self._idle: dict[trio.CancelScope, None] = {}
        """Connections with no request in work, idle for longest first."""

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serves until cancelled; then every connection ends, after the send that it is in."""
        try:
            await trio.serve_listeners(self._client, listeners)
        finally:
            for listener in listeners:
                listener.socket.close()

    async def _client(self, stream: trio.SocketStream) -> None:
        try:
            address = str(stream.socket.getpeername()[0])
        except OSError:  # gone already
            await trio.aclose_forcefully(stream)
            return
        refused = self._by_address[address] >= PER_ADDRESS_MAX and not is_loopback(address)
        if refused or (self._by_address.total() >= self._total_max and not self._idle):
            await trio.aclose_forcefully(stream)
            return
        if self._by_address.total() >= self._total_max:
            longest = next(iter(self._idle))
            del self._idle[longest]
            longest.cancel()
        self._by_address[address] += 1
        try:
            await self._serve_one(stream, address)
        finally:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    async def _serve_one(self, stream: trio.SocketStream, address: str) -> None:
        with trio.CancelScope() as scope:
            bounded = BoundedStream(stream, scope)
            state = ConnectionState(LifespanState({}))
            app = ASGIWrapper(self._watched(scope))
            self._idle[scope] = None
            try:
                # Hypercorn uses no more of a stream than BoundedStream has.
                await TCPServer(app, self._config, self._context, state, bounded)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - bytes that the HTTP library trips over end only their sender
                _log.warning("rpc_connection_failed", address=address, exc_info=error)
            finally:
                self._idle.pop(scope, None)
                await trio.aclose_forcefully(stream)

    def _watched(self, connection: trio.CancelScope) -> ASGIFramework:
        """The application for one connection, which counts as idle while no request of it is in work."""
        app: Any = self._app
        in_work = 0

        async def watched(*asgi: Any) -> None:
            nonlocal in_work
            in_work += 1
            self._idle.pop(connection, None)
            try:
                await app(*asgi)
            finally:
                in_work -= 1
                if not in_work:
                    self._idle[connection] = None

        return watched


def listen(host: str, port: int) -> list[trio.SocketListener]:
    """Listening sockets for *host* (a name or address) and *port* (0: any free one). Raises PortInUse."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            opened = socket.socket(family, kind, protocol)
            sockets.append(opened)
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Where a name has several addresses, all get the port that the first one found.
            shared = port or (sockets[0].getsockname()[1] if len(sockets) > 1 else 0)
            opened.bind((address[0], shared, *address[2:]))
            opened.listen(BACKLOG)
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise PortInUse(
            f"can't listen on {host}:{port} ({error.strerror or error}); stop what uses it, or take another port: "
            "rpc.listen in config.toml, or --listen of allting light"
        ) from error
    return [trio.SocketListener(trio.socket.from_stdlib_socket(opened)) for opened in sockets]


def _hypercorn_config(websocket_bytes_max: int) -> HypercornConfig:
    config = HypercornConfig()
    config.errorlog = None  # our own log names what happened
    config.accesslog = None
    config.include_server_header = False
    config.include_date_header = False
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 2**31
    config.h2_max_concurrent_streams = 1  # what bounds connections shall bound requests
    config.websocket_max_message_size = websocket_bytes_max
    config.websocket_ping_interval = 20
    return config
