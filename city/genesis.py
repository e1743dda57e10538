"""The first state of a town, from the ``town`` table of the genesis file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from city.register import Register
from city.sdk.context import REGISTER, Context, module_address
from city.sdk.forms import BadJson, Forms
from city.sdk.module import Module
from city.sdk.refusal import Refused
from city.sdk.runtime import Moment, Registry, Runtime
from city.sdk.weights import Meter
from consensus.application import Founder, Genesis, State
from consensus.codec import BadMessage
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


def resumed_state(
    registry: Registry,
    former: State,
    founders: Sequence[Founder],
    *,
    chain_id: str,
    time_ms: int,
    params: Params,
) -> Genesis:
    """The first state of a chain that goes on from *former*: its rows, but for what modules declare with `resume`.

    Raises ValueError where another release wrote *former*, or where an invariant does not hold in what comes out.
    """
    runtime = Runtime(registry, former, Moment(chain_id, 0, time_ms, params), Meter(INTEGER_MAX))
    register = cast(Register, runtime.modules[REGISTER])
    _check_versions(register, runtime.modules)
    context = Context(runtime, module_address(GENESIS_AUTHORITY), (), GENESIS_AUTHORITY)
    wire = tuple((founder.public_key, founder.power, founder.name) for founder in founders)
    for name, module in runtime.modules.items():
        register.note_version(context, name, module.version)
        handler = module.declaration.resume
        if handler is None:
            continue
        try:
            runtime.call(handler, context, handler.signature.read((wire,)))
        except (BadMessage, Refused) as error:
            raise ValueError(f"validators: {name}: {error}") from error
    broken = runtime.broken_invariants()
    if broken:
        raise ValueError(f"the state can't be gone on from; these invariants do not hold: {', '.join(broken)}")
    changes: dict[str, dict[bytes, bytes | None]] = {}
    for name, space in sorted(runtime.spaces.items()):
        rows: dict[bytes, bytes | None] = {**dict(former.scan(name, b"", None)), **space.changes()}
        changes[name] = {key: value for key, value in rows.items() if value is not None}
    return Genesis(changes={name: rows for name, rows in changes.items() if rows}, validators=runtime.decided.updates)


def _check_versions(register: Register, modules: Mapping[str, Module]) -> None:
    """Raises ValueError unless the installed modules are those that wrote the state, in the versions that wrote it."""
    written = {name: row.version for name, row in register.versions.all()}
    installed = {name: module.version for name, module in modules.items()}
    for name in sorted({*written, *installed}):
        if written.get(name, 0) != installed.get(name, 0):
            raise ValueError(
                f"the state has version {written.get(name, 0)} of module {name}, installed is "
                f"{installed.get(name, 0)} (0: none); install the release that the town ran"
            )


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
