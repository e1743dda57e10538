"""The light client's RPC: what a node would say, or an error; never anything else, whoever lies."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from node.light.faults import MemoryDamaged
from node.light.memory import BLOCKS_FILE, DIVERGENCE_FILE
from node.light.methods import UNVERIFIABLE
from node.rpc.errors import (
    ChainDiverged,
    InvalidParams,
    NoSource,
    NotFound,
    NotShown,
    NoWitness,
    QueryFailed,
    RpcError,
    TransactionRefused,
    TrustExpired,
    Unverifiable,
)
from tests.node.light_net import DirectSource, Proxy, Tamper, forked, honest, proxy
from tests.node.served import ANNA, COINS, STRANGER, Served, address, served, text
from tests.node.test_proofs import (
    _answer,
    _changed,
    _garbage,
    _header_field,
    _key,
    _leaf,
    _module,
    _next_set,
    _no_entries,
    _no_proof,
    _no_signature,
    _no_value,
    _other_height,
    _root,
    _sibling,
    _signature,
    _time,
    _value,
)

BALANCE: dict[str, Any] = {"path": "coin/balance", "args": {"address": address(STRANGER)}}
Clock = trio.testing.MockClock


async def paid(town: Served) -> dict[str, Any]:
    """A town in which something happened: what came of the payment."""
    await town.height(3)
    answer: dict[str, Any] = await town.call("broadcast_tx_commit", tx=text(town.payment(8)))
    return answer


async def test_a_balance_is_answered_and_proved(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town, proxy(tmp_path / "light", honest(town)) as light:
        await paid(town)
        found = await light.call("query", **BALANCE)
        assert (found["answer"], found["stale"]) == (COINS + 8, False)
        assert found["block_id"] == town.services.store.header(found["height"]).id.hex()
        assert "proof" in await light.call("query", **BALANCE, prove=True)
        earlier = await light.call("query", **BALANCE, height=2)
        assert (earlier["answer"], earlier["height"], earlier["stale"]) == (COINS, 2, False)


def without_priorities(answer: Any) -> Any:
    """*answer* of a node as far as headers vouch for it."""
    for name in ("validators", "next_validators"):
        for member in answer.get(name, []):
            del member["priority"]
    return answer


async def test_each_method_answers_as_a_node_does(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town, proxy(tmp_path / "light", honest(town)) as light:
        payment = await paid(town)
        await town.height(payment["height"] + 2)
        at = payment["height"]
        hash_ = town.services.store.header(at).id.hex()
        for name, params in (
            ("genesis", {}),
            ("health", {}),
            ("header", {"height": at}),
            ("header", {"hash": hash_}),
            ("block", {"height": at}),
            ("block", {"hash": hash_}),
            ("block", {"height": 1}),
            ("blockchain", {"min_height": 2, "max_height": at}),
            ("block_results", {"height": at}),
            ("block_results", {"height": at, "events": False}),
            ("commit", {"height": at}),
            ("light_block", {"height": at}),
            ("validators", {"height": at}),
            ("validators", {"height": at, "page": 2, "per_page": 5}),
            ("consensus_params", {"height": at}),
            ("tx", {"hash": payment["hash"]}),
            ("tx", {"hash": payment["hash"], "prove": True}),
        ):
            said = without_priorities(await town.call(name, **params))
            shown = await light.call(name, **params)
            if name == "blockchain":  # of moments that may differ
                said["last_height"] = shown["last_height"]
            assert shown == said, (name, params)
        for name in ("header", "block", "block_results", "commit", "light_block", "consensus_params"):
            shown = json.dumps(await light.call(name))
            assert str(light.light.follower.blocks.latest.height) in shown
        members = await light.call("validators")
        assert members["height"] == light.light.follower.blocks.latest.height + 1
        assert "priority" not in members["validators"][0], "ASA-2024-009: no header vouches for whose turn it is"
        status = await light.call("status")
        assert (
            status["sync_info"]["latest_app_hash"]
            == town.services.store.header(status["sync_info"]["latest_block_height"]).app_hash.hex()
        )
        assert status["light_info"]["primary"] == "http://node0"
        assert status["light_info"]["witnesses"] == ["http://node1", "http://node2"]
        assert status["light_info"]["dropped"] == {}


async def test_what_no_proof_shows_is_refused_by_name(tmp_path: Path, autojump_clock: Clock) -> None:
    """Whatever it is asked with."""
    async with served(tmp_path) as town, proxy(tmp_path / "light", honest(town)) as light:
        await town.height(2)
        for name in UNVERIFIABLE:
            with pytest.raises(Unverifiable) as refusal:
                await light.call(name, anything=1)
            assert refusal.value.code == "light.unverifiable"
        for name in town.server.dispatcher.methods:
            assert name in light.server.dispatcher.methods or name in UNVERIFIABLE, name


async def test_bad_requests_are_refused_as_by_a_node(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town, proxy(tmp_path / "light", honest(town)) as light:
        await town.height(3)
        for name, params, kind in (
            ("header", {"height": 0}, NotFound),
            ("validators", {"height": 0}, NotFound),
            ("header", {"height": 99_999}, NotShown),
            ("header", {"hash": "00" * 32}, NotShown),
            ("tx", {"hash": "00" * 32}, NotShown),
            ("block", {"height": 1, "hash": "00" * 32}, InvalidParams),
            ("query", {"path": "coin/accounts"}, QueryFailed),
            ("query", {"path": "coin/nothing"}, QueryFailed),
            ("query", {**BALANCE, "height": 99_999}, NotShown),
        ):
            with pytest.raises(kind):
                await light.call(name, **params)
        assert light.light.sources.dropped == {}


async def test_a_transaction_goes_through_and_its_result_is_proved(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town, proxy(tmp_path / "light", honest(town)) as light:
        await town.height(2)
        key = town.payment().body.signers[0].hex()
        message = {"coin.send": {"to": address(STRANGER), "amount": 5}}
        prepared = await light.call("prepare_tx", messages=[message], signers=[key])
        assert prepared["nonce"] == 0
        assert (await light.call("broadcast_tx_sync", tx=text(town.payment(5, nonce=0))))["code"] == ""
        assert (await light.call("next_nonce", address=address(ANNA)))["next_nonce"] == 1
        payment = text(town.payment(6, nonce=1))
        second = await light.call("broadcast_tx_commit", tx=payment)
        assert second["result"]["code"] == ""
        assert second == await town.call("broadcast_tx_commit", tx=payment)
        assert (await light.call("query", **BALANCE))["answer"] == COINS + 11
        assert (await light.call("next_nonce", address=address(ANNA)))["next_nonce"] == 2
        again = await light.call("broadcast_tx_async", tx=payment)
        assert again["code"]
        assert (await light.call("broadcast_tx_commit", tx="AAAA"))["code"].startswith("bad_message")
        third = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "broadcast_tx_sync",
            "params": {"tx": text(town.payment(nonce=2))},
        }
        calls, batch = light.server.dispatcher.parse(json.dumps([third]).encode())
        answers = json.loads(await light.server.dispatcher.answer(calls, batch=batch))
        assert answers[0]["result"]["code"] == ""
        with pytest.raises(TransactionRefused):
            await light.call("prepare_tx", messages=[{"coin.nothing": {}}], signers=[key])


# Liars ----------------------------------------------------------------------------------------------------------------


def _of(method: str, change: Callable[[Any], None]) -> Tamper:
    return _changed(change, method=method)


def _set(*path: Any) -> Callable[[Any], None]:
    """Changes what stands at the end of *path*."""

    def change(answer: Any) -> None:
        for step in path[:-1]:
            answer = answer[step]
        value = answer[path[-1]]
        answer[path[-1]] = value + 1 if isinstance(value, int) else _other_text(value)

    return change


def _other_text(value: str) -> str:
    """Hex or base64 of the same length."""
    return ("1" if value[0] == "0" else "0") + value[1:]


QUERY_LIES = [_answer, _value, _no_value, _leaf, _sibling, _root, _key, _module, _time, _no_entries, _no_proof]
HEADER_LIES = ["height", "time_ms", "last_block_id", "validators_hash", "app_hash", "results_hash", "params_hash"]
BLOCK_LIES = [_signature, _no_signature, _next_set, _garbage]


LIES = {
    **{f"query: {change.__name__}": _of("query", change) for change in QUERY_LIES},
    **{f"header: {field}": _header_field(field) for field in HEADER_LIES},
    **{f"light_block: {change.__name__}": _of("light_block", change) for change in BLOCK_LIES},
}


async def test_a_lying_primary_is_dropped_and_the_truth_comes_from_another(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    """Whatever it changes of an answer, a proof, a header, a commit or a set."""
    async with served(tmp_path) as town:
        await paid(town)
        for lie, tamper in LIES.items():
            liar = DirectSource(town, "http://liar", tamper)
            async with proxy(tmp_path / "light", [liar, *honest(town)]) as light:
                assert (await light.call("query", **BALANCE))["answer"] == COINS + 8, lie
                assert list(light.light.sources.dropped) == ["http://liar"], lie
                assert light.light.sources.primary.name == "http://node0", lie
            (tmp_path / "light" / BLOCKS_FILE).unlink()


LIES_OF_METHODS: list[tuple[str, Callable[[Any], None]]] = [
    ("header", _set("header", "app_hash")),
    ("block", _set("block", "transactions", 0)),
    ("block", _set("block", "transaction_ids", 0)),
    ("block", _set("block", "last_commit", "round")),
    ("block", _set("block", "header", "time_ms")),
    ("block", lambda answer: answer["block"]["transactions"].append("AAAA")),
    ("block", lambda answer: answer["block"].update(transactions=7)),
    ("block", lambda answer: answer["block"]["evidence"].append({"kind": "duplicate_vote", "vote": []})),
    ("block_results", _set("encoded", 1)),
    ("block_results", lambda answer: answer["encoded"].pop()),
    ("block_results", lambda answer: answer.update(encoded=[])),
    ("commit", _set("commit", "entries", 0, "signature")),
    ("commit", _set("commit", "height")),
    ("consensus_params", _set("params", "heartbeat_ms")),
    ("tx", _set("tx")),
    ("tx", _set("index")),
    ("tx", _set("height")),
    ("tx", _set("proof", "total")),
    ("tx", _set("proof", "index")),
]


async def test_a_lie_of_any_method_is_dropped_too(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        payment = await paid(town)
        await town.height(payment["height"] + 1)
        truths: dict[str, Any] = {}
        for method, change in LIES_OF_METHODS:
            liar = DirectSource(town, "http://liar", _of(method, change))
            params = {"hash": payment["hash"]} if method == "tx" else {"height": payment["height"]}
            if method == "header":
                params = {"hash": town.services.store.header(payment["height"]).id.hex()}
            async with proxy(tmp_path / "light", [liar, *honest(town)]) as light:
                truth = truths.setdefault(method, await town.call(method, **params))
                assert await light.call(method, **params) == truth, method
                assert list(light.light.sources.dropped) == ["http://liar"], method
            (tmp_path / "light" / BLOCKS_FILE).unlink()


async def test_what_a_node_adds_to_a_proof_is_not_passed_on(tmp_path: Path, autojump_clock: Clock) -> None:
    """A client sees what the light client verified, and nothing else."""

    def adding(method: str, answer: Any) -> Any:
        match method:
            case "tx":
                answer["proof"].update(root="ff" * 32, note="believe me")
            case "query":
                answer["proof"].update(note="believe me")
                for part in ("entries", "module_roots"):
                    answer["proof"][part][0].update(note="believe me")
        return answer

    async with served(tmp_path) as town:
        payment = await paid(town)
        await town.height(payment["height"] + 1)
        async with proxy(tmp_path / "light", [DirectSource(town, "http://liar", adding), *honest(town)]) as light:
            for name, params in (
                ("tx", {"hash": payment["hash"], "prove": True}),
                ("query", {**BALANCE, "height": payment["height"], "prove": True}),
            ):
                assert (await light.call(name, **params))["proof"] == (await town.call(name, **params))["proof"], name


async def test_an_answer_for_another_height_than_asked_is_a_lie(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await paid(town)
        liar = DirectSource(town, "http://liar", _of("query", _other_height))
        async with proxy(tmp_path / "light", [liar, *honest(town)]) as light:
            assert (await light.call("query", **BALANCE, height=3))["height"] == 3
            assert "instead of 3" in light.light.sources.dropped["http://liar"]


def _random_change(value: Any, dice: random.Random) -> Any:
    """*value* with one thing in it changed: removed, replaced, doubled, or of another type."""
    if isinstance(value, dict) and value:
        name = dice.choice(sorted(value))
        changed = dict(value)
        if dice.random() < 0.15:
            del changed[name]
        else:
            changed[name] = _random_change(value[name], dice)
        return changed
    if isinstance(value, list) and value:
        place = dice.randrange(len(value))
        match dice.randrange(6):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value, value[place]]
            case _:
                return [*value[:place], _random_change(value[place], dice), *value[place + 1 :]]
    if isinstance(value, str) and value and dice.random() < 0.7:
        place = dice.randrange(len(value))
        return value[:place] + dice.choice("0123456789abcdef") + value[place + 1 :]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return dice.choice([value + 1, value - 1, 0, -value, value * 2**40, str(value), float(value)])
    return dice.choice([None, 0, "", [], {}, "00" * 32, True])


CHANGES = int(os.environ.get("ALLTING_LIES", "60"))
"""Of each run; `make lies` has more."""


async def test_random_changes_of_answers_never_make_another_answer(tmp_path: Path, autojump_clock: Clock) -> None:
    """The truth, from the liar where it told it, from another node, or an error."""
    async with served(tmp_path) as town:
        payment = await paid(town)
        await town.height(payment["height"] + 30)
        at = payment["height"]
        asked: list[tuple[str, dict[str, Any]]] = [
            ("query", {**BALANCE, "height": at}),
            ("block", {"height": at}),
            ("block_results", {"height": at}),
            ("commit", {"height": at}),
            ("validators", {"height": at}),
            ("consensus_params", {"height": at}),
            ("tx", {"hash": payment["hash"]}),
            ("blockchain", {"min_height": at - 3, "max_height": at}),
        ]
        truths = {}
        async with proxy(tmp_path / "light", honest(town)) as light:
            for name, params in asked:
                truths[name] = await light.call(name, **params)
        told, dropped = 0, 0
        for seed in range(CHANGES):
            dice = random.Random(seed)
            name, params = dice.choice(asked)
            spare = dice.randrange(3)

            def tamper(method: str, answer: Any, dice: random.Random = dice, left: list[int] = [spare]) -> Any:  # noqa: B006
                left[0] -= 1
                return _random_change(answer, dice) if left[0] < 0 else answer

            sources = [DirectSource(town, "http://liar", tamper), *honest(town, 2)]
            async with proxy(tmp_path / f"light{seed % 2}", sources) as light:
                shown = await light.call(name, **params)
                if name == "blockchain":
                    shown["last_height"] = truths[name]["last_height"]
                assert shown == truths[name], seed
                told += 1
                dropped += bool(light.light.sources.dropped)
            (tmp_path / f"light{seed % 2}" / BLOCKS_FILE).unlink(missing_ok=True)
        assert told == CHANGES
        assert dropped > CHANGES // 2


async def test_a_lying_witness_is_dropped_and_named(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await paid(town)
        liar = DirectSource(town, "http://liar", _header_field("app_hash"))
        broken = DirectSource(town, "http://broken", _of("light_block", _garbage))
        first, second = honest(town, 2)
        async with proxy(tmp_path / "light", [first, liar, broken, second]) as light:
            assert (await light.call("query", **BALANCE))["answer"] == COINS + 8
            assert set(light.light.sources.dropped) == {"http://liar", "http://broken"}
            assert light.light.sources.primary is first


async def test_a_primary_that_is_gone_makes_room_for_a_witness(tmp_path: Path, autojump_clock: Clock) -> None:
    """And waits in line."""
    async with served(tmp_path) as town:
        await paid(town)
        sources = honest(town)
        async with proxy(tmp_path / "light", sources) as light:
            await light.call("status")
            sources[0].gone = True
            await town.height(town.services.store.height + 1)
            assert (await light.call("query", **BALANCE))["answer"] == COINS + 8
            status = await light.call("status")
            assert status["light_info"]["primary"] == "http://node1"
            assert status["light_info"]["witnesses"] == ["http://node2", "http://node0"]
            assert status["light_info"]["dropped"] == {}


async def test_without_a_witness_nothing_new_is_believed(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await paid(town)
        sources = honest(town)
        async with proxy(tmp_path / "light", sources) as light:
            known = (await light.call("status"))["sync_info"]["latest_block_height"]
            sources[1].gone = sources[2].gone = True
            await town.height(known + 1)
            with pytest.raises(NoWitness):
                await light.call("header")
            assert (await light.call("header", height=known))["header"]["height"] == known
            sources[0].gone = True
            with pytest.raises(NoSource):
                await light.call("header")
            for source in sources:
                source.gone = False
            assert (await light.call("header"))["header"]["height"] > known


async def test_a_node_that_claims_heights_that_it_does_not_have_is_passed_over(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    async with served(tmp_path) as town:
        await paid(town)

        def boasts(method: str, answer: Any) -> Any:
            if method == "query":
                answer["height"] += 1_000
            return answer

        async with proxy(tmp_path / "light", [DirectSource(town, "http://liar", boasts), *honest(town)]) as light:
            assert (await light.call("query", **BALANCE))["answer"] == COINS + 8
            assert list(light.light.sources.dropped) == ["http://liar"]


async def test_a_node_that_shows_the_past_as_present_is_passed_over(tmp_path: Path, autojump_clock: Clock) -> None:
    """Never an older answer than one that was given before."""
    async with served(tmp_path) as town:
        await paid(town)
        old = DirectSource(town, "http://old")
        async with proxy(tmp_path / "light", [old, *honest(town)]) as light:
            before = await light.call("query", **BALANCE)
            frozen: dict[str, Any] = {}

            def remembers(method: str, answer: Any) -> Any:
                return frozen.setdefault(method, answer)

            old.tamper = remembers
            await old.call("query", **BALANCE, prove=True)
            await old.call("light_block")
            await town.height(before["height"] + 3)
            assert (await light.call("header", height=before["height"] + 3))["header"]["height"] == before["height"] + 3
            assert (await light.call("query", **BALANCE))["height"] >= before["height"] + 3
            assert light.light.sources.primary is not old


# Two chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 2])
async def test_two_proved_chains_stop_the_client_and_every_node_gets_the_evidence(
    place: int, tmp_path: Path, autojump_clock: Clock
) -> None:
    """Whether the primary forks or a witness does: nothing is answered any more, by nobody's word."""
    async with served(tmp_path) as town:
        await town.height(8)
        sources = honest(town)
        sources[place].tamper = forked(6)
        async with proxy(tmp_path / "light", sources) as light:
            assert (await light.call("header", height=5))["header"]["height"] == 5
            with pytest.raises(ChainDiverged) as refusal:
                await light.call("header", height=7)
            assert refusal.value.details["common_height"] == 5
            own = town.services.store.header(7)
            assert own.id.hex() in (refusal.value.details["primary_block"], refusal.value.details["witness_block"])
            for name in ("health", "status", "genesis", "header", "query"):
                with pytest.raises(ChainDiverged):
                    await light.call(name, **(BALANCE if name == "query" else {}))
            await _refuses_broadcasts(light, town)
            for source in sources:
                assert len(source.given) == 2
            [proved] = town.services.divergences.known.values()
            assert (proved.attack.height, proved.finding.kind) == (7, "equivocation")
            validator = town.services.store.validators_at(7).validators[0]
            assert proved.finding.culprits == (validator.address,)
            assert [piece.accused for piece in town.services.evidence.ripe()] == [validator.address]
        shown = json.loads((tmp_path / "light" / DIVERGENCE_FILE).read_text())
        assert sorted(shown["evidence"]) == sorted(sources[0].given)
        assert shown["common_height"] == 5
        with pytest.raises(MemoryDamaged, match="fresh link"):
            async with proxy(tmp_path / "light", honest(town)):
                pass


async def _refuses_broadcasts(light: Proxy, town: Served) -> None:
    with pytest.raises(ChainDiverged):
        await light.call("broadcast_tx_sync", tx=text(town.payment()))


async def test_trust_that_is_too_old_is_refused_with_what_to_do(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        late_ms = town.services.now_ms() + town.services.genesis.params.trusting_period_ms
        async with proxy(tmp_path / "light", honest(town), now_ms=lambda: late_ms) as light:
            with pytest.raises(TrustExpired, match="--trust LINK") as refusal:
                await light.call("header", height=2)
            assert refusal.value.code == "light.expired"
            assert light.light.sources.dropped == {}


async def test_a_clock_that_is_wrong_makes_nobody_a_liar(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        early_ms = town.services.genesis.time_ms - 60_000
        async with proxy(tmp_path / "light", honest(town), now_ms=lambda: early_ms) as light:
            with pytest.raises(RpcError):
                await light.call("header", height=2)
            assert light.light.sources.dropped == {}


async def test_a_chain_that_stands_still_is_called_stale(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        async with proxy(tmp_path / "light", honest(town), now_ms=lambda: town.services.now_ms() + 60_000) as light:
            assert (await light.call("query", **BALANCE))["stale"] is True
            assert (await light.call("query", **BALANCE, height=2))["stale"] is False
            assert (await light.call("status"))["light_info"]["stale"] is True


async def test_a_later_start_goes_on_where_the_first_one_was(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await paid(town)
        async with proxy(tmp_path / "light", honest(town)) as light:
            height = (await light.call("status"))["sync_info"]["latest_block_height"]
        sources = honest(town)
        async with proxy(tmp_path / "light", sources) as light:
            assert (await light.call("header", height=height))["header"]["height"] == height
            assert sources[0].asked == []
        (tmp_path / "light" / BLOCKS_FILE).write_text("{")
        with pytest.raises(MemoryDamaged, match="delete it"):
            async with proxy(tmp_path / "light", honest(town)):
                pass
