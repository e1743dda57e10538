"""Issue line 8: bad input changes nothing, is answered with a stable code and a sentence, and never ends a node."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from consensus.codec import encode
from consensus.shape import shape_of
from consensus.transaction import NONCE_AHEAD_MAX, Body, Message
from node.keys import KeyFile
from tests.stories.network import ALLTING, Network, rpc, run, succeed

pytestmark = pytest.mark.story


@pytest.fixture(scope="module")
def town() -> Iterator[Network]:
    """One network for all stories of this file: nothing here may change it."""
    with tempfile.TemporaryDirectory(prefix="allting-") as folder:
        net = Network(Path(folder) / "net")
        try:
            net.up()
            yield net
        finally:
            net.end()


@pytest.fixture(autouse=True)
def _all_nodes_live_on(town: Network) -> Iterator[None]:
    """After each story every node is the same process as before (but node 3, which one restarts), and decides."""
    before = [node.process for node in town.record.nodes[:3]]
    yield
    assert [node.process for node in town.record.nodes[:3]] == before
    assert all(node.running() for node in town.record.nodes)
    town.until_height(town.height() + 1)


def body(town: Network, key: KeyFile, **changes: Any) -> Body:
    """A good transfer's body, but for *changes*."""
    nonce = rpc(town.urls[0], "query", path="town/account", args={"address": town.address("david")})["answer"]
    fields: dict[str, Any] = {
        "chain_id": town.record.chain_id,
        "sender": key.address,
        "nonce": nonce["next_nonce"],
        "valid_until_ms": time.time_ns() // 1_000_000 + 60_000,
        "fee": 0,
        "fee_payer": None,
        "messages": (Message("coin", "send", (town.key("anna").address, 1)),),
        "signers": (key.public_key,),
    }
    return Body(**{**fields, **changes})


def code(town: Network, raw: bytes) -> str:
    """What node 0 says to the transaction *raw*, handed in."""
    answer = rpc(town.urls[0], "broadcast_tx_sync", tx=base64.b64encode(raw).decode())
    assert answer["text"], "every refusal comes with a sentence"
    return str(answer["code"])


Change = Callable[[Body, KeyFile], bytes]


def signed(made: Body, key: KeyFile) -> bytes:
    """The bytes of *made*, signed."""
    return made.signed(key.unlock()).raw


def changed(**changes: Any) -> Change:
    """A signed transaction with *changes* in its body."""
    return lambda made, key: signed(dataclasses.replace(made, **changes), key)


def sent(amount: int) -> Change:
    """A transfer of *amount*."""
    return changed(messages=(Message("coin", "send", (bytes(20), amount)),))


def nested(depth: int) -> Any:
    """Arrays in arrays."""
    value: Any = ()
    for _ in range(depth):
        value = (value,)
    return value


def raw_with(made: Body, key: KeyFile, *, messages: Any) -> bytes:
    """Bytes around *messages* that no careful client would write, under any signature."""
    fields = shape_of(Body).to_wire(made)
    assert isinstance(fields, tuple)
    return encode((*fields[:7], messages, fields[8], (bytes(64),)))


def with_long_integer(raw: bytes) -> bytes:
    """*raw* with its first field, version 1, as a two-byte integer."""
    assert raw[1] == 1
    return raw[:1] + b"\xcc\x01" + raw[2:]


BAD_TRANSACTIONS: dict[str, tuple[Change, str]] = {
    "wrong signature": (
        lambda made, key: signed(made, key)[:-1] + bytes([signed(made, key)[-1] ^ 1]),
        "tx.bad_signature",
    ),
    "wrong chain": (changed(chain_id="ting-elsewhere-1"), "tx.wrong_chain"),
    "nonce too far ahead": (changed(nonce=NONCE_AHEAD_MAX + 1_000), "tx.nonce_too_far"),
    "expired": (changed(valid_until_ms=1), "tx.expired"),
    "unknown message": (changed(messages=(Message("coin", "steal", ()),)), "tx.unknown_message"),
    "negative amount": (sent(-1), "tx.bad_arguments"),
    "overflowing amount": (sent(2**53), "tx.bad_arguments"),
    "integer beyond the wire": (sent(2**64 - 1), "tx.bad_arguments"),
    "unpayable fee": (changed(fee=2**50), "tx.unpayable_fee"),
    "trailing bytes": (lambda made, key: signed(made, key) + b"\0", "bad_message.trailing_bytes"),
    "non-canonical encoding": (lambda made, key: with_long_integer(signed(made, key)), "bad_message.not_canonical"),
    "too large": (lambda made, key: signed(made, key) + bytes(2**17), "tx.too_large"),
    "deep nesting": (lambda made, key: raw_with(made, key, messages=nested(40)), "bad_message.too_deep"),
    "deepest nesting": (lambda made, key: b"\x91" * 60_000, "bad_message.malformed"),
    "no messages": (lambda made, key: raw_with(made, key, messages=()), "bad_message.out_of_range"),
    "nothing": (lambda made, key: b"", "bad_message.malformed"),
}


@pytest.mark.parametrize("name", BAD_TRANSACTIONS)
def test_a_bad_transaction_is_answered_with_its_code(town: Network, name: str) -> None:
    change, expected = BAD_TRANSACTIONS[name]
    key = town.key("david")
    assert code(town, change(body(town, key), key)) == expected


def test_a_used_nonce_is_refused(town: Network) -> None:
    key = town.key("cilla")
    good = dataclasses.replace(body(town, key), sender=key.address, nonce=0)
    first = rpc(town.urls[0], "broadcast_tx_commit", tx=base64.b64encode(signed(good, key)).decode())
    assert first["result"]["code"] == ""
    again = dataclasses.replace(good, valid_until_ms=good.valid_until_ms + 1)
    assert code(town, signed(again, key)) == "tx.nonce_used"


def post(town: Network, payload: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a POST to node 0, as bytes make it."""
    host, port = town.urls[0].removeprefix("http://").split(":")
    connection = HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("POST", "/", payload, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_body_of_100_mb_is_refused_before_it_is_read(town: Network) -> None:
    host, port = town.urls[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {100 * 2**20}\r\n\r\n"
        connection.sendall(head.encode())
        assert b"rpc.too_large" in _all_of(connection)


def _all_of(connection: socket.socket) -> bytes:
    data = b""
    while b"}}" not in data:
        chunk = connection.recv(65_536)
        if not chunk:
            break
        data += chunk
    return data


def test_a_batch_of_10000_calls_is_refused_whole(town: Network) -> None:
    calls = [{"jsonrpc": "2.0", "id": number, "method": "health"} for number in range(10_000)]
    status, answer = post(town, json.dumps(calls).encode())
    assert (status, answer["error"]["data"]["code"]) == (413, "rpc.batch_too_large")


def test_a_foreign_host_header_is_refused(town: Network) -> None:
    status, answer = post(town, b"{}", Host="evil.example")
    assert (status, answer["error"]["data"]["code"]) == (403, "rpc.foreign_host")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"jsonrpc":"2.0","id":1}',
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","id":1e999,"method":"health"}',
        b'{"jsonrpc":"2.0","id":"\xed\xa0\x80","method":"health"}',
        b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"health"}',
    ],
)
def test_what_is_no_json_rpc_gets_an_error(town: Network, payload: bytes) -> None:
    _, answer = post(town, payload)
    assert answer["error"]["data"]["code"] in ("rpc.parse", "rpc.invalid_request")
    assert answer["error"]["message"]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100_000), b"\xff" * 65_536, b""])
def test_garbage_to_the_p2p_port_ends_that_connection_only(town: Network, garbage: bytes) -> None:
    host, port = town.record.nodes[0].p2p.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        except OSError:
            return  # closed on us in the middle: as good


def test_strangers_that_connect_and_say_nothing_do_not_keep_others_out(town: Network) -> None:
    host, port = town.record.nodes[0].p2p.split(":")
    silent = [socket.create_connection((host, int(port)), timeout=30) for _ in range(60)]
    try:
        town.devnet("stop", "3")
        town.devnet("start", "3")
        town.until_height(town.height() + 2)
    finally:
        for connection in silent:
            connection.close()


def test_a_peer_of_another_chain_is_turned_away(town: Network) -> None:
    with tempfile.TemporaryDirectory(prefix="allting-") as folder:
        home = Path(folder) / "home"
        succeed("init", "--home", str(home), "--chain-id", "ting-elsewhere-1", "--moniker", "foreigner")
        node = town.record.nodes[0]
        config = (home / "config.toml").read_text()
        named = f'persistent_peers = ["{node.node_id}@{node.p2p}"]'
        (home / "config.toml").write_text(config.replace("persistent_peers = []", named))
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen([*ALLTING, "start", "--home", str(home)], stdout=log, stderr=log)
            try:
                town.until_height(town.height() + 3)
                assert rpc(town.urls[0], "status")["sync_info"]["peers"] == 3
            finally:
                process.terminate()
                process.wait(timeout=30)


def refused_start(home: Path) -> str:
    """What ``allting start`` says, which must fail."""
    done = run("start", "--home", str(home), seconds=60)
    assert done.returncode not in (0, -9)
    assert "Traceback" not in done.stderr
    return done.stderr + done.stdout


@pytest.fixture
def copy(town: Network) -> Iterator[Path]:
    """A copy of node 0's settings and keys, without its data, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="allting-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        source = Path(town.record.nodes[0].home)
        for name in ("config.toml", "genesis.toml"):
            shutil.copy(source / name, home / name)
        shutil.copytree(source / "keys", home / "keys")
        yield home


def test_an_unknown_setting_is_named_with_its_line(copy: Path) -> None:
    config = copy / "config.toml"
    config.write_text(config.read_text() + "\n[store]\ncolour = 1\n".replace("[store]\n", ""))
    said = refused_start(copy)
    assert "colour" in said
    assert f"line {len(config.read_text().splitlines())}" in said


def test_a_genesis_that_makes_too_many_coins_is_named_with_its_line(copy: Path) -> None:
    genesis = copy / "genesis.toml"
    lines = genesis.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("treasury = "))
    lines[at] = f"treasury = {2**53}"
    genesis.write_text("\n".join(lines))
    said = refused_start(copy)
    assert "town.coin.treasury" in said
    assert f"line {at + 1}" in said


def test_half_requests_keep_nobody_out(town: Network) -> None:
    host, port = town.urls[0].removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port)), timeout=30) for _ in range(400)]
    try:
        for connection in slow:
            with contextlib.suppress(OSError):
                connection.sendall(b"POST / HTTP/1.1\r\nHost: 127")
        assert rpc(town.urls[0], "health") == {}
    finally:
        for connection in slow:
            connection.close()


def test_a_malformed_genesis_is_named_with_its_line(copy: Path) -> None:
    genesis = copy / "genesis.toml"
    genesis.write_text(genesis.read_text().replace("application_version = 1", 'application_version = "one"'))
    said = refused_start(copy)
    assert "application_version" in said
    assert "line 4" in said


def test_a_port_in_use_is_named(town: Network, copy: Path) -> None:
    said = refused_start(copy)
    assert town.record.nodes[0].p2p.rpartition(":")[2] in said or town.urls[0].rpartition(":")[2] in said


def test_a_data_folder_in_use_is_named(town: Network) -> None:
    said = refused_start(Path(town.record.nodes[0].home))
    assert "use" in said
    assert "node0" in said


def test_a_wrong_password_is_answered_with_a_sentence(town: Network, copy: Path) -> None:
    environment = {**os.environ, "ALLTING_PASSWORD": "right"}
    command = [*ALLTING, "keys", "new", "vera", "--home", str(copy)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    command = [*ALLTING, "tx", "coin", "send", "--home", str(copy), "--node", town.urls[0], "--from", "vera"]
    command += ["--to", town.address("anna"), "--amount", "1"]
    environment["ALLTING_PASSWORD"] = "wrong"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "wrong password" in done.stderr
