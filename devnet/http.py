"""A small HTTP/1.1 client over one kept connection: POST and GET on loopback, answers with a known length.

The load generator shares the machine with the nodes that it measures, so it must cost little; a general client would
cost more than the node's own work for the request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import trio

ANSWER_BYTES_MAX = 64 * 2**20
HEAD_BYTES_MAX = 32_768
CHUNK_BYTES = 262_144


class Unreachable(Exception):
    """The node gave no answer: it is down, or said something that is no HTTP. The request may have had its effect."""


class Refusal(Exception):
    """The node answered with an error; *code* is JSON-RPC's."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Connection:
    """One connection to the RPC of a node, opened when needed and again after a failure. One request at a time."""

    def __init__(self, url: str, *, timeout_seconds: float = 10.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None, url
        assert parts.port is not None, url
        self.url = url
        self._host = parts.hostname
        self._port = parts.port
        self._timeout = timeout_seconds
        self._stream: trio.SocketStream | None = None
        self._left = b""
        self._lock = trio.Lock()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """The connection is closed; the next request opens it again."""
        stream, self._stream, self._left = self._stream, None, b""
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def call(self, method: str, **params: Any) -> Any:
        """The result of one JSON-RPC call. Raises Refusal, Unreachable."""
        reply = await self._json({"jsonrpc": "2.0", "id": 0, "method": method, "params": params})
        if not isinstance(reply, dict):
            raise Unreachable(f"{self.url}: no JSON-RPC answer")
        return _result(reply)

    async def batch(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
        """What came of each call, in order: its result, or a Refusal (returned, not raised). Raises Unreachable."""
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(calls)
        ]
        reply = await self._json(requests)
        if not isinstance(reply, list):
            raise Unreachable(f"{self.url}: the answer to a batch is no list: {reply!r:.200}")
        return in_order(reply, len(calls))

    async def get(self, path: str) -> bytes:
        """The body of a GET. Raises Unreachable, also for any status but 200."""
        head = f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n"
        status, body = await self.request(head.encode())
        if status != 200:
            raise Unreachable(f"{self.url}{path}: HTTP {status}: {body[:200].decode(errors='replace')}")
        return body

    async def post(self, body: bytes) -> bytes:
        """The answer's body to *body* (JSON), whatever its status: errors of calls come as 4xx. Raises Unreachable."""
        head = (
            f"POST / HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return (await self.request(head.encode() + body))[1]

    async def request(self, data: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to the complete request *data*. Raises Unreachable."""
        async with self._lock:
            complete = False
            try:
                with trio.fail_after(self._timeout):
                    answer = await self._exchange(data)
                complete = True
                return answer
            except (OSError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Unreachable(f"{self.url}: {error!r}") from error
            finally:
                if not complete:  # half an answer may still come: it must not be read as the next one's
                    with trio.CancelScope(shield=True):
                        await self.close()

    async def _json(self, message: Any) -> Any:
        try:
            return json.loads(await self.post(json.dumps(message).encode()))
        except ValueError as error:
            raise Unreachable(f"{self.url}: no JSON: {error}") from error

    async def _exchange(self, data: bytes) -> tuple[int, bytes]:
        if self._stream is None:
            self._stream = await trio.open_tcp_stream(self._host, self._port)
        try:
            await self._stream.send_all(data)
            head = await self._until(b"\r\n\r\n")
        except (trio.BrokenResourceError, _ClosedBetween):
            # A kept connection may have been closed while it was idle: once more, on a fresh one. Sending the same
            # bytes twice is harmless here: reads change nothing, and a transaction's id makes it one.
            await self.close()
            self._stream = await trio.open_tcp_stream(self._host, self._port)
            await self._stream.send_all(data)
            try:
                head = await self._until(b"\r\n\r\n")
            except _ClosedBetween as error:
                raise Unreachable(f"{self.url}: closed the connection without an answer") from error
        status, length, close = _head(head, self.url)
        body = await self._exactly(length)
        if close:
            await self.close()
        return status, body

    async def _until(self, mark: bytes) -> bytes:
        assert self._stream is not None
        data = self._left
        while (end := data.find(mark)) < 0:
            if len(data) > HEAD_BYTES_MAX:
                raise Unreachable(f"{self.url}: endless headers")
            chunk = await self._stream.receive_some(CHUNK_BYTES)
            if not chunk:
                raise _ClosedBetween
            data += chunk
        self._left = data[end + len(mark) :]
        return data[:end]

    async def _exactly(self, length: int) -> bytes:
        assert self._stream is not None
        parts = [self._left]
        have = len(self._left)
        while have < length:
            chunk = await self._stream.receive_some(CHUNK_BYTES)
            if not chunk:
                raise Unreachable(f"{self.url}: closed the connection within an answer")
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        self._left = data[length:]
        return data[:length]


class _ClosedBetween(Exception):
    """The other side closed before the first byte of an answer was complete."""


def in_order(replies: Sequence[dict[str, Any]], count: int) -> list[Any]:
    """Results of a batch whose ids are 0…count-1, in that order; errors as Refusal objects."""
    results: list[Any] = [Refusal(0, "the answer lacks this call")] * count
    for reply in replies:
        number = reply.get("id")
        if isinstance(number, int) and 0 <= number < count:
            try:
                results[number] = _result(reply)
            except Refusal as refusal:
                results[number] = refusal
    return results


def _result(reply: dict[str, Any]) -> Any:
    if "error" in reply:
        error = reply["error"]
        raise Refusal(error.get("code", 0), error.get("message", ""), error.get("data"))
    return reply["result"]


def _head(head: bytes, url: str) -> tuple[int, int, bool]:
    """Status, content length, and whether the server closes the connection afterwards."""
    lines = head.split(b"\r\n")
    try:
        status = int(lines[0].split(b" ", 2)[1])
        fields = dict(line.lower().split(b":", 1) for line in lines[1:])
        length = int(fields[b"content-length"])
    except (ValueError, IndexError, KeyError) as error:
        raise Unreachable(f"{url}: an answer without status and content-length: {lines[0]!r:.80}") from error
    if not 0 <= length <= ANSWER_BYTES_MAX:
        raise Unreachable(f"{url}: an answer of {length} bytes")
    return status, length, fields.get(b"connection", b"").strip() == b"close"
