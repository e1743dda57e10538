"""One account for one person, keys that change while the address stays, roles that end."""

from __future__ import annotations

from typing import Any

import pytest

from city.testing import Account, Town
from consensus.address import to_text
from consensus.signing import public_key, sha256

OTHER_SEED = sha256(b"another key")
OTHER_KEY = public_key(OTHER_SEED)
THIRD_SEED = sha256(b"a third key")
THIRD_KEY = public_key(THIRD_SEED)


def test_a_registrar_attests_that_an_account_is_a_persons(town: Town) -> None:
    anna = town.stranger()
    assert town.query("identity/person", account=anna.text) is None
    town.registrar.sends("identity.attest", account=anna, nullifier=b"n" * 32)
    assert town.query("identity/person", account=anna.text)["registrar"] == town.registrar.text
    assert town.query("identity/census") == {"persons": 2, "next_number": 2}
    assert {row["key"] for row in town.query("identity/people")["rows"]} == {anna.text, town.registrar.text}


def test_nobody_else_attests(town: Town) -> None:
    anna = town.person()
    anna.is_refused("identity.not_registrar", "identity.attest", account=town.stranger(), nullifier=b"n" * 32)


def test_a_person_has_one_account_and_an_account_one_person(town: Town) -> None:
    anna, bella = town.stranger(), town.stranger()
    registrar = town.registrar
    registrar.sends("identity.attest", account=anna, nullifier=b"n" * 32)
    registrar.is_refused("identity.nullifier_used", "identity.attest", account=bella, nullifier=b"n" * 32)
    registrar.is_refused("identity.already_person", "identity.attest", account=anna, nullifier=b"o" * 32)


def test_a_withdrawn_attestation_frees_the_person_for_another_account(town: Town) -> None:
    anna, bella = town.person(), town.stranger()
    bella.is_refused("identity.not_registrar", "identity.withdraw", account=anna)
    town.registrar.sends("identity.withdraw", account=anna)
    assert town.query("identity/census") == {"persons": 1, "next_number": 2}
    town.registrar.is_refused("identity.not_a_person", "identity.withdraw", account=anna)
    town.registrar.sends("identity.attest", account=bella, nullifier=sha256(anna.address))


def test_persons_and_the_town_withdraw_attestations_too(town: Town) -> None:
    anna, bella = town.person(), town.person()
    anna.sends("identity.withdraw", account=anna)
    town.govern("identity.withdraw", account=bella)
    assert town.query("identity/census")["persons"] == 1


def keys_of(town: Town, account: Account) -> object:
    return town.query("town/account", address=account.text)["record"]


def test_keys_rotate_and_the_address_stays(town: Town) -> None:
    anna = town.stranger(coins=10)
    anna.sends("identity.rotate_keys", keys=(OTHER_KEY,))
    assert keys_of(town, anna) == {"keys": [OTHER_KEY.hex()], "threshold": 1}
    send = town.message("coin.send", to=anna, amount=1)
    assert town.inadmissible(anna.transaction(send)) == "tx.wrong_signers"
    (result,) = town.block(anna.transaction(send, seeds=[OTHER_SEED]))
    assert (result.code, anna.balance) == ("", 10)


def test_several_keys_can_be_asked_for(town: Town) -> None:
    anna = town.stranger(coins=10)
    anna.sends("identity.create", keys=(THIRD_KEY, OTHER_KEY), threshold=2)
    send = town.message("coin.send", to=anna, amount=1)
    assert town.inadmissible(anna.transaction(send, seeds=[OTHER_SEED])) == "tx.wrong_signers"
    (result,) = town.block(anna.transaction(send, seeds=[OTHER_SEED, THIRD_SEED]))
    assert result.code == ""


def test_a_key_record_is_created_once_and_then_rotated(town: Town) -> None:
    anna = town.stranger()
    anna.sends("identity.create", keys=(anna.key,))
    anna.is_refused("identity.has_keys", "identity.create", keys=(OTHER_KEY,))
    anna.sends("identity.rotate_keys", keys=(OTHER_KEY,))


@pytest.mark.parametrize(("keys", "threshold"), [((OTHER_KEY, OTHER_KEY), 1), ((OTHER_KEY,), 2)])
def test_keys_that_could_never_sign_are_refused(town: Town, keys: tuple[bytes, ...], threshold: int) -> None:
    town.stranger().is_refused("identity.bad_keys", "identity.rotate_keys", keys=keys, threshold=threshold)


def test_the_town_grants_roles_and_takes_them(town: Town) -> None:
    anna = town.person()
    town.govern("identity.grant", account=anna, role="registrar")
    anna.sends("identity.attest", account=town.stranger(), nullifier=b"n" * 32)
    assert [row["key"][0] for row in town.query("identity/roles_of", account=anna.text)["rows"]] == [anna.text]
    town.govern("identity.revoke", account=anna, role="registrar")
    anna.is_refused("identity.not_registrar", "identity.attest", account=town.stranger(), nullifier=b"o" * 32)
    assert town.tries_to_govern("identity.revoke", account=anna, role="registrar") == "identity.no_such_grant"


def test_a_role_ends_at_its_time(town: Town) -> None:
    anna = town.person()
    town.govern("identity.grant", account=anna, role="registrar", until=town.time_ms + 3_600_000)
    anna.sends("identity.attest", account=town.stranger(), nullifier=b"n" * 32)
    town.passes(hours=1)
    anna.is_refused("identity.not_registrar", "identity.attest", account=town.stranger(), nullifier=b"o" * 32)


def test_a_role_that_may_grants_roles(town: Town) -> None:
    steward, bella = town.person(), town.person()
    grant: dict[str, Any] = {"account": bella, "role": "guide"}
    steward.is_refused("identity.may_not_grant", "identity.grant", **grant)
    steward.is_refused("identity.may_not_grant", "identity.grant", using="steward", **grant)
    town.govern("identity.grant", account=steward, role="steward")
    steward.is_refused("identity.may_not_grant", "identity.grant", using="steward", **grant)
    town.govern("identity.let_grant", using="steward", role="guide", allowed=True)
    steward.sends("identity.grant", using="steward", **grant)
    rows = town.query("identity/role_holders", role="guide")["rows"]
    assert [row["key"] for row in rows] == [["guide", bella.text]]
    after = town.query("identity/role_holders", role="guide", after=to_text(bella.address))
    assert after["rows"] == []
    steward.sends("identity.revoke", using="steward", **grant)
    town.govern("identity.let_grant", using="steward", role="guide", allowed=False)
    town.govern("identity.let_grant", using="steward", role="guide", allowed=False)
    steward.is_refused("identity.may_not_grant", "identity.grant", using="steward", **grant)


def test_somebody_gives_a_role_back(town: Town) -> None:
    anna = town.person()
    town.govern("identity.grant", account=anna, role="guide")
    anna.sends("identity.revoke", account=anna, role="guide")
    assert town.query("identity/roles_of", account=anna.text)["rows"] == []
