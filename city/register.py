"""The leaf ``town``: accounts with keys and next nonce, work for later, what failed of it, and module versions."""

from __future__ import annotations

from typing import Annotated

from city.sdk.context import Context
from city.sdk.declare import Param, message, query, shared
from city.sdk.module import Module
from city.sdk.refusal import Refusal
from city.sdk.table import Cell, Page, Table
from city.sdk.types import Address, Count, Length, Limit, Millis, ModuleName, PublicKey, Range, Record
from city.sdk.weights import SCHEDULE
from consensus.codec import Wire
from consensus.shape import U63, Anything, Hash

KEYS_MAX = 16
FAILURES_MAX = 1_000
"""Failures of scheduled work that are kept; older ones make room."""


class KeyRecord(Record):
    """Which keys an account obeys, once it obeys others than the one that hashes to its address."""

    keys: Annotated[tuple[PublicKey, ...], Count(KEYS_MAX, 1)]
    threshold: Annotated[int, Range(1, KEYS_MAX)]
    """How many of them must sign."""


class Account(Record):
    """What everybody may know of an account's keys."""

    next_nonce: U63
    record: KeyRecord | None
    """None: it obeys the key that hashes to its address."""


class Work(Record):
    """Something that a module does later."""

    module: ModuleName
    name: ModuleName
    args: Anything


class Failure(Record):
    """Scheduled work that was refused or failed."""

    module: ModuleName
    name: ModuleName
    due: Millis
    height: U63
    code: Annotated[str, Length(100)]


class Version(Record):
    """Which version of a module wrote its state."""

    version: U63
    schema: Hash
    """SHA-256 of what the module declares, as it was then."""


class Register(Module):
    """Accounts, the scheduler and the modules' versions: what every module of a town rests on."""

    name, version = "town", 1

    grain_ms = Param(Millis, 60_000, low=1_000, high=3_600_000, text="due times are rounded up to a multiple of this")

    nonces = Table(Address, U63)
    keys = Table(Address, KeyRecord)
    queue = Table(tuple[int, int], Work)
    sequence = Cell(U63, 0)
    failures = Table(int, Failure)
    failed = Cell(U63, 0)
    versions = Table(ModuleName, Version)

    no_such_version = Refusal("this release has no code for that step: {module} from version {before} to {after}")

    @message(authority="governance")
    def upgrade(self, ctx: Context, *, module: ModuleName, to: U63) -> None:
        """Bring a module's state to a later version; every node must run code of that version by then."""
        before = self.versions[module].version
        if not before < to <= ctx.code_version(module):
            raise self.no_such_version(module=module, before=before, after=to)
        ctx.migrate(module, before, to)
        self.note_version(ctx, module, to)

    @query
    def account(self, *, address: Address) -> Account:
        """The next nonce of an account, and its key record."""
        return Account(next_nonce=self.nonces.get(address, 0), record=self.keys.get(address))

    @query
    def due(self, *, limit: Limit = 50) -> Page[tuple[int, int], Work]:
        """Work for later, by due time (ms) and sequence."""
        return self.queue.page(limit=limit)

    @query
    def failed_work(self, *, after: int | None = None, limit: Limit = 50) -> Page[int, Failure]:
        """Scheduled work that was refused or failed, the last thousand."""
        return self.failures.page(after, limit)

    @query
    def module_versions(self) -> Page[str, Version]:
        """Which version of each module wrote its state."""
        return self.versions.page()

    @shared
    def keys_of(self, account: bytes) -> KeyRecord | None:
        """The key record of *account*, if it has one."""
        return self.keys.get(account)

    @shared
    def set_keys(self, ctx: Context, account: bytes, record: KeyRecord) -> None:
        """*account* obeys *record* alone from now on; the calling module has made sure that its present keys agree."""
        self.keys[account] = record

    def note_version(self, ctx: Context, module: str, version: int) -> None:
        """The state of *module* is that of *version* from now on."""
        self.versions[module] = Version(version=version, schema=ctx.code_schema(module))

    def enqueue(self, now_ms: int, at_ms: int, module: str, name: str, args: Wire) -> None:
        """The work stands in the queue, due at *at_ms* rounded up to the grain, or now if that is past."""
        self.space.charge(SCHEDULE)
        grain = self.grain_ms
        due = -(-max(at_ms, now_ms) // grain) * grain
        number = self.sequence.value
        self.sequence.value = number + 1
        self.queue.insert((due, number), Work(module=module, name=name, args=args))

    def note_failure(self, work: Work, due: int, height: int, code: str) -> None:
        """The failure of *work* is kept with its code."""
        number = self.failed.value
        self.failed.value = number + 1
        self.failures.insert(number, Failure(module=work.module, name=work.name, due=due, height=height, code=code))
        if number >= FAILURES_MAX:
            self.failures.remove(number - FAILURES_MAX)
