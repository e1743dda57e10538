"""Dial and listen as an interface, and TCP, the transport of life.

`p2p.memory` has the one for tests, `devnet.sim.node_links` the one for simulated worlds.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import NamedTuple, Protocol

import structlog
import trio

from p2p.address import Endpoint

UNSENT_BYTES_MAX = 128 * 1024
"""What the kernel may hold back unsent per connection: more would let bulk data stand before an urgent message."""
ACCEPT_PAUSE_SECONDS = 0.1
"""How long accepting rests when the process has no file descriptor left."""
_OF_THE_CONNECTION = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPROTO,
    }
)
"""What accept(2) reports about one connection, not about the listener."""
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

log = structlog.get_logger("p2p")


class Accepted(NamedTuple):
    """A fresh inbound connection and the host it comes from."""

    stream: trio.abc.Stream
    host: str


class Listener(Protocol):
    """Hands out inbound connections."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens, with the port that was really bound."""
        ...

    async def accept(self) -> Accepted:
        """The next inbound connection."""
        ...

    async def aclose(self) -> None:
        """No more connections are accepted."""
        ...


class Transport(Protocol):
    """How bytes reach another node. Faults of the net are OSError (dial) and trio.BrokenResourceError (streams)."""

    async def dial(self, endpoint: Endpoint) -> trio.abc.Stream:
        """A connected stream. Raises OSError when nobody answers; the caller bounds the time."""
        ...

    async def listen(self, endpoint: Endpoint) -> Listener:
        """A listener at *endpoint*; port 0 takes any free one. Raises OSError when the port is taken."""
        ...


class TcpTransport:
    """TCP without Nagle's delay (trio sees to that): frames are batched above, so nothing is gained by waiting."""

    async def dial(self, endpoint: Endpoint) -> trio.abc.Stream:
        """A connected TCP stream. Raises OSError when nobody answers, or the host's name can't be one."""
        try:
            stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
        except UnicodeError as error:  # from the encoding of names (IDNA), whose rules are stricter than ours
            raise OSError(errno.EINVAL, f"{endpoint.host!r} is no host name: {error}") from error
        _tune(stream.socket)
        return stream

    async def listen(self, endpoint: Endpoint) -> Listener:
        """A TCP listener. Raises OSError, naming the endpoint, when the port is taken or the host is not ours."""
        try:
            listeners = await trio.open_tcp_listeners(endpoint.port, host=endpoint.host)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"listening for peers at {endpoint}") from error
        for extra in listeners[1:]:  # a name with several addresses; one is enough, and its port is known
            await extra.aclose()
        return TcpListener(listeners[0])


class TcpListener:
    """One listening TCP socket."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        host, port = listener.socket.getsockname()[:2]
        self._endpoint = Endpoint(host, port)

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return self._endpoint

    async def accept(self) -> Accepted:
        """The next inbound connection; waits while the process is out of file descriptors."""
        while True:
            try:
                stream = await self._listener.accept()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    log.warning("accept_paused", why=str(error), seconds=ACCEPT_PAUSE_SECONDS)
                    await trio.sleep(ACCEPT_PAUSE_SECONDS)
                elif error.errno not in _OF_THE_CONNECTION:
                    raise
                continue
            try:
                host = stream.socket.getpeername()[0]
                _tune(stream.socket)
            except OSError:  # reset between accept and here
                await trio.aclose_forcefully(stream)
                continue
            return Accepted(stream, _plain(host))

    async def aclose(self) -> None:
        """The port is free again."""
        await self._listener.aclose()


def _plain(host: str) -> str:
    """*host* without the scope of a link and, where it stands for IPv4, as IPv4."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _tune(tcp: trio.socket.SocketType) -> None:
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
