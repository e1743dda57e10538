"""Joining and starting: an empty folder becomes a node by one link, and what stops a node is one sentence."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from consensus.params import DAY_MS
from consensus.signing import public_key, sha256
from node.cli import running
from node.cli.main import main
from node.config import Config
from node.home import Home
from node.invite import Invite, Terms
from node.joining import NobodyAnswered
from node.keys import KeyFile
from node.rpc.connections import PortInUse
from node.store import StoreInUse
from node.trust_root import read_trust_root
from tests.node.served import NODE, genesis

VOUCHER = sha256(b"voucher")
PEER = f"{public_key(NODE).hex()}@127.0.0.1:26656"


def link(**changes: Any) -> str:
    """An invite to the town of the tests."""
    now_ms = time.time_ns() // 1_000_000
    file = genesis()
    fields: dict[str, Any] = {
        "chain_id": file.chain_id,
        "genesis_hash": file.hash,
        "height": 7,
        "block_id": sha256(b"block"),
        "time_ms": now_ms,
        "issued_ms": now_ms,
        "expires_ms": now_ms + DAY_MS,
        "peers": (PEER,),
        "voucher": VOUCHER,
        "issuer": public_key(NODE),
    }
    return Invite.issue(Terms(**{**fields, **changes}), NODE).link()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Homes that were started, instead of starting them; the genesis comes without a network."""
    homes: list[Path] = []
    monkeypatch.setattr(running, "run", homes.append)
    monkeypatch.setattr(running, "fetch", lambda terms: genesis().raw)
    return homes


def ends(*arguments: str) -> Any:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_a_link_makes_a_home_with_nothing_else_given(tmp_path: Path, started: list[Path]) -> None:
    home = Home(tmp_path / "new")
    assert ends("join", link(), "--home", str(home.path), "--moniker", "fifth") == 0
    assert started == [home.path]
    config = Config.load(home.config)
    assert (config.moniker, config.p2p.persistent_peers) == ("fifth", (PEER,))
    assert home.genesis.read_bytes() == genesis().raw
    root = read_trust_root(home.trust_root)
    assert root is not None
    assert (root.height, root.block_id) == (7, sha256(b"block"))
    assert KeyFile.load(home.path / "keys" / "accounts" / "voucher.json").unlock() == VOUCHER
    assert KeyFile.load(home.validator_key, kind="validator").public_key != KeyFile.load(home.node_key).public_key


@pytest.fixture
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home folder, and no word in the environment of where a node lives."""
    path = tmp_path / "user"
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.delenv("ALLTING_HOME", raising=False)
    return path


@pytest.mark.usefixtures("user_home")
def test_in_an_empty_folder_a_link_is_all_that_is_needed_from_then_on(
    tmp_path: Path, started: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert ends("join", link(), "--no-start") == 0
    assert (here / "config.toml").exists()
    assert ends("start") == 0
    assert ends("join", link()) == 0
    assert started == [here, here]
    assert ends("keys", "new", "erik", "--open") == 0
    assert (here / "keys" / "accounts" / "erik.json").exists()
    assert ends("init") == 2
    assert f"{here} is a node already" in capsys.readouterr().err


@pytest.mark.parametrize("foreign", ["diary.txt", "config.toml"])
def test_a_folder_with_something_else_in_it_is_left_alone_for_the_one_of_the_user(
    foreign: str, tmp_path: Path, user_home: Path, started: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / foreign).write_text("dear")
    monkeypatch.chdir(here)
    assert ends("join", link()) == 0
    assert ends("start") == 0
    assert started == [user_home / ".allting"] * 2
    assert [each.name for each in here.iterdir()] == [foreign]


def test_what_is_given_counts_more_than_the_folder(
    tmp_path: Path, user_home: Path, started: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert ends("init") == 0
    monkeypatch.setenv("ALLTING_HOME", str(tmp_path / "other"))
    assert ends("join", link()) == 0
    assert ends("join", link(), "--home", "~/third") == 0
    assert started == [tmp_path / "other", user_home / "third"]


def test_the_same_link_again_starts_the_node_that_is_there(tmp_path: Path, started: list[Path]) -> None:
    home = tmp_path / "new"
    assert ends("join", link(), "--home", str(home), "--no-start") == 0
    assert started == []
    key = (home / "keys" / "node.json").read_bytes()
    assert ends("join", link(voucher=None), "--home", str(home)) == 0
    assert started == [home]
    assert (home / "keys" / "node.json").read_bytes() == key


def test_addresses_to_listen_on_can_be_given(tmp_path: Path, started: list[Path]) -> None:
    home = tmp_path / "new"
    listen = ("--p2p-listen", "127.0.0.1:4001", "--rpc-listen", "[::1]:4002")
    assert ends("join", link(), "--home", str(home), *listen) == 0
    config = Config.load(home / "config.toml")
    assert (config.p2p.listen, config.rpc.listen) == ("127.0.0.1:4001", "[::1]:4002")
    assert ends("join", link(), "--home", str(tmp_path / "b"), "--p2p-listen", "nowhere") == 2


def test_a_home_of_another_chain_is_left_alone(
    tmp_path: Path, started: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "new"
    ends("join", link(), "--home", str(home), "--no-start")
    before = (home / "config.toml").read_bytes()
    assert ends("join", link(genesis_hash=sha256(b"other")), "--home", str(home)) == 2
    assert "already a node of served-1" in capsys.readouterr().err
    assert (home / "config.toml").read_bytes() == before


def test_settings_that_differ_from_those_of_a_home_that_has_joined_are_refused(
    tmp_path: Path, started: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "new"
    ends("join", link(), "--home", str(home), "--no-start", "--moniker", "erik", "--rpc-listen", "127.0.0.1:5")
    again = ["join", link(), "--home", str(home), "--no-start"]
    assert ends(*again, "--moniker", "eric", "--rpc-listen", "127.0.0.1:6", "--p2p-listen", "127.0.0.1:7") == 2
    said = capsys.readouterr().err
    assert "another moniker, p2p.listen, rpc.listen" in said
    assert str(home / "config.toml") in said
    assert ends(*again, "--moniker", "erik", "--rpc-listen", "127.0.0.1:5") == 0
    assert "starting" not in capsys.readouterr().err
    assert started == []


def test_another_genesis_than_the_link_names_is_refused(
    tmp_path: Path, started: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends("join", link(genesis_hash=sha256(b"other")), "--home", str(tmp_path / "new")) == 1
    assert "another genesis" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (StoreInUse("in use by 5"), "in use by 5", 1),
        (PortInUse("port 5 is taken"), "port 5 is taken", 1),
        (OSError(98, "Address already in use", "port 5"), "port 5: Address already in use (EADDRINUSE)", 2),
    ],
)
def test_what_stops_a_node_is_one_sentence_on_the_terminal_and_in_the_log(
    error: Exception,
    said: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def stops(home: Path) -> None:
        async with trio.open_nursery():
            raise error

    monkeypatch.setattr(running, "run_node", stops)
    assert ends("init", "--home", str(tmp_path / "new")) == 0
    capsys.readouterr()
    with capture_logs() as logs:
        assert ends("start", "--home", str(tmp_path / "new")) == code
    assert capsys.readouterr().err == f"Error: {said}\n"
    assert [line["why"] for line in logs if line["event"] == "node_stopped"] == [said]


def test_peers_that_do_not_answer_are_said_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nobody(**_: Any) -> bytes:
        raise NobodyAnswered("none of the peers answered")

    monkeypatch.setattr(running, "fetch_genesis", nobody)
    monkeypatch.setattr("node.log.configure", lambda **_: None)  # it would outlive this test's streams
    assert ends("join", link(), "--home", str(tmp_path / "new")) == 1
    assert "none of the peers answered" in capsys.readouterr().err
