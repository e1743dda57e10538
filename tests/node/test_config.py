"""Promises of the settings: what is written reads back, and every mistake names its key and line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from node.config import BadConfig, Config, P2pConfig, split_host_port

PEER = "ab" * 32 + "@127.0.0.1:26656"


def test_the_defaults_are_valid_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    Config.defaults().write(path)
    assert Config.load(path) == Config.defaults()


def test_every_setting_survives_writing(tmp_path: Path) -> None:
    config = dataclasses.replace(
        Config.defaults(),
        moniker='a "quoted" näme',
        p2p=P2pConfig(listen="[::1]:0", persistent_peers=(PEER,), external_address="town.example:1"),
    )
    config.write(tmp_path / "config.toml")
    assert Config.load(tmp_path / "config.toml") == config


def test_an_empty_file_gives_the_defaults() -> None:
    assert Config.parse("") == Config.defaults()


def test_every_setting_is_explained() -> None:
    lines = Config.defaults().render().splitlines()
    settings = [index for index, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert settings
    assert all(lines[index - 1].startswith("# ") for index in settings)


@pytest.mark.parametrize(
    ("text", "line", "key", "what"),
    [
        ("colour = 1", 1, "colour", "unknown key; known here: moniker, p2p"),
        ("\n\n[p2p]\nlisten = 3", 4, "p2p.listen", "must be a text in quotes, not int"),
        ("[p2p]\n# a comment\n\n[rpc]\nfoo = 1", 5, "rpc.foo", "unknown key"),
        ("[nonsense]", 1, "nonsense", "unknown key"),
        ("p2p = 3", 1, "p2p", "must be a table"),
        ('rpc.listen = "nowhere"', 1, "rpc.listen", "is not host:port"),
        ('[rpc]\nlisten = "a:70000"', 2, "rpc.listen", "port 0…65535"),
        ('[rpc]\nlisten = "::1:80"', 2, "rpc.listen", "in brackets"),
        ("[verify]\nprocesses = true", 2, "verify.processes", "must be a whole number, not bool"),
        ("[verify]\nprocesses = -1", 2, "verify.processes", "-1 is not in 0…64"),
        ('[log]\nformat = "xml"', 2, "log.format", "not one of console, json"),
        ('[p2p]\nseeds = "x"', 2, "p2p.seeds", "must be a list of texts"),
        ("[p2p]\nseeds = [1]", 2, "p2p.seeds", "must be a list of texts"),
        ('[p2p]\npersistent_peers = [\n  "x@y:1",\n]', 2, "p2p.persistent_peers", "nodeid@host:port"),
        (f'[p2p]\nseeds = ["{PEER}0000"]', 2, "p2p.seeds", "is not host:port"),
        ('moniker = ""', 1, "moniker", "printable"),
        ('moniker = "a\\u0007"', 1, "moniker", "printable"),
        ('[rpc]\nallowed_hosts = ["http://x"]', 2, "rpc.allowed_hosts", "not a host name"),
        ("[p2p]\nlisten = 'x:1'\n[p2p.more]\na = 1", 3, "p2p.more", "unknown key"),
    ],
)
def test_a_mistake_names_file_line_key_and_cure(text: str, line: int, key: str, what: str) -> None:
    with pytest.raises(BadConfig) as caught:
        Config.parse(text)
    message = str(caught.value)
    assert message.startswith(f"config.toml, line {line}: {key}: ")
    assert what in message


def test_what_is_not_toml_names_the_line() -> None:
    with pytest.raises(BadConfig, match=r"not TOML: .*line 2"):
        Config.parse("moniker = 'x'\n[p2p\n")


def test_a_file_that_is_not_text_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"moniker = 'x'\n\xff")
    with pytest.raises(BadConfig, match="line 2: not UTF-8"):
        Config.load(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="allting init"):
        Config.load(tmp_path / "config.toml")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(BadConfig, match="larger than"):
        Config.load(path)


def test_host_and_port_are_split() -> None:
    assert split_host_port("127.0.0.1:0") == ("127.0.0.1", 0)
    assert split_host_port("[::1]:65535") == ("::1", 65535)
