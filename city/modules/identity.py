"""Who acts, with which keys, in which role; and that one account is one person."""

from __future__ import annotations

from typing import Annotated

from city.register import KEYS_MAX, KeyRecord, Register
from city.sdk import (
    U63,
    Address,
    Cell,
    Context,
    Count,
    Hash,
    Length,
    Limit,
    Millis,
    Module,
    Page,
    PublicKey,
    Range,
    Record,
    Refusal,
    Table,
    Uses,
    event,
    genesis,
    invariant,
    message,
    query,
    sha256,
    shared,
)

REGISTRAR = "registrar"
"""The role that attests persons."""
RoleName = Annotated[str, Length(32)]
Keys = Annotated[tuple[PublicKey, ...], Count(KEYS_MAX, 1)]
Threshold = Annotated[int, Range(1, KEYS_MAX)]


class Person(Record):
    """An attestation that an account is one person's only one."""

    nullifier: Hash
    """A secret function of who the person is: the same person gives the same value, and nobody can turn it back."""
    number: U63
    """Attestations are numbered, so that a ballot knows who was a person when it opened."""
    registrar: Address | None
    """Who attested; None: the genesis."""


class Grant(Record):
    """A role that an account has."""

    until: Millis | None
    """Block time; None: until it is revoked."""
    granted_by: Address


class Census(Record):
    """Who counts as a person at one moment."""

    persons: U63
    next_number: U63
    """A person whose number is lower was one at that moment."""


class GenesisPerson(Record):
    """A person of the first hour."""

    address: Address
    roles: tuple[RoleName, ...] = ()


@event
class KeysSet:
    """An account obeys new keys; its address stays."""

    account: Address
    threshold: U63
    keys: Keys


@event
class Attested:
    """An account is a person's."""

    account: Address
    registrar: Address


@event
class Withdrawn:
    """An account is no person's any more."""

    account: Address


@event
class RoleGranted:
    """An account has a role."""

    account: Address
    role: RoleName
    until: Millis | None


@event
class RoleRevoked:
    """An account has lost a role."""

    account: Address
    role: RoleName


class Identity(Module):
    """Keys that can change while the address stays, roles that can expire, and one account for one person."""

    name, version = "identity", 1

    register = Uses(Register)

    persons = Table(Address, Person)
    nullifiers = Table(Hash, Address)
    census_size = Cell(U63, 0)
    next_number = Cell(U63, 0)
    roles = Table(tuple[Address, RoleName], Grant)
    holders = Table(tuple[RoleName, Address], bool)
    granters = Table(tuple[RoleName, RoleName], bool)

    has_keys = Refusal("the account has a key record already; rotate its keys instead")
    bad_keys = Refusal("keys must be different, and no more signatures asked for than there are keys")
    no_keys_for_the_town = Refusal("the town's own account obeys ballots; no key can stand for it")
    not_registrar = Refusal("only a registrar may attest that an account is a person's")
    already_person = Refusal("the account is a person's already")
    nullifier_used = Refusal("this person has an account already")
    not_a_person = Refusal("the account is no person's")
    may_not_grant = Refusal("the role may not be granted or revoked by this account: {role}")
    no_such_grant = Refusal("the account does not have the role: {role}")

    @message
    def create(self, ctx: Context, *, keys: Keys, threshold: Threshold = 1) -> None:
        """Give your account its first key record: from now on it obeys *threshold* of *keys*, and nothing else."""
        if self.register.keys_of(ctx.sender) is not None:
            raise self.has_keys()
        self._set_keys(ctx, keys, threshold)

    @message
    def rotate_keys(self, ctx: Context, *, keys: Keys, threshold: Threshold = 1) -> None:
        """Replace the keys that your account obeys. The address stays."""
        self._set_keys(ctx, keys, threshold)

    @message
    def attest(self, ctx: Context, *, account: Address, nullifier: Hash) -> None:
        """Attest, as a registrar, that *account* is the only account of one person."""
        if not self.has_role(ctx, ctx.sender, REGISTRAR):
            raise self.not_registrar()
        self._attest(account, nullifier, ctx.sender)
        ctx.emit(Attested(account=account, registrar=ctx.sender))

    @message
    def withdraw(self, ctx: Context, *, account: Address) -> None:
        """Withdraw an attestation: as a registrar, by a passed proposal, or for your own account."""
        if ctx.authority is None and ctx.sender != account and not self.has_role(ctx, ctx.sender, REGISTRAR):
            raise self.not_registrar()
        person = self.persons.get(account)
        if person is None:
            raise self.not_a_person()
        self.persons.remove(account)
        self.nullifiers.remove(person.nullifier)
        self.census_size.value -= 1
        ctx.emit(Withdrawn(account=account))

    @message
    def grant(
        self,
        ctx: Context,
        *,
        account: Address,
        role: RoleName,
        until: Millis | None = None,
        using: RoleName | None = None,
    ) -> None:
        """Give *account* a role, for good or until a block time: by a passed proposal, or *using* a role that may."""
        self._check_granter(ctx, role, using)
        self._grant(account, role, Grant(until=until, granted_by=ctx.sender))
        ctx.emit(RoleGranted(account=account, role=role, until=until))

    @message
    def revoke(self, ctx: Context, *, account: Address, role: RoleName, using: RoleName | None = None) -> None:
        """Take a role from *account*: by a passed proposal, *using* a role of yours that may, or your own role."""
        if ctx.sender != account:
            self._check_granter(ctx, role, using)
        if (account, role) not in self.roles:
            raise self.no_such_grant(role=role)
        self.roles.remove((account, role))
        self.holders.remove((role, account))
        ctx.emit(RoleRevoked(account=account, role=role))

    @message(authority="governance")
    def let_grant(self, ctx: Context, *, using: RoleName, role: RoleName, allowed: bool) -> None:
        """Whether those who have the role *using* may grant and revoke *role*."""
        if allowed:
            self.granters[using, role] = True
        elif (using, role) in self.granters:
            self.granters.remove((using, role))

    @query
    def person(self, *, account: Address) -> Person | None:
        """The attestation of an account, if it is a person's."""
        return self.persons.get(account)

    @query
    def census(self) -> Census:
        """How many persons the town has."""
        return Census(persons=self.census_size.value, next_number=self.next_number.value)

    @query
    def people(self, *, after: Address | None = None, limit: Limit = 50) -> Page[Address, Person]:
        """Accounts that are persons'."""
        return self.persons.page(after, limit)

    @query
    def roles_of(self, *, account: Address, limit: Limit = 50) -> Page[tuple[Address, RoleName], Grant]:
        """The roles of an account; those past their time are void."""
        return self.roles.page(limit=limit, under=account)

    @query
    def role_holders(
        self, *, role: RoleName, after: Address | None = None, limit: Limit = 50
    ) -> Page[tuple[RoleName, Address], bool]:
        """Who has a role."""
        return self.holders.page(None if after is None else (role, after), limit, under=role)

    @shared
    def is_person(self, account: bytes) -> bool:
        """Whether *account* is a person's."""
        return account in self.persons

    @shared
    def person_of(self, account: bytes) -> Person | None:
        """The attestation of *account*."""
        return self.persons.get(account)

    @shared
    def present_census(self) -> Census:
        """Who counts as a person now."""
        return self.census()

    @shared
    def has_role(self, ctx: Context, account: bytes, role: str) -> bool:
        """Whether *account* has *role* at this block's time."""
        grant = self.roles.get((account, role))
        return grant is not None and (grant.until is None or ctx.time <= grant.until)

    @genesis
    def begin(self, ctx: Context, *, persons: tuple[GenesisPerson, ...] = ()) -> None:
        """The persons of the first hour, and their roles."""
        for person in persons:
            self._attest(person.address, sha256(b"allting/genesis/person" + person.address), None)
            for role in person.roles:
                self._grant(person.address, role, Grant(until=None, granted_by=ctx.sender))

    @invariant
    def one_account_for_one_person(self) -> bool:
        """Each person's nullifier leads back to the one account, and the census counts them."""
        persons = list(self.persons.all())
        return (
            len(persons) == self.census_size.value
            and len(persons) == len(list(self.nullifiers.all()))
            and all(self.nullifiers.get(person.nullifier) == account for account, person in persons)
        )

    def _set_keys(self, ctx: Context, keys: tuple[bytes, ...], threshold: int) -> None:
        if ctx.authority is not None:
            raise self.no_keys_for_the_town()
        ordered = tuple(sorted(keys))
        if threshold > len(keys) or len(dict.fromkeys(keys)) < len(keys):
            raise self.bad_keys()
        self.register.set_keys(ctx, ctx.sender, KeyRecord(keys=ordered, threshold=threshold))
        ctx.emit(KeysSet(account=ctx.sender, threshold=threshold, keys=ordered))

    def _attest(self, account: bytes, nullifier: bytes, registrar: bytes | None) -> None:
        if account in self.persons:
            raise self.already_person()
        if nullifier in self.nullifiers:
            raise self.nullifier_used()
        number = self.next_number.value
        self.persons.insert(account, Person(nullifier=nullifier, number=number, registrar=registrar))
        self.nullifiers.insert(nullifier, account)
        self.next_number.value = number + 1
        self.census_size.value += 1

    def _grant(self, account: bytes, role: str, grant: Grant) -> None:
        self.roles[account, role] = grant
        self.holders[role, account] = True

    def _check_granter(self, ctx: Context, role: str, using: str | None) -> None:
        if ctx.authority is not None:
            return
        if using is None or not self.has_role(ctx, ctx.sender, using) or (using, role) not in self.granters:
            raise self.may_not_grant(role=role)
