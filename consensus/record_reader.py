"""Readers of records, as source that is compiled once for each class, as `dataclasses` does for ``__init__``.

Every transaction passes here; a loop over the fields and a call for each of them took twice the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from consensus.codec import BadMessage

Read = Callable[[Any], Any]
"""The value behind a wire value. Raises BadMessage."""


class Field(NamedTuple):
    """One field of a record, in its place in the array."""

    name: str
    read: Read
    plain: str
    """An expression over ``{x}`` that says whether a wire value is right as it stands; "" where it is always read."""


def record_reader(name: str, fields: Sequence[Field], build: Callable[[Iterable[Any]], Any]) -> Read:
    """Reads an array of *fields* and makes a record *name* of them with *build*."""
    places = [f"x{place}" for place in range(len(fields))]
    lines = [
        "def read(value):",
        f"    if type(value) is not tuple or len(value) != {len(fields)}:",
        f"        raise BadMessage('expected {name} as an array of {len(fields)}')",
        f"    {''.join(f'{x}, ' for x in places)} = value" if fields else "    pass",
        "    try:",
        *(f"        {_step(field, x, place)}" for place, (field, x) in enumerate(zip(fields, places, strict=True))),
        "        pass",
        "    except BadMessage:",
        "        raise fault(value) from None",
        f"    return build(({''.join(f'{x}, ' for x in places)}))",
    ]
    space: dict[str, Any] = {"BadMessage": BadMessage, "build": build, "fault": _finder(fields)}
    space.update({f"read{place}": field.read for place, field in enumerate(fields)})
    exec("\n".join(lines), space)
    read: Read = space["read"]
    return read


def _step(field: Field, x: str, place: int) -> str:
    """The statement that reads one field: nothing is called where it is right as it stands."""
    if not field.plain:
        return f"{x} = read{place}({x})"
    return f"if not ({field.plain.format(x=x)}): {x} = read{place}({x})"


def _finder(fields: Sequence[Field]) -> Callable[[tuple[Any, ...]], BadMessage]:
    """Says which field of an array is wrong, and how."""

    def fault(value: tuple[Any, ...]) -> BadMessage:
        place = 0
        while True:  # ends: one of them is wrong
            try:
                fields[place].read(value[place])
            except BadMessage as error:
                return BadMessage(f"{fields[place].name}: {error}", error.code)
            place += 1

    return fault
