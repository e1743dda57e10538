"""Where modules run: their rows over one committed state, the weight used, who calls whom, what has happened."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from city.sdk.module import Handler, Module
from city.sdk.refusal import FAULT, NOT_AUTHORISED, TOO_DEEP, Refused, refused
from city.sdk.space import Journal, Space, roll_back
from city.sdk.weights import CALL, EVENT, EVENT_BYTE, MESSAGE, Meter
from consensus.application import Event, State
from consensus.codec import encode_checked
from consensus.params import Params
from consensus.transaction import Message
from consensus.validators import Update

if TYPE_CHECKING:
    from city.sdk.context import Context

DEPTH_MAX = 16
"""Modules that call each other: this deep, no deeper."""
AUTHORITY_RESERVE = 500_000
"""Weight that the messages of a proposal leave, so that its outcome can be written down."""
MOVES_MAX = 4_096
"""Transactions admitted over one state before the rows that were read for them are forgotten."""

NAME = "[a-z][a-z0-9_]{0,39}"
RESERVED = frozenset({"bad_message", "chain", "engine", "genesis", "module", "query", "treasury", "tx"})
"""Accounts, leaves of the application hash and families of codes that are no module's."""

Call = tuple[Handler, dict[str, Any]]
"""A handler and its arguments."""
Reporter = Callable[[str, BaseException], None]
"""Takes the name of what failed and the exception with its traceback; nothing of it is hashed."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When and where modules run."""

    chain_id: str
    height: int
    time_ms: int
    params: Params
    """The engine's, in force at this height."""


class Mark(NamedTuple):
    """A point to which a runtime can go back."""

    journal: int
    events: int
    stack: int
    updates: tuple[Update, ...]
    params: Params | None


@dataclass(slots=True)
class Decided:
    """What modules decided for the engine."""

    updates: tuple[Update, ...] = ()
    params: Params | None = None


def ignore_fault(what: str, error: BaseException) -> None:
    """Reports to nobody: for queries and tests that look at results only."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The modules of a town and what they declare: computed once, shared by all executions."""

    modules: tuple[type[Module], ...]
    """Each after those that it uses."""
    handlers: dict[tuple[str, str], Handler] = field(default_factory=dict)
    """(module, message) → its handler."""
    schemas: dict[str, bytes] = field(default_factory=dict)
    """Module → SHA-256 of what it declares; the application fills it in, since it knows how types look from outside."""

    @classmethod
    def of(cls, modules: Sequence[type[Module]]) -> Registry:
        """The registry of *modules*, in an order in which each stands after those that it uses."""
        ordered: list[type[Module]] = []
        _check_names([kind.name for kind in modules])
        for module in sorted(modules, key=lambda kind: kind.name):
            _place(module, ordered, ())
        missing = sorted(kind.name for kind in ordered if kind not in modules)
        if missing:
            raise ValueError(f"modules are used but not part of the town: {', '.join(missing)}")
        handlers = {
            (kind.name, name): handler for kind in ordered for name, handler in kind.declaration.messages.items()
        }
        return cls(tuple(ordered), handlers)


def _check_names(names: Sequence[str]) -> None:
    """ValueError unless *names* are different, plain, and free: a module named "treasury" could pay from it."""
    for name in names:
        if re.fullmatch(NAME, name) is None:
            raise ValueError(f"a module's name has up to 40 of a-z, 0-9 and _, and begins with a letter, not {name!r}")
        if name in RESERVED:
            raise ValueError(f"no module can be called {name}: the name is taken by the town or the engine")
        if names.count(name) > 1:
            raise ValueError(f"two modules are called {name}")


def _place(module: type[Module], ordered: list[type[Module]], path: tuple[str, ...]) -> None:
    if module.name in path:
        raise ValueError(f"modules use each other in a circle: {' → '.join((*path, module.name))}")
    if module in ordered:
        return
    for used in module.declaration.uses.values():
        _place(used, ordered, (*path, module.name))
    ordered.append(module)


class Runtime:
    """One execution's (or query's) modules."""

    __slots__ = (
        "_moves",
        "_state",
        "decided",
        "events",
        "journal",
        "meter",
        "modules",
        "moment",
        "registry",
        "report",
        "spaces",
        "stack",
    )

    def __init__(
        self, registry: Registry, state: State, moment: Moment, meter: Meter, report: Reporter = ignore_fault
    ) -> None:
        self._state: State | None = None
        self._moves = 0
        self.registry = registry
        self.moment = moment
        self.meter = meter
        self.report = report
        self.journal: Journal = []
        self.events: list[Event] = []
        self.stack: list[str] = []
        self.decided = Decided()
        self.spaces = {kind.name: Space(kind.name, state, meter, self.journal) for kind in registry.modules}
        self.modules: dict[str, Module] = {
            kind.name: kind.bound(self, self.spaces[kind.name]) for kind in registry.modules
        }
        for module in self.modules.values():
            module.link(self)

    def renew(self, state: State, moment: Moment) -> None:
        """The same modules read *state* at *moment* from now on; for reading only."""
        self.moment = moment
        for space in self.spaces.values():
            space.renew(state)
        self.journal.clear()
        self.meter.used = 0
        self.stack.clear()

    def close(self) -> None:
        """Nothing runs any more: the rows are forgotten.

        Runtime and modules refer to each other in a circle, so thousands of rows would wait for the collector.
        """
        for space in self.spaces.values():
            space.forget()
        self.journal.clear()

    def move(self, state: State, moment: Moment) -> None:
        """As `renew`; but while *state* is the same object, rows that were read stay known, within bounds."""
        if state is self._state and self._moves < MOVES_MAX:
            self._moves += 1
            self.moment = moment
            self.meter.used = 0
            return
        self.renew(state, moment)
        self._state = state
        self._moves = 0

    def mark(self) -> Mark:
        """Where things stand now."""
        return Mark(len(self.journal), len(self.events), len(self.stack), self.decided.updates, self.decided.params)

    def roll_back(self, mark: Mark) -> None:
        """Everything since *mark* is undone, but not the weight that it used."""
        roll_back(self.journal, mark.journal)
        del self.events[mark.events :]
        del self.stack[mark.stack :]
        self.decided.updates = mark.updates
        self.decided.params = mark.params

    def settle(self) -> None:
        """What was written so far can't be rolled back any more."""
        self.journal.clear()

    def enter(self, module: str) -> None:
        """*module* runs now, called by the one that ran before."""
        self.meter.spend(CALL)
        if len(self.stack) >= DEPTH_MAX:
            raise refused(TOO_DEEP)
        self.stack.append(module)

    def leave(self) -> None:
        """The caller runs again."""
        self.stack.pop()

    def emit(self, event: object) -> None:
        """*event* is noted in the name of the module that runs. TypeError if that module does not declare it."""
        module = self.stack[-1]
        kind = self.modules[module].declaration.events.get(type(event))
        if kind is None:
            raise TypeError(f"{module} declares no event {type(event).__name__} above its class")
        fields = kind.write(event)
        self.meter.spend(EVENT + EVENT_BYTE * len(encode_checked(fields)))
        self.events.append(Event(module, kind.name, fields))

    def read(self, message: Message) -> Call | None:
        """The handler of *message* with its arguments; None if the town has no such message. Raises BadMessage."""
        handler = self.registry.handlers.get((message.module, message.name))
        return None if handler is None else (handler, handler.signature.read(message.args))

    def carry(self, call: Call, context: Context) -> None:
        """The handler of a message has run. Raises Refused."""
        handler, arguments = call
        self.meter.spend(MESSAGE)
        if handler.mark.authority is not None and handler.mark.authority != context.authority:
            raise refused(NOT_AUTHORISED)
        self.call(handler, context, arguments)

    def call(self, handler: Handler, context: Context, arguments: dict[str, Any]) -> None:
        """*handler* has run in its module."""
        self.enter(handler.module)
        handler.function(self.modules[handler.module], context, **arguments)
        self.leave()

    def broken_invariants(self) -> list[str]:
        """``module.invariant`` of each that does not hold now. Looks at every row."""
        return [
            f"{name}.{invariant}"
            for name, module in sorted(self.modules.items())
            for invariant in module.declaration.invariants
            if not getattr(module, invariant)()
        ]

    def attempt(self, what: str, work: Callable[[], None]) -> str:
        """*work* is done and "" is returned, or nothing changed and its code is. Used weight stays used.

        MemoryError and RecursionError are no result: they leave (DESIGN §3).
        """
        mark = self.mark()
        try:
            work()
        except Refused as refusal:
            self.roll_back(mark)
            return refusal.code
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # noqa: BLE001  # a defect of a module must come out alike on every node, as a result
            self.report(f"{self.stack[-1]}, {what}" if self.stack else what, error)
            self.roll_back(mark)
            return FAULT
        return ""
