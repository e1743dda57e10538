"""A client of a node's RPC for programs that may wait: the command line, and proofs."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

ANSWER_BYTES_MAX = 64 * 2**20
TIMEOUT_SECONDS = 65
"""Longer than the longest wait that a node grants."""


class Unreachable(Exception):
    """No node answers at this URL, or what answers is none; says what to check."""


class RpcFailed(Exception):
    """The node refused a call: *code* is the stable string, *number* JSON-RPC's code, the text the node's sentence."""

    def __init__(self, text: str, *, code: str, number: int, data: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.code = code
        self.number = number
        self.data = dict(data)


class Client:
    """One connection to one node, opened when needed; not for use by two tasks at once."""

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """*url* such as ``http://127.0.0.1:26657``. Raises Unreachable for anything else."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port or 80
        except ValueError:
            raise Unreachable(f"{url} is no URL of a node; it looks like http://127.0.0.1:26657") from None
        if parts.scheme != "http" or not parts.hostname:
            raise Unreachable(f"{url} is no URL of a node; it looks like http://127.0.0.1:26657")
        self.url = url
        self._connection = http.client.HTTPConnection(parts.hostname, port, timeout=timeout_seconds)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The connection is closed; the next call opens another."""
        self._connection.close()

    def call(self, method: str, **params: Any) -> Any:
        """The result of one call; parameters that are None are left out. Raises RpcFailed or Unreachable."""
        answer = self._exchange(_request(method, params, 0))
        if not isinstance(answer, dict):
            raise Unreachable(f"{self.url} gave no JSON-RPC answer")
        return _result(answer, self.url)

    def batch(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Any]:
        """The results of *calls* (a node takes 50), in order; a failed one is its RpcFailed. Raises Unreachable."""
        answers = self._exchange([_request(method, params, at) for at, (method, params) in enumerate(calls)])
        if isinstance(answers, dict):
            raise _failure(answers, self.url)
        results: list[Any] = [Unreachable(f"{self.url} left a call of a batch unanswered")] * len(calls)
        for answer in answers:
            try:
                results[answer["id"]] = _result(answer, self.url)
            except RpcFailed as error:
                results[answer["id"]] = error
            except (KeyError, IndexError, TypeError):
                raise Unreachable(f"{self.url} gave no JSON-RPC answer") from None
        return results

    def _exchange(self, request: Any) -> Any:
        body = json.dumps(request).encode()
        for attempt in (1, 2):
            fresh = self._connection.sock is None
            try:
                self._connection.request("POST", "/", body, {"content-type": "application/json"})
                response = self._connection.getresponse()
                data = response.read(ANSWER_BYTES_MAX + 1)
                break
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                # A node closes idle connections, and may have been restarted; a fresh connection that fails means it.
                if fresh or attempt == 2 or not isinstance(error, ConnectionError | http.client.BadStatusLine):
                    raise Unreachable(f"no node answers at {self.url} ({_reason(error)}); is it running?") from error
        if len(data) > ANSWER_BYTES_MAX:
            raise Unreachable(f"{self.url} answered with more than {ANSWER_BYTES_MAX} bytes")
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise Unreachable(f"{self.url} answers, but not as a node does (HTTP {response.status})") from None


def _request(method: str, params: Mapping[str, Any], id_: int) -> dict[str, Any]:
    given = {name: value for name, value in params.items() if value is not None}
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": given}


def _result(answer: Mapping[str, Any], url: str) -> Any:
    if "error" in answer:
        raise _failure(answer, url)
    if "result" not in answer:
        raise Unreachable(f"{url} gave no JSON-RPC answer")
    return answer["result"]


def _failure(answer: Mapping[str, Any], url: str) -> Exception:
    error = answer.get("error")
    if not isinstance(error, dict):
        return Unreachable(f"{url} gave no JSON-RPC answer")
    data = error.get("data")
    data = data if isinstance(data, dict) else {}
    number = error.get("code")
    return RpcFailed(
        str(error.get("message", "the node gave no reason")),
        code=str(data.get("code", "rpc.internal")),
        number=number if isinstance(number, int) else 0,
        data=data,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
