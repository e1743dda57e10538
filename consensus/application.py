"""What a hosted application gives the engine, and what it gets. The engine knows no town; a town knows no socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple, Protocol

from consensus.params import Params
from consensus.shape import U63, Address, Anything, PublicKey, Range, to_bytes
from consensus.transaction import Message, Transaction
from consensus.validators import POWER_TOTAL_MAX, Update, ValidatorSet

Changes = Mapping[str, Mapping[bytes, bytes | None]]
"""Module name → key → new value; None deletes. Keys and values are raw bytes as the state tree stores them."""

STATE_KEY_BYTES_MAX = 224
"""Longest key: what a store can index whatever its bytes are. An application refuses what would need a longer one."""


class Inadmissible(Exception):
    """This transaction can't stand in a block now: a block with it is invalid. *code* is stable (``tx.<what>``)."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class QueryRefused(Exception):
    """A query has no answer; *code* is stable (``query.<what>`` or a module's refusal); the text says what to do."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class EngineFault(BaseException):
    """An I/O error or broken assertion of the engine while an application ran: no handler can turn it into a result."""


class State(Protocol):
    """The committed state of one height, as an application reads it. Raises EngineFault on I/O errors.

    It never changes, so what was read of it may be remembered: the next height's state is another object.
    """

    def get(self, module: str, key: bytes) -> bytes | None:
        """The value of *key* in *module*, None if absent."""

    def scan(
        self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys in [start, stop) with their values, ascending (descending if *reverse*); *stop* None: to the end."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for whoever listens: module, name, and fields in declared order."""

    module: str
    name: str
    fields: Anything


@dataclass(frozen=True)
class Result:
    """What came of one transaction, of ``begin`` or of ``end``. Every field is hashed."""

    code: str
    """"" for success, else ASCII ``module.name``."""
    weight: U63
    fee: U63
    events: tuple[Event, ...]

    @cached_property
    def encoded(self) -> bytes:
        """Its canonical bytes: they are hashed before the vote, and stored after it."""
        return to_bytes(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Misbehaviour:
    """A lie of a validator that evidence in a block proved: two different votes of one kind in one round."""

    public_key: PublicKey
    power: U63
    """In the set of that height."""
    height: U63
    """At which it lied; the set may have changed since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo:
    """The block in whose name an application executes."""

    chain_id: str
    height: U63
    time_ms: U63
    parent_time_ms: U63
    """0 for the first block."""
    proposer: Address
    params: Params
    """Those in force at this height."""
    validators: ValidatorSet
    """The set of this height."""
    absent: tuple[Address, ...] = ()
    """Members of the former set without a signature in the canonical last commit."""
    evidence: tuple[Misbehaviour, ...] = ()
    """What this block's evidence proved, verified; of each validator once, in the order of their addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOutcome:
    """What `Execution.end` decided beyond its result."""

    result: Result
    validator_updates: tuple[Update, ...] = ()
    """In force at the next height."""
    params: Params | None = None
    """New engine parameters, in force at the next height; None: unchanged."""


class Execution(Protocol):
    """One block's execution over its parent's state: ``begin``, then ``deliver`` for each transaction, then ``end``.

    Nothing touches the committed state: what changed is in `changes` after ``end``. The node may drop it at any point.
    """

    def begin(self) -> Result:
        """Scheduled work has run, within half of the block's weight."""

    def deliver(self, transaction: Transaction) -> Result:
        """*transaction* took effect, or was refused and its nonce and fee spent.

        Its signatures have been verified by the node. Raises Inadmissible, with nothing changed, if it can't stand
        here.
        """

    def end(self) -> BlockOutcome:
        """The block is complete."""

    @property
    def changes(self) -> Changes:
        """What the block changed, per module. Valid after ``end``."""

    @property
    def weight(self) -> int:
        """Weight used so far; the node stops reaping at the block's limit."""


class Admission(NamedTuple):
    """What the mempool needs to know of an admissible transaction."""

    sender: bytes
    """Whose queue it waits in. For an anonymous transaction, a value that is the same for a repetition."""
    next_nonce: int
    """The sender's next nonce by the state; the transaction's own may be up to 64 ahead."""
    weight_max: int
    """The most weight that it can use."""
    priority: int
    """Higher is reaped first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """The state before the first block."""

    changes: Changes
    validators: tuple[Update, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Founder:
    """A validator of a chain that goes on from the state of a former one."""

    public_key: PublicKey
    power: Annotated[int, Range(1, POWER_TOTAL_MAX)]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofTarget:
    """The state entries on which a query's answer rests, so that a client can check it without trust."""

    module: str
    key: bytes


class Application(Protocol):
    """A deterministic application: same calls, same answers, on every machine.

    It writes only through `Execution.changes`; `module_names` are its leaves of the application hash (sorted,
    without the engine's own leaf ``chain``).
    """

    name: str
    version: int
    module_names: tuple[str, ...]

    def genesis(self, document: Mapping[str, Any], *, chain_id: str, time_ms: int, params: Params) -> Genesis:
        """The first state, from the genesis file's ``town`` table. Raises ValueError naming the offending key."""

    def resume(
        self, former: State, founders: Sequence[Founder], *, chain_id: str, time_ms: int, params: Params
    ) -> Genesis:
        """The first state of a chain that goes on from *former*, whole, with *founders* as its validators.

        Raises ValueError where *former* is not a state that this application could have left behind.
        """

    def entry_to_json(self, module: str, key: bytes, value: bytes | None) -> Any:
        """An entry of the state for display, ``{"entry": "balances[ting1…]", "value": …}``; raw where it is unknown."""

    def admit(self, transaction: Transaction, state: State, *, time_ms: int, params: Params) -> Admission:
        """Raises Inadmissible unless a block at *time_ms* could hold *transaction*, now or when its nonce's turn comes.

        Signatures are the node's business; which keys must sign is the application's.
        """

    def execute(self, state: State, block: BlockInfo) -> Execution:
        """The execution of *block* over *state*, not begun."""

    def next_due_ms(self, state: State) -> int | None:
        """When scheduled work is due next; None: never."""

    def query(self, path: str, args: Mapping[str, Any], state: State, *, height: int, time_ms: int) -> Any:
        """The answer to *path* (``module/query``) as JSON-ready data. Raises QueryRefused."""

    def proof_targets(self, path: str, args: Mapping[str, Any]) -> Sequence[ProofTarget]:
        """The entries that prove the answer. Raises QueryRefused where this query can't be proved."""

    def answer_from_proof(self, path: str, args: Mapping[str, Any], values: Sequence[bytes | None]) -> Any:
        """The answer to *path*, from the proved *values* of `proof_targets` alone (None: proved absent)."""

    def messages_from_json(self, messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
        """Messages such as ``{"coin.send": {"to": "ting1…", "amount": 5}}``, checked. Raises QueryRefused."""

    def message_to_json(self, message: Message) -> Any:
        """The reverse, for display; for an unknown message its raw fields."""

    def event_to_json(self, event: Event) -> Any:
        """``{"module", "name", field: value, …}``, for display."""

    def refusal_text(self, code: str) -> str | None:
        """The sentence behind a result code, if it is this application's."""

    def describe(self) -> dict[str, Any]:
        """Modules, messages, queries, events, parameters, refusals with JSON Schema; source of CLI, OpenRPC, forms."""
