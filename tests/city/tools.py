"""The tool library: lend, return, pay when late. The module of the guide, as a town's programmer would write it."""

from __future__ import annotations

from typing import Annotated

from city.modules.coin import Coin
from city.modules.identity import Identity
from city.sdk import (
    DAY_MS,
    Address,
    Amount,
    Context,
    Length,
    Limit,
    Millis,
    Module,
    Page,
    Param,
    Record,
    Refusal,
    Table,
    Uses,
    event,
    invariant,
    message,
    query,
    replace,
)

ToolName = Annotated[str, Length(80)]


class Tool(Record):
    """A tool that the town owns."""

    name: ToolName
    holder: Address | None
    """None: on the shelf."""
    due: Millis | None


@event
class Returned:
    """A tool is back."""

    tool: int
    fee: Amount


class ToolLibrary(Module):
    """Borrow a tool; bring it back in time, or pay."""

    name, version = "tools", 1

    coin = Uses(Coin)
    people = Uses(Identity)

    loan_ms = Param(Millis, 14 * DAY_MS, low=3_600_000, high=90 * DAY_MS)
    late_fee = Param(Amount, 5, low=0, high=1_000)

    tools = Table(int, Tool)
    by_holder = tools.index(Address, lambda it: it.holder)

    not_a_person = Refusal("only a person of the town may borrow")
    taken = Refusal("tool {tool} is out until {due}")
    not_yours = Refusal("tool {tool} is not with you")

    @message(authority="governance")
    def add(self, ctx: Context, *, tool: int, called: ToolName) -> None:
        """Put a new tool on the shelf."""
        self.tools.insert(tool, Tool(name=called, holder=None, due=None))

    @message
    def borrow(self, ctx: Context, *, tool: int) -> None:
        """Take a tool home."""
        if not self.people.is_person(ctx.sender):
            raise self.not_a_person()
        it = self.tools[tool]
        if it.holder is not None:
            raise self.taken(tool=tool, due=it.due)
        self.tools[tool] = replace(it, holder=ctx.sender, due=ctx.time + self.loan_ms)

    @message
    def give_back(self, ctx: Context, *, tool: int) -> None:
        """Bring a tool back; what is late costs a fee for each day."""
        it = self.tools[tool]
        if it.holder != ctx.sender or it.due is None:
            raise self.not_yours(tool=tool)
        fee = max(0, ctx.time - it.due) // DAY_MS * self.late_fee
        self.coin.pay(ctx, to=ctx.treasury, amount=fee)
        self.tools[tool] = replace(it, holder=None, due=None)
        ctx.emit(Returned(tool=tool, fee=fee))

    @query
    def shelf(self, *, after: int | None = None, limit: Limit = 50) -> Page[int, Tool]:
        """Tools that can be borrowed now, by number."""
        return self.tools.page(after, limit, where=lambda it: it.holder is None)

    @query
    def borrowed(self, *, holder: Address) -> Page[int, Tool]:
        """What somebody has at home."""
        return self.by_holder.page(holder)

    @invariant
    def what_is_out_is_due(self) -> bool:
        """A tool that is out has a time by which it is due."""
        return all((it.holder is None) == (it.due is None) for _, it in self.tools.all())
