"""How a method is declared: an async function of a group, whose annotations read its parameters and describe them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from node.rpc.parameters import Parameters

Handler = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=Handler)
_MARK = "__rpc_method__"


@dataclass(frozen=True, slots=True)
class Method:
    """One callable method."""

    name: str
    summary: str
    """The docstring's first sentence."""
    parameters: Parameters
    handler: Handler


def method(function: F) -> F:
    """Marks an async function of a group as an RPC method of the same name."""
    setattr(function, _MARK, Parameters(function))
    return function


def collect(groups: Iterable[object]) -> Mapping[str, Method]:
    """All methods that *groups* declare, by name; a name declared twice is a defect."""
    found: dict[str, Method] = {}
    for group in groups:
        for name, function in inspect.getmembers(type(group), inspect.isfunction):
            parameters = getattr(function, _MARK, None)
            if parameters is None:
                continue
            assert name not in found, name
            summary = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0].replace("\n", " ")
            found[name] = Method(name, summary, parameters, getattr(group, name))
    return dict(sorted(found.items()))
