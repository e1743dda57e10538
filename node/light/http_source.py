"""A node behind a URL: bounded in time and bytes, whatever it sends. h11 speaks HTTP; socket and patience are ours."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import h11
import trio

from node.client import ANSWER_BYTES_MAX
from node.light.faults import BadSource
from node.light.source import ASK_SECONDS, SourceGone, result_of

IDLE_MAX = 4
"""Connections that are kept for the next call."""
CHUNK_BYTES = 65_536
DEFAULT_PORTS = {"http": 80, "https": 443}


class HttpSource:
    """A node behind an ``http`` or ``https`` URL. No redirects, no proxies: this node is asked and nobody else."""

    def __init__(self, url: str) -> None:
        """To be closed by whoever made it. Raises BadSource."""
        self._parts, self._port = _parsed(url)
        self.name = self._parts.geturl().rstrip("/")
        self._idle: list[_Connection] = []

    async def aclose(self) -> None:
        """Its connections are closed."""
        while self._idle:
            await self._idle.pop().close()

    async def call(self, method: str, *, wait_s: float = ASK_SECONDS, **params: Any) -> Any:
        """The result of one call. Raises SourceGone, SourceRefused."""
        given = {name: value for name, value in params.items() if value is not None}
        request = {"jsonrpc": "2.0", "id": 0, "method": method, "params": given}
        try:
            with trio.fail_after(wait_s):
                data = await self._exchange(request)
        except trio.TooSlowError:
            raise SourceGone(f"{self.name} did not answer {method} within {wait_s:g} s") from None
        except (OSError, ssl.SSLError, trio.BrokenResourceError, h11.ProtocolError, _ClosedEarly) as error:
            raise SourceGone(f"{self.name} can't be reached ({_reason(error)})") from error
        return result_of(data, self.name)

    async def _exchange(self, request: Mapping[str, Any]) -> bytes:
        body = json.dumps(request).encode()
        while self._idle:
            try:
                return await self._over(self._idle.pop(), body)
            except (trio.BrokenResourceError, _ClosedEarly):
                pass  # closed while it was idle; the same bytes again are harmless: a transaction's id makes it one
        return await self._over(await self._open(), body)

    async def _open(self) -> _Connection:
        host = self._parts.hostname
        assert host is not None, "checked"
        if self._parts.scheme == "https":
            return _Connection(await trio.open_ssl_over_tcp_stream(host, self._port, https_compatible=True))
        return _Connection(await trio.open_tcp_stream(host, self._port))

    async def _over(self, connection: _Connection, body: bytes) -> bytes:
        kept = False
        try:
            headers = [
                ("host", self._parts.netloc.rpartition("@")[2]),
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
            ]
            target = self._parts.path or "/"
            data = await connection.exchange(h11.Request(method="POST", target=target, headers=headers), body)
            kept = connection.ready_again() and len(self._idle) < IDLE_MAX
            if kept:
                self._idle.append(connection)
            return data
        finally:
            if not kept:  # half an answer may still come: it must not be read as the next one's
                with trio.CancelScope(shield=True):
                    await connection.close()


class _ClosedEarly(Exception):
    """The other side closed before its answer began."""


class _Connection:
    """One connection; one exchange at a time."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)

    def ready_again(self) -> bool:
        """Whether another exchange can follow; it is begun."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    async def exchange(self, request: h11.Request, body: bytes) -> bytes:
        """The body of the answer, whatever its status: refusals come as 4xx."""
        sent = [self._http.send(event) for event in (request, h11.Data(data=body), h11.EndOfMessage())]
        await self._stream.send_all(b"".join(part for part in sent if part is not None))
        parts: list[bytes] = []
        size = 0
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                size += len(event.data)
                if size > ANSWER_BYTES_MAX:
                    raise h11.RemoteProtocolError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
                parts.append(bytes(event.data))
        return b"".join(parts)

    async def _event(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self._stream.receive_some(CHUNK_BYTES)
                if not data and self._http.their_state is h11.SEND_RESPONSE:
                    raise _ClosedEarly("closed without an answer")
                self._http.receive_data(bytes(data))
            else:
                assert isinstance(event, h11.Event), event
                return event


def _parsed(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
        if port and parts.hostname:
            return parts, port
    except ValueError:
        pass  # said below
    raise BadSource(f"{url:.100} is no URL of a node; it looks like http://127.0.0.1:26657")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
