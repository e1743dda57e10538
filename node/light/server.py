"""The light client's HTTP face: a node's methods, behind a gate that closes for good once two chains are proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import trio
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from node.config import RpcConfig
from node.light.methods import (
    LightChainMethods,
    LightQueryMethods,
    LightStatusMethods,
    unverifiable,
    unverifiable_methods,
)
from node.light.passing import LightAccounts, LightTransactionMethods, PassedOn
from node.light.service import Light
from node.metrics import RpcMetrics
from node.rpc import openrpc
from node.rpc.dispatch import Dispatcher
from node.rpc.errors import RpcError
from node.rpc.face import HttpFace, serve_face
from node.rpc.methods import Handler, Method, collect
from node.rpc.prepare import AssembleMethods, PrepareMethods


async def serve_light(
    light: Light, config: RpcConfig, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serves until cancelled; *task_status* gets the URL once connections are accepted. Raises PortInUse."""
    await serve_face(config, lambda hosts: LightServer(light, config, own_hosts=hosts), task_status=task_status)


class LightServer(HttpFace):
    """The ASGI application over a `Light`."""

    def __init__(self, light: Light, config: RpcConfig, *, own_hosts: tuple[str, ...] = ()) -> None:
        registry = CollectorRegistry()
        registry.register(LightCollector(light))
        metrics = RpcMetrics(registry)
        chain, queries, passed = LightChainMethods(light), LightQueryMethods(light), PassedOn()
        transactions = LightTransactionMethods(light, chain, passed)
        chain_id = light.genesis.chain_id
        prepare = PrepareMethods(light.app, chain_id, LightAccounts(light, queries, passed))
        groups = [LightStatusMethods(light), chain, queries, transactions, prepare, AssembleMethods()]
        methods = {**collect(groups), **unverifiable_methods()}
        gated = {name: replace(each, handler=_gated(light, each)) for name, each in sorted(methods.items())}
        dispatcher = Dispatcher(gated, transactions, batch_calls_max=config.batch_calls_max, metrics=metrics)
        super().__init__(
            dispatcher,
            config,
            metrics,
            chain_id=chain_id,
            document=lambda: openrpc.document(light.app, gated, title=f"Allting light client of {chain_id}"),
            own_hosts=own_hosts,
            routes=[WebSocketRoute("/websocket", self._websocket)],
        )

    async def _websocket(self, socket: WebSocket) -> None:
        """Subscriptions can't be verified, and calls need no WebSocket."""
        try:
            self._admit(socket)
            raise unverifiable("subscribe")
        except RpcError as error:
            await socket.send_denial_response(self._refusal(error, status=error.http_status))


def _gated(light: Light, method: Method) -> Handler:
    async def handler(**arguments: Any) -> Any:
        light.follower.require_going()
        answer = await method.handler(**arguments)
        light.follower.require_going()  # two chains may have been proved while this call waited
        return answer

    return handler


class LightCollector(Collector):
    """What a light client says of itself at the moment of the scrape."""

    def __init__(self, light: Light) -> None:
        self._light = light

    def collect(self) -> list[Metric]:
        """The current numbers."""
        follower = self._light.follower
        numbers: Mapping[str, tuple[str, int]] = {
            "light_height": ("The latest block that is believed.", follower.blocks.latest.height),
            "light_witnesses": ("Nodes that the primary is held against.", len(follower.sources.witnesses)),
            "light_liars": ("Nodes that lied and are asked no more.", len(follower.sources.dropped)),
            "light_diverged": ("1 once two chains are proved.", int(follower.diverged is not None)),
        }
        return [GaugeMetricFamily(f"allting_{name}", text, value=value) for name, (text, value) in numbers.items()]
