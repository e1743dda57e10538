"""Promises of key files: what is sealed opens with its password only, and words bring every key back."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import nacl.pwhash.argon2id
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.address import key_address
from consensus.signing import public_key
from node.keys import (
    ARGON2_MEMORY_BYTES_MAX,
    BadKeyFile,
    BadWords,
    KeyFault,
    KeyFile,
    PasswordNeeded,
    WrongPassword,
    new_seed,
    seed_of,
    words_of,
)

SEED = bytes(range(32))
QUICK = {"operations": 1, "memory_bytes": nacl.pwhash.argon2id.MEMLIMIT_MIN}


def sealed(password: str = "correct horse") -> KeyFile:
    return KeyFile.create("account", seed=SEED, password=password, **QUICK)


@given(st.binary(min_size=32, max_size=32))
def test_the_words_of_a_seed_bring_it_back(seed: bytes) -> None:
    assert len(words_of(seed).split()) == 24
    assert seed_of(words_of(seed)) == seed
    assert seed_of("  " + words_of(seed).upper().replace(" ", "\n")) == seed


def test_the_words_of_the_zero_seed_are_those_of_bip39() -> None:
    assert words_of(bytes(32)) == "abandon " * 23 + "art"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("abandon " * 12, "these are 12"),
        ("abandon " * 23 + "abandonn", "word 24, “abandonn”"),
        ("abandon " * 23 + "abandon", "checksum"),
    ],
)
def test_wrong_words_are_named(words: str, complaint: str) -> None:
    with pytest.raises(BadWords, match=complaint):
        seed_of(words)


def test_fresh_seeds_differ() -> None:
    assert new_seed() != new_seed()
    assert len(new_seed()) == 32


def test_an_open_key_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "node.json"
    KeyFile.create("node", seed=SEED).write(path)
    key = KeyFile.load(path, kind="node")
    assert key.unlock() == SEED
    assert key.public_key == public_key(SEED)
    assert key.address == key_address(public_key(SEED))
    assert not key.is_sealed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["node.json"], "nothing is left beside it"


def test_a_sealed_key_opens_with_its_password_only(tmp_path: Path) -> None:
    path = tmp_path / "alice.json"
    sealed().write(path)
    key = KeyFile.load(path)
    assert key.is_sealed
    assert key.unlock("correct horse") == SEED
    with pytest.raises(WrongPassword, match=r"wrong password for .*alice\.json; try again"):
        key.unlock("battery staple")
    with pytest.raises(PasswordNeeded, match="sealed with a password"):
        key.unlock()


def test_the_secret_of_a_sealed_key_is_not_in_its_file() -> None:
    assert SEED.hex().encode() not in sealed().to_json()
    assert sealed().secret != sealed().secret, "salt and nonce are fresh"


def test_the_secret_is_not_shown() -> None:
    assert SEED.hex() not in repr(KeyFile.create("node", seed=SEED))
    assert str(SEED) not in repr(KeyFile.create("node", seed=SEED))


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "validator.json"
    KeyFile.create("validator", seed=SEED).write(path)
    with pytest.raises(KeyFault, match="never overwritten"):
        KeyFile.create("validator").write(path)
    assert KeyFile.load(path).unlock() == SEED


def test_words_recover_a_key() -> None:
    assert KeyFile.recover("account", words_of(SEED)).unlock() == SEED


def test_an_empty_password_is_refused() -> None:
    with pytest.raises(KeyFault, match="empty password"):
        KeyFile.create("account", password="")


def test_an_open_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    KeyFile.create("node", seed=SEED).write(path)
    path.chmod(0o644)
    with pytest.raises(BadKeyFile, match="chmod 600"):
        KeyFile.load(path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    KeyFile.create("node").write(path)
    with pytest.raises(BadKeyFile, match="a validator key is needed"):
        KeyFile.load(path, kind="validator")


def test_an_absent_key_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadKeyFile, match="no such key file"):
        KeyFile.load(tmp_path / "nobody.json")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "spy"}, "kind must be"),
        ({"public_key": "zz"}, "public_key must be 32 bytes"),
        ({"public_key": public_key(bytes(32)).hex()}, "does not belong"),
        ({"secret": "00"}, "secret must be 32 bytes"),
        ({"secret": 5}, "secret must be 32 bytes"),
        ({"extra": 1}, "has the fields"),
        ({"kdf": "scrypt"}, "kdf must be"),
        ({"kdf": {"argon2id": {"operations": 1}}}, "kdf must be"),
        ({"kdf": {"argon2id": {"operations": 99, "memory_bytes": 8192, "salt": "00" * 16}}}, "operations"),
        (
            {"kdf": {"argon2id": {"operations": 1, "memory_bytes": ARGON2_MEMORY_BYTES_MAX + 1, "salt": "00" * 16}}},
            "memory_bytes",
        ),
        ({"kdf": {"argon2id": {"operations": 1, "memory_bytes": 8192, "salt": "00"}}}, "salt must be 16 bytes"),
    ],
)
def test_a_damaged_key_file_names_the_field(change: dict[str, object], complaint: str) -> None:
    fields = json.loads(KeyFile.create("account", seed=SEED).to_json())
    with pytest.raises(BadKeyFile, match=complaint):
        KeyFile.from_json(json.dumps({**fields, **change}).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 4_000, b" " * 5_000])
def test_what_is_no_key_file_is_refused(data: bytes) -> None:
    with pytest.raises(BadKeyFile):
        KeyFile.from_json(data)


def test_a_sealed_key_with_a_foreign_public_key_is_refused() -> None:
    fields = json.loads(sealed().to_json())
    fields["public_key"] = public_key(bytes(32)).hex()
    with pytest.raises(BadKeyFile, match="does not belong"):
        KeyFile.from_json(json.dumps(fields).encode()).unlock("correct horse")
