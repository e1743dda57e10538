"""A block's execution: no defect of a module stops the town, and later work is done in its order."""

from __future__ import annotations

import dataclasses

import pytest

from city.modules.coin import Coin
from city.sdk import module_address
from city.sdk.refusal import FAULT
from city.testing import Town
from consensus.application import EngineFault, Inadmissible
from consensus.params import TINY
from tests.city.trouble import Deep, Trouble


@pytest.fixture
def town() -> Town:
    """A town with modules that misbehave."""
    return Town(Trouble, Deep)


@pytest.mark.parametrize("how", [0, 4, 5, 9, 11, 12, 13])
def test_a_defect_is_a_result_with_nothing_changed_and_the_traceback_reported(town: Town, how: int) -> None:
    anna = town.stranger()
    result = anna.is_refused(FAULT, "trouble.crash", how=how)
    assert result.events == ()
    assert town.state.module("trouble") == {}
    assert anna.nonce == 1
    (fault,) = town.faults
    assert fault.__traceback__ is not None


@pytest.mark.parametrize(("how", "error"), [(1, RecursionError), (2, MemoryError), (3, EngineFault)])
def test_what_is_no_verdict_leaves_the_execution(town: Town, how: int, error: type[BaseException]) -> None:
    anna = town.stranger()
    with pytest.raises(error):
        anna.tries("trouble.crash", how=how)


@pytest.mark.parametrize(
    ("how", "code"),
    [(6, "town.overflow"), (7, "town.not_authorised"), (8, "town.not_authorised"), (10, "town.not_authorised")],
)
def test_what_only_the_town_may_is_refused(town: Town, how: int, code: str) -> None:
    town.stranger().is_refused(code, "trouble.crash", how=how)


def test_modules_call_each_other_up_to_sixteen_deep(town: Town) -> None:
    anna = town.stranger()
    anna.sends("trouble.sink_to", depth=15)
    anna.is_refused("town.too_deep", "trouble.sink_to", depth=16)
    anna.sends("trouble.sink_to", depth=15)


def test_a_handler_knows_who_calls_and_who_signed(town: Town) -> None:
    town.stranger().sends("trouble.look_around", other=town.stranger())


def test_a_module_pays_from_its_own_account(town: Town) -> None:
    anna = town.stranger()
    town.govern("coin.mint", to=module_address("trouble"), amount=10)
    anna.sends("trouble.pay_out", to=anna, amount=5)
    assert (anna.balance, town.query("coin/total")) == (5, 5)
    anna.sends("trouble.pay_out", to=anna, amount=0)
    anna.is_refused("coin.short", "trouble.pay_out", to=anna, amount=1)


def test_work_is_done_in_the_order_of_its_time_then_of_its_planning(town: Town) -> None:
    anna = town.stranger()
    now = town.time_ms
    for number, minutes in ((10, 20), (11, 10), (12, 10), (13, 0)):
        anna.sends("trouble.plan", at=now + minutes * 60_000, number=number)
    assert len(town.query("town/due")["rows"]) == 4
    town.passes(hours=1)
    assert town.query("trouble/noted") == [13, 11, 12, 10]
    assert town.query("town/due")["rows"] == []


def test_due_times_are_rounded_up_to_the_grain(town: Town) -> None:
    anna = town.stranger()
    town.passes(ms=60_000 - town.time_ms % 60_000)
    at = town.time_ms + 60_000
    for offset in (0, 1, 60_000, -1):
        anna.sends("trouble.plan", at=at + offset, number=5)
    assert [row["key"][0] for row in town.query("town/due")["rows"]] == [at, at, at + 60_000, at + 60_000]


def test_work_that_fails_goes_to_the_list_of_failures_and_is_not_tried_again(town: Town) -> None:
    anna = town.stranger()
    for number in (0, 1, 7):
        anna.sends("trouble.plan", at=town.time_ms, number=number)
    town.passes(hours=1)
    failures = town.query("town/failed_work")["rows"]
    assert [row["value"]["code"] for row in failures] == ["trouble.no", FAULT]
    assert list(town.query("trouble/noted")) == [7]
    assert town.app.next_due_ms(town.state) is None


def test_only_so_many_failures_are_kept(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("city.register.FAILURES_MAX", 2)
    anna = town.stranger()
    for _ in range(4):
        anna.sends("trouble.plan", at=town.time_ms, number=0)
    town.passes(hours=1)
    assert [row["key"] for row in town.query("town/failed_work")["rows"]] == [2, 3]


def test_work_takes_at_most_half_of_a_blocks_weight_and_the_rest_stays_due() -> None:
    params = dataclasses.replace(TINY, block_weight_max=1_000_000, transaction_weight_max=200_000)
    town = Town(Trouble, Deep, params=params)
    anna = town.stranger()
    at = town.time_ms + 3_600_000
    for number in range(100, 106):
        anna.sends("trouble.plan", at=at, number=number)
    execution = town.app.execute(town.state, town._next_block(at + 60_000))
    result = execution.begin()
    assert 0 < execution.weight == result.weight <= 500_000
    assert 0 < len(result.events) < 6
    town._commit(execution, [result])
    assert town.app.next_due_ms(town.state) is not None
    town.passes(hours=1)
    assert list(town.query("trouble/noted")) == list(range(100, 106))


def test_a_full_block_takes_no_more_transactions() -> None:
    params = dataclasses.replace(TINY, block_weight_max=8_001, transaction_weight_max=4_000_000)
    town = Town(params=params)
    anna = town.stranger(coins=5)
    send = town.message("coin.send", to=anna, amount=1)
    town.block(anna.transaction(send))
    with pytest.raises(Inadmissible) as error:
        town.block(*[anna.transaction(send, nonce=nonce) for nonce in (1, 2, 3)])
    assert error.value.code == "tx.block_full"


def test_what_is_pending_is_done_at_the_end_of_the_block(town: Town) -> None:
    anna = town.stranger()
    anna.sends("trouble.wait", number=5)
    assert town.last is not None
    assert [event.name for event in town.last.result.events] == ["noted"]
    assert town.last.result.weight > 0
    town.block()
    assert town.last.result.weight == 0


def test_an_end_of_block_that_refuses_is_noted_and_changes_nothing_else(town: Town) -> None:
    anna = town.stranger()
    anna.sends("trouble.wait", number=0)
    (row,) = town.query("town/failed_work")["rows"]
    assert (row["value"]["name"], row["value"]["code"]) == ("finish", "trouble.no")


def test_the_town_upgrades_a_module_with_its_migration(town: Town) -> None:
    """The genesis notes the version of the code; an older state is made by hand."""
    assert town.tries_to_govern("town.upgrade", module="trouble", to=2) == "town.no_such_version"
    assert town.tries_to_govern("town.upgrade", module="nothing", to=2) == "town.versions_absent"
    older(town, "trouble")
    assert town.tries_to_govern("town.upgrade", module="trouble", to=3) == "town.no_such_version"
    town.govern("town.upgrade", module="trouble", to=2)
    assert town.state.module("trouble") != {}
    rows = {row["key"]: row["value"] for row in town.query("town/module_versions")["rows"]}
    assert rows["trouble"]["version"] == 2


def test_versions_without_a_migration_only_change_the_number(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trouble, "version", 3)
    town.govern("town.upgrade", module="trouble", to=3)
    assert town.state.module("trouble") == {}


def test_a_node_with_older_code_than_the_towns_state_stops(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trouble, "version", 1)
    with pytest.raises(EngineFault, match="version 2 of the module trouble, installed is 1"):
        town.block()
    without = Town()
    without.state = town.state
    with pytest.raises(EngineFault, match="installed is 0"):
        without.block()


def test_a_devnet_can_stop_at_the_first_block_that_breaks_an_invariant(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.app.check_invariants = True
    town.block()
    monkeypatch.setattr(Coin, "no_coin_is_lost_or_made", lambda self: False)
    with pytest.raises(AssertionError, match=r"broken: coin\.no_coin_is_lost_or_made"):
        town.app.execute(town.state, town._next_block(None)).end()


def older(town: Town, module: str) -> None:
    """The state says that version 1 of *module* wrote it."""
    execution = town.app.execute(town.state, town._next_block(None))
    execution.begin()
    versions = execution._register.versions
    versions[module] = dataclasses.replace(versions[module], version=1)
    town._commit(execution, [])
