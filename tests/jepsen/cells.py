"""The module under test, installed by its entry point as any module of others: registers and a set."""

from __future__ import annotations

from city.sdk import U63, Context, Limit, Module, Page, Refusal, Table, event, message, query


@event
class Seen:
    """What a register holds (0: nothing)."""

    key: int
    value: int


class Cells(Module):
    """Registers with compare-and-set, and a set of numbers."""

    name, version = "cells", 1

    registers = Table(int, int)
    elements = Table(int, U63)

    differs = Refusal("register {key} holds {value}")

    @message
    def read(self, ctx: Context, *, key: int) -> None:
        """Say what a register holds, in its place among the writes."""
        ctx.emit(Seen(key=key, value=self.registers.get(key, 0)))

    @message
    def write(self, ctx: Context, *, key: int, value: int) -> None:
        """Put a value into a register."""
        self.registers[key] = value

    @message
    def cas(self, ctx: Context, *, key: int, expected: int, value: int) -> None:
        """Put a value into a register that holds what is expected."""
        held = self.registers.get(key, 0)
        if held != expected:
            raise self.differs(key=key, value=held)
        self.registers[key] = value

    @message
    def add(self, ctx: Context, *, element: int) -> None:
        """Put a number into the set; one more counts each time that it comes."""
        self.elements[element] = self.elements.get(element, 0) + 1

    @query
    def added(self, *, after: int | None = None, limit: Limit = 1_000) -> Page[int, U63]:
        """What the set holds, and how often each number was put into it."""
        return self.elements.page(after, limit)
