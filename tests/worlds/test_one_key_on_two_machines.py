"""One validator key, two memories: a copied folder, a second machine, a lost file. Whoever notices falls silent."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.address import key_address
from consensus.signing import public_key
from node.disk import Disk
from node.home import Home
from node.signer import Signer, SignerStateMissing
from node.signer_state import unlock, unlock_at_risk
from node.store import Store
from tests.node.small_net import CHAIN_ID, SmallNet, seed
from tests.worlds.power import PowerNet, Said

KEY = public_key(seed("validator", 0))


def home_of(net: SmallNet, number: int) -> Home:
    return Home(net.folder / f"node{number}")


def signing(net: SmallNet, number: int) -> str:
    return str(net.engines[number].status()["signing"])


def height_of(net: SmallNet, number: int) -> int:
    return net.engines[number].store.height


async def until_signing(net: SmallNet, number: int, state: str) -> None:
    with trio.fail_after(30):
        while signing(net, number) != state:  # noqa: ASYNC110  # a state gives no sign
            await trio.sleep(0.1)


async def test_an_old_copy_of_a_folder_is_recognised_by_what_the_chain_says_and_waits_after_an_unlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    said = Said(monkeypatch)
    net = PowerNet(tmp_path, random.Random(0), heartbeat_ms=500)
    folder = home_of(net, 0).path
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(2)
        await net.kill(0)
        shutil.copytree(folder, tmp_path / "copy")
        await net.start(nursery, 0)
        await net.height(6)
        await net.kill(0)
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "copy", folder)
        await net.start(nursery, 0)
        await until_signing(net, 0, "locked")
        await net.height(height_of(net, 1) + 3)
        assert signing(net, 0) == "locked"
        await net.kill(0)
        await net.start(nursery, 0)
        await net.height(height_of(net, 1) + 1)
        assert signing(net, 0) == "locked", "a restart changes nothing"
        await net.kill(0)
        unlock(home_of(net, 0).last_sign, KEY, CHAIN_ID, since_ms=net.now_ms())
        await net.start(nursery, 0)
        assert signing(net, 0) == "waiting"
        await until_signing(net, 0, "yes")
        reached = height_of(net, 0)
        await net.height(reached + 3)
        index = net.engines[1].store.validators_at(reached + 1).index_of(key_address(KEY))
        assert index is not None
        commits = [net.engines[1].store.commit_of(height)[0] for height in range(reached + 1, reached + 3)]
        assert any(commit.entries[index] is not None for commit in commits), "it votes again"
        said.assert_nothing_twice()
        nursery.cancel_scope.cancel()


class Twins(SmallNet):
    """Engine 4 has the key of validator 0, and a memory of its own."""

    def _signer(self, number: int, home: Home, disk: Disk, *, fresh: bool) -> Signer | None:
        if number < self.validators:
            return super()._signer(number, home, disk, fresh=fresh)
        key = seed("validator", 0)
        if fresh and not disk.exists(home.last_sign):
            return Signer.create(key, home.last_sign, CHAIN_ID, disk=disk)
        return Signer.open(key, home.last_sign, CHAIN_ID, disk=disk)


async def test_a_second_machine_with_the_key_falls_silent_and_the_chain_goes_on(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    net = Twins(tmp_path, full_nodes=1, heartbeat_ms=500)
    async with trio.open_nursery() as nursery:
        await net.start(nursery, 0, 1, 2, 3)
        await net.height(3, 0, 1, 2, 3)
        await net.start(nursery, 4)
        with trio.fail_after(60):
            while "locked" not in (signing(net, 0), signing(net, 4)):  # noqa: ASYNC110
                await trio.sleep(0.1)
        await net.height(height_of(net, 1) + 3)
        net.assert_one_history()
        nursery.cancel_scope.cancel()


async def test_a_lone_validator_without_its_memory_goes_on_only_at_a_risk_that_was_taken(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    net = SmallNet(tmp_path, validators=1, heartbeat_ms=500)
    state = home_of(net, 0).last_sign
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(2)
        await net.kill(0)
        height = height_of_store(net)
        state.unlink()
        with pytest.raises(SignerStateMissing, match="allting keys unlock"):
            net._signer(0, home_of(net, 0), net.disk(0), fresh=False)
        unlock(state, KEY, CHAIN_ID, since_ms=net.now_ms())
        await net.start(nursery)
        assert signing(net, 0) == "waiting"
        height = height_of(net, 0)
        await trio.sleep(10)
        assert height_of(net, 0) == height, "nobody else can decide"
        await net.kill(0)
        unlock_at_risk(state, KEY, CHAIN_ID, height=height + 1)
        await net.start(nursery)
        await net.height(height + 3)
        nursery.cancel_scope.cancel()


def height_of_store(net: SmallNet) -> int:
    store = Store.open(home_of(net, 0).chain, inline=True)
    try:
        return store.height
    finally:
        store.close()
