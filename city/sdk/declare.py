"""How a module says what its functions are, and what a vote may set: decorators and descriptors, read at import."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from city.sdk.keys import encode_part, table_prefix
from city.sdk.table import Cell, Table
from city.sdk.values import reader_of, writer_of

if TYPE_CHECKING:
    from city.sdk.module import Module

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M")
PARAM_TABLE = "param"
"""Where each module keeps the parameters that differ from their defaults."""
PARAMS_QUERY = "params"
"""The query that every module with parameters answers without declaring it."""
MARK = "__declared__"


class Role(enum.Enum):
    """What a function of a module is there for."""

    MESSAGE = "message"
    QUERY = "query"
    SHARED = "shared"
    SCHEDULED = "scheduled"
    INVARIANT = "invariant"
    MIGRATION = "migration"
    MISBEHAVIOUR = "misbehaviour"
    END_OF_BLOCK = "end of block"
    GENESIS = "genesis"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a decorator notes on a function."""

    role: Role
    authority: str | None = None
    version: int = 0
    pending: Table[Any, Any] | None = None


def _marked(function: F, mark: Mark) -> F:
    setattr(function, MARK, mark)
    return function


@overload
def message(function: F, /) -> F: ...
@overload
def message(*, authority: str) -> Callable[[F], F]: ...
def message(function: F | None = None, /, *, authority: str | None = None) -> F | Callable[[F], F]:
    """Declares a handler; its keyword arguments are the fields. With *authority*, only a passed proposal carries it."""
    mark = Mark(Role.MESSAGE, authority=authority)
    if function is not None:
        return _marked(function, mark)
    return lambda inner: _marked(inner, mark)


def query(function: F) -> F:
    """Declares a question that anybody may ask; keyword arguments, a typed answer, no writing."""
    return _marked(function, Mark(Role.QUERY))


def shared(function: F) -> F:
    """Declares a method that other modules may call through `Uses`."""
    return _marked(function, Mark(Role.SHARED))


def scheduled(function: F) -> F:
    """Declares a handler that only `Context.schedule` calls, when its time has come."""
    return _marked(function, Mark(Role.SCHEDULED))


def invariant(function: F) -> F:
    """Declares what is true after every block; checked on devnets and in tests."""
    return _marked(function, Mark(Role.INVARIANT))


def genesis(function: F) -> F:
    """Declares how the module's table of the genesis file becomes its first state: keyword arguments are the keys."""
    return _marked(function, Mark(Role.GENESIS))


def resume(function: F) -> F:
    """Declares what becomes of the module's rows when a new chain goes on from them with other validators.

    It takes ``founders: tuple[Founder, ...]``, the new set. Rows of modules that declare nothing stay as they are.
    """
    return _marked(function, Mark(Role.RESUME))


def migration(*, to: int) -> Callable[[F], F]:
    """Declares how the state of version *to* - 1 becomes that of version *to*."""
    return lambda function: _marked(function, Mark(Role.MIGRATION, version=to))


def misbehaviour(function: F) -> F:
    """Declares what follows when a block proves that a validator lied; keywords public_key, power, height (of the lie).

    It runs before anything else in the block.
    """
    return _marked(function, Mark(Role.MISBEHAVIOUR))


def end_of_block(pending: Table[Any, Any]) -> Callable[[F], F]:
    """Declares what runs at the end of a block, while the table *pending* has rows: idle blocks change nothing."""
    return lambda function: _marked(function, Mark(Role.END_OF_BLOCK, pending=pending))


class Param:
    """A number that a vote may change within bounds: ``late_fee = Param(Amount, 5, low=0, high=1_000)``."""

    def __init__(self, kind: object, default: int, *, low: int, high: int, text: str = "") -> None:
        assert low <= default <= high
        self.kind = kind
        self.default = default
        self.low = low
        self.high = high
        self.text = text
        self.name = ""
        self.key = b""
        self.read: Callable[[bytes], Any] = reader_of(kind)
        self.write = writer_of(kind)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.key = table_prefix(PARAM_TABLE) + encode_part(name)

    def __get__(self, module: Module, owner: type) -> int:
        """Its value now."""
        value = module.space.read(self.key, self.read)
        return self.default if value is None else cast("int", value)


class Uses(Generic[M]):
    """Declares that a module calls another: ``coin = Uses(Coin)``. Only the `shared` methods can be reached."""

    def __init__(self, module: type[M]) -> None:
        self.module = module

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type) -> M: ...


__all__ = [
    "Cell",
    "Mark",
    "Param",
    "Role",
    "Uses",
    "end_of_block",
    "genesis",
    "invariant",
    "message",
    "migration",
    "misbehaviour",
    "query",
    "resume",
    "scheduled",
    "shared",
]
