"""A new chain goes on from the state of a former one: everything stays but the validators."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from city.app import Town as Application
from city.modules.governance import Choice
from city.modules.validators import Change
from city.sdk import DAY_MS
from city.sdk.values import writer_of
from city.testing import CHAIN_ID, START_MS, Account, MemoryState, Town
from consensus.address import key_address, to_text
from consensus.application import Founder, Genesis, Inadmissible, Misbehaviour
from consensus.params import TINY
from consensus.signing import public_key, sha256
from consensus.validators import Update
from tests.city.test_validators import KEYS, founded

NEW_CHAIN = "ting-test-2"
NEW_KEY = public_key(sha256(b"a new machine"))
BODY = sha256(b"why")


def _resumed(app: Application, state: MemoryState, founders: Sequence[Founder], *, days: int = 0) -> Genesis:
    time_ms = START_MS + days * DAY_MS
    return app.resume(state, founders, chain_id=NEW_CHAIN, time_ms=time_ms, params=TINY)


def _founder(key: bytes, power: int = 10, name: str = "") -> Founder:
    return Founder(public_key=key, power=power, name=name)


@pytest.fixture
def voted(town: Town) -> tuple[Town, Account, int]:
    """A town with an open ballot, in which one of two persons has voted."""
    anna, bjorn = town.person(coins=1_000), town.person(coins=50)
    anna.sends("governance.propose", title="A lamp", body_hash=BODY, messages=())
    anna.sends("governance.vote", proposal=1, choice=Choice.YES)
    return town, bjorn, 1


def test_all_rows_stay_but_the_validators(voted: tuple[Town, Account, int]) -> None:
    town, _, _ = voted
    former = {name: town.state.module(name) for name in town.app.module_names}
    first = _resumed(town.app, town.state, [_founder(NEW_KEY, 7, "new")])
    assert first.validators == (Update(NEW_KEY, 7),)
    state = MemoryState()
    state.apply(first.changes)
    assert {name for name in former if state.module(name) != former[name]} == {"validators"}
    query = town.app.query("validators/validator_set", {}, state, height=0, time_ms=START_MS)
    assert query["rows"] == [
        {
            "key": NEW_KEY.hex(),
            "value": {"power": 7, "operator": to_text(key_address(NEW_KEY)), "name": "new"},
        }
    ]
    assert town.app.broken_invariants(state) == []


def test_who_stays_or_had_applied_keeps_operator_and_name() -> None:
    town = founded(10, 5)
    old = KEYS[0].hex()
    anna = town.person()
    anna.sends("validators.apply", public_key=NEW_KEY, name="anna's")
    before = town.query("validators/validator", public_key=old)
    first = _resumed(town.app, town.state, [_founder(bytes.fromhex(old), 3), _founder(NEW_KEY, 4)])
    state = MemoryState()
    state.apply(first.changes)

    def member(key: str) -> object:
        return town.app.query("validators/validator", {"public_key": key}, state, height=0, time_ms=START_MS)

    assert member(old) == {**before, "power": 3}
    assert member(NEW_KEY.hex()) == {"power": 4, "operator": anna.text, "name": "anna's"}
    applied = town.app.query("validators/applications", {}, state, height=0, time_ms=START_MS)
    assert applied["rows"] == []


def test_decided_changes_of_the_former_set_are_void() -> None:
    town = founded(10, 5)
    change = Change(public_key=KEYS[0], power=5, operator=bytes(20), name="x")
    row = {b"changes\x00" + bytes(8): writer_of(Change)(change)}
    first = _resumed(town.app, town.state.after({"validators": row}), [_founder(KEYS[0])])
    assert not [key for key in first.changes["validators"] if key.startswith(b"changes\x00")]


def test_a_founder_that_was_in_jail_is_out_of_it_and_others_stay() -> None:
    """The founders' word is the new town's first, and their operators are those of before."""
    town = founded(10, 5, 5)
    town.block(evidence=[Misbehaviour(public_key=key, power=5, height=1) for key in KEYS[1:3]])
    town.passes(hours=1)
    state = MemoryState()
    state.apply(_resumed(town.app, town.state, [_founder(KEYS[1], 3)]).changes)
    rows = town.app.query("validators/jailings", {}, state, height=0, time_ms=START_MS)["rows"]
    assert [row["key"] for row in rows] == [KEYS[2].hex()]
    member = town.app.query("validators/validator", {"public_key": KEYS[1].hex()}, state, height=0, time_ms=START_MS)
    assert member == {"power": 3, "operator": town.registrar.text, "name": ""}
    assert town.app.broken_invariants(state) == []


def test_an_open_ballot_is_voted_in_and_closes(voted: tuple[Town, Account, int]) -> None:
    town, bjorn, number = voted
    assert town.app.next_due_ms(town.state) is not None
    state = MemoryState()
    state.apply(_resumed(town.app, town.state, [_founder(NEW_KEY)], days=2).changes)
    town.state = state
    town.passes(days=2)
    bjorn.sends("governance.vote", proposal=number, choice=Choice.YES)
    assert town.query("governance/tally", proposal=number)["yes"] == 2
    town.passes(days=6)
    assert town.query("governance/proposal", proposal=number)["status"] == "passed"


def test_an_old_signature_means_nothing_to_the_new_chain(voted: tuple[Town, Account, int]) -> None:
    town, bjorn, _ = voted
    state = MemoryState()
    state.apply(_resumed(town.app, town.state, [_founder(NEW_KEY)]).changes)
    (message,) = town.app.messages_from_json([{"governance.vote": {"proposal": 1, "choice": "no"}}])
    signed = [bjorn.transaction(message, chain_id=chain_id).body.sign_bytes() for chain_id in (CHAIN_ID, NEW_CHAIN)]
    assert signed[0] != signed[1]
    admitted = town.app.admit(
        bjorn.transaction(message, chain_id=NEW_CHAIN), state, time_ms=START_MS + 1_000, params=TINY
    )
    assert admitted.next_nonce == bjorn.nonce, "nonces go on"
    stale = bjorn.transaction(message, chain_id=NEW_CHAIN, nonce=bjorn.nonce + 65)
    with pytest.raises(Inadmissible):
        town.app.admit(stale, state, time_ms=START_MS + 1_000, params=TINY)


def test_what_can_not_be_gone_on_from_is_said(town: Town) -> None:
    def refused(match: str, state: MemoryState, *founders: Founder) -> None:
        with pytest.raises(ValueError, match=match):
            _resumed(town.app, state, founders)

    refused("validators: validators:.*members", town.state, _founder(NEW_KEY), _founder(NEW_KEY))
    refused("validators: validators: founders", town.state, _founder(NEW_KEY, 0))
    refused("version 0 of module coin, installed is 1", MemoryState(), _founder(NEW_KEY))
    (supply,) = [key for key in town.state.module("coin") if key.startswith(b"supply")]
    refused("invariants do not hold: coin", town.state.after({"coin": {supply: b"\x01"}}), _founder(NEW_KEY))
