"""A module: one class, read once at import into a `Declaration`; messages, queries, state and pages come from it."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from city.sdk.declare import MARK, PARAM_TABLE, PARAMS_QUERY, Mark, Param, Role, Uses
from city.sdk.refusal import Refusal
from city.sdk.signature import Signature
from city.sdk.space import Space
from city.sdk.table import Cell, Index, Stored, Table
from city.sdk.types import EVENTS
from city.sdk.values import checker_of
from consensus.shape import shape_of

if TYPE_CHECKING:
    from typing import Self

    from city.sdk.runtime import Runtime

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Handler:
    """A declared function of a module."""

    module: str
    name: str
    text: str
    """Its docstring."""
    function: Callable[..., Any]
    signature: Signature
    mark: Mark


@dataclass(frozen=True, slots=True)
class EventKind:
    """A declared event: its class, and how its fields become the wire form."""

    name: str
    kind: type
    text: str
    write: Callable[[Any], Any]
    readers: dict[str, Callable[[Any], Any]]
    """Field → how its wire form becomes a value, in declared order."""


@dataclass(slots=True)
class Declaration:
    """All that a module declared, in declared order."""

    name: str
    version: int
    text: str
    messages: dict[str, Handler] = field(default_factory=dict)
    queries: dict[str, Handler] = field(default_factory=dict)
    scheduled: dict[str, Handler] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    invariants: tuple[str, ...] = ()
    migrations: dict[int, str] = field(default_factory=dict)
    end_of_block: Handler | None = None
    misbehaviour: Handler | None = None
    genesis: Handler | None = None
    resume: Handler | None = None
    tables: dict[str, Table[Any, Any]] = field(default_factory=dict)
    indexes: dict[str, Index[Any, Any, Any]] = field(default_factory=dict)
    cells: dict[str, Cell[Any]] = field(default_factory=dict)
    params: dict[str, Param] = field(default_factory=dict)
    uses: dict[str, type[Module]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    """Code → sentence."""
    events: dict[type, EventKind] = field(default_factory=dict)


class Module:
    """Base of every module. A subclass declares ``name, version = "tools", 1`` and everything else as class attributes.

    An instance belongs to one execution (or one query) and sees its rows through `space`.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 0
    declaration: ClassVar[Declaration]
    space: Space

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            cls.declaration = _declaration_of(cls)

    @classmethod
    def bound(cls, runtime: Runtime, space: Space) -> Self:
        """An instance whose rows are those of *space*. Its uses are bound by `link`, when all modules are there."""
        module = cls.__new__(cls)
        module.space = space
        attributes = module.__dict__
        for name, table in cls.declaration.tables.items():
            twin = attributes[name] = table.bound(space)
            twin.indexes = [index.bound_to(twin, space) for index in table.indexes]
            for index in twin.indexes:
                attributes[index.name] = index
        for name, cell in cls.declaration.cells.items():
            attributes[name] = cell.bound(space)
        return module

    def declared_table(self, name: str) -> Table[Any, Any]:
        """The table declared as *name*."""
        table: Table[Any, Any] = getattr(self, name)
        return table

    def link(self, runtime: Runtime) -> None:
        """The modules that this one uses are reached by their shared methods, through a `Border`."""
        for attribute, used in self.declaration.uses.items():
            self.__dict__[attribute] = Border(runtime, runtime.modules[used.name])


class Border:
    """The shared methods of a module, as another one sees it: each call counts its depth and names the caller."""

    def __init__(self, runtime: Runtime, module: Module) -> None:
        for name in module.declaration.shared:
            self.__dict__[name] = _crossing(runtime, module.name, getattr(module, name))


def _crossing(runtime: Runtime, name: str, method: Callable[..., T]) -> Callable[..., T]:
    def cross(*args: Any, **kwargs: Any) -> T:
        runtime.enter(name)
        result = method(*args, **kwargs)
        # Not in a finally: an exception ends the transaction, and whoever rolls it back cuts the stack to its mark.
        runtime.leave()
        return result

    return cross


def _declaration_of(cls: type[Module]) -> Declaration:
    text = cleandoc(cls.__doc__ or "")
    declared = Declaration(cls.name, cls.version, text)
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            _declare(declared, name, value)
    declared.events = _events_of(cls)
    return declared


def _declare(declared: Declaration, name: str, value: object) -> None:
    if (name == PARAM_TABLE and isinstance(value, Stored)) or name == PARAMS_QUERY:
        raise TypeError(f"{declared.name}.{name}: the name is taken by the module's parameters")
    if isinstance(value, Table):
        declared.tables[name] = value
    elif isinstance(value, Index):
        declared.indexes[name] = value
    elif isinstance(value, Cell):
        declared.cells[name] = value
    elif isinstance(value, Param):
        declared.params[name] = value
    elif isinstance(value, Refusal):
        declared.refusals[value.code] = value.template
    elif isinstance(value, Uses):
        declared.uses[name] = value.module
    elif (mark := getattr(value, MARK, None)) is not None:
        assert callable(value)
        _declare_function(declared, name, value, mark)


def _declare_function(declared: Declaration, name: str, function: Callable[..., Any], mark: Mark) -> None:
    match mark.role:
        case Role.SHARED:
            declared.shared += (name,)
            return
        case Role.INVARIANT:
            declared.invariants += (name,)
            return
        case Role.MIGRATION:
            declared.migrations[mark.version] = name
            return
    text = cleandoc(function.__doc__ or "")
    handler = Handler(declared.name, name, text, function, Signature(function), mark)
    match mark.role:
        case Role.MESSAGE:
            declared.messages[name] = handler
        case Role.QUERY:
            declared.queries[name] = handler
        case Role.SCHEDULED:
            declared.scheduled[name] = handler
        case Role.END_OF_BLOCK:
            declared.end_of_block = handler
        case Role.RESUME:
            declared.resume = handler
        case Role.MISBEHAVIOUR:
            declared.misbehaviour = handler
        case _:
            declared.genesis = handler


def _events_of(cls: type[Module]) -> dict[type, EventKind]:
    """The events declared above *cls* in its file."""
    found = [
        value for value in vars(sys.modules[cls.__module__]).values() if isinstance(value, type) and value in EVENTS
    ]
    return {
        kind: EventKind(
            snake_case(kind.__name__), kind, cleandoc(kind.__doc__ or ""), checker_of(kind), _readers_of(kind)
        )
        for kind in found
        if kind.__module__ == cls.__module__
    }


def _readers_of(kind: type) -> dict[str, Callable[[Any], Any]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: shape_of(hints[field.name]).from_wire for field in dataclasses.fields(kind)}


def snake_case(name: str) -> str:
    """``KeysRotated`` as ``keys_rotated``: how an event's class is called on the wire."""
    return "".join(("_" if letter.isupper() and i else "") + letter.lower() for i, letter in enumerate(name))


__all__ = ["Border", "Declaration", "EventKind", "Handler", "Module", "snake_case"]
