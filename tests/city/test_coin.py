"""Money is neither made nor lost; fees and gifts are spent as they should be."""

from __future__ import annotations

import pytest

from city.admission import intrinsic_weight
from city.modules.coin import Output
from city.sdk import AMOUNT_MAX, DAY_MS, TREASURY
from city.testing import START_MS, Account, Town
from consensus.address import to_text
from consensus.application import Inadmissible


@pytest.fixture
def paid() -> Town:
    """A town where transactions cost."""
    return Town(fees=True)


def treasury(town: Town) -> int:
    amount: int = town.query("coin/treasury")
    return amount


def test_coins_go_from_one_to_the_other(town: Town) -> None:
    anna, bella = town.stranger(coins=10), town.stranger()
    result = anna.sends("coin.send", to=bella, amount=4, memo_hash=b"m" * 32)
    assert (anna.balance, bella.balance) == (6, 4)
    assert town.app.event_to_json(result.events[0]) == {
        "module": "coin",
        "name": "sent",
        "payer": anna.text,
        "to": bella.text,
        "amount": 4,
        "memo_hash": "6d" * 32,
    }


def test_more_than_one_has_is_refused(town: Town) -> None:
    anna, bella = town.stranger(coins=10), town.stranger()
    anna.is_refused("coin.short", "coin.send", to=bella, amount=11)
    assert (anna.balance, bella.balance) == (10, 0)


def test_an_account_without_coins_has_no_row(town: Town) -> None:
    anna, bella = town.stranger(coins=10), town.stranger()
    anna.sends("coin.send", to=bella, amount=10)
    assert town.query("coin/table/balances", key=anna.text) is None
    assert town.query("coin/table/balances", key=bella.text) == 10


def test_coins_sent_to_oneself_stay(town: Town) -> None:
    anna = town.stranger(coins=10)
    anna.sends("coin.send", to=anna, amount=10)
    assert anna.balance == 10


def test_several_outputs_are_paid_all_or_none(town: Town) -> None:
    anna, bella, carl = town.stranger(coins=10), town.stranger(), town.stranger()
    outputs = (Output(to=bella.address, amount=6), Output(to=carl.address, amount=5))
    anna.is_refused("coin.short", "coin.multi_send", outputs=outputs)
    assert (anna.balance, bella.balance, carl.balance) == (10, 0, 0)
    anna.sends("coin.multi_send", outputs=(Output(to=bella.address, amount=6), Output(to=carl.address, amount=4)))
    assert (anna.balance, bella.balance, carl.balance) == (0, 6, 4)


def test_the_town_mints_burns_and_pays_and_nobody_else_does(town: Town) -> None:
    anna = town.stranger()
    for message, arguments in (
        ("coin.mint", {"to": anna, "amount": 5}),
        ("coin.burn", {"amount": 5}),
        ("coin.pay_from_treasury", {"to": anna, "amount": 5}),
    ):
        anna.is_refused("town.not_authorised", message, **arguments)
    town.govern("coin.mint", to=TREASURY, amount=100)
    town.govern("coin.pay_from_treasury", to=anna, amount=30)
    town.govern("coin.burn", amount=20)
    assert (anna.balance, treasury(town), town.query("coin/total")) == (30, 50, 80)
    assert town.tries_to_govern("coin.burn", amount=51) == "coin.short"


def test_no_more_coins_can_exist_than_a_number_can_say(town: Town) -> None:
    town.govern("coin.mint", to=TREASURY, amount=AMOUNT_MAX)
    assert town.tries_to_govern("coin.mint", to=TREASURY, amount=1) == "coin.too_much"


def test_a_fee_goes_to_the_treasury_whatever_comes_of_the_message(paid: Town) -> None:
    anna = paid.stranger(coins=100)
    result = anna.is_refused("coin.short", "coin.send", fee=2, to=anna, amount=1_000)
    assert (result.fee, anna.balance, treasury(paid), anna.nonce) == (2, 98, 2, 1)
    assert result.events == ()


def test_a_fee_buys_weight_and_no_more(paid: Town) -> None:
    anna = paid.stranger(coins=100)
    outputs = tuple(Output(to=bytes([i]) * 20, amount=1) for i in range(20))
    result = anna.is_refused("town.out_of_weight", "coin.multi_send", fee=1, outputs=outputs)
    assert result.weight == 10_000
    anna.sends("coin.multi_send", fee=10, outputs=outputs)


def test_a_fee_that_cannot_be_paid_or_is_too_low_keeps_a_transaction_out(paid: Town) -> None:
    anna = paid.stranger(coins=1)
    send = paid.message("coin.send", to=anna, amount=1)
    assert paid.inadmissible(anna.transaction(send, fee=2)) == "tx.unpayable_fee"
    assert paid.inadmissible(anna.transaction(send, fee=0)) == "tx.fee_too_low"
    paid.govern("governance.set_param", module="coin", name="weight_price", value=10_000)
    assert paid.inadmissible(anna.transaction(send, fee=1)) == "tx.fee_too_low"


def test_the_town_pays_for_a_person_within_the_quota_of_a_period(paid: Town) -> None:
    anna = paid.person()
    first = anna.is_refused("coin.short", "coin.send", to=anna, amount=1)
    assert paid.query("coin/quota", address=anna.text)["used"] == first.weight > 0
    paid.govern("governance.set_param", module="coin", name="quota_weight", value=200_000)
    send = paid.message("coin.send", to=anna, amount=1)
    least = intrinsic_weight(anna.transaction(send))
    while paid.query("coin/quota", address=anna.text)["used"] + least <= 200_000:
        anna.tries("coin.send", to=anna, amount=1)
    assert paid.inadmissible(anna.transaction(send)) == "tx.fee_too_low"
    paid.passes(days=1)
    assert anna.tries("coin.send", to=anna, amount=1).code == "coin.short"


def test_the_town_pays_for_nobody_else_with_a_persons_quota(paid: Town) -> None:
    anna, bella = paid.person(), paid.person()
    send = paid.message("coin.send", to=anna, amount=1)
    assert paid.inadmissible(anna.transaction(send, fee_payer=bella)) == "tx.fee_too_low"


def test_where_weight_has_no_price_a_fee_buys_all_there_is(town: Town) -> None:
    anna = town.stranger(coins=10)
    anna.sends("coin.send", fee=1, to=anna, amount=1)
    assert (anna.balance, treasury(town)) == (9, 1)
    assert town.query("coin/quota", address=anna.text) is None


def open_voucher(town: Town, anna: Account, guest: Account, *, amount: int = 20) -> None:
    anna.sends("coin.open_voucher", fee=2, key_address=guest, amount=amount, expires_ms=town.time_ms + DAY_MS)


def test_a_voucher_pays_fees_for_somebody_without_coins_and_nothing_else(paid: Town) -> None:
    anna, guest, newcomer = paid.stranger(coins=100), paid.stranger(), paid.stranger()
    open_voucher(paid, anna, guest)
    assert anna.balance == 100 - 2 - 20
    newcomer.sends("validators.apply", fee=3, fee_payer=guest, public_key=b"k" * 32, name="five")
    assert paid.query("coin/voucher", key_address=guest.text)["amount"] == 17
    guest.is_refused("coin.short", "coin.send", fee=2, to=newcomer, amount=1)
    assert paid.inadmissible(guest.transaction(paid.message("coin.send", to=guest, amount=1), fee=16)) == (
        "tx.unpayable_fee"
    )


def test_what_is_left_of_a_voucher_comes_back_when_it_expires(paid: Town) -> None:
    anna, guest = paid.stranger(coins=100), paid.stranger()
    open_voucher(paid, anna, guest)
    guest.is_refused("coin.short", "coin.send", fee=3, to=anna, amount=1)
    paid.passes(days=2)
    assert anna.balance == 100 - 2 - 3
    assert paid.query("coin/voucher", key_address=guest.text) is None
    assert paid.events[-1].name == "voucher_closed"


def test_a_used_up_voucher_closes_without_coins(paid: Town) -> None:
    anna, guest = paid.stranger(coins=100), paid.stranger()
    open_voucher(paid, anna, guest, amount=3)
    guest.is_refused("coin.short", "coin.send", fee=3, to=anna, amount=1)
    paid.passes(days=2)
    assert anna.balance == 95


def test_an_expired_voucher_pays_nothing_though_its_rest_is_not_back_yet(paid: Town) -> None:
    anna, guest = paid.stranger(coins=100), paid.stranger()
    open_voucher(paid, anna, guest)
    transaction = guest.transaction(paid.message("coin.send", to=anna, amount=1), fee=3)
    with pytest.raises(Inadmissible) as error:
        paid.app.admit(transaction, paid.state, time_ms=paid.time_ms + DAY_MS + 1, params=paid.params)
    assert error.value.code == "tx.unpayable_fee"


def test_a_voucher_has_a_time_and_a_key_has_one_voucher(town: Town) -> None:
    anna, guest = town.stranger(coins=100), town.stranger()
    for expires_ms in (town.time_ms, town.time_ms + 40 * DAY_MS):
        anna.is_refused("coin.voucher_time", "coin.open_voucher", key_address=guest, amount=5, expires_ms=expires_ms)
    open_voucher(town, anna, guest)
    anna.is_refused(
        "coin.voucher_open", "coin.open_voucher", key_address=guest, amount=5, expires_ms=town.time_ms + DAY_MS
    )


def test_the_genesis_funds_accounts_and_the_treasury() -> None:
    address = to_text(b"a" * 20)
    town = Town(genesis={"coin": {"treasury": 7, "accounts": [{"address": address, "amount": 5}]}})
    assert town.query("coin/balance", address=address) == 5
    assert town.query("coin/balance", address=to_text(TREASURY)) == 7
    assert town.query("coin/total") == 12
    assert town.time_ms == START_MS


def test_a_genesis_with_more_coins_than_can_exist_names_its_table() -> None:
    accounts = [{"address": to_text(b"a" * 20), "amount": AMOUNT_MAX}]
    with pytest.raises(ValueError, match=r"town\.coin: coin\.too_much"):
        Town(genesis={"coin": {"treasury": 1, "accounts": accounts}})
