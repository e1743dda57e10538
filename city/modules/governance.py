"""Decide together, and carry out what was decided."""

from __future__ import annotations

import enum
from typing import Annotated

from city.modules.coin import Coin
from city.modules.identity import Identity
from city.sdk import (
    DAY_MS,
    PPM,
    U63,
    Address,
    Amount,
    Cell,
    Context,
    Count,
    Hash,
    Length,
    Limit,
    Message,
    Millis,
    Module,
    ModuleName,
    Page,
    Param,
    Ppm,
    Record,
    Refusal,
    Table,
    Uses,
    event,
    invariant,
    message,
    query,
    replace,
    scheduled,
)

ENGINE = "engine"
"""The name under which `Governance.set_param` reaches the engine's own parameters."""
MESSAGES_MAX = 16
Code = Annotated[str, Length(100)]


class Choice(enum.IntEnum):
    """What a voter says. A veto is a no that also says: this should never have been asked."""

    YES = 1
    NO = 2
    ABSTAIN = 3
    VETO = 4


class Status(enum.IntEnum):
    """Where a proposal stands."""

    VOTING = 1
    PASSED = 2
    """It had nothing to carry out."""
    REJECTED = 3
    VETOED = 4
    EXECUTED = 5
    FAILED = 6
    """It passed, but one of its messages refused: nothing of it took effect."""


class Rules(Record):
    """What a ballot needs, as it was when it opened."""

    quorum: Ppm
    """Share of the census that must vote."""
    threshold: Ppm
    """More than this share of yes and no together must be yes; a veto is a no."""
    veto: Ppm
    """More than this share of all votes as vetoes ends it."""


class Proposal(Record):
    """A question to the town."""

    proposer: Address
    title: Annotated[str, Length(200)]
    body_hash: Hash
    """SHA-256 of the text that explains it."""
    messages: Annotated[tuple[Message, ...], Count(MESSAGES_MAX)]
    deposit: Amount
    opened: Millis
    closes: Millis
    """Votes count in blocks up to this time."""
    rules: Rules
    persons: U63
    """The size of the census at the opening."""
    next_number: U63
    """Persons with a lower number were in it."""
    status: Status
    code: Code
    """Why it failed, "" otherwise."""


class Tally(Record):
    """Votes so far."""

    yes: U63 = 0
    no: U63 = 0
    abstain: U63 = 0
    veto: U63 = 0


@event
class Proposed:
    """A ballot is open."""

    proposal: U63
    proposer: Address
    closes: Millis


@event
class Voted:
    """A person has voted, or changed the vote."""

    proposal: U63
    voter: Address
    choice: Choice


@event
class Closed:
    """A ballot is closed."""

    proposal: U63
    status: Status
    code: Code


@event
class ParamSet:
    """A parameter has a new value."""

    of_module: ModuleName
    param: ModuleName
    value: U63


class Governance(Module):
    """Any message of the town can be proposed; persons vote; what passes is carried out with the town's authority."""

    name, version = "governance", 1

    coin = Uses(Coin)
    people = Uses(Identity)

    deposit = Param(
        Amount, 100, low=0, high=10**6, text="what a proposer sets aside; it is burned after a veto, else it returns"
    )
    voting_period_ms = Param(Millis, 7 * DAY_MS, low=1_000, high=90 * DAY_MS, text="how long a ballot is open")
    quorum = Param(Ppm, 334_000, low=0, high=667_000, text="share of the census that must vote")
    threshold = Param(Ppm, 500_000, low=0, high=900_000, text="more than this share of yes and no must be yes")
    veto_threshold = Param(Ppm, 334_000, low=1, high=PPM, text="more than this share of the votes as vetoes ends it")

    proposals = Table(int, Proposal)
    tallies = Table(int, Tally)
    votes = Table(tuple[int, Address], Choice)
    next_proposal = Cell(U63, 1)

    not_a_person = Refusal("only a person of the town may propose and vote")
    not_in_census = Refusal("you became a person of the town after this ballot had opened")
    unreadable = Refusal("a message is unknown to the town, or its arguments do not fit: number {number}")
    no_such_proposal = Refusal("there is no such proposal: {proposal}")
    closed = Refusal("the ballot is closed")
    no_such_param = Refusal("there is no such parameter, or it can't be so: {module}.{name} = {value}")
    bad_engine_params = Refusal("the engine refuses this: {why}")

    @message
    def propose(
        self,
        ctx: Context,
        *,
        title: Annotated[str, Length(200)],
        body_hash: Hash,
        messages: Annotated[tuple[Message, ...], Count(MESSAGES_MAX)] = (),
    ) -> None:
        """Ask the town to carry out *messages*, all or none; the text behind *body_hash* says why."""
        if not self.people.is_person(ctx.sender):
            raise self.not_a_person()
        for number, each in enumerate(messages):
            if not ctx.readable(each):
                raise self.unreadable(number=number)
        deposit = self.deposit
        self.coin.pay(ctx, to=ctx.own_address, amount=deposit)
        census = self.people.present_census()
        number = self.next_proposal.value
        self.next_proposal.value = number + 1
        closes = ctx.time + self.voting_period_ms
        self.proposals.insert(
            number,
            Proposal(
                proposer=ctx.sender,
                title=title,
                body_hash=body_hash,
                messages=messages,
                deposit=deposit,
                opened=ctx.time,
                closes=closes,
                rules=Rules(quorum=self.quorum, threshold=self.threshold, veto=self.veto_threshold),
                persons=census.persons,
                next_number=census.next_number,
                status=Status.VOTING,
                code="",
            ),
        )
        self.tallies.insert(number, Tally())
        ctx.schedule(closes, self.close, proposal=number)
        ctx.emit(Proposed(proposal=number, proposer=ctx.sender, closes=closes))

    @message
    def vote(self, ctx: Context, *, proposal: U63, choice: Choice) -> None:
        """Vote, or change your vote, while the ballot is open."""
        asked = self.proposals.get(proposal)
        if asked is None:
            raise self.no_such_proposal(proposal=proposal)
        person = self.people.person_of(ctx.sender)
        if person is None:
            raise self.not_a_person()
        if person.number >= asked.next_number:
            raise self.not_in_census()
        if asked.status is not Status.VOTING or ctx.time > asked.closes:
            raise self.closed()
        before = self.votes.get((proposal, ctx.sender))
        self.tallies[proposal] = recount(self.tallies[proposal], before, choice)
        self.votes[proposal, ctx.sender] = choice
        ctx.emit(Voted(proposal=proposal, voter=ctx.sender, choice=choice))

    @scheduled
    def close(self, ctx: Context, *, proposal: U63) -> None:
        """The ballot is counted, the deposit returned or burned, and what passed is carried out."""
        asked = self.proposals[proposal]
        status = outcome(self.tallies[proposal], asked.rules, asked.persons)
        if status is Status.VETOED:
            self.coin.burn_own(ctx, amount=asked.deposit)
        else:
            self.coin.pay_own(ctx, to=asked.proposer, amount=asked.deposit)
        code = ""
        if status is Status.PASSED and asked.messages:
            code = ctx.carry_out(asked.messages)
            status = Status.FAILED if code else Status.EXECUTED
        self.proposals[proposal] = replace(asked, status=status, code=code)
        ctx.emit(Closed(proposal=proposal, status=status, code=code))

    @message(authority="governance")
    def set_param(self, ctx: Context, *, module: ModuleName, name: ModuleName, value: U63) -> None:
        """Change a parameter of a module, or of the engine (module "engine"; in force from the next height on)."""
        if module == ENGINE:
            self._set_engine_param(ctx, name, value)
        elif not ctx.set_param(module, name, value):
            raise self.no_such_param(module=module, name=name, value=value)
        ctx.emit(ParamSet(of_module=module, param=name, value=value))

    @query
    def proposal(self, *, proposal: U63) -> Proposal | None:
        """A proposal with its rules and where it stands."""
        return self.proposals.get(proposal)

    @query
    def tally(self, *, proposal: U63) -> Tally | None:
        """The votes on a proposal so far."""
        return self.tallies.get(proposal)

    @query
    def vote_of(self, *, proposal: U63, voter: Address) -> Choice | None:
        """How somebody voted."""
        return self.votes.get((proposal, voter))

    @query
    def all_votes(
        self, *, proposal: U63, after: Address | None = None, limit: Limit = 50
    ) -> Page[tuple[int, Address], Choice]:
        """The votes on a proposal, by voter: everybody can count them again."""
        return self.votes.page(None if after is None else (proposal, after), limit, under=proposal)

    @query
    def list_proposals(self, *, after: U63 | None = None, limit: Limit = 50) -> Page[int, Proposal]:
        """Proposals by number."""
        return self.proposals.page(after, limit)

    @invariant
    def every_vote_is_counted_once(self) -> bool:
        """Tallies are what the votes add up to, and no ballot has more than its census."""
        counted = {number: Tally() for number, _ in self.tallies.all()}
        for (number, _), choice in self.votes.all():
            counted[number] = recount(counted[number], None, choice)
        return all(
            tally == counted[number] and votes_in(tally) <= self.proposals[number].persons
            for number, tally in self.tallies.all()
        )

    def _set_engine_param(self, ctx: Context, name: str, value: int) -> None:
        why = ctx.set_engine_param(name, value)
        if why:
            raise self.bad_engine_params(why=why)


def votes_in(tally: Tally) -> int:
    """All votes."""
    return tally.yes + tally.no + tally.abstain + tally.veto


def recount(tally: Tally, before: Choice | None, now: Choice) -> Tally:
    """*tally* after somebody who had said *before* says *now*."""
    counts = {Choice.YES: tally.yes, Choice.NO: tally.no, Choice.ABSTAIN: tally.abstain, Choice.VETO: tally.veto}
    if before is not None:
        counts[before] -= 1
    counts[now] += 1
    return Tally(yes=counts[Choice.YES], no=counts[Choice.NO], abstain=counts[Choice.ABSTAIN], veto=counts[Choice.VETO])


def outcome(tally: Tally, rules: Rules, persons: int) -> Status:
    """PASSED, REJECTED or VETOED: exact integers, no rounding.

    Rejected below the quorum or if all abstained; vetoed above the veto's share; passed above the threshold, where
    abstaining does not count and a veto is a no (Cosmos SDK x/gov, tally).
    """
    voted = votes_in(tally)
    decided = voted - tally.abstain
    if voted * PPM < rules.quorum * persons or decided == 0:
        return Status.REJECTED
    if tally.veto * PPM > rules.veto * voted:
        return Status.VETOED
    return Status.PASSED if tally.yes * PPM > rules.threshold * decided else Status.REJECTED
