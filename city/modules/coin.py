"""Money: hold it, send it, pay fees with it; and the town pays for its newcomers."""

from __future__ import annotations

from typing import Annotated

from city.modules.identity import Identity
from city.sdk import (
    AMOUNT_MAX,
    DAY_MS,
    HOUR_MS,
    TREASURY,
    U63,
    Address,
    Amount,
    Cell,
    Context,
    Count,
    FeePolicy,
    Hash,
    Inadmissible,
    Limit,
    Millis,
    Module,
    Page,
    Param,
    Range,
    Record,
    Refusal,
    Table,
    Uses,
    Weight,
    event,
    genesis,
    invariant,
    message,
    query,
    replace,
    scheduled,
    shared,
)

Positive = Annotated[int, Range(1, AMOUNT_MAX)]
PRICED_WEIGHT = 1_000_000
"""What `weight_price` is the price of."""
OUTPUTS_MAX = 100


class Output(Record):
    """One receiver of a `multi_send`."""

    to: Address
    amount: Positive


class Voucher(Record):
    """Coins that can pay fees and nothing else."""

    issuer: Address
    amount: Amount
    """What is left."""
    expires: Millis


class Quota(Record):
    """What a person has used of the town's gift."""

    period: U63
    """Block time ÷ the length of a period."""
    used: Weight


class GenesisAccount(Record):
    """An account with coins from the first hour on."""

    address: Address
    amount: Amount


@event
class Sent:
    """Coins went from one account to another."""

    payer: Address
    to: Address
    amount: Amount
    memo_hash: Hash | None = None


@event
class Minted:
    """Coins came into being."""

    to: Address
    amount: Amount


@event
class Burned:
    """Coins of the treasury ceased to be."""

    amount: Amount


@event
class VoucherOpened:
    """A key can pay fees from coins that were set aside."""

    key_address: Address
    issuer: Address
    amount: Amount
    expires: Millis


@event
class VoucherClosed:
    """What was left of a voucher went back to its issuer."""

    key_address: Address
    issuer: Address
    returned: Amount


class Coin(Module, FeePolicy):
    """The town's money."""

    name, version = "coin", 1

    people = Uses(Identity)

    weight_price = Param(
        Amount, 100, low=0, high=10**9, text="base units for a million of weight; 0: transactions are free"
    )
    quota_weight = Param(
        Weight, 2_000_000, low=200_000, high=10**12, text="weight that the town gives each person in a period"
    )
    quota_period_ms = Param(Millis, DAY_MS, low=HOUR_MS, high=90 * DAY_MS, text="length of a period of the quota")
    voucher_ms_max = Param(Millis, 31 * DAY_MS, low=HOUR_MS, high=366 * DAY_MS, text="how long a voucher may last")

    balances = Table(Address, Amount)
    supply = Cell(Amount, 0)
    vouchers = Table(Address, Voucher)
    quotas = Table(Address, Quota)

    short = Refusal("the account has too few coins: {has}, and {amount} are needed")
    too_much = Refusal("no more than 2^53-1 base units can exist")
    voucher_open = Refusal("this key has a voucher already")
    voucher_time = Refusal("a voucher expires later than now, and not too late: at most {days} days later")

    @message
    def send(self, ctx: Context, *, to: Address, amount: Positive, memo_hash: Hash | None = None) -> None:
        """Send coins to an account."""
        self._move(ctx, ctx.sender, to, amount, memo_hash)

    @message
    def multi_send(self, ctx: Context, *, outputs: Annotated[tuple[Output, ...], Count(OUTPUTS_MAX, 1)]) -> None:
        """Send coins to several accounts, to all or to none."""
        for output in outputs:
            self._move(ctx, ctx.sender, output.to, output.amount)

    @message
    def open_voucher(self, ctx: Context, *, key_address: Address, amount: Positive, expires_ms: Millis) -> None:
        """Set coins aside with which a key can pay fees, and nothing else; the rest comes back when it expires."""
        if not ctx.time < expires_ms <= ctx.time + self.voucher_ms_max:
            raise self.voucher_time(days=self.voucher_ms_max // DAY_MS)
        if key_address in self.vouchers:
            raise self.voucher_open()
        self._take(ctx.sender, amount)
        self.vouchers.insert(key_address, Voucher(issuer=ctx.sender, amount=amount, expires=expires_ms))
        ctx.schedule(expires_ms, self.close_voucher, key_address=key_address)
        ctx.emit(VoucherOpened(key_address=key_address, issuer=ctx.sender, amount=amount, expires=expires_ms))

    @scheduled
    def close_voucher(self, ctx: Context, *, key_address: Address) -> None:
        """What is left of a voucher goes back."""
        voucher = self.vouchers.remove(key_address)
        self._give(voucher.issuer, voucher.amount)
        ctx.emit(VoucherClosed(key_address=key_address, issuer=voucher.issuer, returned=voucher.amount))

    @message(authority="governance")
    def pay_from_treasury(self, ctx: Context, *, to: Address, amount: Positive) -> None:
        """Pay from the treasury."""
        self._move(ctx, TREASURY, to, amount)

    @message(authority="governance")
    def mint(self, ctx: Context, *, to: Address, amount: Positive) -> None:
        """Make new coins."""
        self._mint(to, amount)
        ctx.emit(Minted(to=to, amount=amount))

    @message(authority="governance")
    def burn(self, ctx: Context, *, amount: Positive) -> None:
        """Destroy coins of the treasury."""
        self._take(TREASURY, amount)
        self.supply.value -= amount
        ctx.emit(Burned(amount=amount))

    @query
    def balance(self, *, address: Address) -> Amount:
        """The coins of an account."""
        return self.balances.get(address, 0)

    @query
    def treasury(self) -> Amount:
        """The coins of the treasury."""
        return self.balances.get(TREASURY, 0)

    @query
    def total(self) -> Amount:
        """All coins that exist."""
        return self.supply.value

    @query
    def accounts(self, *, after: Address | None = None, limit: Limit = 50) -> Page[Address, Amount]:
        """Accounts with coins, by address."""
        return self.balances.page(after, limit)

    @query
    def voucher(self, *, key_address: Address) -> Voucher | None:
        """What is left of a voucher, and until when it can pay."""
        return self.vouchers.get(key_address)

    @query
    def quota(self, *, address: Address) -> Quota | None:
        """What a person used of the town's gift in the latest period in which it did."""
        return self.quotas.get(address)

    @shared
    def pay(self, ctx: Context, *, to: bytes, amount: int) -> None:
        """The signer pays *amount* (0: nothing happens)."""
        if amount:
            self._move(ctx, ctx.sender, to, amount)

    @shared
    def pay_own(self, ctx: Context, *, to: bytes, amount: int) -> None:
        """The calling module pays *amount* from its own account (0: nothing happens)."""
        if amount:
            self._move(ctx, ctx.caller_address, to, amount)

    @shared
    def burn_own(self, ctx: Context, *, amount: int) -> None:
        """*amount* of the calling module's own coins cease to be (0: nothing happens)."""
        if amount:
            self._take(ctx.caller_address, amount)
            self.supply.value -= amount
            ctx.emit(Burned(amount=amount))

    @shared
    def balance_of(self, account: bytes) -> int:
        """The coins of *account*."""
        return self.balances.get(account, 0)

    @genesis
    def begin(self, ctx: Context, *, treasury: Amount = 0, accounts: tuple[GenesisAccount, ...] = ()) -> None:
        """The coins of the first hour."""
        for account in accounts:
            self._mint(account.address, account.amount)
        self._mint(TREASURY, treasury)

    @invariant
    def no_coin_is_lost_or_made(self) -> bool:
        """Balances and vouchers together are the supply."""
        held = sum(amount for _, amount in self.balances.all())
        return held + sum(voucher.amount for _, voucher in self.vouchers.all()) == self.supply.value

    def weight_bought(self, *, sender: bytes, payer: bytes, fee: int, weight_max: int, time_ms: int) -> int:
        """See `FeePolicy`."""
        price = self.weight_price
        if fee:
            self._check_payable(payer, fee, time_ms)
            return min(weight_max, fee * PRICED_WEIGHT // price) if price else weight_max
        if price == 0:
            return weight_max
        if payer != sender or not self.people.is_person(sender):
            raise Inadmissible(
                "tx.fee_too_low", "without a fee only a person of the town can act, within the town's quota"
            )
        return min(weight_max, max(0, self.quota_weight - self._used(sender, time_ms).used))

    def charge(self, *, payer: bytes, fee: int) -> None:
        """See `FeePolicy`."""
        if not fee:
            return
        has = self.balances.get(payer, 0)
        if has >= fee:
            self._set(payer, has - fee)
        else:
            voucher = self.vouchers[payer]
            self.vouchers[payer] = replace(voucher, amount=voucher.amount - fee)
        self._give(TREASURY, fee)

    def spend_quota(self, *, sender: bytes, weight: int, time_ms: int) -> None:
        """See `FeePolicy`."""
        if self.weight_price:
            quota = self._used(sender, time_ms)
            self.quotas[sender] = replace(quota, used=quota.used + weight)

    def _check_payable(self, payer: bytes, fee: int, time_ms: int) -> None:
        has = self.balances.get(payer, 0)
        if has >= fee:
            return
        voucher = self.vouchers.get(payer)
        if voucher is None or voucher.amount < fee or time_ms > voucher.expires:
            raise Inadmissible("tx.unpayable_fee", f"the payer has {has}, the fee is {fee}")

    def _used(self, sender: bytes, time_ms: int) -> Quota:
        period = time_ms // self.quota_period_ms
        quota = self.quotas.get(sender)
        return quota if quota is not None and quota.period == period else Quota(period=period, used=0)

    def _move(self, ctx: Context, payer: bytes, to: bytes, amount: int, memo_hash: bytes | None = None) -> None:
        self._take(payer, amount)
        self._give(to, amount)
        ctx.emit(Sent(payer=payer, to=to, amount=amount, memo_hash=memo_hash))

    def _mint(self, to: bytes, amount: int) -> None:
        if self.supply.value + amount > AMOUNT_MAX:
            raise self.too_much()
        self.supply.value += amount
        self._give(to, amount)

    def _take(self, account: bytes, amount: int) -> None:
        has = self.balances.get(account, 0)
        if has < amount:
            raise self.short(has=has, amount=amount)
        self._set(account, has - amount)

    def _give(self, account: bytes, amount: int) -> None:
        if amount:
            self.balances[account] = self.balances.get(account, 0) + amount

    def _set(self, account: bytes, amount: int) -> None:
        """An account without coins has no row."""
        if amount:
            self.balances[account] = amount
        else:
            self.balances.remove(account)
