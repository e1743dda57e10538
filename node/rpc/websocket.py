"""JSON-RPC over a WebSocket: the same methods, and subscriptions that go on where their reader left off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Annotated, Any

import trio

from node.events import Cursor
from node.rpc import shapes
from node.rpc.chain import ChainMethods
from node.rpc.dispatch import Dispatcher
from node.rpc.errors import InvalidParams, NotFound, RpcError
from node.rpc.event_methods import EventMethods
from node.rpc.methods import method
from node.rpc.parameters import CursorJson, Integer, Reading, Text
from node.rpc.protocol import failure, to_json
from node.services import Services

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Charge = Callable[[int, int], None]
"""Charges the client's address for calls and bytes; raises Limited."""

CALLS_AT_ONCE_MAX = 8
"""Calls of one WebSocket in work, or whose answers its client has not taken yet; reading pauses beyond."""
EVENTS_PER_MESSAGE_MAX = 200
TOPICS = ("events", "blocks")


def _topic(value: Any) -> str:
    if value not in TOPICS:
        raise ValueError(f"must be one of {', '.join(TOPICS)}")
    return str(value)


Topic = Annotated[str, Reading(_topic, {"type": "string", "enum": list(TOPICS)})]


class SubscriptionMethods:
    """What only a WebSocket can ask for. One instance serves one connection; `offered` describes them to all."""

    def __init__(self, connection: Connection | None = None) -> None:
        self._connection = connection

    @method
    async def subscribe(
        self, topic: Topic = "events", after: CursorJson | None = None, module: Text | None = None
    ) -> Any:
        """Sends what happens from now on, or after a cursor, as ``event`` notifications until unsubscribed.

        Topic ``events`` (of one *module* if named) carries events with cursors, ``blocks`` the header of each height.
        Each notification names the subscription, and in ``next`` the cursor from which a later one goes on.
        """
        return {"subscription": self._bound().subscribe(topic, after, module)}

    @method
    async def unsubscribe(self, subscription: Integer) -> Any:
        """Ends a subscription of this connection."""
        self._bound().unsubscribe(subscription)
        return {}

    def _bound(self) -> Connection:
        if self._connection is None:
            raise InvalidParams("subscriptions need a WebSocket: connect to /websocket; or poll with events")
        return self._connection


class Connection:
    """One open WebSocket."""

    def __init__(
        self,
        services: Services,
        dispatcher: Dispatcher,
        chain: ChainMethods,
        events: EventMethods,
        *,
        receive: Receive,
        send: Send,
        charge: Charge,
    ) -> None:
        self._services = services
        self._chain = chain
        self._events = events
        self._receive = receive
        self._raw_send = send
        self._charge = charge
        self._sending = trio.Lock()
        self._room = trio.CapacityLimiter(CALLS_AT_ONCE_MAX)
        self._subscriptions: dict[int, trio.CancelScope] = {}
        self._last_subscription = 0
        self._dispatcher = dispatcher.with_methods(SubscriptionMethods(self))
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Serves until the client goes."""
        async with trio.open_nursery() as self._nursery:
            while True:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    break
                text = message.get("text")
                body: bytes = message.get("bytes") or b"" if text is None else text.encode()
                token = object()
                await self._room.acquire_on_behalf_of(token)
                self._nursery.start_soon(self._answer, body, token)
            self._nursery.cancel_scope.cancel()

    async def _answer(self, body: bytes, token: object) -> None:
        try:
            try:
                calls, batch = self._dispatcher.parse(body)
                self._charge(len(calls), len(body))
                answer = await self._dispatcher.answer(calls, batch=batch)
            except RpcError as error:
                answer = to_json(failure(None, error))
            if answer:
                await self._send(answer)
        finally:
            self._room.release_on_behalf_of(token)

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            await self._raw_send({"type": "websocket.send", "text": data.decode()})

    def subscribe(self, topic: str, after: tuple[int, int, int] | None, module: str | None) -> int:
        """A new subscription, and its number."""
        most = self._services.config.rpc.subscriptions_per_client_max
        if len(self._subscriptions) >= most:
            raise InvalidParams(f"at most {most} subscriptions on one WebSocket; unsubscribe one first")
        self._last_subscription += 1
        scope = trio.CancelScope()
        self._subscriptions[self._last_subscription] = scope
        cursor = _first_of(self._services.heights.current + 1) if after is None else Cursor(*after)
        follow = self._follow_blocks if topic == "blocks" else partial(self._follow_events, module)
        self._nursery.start_soon(self._serve_subscription, self._last_subscription, scope, follow, cursor)
        return self._last_subscription

    def unsubscribe(self, number: int) -> None:
        """The subscription ends; raises NotFound if there is none of this number."""
        scope = self._subscriptions.pop(number, None)
        if scope is None:
            raise NotFound(f"this WebSocket has no subscription {number}")
        scope.cancel()

    async def _serve_subscription(
        self, number: int, scope: trio.CancelScope, follow: Callable[..., Awaitable[None]], cursor: Cursor
    ) -> None:
        with scope:
            try:
                await follow(number, cursor)
            except RpcError as error:  # what it asks for is no longer kept
                self._subscriptions.pop(number, None)
                params = {"subscription": number, "error": error.to_json()}
                await self._send(to_json({"jsonrpc": "2.0", "method": "event", "params": params}))

    async def _follow_events(self, module: str | None, number: int, cursor: Cursor) -> None:
        while True:
            found, cursor = await self._events.wait_for(cursor, limit=EVENTS_PER_MESSAGE_MAX, module=module)
            await self._notify(number, {"events": found}, cursor)

    async def _follow_blocks(self, number: int, cursor: Cursor) -> None:
        height = cursor.height if cursor == _first_of(cursor.height) else cursor.height + 1
        while True:
            await self._services.heights.wait_beyond(height - 1)
            header = self._chain.stored(self._services.store.header, height)
            height += 1
            await self._notify(number, {"header": shapes.header_json(header)}, _first_of(height))

    async def _notify(self, number: int, what: dict[str, Any], cursor: Cursor) -> None:
        params = {"subscription": number, **what, "next": list(cursor)}
        await self._send(to_json({"jsonrpc": "2.0", "method": "event", "params": params}))


def _first_of(height: int) -> Cursor:
    """Before everything that happens in the block of *height*."""
    return Cursor(height, 0, -1)
