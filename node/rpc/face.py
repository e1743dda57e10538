"""The HTTP face of whatever answers JSON-RPC: calls by POST, reads by GET, metrics and the OpenRPC document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from node.config import RpcConfig, split_host_port
from node.metrics import CONTENT_TYPE, RpcMetrics
from node.rpc.bodies import discard_rest, read_body
from node.rpc.connections import Connections, listen
from node.rpc.dispatch import Dispatcher
from node.rpc.errors import InvalidRequest, MethodNotFound, ParseError, RpcError, TooLarge
from node.rpc.hosts import AllowedHosts
from node.rpc.limits import AddressLimits
from node.rpc.protocol import failure, parse_json, success, to_json

JSON_TYPE = "application/json"
EVERY_VERB = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
UNREADABLE_BY_GET = frozenset(
    {
        "broadcast_tx_async",
        "broadcast_tx_sync",
        "broadcast_tx_commit",
        "broadcast_evidence",
        "prepare_tx",
        "assemble_tx",
    }
)
"""A link must not send anything."""


class HttpFace:
    """An ASGI application (`app`) over a dispatcher."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        config: RpcConfig,
        metrics: RpcMetrics,
        *,
        chain_id: str,
        document: Callable[[], Mapping[str, Any]],
        own_hosts: Sequence[str] = (),
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        """*document* makes what /openrpc.json serves; *own_hosts* are answered for beside those of *config*."""
        self.dispatcher = dispatcher
        self._config = config
        self._metrics = metrics
        self._chain_id = chain_id
        self._document = document
        self._hosts = AllowedHosts((*config.allowed_hosts, *own_hosts))
        self._limits = AddressLimits(
            calls_per_second=config.calls_per_second_max,
            bytes_per_second=config.body_bytes_max,
            clock=trio.current_time,
        )
        self.app = Router(
            [
                Route("/", self._post, methods=["POST"]),
                Route("/", self._index, methods=["GET"]),
                Route("/metrics", self._show_metrics, methods=["GET"]),
                Route("/openrpc.json", self._openrpc, methods=["GET"]),
                Route("/{method}", self._get, methods=["GET"]),
                *routes,
                Route("/{path:path}", self._nowhere, methods=EVERY_VERB),
            ]
        )

    async def _post(self, request: Request) -> Response:
        try:
            self._admit(request)
            body = await read_body(request.receive, declared=_declared(request), bytes_max=self._config.body_bytes_max)
            calls, batch = self.dispatcher.parse(body)
            self._limits.take(client_host(request), calls=len(calls), size=len(body))
        except TooLarge as error:
            return LastWords(self._refusal(error))
        except RpcError as error:
            return self._refusal(error)
        answer = await self.dispatcher.answer(calls, batch=batch)
        return Response(answer, status_code=200 if answer else 204, media_type=JSON_TYPE)

    async def _get(self, request: Request) -> Response:
        name = request.path_params["method"]
        try:
            self._admit(request)
            self._limits.take(client_host(request), calls=1, size=len(request.url.query))
            if name in UNREADABLE_BY_GET:
                raise InvalidRequest(f"{name} changes something: send it by POST")
            params = {key: _argument(value) for key, value in request.query_params.items()}
            result = await self.dispatcher.call(name, params)
        except RpcError as error:
            return self._refusal(error, status=error.http_status)
        return _json(success(None, result))

    async def _index(self, request: Request) -> Response:
        return await self._plain(request, lambda: to_json(self._index_json()), JSON_TYPE)

    def _index_json(self) -> Mapping[str, Any]:
        methods = {name: each.summary for name, each in self.dispatcher.methods.items()}
        return {"chain_id": self._chain_id, "document": "/openrpc.json", "methods": methods}

    async def _show_metrics(self, request: Request) -> Response:
        return await self._plain(request, self._metrics.text, CONTENT_TYPE)

    async def _openrpc(self, request: Request) -> Response:
        return await self._plain(request, lambda: to_json(self._document()), JSON_TYPE)

    async def _nowhere(self, request: Request) -> Response:
        error = MethodNotFound(f"nothing answers {request.method[:10]} here; POST JSON-RPC to / or GET /openrpc.json")
        return self._refusal(error, status=error.http_status)

    async def _plain(self, request: Request, content: Any, media_type: str) -> Response:
        try:
            self._admit(request)
            self._limits.take(client_host(request), calls=1, size=0)
        except RpcError as error:
            return self._refusal(error, status=error.http_status)
        return Response(content(), headers={"content-type": media_type})

    def _admit(self, connection: HTTPConnection) -> None:
        headers = connection.headers
        self._hosts.check(headers.get("host"), headers.get("origin"))

    def _refusal(self, error: RpcError, *, status: int | None = None) -> Response:
        self._metrics.refused(error.code)
        return _json(failure(None, error), status=error.http_status if status is None else status)


async def serve_face(
    config: RpcConfig,
    make: Callable[[tuple[str, str]], HttpFace],
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The face that *make* gives for the hosts listened on serves until cancelled; *task_status* gets its URL.

    Raises PortInUse.
    """
    host, port = split_host_port(config.listen)
    listeners = listen(host, port)
    bound_host, bound_port = listeners[0].socket.getsockname()[:2]
    shown = f"[{bound_host}]" if ":" in bound_host else bound_host
    connections = Connections(
        make((host, bound_host)).app,  # type: ignore[arg-type]  # Starlette and Hypercorn spell ASGI's types differently
        total_max=config.concurrent_requests_max + config.websockets_max,
        websocket_bytes_max=config.body_bytes_max,
    )
    task_status.started(f"http://{shown}:{bound_port}")
    await connections.serve(listeners)


class LastWords(Response):
    """An answer to a client that still sends: what it sends is discarded while it reads, then the connection ends."""

    def __init__(self, answer: Response) -> None:
        super().__init__(
            answer.body, status_code=answer.status_code, media_type=JSON_TYPE, headers={"connection": "close"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
        await discard_rest(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def client_host(connection: HTTPConnection) -> str:
    """The address of who asks, "" where it is not known."""
    return connection.client.host if connection.client is not None else ""


def _declared(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _argument(text: str) -> Any:
    """A GET argument: JSON where it is JSON, else the text itself, so that hashes need no quotes."""
    try:
        value = parse_json(text.encode())
    except ParseError:
        return text
    return text if isinstance(value, float) else value


def _json(value: Any, *, status: int = 200) -> Response:
    return Response(to_json(value), status_code=status, media_type=JSON_TYPE)
