"""What an RPC call can fail with. The numbers and code strings are promises to clients; a test pins them."""

from __future__ import annotations

from typing import Any, ClassVar


class RpcError(Exception):
    """A call that failed: `number` is the JSON-RPC code, `code` a stable string, the text a sentence for people."""

    number: ClassVar[int] = -32603
    code_default: ClassVar[str] = "rpc.internal"
    http_status: ClassVar[int] = 200

    def __init__(self, text: str, code: str | None = None, **details: Any) -> None:
        super().__init__(text)
        self.code = code or self.code_default
        self.details = details

    def to_json(self) -> dict[str, Any]:
        """The ``error`` member of an answer."""
        return {"code": self.number, "message": str(self), "data": {"code": self.code, **self.details}}


class ParseError(RpcError):
    """The body is no JSON."""

    number, code_default, http_status = -32700, "rpc.parse", 400


class InvalidRequest(RpcError):
    """JSON, but no JSON-RPC request."""

    number, code_default, http_status = -32600, "rpc.invalid_request", 400


class MethodNotFound(RpcError):
    """No method has this name."""

    number, code_default, http_status = -32601, "rpc.method_not_found", 404


class InvalidParams(RpcError):
    """A parameter is missing, unknown, or of another type than declared."""

    number, code_default, http_status = -32602, "rpc.invalid_params", 400


class Internal(RpcError):
    """A defect of the node; its log has the traceback."""

    number, code_default, http_status = -32603, "rpc.internal", 500


class TooLarge(RpcError):
    """The body is larger than the node reads."""

    number, code_default, http_status = -32001, "rpc.too_large", 413


class BatchTooLarge(RpcError):
    """A batch has more calls than the node answers at once, or asks for more bytes."""

    number, code_default, http_status = -32002, "rpc.batch_too_large", 413


class Limited(RpcError):
    """This address has used up its calls or bytes for now."""

    number, code_default, http_status = -32003, "rpc.limited", 429


class ForeignHost(RpcError):
    """The Host or Origin header names a host that this node does not answer for."""

    number, code_default, http_status = -32004, "rpc.foreign_host", 403


class TooSlow(RpcError):
    """The client took too long to send its request."""

    number, code_default, http_status = -32005, "rpc.too_slow", 408


class NotFound(RpcError):
    """The height, transaction or entry asked for is not on this node."""

    number, code_default, http_status = -32010, "rpc.not_found", 404


class Pending(RpcError):
    """The transaction waits in the mempool."""

    number, code_default, http_status = -32011, "rpc.pending", 404


class Pruned(RpcError):
    """The height was decided, and is kept here no more; ``data`` says of what, and from where on it is."""

    number, code_default, http_status = -32012, "rpc.pruned", 410


class QueryFailed(RpcError):
    """The application refused a query; ``data.code`` is its own code."""

    number, code_default, http_status = -32020, "query.refused", 400


class TransactionRefused(RpcError):
    """A transaction can't be prepared or assembled; ``data.code`` says why."""

    number, code_default, http_status = -32021, "tx.refused", 400


class TimedOut(RpcError):
    """The transaction was accepted and was not in a block when the wait ended; ``data.hash`` asks again later."""

    number, code_default, http_status = -32030, "rpc.timed_out", 504


class Unverifiable(RpcError):
    """A light client is asked for what no proof covers; ask a node that you trust."""

    number, code_default, http_status = -32040, "light.unverifiable", 501


class NotShown(RpcError):
    """No node shows what was asked for. That it does not exist is not proved; ``data.said`` is what the nodes said."""

    number, code_default, http_status = -32041, "light.not_shown", 404


class NoWitness(RpcError):
    """A block is proved by one node, and no witness confirms it; it is not believed."""

    number, code_default, http_status = -32042, "light.no_witness", 503


class NoSource(RpcError):
    """No node is left that answers without lying."""

    number, code_default, http_status = -32043, "light.no_source", 503


class TrustExpired(RpcError):
    """What the light client trusts is too old to prove anything; only a fresh link helps."""

    number, code_default, http_status = -32044, "light.expired", 503


class ChainDiverged(RpcError):
    """Two chains are proved: more than a third of the power lies. The light client has stopped serving."""

    number, code_default, http_status = -32045, "light.diverged", 503
