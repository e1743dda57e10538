"""Entries of the state as people read them: which table, which row, what it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from city.sdk.declare import PARAM_TABLE
from city.sdk.forms import Forms
from city.sdk.keys import decoder_of, part_types
from city.sdk.module import Declaration
from city.sdk.table import Table
from consensus.codec import BadMessage, decode
from consensus.shape import MESSAGE_BYTES_MAX, U63, shape_of


def show_entry(declared: Declaration | None, forms: Forms, key: bytes, value: bytes | None) -> Any:
    """``{"entry": "balances[ting1…]", "value": …}``; in hex what is unknown or can't be read.

    *value* None shows as null: there is no such entry.
    """
    if declared is not None:
        try:
            return _shown(declared, forms, key, value)
        except (BadMessage, ValueError, IndexError, KeyError):
            pass  # not written by this release: its raw bytes are shown
    return {"entry": key.hex(), "value": None if value is None else value.hex()}


def _shown(declared: Declaration, forms: Forms, key: bytes, value: bytes | None) -> Any:
    name, _, rest = key.partition(b"\x00")
    table = name.decode("ascii")
    if table in declared.tables:
        found = declared.tables[table]
        return {"entry": f"{table}[{_parts(forms, found.key_type, rest)}]", "value": _value(forms, found, value)}
    if table in declared.indexes:
        index = declared.indexes[table]
        parts = (*part_types(index.part_type), *part_types(index.table.key_type))
        listed = ", ".join(_each(forms, parts, rest))
        return {"entry": f"{table}[{listed}]", "value": None if value is None else "listed"}
    if table == PARAM_TABLE:
        return {"entry": f"param[{_parts(forms, str, rest)}]", "value": _read(U63, value, lambda number: number)}
    cell = declared.cells[table]
    if rest:
        raise ValueError("a cell has no rows")
    return {"entry": table, "value": _read(cell.value_type, value, forms.of(cell.value_type).write)}


def _value(forms: Forms, table: Table[Any, Any], value: bytes | None) -> Any:
    return _read(table.value_type, value, forms.of(table.value_type).write)


def _read(kind: Any, value: bytes | None, write: Callable[[Any], Any]) -> Any:
    return None if value is None else write(shape_of(kind).from_wire(decode(value, bytes_max=MESSAGE_BYTES_MAX)))


def _parts(forms: Forms, key_type: Any, rest: bytes) -> str:
    return ", ".join(_each(forms, part_types(key_type), rest))


def _each(forms: Forms, parts: tuple[Any, ...], rest: bytes) -> Iterator[str]:
    """Each part of a key. Raises ValueError unless they are exactly *rest*."""
    at = 0
    for part in parts:
        value, at = decoder_of(part)(rest, at)
        shown = forms.of(part).write(value)
        yield shown if isinstance(shown, str) else json.dumps(shown)
    if at != len(rest):
        raise ValueError("a key is exactly its parts")
