"""The town: an application made of modules."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, cast

from city.admission import check, check_nonce_for_pool
from city.entries import show_entry
from city.execution import BlockExecution, fee_policy
from city.genesis import first_state, resumed_state
from city.questions import Questions
from city.register import Register
from city.schema import describe_town, schema_hash
from city.sdk.context import REGISTER
from city.sdk.fees import FeePolicy
from city.sdk.forms import BadJson, Forms, MessageForms, raw_to_json
from city.sdk.module import EventKind, Module
from city.sdk.refusal import TEXTS
from city.sdk.runtime import Moment, Registry, Reporter, Runtime, ignore_fault
from city.sdk.weights import Meter
from consensus.application import (
    Admission,
    BlockInfo,
    Event,
    Founder,
    Genesis,
    ProofTarget,
    QueryRefused,
    State,
)
from consensus.codec import BadMessage
from consensus.params import CITY, Params
from consensus.shape import INTEGER_MAX
from consensus.transaction import Message, Transaction

MODULES_GROUP = "allting.modules"
FREE_PRIORITY = 1
"""What the town's gift pays for waits no longer than what pays the least."""
UNKNOWN_MESSAGE = "query.unknown_message"
BAD_ARGUMENTS = "query.bad_arguments"


class Town:
    """See `consensus.application.Application`. Its modules are those of the entry points, unless some are given."""

    name = "town"
    version = 1

    def __init__(self, modules: Sequence[type[Module]] | None = None, *, report: Reporter = ignore_fault) -> None:
        found = installed_modules() if modules is None else tuple(modules)
        self.report = report
        """Is told of every defect of a module, with its traceback; the node sets it to its log."""
        self.check_invariants = False
        """Whether every block ends with a look at every row, and an AssertionError where an invariant is broken."""
        self.registry = Registry.of((Register, *(kind for kind in found if kind is not Register)))
        """The modules and their handlers, in the order of their uses."""
        self._forms = Forms(MessageForms(self._read_message, self.message_to_json))
        self._questions = Questions(self.registry, self._forms)
        self._declarations = {kind.name: kind.declaration for kind in self.registry.modules}
        self.registry.schemas.update(
            {name: schema_hash(declared, self._forms) for name, declared in self._declarations.items()}
        )
        self.module_names = tuple(sorted(self._declarations))
        purses = [kind for kind in self.registry.modules if issubclass(kind, FeePolicy)]
        assert len(purses) <= 1, "a town has at most one module that keeps the purse"
        self._fees = cast("type[FeePolicy] | None", purses[0] if purses else None)
        self._shown_events: dict[type, tuple[tuple[str, Callable[[Any], Any]], ...]] = {}
        self._refusals = dict(TEXTS)
        for declared in self._declarations.values():
            self._refusals.update(declared.refusals)
            for table in declared.tables:
                self._refusals[f"{declared.name}.{table}_absent"] = f"there is no such row in {table}"
                self._refusals[f"{declared.name}.{table}_present"] = f"there is such a row in {table} already"
        self._pool = Runtime(self.registry, Nothing(), Moment("", 0, 0, CITY), Meter(INTEGER_MAX))
        self._pool_fees = fee_policy(self._pool, self._fees)

    def genesis(self, document: Mapping[str, Any], *, chain_id: str, time_ms: int, params: Params) -> Genesis:
        """The first state, from the genesis file's ``town`` table. Raises ValueError naming the offending key."""
        return first_state(
            document, self.registry, self._forms, Nothing(), chain_id=chain_id, time_ms=time_ms, params=params
        )

    def resume(
        self, former: State, founders: Sequence[Founder], *, chain_id: str, time_ms: int, params: Params
    ) -> Genesis:
        """The first state of a chain that goes on from *former*, with *founders*. Raises ValueError saying why not."""
        return resumed_state(self.registry, former, founders, chain_id=chain_id, time_ms=time_ms, params=params)

    def entry_to_json(self, module: str, key: bytes, value: bytes | None) -> Any:
        """An entry of the state for display, ``{"entry": "balances[ting1…]", "value": …}``; raw where it is unknown."""
        return show_entry(self._declarations.get(module), self._forms, key, value)

    def admit(self, transaction: Transaction, state: State, *, time_ms: int, params: Params) -> Admission:
        """Raises Inadmissible unless a block at *time_ms* could hold *transaction*, now or when its nonce's turn comes.

        The chain's name is the node's to check here: only a block knows it.
        """
        body = transaction.body
        moment = self._pool.moment
        if moment.time_ms != time_ms or moment.params is not params or moment.chain_id != body.chain_id:
            moment = Moment(body.chain_id, 0, time_ms, params)
        self._pool.move(state, moment)
        terms = check(transaction, self._pool, self._pool_fees)
        check_nonce_for_pool(body.nonce, terms.next_nonce)
        return Admission(
            sender=terms.sender,
            next_nonce=terms.next_nonce,
            weight_max=terms.weight_max,
            priority=max(body.fee, FREE_PRIORITY),
        )

    def execute(self, state: State, block: BlockInfo) -> BlockExecution:
        """The execution of *block* over *state*, not begun."""
        execution = BlockExecution(self.registry, self._fees, state, block, self.report)
        execution.check_invariants = self.check_invariants
        return execution

    def next_due_ms(self, state: State) -> int | None:
        """When scheduled work is due next, block time in ms; None: never."""
        first = self._register(state).queue.first()
        return None if first is None else first[0][0]

    def query(self, path: str, args: Mapping[str, Any], state: State, *, height: int, time_ms: int) -> Any:
        """The answer to *path* (``module/query``) as JSON-ready data. Raises QueryRefused."""
        return self._questions.ask(path, args, state, height=height, time_ms=time_ms)

    def proof_targets(self, path: str, args: Mapping[str, Any]) -> Sequence[ProofTarget]:
        """The entries that prove the answer. Raises QueryRefused where this query can't be proved."""
        return self._questions.targets(path, args)

    def answer_from_proof(self, path: str, args: Mapping[str, Any], values: Sequence[bytes | None]) -> Any:
        """The answer to *path*, from the proved *values* of `proof_targets` alone (None: proved absent)."""
        return self._questions.from_proof(path, args, values)

    def messages_from_json(self, messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
        """Messages such as ``{"coin.send": {"to": "ting1…", "amount": 5}}``, checked. Raises QueryRefused."""
        if not isinstance(messages, (list, tuple)):
            raise QueryRefused(BAD_ARGUMENTS, "messages: expected an array")
        try:
            return tuple(self._read_message(message, f"messages[{i}]") for i, message in enumerate(messages))
        except RecursionError:
            raise QueryRefused(BAD_ARGUMENTS, "messages: proposals are nested too deep") from None
        except UnknownMessage as error:
            raise QueryRefused(UNKNOWN_MESSAGE, str(error)) from None
        except BadJson as error:
            raise QueryRefused(BAD_ARGUMENTS, str(error)) from None

    def message_to_json(self, message: Message) -> Any:
        """The reverse of `messages_from_json`, for display; for an unknown or unreadable message its raw fields."""
        name = f"{message.module}.{message.name}"
        handler = self.registry.handlers.get((message.module, message.name))
        if handler is not None:
            try:
                arguments = handler.signature.read(message.args)
            except BadMessage:
                return {name: raw_to_json(message.args)}
            return {name: self._forms.write_arguments(handler.signature, arguments)}
        return {name: raw_to_json(message.args)}

    def event_to_json(self, event: Event) -> Any:
        """``{"module", "name", field: value, …}``, for display; an unknown event's fields are numbered."""
        declared = self._declarations.get(event.module)
        kinds = [] if declared is None else [kind for kind in declared.events.values() if kind.name == event.name]
        shown: dict[str, Any] = {"module": event.module, "name": event.name}
        if not kinds:
            return {**shown, "fields": raw_to_json(event.fields)}
        fields = cast("tuple[Any, ...]", event.fields)
        for (field, write), value in zip(self._event_writers(kinds[0]), fields, strict=True):
            shown[field] = write(value)
        return shown

    def _event_writers(self, declared: EventKind) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
        """How each field of an event is shown: found once, since a block has thousands of them."""
        known = self._shown_events.get(declared.kind)
        if known is None:
            hints = typing.get_type_hints(declared.kind, include_extras=True)
            known = tuple(
                (field, _shown_by(read, self._forms.of(hints[field]).write)) for field, read in declared.readers.items()
            )
            self._shown_events[declared.kind] = known
        return known

    def refusal_text(self, code: str) -> str | None:
        """The sentence behind a result code, if it is this application's."""
        return self._refusals.get(code)

    def describe(self) -> dict[str, Any]:
        """Modules, messages, queries, events, parameters, refusals with JSON Schema."""
        return describe_town(self.registry, self._forms, name=self.name, version=self.version)

    def broken_invariants(self, state: State) -> list[str]:
        """``module.invariant`` of each that does not hold in *state*. Looks at every row: for tests and devnets."""
        return Runtime(self.registry, state, Moment("", 0, 0, CITY), Meter(INTEGER_MAX)).broken_invariants()

    def _register(self, state: State) -> Register:
        self._pool.move(state, Moment("", 0, 0, CITY))
        return cast(Register, self._pool.modules[REGISTER])

    def _read_message(self, given: Any, where: str) -> Message:
        if not isinstance(given, Mapping) or len(given) != 1:
            raise BadJson(where, 'expected an object such as {"coin.send": {"to": "ting1…", "amount": 5}}')
        ((full_name, given_args),) = given.items()
        module, _, name = str(full_name).partition(".")
        handler = self.registry.handlers.get((module, name))
        if handler is None:
            raise UnknownMessage(where, f"this town has no message {full_name}")
        arguments = self._forms.read_arguments(handler.signature, given_args, f"{where}.{full_name}")
        return Message(module, name, handler.signature.write(arguments))


class UnknownMessage(BadJson):
    """There is no such message."""


class Nothing:
    """The state before the genesis: empty."""

    def get(self, module: str, key: bytes) -> bytes | None:
        """None."""
        return None

    def scan(
        self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """No rows."""
        return iter(())


def installed_modules() -> tuple[type[Module], ...]:
    """The modules that the installed packages bring, by name."""
    found = sorted(entry_points(group=MODULES_GROUP), key=lambda entry: entry.name)
    return tuple(entry.load() for entry in found)


def _shown_by(read: Callable[[Any], Any], write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """*write* after *read*."""
    return lambda value: write(read(value))
