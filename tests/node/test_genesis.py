"""Promises of the genesis file: its hash is that of its bytes, and a mistake names key and line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from consensus.params import CITY, TINY
from consensus.signing import sha256
from node.genesis import BadGenesis, GenesisFile, genesis_toml

TEXT = """\
chain_id = "ting-devnet-1"
time_ms = 1790000000000
application = "town"
application_version = 1

[modules]
governance = 2
coin = 1

[params]
preset = "TINY"
heartbeat_ms = 2000

[town.coin]
treasury = 1000000

[[town.coin.accounts]]
address = "ting1"
amount = 1
"""


def test_a_genesis_is_read_whole() -> None:
    genesis = GenesisFile.parse(TEXT.encode())
    assert genesis.chain_id == "ting-devnet-1"
    assert genesis.time_ms == 1_790_000_000_000
    assert (genesis.application, genesis.application_version) == ("town", 1)
    assert list(genesis.modules.items()) == [("coin", 1), ("governance", 2)]
    assert genesis.params == dataclasses.replace(TINY, heartbeat_ms=2000)
    assert genesis.town == {"coin": {"treasury": 1_000_000, "accounts": [{"address": "ting1", "amount": 1}]}}


def test_the_hash_is_that_of_the_bytes_so_a_comment_counts() -> None:
    assert GenesisFile.parse(TEXT.encode()).hash == sha256(TEXT.encode())
    assert GenesisFile.parse(TEXT.encode() + b"# x").hash != sha256(TEXT.encode())


def test_without_a_preset_a_town_has_the_parameters_of_a_city() -> None:
    assert GenesisFile.parse(TEXT.replace('preset = "TINY"\nheartbeat_ms = 2000\n', "").encode()).params == CITY


def test_what_the_writer_writes_reads_back() -> None:
    town = {"params": {"governance.voting_period_ms": 20_000}, "coin": {"accounts": [{"amount": 1}, {"amount": 2}]}}
    raw = genesis_toml(
        chain_id="ting-1", time_ms=5, modules={"coin": 1}, town=town, preset="TINY", params={"precision_ms": 400}
    )
    genesis = GenesisFile.parse(raw)
    assert genesis.town == town
    assert genesis.params == dataclasses.replace(TINY, precision_ms=400)
    assert genesis.raw == raw


def test_the_writer_refuses_what_the_reader_would() -> None:
    with pytest.raises(BadGenesis, match="chain_id"):
        genesis_toml(chain_id="Not A Chain", time_ms=5, modules={"coin": 1}, town={})


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ('"ting-devnet-1"', '"Ting"', 1, "chain_id"),
        ('"ting-devnet-1"', '"' + "a" * 51 + '"', 1, "chain_id"),
        ('"ting-devnet-1"', "5", 1, "chain_id"),
        ("1790000000000", "-1", 2, "time_ms"),
        ("1790000000000", "9007199254740992", 2, "time_ms"),
        ("1790000000000", "true", 2, "time_ms"),
        ('"town"', '"city.app:Town"', 3, "application"),
        ("application_version = 1", "application_version = '1'", 4, "application_version"),
        ("governance = 2", "governance = 0", 7, "modules.governance"),
        ("governance = 2", "Governance = 1", 7, "modules.Governance"),
        ("governance = 2\ncoin = 1\n", "", 6, "modules"),
        ("preset", "pre", 11, "params.pre"),
        ('"TINY"', '"VILLAGE"', 11, "params.preset"),
        ("2000", "'2000'", 12, "params.heartbeat_ms"),
        ("2000", "86400001", 12, "params.heartbeat_ms"),
        ("[params]", "[params]\nprecision_ms = 5", 11, "params.precision_ms"),
        ("[params]", "[parameters]", 10, "parameters"),
        ("time_ms = 1790000000000", "time = 1", 2, "time"),
    ],
)
def test_a_mistake_names_line_and_key(old: str, new: str, line: int, key: str) -> None:
    assert old in TEXT
    with pytest.raises(BadGenesis) as caught:
        GenesisFile.parse(TEXT.replace(old, new, 1).encode())
    assert str(caught.value).startswith(f"genesis.toml, line {line}: {key}: ")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(BadGenesis, match="time_ms: is missing"):
        GenesisFile.parse(TEXT.replace("time_ms = 1790000000000\n", "").encode())


def test_the_application_can_point_at_a_line_of_the_town() -> None:
    genesis = GenesisFile.parse(TEXT.encode())
    fault = genesis.fault(("town", "coin", "accounts", 0, "address"), "is no address")
    assert str(fault) == "genesis.toml, line 18: town.coin.accounts[0].address: is no address"


def test_bytes_that_are_not_text_and_absent_files_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(BadGenesis, match="line 1: not UTF-8"):
        GenesisFile.parse(b"\xff")
    with pytest.raises(BadGenesis, match="no genesis here"):
        GenesisFile.load(tmp_path / "genesis.toml")
    (tmp_path / "genesis.toml").write_text(TEXT)
    assert GenesisFile.load(tmp_path / "genesis.toml").chain_id == "ting-devnet-1"


def test_what_the_application_complains_of_is_named_with_its_line() -> None:
    genesis = GenesisFile.parse(TEXT.encode())
    lines = TEXT.splitlines()
    said = str(genesis.located(ValueError("town.coin.accounts[0].amount: -1 is not in 0…5")))
    assert said == f"genesis.toml, line {lines.index('amount = 1') + 1}: town.coin.accounts[0].amount: -1 is not in 0…5"
    assert str(genesis.located(ValueError("the set is empty: add one"))) == "the set is empty: add one"
