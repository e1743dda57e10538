"""Modules that do what modules should not, for the tests of execution."""

from __future__ import annotations

from city.modules.coin import Coin
from city.sdk import (
    U63,
    Address,
    Amount,
    Cell,
    Context,
    Millis,
    Module,
    Record,
    Refusal,
    Table,
    Uses,
    end_of_block,
    event,
    message,
    migration,
    query,
    scheduled,
    shared,
)
from consensus.application import EngineFault


@event
class Noted:
    """Something was noted."""

    number: U63


class Undeclared(Record):
    """No event."""

    number: U63 = 0


class Deep(Module):
    """Is called by the other."""

    name, version = "deep", 1

    @shared
    def who_calls(self, ctx: Context) -> tuple[str | None, bytes]:
        """The calling module, and its account."""
        return ctx.caller, ctx.caller_address

    @shared
    def dive(self, ctx: Context, trouble: Trouble, depth: int) -> None:
        """Calls back through the border, ever deeper."""
        trouble.sink(ctx, depth - 1)

    def hidden(self) -> None:
        """Not shared."""


class Trouble(Module):
    """Faults, work for later, and everything that can go wrong with both."""

    name, version = "trouble", 2

    coin = Uses(Coin)
    deep = Uses(Deep)

    notes = Table(int, U63)
    waiting = Table(int, U63)
    ran = Cell(U63, 0)
    migrated = Cell(U63, 0)

    no = Refusal("no")

    @message
    def crash(self, ctx: Context, *, how: U63) -> None:
        """Writes, emits, and fails."""
        self.notes[1] = 1
        ctx.emit(Noted(number=1))
        match how:
            case 0:
                raise ZeroDivisionError
            case 1:
                raise RecursionError
            case 2:
                raise MemoryError
            case 3:
                raise EngineFault("the disk is gone")
            case 4:
                ctx.emit(Undeclared())
            case 5:
                self.deep.hidden()
            case 6:
                self.notes[1] = -1
            case 7:
                ctx.set_param("coin", "weight_price", 0)
            case 8:
                ctx.carry_out(())
            case 9:
                ctx.update_validator(b"k" * 32, 5)
            case 10:
                ctx.set_engine_param("heartbeat_ms", 5)
            case 11:
                ctx.migrate("coin", 1, 2)
            case 12:
                assert ctx.caller is not None
            case _:
                ctx.schedule(ctx.time, self.crash, how=1)

    @message
    def sink_to(self, ctx: Context, *, depth: U63) -> None:
        """Modules call each other *depth* times."""
        self.sink(ctx, depth)

    def sink(self, ctx: Context, depth: int) -> None:
        """One deeper."""
        self.ran.value += 1
        if depth:
            self.deep.dive(ctx, self, depth)

    @message
    def look_around(self, ctx: Context, *, other: Address) -> None:
        """Refuses unless the context says what it should."""
        caller, address = self.deep.who_calls(ctx)
        right = caller == self.name and address == ctx.own_address and ctx.caller is None
        if not (right and ctx.signed_by(ctx.sender) and ctx.height and ctx.chain_id and not ctx.signed_by(other)):
            raise self.no()

    @message
    def pay_out(self, ctx: Context, *, to: Address, amount: Amount) -> None:
        """Pays from the module's own account, and burns as much."""
        self.coin.pay_own(ctx, to=to, amount=amount)
        self.coin.burn_own(ctx, amount=amount)
        if self.coin.balance_of(ctx.own_address):
            raise self.no()

    @message
    def plan(self, ctx: Context, *, at: Millis, number: U63) -> None:
        """Something happens later."""
        ctx.schedule(at, self.happen, number=number)

    @scheduled
    def happen(self, ctx: Context, *, number: U63) -> None:
        """0 refuses, 1 fails, others are noted in the order in which they happen."""
        if number == 0:
            raise self.no()
        if number == 1:
            raise KeyError(number)
        self.notes[self.ran.value] = number
        self.ran.value += 1
        for spent in range(1_000 if number >= 100 else 0):
            self.notes.get(spent)
        ctx.emit(Noted(number=number))

    @message
    def wait(self, ctx: Context, *, number: U63) -> None:
        """Something is pending until the end of the block: 0 stays and fails."""
        self.waiting[number] = number

    @end_of_block(waiting)
    def finish(self, ctx: Context) -> None:
        """What is pending is done."""
        for number, _ in self.waiting.page().rows:
            if number == 0:
                raise self.no()
            self.waiting.remove(number)
            ctx.emit(Noted(number=number))

    @migration(to=2)
    def grow(self, ctx: Context) -> None:
        """Version 2 remembers when it came."""
        self.migrated.value = ctx.time

    @query
    def noted(self) -> tuple[int, ...]:
        """What happened, in order."""
        return tuple(number for _, number in self.notes.page().rows)

    @query
    def chained(self, *, number: U63) -> U63:
        """The note of the note: which entry it looks at depends on another."""
        first = self.notes.get(number, 0)
        return self.notes.get(first + 100, 0) if first else 0

    @query
    def constant(self) -> U63:
        """Rests on nothing."""
        return 5

    @query
    def strict(self, *, number: U63) -> U63:
        """Refuses where there is no note."""
        return self.notes[number]

    @query
    def listed(self, *, number: U63) -> tuple[int, ...]:
        """Lists only where there is a note."""
        return self.noted() if number in self.notes else ()
