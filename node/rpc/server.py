"""The node's HTTP face: the methods of all its parts, and the WebSocket."""

from __future__ import annotations

import structlog
import trio
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from consensus.application import EngineFault
from node.metrics import RpcMetrics, node_registry
from node.rpc import openrpc
from node.rpc.chain import ChainMethods
from node.rpc.dispatch import Dispatcher
from node.rpc.errors import Limited, RpcError
from node.rpc.event_methods import EventMethods
from node.rpc.evidence import EvidenceMethods
from node.rpc.face import HttpFace, client_host, serve_face
from node.rpc.methods import collect
from node.rpc.node_methods import NodeMethods
from node.rpc.prepare import AssembleMethods, NodeAccounts, PrepareMethods
from node.rpc.queries import QueryMethods
from node.rpc.transactions import TransactionMethods
from node.rpc.websocket import Connection, SubscriptionMethods
from node.services import Services

_log = structlog.get_logger("rpc")


async def serve_rpc(services: Services, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serves until cancelled; *task_status* gets the URL once connections are accepted. Raises PortInUse."""
    await serve_face(services.config.rpc, lambda hosts: RpcServer(services, own_hosts=hosts), task_status=task_status)


class RpcServer(HttpFace):
    """The ASGI application over one node's `Services`."""

    def __init__(self, services: Services, *, own_hosts: tuple[str, ...] = ()) -> None:
        config = services.config.rpc
        self._services = services
        self._chain = ChainMethods(services)
        self._events = EventMethods(services)
        self._websockets = 0
        transactions = TransactionMethods(services, self._chain)
        groups = [
            NodeMethods(services),
            self._chain,
            self._events,
            transactions,
            EvidenceMethods(services),
            PrepareMethods(services.app, services.chain_id, NodeAccounts(services)),
            AssembleMethods(),
            QueryMethods(services, self._chain),
            SubscriptionMethods(),
        ]
        metrics = RpcMetrics(node_registry(services))
        dispatcher = Dispatcher(collect(groups), transactions, batch_calls_max=config.batch_calls_max, metrics=metrics)
        super().__init__(
            dispatcher,
            config,
            metrics,
            chain_id=services.chain_id,
            document=lambda: openrpc.document(
                services.app, dispatcher.methods, title=f"Allting node of {services.chain_id}"
            ),
            own_hosts=own_hosts,
            routes=[WebSocketRoute("/websocket", self._websocket)],
        )

    async def _websocket(self, socket: WebSocket) -> None:
        config = self._services.config.rpc
        try:
            self._admit(socket)
            if self._websockets >= config.websockets_max:
                raise Limited(f"all {config.websockets_max} WebSockets of this node are taken")
        except RpcError as error:
            self._metrics.refused(error.code)
            await socket.send_denial_response(self._refusal(error, status=error.http_status))
            return
        await socket.accept()
        self._websockets += 1
        try:
            await Connection(
                self._services,
                self.dispatcher,
                self._chain,
                self._events,
                receive=socket.receive,
                send=socket.send,
                charge=lambda calls, size: self._limits.take(client_host(socket), calls=calls, size=size),
            ).run()
        except BaseExceptionGroup as group:
            _tell(group)
        finally:
            self._websockets -= 1


def _tell(group: BaseExceptionGroup[BaseException]) -> None:
    """A defect that ended a WebSocket is in the log. Raises faults of the engine bare, since Hypercorn eats groups."""
    faults = group.subgroup(EngineFault)
    while isinstance(faults, BaseExceptionGroup):
        first = faults.exceptions[0]
        if not isinstance(first, BaseExceptionGroup):
            raise first from group
        faults = first
    defects, rest = group.split(Exception)
    if defects is not None:
        _log.error("rpc_defect", method="websocket", exc_info=defects)
    if rest is not None:
        raise rest
