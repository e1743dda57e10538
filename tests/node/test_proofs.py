"""Proved answers: they hold after changes and at earlier heights; what was changed on the way is not believed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import trio.testing

from consensus.application import QueryRefused
from consensus.params import HOUR_MS
from consensus.signing import public_key, sha256, sign
from consensus.vote import VoteKind, vote_sign_bytes
from node.client import Client, RpcFailed
from node.proofs import NotProved, Prover
from node.rpc import shapes
from node.rpc.errors import RpcError
from node.trust_root import TrustRoot
from tests.node.served import ANNA, CHAIN_ID, COINS, STRANGER, Served, address, served, text

PATH = "coin/balance"
Tamper = Callable[[str, Any], Any]


class DirectClient:
    """Asks a served town without a socket; *tamper* may change each answer, as a lying node would."""

    def __init__(self, town: Served, tamper: Tamper = lambda method, answer: answer) -> None:
        self._town = town
        self._tamper = tamper
        self.asked: list[str] = []

    def call(self, method: str, **params: Any) -> Any:
        """The answer; reads never wait, so that the coroutine ends at once."""
        self.asked.append(method)
        given = {name: value for name, value in params.items() if value is not None}
        asked = self._town.server.dispatcher.methods[method]  # itself: the dispatcher would wait for its turn
        running: Any = asked.handler(**asked.parameters.read(given))
        try:
            running.send(None)
        except StopIteration as done:
            return self._tamper(method, copy.deepcopy(done.value))
        except RpcError as error:
            raise RpcFailed(str(error), code=error.code, number=error.number, data=error.details) from None
        raise AssertionError("a read waited")

    def batch(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Any]:
        """One after the other."""
        return [self.call(method, **params) for method, params in calls]


def prover(town: Served, home: Path, tamper: Tamper = lambda method, answer: answer) -> Prover:
    """A client with a home of its own, that trusts the genesis file."""
    home.mkdir(exist_ok=True)
    client = cast(Client, DirectClient(town, tamper))
    return Prover(client, town.services.genesis, town.app, home=home, now_ms=town.services.now_ms)


async def test_an_answer_is_proved_from_the_genesis_on(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        await town.call("broadcast_tx_commit", tx=text(town.payment(8)))
        proved = prover(town, tmp_path / "client").query(PATH, {"address": address(STRANGER)})
        assert (proved["answer"], proved["stale"]) == (COINS + 8, False)
        assert proved["block_id"] == town.services.store.header(proved["height"]).id.hex()


async def test_time_that_the_proof_takes_makes_no_answer_stale(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        late_ms = 0

        def slow(method: str, answer: Any) -> Any:
            nonlocal late_ms
            late_ms += HOUR_MS if method == "light_block" else 0
            return answer

        client = cast(Client, DirectClient(town, slow))
        (tmp_path / "client").mkdir()
        proved = Prover(
            client,
            town.services.genesis,
            town.app,
            home=tmp_path / "client",
            now_ms=lambda: town.services.now_ms() + late_ms,
        ).query(PATH, {"address": address(STRANGER)})
        assert late_ms
        assert not proved["stale"]


async def test_absence_is_proved_too(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(2)
        nobody = address(sha256(b"nobody"))
        assert prover(town, tmp_path / "client").query(PATH, {"address": nobody})["answer"] == 0


async def test_an_earlier_height_is_proved_before_and_behind_what_is_trusted(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        paid = (await town.call("broadcast_tx_commit", tx=text(town.payment(8))))["height"]
        await town.height(paid + 30)
        arguments = {"address": address(STRANGER)}
        client = prover(town, tmp_path / "client")
        assert client.query(PATH, arguments, height=paid - 1)["answer"] == COINS
        assert client.query(PATH, arguments)["height"] > paid + 28
        assert client.query(PATH, arguments, height=2)["answer"] == COINS
        assert client.query(PATH, arguments, height=paid)["answer"] == COINS + 8


async def test_what_was_verified_is_not_asked_for_again(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(10)
        arguments = {"address": address(ANNA)}
        prover(town, tmp_path / "client").query(PATH, arguments, height=9)
        again = prover(town, tmp_path / "client")
        again.query(PATH, arguments, height=10)
        assert cast(DirectClient, again.light._client).asked == ["query", "light_block"]


def _flip(text_: str) -> str:
    """Hex with one bit changed."""
    return f"{int(text_[:2], 16) ^ 1:02x}{text_[2:]}"


def _header_field(field: str) -> Tamper:
    def tamper(method: str, answer: Any) -> Any:
        if method == "light_block":
            value = answer["header"][field]
            answer["header"][field] = value + 1 if isinstance(value, int) else _flip(value)
        return answer

    return tamper


def _changed(change: Callable[[Any], None], *, method: str = "query") -> Tamper:
    def tamper(called: str, answer: Any) -> Any:
        if called == method:
            change(answer)
        return answer

    return tamper


def _answer(answer: Any) -> None:
    answer["answer"] += 1


def _value(answer: Any) -> None:
    entry = answer["proof"]["entries"][0]
    entry["value"] = _flip(entry["value"])


def _no_value(answer: Any) -> None:
    answer["proof"]["entries"][0]["value"] = None


def _leaf(answer: Any) -> None:
    leaf = answer["proof"]["entries"][0]["leaf"]
    leaf["value_hash"] = _flip(leaf["value_hash"])


def _sibling(answer: Any) -> None:
    siblings = answer["proof"]["entries"][0]["siblings"]
    siblings[0] = _flip(siblings[0])


def _root(answer: Any) -> None:
    root = answer["proof"]["module_roots"][1]
    root["root"] = _flip(root["root"])


def _key(answer: Any) -> None:
    entry = answer["proof"]["entries"][0]
    entry["key"] = _flip(entry["key"])


def _module(answer: Any) -> None:
    answer["proof"]["entries"][0]["module"] = "register"


def _time(answer: Any) -> None:
    answer["time_ms"] += 1


def _no_entries(answer: Any) -> None:
    answer["proof"]["entries"] = []


def _no_proof(answer: Any) -> None:
    del answer["proof"]


def _other_height(answer: Any) -> None:
    answer["height"] -= 1


def _signature(answer: Any) -> None:
    entry = answer["commit"]["entries"][0]
    entry["signature"] = _flip(entry["signature"])


def _no_signature(answer: Any) -> None:
    answer["commit"]["entries"] = [None]


def _next_set(answer: Any) -> None:
    answer["next_validators"][0]["power"] += 1


def _garbage(answer: Any) -> None:
    answer["header"] = 7


@pytest.mark.parametrize(
    "change",
    [_answer, _value, _no_value, _leaf, _sibling, _root, _key, _module, _time, _no_entries, _no_proof],
)
async def test_a_changed_answer_or_proof_is_refused(
    change: Callable[[Any], None], tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        lying = prover(town, tmp_path / "client", _changed(change))
        with pytest.raises(NotProved):
            lying.query(PATH, {"address": address(ANNA)})


@pytest.mark.parametrize("field", ["height", "time_ms", "last_block_id", "validators_hash", "app_hash", "results_hash"])
async def test_a_changed_header_is_refused(field: str, tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        with pytest.raises(NotProved, match="not the one we trust"):
            prover(town, tmp_path / "client", _header_field(field)).query(PATH, {"address": address(ANNA)})


@pytest.mark.parametrize("change", [_signature, _no_signature, _next_set, _garbage])
async def test_a_changed_light_block_is_refused(
    change: Callable[[Any], None], tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        lying = prover(town, tmp_path / "client", _changed(change, method="light_block"))
        with pytest.raises(NotProved):
            lying.query(PATH, {"address": address(ANNA)})


async def test_an_answer_for_another_height_than_asked_is_refused(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        lying = prover(town, tmp_path / "client", _changed(_other_height))
        with pytest.raises(NotProved, match="instead of 3"):
            lying.query(PATH, {"address": address(ANNA)}, height=3)


async def test_a_forged_set_that_signs_its_own_chain_is_refused(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    forger = sha256(b"forger")

    def forged(method: str, answer: Any) -> Any:
        if method != "light_block":
            return answer
        answer["validators"][0]["public_key"] = answer["next_validators"][0]["public_key"] = public_key(forger).hex()
        validators = shapes.validators_from_json(answer["validators"])
        answer["header"]["validators_hash"] = answer["header"]["next_validators_hash"] = validators.hash.hex()
        header = shapes.header_from_json(answer["header"])
        message = vote_sign_bytes(CHAIN_ID, VoteKind.PRECOMMIT, header.height, answer["commit"]["round"], header.id)
        answer["commit"]["block_id"] = header.id.hex()
        answer["commit"]["entries"] = [{"for_block": True, "signature": sign(forger, message).hex()}]
        return answer

    async with served(tmp_path) as town:
        await town.height(3)
        with pytest.raises(NotProved, match="not the set that the trusted block names"):
            prover(town, tmp_path / "client", forged).query(PATH, {"address": address(ANNA)})


async def test_a_changed_header_behind_what_is_trusted_is_refused(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(6)
        prover(town, tmp_path / "client").query(PATH, {"address": address(ANNA)}, height=6)
        app_hash = _changed(lambda answer: answer["header"].update(app_hash="00" * 32), method="header")
        with pytest.raises(NotProved):
            prover(town, tmp_path / "client", app_hash).query(PATH, {"address": address(ANNA)}, height=3)


async def test_trust_begins_at_the_block_of_an_invite(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(8)
        home = tmp_path / "client"
        home.mkdir()
        data = home / "data"
        data.mkdir(exist_ok=True)
        client = prover(town, home)
        TrustRoot(5, town.services.store.header(5).id).write(client.light._home.trust_root)
        assert client.query(PATH, {"address": address(ANNA)}, height=7)["answer"] == COINS
        asked = cast(DirectClient, client.light._client).asked
        assert asked.count("light_block") == 3
        wrong = prover(town, tmp_path / "other")
        (tmp_path / "other" / "data").mkdir()
        TrustRoot(5, bytes(32)).write(wrong.light._home.trust_root)
        with pytest.raises(NotProved, match="invite"):
            wrong.query(PATH, {"address": address(ANNA)})


async def test_a_list_is_not_provable_and_a_damaged_memory_says_what_to_do(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        client = prover(town, tmp_path / "client")
        with pytest.raises(QueryRefused):
            client.query("coin/accounts", {})
        (tmp_path / "client" / "light.json").write_text(json.dumps({"genesis_hash": 5}))
        client.query(PATH, {"address": address(ANNA)})
        (tmp_path / "client" / "light.json").write_text("{")
        with pytest.raises(NotProved, match="delete it"):
            client.query(PATH, {"address": address(ANNA)})


async def test_a_chain_that_stands_still_makes_stale_proofs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        late = Prover(
            cast(Client, DirectClient(town)),
            town.services.genesis,
            town.app,
            home=tmp_path,
            now_ms=lambda: town.services.now_ms() + 60_000,
        )
        assert late.query(PATH, {"address": address(ANNA)})["stale"] is True
        assert late.query(PATH, {"address": address(ANNA)}, height=2)["stale"] is False
