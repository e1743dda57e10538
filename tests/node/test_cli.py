"""The command line: one sentence for a mistake, JSON where asked for, never a traceback."""

from __future__ import annotations

import base64
import io
import json
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from consensus.address import to_text
from consensus.signing import public_key
from consensus.transaction import Transaction
from node.applications import application_for
from node.cli import node_commands
from node.cli.command import OWN
from node.cli.main import main
from node.cli.place import Place
from node.client import Client
from node.config import Config
from node.genesis import GenesisFile
from node.home import Home
from node.keys import KeyFile, words_of
from node.node import open_belongings


class Cli:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], home: Path) -> None:
        self._capsys = capsys
        self.home = home

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What the command printed; its exit code must be *code*."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        shown = self._capsys.readouterr()
        assert ended.value.code == code, shown.out + shown.err
        assert "Traceback" not in shown.err
        return shown.out if code == 0 or "--json" in arguments else shown.err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The JSON value that the command printed."""
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    home = tmp_path / "home"
    monkeypatch.setenv("ALLTING_HOME", str(home))
    monkeypatch.delenv("ALLTING_PASSWORD", raising=False)
    monkeypatch.delenv("ALLTING_NODE", raising=False)
    return Cli(capsys, home)


def test_help_names_every_group_and_the_modules_of_the_town(cli: Cli) -> None:
    shown = cli("--help")
    for command in ("init", "start", "join", "invite", "status", "keys", "tx", "query", "devnet", "validate-genesis"):
        assert command in shown
    assert "a genesis is given." in " ".join(shown.split()), "sentences are not cut"
    assert "for the next `up`." in " ".join(cli("devnet", "--help").split())
    assert "coin" in cli("tx", "--help")
    shown = cli("tx", "coin", "send", "--help")
    assert "--to ADDRESS|NAME" in shown
    assert "--amount NUMBER" in shown
    assert "--prove" in cli("query", "coin", "balance", "--help")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["dance"], "No such command"),
        (["tx", "coin", "dance"], "No such command"),
        (["tx", "coin", "send"], "Missing option"),
        (["init", "--preset", "HUGE"], "HUGE"),
        (["status"], "there is no node"),
        (["start"], "there is no node"),
        (["join", "https://example.org"], "no invite link"),
        (["keys", "show", "nobody"], "there is no account"),
        (["keys", "new", "../evil", "--open"], "can't be the name"),
        (["keys", "recover", "a", "--words", "one two", "--open"], "24 words"),
        (["keys", "import", "a", "/nonexistent"], "no such key file"),
        (["keys", "new", "a"], "--open"),
        (["validate-genesis", "/nonexistent.toml"], "/nonexistent.toml"),
        (["tx", "coin", "send", "--to", "x", "--amount", "1", "--from", "a"], "neither an account here nor an address"),
        (["tx", "coin", "send", "--to", "x", "--amount", "many", "--from", "a"], "--to"),
        (["tx", "identity", "create", "--keys", "{", "--from", "a"], "--keys must be JSON"),
        (["tx", "identity", "create", "--keys", "@/nonexistent", "--from", "a"], "can't be read"),
        (["query", "coin", "balance", "--address", "x", "--prove"], "x"),
        (["query", "path", "coin/balance", "--args", "[1]"], "must be a JSON object"),
        (["invite"], "there is no node in"),
        (["node", "id"], "there is no node in"),
        (["tx", "coin", "send", "--to", "x", "--amount", "1", "--from", "a"], "is no home: name one with --home"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(cli: Cli, arguments: list[str], text: str) -> None:
    cli.home.mkdir()
    shown = cli(*arguments, code=2)
    assert text in shown
    if arguments[0] not in ("start", "join"):
        assert text in cli.json(*arguments, code=2)["error"]["message"]


@pytest.mark.parametrize("arguments", [["invite"], ["invite", "--voucher", "--from", "anna"], ["stop"], ["start"]])
def test_in_the_folder_of_a_devnet_a_node_is_named_that_could_be_meant(cli: Cli, arguments: list[str]) -> None:
    cli.home.mkdir()
    (cli.home / "devnet.json").write_text("{}")
    assert f"say --home {cli.home}/node0" in cli(*arguments, code=2)


def test_coins_for_a_voucher_are_set_aside_only_where_a_node_gives_the_link(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("init")
    monkeypatch.setattr(node_commands, "send", lambda *_: pytest.fail("coins were set aside"))
    assert "no node runs" in cli("invite", "--voucher", code=2)


def test_a_home_without_a_voucher_says_so(cli: Cli, tmp_path: Path) -> None:
    cli("init")
    shown = cli("tx", "coin", "send", "--from", "operator", "--voucher", "--to", "operator", "--amount", "1", code=2)
    assert "has no voucher" in shown


def test_status_of_a_light_client_names_the_nodes_that_it_asks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "node_info": {"moniker": "light client", "network": "ting-a-1", "version": "0.1.0"},
        "sync_info": {"latest_block_height": 7, "latest_app_hash": "ab", "latest_block_time_ms": 0, "peers": 2}
        | {"catching_up": False},
        "validator_info": None,
        "light_info": {"primary": "http://one", "witnesses": ["http://two"]},
    }
    monkeypatch.setattr(Client, "call", lambda *_, **__: told)
    shown = cli("status", "--node", "http://127.0.0.1:9")
    assert "primary   http://one" in shown
    assert "witnesses http://two" in shown


def test_a_node_that_does_not_answer_is_a_failure_with_code(cli: Cli) -> None:
    assert cli.json("status", "--node", "http://127.0.0.1:9", code=1)["error"]["code"] == "cli.unreachable"


def test_init_makes_a_home_that_its_own_checks_accept(cli: Cli) -> None:
    made = cli.json("init", "--chain-id", "ting-a-1", "--moniker", "first", "--preset", "TINY")
    assert made["chain_id"] == "ting-a-1"
    home = Home(cli.home)
    assert Config.load(home.config).moniker == "first"
    genesis = GenesisFile.load(home.genesis)
    checked = cli.json("validate-genesis")
    assert (checked["hash"], checked["validators"]) == (genesis.hash.hex(), 1)
    assert cli.json("node", "id")["id"] == KeyFile.load(home.node_key).public_key.hex()
    assert home.validator_key.stat().st_mode & 0o777 == 0o600
    assert cli.json("keys", "list")[0]["name"] == "operator"
    assert "is a node already" in cli("init", code=2)


def test_init_refuses_a_folder_with_something_else_in_it(cli: Cli) -> None:
    cli.home.mkdir()
    (cli.home / "diary.txt").write_text("dear")
    assert "diary.txt" in cli("init", code=2)


def test_a_second_node_takes_the_genesis_of_the_first(cli: Cli, tmp_path: Path) -> None:
    cli("init", "--chain-id", "ting-a-1")
    other = tmp_path / "other"
    cli("init", "--genesis", str(cli.home / "genesis.toml"), "--home", str(other))
    assert (other / "genesis.toml").read_bytes() == (cli.home / "genesis.toml").read_bytes()


@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), BaseExceptionGroup("nursery", [BaseExceptionGroup("inner", [KeyboardInterrupt()])])]
)
def test_ctrl_c_is_one_line_wherever_it_comes(cli: Cli, monkeypatch: pytest.MonkeyPatch, stop: BaseException) -> None:
    def interrupted(*_: object) -> None:
        raise stop

    monkeypatch.setattr(Place, "admin", interrupted)
    assert cli("stop", code=130) == "interrupted\n"


def test_ctrl_c_while_the_command_loads_is_one_line() -> None:
    code = "import sys; sys.modules['click'] = None\ntry: import node.cli.main\nexcept ImportError: raise SystemExit(1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, "main loads nothing to interrupt"


def test_a_command_loads_no_more_than_it_needs() -> None:
    code = "import sys, node.cli.main\ntry: node.cli.main.main(['version'])\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"trio", "node.store", "node.backup", "node.admin"} & set(done.stdout.split())


def test_each_command_is_where_it_is_looked_for() -> None:
    listed = {name: import_module(f"node.cli.{module}").COMMANDS for name, module in OWN.items()}
    assert all(name in [command.name for command in commands] for name, commands in listed.items())
    assert {command.name for commands in listed.values() for command in commands} == set(OWN)


def test_a_group_with_more_than_ctrl_c_is_a_defect_and_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise BaseExceptionGroup("nursery", [KeyboardInterrupt(), ZeroDivisionError()])

    monkeypatch.setattr(Place, "admin", fails)
    with pytest.raises(BaseExceptionGroup):
        main(["stop"])


def test_ctrl_c_at_a_prompt_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupted)
    assert "interrupted" in cli("keys", "recover", "anna", "--open", code=130)


def test_words_come_from_standard_input_too_and_are_missed_by_name(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(bytes(32))
    monkeypatch.setattr("sys.stdin", io.StringIO(words + "\n"))
    assert cli.json("keys", "recover", "anna", "--open")["name"] == "anna"
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert "give them with --words" in cli("keys", "recover", "bjorn", "--open", code=2)


def test_the_version_is_an_option_too(cli: Cli) -> None:
    assert cli("--version").startswith("allting ")


def test_a_malformed_genesis_names_key_and_line(cli: Cli, tmp_path: Path) -> None:
    cli("init")
    broken = tmp_path / "genesis.toml"
    broken.write_bytes((cli.home / "genesis.toml").read_bytes().replace(b"time_ms", b"tyme_ms"))
    shown = cli("validate-genesis", str(broken), code=2)
    assert "tyme_ms" in shown
    assert "line" in shown


def test_what_an_option_names_is_refused_by_that_name(cli: Cli, tmp_path: Path) -> None:
    cli("init")
    genesis = str(cli.home / "genesis.toml")
    shown = cli("init", "--genesis", genesis, "--peer", "foo", "--home", str(tmp_path / "b"), code=2)
    assert shown.startswith("Error: --peer: 'foo' is not")
    assert not (tmp_path / "b").exists()
    assert f"there is no folder {tmp_path / 'none'}" in cli("backup", str(tmp_path / "none" / "b.tar"), code=2)


def test_a_key_is_made_shown_recovered_exported_and_imported(cli: Cli, tmp_path: Path) -> None:
    made = cli.json("keys", "new", "anna", "--open")
    assert len(made["words"].split()) == 24
    assert "already" in cli("keys", "new", "anna", "--open", code=2)
    back = cli.json("keys", "recover", "again", "--words", made["words"].upper(), "--open")
    assert back["address"] == made["address"]
    cli("keys", "export", "anna", str(tmp_path / "copy.json"))
    moved = cli.json("keys", "import", "moved", str(tmp_path / "copy.json"))
    assert moved["address"] == made["address"]
    assert {each["name"] for each in cli.json("keys", "list")} == {"anna", "again", "moved"}
    shown = cli.json("keys", "show", "anna", "--words")
    assert shown["words"] == made["words"]
    seed = KeyFile.load(cli.home / "keys" / "accounts" / "anna.json").unlock()
    assert words_of(seed) == made["words"]
    assert shown["public_key"] == public_key(seed).hex()


def test_a_wrong_password_is_said_to_be_wrong(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLTING_PASSWORD", "right")
    made = cli.json("keys", "new", "anna")
    assert made["password"] is True
    assert cli.json("keys", "show", "anna", "--words")["words"] == made["words"]
    monkeypatch.setenv("ALLTING_PASSWORD", "wrong")
    assert "wrong password" in cli("keys", "show", "anna", "--words", code=2)


def test_python_without_checks_is_refused(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-O", "-c", "from node.cli.main import main; main(['version'])"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 2
    assert "-O" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_addresses_are_known_by_the_names_of_accounts(cli: Cli) -> None:
    made = cli.json("keys", "new", "anna", "--open")
    key = KeyFile.load(cli.home / "keys" / "accounts" / "anna.json")
    assert to_text(key.address) == made["address"]


class Stub:
    """A client that records calls and gives prepared answers."""

    url = "http://stub"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def call(self, method: str, **params: Any) -> Any:
        """The prepared answer."""
        self.calls.append((method, params))
        return self.answers[method]

    def close(self) -> None:
        """Nothing to close."""


def test_a_voucher_pays_as_second_signer(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("init", "--chain-id", "ting-a-1")
    payer = cli.json("keys", "new", "voucher", "--open")
    stub = Stub(
        status={"node_info": {"network": "ting-a-1"}, "sync_info": {"catching_up": False}},
        next_nonce={"next_nonce": 4},
        broadcast_tx_sync={"code": "", "text": "", "hash": "ab"},
    )
    monkeypatch.setattr("node.cli.place.Client", lambda url: stub)
    cli("tx", "coin", "send", "--to", "operator", "--amount", "3", "--from", "operator", "--voucher", "--no-wait")
    [sent] = [params["tx"] for method, params in stub.calls if method == "broadcast_tx_sync"]
    body = Transaction.decode(base64.b64decode(sent)).body
    assert (body.nonce, body.fee) == (4, 200)
    assert body.fee_payer is not None
    assert to_text(body.fee_payer) == payer["address"]
    assert len(body.signers) == 2


def test_a_node_of_another_chain_is_not_spoken_to(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("init", "--chain-id", "ting-a-1")
    stub = Stub(status={"node_info": {"network": "other"}, "sync_info": {"catching_up": False}})
    monkeypatch.setattr("node.cli.place.Client", lambda url: stub)
    arguments = ("tx", "coin", "send", "--to", "operator", "--amount", "3", "--from", "operator")
    assert "on the chain other" in cli(*arguments, code=2)


def test_a_node_that_is_catching_up_is_sent_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would refuse what its peers take: it does not know the latest accounts and vouchers yet."""
    cli("init", "--chain-id", "ting-a-1")
    stub = Stub(status={"node_info": {"network": "ting-a-1"}, "sync_info": {"catching_up": True}})
    monkeypatch.setattr("node.cli.place.Client", lambda url: stub)
    arguments = ("tx", "coin", "send", "--to", "operator", "--amount", "3", "--from", "operator")
    assert "no longer says so" in cli(*arguments, code=1)
    assert [method for method, _ in stub.calls] == ["status"]


def test_in_the_folder_of_a_devnet_the_first_node_that_listens_is_asked(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as dead:
        gone = f"http://127.0.0.1:{dead.getsockname()[1]}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        alive = f"http://127.0.0.1:{listener.getsockname()[1]}"
        (tmp_path / "devnet.json").write_text(json.dumps({"nodes": [{"rpc": gone}, {"rpc": alive}]}))
        assert Place(tmp_path, None).url == alive
    assert Place(tmp_path, None).url == gone
    assert Place(tmp_path, "http://elsewhere").url == "http://elsewhere"


def test_the_keys_of_a_devnet_serve_each_of_its_nodes(tmp_path: Path) -> None:
    (tmp_path / "devnet.json").write_text("{}")
    for name in ("bjorn", "anna"):
        KeyFile.create("account").write(tmp_path / "keys" / "accounts" / f"{name}.json")
    place = Place(tmp_path / "node0", None)
    assert set(place.account_names()) == {"anna", "bjorn"}
    assert place.only_account() == "anna"


def test_a_validator_key_is_unlocked_once_its_memory_is_lost_and_not_without_need(cli: Cli) -> None:
    cli("init", "--chain-id", "ting-a-1", "--preset", "TINY")
    home = Home(cli.home)
    assert "start the node once" in cli("keys", "unlock", code=2)
    genesis = GenesisFile.load(home.genesis)
    with open_belongings(home, Config.load(home.config), genesis, application_for(genesis)):
        assert "in use" in cli("keys", "unlock", code=2)
    assert "not locked" in cli("keys", "unlock", code=2)
    home.last_sign.write_bytes(b"damaged")
    assert cli.json("keys", "unlock") == {"height": 1, "at_once": False}
    assert b'"waiting_since_ms": 1' in home.last_sign.read_bytes()
    assert "signs from height 1 on" in cli("keys", "unlock", "--accept-double-sign-risk")
    home.validator_key.unlink()
    assert "no validator key" in cli("keys", "unlock", code=2)
