"""What a town's modules declare, as data: the source of command line, OpenRPC, forms and reference pages."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

from city.sdk.declare import PARAMS_QUERY
from city.sdk.forms import Forms
from city.sdk.keys import part_types
from city.sdk.module import Declaration, EventKind, Handler
from city.sdk.refusal import TEXTS
from city.sdk.runtime import Registry
from consensus.signing import sha256


def describe_town(registry: Registry, forms: Forms, *, name: str, version: int) -> dict[str, Any]:
    """All modules, with JSON Schema for every argument and answer."""
    return {
        "application": name,
        "version": version,
        "refusals": [{"code": code, "text": text} for code, text in sorted(TEXTS.items())],
        "modules": {
            kind.name: describe_module(kind.declaration, forms)
            for kind in sorted(registry.modules, key=lambda kind: kind.name)
        },
    }


def describe_module(declared: Declaration, forms: Forms) -> dict[str, Any]:
    """One module."""
    return {
        "name": declared.name,
        "version": declared.version,
        "text": declared.text,
        "uses": sorted(used.name for used in declared.uses.values()),
        "messages": {name: _message(handler, forms) for name, handler in declared.messages.items()},
        "queries": {
            **{name: _query(handler, forms) for name, handler in declared.queries.items()},
            **_params_query(declared),
        },
        "tables": {
            name: {
                "key": [forms.of(part).schema for part in part_types(table.key_type)],
                "value": forms.of(table.value_type).schema,
            }
            for name, table in declared.tables.items()
        },
        "params": {
            name: {"text": param.text, "default": param.default, "low": param.low, "high": param.high}
            for name, param in declared.params.items()
        },
        "refusals": [{"code": code, "text": text} for code, text in sorted(declared.refusals.items())],
        "events": {kind.name: _event(kind, forms) for kind in declared.events.values()},
        "invariants": list(declared.invariants),
    }


def schema_hash(declared: Declaration, forms: Forms) -> bytes:
    """32 bytes that change when what the module declares changes, texts aside."""
    return sha256(json.dumps(_without_texts(describe_module(declared, forms)), sort_keys=True).encode())


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_texts(item) for key, item in value.items() if key != "text" or not isinstance(item, str)}
    if isinstance(value, list):
        return [_without_texts(item) for item in value]
    return value


def _message(handler: Handler, forms: Forms) -> dict[str, Any]:
    return {
        "text": handler.text,
        "authority": handler.mark.authority,
        "args": forms.schema_of_arguments(handler.signature),
    }


def _query(handler: Handler, forms: Forms) -> dict[str, Any]:
    return {
        "text": handler.text,
        "path": f"{handler.module}/{handler.name}",
        "args": forms.schema_of_arguments(handler.signature),
        "result": forms.of(handler.signature.returns).schema,
    }


def _params_query(declared: Declaration) -> dict[str, Any]:
    """The query that every module with parameters answers without declaring it."""
    if not declared.params:
        return {}
    properties = {
        name: {"type": "integer", "minimum": param.low, "maximum": param.high}
        for name, param in declared.params.items()
    }
    return {
        PARAMS_QUERY: {
            "text": "The parameters as they are now.",
            "path": f"{declared.name}/{PARAMS_QUERY}",
            "args": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
            "result": {"type": "object", "title": "Parameters", "properties": properties},
        }
    }


def _event(kind: EventKind, forms: Forms) -> dict[str, Any]:
    hints = typing.get_type_hints(kind.kind, include_extras=True)
    fields = {field.name: forms.of(hints[field.name]).schema for field in dataclasses.fields(kind.kind)}
    return {"text": kind.text, "fields": fields}
