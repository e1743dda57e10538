"""One node that is asked and not trusted: what it may say, and what counts as no answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from node.rpc.errors import ParseError
from node.rpc.protocol import parse_json

ASK_SECONDS = 10.0
"""A node that takes longer for a read is as good as gone: others are asked."""


class SourceGone(Exception):
    """The node gave no usable answer: it is down, slow, or no node. It may be well later."""


class SourceRefused(Exception):
    """The node refused the call: *code* is the stable string, *data* what came with it. Nothing of it is verified."""

    def __init__(self, text: str, *, code: str, data: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.code = code
        self.data = dict(data)


class Source(Protocol):
    """Somebody who answers RPC calls, whether truly or not."""

    @property
    def name(self) -> str:
        """What the log calls it: its URL."""

    async def call(self, method: str, *, wait_s: float = ASK_SECONDS, **params: Any) -> Any:
        """The result, within *wait_s*; parameters that are None are left out. Raises SourceGone, SourceRefused."""


def result_of(data: bytes, name: str) -> Any:
    """The result in the JSON-RPC answer *data* of the node *name*. Raises SourceGone, SourceRefused."""
    try:
        answer = parse_json(data)
    except ParseError as error:
        raise SourceGone(f"{name} answers, but not as a node does") from error
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        refusal, details = answer["error"], answer["error"].get("data")
        details = details if isinstance(details, dict) else {}
        text = str(refusal.get("message", "the node gave no reason"))
        raise SourceRefused(text[:1000], code=str(details.get("code", "rpc.internal"))[:100], data=details)
    if not isinstance(answer, dict) or "result" not in answer:
        raise SourceGone(f"{name} gave no JSON-RPC answer")
    return answer["result"]
