"""The operator's socket: private, bounded, and plain about what it can't do."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from consensus.params import TINY
from consensus.signing import sha256
from node.admin import SOCKET_NAME, Admin, AdminRefused, NotRunning, call
from node.invite import Invite
from tests.node.served import Served, served


@asynccontextmanager
async def administered(folder: Path, stopped: trio.Event) -> AsyncIterator[Served]:
    """A town with its socket."""
    async with served(folder) as town, trio.open_nursery() as nursery:
        await nursery.start(Admin(town.services, stopped.set).serve)
        yield town
        nursery.cancel_scope.cancel()


async def test_only_the_owner_can_use_the_socket_and_it_goes_with_the_node(tmp_path: Path) -> None:
    async with administered(tmp_path, trio.Event()):
        assert stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode) == 0o600
    assert not (tmp_path / SOCKET_NAME).exists()
    with pytest.raises(NotRunning, match="allting start"):
        call(tmp_path, "peers")


async def test_a_home_deep_in_the_tree_has_a_socket_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    async with administered(deep, trio.Event()):
        assert (await trio.to_thread.run_sync(call, deep, "peers"))["peers"] == []


async def test_an_invite_leads_to_this_node_and_its_latest_block(tmp_path: Path) -> None:
    voucher = sha256(b"voucher")
    async with administered(tmp_path, trio.Event()) as town:
        await town.height(1)
        answer = await trio.to_thread.run_sync(lambda: call(tmp_path, "invite", voucher=voucher.hex()))
        terms = Invite.read(answer["link"], now_ms=town.services.now_ms()).terms
        assert terms.genesis_hash == town.services.genesis.hash
        assert terms.block_id == town.services.store.header(terms.height).id
        assert terms.voucher == voucher
        assert terms.peers == (f"{town.services.network.node_id.hex()}@node:1000",)
        assert terms.expires_ms - terms.issued_ms == TINY.trusting_period_ms


async def test_stop_is_answered_and_then_done(tmp_path: Path) -> None:
    stopped = trio.Event()
    async with administered(tmp_path, stopped):
        assert await trio.to_thread.run_sync(call, tmp_path, "stop") == {"stopping": True}
        with trio.fail_after(5):
            await stopped.wait()


async def test_what_it_does_not_know_it_refuses(tmp_path: Path) -> None:
    async with administered(tmp_path, trio.Event()) as town:
        with pytest.raises(AdminRefused, match="there are stop, invite, peers, backup"):
            await trio.to_thread.run_sync(call, tmp_path, "dance")
        for voucher in ("00", "zz", 5):
            with pytest.raises(AdminRefused, match="32 bytes"):
                await trio.to_thread.run_sync(partial(call, tmp_path, "invite", voucher=voucher))
        admin = Admin(town.services, lambda: None)
        for line in (b"", b"{", b"5\n", b"[]\n", b"\xff\n", b"{}\n"):
            answer, then = admin.answer(line)
            assert "error" in answer
            assert then is None


async def test_bans_by_hand_are_checked_and_lifted(tmp_path: Path) -> None:
    async with administered(tmp_path, trio.Event()):

        async def ask(command: str, **arguments: Any) -> object:
            return await trio.to_thread.run_sync(partial(call, tmp_path, command, **arguments))

        for node_id in ("", "ab", "AB" * 32, 5, "ab" * 33, "abcdef01"):
            with pytest.raises(AdminRefused, match=r"64 hex digits|no peer and no ban"):
                await ask("ban", node_id=node_id, seconds=10)
        for seconds in (0, "1", True, 10**9):
            with pytest.raises(AdminRefused, match="seconds"):
                await ask("ban", node_id="ab" * 32, seconds=seconds)
        with pytest.raises(AdminRefused, match="neither a ban nor points"):
            await ask("unban", node_id="ab" * 32)
        await ask("ban", node_id="ab" * 32, seconds=10)
        await ask("unban", node_id="abababab")
