"""Queries answer from the state, and from proved entries alone."""

from __future__ import annotations

from typing import Any

import pytest

from city.sdk import DAY_MS
from city.testing import Town
from consensus.application import QueryRefused
from tests.city.trouble import Deep, Trouble


def proved(town: Town, path: str, **args: Any) -> Any:
    """The answer from the entries that the town names, taken from its state."""
    targets = town.app.proof_targets(path, args)
    values = [town.state.get(target.module, target.key) for target in targets]
    return town.app.answer_from_proof(path, args, values)


def test_a_balance_rests_on_one_entry(town: Town) -> None:
    anna, bella = town.stranger(coins=10), town.stranger()
    (target,) = town.app.proof_targets("coin/balance", {"address": anna.text})
    assert (target.module, target.key) == ("coin", b"balances\x00\x00\x14" + anna.address)
    assert proved(town, "coin/balance", address=anna.text) == 10
    assert proved(town, "coin/balance", address=bella.text) == 0


def test_answers_that_rest_on_several_entries_are_proved_too(town: Town) -> None:
    anna = town.person()
    for path, args in (
        ("town/account", {"address": anna.text}),
        ("identity/census", {}),
        ("identity/person", {"account": anna.text}),
        ("coin/treasury", {}),
    ):
        assert proved(town, path, **args) == town.query(path, **args)


def test_any_entry_of_any_table_can_be_asked_for_and_proved(town: Town) -> None:
    anna = town.person(coins=10)
    assert proved(town, "coin/table/balances", key=anna.text) == 10
    assert proved(town, "coin/table/balances", key=town.stranger().text) is None
    town.govern("identity.grant", account=anna, role="guide")
    key = [anna.text, "guide"]
    assert proved(town, "identity/table/roles", key=key) == town.query("identity/table/roles", key=key)


def test_parameters_can_be_asked_for_and_proved(town: Town) -> None:
    assert town.query("tools/params") == {"loan_ms": 14 * DAY_MS, "late_fee": 5}
    town.govern("governance.set_param", module="tools", name="late_fee", value=7)
    assert proved(town, "tools/params") == {"loan_ms": 14 * DAY_MS, "late_fee": 7}
    assert town.query_refused("tools/params", name="late_fee") == "query.bad_arguments"
    assert town.query_refused("identity/params") == "query.unknown"
    described = town.app.describe()["modules"]
    assert described["tools"]["queries"]["params"]["result"]["properties"]["late_fee"]["maximum"] == 1_000
    assert "params" not in described["identity"]["queries"]


@pytest.mark.parametrize("path", ["coin/accounts", "validators/validator_set", "tools/shelf"])
def test_a_list_says_that_it_cannot_be_proved(town: Town, path: str) -> None:
    with pytest.raises(QueryRefused) as refused:
        town.app.proof_targets(path, {})
    assert refused.value.code == "query.not_provable"


def test_proofs_need_exactly_the_entries_that_were_named(town: Town) -> None:
    args = {"address": town.stranger().text}
    with pytest.raises(QueryRefused, match="2 values for 1 entries"):
        town.app.answer_from_proof("coin/balance", args, [None, None])


@pytest.mark.parametrize(
    ("path", "args", "code"),
    [
        ("bank/balance", {}, "query.unknown"),
        ("coin/wealth", {}, "query.unknown"),
        ("coin/table/wealth", {"key": 1}, "query.unknown"),
        ("coin/balance", {}, "query.bad_arguments"),
        ("coin/balance", {"address": "me"}, "query.bad_arguments"),
        ("coin/table/balances", {}, "query.bad_arguments"),
        ("coin/table/balances", {"key": 5}, "query.bad_arguments"),
    ],
)
def test_a_wrong_question_is_refused_with_a_code(town: Town, path: str, args: dict[str, Any], code: str) -> None:
    assert town.query_refused(path, **args) == code


def test_the_sentence_says_what_there_is(town: Town) -> None:
    with pytest.raises(QueryRefused, match="there are coin, governance, identity, tools, town, validators"):
        town.query("bank/balance")
    with pytest.raises(QueryRefused, match="coin has no query wealth; there are balance, treasury"):
        town.query("coin/wealth")


@pytest.fixture
def noted() -> Town:
    """A town with two notes."""
    town = Town(Trouble, Deep)
    anna = town.stranger()
    for number in (5, 6):
        anna.sends("trouble.plan", at=town.time_ms, number=number)
    town.passes(hours=1)
    return town


def test_an_answer_whose_entries_depend_on_others_cannot_be_proved(noted: Town) -> None:
    assert noted.query("trouble/chained", number=0) == 0
    with pytest.raises(QueryRefused, match="depends on what they hold") as refused:
        proved(noted, "trouble/chained", number=0)
    assert refused.value.code == "query.not_provable"


def test_an_answer_that_rests_on_nothing_cannot_be_proved(noted: Town) -> None:
    assert noted.query("trouble/constant") == 5
    with pytest.raises(QueryRefused, match="rests on no entry"):
        noted.app.proof_targets("trouble/constant", {})


def test_a_query_that_refuses_has_the_modules_code_proved_or_not(noted: Town) -> None:
    assert noted.query("trouble/strict", number=1) == proved(noted, "trouble/strict", number=1) == 6
    assert noted.query_refused("trouble/strict", number=7) == "trouble.notes_absent"
    with pytest.raises(QueryRefused) as refused:
        proved(noted, "trouble/strict", number=7)
    assert refused.value.code == "trouble.notes_absent"


def test_an_answer_that_turns_out_to_be_a_list_cannot_be_proved(noted: Town) -> None:
    assert proved(noted, "trouble/listed", number=7) == []
    with pytest.raises(QueryRefused, match="a list can't be proved"):
        proved(noted, "trouble/listed", number=1)
