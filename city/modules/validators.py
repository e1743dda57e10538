"""Who makes the blocks: operators apply, a passed proposal admits, changes of power are spread over blocks.

Whom evidence convicts of signing two different votes is jailed, and leaves before all other changes. What that costs
in coins comes with bonds.
"""

from __future__ import annotations

from typing import Annotated

from city.sdk import (
    DAY_MS,
    U63,
    Address,
    Cell,
    Context,
    Founder,
    Length,
    Limit,
    Millis,
    Module,
    Page,
    Param,
    PublicKey,
    Range,
    Record,
    Refusal,
    Table,
    end_of_block,
    event,
    genesis,
    invariant,
    key_address,
    message,
    misbehaviour,
    query,
    replace,
    resume,
    scheduled,
)

MEMBERS_MAX = 256
POWER_MAX = 10**9
PENDING_MAX = 256
FIRST_CHANGE = 2**32
"""Number of the first change; removals of the jailed count from 0, so that they come before all others."""
Power = Annotated[int, Range(1, POWER_MAX)]
NodeName = Annotated[str, Length(70)]


class Member(Record):
    """One validator."""

    power: Power
    operator: Address
    """Whose account answers for it."""
    name: NodeName


class Candidate(Record):
    """Who wants to be a validator."""

    operator: Address
    name: NodeName


class Change(Record):
    """A decided change that has not come into force."""

    public_key: PublicKey
    power: Annotated[int, Range(0, POWER_MAX)]
    """0: it leaves."""
    operator: Address
    name: NodeName


class Jailing(Record):
    """Why a validator may not vote, and for how long."""

    until: Millis
    """Block time from which it may come back."""
    tombstoned: bool
    """This key never comes back."""
    lied_at: U63
    """Height at which it signed what convicted it."""
    convicted_at: U63
    """Height of the block that convicted it last."""
    power: Annotated[int, Range(0, POWER_MAX)]
    """With which it comes back; 0: it had left before, and must apply again."""
    operator: Address
    name: NodeName


class GenesisMember(Record):
    """A validator of the first hour."""

    public_key: PublicKey
    power: Power
    operator: Address
    name: NodeName = ""


@event
class Applied:
    """Somebody wants to be a validator."""

    public_key: PublicKey
    operator: Address
    node_name: NodeName


@event
class ApplicationWithdrawn:
    """Somebody does not want to be a validator any more."""

    public_key: PublicKey


@event
class ChangeDecided:
    """A validator's power will change; 0: it will leave."""

    public_key: PublicKey
    power: U63


@event
class PowerChanged:
    """From the next height on the validator has this power; 0: it has left."""

    public_key: PublicKey
    power: U63
    operator: Address


@event
class ChangeDropped:
    """A decided change could not come into force: the set would have been empty or too large."""

    public_key: PublicKey
    power: U63


@event
class Convicted:
    """A block proved that a validator signed two different votes in one round: it is jailed, perhaps for good."""

    public_key: PublicKey
    lied_at: U63
    until: Millis
    tombstoned: bool


@event
class Released:
    """A validator is back from jail."""

    public_key: PublicKey


class Validators(Module):
    """The validator set, by the town's decision."""

    name, version = "validators", 1

    double_sign_jail_ms = Param(
        Millis, 7 * DAY_MS, low=0, high=3_660 * DAY_MS, text="how long who signed two different votes may not vote"
    )
    double_sign_tombstones = Param(
        Annotated[int, Range(0, 1)], 1, low=0, high=1, text="1: such a key never votes again; 0: after the jail it may"
    )

    members = Table(PublicKey, Member)
    candidates = Table(PublicKey, Candidate)
    changes = Table(int, Change)
    jailed = Table(PublicKey, Jailing)
    next_change = Cell(U63, FIRST_CHANGE)
    next_removal = Cell(U63, 0)

    known = Refusal("this key is a validator's or a candidate's already")
    unknown = Refusal("this key is no validator's, and none is coming")
    no_candidate = Refusal("nobody has applied with this key")
    not_operator = Refusal("only the operator may do this")
    in_jail = Refusal("this validator is in jail: see validators/jailing")
    not_in_jail = Refusal("this validator is not in jail")
    still_in_jail = Refusal("the jail has not ended: it lasts until {until} (block time, ms)")
    tombstoned = Refusal("this key has signed two different votes and never votes again; apply with another one")
    has_left = Refusal("this validator had left before it was jailed; apply again")
    too_many_changes = Refusal("too many changes wait already; try again in a later block")

    @message
    def apply(self, ctx: Context, *, public_key: PublicKey, name: NodeName) -> None:
        """Ask to become a validator with your node's consensus key; a proposal with `validators.admit` decides."""
        if public_key in self.jailed:
            self._leave_jail(ctx, public_key)
        coming = self._latest(public_key) is not None
        if coming or public_key in self.members or public_key in self.candidates:
            raise self.known()
        self.candidates.insert(public_key, Candidate(operator=ctx.sender, name=name))
        ctx.emit(Applied(public_key=public_key, operator=ctx.sender, node_name=name))

    @message
    def withdraw(self, ctx: Context, *, public_key: PublicKey) -> None:
        """Take your application back."""
        if self._candidate(public_key).operator != ctx.sender:
            raise self.not_operator()
        self.candidates.remove(public_key)
        ctx.emit(ApplicationWithdrawn(public_key=public_key))

    @message(authority="governance")
    def admit(self, ctx: Context, *, public_key: PublicKey, power: Power = 10) -> None:
        """Make a candidate a validator."""
        candidate = self._candidate(public_key)
        self.candidates.remove(public_key)
        self._decide(ctx, public_key, power, candidate)

    @message(authority="governance")
    def set_power(self, ctx: Context, *, public_key: PublicKey, power: Power) -> None:
        """Change a validator's power."""
        member = self._member(public_key)
        self._decide(ctx, public_key, power, member)

    @message(authority="governance")
    def remove(self, ctx: Context, *, public_key: PublicKey) -> None:
        """Make a validator leave."""
        member = self._member(public_key)
        self._decide(ctx, public_key, 0, member)

    @message
    def resign(self, ctx: Context, *, public_key: PublicKey) -> None:
        """Leave the set with your validator."""
        member = self._member(public_key)
        if member.operator != ctx.sender:
            raise self.not_operator()
        self._decide(ctx, public_key, 0, member)

    @message
    def unjail(self, ctx: Context, *, public_key: PublicKey) -> None:
        """Bring your validator back with its former power, once its jail is over."""
        jailing = self.jailed.get(public_key)
        if jailing is None:
            raise self.not_in_jail()
        if jailing.power == 0:
            raise self.has_left()
        if jailing.operator != ctx.sender:
            raise self.not_operator()
        self._leave_jail(ctx, public_key)
        self._drop_changes(public_key)  # its removal, which still waits if it is the last validator
        if public_key not in self.members:
            self._decide(ctx, public_key, jailing.power, jailing)

    @misbehaviour
    def double_signed(self, ctx: Context, *, public_key: PublicKey, power: U63, height: U63) -> None:
        """The validator is in jail, for good if the parameters say so, and will leave before all other changes."""
        latest = self._latest(public_key)
        former = self.jailed.get(public_key)
        candidate = self.candidates.get(public_key)
        if candidate is not None:
            self.candidates.remove(public_key)
            ctx.emit(ApplicationWithdrawn(public_key=public_key))
        self._drop_changes(public_key)
        jailing = Jailing(
            until=ctx.time + self.double_sign_jail_ms,
            tombstoned=self.double_sign_tombstones == 1,
            lied_at=height,
            convicted_at=ctx.height,
            power=0 if latest is None else latest.power,
            operator=ctx.own_address if latest is None else latest.operator,
            name="" if latest is None else latest.name,
        )
        if former is not None:
            jailing = replace(
                jailing,
                until=max(former.until, jailing.until),
                tombstoned=former.tombstoned or jailing.tombstoned,
                power=former.power,
                operator=former.operator,
                name=former.name,
            )
        self.jailed[public_key] = jailing
        if public_key in self.members:
            number = self.next_removal.value
            self.next_removal.value = number + 1
            self._note_change(ctx, number, public_key, 0, jailing)
        ctx.emit(Convicted(public_key=public_key, lied_at=height, until=jailing.until, tombstoned=jailing.tombstoned))

    @query
    def jailing(self, *, public_key: PublicKey) -> Jailing | None:
        """Whether a validator is in jail, why and until when; one that is not there has none."""
        return self.jailed.get(public_key)

    @query
    def jailings(self, *, after: PublicKey | None = None, limit: Limit = 50) -> Page[PublicKey, Jailing]:
        """All that are in jail, or tombstoned."""
        return self.jailed.page(after, limit)

    @query
    def validator_set(self) -> Page[PublicKey, Member]:
        """All validators, by public key."""
        return self.members.page()

    @query
    def validator(self, *, public_key: PublicKey) -> Member | None:
        """One validator."""
        return self.members.get(public_key)

    @query
    def applications(self, *, after: PublicKey | None = None, limit: Limit = 50) -> Page[PublicKey, Candidate]:
        """Who wants to be a validator."""
        return self.candidates.page(after, limit)

    @query
    def decided_changes(self, *, limit: Limit = 50) -> Page[int, Change]:
        """Changes that have not come into force, in the order in which they will."""
        return self.changes.page(limit=limit)

    @end_of_block(changes)
    def carry_out_changes(self, ctx: Context) -> None:
        """Changes come into force in order, up to a third of the power in a block, the first always.

        Jailing first; but the last validator stays until there is another one.
        """
        members = dict(self.members.page().rows)
        total = sum(member.power for member in members.values())
        moved = 0
        changed: list[bytes] = []
        kept: list[Change] = []
        for number, change in self.changes.page().rows:
            before = members[change.public_key].power if change.public_key in members else 0
            step = abs(change.power - before)
            if change.public_key in changed or (changed and 3 * (moved + step) > total):
                # Whoever waits for the rest need not wait for somebody else's transaction or the heartbeat.
                ctx.schedule(ctx.time, self.go_on)
                break
            fits = self._fits(members, change)
            if not fits and number < FIRST_CHANGE:
                kept.append(change)
                continue
            self.changes.remove(number)
            if fits:
                self._carry_out(ctx, members, change)
                changed.append(change.public_key)
                moved += step
            else:
                ctx.emit(ChangeDropped(public_key=change.public_key, power=change.power))
        else:
            if any(self._fits(members, change) for change in kept):
                ctx.schedule(ctx.time, self.go_on)

    @scheduled
    def go_on(self, ctx: Context) -> None:
        """A block is made, at whose end the next changes come into force."""

    @genesis
    def begin(self, ctx: Context, *, members: tuple[GenesisMember, ...] = ()) -> None:
        """The validators of the first hour."""
        for member in members:
            self.members.insert(
                member.public_key, Member(power=member.power, operator=member.operator, name=member.name)
            )
            ctx.update_validator(member.public_key, member.power)

    @resume
    def found_again(self, ctx: Context, *, founders: tuple[Founder, ...]) -> None:
        """The validators are *founders*, and nobody else; what was decided for or against the former set is void.

        Whoever was a validator or had applied keeps operator and name; behind any other stands the account of its key.
        """
        former = dict(self.members.page().rows)
        for key in former:
            self.members.remove(key)
        for number, _ in self.changes.page().rows:
            self.changes.remove(number)
        for founder in founders:
            key = founder.public_key
            known = former.get(key) or self.candidates.get(key) or self.jailed.get(key)
            if key in self.candidates:
                self.candidates.remove(key)
            if key in self.jailed:
                self.jailed.remove(key)
            operator = key_address(key) if known is None else known.operator
            name = founder.name or ("" if known is None else known.name)
            self.members.insert(key, Member(power=founder.power, operator=operator, name=name))
            ctx.update_validator(key, founder.power)

    @invariant
    def no_candidate_is_a_member(self) -> bool:
        """Nobody is a validator and a candidate at once, and the set has a size that the engine takes."""
        members = [key for key, _ in self.members.all()]
        return len(members) <= MEMBERS_MAX and not any(key in self.candidates for key in members)

    @invariant
    def who_is_in_jail_leaves(self) -> bool:
        """Nobody in jail is a candidate or coming, and a validator in jail is the only one, or about to leave."""
        leaving = [change.public_key for number, change in self.changes.all() if number < FIRST_CHANGE]
        coming = [change.public_key for number, change in self.changes.all() if number >= FIRST_CHANGE]
        return not any(
            key in self.candidates or key in coming or (key in self.members and key not in leaving)
            for key, _ in self.jailed.all()
        )

    def _candidate(self, public_key: bytes) -> Candidate:
        candidate = self.candidates.get(public_key)
        if candidate is None:
            raise self.no_candidate()
        return candidate

    def _member(self, public_key: bytes) -> Member:
        if public_key in self.jailed:
            raise self.in_jail()
        latest = self._latest(public_key)
        if latest is None:
            raise self.unknown()
        return latest

    def _leave_jail(self, ctx: Context, public_key: bytes) -> None:
        jailing = self.jailed[public_key]
        if jailing.tombstoned:
            raise self.tombstoned()
        if jailing.until > ctx.time:
            raise self.still_in_jail(until=jailing.until)
        self.jailed.remove(public_key)
        ctx.emit(Released(public_key=public_key))

    def _drop_changes(self, public_key: bytes) -> None:
        for number, change in self.changes.page().rows:
            if change.public_key == public_key:
                self.changes.remove(number)

    def _latest(self, public_key: bytes) -> Member | None:
        """The validator as it will be when every decided change is in force."""
        latest = self.members.get(public_key)
        for _, change in self.changes.page().rows:
            if change.public_key == public_key:
                latest = _member_after(change)
        return latest

    def _decide(self, ctx: Context, public_key: bytes, power: int, who: Member | Candidate | Jailing) -> None:
        if len(self.changes.page().rows) >= PENDING_MAX:
            raise self.too_many_changes()
        number = self.next_change.value
        self.next_change.value = number + 1
        self._note_change(ctx, number, public_key, power, who)

    def _note_change(
        self, ctx: Context, number: int, public_key: bytes, power: int, who: Member | Candidate | Jailing
    ) -> None:
        self.changes.insert(number, Change(public_key=public_key, power=power, operator=who.operator, name=who.name))
        ctx.emit(ChangeDecided(public_key=public_key, power=power))

    def _fits(self, members: dict[bytes, Member], change: Change) -> bool:
        """Whether the set is neither empty nor too large after *change*, and whether it changes anything."""
        if change.power:
            return change.public_key in members or len(members) < MEMBERS_MAX
        return change.public_key in members and len(members) > 1

    def _carry_out(self, ctx: Context, members: dict[bytes, Member], change: Change) -> None:
        key = change.public_key
        after = _member_after(change)
        if after is None:
            del members[key]
            self.members.remove(key)
        else:
            members[key] = after if key not in members else replace(members[key], power=after.power)
            self.members[key] = members[key]
        ctx.update_validator(key, change.power)
        ctx.emit(PowerChanged(public_key=key, power=change.power, operator=change.operator))


def _member_after(change: Change) -> Member | None:
    if change.power == 0:
        return None
    return Member(power=change.power, operator=change.operator, name=change.name)
