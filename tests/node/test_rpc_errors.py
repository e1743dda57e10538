"""Numbers and code strings of errors are promises to clients."""

from __future__ import annotations

from node.rpc.errors import RpcError, TimedOut
from node.rpc.openrpc import all_errors

PROMISED = {
    "ParseError": (-32700, "rpc.parse", 400),
    "InvalidRequest": (-32600, "rpc.invalid_request", 400),
    "MethodNotFound": (-32601, "rpc.method_not_found", 404),
    "InvalidParams": (-32602, "rpc.invalid_params", 400),
    "Internal": (-32603, "rpc.internal", 500),
    "TooLarge": (-32001, "rpc.too_large", 413),
    "BatchTooLarge": (-32002, "rpc.batch_too_large", 413),
    "Limited": (-32003, "rpc.limited", 429),
    "ForeignHost": (-32004, "rpc.foreign_host", 403),
    "TooSlow": (-32005, "rpc.too_slow", 408),
    "NotFound": (-32010, "rpc.not_found", 404),
    "Pending": (-32011, "rpc.pending", 404),
    "Pruned": (-32012, "rpc.pruned", 410),
    "QueryFailed": (-32020, "query.refused", 400),
    "TransactionRefused": (-32021, "tx.refused", 400),
    "TimedOut": (-32030, "rpc.timed_out", 504),
    "Unverifiable": (-32040, "light.unverifiable", 501),
    "NotShown": (-32041, "light.not_shown", 404),
    "NoWitness": (-32042, "light.no_witness", 503),
    "NoSource": (-32043, "light.no_source", 503),
    "TrustExpired": (-32044, "light.expired", 503),
    "ChainDiverged": (-32045, "light.diverged", 503),
}


def test_codes_never_change() -> None:
    assert {kind.__name__: (kind.number, kind.code_default, kind.http_status) for kind in all_errors()} == PROMISED


def test_an_error_carries_number_sentence_and_code() -> None:
    error: RpcError = TimedOut("not yet", hash="aa")
    assert error.to_json() == {
        "code": -32030,
        "message": "not yet",
        "data": {"code": "rpc.timed_out", "hash": "aa"},
    }
