"""A newcomer gets the genesis that its link names from whichever peer has it, and says why when nobody does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.signing import public_key
from node.joining import NobodyAnswered, fetch_genesis
from tests.node.small_net import CHAIN_ID, SmallNet, seed


def _address(number: int) -> str:
    return f"{public_key(seed('node', number)).hex()}@node{number}:1000"


@asynccontextmanager
async def _net(folder: Path) -> AsyncIterator[SmallNet]:
    net = SmallNet(folder, validators=2)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        yield net
        nursery.cancel_scope.cancel()


async def _fetched(net: SmallNet, *peers: str, genesis_hash: bytes | None = None) -> bytes:
    return await fetch_genesis(
        chain_id=CHAIN_ID,
        genesis_hash=genesis_hash or net.genesis.hash,
        peers=peers,
        timeout_s=20,
        transport=net.links.transport("newcomer"),
    )


async def test_the_genesis_comes_from_a_peer_in_the_link(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with _net(tmp_path) as net:
        assert await _fetched(net, _address(0)) == net.genesis.raw


async def test_one_reachable_peer_is_enough(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with _net(tmp_path) as net:
        assert await _fetched(net, _address(7), _address(1)) == net.genesis.raw


async def test_nobody_there_is_said_in_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with _net(tmp_path) as net:
        began = trio.current_time()
        with pytest.raises(NobodyAnswered, match="none of the 1 peers"):
            await _fetched(net, _address(7))
        assert trio.current_time() - began < 25


async def test_a_peer_that_sends_another_file_is_left_and_named(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _net(tmp_path) as net:
        monkeypatch.setattr(net.engines[0].store, "genesis_bytes", lambda: b"forged")
        assert await _fetched(net, _address(0), _address(1)) == net.genesis.raw
        net.links.sever("newcomer", "node1")
        with pytest.raises(NobodyAnswered, match=f"; {public_key(seed('node', 0)).hex()[:12]} sent another file"):
            await _fetched(net, _address(0))
