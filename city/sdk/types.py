"""The words that modules use for their values. Every one is an annotation that `consensus.shape` can read."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform

from consensus.shape import INTEGER_MAX, Count, Hash, Length, PublicKey, Range, Signature, Size, Unread
from consensus.shape import Address as Address

AMOUNT_MAX = 2**53 - 1
"""The largest amount: it meets JavaScript."""
PAGE_ROWS_MAX = 1_000
"""Rows that one page looks at."""
PPM = 1_000_000
"""Parts of a whole: fractions are integers in parts per million."""

Amount = Annotated[int, Range(0, AMOUNT_MAX)]
Millis = Annotated[int, Range(0, AMOUNT_MAX)]
"""A block time (since 1970) or a length of time, in milliseconds."""
Ppm = Annotated[int, Range(0, PPM)]
Weight = Annotated[int, Range(0, INTEGER_MAX)]
Limit = Annotated[int, Range(1, PAGE_ROWS_MAX)]
"""How many rows a page shows."""
ModuleName = Annotated[str, Length(40)]

T = TypeVar("T")

EVENTS: set[type] = set()
"""Every class that `event` declared; membership is all that is asked of it."""

__all__ = [
    "AMOUNT_MAX",
    "INTEGER_MAX",
    "PAGE_ROWS_MAX",
    "PPM",
    "Address",
    "Amount",
    "Count",
    "Hash",
    "Length",
    "Limit",
    "Millis",
    "ModuleName",
    "Ppm",
    "PublicKey",
    "Range",
    "Record",
    "Signature",
    "Size",
    "Unread",
    "Weight",
    "event",
    "replace",
]


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """A row of a table: subclasses are frozen dataclasses with keyword arguments; change one with `replace`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def event(kind: type[T]) -> type[T]:
    """Declares an event: a frozen dataclass for `Context.emit`. It stands above its module's class in the file.

    Raises TypeError for a field that would hide whose event it is, where it is shown: `module` and `name` say that.
    """
    if taken := {"module", "name"} & kind.__annotations__.keys():
        raise TypeError(f"{kind.__name__}: an event has no fields of its own called {sorted(taken)}")
    frozen = dataclasses.dataclass(frozen=True, kw_only=True)(kind)
    EVENTS.add(frozen)
    return frozen
