"""Reading a request's body within bounds of size and time; what is too large is refused at once and never kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio

from node.rpc.errors import TooLarge, TooSlow

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_SECONDS_MAX = 20
DISCARD_SECONDS_MAX = 5
DISCARD_BYTES_MAX = 256 * 2**20
"""A client that still sends can't read the refusal; so much is thrown away unread before it is cut off."""


async def read_body(receive: Receive, *, declared: int | None, bytes_max: int) -> bytes:
    """The whole body. Raises TooLarge as soon as *declared* or what came exceeds *bytes_max*, TooSlow after 20 s."""
    if declared is not None and declared > bytes_max:
        raise TooLarge(f"a body of {declared} bytes; at most {bytes_max} are read")
    parts: list[bytes] = []
    size = 0
    with trio.move_on_after(BODY_SECONDS_MAX):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise TooSlow("the client went away before its request was complete")
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > bytes_max:
                raise TooLarge(f"a body of more than {bytes_max} bytes")
            if part:
                parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)
    raise TooSlow(f"the request was not complete after {BODY_SECONDS_MAX} s")


async def discard_rest(receive: Receive) -> None:
    """What a refused client still sends is read and thrown away, within bounds, so that it sees the refusal."""
    size = 0
    with trio.move_on_after(DISCARD_SECONDS_MAX):
        while size <= DISCARD_BYTES_MAX:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return
            size += len(message.get("body", b""))
