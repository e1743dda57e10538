"""The town fulfils the engine's interface: the same calls, the same answers, and stable codes."""

from __future__ import annotations

from typing import Any

import pytest

from city import admission, app, questions
from city.app import Nothing
from city.app import Town as Application
from city.modules.coin import Coin
from city.modules.identity import Identity
from city.sdk import Context, Module, Uses, message, runtime
from city.testing import CHAIN_ID, START_MS, MemoryState, Town
from consensus import application
from consensus.address import to_text
from consensus.application import Event, Inadmissible, QueryRefused
from consensus.params import TINY
from consensus.transaction import Body, Message
from tests.city.tools import ToolLibrary


class Left(Module):
    """Uses the other."""

    name, version = "left", 1


class Right(Module):
    """Uses the first."""

    name, version = "right", 1
    left = Uses(Left)


def test_the_installed_modules_make_the_town() -> None:
    town: application.Application = Application()
    assert town.module_names == ("coin", "governance", "identity", "town", "validators")
    assert (town.name, town.version) == ("town", 1)


def test_a_module_whose_uses_are_missing_is_named() -> None:
    with pytest.raises(ValueError, match="not part of the town: identity"):
        Application([Coin])


def test_modules_that_use_each_other_in_a_circle_are_named() -> None:
    Left.declaration.uses["right"] = Right
    try:
        with pytest.raises(ValueError, match="in a circle: left → right → left"):
            Application([Left, Right])
    finally:
        del Left.declaration.uses["right"]


@pytest.mark.parametrize("taken", ["treasury", "engine", "chain", "Upper", "", "has space", "a" * 41])
def test_names_that_would_mean_something_else_are_no_modules(taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Left, "name", taken)
    with pytest.raises(ValueError, match=r"a module's name has|no module can be called"):
        Application([Left])


def test_two_modules_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two modules are called left"):
        Application([Left, Left])


def test_proposals_nested_too_deep_are_refused(town: Town) -> None:
    nested: dict[str, Any] = {"coin.burn": {"amount": 1}}
    for _ in range(400):
        nested = {"governance.propose": {"title": "t", "body_hash": "00" * 32, "messages": [nested]}}
    with pytest.raises(QueryRefused, match="nested too deep"):
        town.app.messages_from_json([nested])


def test_refusal_codes_never_change() -> None:
    town = Application()
    codes = {each["code"] for module in town.describe()["modules"].values() for each in module["refusals"]}
    codes |= {each["code"] for each in town.describe()["refusals"]}
    assert sorted(codes) == CODES
    assert all(town.refusal_text(code) for code in codes)
    for code in codes:  # a result stores the code alone
        assert "{" not in (town.refusal_text(code) or "").partition(": ")[0], "values stand behind a colon"
    assert town.refusal_text("coin.vouchers_absent") == "there is no such row in vouchers"
    assert town.refusal_text("tx.expired") is None


CODES = [
    "coin.short",
    "coin.too_much",
    "coin.voucher_open",
    "coin.voucher_time",
    "governance.bad_engine_params",
    "governance.closed",
    "governance.no_such_param",
    "governance.no_such_proposal",
    "governance.not_a_person",
    "governance.not_in_census",
    "governance.unreadable",
    "identity.already_person",
    "identity.bad_keys",
    "identity.has_keys",
    "identity.may_not_grant",
    "identity.no_keys_for_the_town",
    "identity.no_such_grant",
    "identity.not_a_person",
    "identity.not_registrar",
    "identity.nullifier_used",
    "module.fault",
    "town.no_such_version",
    "town.not_authorised",
    "town.out_of_weight",
    "town.overflow",
    "town.too_deep",
    "validators.has_left",
    "validators.in_jail",
    "validators.known",
    "validators.no_candidate",
    "validators.not_in_jail",
    "validators.not_operator",
    "validators.still_in_jail",
    "validators.tombstoned",
    "validators.too_many_changes",
    "validators.unknown",
]


def test_admission_tells_the_pool_what_it_needs(town: Town) -> None:
    anna = town.stranger(coins=100)
    transaction = anna.transaction(town.message("coin.send", to=anna, amount=1), fee=3, nonce=5)
    admission = town.app.admit(transaction, town.state, time_ms=town.time_ms, params=town.params)
    assert (admission.sender, admission.next_nonce, admission.priority) == (anna.address, 0, 3)
    assert admission.weight_max == town.params.transaction_weight_max


def test_what_cannot_stand_in_a_block_is_kept_out_with_its_code(town: Town) -> None:
    anna, bella = town.stranger(coins=100), town.stranger()
    send = town.message("coin.send", to=bella, amount=1)
    anna.sends("coin.send", to=bella, amount=1)
    cases = {
        "tx.expired": anna.transaction(send, valid_until_ms=town.time_ms - 1),
        "tx.nonce_used": anna.transaction(send, nonce=0),
        "tx.nonce_too_far": anna.transaction(send, nonce=66),
        "tx.wrong_signers": anna.transaction(send, seeds=[bella.seed]),
        "tx.unknown_message": anna.transaction(Message("coin", "steal", ())),
        "tx.bad_arguments": anna.transaction(Message("coin", "send", (bella.address, -1))),
    }
    assert {code: town.inadmissible(transaction) for code, transaction in cases.items()} == {c: c for c in cases}
    unsigned_payer = Body(
        chain_id=CHAIN_ID,
        sender=anna.address,
        nonce=1,
        valid_until_ms=START_MS * 2,
        fee=0,
        fee_payer=bella.address,
        messages=(send,),
        signers=(anna.key,),
    )
    assert town.inadmissible(unsigned_payer.signed(anna.seed)) == "tx.wrong_signers"
    anonymous = Body(
        chain_id=CHAIN_ID,
        sender=None,
        nonce=0,
        valid_until_ms=START_MS * 2,
        fee=0,
        fee_payer=None,
        messages=(send,),
        signers=(),
    )
    assert town.inadmissible(anonymous.signed()) == "tx.no_sender"
    town.app.admit(anna.transaction(send, nonce=65), town.state, time_ms=town.time_ms, params=town.params)


def test_a_block_holds_only_transactions_of_its_chain_in_their_turn(town: Town) -> None:
    anna = town.stranger(coins=100)
    send = town.message("coin.send", to=anna, amount=1)
    for code, transaction in {
        "tx.wrong_chain": anna.transaction(send, chain_id="ting-other"),
        "tx.nonce_gap": anna.transaction(send, nonce=1),
    }.items():
        with pytest.raises(Inadmissible) as error:
            town.block(transaction)
        assert error.value.code == code
    again = anna.transaction(send)
    town.block(again)
    with pytest.raises(Inadmissible) as error:
        town.block(again)
    assert error.value.code == "tx.nonce_used"


def test_several_messages_take_effect_all_or_none(town: Town) -> None:
    anna, bella = town.stranger(coins=10), town.stranger()
    good, bad = (town.message("coin.send", to=bella, amount=amount) for amount in (3, 8))
    (result,) = town.block(anna.transaction(good, bad))
    assert (result.code, result.events, anna.balance, anna.nonce) == ("coin.short", (), 10, 1)
    (result,) = town.block(anna.transaction(good, good))
    assert (result.code, len(result.events), bella.balance) == ("", 2, 6)


def test_messages_are_read_from_json_or_refused_with_a_sentence(town: Town) -> None:
    read = town.app.messages_from_json
    anna = to_text(b"a" * 20)
    assert read([{"coin.send": {"to": anna, "amount": 5}}]) == (Message("coin", "send", (b"a" * 20, 5)),)
    cases: list[tuple[Any, str, str]] = [
        ({"coin.send": {}}, "query.bad_arguments", "messages: expected an array"),
        ([5], "query.bad_arguments", r"messages\[0\]: expected an object such as"),
        ([{"a": {}, "b": {}}], "query.bad_arguments", r"messages\[0\]: expected an object"),
        ([{"coin.steal": {}}], "query.unknown_message", r"messages\[0\]: this town has no message coin\.steal"),
        ([{"coin.send": {"to": anna}}], "query.bad_arguments", r"messages\[0\]\.coin\.send\.amount: is missing"),
        ([{"coin.send": {"to": anna, "amount": 0}}], "query.bad_arguments", "0 is not in 1…"),
        (
            [{"coin.send": {"to": anna, "amount": 1, "x": 1}}],
            "query.bad_arguments",
            r"coin\.send\.x: unknown; known are",
        ),
        ([{"coin.send": []}], "query.bad_arguments", "expected an object of named arguments"),
    ]
    for given, code, text in cases:
        with pytest.raises(QueryRefused, match=text) as refused:
            read(given)
        assert refused.value.code == code


def test_what_the_town_does_not_know_is_shown_raw(town: Town) -> None:
    show = town.app.message_to_json
    assert show(Message("coin", "steal", (1, b"\x01"))) == {"coin.steal": [1, "01"]}
    assert show(Message("coin", "send", (b"\x01",))) == {"coin.send": ["01"]}
    unknown = {"module": "coin", "name": "stolen", "fields": ["01"]}
    assert town.app.event_to_json(Event("coin", "stolen", (b"\x01",))) == unknown
    assert town.app.event_to_json(Event("bank", "stolen", ()))["fields"] == []


def test_an_event_is_shown_alike_each_time(town: Town) -> None:
    event = Event("governance", "voted", (1, bytes(20), 1))
    assert town.app.event_to_json(event) == town.app.event_to_json(event)


def test_nothing_is_due_in_a_town_where_nothing_waits(town: Town) -> None:
    assert town.app.next_due_ms(town.state) is None
    assert town.app.next_due_ms(Nothing()) is None


def test_the_versions_of_modules_are_noted_with_a_hash_of_what_they_declare(town: Town) -> None:
    rows = {row["key"]: row["value"] for row in town.query("town/module_versions")["rows"]}
    assert {name: row["version"] for name, row in rows.items()} == {
        "coin": 1,
        "governance": 1,
        "identity": 1,
        "tools": 1,
        "town": 1,
        "validators": 1,
    }
    assert len({row["schema"] for row in rows.values()}) == 6


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"coins": {}}, r"town\.coins: unknown; known are coin, identity, params, validators"),
        ({"coin": {"treasure": 1}}, r"town\.coin\.treasure: unknown"),
        ({"coin": {"treasury": "many"}}, r"town\.coin\.treasury: expected an integer"),
        ({"coin": {"accounts": [{"address": "me", "amount": 1}]}}, r"town\.coin\.accounts\[0\]\.address: an address"),
        ({"coin": 5}, r"town\.coin: expected an object"),
        ({"params": 5}, r"town\.params: expected a table of numbers"),
        ({"params": {"coin.price": 5}}, r'town\.params\."coin\.price": there is no such parameter'),
        ({"params": {"money.price": 5}}, "there is no such parameter"),
        ({"params": {"coin": 5}}, "there is no such parameter"),
        ({"params": {"governance.quorum": 2_000_000}}, "2000000 is not in 0…667000"),
        ({"params": {"governance.quorum": True}}, "True is not in"),
        ({"params": {"governance.quorum": "5"}}, "'5' is not in"),
    ],
)
def test_a_wrong_genesis_names_its_key(document: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Application().genesis(document, chain_id=CHAIN_ID, time_ms=START_MS, params=TINY)


def test_a_genesis_sets_parameters(town: Town) -> None:
    town = Town(town_params={"governance.voting_period_ms": 20_000, "town.grain_ms": 1_000})
    town.registrar.sends("validators.apply", public_key=b"k" * 32, name="x")
    town.govern("governance.set_param", module="governance", name="deposit", value=0)
    town.registrar.sends("governance.propose", title="t", body_hash=b"b" * 32)
    due = town.app.next_due_ms(town.state)
    assert due == town.time_ms + 20_000


def test_an_idle_block_changes_nothing(town: Town) -> None:
    town.person(coins=10)
    execution = town.app.execute(town.state, town._next_block(None))
    assert execution.begin().events == ()
    outcome = execution.end()
    assert execution.changes == {}
    assert (outcome.result.weight, outcome.validator_updates, outcome.params) == (0, (), None)


def test_the_changes_of_a_block_that_has_not_ended_cannot_be_read(town: Town) -> None:
    execution = town.app.execute(town.state, town._next_block(None))
    with pytest.raises(AssertionError, match="has not ended"):
        _ = execution.changes


def test_an_execution_that_has_ended_keeps_no_rows(town: Town) -> None:
    """Its modules refer to each other in circles: rows would stay until the next collection."""
    anna = town.stranger()
    execution = town.app.execute(town.state, town._next_block(None))
    execution.begin()
    execution.deliver(anna.transaction(town.message("coin.send", to=anna, amount=1)))
    execution.end()
    assert execution.changes
    assert not any(space._reads or space._writes for space in execution._runtime.spaces.values())


def test_a_town_without_a_purse_charges_nothing() -> None:
    """Only the modules that are given: no coin, so no fee, no quota."""

    state = MemoryState()
    bare = Application([Identity])
    state.apply(bare.genesis({}, chain_id=CHAIN_ID, time_ms=START_MS, params=TINY).changes)
    helper = Town().stranger()
    made = bare.messages_from_json([{"identity.rotate_keys": {"keys": [helper.key.hex()]}}])
    transaction = helper.transaction(*made, nonce=0)
    block = Town(ToolLibrary)._next_block(None)
    execution = bare.execute(state, block)
    execution.begin()
    assert execution.deliver(transaction).code == ""
    execution.end()
    assert sorted(execution.changes) == ["town"]


def test_what_one_town_read_in_a_transaction_says_nothing_to_another(town: Town) -> None:
    """A transaction is read once for pool and blocks, but each town has messages of its own."""
    anna = town.stranger()
    transaction = anna.transaction(town.message("coin.send", to=anna, amount=1), nonce=0)
    (result,) = town.block(transaction)
    assert result.code == "coin.short"
    bare = Application([Identity])
    with pytest.raises(Inadmissible, match=r"no message coin\.send"):
        bare.admit(transaction, Nothing(), time_ms=START_MS, params=TINY)


def test_admission_goes_by_the_state_that_it_is_asked_about(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it remembers of the one before, and however often it was asked."""
    monkeypatch.setattr(runtime, "MOVES_MAX", 2)
    anna = town.stranger()
    send = town.message("coin.send", to=anna, amount=1)
    for nonce in range(6):
        transaction = anna.transaction(send)
        for _ in range(4):
            admitted = town.app.admit(transaction, town.state, time_ms=town.time_ms, params=town.params)
            assert admitted.next_nonce == nonce
        town.block(transaction)
        assert town.inadmissible(transaction) == "tx.nonce_used"


def test_a_module_without_genesis_or_messages_is_a_module_too() -> None:
    class Quiet(Module):
        """Declares a message that nobody sends."""

        name, version = "quiet", 1

        @message
        def rest(self, ctx: Context) -> None:
            """Do nothing."""

    assert Application([Quiet]).describe()["modules"]["quiet"]["messages"]["rest"]["args"]["required"] == []


def test_admission_and_query_codes_never_change() -> None:
    found = {value for value in vars(admission).values() if isinstance(value, str) and value.startswith("tx.")}
    assert sorted(found) == [
        "tx.bad_arguments",
        "tx.block_full",
        "tx.expired",
        "tx.fee_too_low",
        "tx.no_sender",
        "tx.nonce_gap",
        "tx.nonce_too_far",
        "tx.nonce_used",
        "tx.unknown_message",
        "tx.unpayable_fee",
        "tx.wrong_chain",
        "tx.wrong_signers",
    ]
    asked = {
        v for v in (*vars(questions).values(), *vars(app).values()) if isinstance(v, str) and v.startswith("query.")
    }
    assert sorted(asked) == ["query.bad_arguments", "query.not_provable", "query.unknown", "query.unknown_message"]
