"""The set changes by decision, a third at a time, and is never empty."""

from __future__ import annotations

from typing import Any

import pytest

from city.modules import validators
from city.testing import Account, Town
from consensus.address import to_text
from consensus.application import Misbehaviour
from consensus.validators import Update

KEYS = [bytes([65 + i]) * 32 for i in range(6)]


def founded(*powers: int) -> Town:
    """A town whose first validators have *powers*; account number 1 (the registrar) operates them."""
    operator = to_text(Town().registrar.address)
    members = [{"public_key": KEYS[i].hex(), "power": p, "operator": operator} for i, p in enumerate(powers)]
    return Town(genesis={"validators": {"members": members}})


def powers(town: Town) -> dict[bytes, int]:
    rows = town.query("validators/validator_set")["rows"]
    return {bytes.fromhex(row["key"]): row["value"]["power"] for row in rows}


def updates(town: Town) -> tuple[Update, ...]:
    assert town.last is not None
    return town.last.validator_updates


def applies(town: Town, key: bytes) -> Account:
    anna = town.stranger()
    anna.sends("validators.apply", public_key=key, name="anna's")
    return anna


def test_the_genesis_names_the_first_validators() -> None:
    town = founded(10, 5)
    assert town.genesis_validators == (Update(KEYS[0], 10), Update(KEYS[1], 5))
    assert powers(town) == {KEYS[0]: 10, KEYS[1]: 5}


def test_who_applied_is_admitted_by_the_town() -> None:
    town = founded(10, 10, 10)
    anna = applies(town, KEYS[3])
    assert town.query("validators/applications")["rows"][0]["value"] == {"operator": anna.text, "name": "anna's"}
    town.govern("validators.admit", public_key=KEYS[3])
    assert updates(town) == (Update(KEYS[3], 10),)
    assert town.query("validators/validator", public_key=KEYS[3].hex())["operator"] == anna.text
    assert town.query("validators/applications")["rows"] == []
    town.block()
    assert updates(town) == ()


def test_nobody_admits_but_the_town_and_only_who_applied() -> None:
    town = founded(10)
    anna = applies(town, KEYS[1])
    anna.is_refused("town.not_authorised", "validators.admit", public_key=KEYS[1])
    assert town.tries_to_govern("validators.admit", public_key=KEYS[2]) == "validators.no_candidate"


def test_a_key_applies_once_and_can_be_withdrawn_by_its_operator() -> None:
    town = founded(10)
    anna = applies(town, KEYS[1])
    for key in KEYS[:2]:
        town.stranger().is_refused("validators.known", "validators.apply", public_key=key, name="x")
    town.stranger().is_refused("validators.not_operator", "validators.withdraw", public_key=KEYS[1])
    anna.sends("validators.withdraw", public_key=KEYS[1])
    anna.is_refused("validators.no_candidate", "validators.withdraw", public_key=KEYS[1])


def test_power_changes_and_validators_leave_by_decision_or_by_themselves() -> None:
    town = founded(10, 10, 10)
    town.govern("validators.set_power", public_key=KEYS[0], power=11)
    assert updates(town) == (Update(KEYS[0], 11),)
    town.govern("validators.remove", public_key=KEYS[1])
    assert updates(town) == (Update(KEYS[1], 0),)
    town.stranger().is_refused("validators.not_operator", "validators.resign", public_key=KEYS[2])
    town.registrar.sends("validators.resign", public_key=KEYS[2])
    assert powers(town) == {KEYS[0]: 11}
    assert town.tries_to_govern("validators.remove", public_key=KEYS[2]) == "validators.unknown"


def test_the_last_validator_does_not_leave() -> None:
    town = founded(10)
    town.registrar.sends("validators.resign", public_key=KEYS[0])
    assert updates(town) == ()
    assert powers(town) == {KEYS[0]: 10}
    assert town.events[-1].name == "change_dropped"


def test_large_changes_are_spread_over_blocks_without_waiting_for_anybody() -> None:
    town = founded(10, 10, 10, 10)
    for key in KEYS[4:]:
        applies(town, key)
    made = [town.message("validators.admit", public_key=key) for key in KEYS[4:]]
    propose_and_pass(town, *made)
    assert updates(town) == (Update(KEYS[4], 10),)
    assert len(town.query("validators/decided_changes")["rows"]) == 1
    due = town.app.next_due_ms(town.state)
    assert due is not None
    assert due < town.time_ms + 60_000
    again = town.stranger().transaction(town.message("validators.apply", public_key=KEYS[5], name="x"))
    assert [result.code for result in town.block(again, time_ms=due)] == ["validators.known"]
    assert updates(town) == (Update(KEYS[5], 10),)
    assert len(powers(town)) == 6
    assert town.query("validators/decided_changes")["rows"] == []


def test_the_first_change_comes_into_force_however_large_and_a_third_exactly_fits() -> None:
    town = founded(10, 10, 10)
    town.govern("validators.set_power", public_key=KEYS[0], power=1_000)
    assert powers(town)[KEYS[0]] == 1_000
    town = founded(10, 10, 10)
    propose_and_pass(
        town,
        town.message("validators.set_power", public_key=KEYS[0], power=15),
        town.message("validators.set_power", public_key=KEYS[1], power=5),
        town.message("validators.set_power", public_key=KEYS[2], power=11),
    )
    assert powers(town) == {KEYS[0]: 15, KEYS[1]: 5, KEYS[2]: 10}


def test_two_changes_of_one_validator_take_two_blocks_and_the_later_builds_on_the_earlier() -> None:
    town = founded(100, 100, 100)
    propose_and_pass(
        town,
        town.message("validators.remove", public_key=KEYS[0]),
        town.message("validators.set_power", public_key=KEYS[1], power=101),
    )
    assert powers(town) == {KEYS[1]: 100, KEYS[2]: 100}
    town.passes(hours=1)
    assert powers(town) == {KEYS[1]: 101, KEYS[2]: 100}
    town = founded(100, 100, 100)
    propose_and_pass(
        town,
        town.message("validators.set_power", public_key=KEYS[0], power=101),
        town.message("validators.set_power", public_key=KEYS[0], power=102),
    )
    assert powers(town)[KEYS[0]] == 101
    town.passes(hours=1)
    assert powers(town)[KEYS[0]] == 102


def test_who_is_leaving_already_cannot_be_changed_and_both_removals_do_not_empty_the_set() -> None:
    town = founded(100, 100)
    assert propose_and_pass(
        town,
        town.message("validators.remove", public_key=KEYS[0]),
        town.message("validators.set_power", public_key=KEYS[0], power=5),
    ) == ("failed", "validators.unknown")
    propose_and_pass(
        town,
        town.message("validators.remove", public_key=KEYS[0]),
        town.message("validators.remove", public_key=KEYS[1]),
    )
    town.passes(hours=1)
    assert powers(town) == {KEYS[1]: 100}


def test_the_set_and_the_waiting_list_have_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validators, "MEMBERS_MAX", 2)
    town = founded(10, 10)
    applies(town, KEYS[2])
    town.govern("validators.admit", public_key=KEYS[2])
    assert town.events[-1].name == "change_dropped"
    assert len(powers(town)) == 2
    monkeypatch.setattr(validators, "PENDING_MAX", 0)
    assert town.tries_to_govern("validators.set_power", public_key=KEYS[0], power=11) == ("validators.too_many_changes")


def propose_and_pass(town: Town, *messages: object) -> tuple[str, str]:
    town.govern("governance.set_param", module="governance", name="deposit", value=0)
    town.registrar.sends("governance.propose", title="t", body_hash=b"b" * 32, messages=messages)
    number = town.query("governance/list_proposals", limit=1_000)["rows"][-1]["key"]
    town.registrar.sends("governance.vote", proposal=number, choice=1)
    due = town.app.next_due_ms(town.state)
    assert due is not None
    town.block(time_ms=due)
    found = town.query("governance/proposal", proposal=number)
    return found["status"], found["code"]


# Jail ---------------------------------------------------------------------------------------------------------------

TO_JAIL_ONLY = {"validators.double_sign_tombstones": 0}


def convicts(town: Town, *keys: bytes, height: int = 1) -> None:
    """A block proves that the validators with *keys* signed two different votes at *height*."""
    town.block(evidence=[Misbehaviour(public_key=key, power=10, height=height) for key in keys])


def jailed(town: Town, key: bytes) -> dict[str, Any] | None:
    found: dict[str, Any] | None = town.query("validators/jailing", public_key=key.hex())
    return found


def lenient(*powers: int) -> Town:
    """A town in which a double signer may come back after its jail."""
    operator = to_text(Town().registrar.address)
    members = [{"public_key": KEYS[i].hex(), "power": p, "operator": operator} for i, p in enumerate(powers)]
    return Town(genesis={"validators": {"members": members}}, town_params=TO_JAIL_ONLY)


def test_a_double_signer_leaves_at_once_and_for_good() -> None:
    town = founded(10, 10, 10, 10)
    convicts(town, KEYS[1])
    assert updates(town) == (Update(KEYS[1], 0),)
    assert KEYS[1] not in powers(town)
    assert jailed(town, KEYS[1]) == {
        "until": town.time_ms + 7 * 86_400_000,
        "tombstoned": True,
        "lied_at": 1,
        "convicted_at": town.height,
        "power": 10,
        "operator": town.registrar.text,
        "name": "",
    }
    assert [row["key"] for row in town.query("validators/jailings")["rows"]] == [KEYS[1].hex()]
    town.passes(days=8)
    town.registrar.is_refused("validators.tombstoned", "validators.unjail", public_key=KEYS[1])
    town.registrar.is_refused("validators.tombstoned", "validators.apply", public_key=KEYS[1], name="again")
    assert {event.name for event in town.events} >= {"convicted", "power_changed"}
    assert jailed(town, KEYS[0]) is None


def test_where_the_town_forgives_a_double_signer_comes_back_after_its_jail_with_its_power() -> None:
    town = lenient(10, 7, 10, 10)
    town.govern("governance.set_param", module="validators", name="double_sign_jail_ms", value=60_000)
    convicts(town, KEYS[1])
    town.registrar.is_refused("validators.still_in_jail", "validators.unjail", public_key=KEYS[1])
    town.passes(ms=60_000)
    town.stranger().is_refused("validators.not_operator", "validators.unjail", public_key=KEYS[1])
    town.registrar.sends("validators.unjail", public_key=KEYS[1])
    assert updates(town) == (Update(KEYS[1], 7),)
    assert powers(town)[KEYS[1]] == 7
    assert jailed(town, KEYS[1]) is None
    town.registrar.is_refused("validators.not_in_jail", "validators.unjail", public_key=KEYS[1])
    assert town.events[-1].name == "power_changed"
    convicts(town, KEYS[1], height=town.height)
    assert KEYS[1] not in powers(town)


def test_nothing_else_moves_a_validator_in_jail() -> None:
    """Neither a decision of the town nor its own wish, nor a change that was decided before."""
    town = founded(100, 100, 100)
    propose_and_pass(
        town,
        town.message("validators.set_power", public_key=KEYS[0], power=150),
        town.message("validators.set_power", public_key=KEYS[1], power=150),
    )
    convicts(town, KEYS[1])
    assert powers(town) == {KEYS[0]: 150, KEYS[2]: 100}
    assert town.query("validators/decided_changes")["rows"] == []
    for message, given in (("set_power", {"power": 5}), ("remove", {})):
        refused = town.tries_to_govern(f"validators.{message}", public_key=KEYS[1], **given)
        assert refused == "validators.in_jail"
    town.registrar.is_refused("validators.in_jail", "validators.resign", public_key=KEYS[1])
    found = jailed(town, KEYS[1])
    assert found is not None
    assert found["power"] == 150


def test_jailing_comes_before_changes_that_were_decided_earlier() -> None:
    town = founded(100, 100, 100, 100)
    propose_and_pass(
        town,
        town.message("validators.set_power", public_key=KEYS[0], power=200),
        town.message("validators.set_power", public_key=KEYS[2], power=200),
        town.message("validators.set_power", public_key=KEYS[3], power=101),
    )
    assert powers(town)[KEYS[2]] == 100
    convicts(town, KEYS[1])
    assert updates(town)[0] == Update(KEYS[1], 0)
    town.passes(hours=1)
    assert powers(town) == {KEYS[0]: 200, KEYS[2]: 200, KEYS[3]: 101}


def test_several_liars_leave_a_third_at_a_time() -> None:
    town = founded(10, 10, 10, 10, 10)
    convicts(town, KEYS[0], KEYS[1], KEYS[2])
    assert updates(town) == (Update(KEYS[0], 0),)
    town.passes(hours=1)
    assert powers(town) == {KEYS[3]: 10, KEYS[4]: 10}


def test_the_last_validator_stays_in_the_set_until_there_is_another_one() -> None:
    """A town without validators could not even pardon."""
    town = founded(10)
    convicts(town, KEYS[0])
    assert updates(town) == ()
    assert powers(town) == {KEYS[0]: 10}
    assert town.app.next_due_ms(town.state) is None
    town.block()
    assert updates(town) == ()
    applies(town, KEYS[1])
    town.govern("validators.admit", public_key=KEYS[1])
    assert updates(town) == (Update(KEYS[1], 10),)
    due = town.app.next_due_ms(town.state)
    assert due is not None
    town.block(time_ms=due)
    assert updates(town) == (Update(KEYS[0], 0),)
    assert powers(town) == {KEYS[1]: 10}


def test_the_last_validator_may_be_released_before_it_ever_left() -> None:
    """What it did meanwhile adds to its jail, and takes nothing from it."""
    town = lenient(10)
    convicts(town, KEYS[0])
    first = jailed(town, KEYS[0])
    convicts(town, KEYS[0], height=2)
    second = jailed(town, KEYS[0])
    assert first is not None
    assert second is not None
    assert second["until"] > first["until"]
    assert (second["lied_at"], second["power"]) == (2, 10)
    town.passes(days=8)
    town.registrar.sends("validators.unjail", public_key=KEYS[0])
    assert powers(town) == {KEYS[0]: 10}
    assert town.query("validators/decided_changes")["rows"] == []


def test_who_had_left_is_jailed_too_and_must_apply_again() -> None:
    town = lenient(10, 10, 10)
    town.registrar.sends("validators.resign", public_key=KEYS[1])
    town.registrar.sends("validators.apply", public_key=KEYS[1], name="back soon")
    convicts(town, KEYS[1])
    assert updates(town) == ()
    assert town.query("validators/applications")["rows"] == []
    town.registrar.is_refused("validators.still_in_jail", "validators.apply", public_key=KEYS[1], name="now")
    town.passes(days=8)
    town.registrar.is_refused("validators.has_left", "validators.unjail", public_key=KEYS[1])
    town.registrar.sends("validators.apply", public_key=KEYS[1], name="later")
    assert jailed(town, KEYS[1]) is None
    town.govern("validators.admit", public_key=KEYS[1])
    assert powers(town)[KEYS[1]] == 10
