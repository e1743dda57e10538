"""Where a light client's trust begins: a link, a block id, or what its folder has; and what is no beginning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from consensus.light import TrustedBlock, TrustedGenesis
from consensus.signing import public_key
from node.config import Config, RpcConfig
from node.invite import Invite, Terms
from node.light.begin import Beginning, find_root
from node.light.faults import BadBeginning, MemoryDamaged, NoRoot
from node.light.memory import BLOCKS_FILE, DIVERGENCE_FILE, LightMemory
from node.light.root import Root
from node.trust_root import TrustRoot
from tests.node.light_net import DirectSource, honest, proxy
from tests.node.served import NODE, Served, served

Clock = trio.testing.MockClock


def invite(town: Served, height: int, **changes: Any) -> Invite:
    """A link of the town's node, as if it had been issued at *height*."""
    services = town.services
    block_id = services.store.header(height).id if height else services.genesis.hash
    terms = Terms(
        chain_id=services.chain_id,
        genesis_hash=services.genesis.hash,
        height=height,
        block_id=block_id,
        time_ms=services.now_ms(),
        issued_ms=services.now_ms(),
        expires_ms=services.now_ms() + 1_000,
        peers=(f"{services.network.node_id.hex()}@node:1000",),
        voucher=None,
        issuer=public_key(NODE),
    )
    return Invite.issue(replace(terms, **changes), NODE)


async def begun(folder: Path, sources: list[DirectSource], **how: Any) -> Root:
    """Where trust begins in *folder*."""
    genesis = folder / "genesis.toml"
    asked = Beginning(
        folder=folder,
        urls=[],
        genesis=genesis if await trio.Path(genesis).exists() else None,
        rpc=RpcConfig(),
        **how,
    )
    return await find_root(asked, sources, LightMemory(folder))


async def test_a_link_is_enough_and_the_folder_keeps_it(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(6)
        folder = tmp_path / "light"
        root = await begun(folder, honest(town), invite=invite(town, 5))
        assert isinstance(root.trusted, TrustedBlock)
        assert (root.trusted.height, root.genesis.hash) == (5, town.services.genesis.hash)
        again = await begun(folder, honest(town))
        assert again.trusted == root.trusted
        early = await begun(tmp_path / "early", honest(town), invite=invite(town, 0))
        assert isinstance(early.trusted, TrustedGenesis)


async def test_a_block_id_is_enough_the_way_back_finds_the_genesis(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(31)
        for height in (30, 1):
            block = TrustRoot(height, town.services.store.header(height).id)
            root = await begun(tmp_path / str(height), honest(town), block=block)
            assert (root.trusted.height, root.genesis.hash) == (height, town.services.genesis.hash)
        root = await begun(tmp_path / "30", honest(town), block=block)
        assert root.trusted.height == 1


async def test_who_shows_another_root_is_passed_over(tmp_path: Path, autojump_clock: Clock) -> None:
    """By the hash that the user has; if all do, nothing begins."""

    def lies(method: str, answer: Any) -> Any:
        if method == "genesis":
            answer["document"] += "# more\n"
        elif method == "light_block":
            answer["header"]["app_hash"] = "00" * 32
        else:
            answer["headers"] = [{**header, "app_hash": "00" * 32} for header in answer["headers"]]
        return answer

    async with served(tmp_path) as town:
        await town.height(30)
        liar = DirectSource(town, "http://liar", lies)
        gone = DirectSource(town, "http://gone")
        gone.gone = True
        block = TrustRoot(28, town.services.store.header(28).id)
        for folder, how in (("link", {"invite": invite(town, 5)}), ("block", {"block": block})):
            root = await begun(tmp_path / folder, [gone, liar, *honest(town)], **how)
            assert root.genesis.hash == town.services.genesis.hash
            with pytest.raises(NoRoot, match="fresh link") as refusal:
                await begun(tmp_path / f"{folder}2", [gone, liar], **how)
            assert "http://liar" in str(refusal.value)
            assert not await trio.Path(tmp_path / f"{folder}2" / "genesis.toml").exists()
        odd = DirectSource(
            town, "http://odd", lambda method, answer: {"document": 7} if method == "genesis" else answer
        )
        with pytest.raises(NoRoot, match="no text"):
            await begun(tmp_path / "odd", [odd], invite=invite(town, 5))


async def test_a_block_that_no_node_has_yet_can_t_be_begun_with(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(2)
        with pytest.raises(NoRoot, match="height 900"):
            await begun(tmp_path / "light", honest(town), block=TrustRoot(900, bytes(32)))


async def test_a_folder_that_has_nothing_says_what_is_needed(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        with pytest.raises(BadBeginning, match="--trust LINK"):
            await begun(tmp_path / "light", honest(town))


async def test_a_node_s_home_and_another_chain_s_are_left_alone(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(6)
        folder = tmp_path / "light"
        await begun(folder, honest(town), invite=invite(town, 5))
        file = trio.Path(folder / "genesis.toml")
        other = (await file.read_text()).replace("served-1", "other-1")
        await file.write_text(other)
        with pytest.raises(BadBeginning, match="another chain"):
            await begun(folder, honest(town), invite=invite(town, 5))
        await file.write_text(other.replace("other-1", "served-1"))
        Config.defaults().write(folder / "config.toml")
        with pytest.raises(BadBeginning, match="home of a node"):
            await begun(folder, honest(town), invite=invite(town, 5))


async def test_a_link_that_contradicts_what_is_believed_is_no_beginning(tmp_path: Path, autojump_clock: Clock) -> None:
    """A fresh one that agrees is: trust begins anew at its block."""
    async with served(tmp_path) as town:
        await town.height(6)
        folder = tmp_path / "light"
        async with proxy(folder, honest(town)) as light:
            await light.call("header", height=5)
        other = invite(town, 5, block_id=bytes(32))

        def agrees(method: str, answer: Any) -> Any:
            return answer

        with pytest.raises(NoRoot):
            await begun(folder, [DirectSource(town, "http://node", agrees)], invite=other)
        root = await begun(folder, honest(town), invite=invite(town, 5))
        assert root.trusted.height == 5
        assert not await trio.Path(folder / BLOCKS_FILE).exists()


async def test_after_two_chains_only_a_root_that_decides_between_them_begins(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    """The old link, which a script gives again and again, does not."""
    async with served(tmp_path) as town:
        await town.height(6)
        folder = tmp_path / "light"
        await begun(folder, honest(town), invite=invite(town, 3))
        LightMemory(folder).write_divergence({"common_height": 3})
        with pytest.raises(BadBeginning, match="part after height 3"):
            await begun(folder, honest(town), invite=invite(town, 3))
        assert (await begun(folder, honest(town), invite=invite(town, 4))).trusted.height == 4
        assert LightMemory(folder).divided_after() is None
        await trio.Path(folder / DIVERGENCE_FILE).write_text("{")
        with pytest.raises(MemoryDamaged, match="damaged"):
            LightMemory(folder).require_undivided()
