"""``allting debug state-diff`` names what differs as people call it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.params import HOUR_MS
from node.home import Home
from node.store import Store
from tests.node.served import ANNA, START_MS, STRANGER, address, served, text
from tests.node.test_cli import Cli, cli

__all__ = ["cli"]


@pytest.fixture
def old(cli: Cli) -> tuple[Home, int]:
    """A home whose chain has a payment of 5 coins, and its height."""
    home = Home(cli.home)
    height = 0

    async def live() -> None:
        nonlocal height
        # So that an hour ends in between.
        async with served(home.path, start_ms=(START_MS // HOUR_MS + 1) * HOUR_MS - 1_500) as town:
            home.genesis.write_bytes(town.services.genesis.raw)
            town.services.config.write(home.config)
            await town.height(1)
            height = (await town.call("broadcast_tx_commit", tx=text(town.payment(5))))["height"]
            await town.height(height + 2)

    trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))
    return home, height


def test_two_heights_of_a_home(cli: Cli, old: tuple[Home, int]) -> None:
    home, height = old
    found = cli.json("debug", "state-diff", f"{home.path}@{height - 1}", f"{home.path}@{height}")
    modules = {each["module"]: each for each in found["modules"]}
    assert [found[side]["height"] for side in ("left", "right")] == [height - 1, height]
    coins = {entry["entry"]: (entry["left"], entry["right"]) for entry in modules["coin"]["entries"]}
    assert coins[f"balances[{address(ANNA)}]"] == (1_000_000, 999_995)
    assert coins[f"balances[{address(STRANGER)}]"] == (1_000_000, 1_000_005)
    assert {"entry": f"nonces[{address(ANNA)}]", "left": None, "right": 1} in modules["town"]["entries"]
    assert "identity" not in modules
    found = cli.json("debug", "state-diff", f"{home.path}@0", f"{home.path}@{height + 1}")
    (chain,) = [each for each in found["modules"] if each["module"] == "chain"]
    assert [(entry["entry"], entry["left"]) for entry in chain["entries"]] == [
        (f"hour[{START_MS // HOUR_MS + 1}]", None)
    ]
    shown = cli("debug", "state-diff", f"{home.path}@{height - 1}", f"{home.path}@{height}", "--limit", "1")
    assert "→" in shown
    assert "more with --limit" in shown


def test_a_home_and_its_backup_are_equal_at_one_height(cli: Cli, old: tuple[Home, int], tmp_path: Path) -> None:
    home, _ = old
    cli("backup", str(tmp_path / "copy.tar"))
    assert "the states are equal" in cli("debug", "state-diff", str(home.path), str(tmp_path / "copy.tar"))


def test_a_home_without_its_application_is_shown_in_hex(cli: Cli, old: tuple[Home, int], tmp_path: Path) -> None:
    home, height = old
    other = tmp_path / "other"
    shutil.copytree(home.path, other)
    for each in (home.genesis, other / "genesis.toml"):
        each.write_text(each.read_text().replace('application = "town"', 'application = "village"'))
    found = cli.json("debug", "state-diff", f"{home.path}@{height}", f"{other}@{height - 1}")
    (coin,) = [each for each in found["modules"] if each["module"] == "coin"]
    assert bytes.fromhex(coin["entries"][0]["entry"]).startswith(b"balances\x00")


@pytest.mark.parametrize(
    ("left", "right", "what"),
    [
        ("HOME", "HOME", "one state twice"),
        ("HOME@1", "HOME@9999", "name heights that both have"),
        ("HOME", "/nonexistent", "is not there"),
        ("HOME", "EMPTY", "neither a home with a chain nor a backup"),
        ("HOME", "FILE", "no backup"),
    ],
)
def test_a_mistake_says_what_to_do(
    cli: Cli, old: tuple[Home, int], tmp_path: Path, left: str, right: str, what: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x" * 10_000)
    places = {"HOME": str(old[0].path), "EMPTY": str(tmp_path / "empty"), "FILE": str(tmp_path / "file")}
    named = [places.get(each.partition("@")[0], each) + "".join(each.partition("@")[1:]) for each in (left, right)]
    assert what in cli("debug", "state-diff", *named, code=2)
    store = Store.open(old[0].chain)
    assert "in use" in cli("debug", "state-diff", str(old[0].path), str(tmp_path / "empty"), code=2)
    store.close()
