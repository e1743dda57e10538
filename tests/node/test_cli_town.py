"""The command line against a town that runs: act, ask, prove, invite, with real HTTP in between."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from node.admin import Admin
from node.cli.main import main
from node.files import write_atomically
from node.invite import Invite
from node.keys import KeyFile
from node.rpc.server import serve_rpc
from tests.node.served import ANNA, COINS, STRANGER, Served, address, served

Run = Callable[..., Any]


@asynccontextmanager
async def town_with_cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[tuple[Served, Run]]:
    """A town on a port, and the command line with a home that has its genesis and the keys of anna and the stranger."""
    monkeypatch.setenv("ALLTING_HOME", str(tmp_path))
    start_ms = time.time_ns() // 1_000_000
    with capture_logs():  # else the log of this process would stand in the commands' output
        async with served(tmp_path, start_ms=start_ms) as town, trio.open_nursery() as nursery:
            yield await _prepared(town, nursery, tmp_path, monkeypatch, capsys)
            nursery.cancel_scope.cancel()


async def _prepared(
    town: Served,
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[Served, Run]:
    url = await nursery.start(serve_rpc, town.services)
    await nursery.start(Admin(town.services, nursery.cancel_scope.cancel).serve)
    monkeypatch.setenv("ALLTING_NODE", url)
    write_atomically(tmp_path / "genesis.toml", town.services.genesis.raw)
    for name, seed in (("anna", ANNA), ("stranger", STRANGER)):
        KeyFile.create("account", seed=seed).write(tmp_path / "keys" / "accounts" / f"{name}.json")

    async def run(*arguments: str, code: int = 0) -> Any:
        """The JSON that a command prints; its exit code must be *code*."""
        capsys.readouterr()
        with trio.fail_after(30):
            ended = await trio.to_thread.run_sync(partial(_exit_code, [*arguments, "--json"]))
        shown = capsys.readouterr()
        assert ended == code, shown
        return json.loads(shown.out)

    return town, run


def _exit_code(arguments: list[str]) -> Any:
    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code
    raise AssertionError("main always exits")


async def test_pay_ask_and_prove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with town_with_cli(tmp_path, monkeypatch, capsys) as (_, run):
        sent = await run("tx", "coin", "send", "--to", "stranger", "--amount", "5", "--from", "anna")
        assert sent["result"]["code"] == ""
        assert (await run("tx", "show", sent["hash"]))["height"] == sent["height"]
        asked = await run("query", "coin", "balance", "--address", "stranger")
        assert asked["answer"] == COINS + 5
        proved = await run("query", "coin", "balance", "--address", address(STRANGER), "--prove")
        assert (proved["answer"], proved["stale"]) == (COINS + 5, False)
        earlier = str(sent["height"] - 1)
        assert (await run("query", "coin", "balance", "--address", "stranger", "--height", earlier))["answer"] == COINS
        raw = await run("query", "path", "coin/table/balances", "--args", json.dumps({"key": address(ANNA)}), "--prove")
        assert raw["answer"] == COINS - 5


async def test_what_the_town_refuses_has_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with town_with_cli(tmp_path, monkeypatch, capsys) as (_, run):
        too_much = ("tx", "coin", "send", "--to", "stranger", "--amount", str(2 * COINS), "--from", "anna")
        assert (await run(*too_much, code=1))["error"]["code"] == "coin.short"
        unpaid = ("tx", "coin", "send", "--to", "anna", "--amount", "1", "--from", "stranger")
        assert (await run(*unpaid, code=1))["error"]["code"] == "tx.fee_too_low"
        assert (await run(*unpaid, "--fee", "500"))["result"]["fee"] == 500
        negative = ("tx", "coin", "send", "--to", "anna", "--amount", "-1", "--from", "anna")
        assert (await run(*negative, code=2))["error"]["code"] == "query.bad_arguments"
        unprovable = ("query", "coin", "accounts", "--prove")
        assert (await run(*unprovable, code=2))["error"]["code"] == "query.not_provable"
        assert (await run("tx", "show", "00" * 32, code=1))["error"]["code"] == "rpc.not_found"


async def test_an_invite_with_a_voucher_pays_for_a_newcomer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with town_with_cli(tmp_path, monkeypatch, capsys) as (town, run):
        link = (await run("invite", "--voucher", "--from", "anna"))["link"]
        voucher = Invite.read(link, now_ms=town.services.now_ms()).terms.voucher
        assert voucher is not None
        KeyFile.create("account", seed=voucher).write(tmp_path / "keys" / "accounts" / "voucher.json")
        newcomer = await run("keys", "new", "carl", "--open")
        made = await run(
            "tx", "identity", "create", "--keys", json.dumps([newcomer["public_key"]]), "--from", "carl", "--voucher"
        )
        assert (made["result"]["code"], made["result"]["fee"]) == ("", 200)
        account = await run("query", "town", "account", "--address", "carl", "--prove")
        assert account["answer"]["next_nonce"] == 1


async def test_status_and_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with town_with_cli(tmp_path, monkeypatch, capsys) as (town, run):
        assert (await run("status"))["node_info"]["network"] == town.services.chain_id
        assert await run("peers") == []
        assert await run("peers", "bans") == []
        node_id = "ab" * 32
        assert (await run("peers", "ban", node_id, "--hours", "2"))["seconds"] == 7_200
        own = KeyFile.create("node")
        own.write(tmp_path / "keys" / "node.json")
        itself = await run("peers", "ban", own.public_key.hex(), code=2)
        assert "is this node itself" in itself["error"]["message"]
        (ban,) = await run("peers", "bans")
        assert (ban["node_id"], ban["reason"]) == (node_id, "operator")
        assert await run("peers", "unban", node_id[:8]) == {"node_id": node_id}
        assert await run("peers", "bans") == []


async def test_why_a_transaction_waits_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with town_with_cli(tmp_path, monkeypatch, capsys) as (town, run):
        late = town.payment(nonce=2)
        await town.services.submit([late.raw])
        answer = await run("mempool", "why", late.id.hex())
        assert (answer["where"], answer["missing_nonces"]) == ("pool", [0, 1])
        assert (await run("mempool", "why", "ab" * 32))["code"] == "tx.unknown"
        assert "64 hex digits" in (await run("mempool", "why", "abc", code=2))["error"]["message"]
