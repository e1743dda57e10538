"""A disk that refuses, or changed what lies on it, stops the node with what to do; once it is well, it goes on."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from consensus.evidence import DuplicateVote
from consensus.shape import to_bytes
from consensus.signing import sha256, sign
from consensus.vote import Vote, VoteKind, vote_sign_bytes
from devnet.simulated_disk import Moment, Watching, refuse_at
from node.cli.main import main
from node.config import Config, P2pConfig, RpcConfig, VerifyConfig
from node.disk import DISK, Act, Step
from node.evidence_pool import EvidencePool
from node.home import Home
from node.keys import KeyFile
from node.signer_state import SLOT_BYTES
from node.store import Store

COMMIT = Step("chain", Act.COMMIT)


class Lone:
    """A node that is a chain of its own, run as its operator runs it, in this process."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str], logged: list[MutableMapping[str, Any]]) -> None:
        self.home = Home(folder / "home")
        self.logged = logged
        self._capfd = capfd
        assert self("init", "--chain-id", "ting-lone-1", "--preset", "TINY", "--home", str(self.home.path))[0] == 0
        config = dataclasses.replace(
            Config.load(self.home.config),
            p2p=P2pConfig(listen="127.0.0.1:0"),
            rpc=RpcConfig(listen="127.0.0.1:0"),
            verify=VerifyConfig(processes=0),
        )
        config.write(self.home.config)

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code and what the command said."""
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return int(ended.value.code or 0), self._capfd.readouterr().err

    def start(self, watch: Watching | None = None) -> tuple[int, str]:
        """The node has run until *watch* (None: three commits, then SIGTERM) made it stop."""
        DISK.watch = watch or Watching(_stop_after_three_commits)
        try:
            return self("start", "--home", str(self.home.path))
        finally:
            DISK.watch = None

    def height(self) -> int:
        store = Store.open(self.home.chain)
        try:
            return store.height
        finally:
            store.close()

    def goes_on(self) -> None:
        """It starts and decides."""
        before = self.height()
        code, said = self.start()
        assert code == 0, said
        assert self.height() >= before + 3


def _stop_after_three_commits(moment: Moment, count: int) -> None:
    if moment == Moment(COMMIT, after=True) and count == 3:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def lone(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Lone]:
    monkeypatch.setattr(DISK, "watch", None)
    monkeypatch.setattr("gc.freeze", lambda: None)  # this process goes on
    monkeypatch.setattr("node.log.configure", lambda **_: None)  # likewise: loggers keep the stream they first saw
    with structlog.testing.capture_logs() as logged:
        yield Lone(tmp_path, capfd, logged)


@pytest.mark.parametrize(
    ("name", "act", "time", "error", "text"),
    [
        ("consensus.wal", Act.WRITE, 2, errno.ENOSPC, "the disk is full: free space"),
        pytest.param("consensus.wal", Act.SYNC, 2, errno.EIO, "the disk failed: check it", marks=pytest.mark.long),
        ("last_sign.json", Act.WRITE, 2, errno.EROFS, "can only be read"),
        pytest.param("last_sign.json", Act.OPEN, 1, errno.EACCES, "give the folder to the", marks=pytest.mark.long),
        pytest.param("chain", Act.COMMIT, 2, errno.ENOSPC, "the disk is full: free space", marks=pytest.mark.long),
        pytest.param("chain", Act.OPEN, 1, errno.EROFS, "can only be read", marks=pytest.mark.long),
        ("evidence", Act.COMMIT, 1, errno.ENOSPC, "the disk is full: free space"),
    ],
)
def test_what_the_disk_refuses_stops_the_node_with_what_to_do_and_afterwards_it_goes_on(
    name: str, act: Act, time: int, error: int, text: str, lone: Lone
) -> None:
    lone.goes_on()
    _accuse(lone.home)
    code, said = lone.start(refuse_at(Step(name, act), error, time))
    assert code == 1, said
    assert text in said.splitlines()[-1], said
    assert os.strerror(error) in said
    assert "Traceback" not in said
    (stopped,) = [entry for entry in lone.logged if entry["event"] == "node_stopped"]
    assert text in stopped["why"]
    lone.goes_on()
    assert _convictions(lone.home) == 1


def _accuse(home: Home) -> None:
    """Evidence waits that the validator signed two votes: without any, nothing is written to its store."""
    key = KeyFile.load(home.validator_key, kind="validator")
    with closing(Store.open(home.chain)) as store, closing(EvidencePool.open(home.evidence)) as pool:
        chain = store.chain_state()
        assert chain is not None
        votes = [
            Vote(
                kind=VoteKind.PREVOTE,
                height=chain.height,
                round=0,
                block_id=value,
                validator=key.address,
                signature=sign(key.unlock(), vote_sign_bytes(chain.chain_id, VoteKind.PREVOTE, chain.height, 0, value)),
            )
            for value in (None, sha256(b"a block"))
        ]
        pool.set_chain(store.state(), chain)
        pool.add(DuplicateVote.of(*votes))


def _convictions(home: Home) -> int:
    """Pieces of evidence on the chain."""
    with closing(Store.open(home.chain)) as store:
        return sum(len(store.block(height).evidence) for height in range(1, store.height + 1))


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def _damage_log(home: Home) -> None:
    data = home.wal.read_bytes()
    home.wal.write_bytes(_flipped(data, len(data) // 3))


def _damage_signer(home: Home) -> None:
    data = home.last_sign.read_bytes()
    home.last_sign.write_bytes(_flipped(_flipped(data, 20), SLOT_BYTES + 20))


def _damage_key(home: Home) -> None:
    data = home.validator_key.read_bytes()
    at = data.index(b'"secret": "') + 12
    home.validator_key.write_bytes(data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :])


def _damage_state(home: Home) -> None:
    path = home.chain / "data.mdb"
    store = Store.open(home.chain)
    chain = store.chain_state()
    store.close()
    assert chain is not None
    data = path.read_bytes()
    needle = chain.app_hash
    while (at := data.rfind(needle)) >= 0:
        data = _flipped(data, at)
    path.write_bytes(data)


def _damage_priorities(home: Home) -> None:
    """What neither a header nor a state tree says of the latest height."""
    store = Store.open(home.chain)
    chain = store.chain_state()
    store.close()
    assert chain is not None
    row, validators = to_bytes(chain), to_bytes(chain.last_validators)
    of_its_priority = row.index(validators) + len(validators) - 1
    path = home.chain / "data.mdb"
    data = path.read_bytes()
    at = data.find(row)
    assert at >= 0
    while at >= 0:
        data = _flipped(data, at + of_its_priority)
        at = data.find(row)
    path.write_bytes(data)


def _truncate_store(home: Home) -> None:
    path = home.chain / "data.mdb"
    os.truncate(path, 4_000)


def _garble_store(home: Home) -> None:
    path = home.chain / "data.mdb"
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (_damage_log, "is damaged at byte"),
        (_damage_signer, "allting keys unlock"),
        (_damage_key, "does not belong to the secret"),
        (_damage_state, "Check the disk, then restore a backup"),
        (_damage_priorities, "Check the disk, then restore a backup"),
        (_truncate_store, "restore a backup"),
        (_garble_store, "restore a backup"),
    ],
)
def test_damage_stops_the_node_with_what_to_do(damage: Callable[[Home], None], text: str, lone: Lone) -> None:
    lone.goes_on()
    damage(lone.home)
    code, said = lone.start()
    assert code in (1, 2), said
    assert text in said.splitlines()[-1], said
    assert "Traceback" not in said


def test_a_torn_end_of_the_log_is_cut_and_reported(lone: Lone) -> None:
    lone.goes_on()
    with lone.home.wal.open("ab") as file:
        file.write(b"\xa1\x7eWR torn")
    code, said = lone.start()
    assert code == 0, said
    assert [entry["bytes"] for entry in lone.logged if entry["event"] == "log_tail_cut"] == [9]
