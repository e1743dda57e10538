"""An attack on a light client that reaches a node: judged by its chain, told in the log, its double votes handed on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio.testing
from structlog.testing import capture_logs

from consensus.block import Commit, Header, Signed
from consensus.chain import without_priorities
from consensus.codec import BadMessage
from consensus.evidence import TOO_NEW, TOO_OLD, DuplicateVote, Uncounted
from consensus.light_attack import LightClientAttack
from consensus.signing import sign
from consensus.vote import VoteKind, vote_sign_bytes
from node import divergence_pool
from node.divergence_pool import ATTACKS_MAX, LATER_MAX, DivergencePool
from node.evidence_pool import FULL
from tests.node.served import CHAIN_ID, VALIDATOR, Served, served

Clock = trio.testing.MockClock


@dataclass
class Node:
    """A town's node with a pool of its own."""

    town: Served
    convicted: list[DuplicateVote] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = DivergencePool(
            genesis=self.town.services.genesis,
            store=self.town.services.store,
            heights=self.town.services.heights,
            convict=self.convicted.append,
        )


def attack(
    town: Served, height: int, *, common: int = 0, round_: int = 0, signed: bool = True, **fields: Any
) -> LightClientAttack:
    """Another block of *height* (like the latest, if that is not decided), signed by the one validator."""
    store = town.services.store
    like = store.header(min(height, store.height))
    changes: dict[str, Any] = {"height": height, "app_hash": b"\xab" * 32, **fields}
    header: Header = replace(like, **changes)
    message = vote_sign_bytes(CHAIN_ID, VoteKind.PRECOMMIT, height, round_, header.id)
    signature = sign(VALIDATOR, message) if signed else bytes(64)
    commit = Commit(height, round_, header.id, (Signed(True, signature),))
    return LightClientAttack(common, header, commit, without_priorities(store.validators_at(like.height)))


def code(pool: DivergencePool, charge: LightClientAttack) -> str:
    """Why *charge* is not judged."""
    with pytest.raises(Uncounted) as reason:
        pool.add(charge)
    return reason.value.code


@pytest.mark.parametrize("common", [0, 3, 5])
async def test_a_proved_attack_is_told_and_its_double_votes_convict(
    common: int, tmp_path: Path, autojump_clock: Clock
) -> None:
    async with served(tmp_path) as town:
        await town.height(8)
        node = Node(town)
        charge = attack(town, 6, common=common)
        with capture_logs() as logs:
            proved = node.pool.add(charge)
            assert node.pool.add(charge) is proved
        told = [line for line in logs if line["event"] == "light_client_attack"]
        assert len(told) == 1
        validator = town.services.store.validators_at(6).validators[0]
        assert (told[0]["log_level"], told[0]["kind"], told[0]["height"]) == ("error", "equivocation", 6)
        assert told[0]["culprits"] == [validator.address.hex()]
        assert [each.first.validator for each in node.convicted] == [validator.address]
        assert node.pool.version == 1


async def test_different_rounds_convict_nobody(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(8)
        node = Node(town)
        assert node.pool.add(attack(town, 6, round_=2)).finding.kind == "amnesia"
        assert node.convicted == []


async def test_a_false_charge_is_a_lie_of_who_brings_it(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(8)
        node = Node(town)
        true = attack(town, 6)
        for charge in (
            attack(town, 6, signed=False),
            attack(town, 6, common=6),
            attack(town, 6, common=7),
            attack(town, 6, app_hash=town.services.store.header(6).app_hash),
            replace(true, validators=replace(true.validators, validators=())),
        ):
            with pytest.raises(BadMessage):
                node.pool.add(charge)
        assert (node.pool.known, node.convicted) == ({}, [])


async def test_what_is_not_decided_here_is_judged_once_it_is(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(4)
        node = Node(town)
        height = town.services.store.height + 2
        late_ms = town.services.store.header(4).time_ms + 60_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.pool.run)
            assert code(node.pool, attack(town, height, time_ms=late_ms)) == TOO_NEW
            assert code(node.pool, attack(town, height + 500, common=height + 400, time_ms=late_ms)) == TOO_NEW
            version = node.pool.version
            with trio.fail_after(30):
                await node.pool.wait_beyond(version)
            assert [proved.attack.height for proved in node.pool.known.values()] == [height]
            assert len(node.convicted) == 1
            nursery.cancel_scope.cancel()


async def test_strangers_cannot_crowd_out_what_is_judged_later(tmp_path: Path, autojump_clock: Clock) -> None:
    """What nobody with power signed is a lie where we can tell, and gives way where we cannot yet."""
    async with served(tmp_path) as town:
        await town.height(4)
        node = Node(town)
        latest = town.services.store.height
        late_ms = town.services.store.header(latest).time_ms + 60_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.pool.run)
            true = attack(town, latest + 2, common=latest, time_ms=late_ms)
            version = node.pool.version
            assert code(node.pool, true) == TOO_NEW
            assert code(node.pool, replace(true, common_height=latest + 1)) == TOO_NEW
            for number in range(2 * LATER_MAX):
                false = attack(town, latest + 100 + number, common=latest, time_ms=late_ms, signed=False)
                with pytest.raises(BadMessage):
                    node.pool.add(false)
                assert code(node.pool, replace(false, common_height=latest + 1)) == TOO_NEW
            with trio.fail_after(30):
                await node.pool.wait_beyond(version)
            assert [proved.attack.height for proved in node.pool.known.values()] == [true.height]
            nursery.cancel_scope.cancel()


async def test_a_later_height_in_our_past_is_an_attack_at_once(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(6)
        node = Node(town)
        past_ms = town.services.store.header(5).time_ms
        finding = node.pool.add(attack(town, 100, time_ms=past_ms)).finding
        assert (finding.kind, finding.duplicates) == ("lunatic", ())
        assert len(finding.culprits) == 1


async def test_what_nobody_trusts_any_more_is_left(
    tmp_path: Path, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what rests on blocks that are not kept."""
    async with served(tmp_path) as town:
        await town.height(6)
        node = Node(town)
        with monkeypatch.context() as patched:
            patched.setattr(divergence_pool, "is_expired", lambda *args, **named: True)
            assert code(node.pool, attack(town, 5)) == TOO_OLD
        with monkeypatch.context() as patched:

            def gone(height: int) -> Any:
                raise KeyError(height)

            patched.setattr(town.services.store, "commit_of", gone)
            assert code(node.pool, attack(town, 5)) == TOO_OLD


async def test_the_pool_is_bounded_whatever_a_third_of_the_power_signs(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(6)
        node = Node(town)
        late_ms = town.services.now_ms() + 60_000
        for number in range(LATER_MAX + 3):
            assert code(node.pool, attack(town, 1_000 + number, time_ms=late_ms)) == TOO_NEW
        assert len(node.pool._later) == LATER_MAX
        for number in range(ATTACKS_MAX):
            node.pool.add(attack(town, 5, app_hash=bytes([number]) * 32))
        assert code(node.pool, attack(town, 5)) == FULL
        assert len(node.pool.known) == ATTACKS_MAX
