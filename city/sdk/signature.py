"""The arguments of a message, a query or scheduled work, read off its function, and their wire form.

On the wire they are an array in declared order. Arguments with a default that come last are left out where they have
it, and an explicit trailing default is refused, so that each call has one encoding and a new version may add optional
arguments at the end.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from city.sdk.values import checker_of
from consensus.codec import BadMessage, Wire
from consensus.shape import shape_of

BESIDE = ("self", "ctx")
"""What a handler takes that is no argument of its message."""
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Argument:
    """One declared argument."""

    name: str
    type: Any
    default: Any
    """`REQUIRED` if it has none."""


class Signature:
    """The keyword arguments of one function, compiled once at import."""

    def __init__(self, function: Callable[..., Any]) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        declared = inspect.signature(function).parameters.values()
        parameters = [parameter for parameter in declared if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
        for parameter in declared:
            if parameter not in parameters and parameter.name not in BESIDE:
                raise TypeError(f"{function.__qualname__}: {parameter.name} must be a keyword argument, after a *")
        self.arguments = tuple(Argument(p.name, hints[p.name], p.default) for p in parameters)
        self.returns: Any = hints.get("return")
        self.names = tuple(argument.name for argument in self.arguments)
        self._readers = tuple((a.name, shape_of(a.type).from_wire) for a in self.arguments)
        self._total = len(self.arguments)
        self.required = sum(argument.default is REQUIRED for argument in self.arguments)
        self._defaults = tuple(argument.default for argument in self.arguments)
        if any(default is not REQUIRED for default in self._defaults[: self.required]):
            raise TypeError(f"{function.__qualname__}: arguments with a default come last")

    def read(self, args: object) -> dict[str, Any]:
        """The arguments behind their wire form. Raises BadMessage, naming the argument."""
        if type(args) is not tuple or not self.required <= len(args) <= self._total:
            raise BadMessage(f"expected an array of {self._expected()} arguments: {', '.join(self.names)}")
        given = len(args)
        values: dict[str, Any] = {}
        for (name, read), item in zip(self._readers, args, strict=False):
            try:
                values[name] = read(item)
            except BadMessage as error:
                raise BadMessage(f"{name}: {error}", error.code) from None
        if given > self.required and values[self.names[given - 1]] == self._defaults[given - 1]:
            raise BadMessage(f"{self.names[given - 1]}: a trailing argument with its default is left out")
        return values

    def write(self, values: Mapping[str, Any]) -> tuple[Wire, ...]:
        """The wire form of *values* (name → typed value; what is not named has its default)."""
        items = [values.get(a.name, a.default) for a in self.arguments]
        while len(items) > self.required and items[-1] == self._defaults[len(items) - 1]:
            items.pop()
        return tuple(checker_of(a.type)(item) for a, item in zip(self.arguments, items, strict=False))

    def _expected(self) -> str:
        return str(self._total) if self.required == self._total else f"{self.required} to {self._total}"
