"""The OpenRPC document: what can be called, with which parameters, which messages and queries, which errors."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from consensus.application import Application
from node.rpc import errors
from node.rpc.methods import Method

OPENRPC_VERSION = "1.3.2"


def document(app: Application, methods: Mapping[str, Method], *, title: str) -> dict[str, Any]:
    """The document that /openrpc.json serves; the application describes itself under ``x-application``."""
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": title,
            "version": version("allting"),
            "description": "Integers are JSON integers, hashes lower-case hex, transactions base64.",
        },
        "methods": [_method(each) for each in methods.values()],
        "components": {"errors": {error.__name__: _error(error) for error in all_errors()}},
        "x-application": app.describe(),
    }


def all_errors() -> list[type[errors.RpcError]]:
    """Every kind of error that a call can end with, by number."""
    kinds = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.RpcError)}
    return sorted(kinds - {errors.RpcError}, key=lambda kind: -kind.number)


def _error(kind: type[errors.RpcError]) -> dict[str, Any]:
    return {"code": kind.number, "message": (kind.__doc__ or "").strip(), "data": {"code": kind.code_default}}


def _method(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": [
            {"name": parameter.name, "required": parameter.required, "schema": dict(parameter.reading.schema)}
            for parameter in method.parameters.all
        ],
        "result": {"name": "result", "schema": {}},
        "errors": [{"$ref": f"#/components/errors/{kind.__name__}"} for kind in all_errors()],
    }
