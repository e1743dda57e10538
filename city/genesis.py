"""The first state of a town, from the ``town`` table of the genesis file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from city.register import Register
from city.sdk.context import REGISTER, Context, module_address
from city.sdk.forms import BadJson, Forms
from city.sdk.module import Module
from city.sdk.refusal import Refused
from city.sdk.runtime import Moment, Registry, Runtime
from city.sdk.weights import Meter
from consensus.application import Genesis, State
from consensus.params import Params
from consensus.shape import INTEGER_MAX

GENESIS_AUTHORITY = "genesis"


def first_state(
    document: Mapping[str, Any],
    registry: Registry,
    forms: Forms,
    empty: State,
    *,
    chain_id: str,
    time_ms: int,
    params: Params,
) -> Genesis:
    """The state before the first block. Raises ValueError naming the key of *document* that is unknown or wrong."""
    runtime = Runtime(registry, empty, Moment(chain_id, 0, time_ms, params), Meter(INTEGER_MAX))
    known = {name for name, module in runtime.modules.items() if module.declaration.genesis is not None} | {"params"}
    for key in document:
        if key not in known:
            raise ValueError(f"town.{key}: unknown; known are {', '.join(sorted(known))}")
    _set_params(runtime, document.get("params", {}))
    for name, module in runtime.modules.items():
        _begin(runtime, module, forms, document.get(name, {}))
    register = cast(Register, runtime.modules[REGISTER])
    context = Context(runtime, module_address(GENESIS_AUTHORITY), (), GENESIS_AUTHORITY)
    for name, module in runtime.modules.items():
        register.note_version(context, name, module.version)
    changes = {name: rows for name, space in sorted(runtime.spaces.items()) if (rows := space.changes())}
    return Genesis(changes=changes, validators=runtime.decided.updates)


def _set_params(runtime: Runtime, given: object) -> None:
    if not isinstance(given, Mapping):
        raise ValueError("town.params: expected a table of numbers")
    for key, value in given.items():
        where = f'town.params."{key}"'
        module, _, name = str(key).partition(".")
        found = runtime.modules.get(module)
        param = None if found is None else found.declaration.params.get(name)
        if found is None or param is None:
            raise ValueError(f"{where}: there is no such parameter")
        if isinstance(value, bool) or not isinstance(value, int) or not param.low <= value <= param.high:
            raise ValueError(f"{where}: {value!r} is not in {param.low}…{param.high}")
        found.space.write(param.key, param.write(value), value)


def _begin(runtime: Runtime, module: Module, forms: Forms, given: object) -> None:
    handler = module.declaration.genesis
    if handler is None:
        return
    where = f"town.{module.name}"
    try:
        arguments = forms.read_arguments(handler.signature, given, where)
        runtime.call(handler, Context(runtime, module_address(GENESIS_AUTHORITY), (), GENESIS_AUTHORITY), arguments)
    except BadJson as error:
        raise ValueError(str(error)) from error
    except Refused as error:
        raise ValueError(f"{where}: {error}") from error
