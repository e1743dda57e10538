"""From the bytes of a request to the bytes of its answer; consecutive broadcasts of a batch go in together."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog
import trio

from consensus.application import EngineFault
from node.metrics import RpcMetrics
from node.rpc.errors import BatchTooLarge, Internal, MethodNotFound, RpcError
from node.rpc.methods import Method, collect
from node.rpc.protocol import Broken, Call, failure, parse, success, to_json
from node.rpc.transactions import COMMIT_WAIT_MS, Broadcast
from node.store import StoreFailed

BATCH_ANSWER_BYTES_MAX = 16 * 2**20
"""Once the answers to a batch are as large, its further calls are refused: fifty full blocks are no answer."""

_log = structlog.get_logger("rpc")
_WAIT_MS = {"broadcast_tx_async": None, "broadcast_tx_sync": None, "broadcast_tx_commit": COMMIT_WAIT_MS}


class Broadcaster(Protocol):
    """Takes transactions in."""

    async def broadcast(self, entries: Sequence[Broadcast]) -> Sequence[dict[str, Any] | RpcError]:
        """The answers to *entries*, in order."""


class Dispatcher:
    """Answers calls with the methods that it was given."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        transactions: Broadcaster,
        *,
        batch_calls_max: int,
        metrics: RpcMetrics,
        turns: trio.Lock | None = None,
    ) -> None:
        """*turns*: shared by all who answer on this loop."""
        self.methods = methods
        self._turns = turns or trio.Lock()
        self._transactions = transactions
        self._batch_calls_max = batch_calls_max
        self._metrics = metrics

    def with_methods(self, *groups: object) -> Dispatcher:
        """The same dispatcher with the methods of *groups* beside or instead of those of the same name."""
        return Dispatcher(
            {**self.methods, **collect(groups)},
            self._transactions,
            batch_calls_max=self._batch_calls_max,
            metrics=self._metrics,
            turns=self._turns,
        )

    def parse(self, body: bytes) -> tuple[list[Call | Broken], bool]:
        """The calls in *body*, and whether they are a batch. Raises RpcError where none can be answered by itself."""
        return parse(body, batch_calls_max=self._batch_calls_max)

    async def answer(self, calls: Sequence[Call | Broken], *, batch: bool) -> bytes:
        """The bytes to send back; empty if nothing but notifications came."""
        answers: list[bytes] = []
        size = at = 0
        while at < len(calls):
            group = _broadcasts_from(calls, at)
            if group:
                made = await self._broadcast(group)
            else:
                made = [await self._one(calls[at], full=size >= BATCH_ANSWER_BYTES_MAX)]
            for call, answer in zip(calls[at : at + len(made)], made, strict=True):
                if not _is_notification(call):
                    answers.append(to_json(answer))
                    size += len(answers[-1])
            at += len(made)
        if batch and answers:
            return b"[" + b",".join(answers) + b"]"
        return b"".join(answers)

    async def _one(self, call: Call | Broken, *, full: bool) -> dict[str, Any]:
        if isinstance(call, Broken):
            return failure(call.id, call.error)
        if full:
            return failure(call.id, BatchTooLarge("the answers to this batch are large already: ask for the rest anew"))
        try:
            return success(call.id, await self.call(call.method, call.params))
        except RpcError as error:
            return failure(call.id, error)

    async def call(self, name: str, params: Mapping[str, Any] | Sequence[Any]) -> Any:
        """The result of one call. Raises RpcError.

        One call begins in each turn of the loop, whoever asks: most read the store without a pause, and hundreds of
        them in a row would keep the node from its votes.
        """
        async with self._turns:
            await trio.lowlevel.checkpoint()
        method = self.methods.get(name)
        if method is None:
            self._metrics.called("unknown")
            raise MethodNotFound(f"there is no method {name[:80]!r}; /openrpc.json lists them all")
        self._metrics.called(name)
        try:
            return await method.handler(**method.parameters.read(params))
        except RpcError:
            raise
        except StoreFailed as error:  # the disk is no stranger's fault, and no node goes on without it
            raise EngineFault(str(error)) from error
        except Exception as error:  # a defect in answering a stranger must not end the node; faults of the engine do
            raise _internal(name, error) from error

    async def _broadcast(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        """The answers to *calls*, with one submission of all their transactions."""
        for name, times in Counter(call.method for call in calls).items():
            self._metrics.called(name, times)
        entries: list[Broadcast | RpcError] = []
        for call in calls:
            try:
                entries.append(self._entry(call))
            except RpcError as error:
                entries.append(error)
        good = [entry for entry in entries if isinstance(entry, Broadcast)]
        try:
            outcomes = iter(await self._transactions.broadcast(good) if good else ())
        except StoreFailed as error:
            raise EngineFault(str(error)) from error
        except Exception as error:  # noqa: BLE001 - as in `call`
            outcomes = iter([_internal("broadcast", error)] * len(good))
        answers = []
        for call, entry in zip(calls, entries, strict=True):
            answer = next(outcomes) if isinstance(entry, Broadcast) else entry
            answers.append(failure(call.id, answer) if isinstance(answer, RpcError) else success(call.id, answer))
        return answers

    def _entry(self, call: Call) -> Broadcast:
        params = call.params
        if type(params) is dict and len(params) == 1 and type(text := params.get("tx")) is str:  # the common case, fast
            try:
                return Broadcast(base64.b64decode(text, validate=True), _WAIT_MS[call.method])
            except ValueError:
                pass  # read again below, for the sentence
        arguments = self.methods[call.method].parameters.read(params)
        return Broadcast(arguments["tx"], arguments.get("wait_ms", _WAIT_MS[call.method]))


def _internal(name: str, error: Exception) -> Internal:
    _log.error("rpc_defect", method=name, exc_info=error)
    return Internal("the node could not answer because of a defect of its own; its log says more")


def _is_notification(call: Call | Broken) -> bool:
    return isinstance(call, Call) and call.notification


def _broadcasts_from(calls: Sequence[Call | Broken], start: int) -> list[Call]:
    """The run of broadcasts that begins at *start*, empty if another call stands there."""
    group: list[Call] = []
    for call in calls[start:]:
        if not isinstance(call, Call) or call.method not in _WAIT_MS:
            break
        group.append(call)
    return group
