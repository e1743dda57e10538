"""Method ``events``: the durable log of what happened, read by cursor; nothing is lost to a slow reader."""

from __future__ import annotations

from typing import Any

import trio

from node.events import BEGINNING, Cursor
from node.rpc import shapes
from node.rpc.chain import pruned
from node.rpc.methods import method
from node.rpc.parameters import CursorJson, Limit, Text, WaitMs
from node.services import Services
from node.store import HeightGone


class EventMethods:
    """Reads of the event log."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @method
    async def events(
        self, after: CursorJson = BEGINNING, limit: Limit = 100, wait_ms: WaitMs = 0, module: Text | None = None
    ) -> Any:
        """Events after a cursor ``[height, transaction, number]``, oldest first; waits up to *wait_ms* for the first.

        ``transaction`` is 0 for ``begin``, i for the block's i-th transaction, and the last for ``end``. Ask again with
        ``next``; a cursor stays valid for as long as the node keeps that height (``rpc.pruned`` says from where on).
        """
        with trio.move_on_after(wait_ms / 1000):
            found, next_ = await self.wait_for(Cursor(*after), limit=limit, module=module)
            return {"events": found, "next": list(next_)}
        found, next_ = self.read(Cursor(*after), limit=limit, module=module)
        return {"events": found, "next": list(next_)}

    async def wait_for(self, after: Cursor, *, limit: int, module: str | None) -> tuple[list[Any], Cursor]:
        """Events after the cursor as soon as there is one, and the cursor to go on from."""
        while True:
            seen = self._services.heights.current
            found, next_ = self.read(after, limit=limit, module=module)
            if found:
                return found, next_
            await self._services.heights.wait_beyond(seen)

    def read(self, after: Cursor, *, limit: int, module: str | None) -> tuple[list[Any], Cursor]:
        """At most *limit* events after the cursor, and the cursor to go on from."""
        try:
            rows = self._services.store.events_after(after, limit=limit, module=module)
        except HeightGone as gone:
            raise pruned(gone.part, after.height, gone.earliest) from None
        app = self._services.app
        found = [{"cursor": list(cursor), "event": shapes.event_json(app, event)} for cursor, event in rows]
        return found, (rows[-1][0] if rows else after)
