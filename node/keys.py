"""Key files: an Ed25519 seed on disk, open or sealed with a password, and the 24 words that bring it back.

The words are BIP-39 for the 32 bytes of the seed itself, so a seed has exactly one sentence and the other way round.
A sealed seed is a NaCl secretbox under a key that argon2id makes of the password.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nacl.exceptions
import nacl.pwhash.argon2id
import nacl.secret
from mnemonic import Mnemonic

from consensus.address import key_address
from consensus.signing import public_key
from node.files import PRIVATE_MODE, write_atomically

KINDS = ("account", "node", "validator")
SEED_BYTES = 32
WORDS_COUNT = 24
KEY_FILE_BYTES_MAX = 4096

ARGON2_OPERATIONS = nacl.pwhash.argon2id.OPSLIMIT_MODERATE
ARGON2_MEMORY_BYTES = nacl.pwhash.argon2id.MEMLIMIT_MODERATE
"""256 MiB, three passes: about half a second to open, dear to guess."""
ARGON2_OPERATIONS_MAX = 16
ARGON2_MEMORY_BYTES_MAX = 2**30
"""A key file from elsewhere may not ask for more than this."""


class KeyFault(Exception):
    """A key can't be read or written; the text says which, and what to do."""


class BadKeyFile(KeyFault):
    """The file is no key file, or is damaged, or others can read it."""


class BadWords(KeyFault):
    """The words are not the 24 of a key; the text names the wrong one if there is one."""


class WrongPassword(KeyFault):
    """The password doesn't open this key."""


class PasswordNeeded(KeyFault):
    """The key is sealed, and no password was given."""


def new_seed() -> bytes:
    """32 fresh bytes from the operating system's source."""
    return secrets.token_bytes(SEED_BYTES)


def words_of(seed: bytes) -> str:
    """The 24 BIP-39 words, in English, that stand for *seed* (32 bytes). Who has them has the key."""
    assert len(seed) == SEED_BYTES
    return _word_list().to_mnemonic(seed)


def seed_of(words: str) -> bytes:
    """The 32 bytes behind the 24 *words* (any case and spacing). Raises BadWords."""
    spoken = words.lower().split()
    if len(spoken) != WORDS_COUNT:
        raise BadWords(f"a key has {WORDS_COUNT} words, these are {len(spoken)}; write them all, in order")
    known = _word_list()
    for place, word in enumerate(spoken, start=1):
        if word not in known.wordlist:
            raise BadWords(f"word {place}, “{word:.20}”, is not in the BIP-39 list; check its spelling")
    try:
        return bytes(known.to_entropy(spoken))
    except ValueError:
        raise BadWords("the words' checksum is wrong; check their order and look for a mistaken word") from None


@cache
def _word_list() -> Mnemonic:
    return Mnemonic("english")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """How a password becomes the key of the secretbox (argon2id 1.3)."""

    salt: bytes
    """16 bytes."""
    operations: int
    memory_bytes: int

    def box(self, password: str) -> nacl.secret.SecretBox:
        """The box that *password* opens; slow on purpose."""
        key = nacl.pwhash.argon2id.kdf(
            nacl.secret.SecretBox.KEY_SIZE,
            password.encode(),
            self.salt,
            opslimit=self.operations,
            memlimit=self.memory_bytes,
        )
        return nacl.secret.SecretBox(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """One key as it stands in a file. `unlock` gives its seed."""

    kind: str
    """account, node or validator."""
    public_key: bytes
    """32 bytes, readable without the password."""
    sealing: Sealing | None
    """None: the secret is the seed itself."""
    secret: bytes = field(repr=False)
    """The seed, or nonce and box around it."""
    source: str = field(default="the key", compare=False)
    """What errors call it: its path."""

    @classmethod
    def create(
        cls,
        kind: str,
        *,
        seed: bytes | None = None,
        password: str | None = None,
        operations: int = ARGON2_OPERATIONS,
        memory_bytes: int = ARGON2_MEMORY_BYTES,
    ) -> KeyFile:
        """A key of *kind* for *seed* (None: a fresh one), sealed if there is a *password*. Not yet written."""
        assert kind in KINDS, kind
        seed = new_seed() if seed is None else seed
        assert len(seed) == SEED_BYTES
        public = public_key(seed)
        if password is None:
            return cls(kind=kind, public_key=public, sealing=None, secret=seed)
        if not password:
            raise KeyFault("an empty password protects nothing; choose one, or ask for an open key file")
        sealing = Sealing(
            salt=secrets.token_bytes(nacl.pwhash.argon2id.SALTBYTES), operations=operations, memory_bytes=memory_bytes
        )
        return cls(kind=kind, public_key=public, sealing=sealing, secret=bytes(sealing.box(password).encrypt(seed)))

    @classmethod
    def recover(cls, kind: str, words: str, *, password: str | None = None) -> KeyFile:
        """The key that the 24 *words* stand for. Raises BadWords."""
        return cls.create(kind, seed=seed_of(words), password=password)

    @classmethod
    def load(cls, path: Path, *, kind: str | None = None) -> KeyFile:
        """The key in *path*.

        Raises BadKeyFile, also where it is not of *kind*, or where others can read an open secret.
        """
        try:
            with path.open("rb") as file:
                mode = path.stat().st_mode
                data = file.read(KEY_FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            raise BadKeyFile(f"{path}: there is no such key file") from None
        key = cls.from_json(data, source=str(path))
        if kind is not None and key.kind != kind:
            raise BadKeyFile(f"{path}: this is a key of kind {key.kind}, a {kind} key is needed")
        if key.sealing is None and mode & 0o077:
            raise BadKeyFile(f"{path}: others can read this open key; run: chmod 600 {path}")
        return key

    @classmethod
    def from_json(cls, data: bytes, *, source: str = "the key") -> KeyFile:
        """The key whose file holds *data*. Raises BadKeyFile, naming the field."""
        if len(data) > KEY_FILE_BYTES_MAX:
            raise BadKeyFile(f"{source}: too large for a key file (at most {KEY_FILE_BYTES_MAX} bytes)")
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadKeyFile(f"{source}: not JSON ({error}); restore it from a backup or from its words") from None
        if not isinstance(fields, dict) or set(fields) != {"kind", "public_key", "kdf", "secret"}:
            raise BadKeyFile(f"{source}: a key file has the fields kind, public_key, kdf and secret")
        if fields["kind"] not in KINDS:
            raise BadKeyFile(f"{source}: kind must be one of {', '.join(KINDS)}")
        sealing = _sealing_from(fields["kdf"], source)
        sealed_bytes = nacl.secret.SecretBox.NONCE_SIZE + nacl.secret.SecretBox.MACBYTES + SEED_BYTES
        key = cls(
            kind=fields["kind"],
            public_key=_hex(fields, "public_key", 32, source),
            sealing=sealing,
            secret=_hex(fields, "secret", SEED_BYTES if sealing is None else sealed_bytes, source),
            source=source,
        )
        if sealing is None and public_key(key.secret) != key.public_key:
            raise BadKeyFile(f"{source}: the public key does not belong to the secret; the file is damaged")
        return key

    @property
    def address(self) -> bytes:
        """20 bytes, the account (or validator address) of this key."""
        return key_address(self.public_key)

    @property
    def is_sealed(self) -> bool:
        """Whether `unlock` needs a password."""
        return self.sealing is not None

    def unlock(self, password: str | None = None) -> bytes:
        """The 32-byte seed. Raises PasswordNeeded or WrongPassword. Takes about half a second if sealed."""
        if self.sealing is None:
            return self.secret
        if password is None:
            raise PasswordNeeded(f"{self.source} is sealed with a password; give it to go on")
        try:
            seed = bytes(self.sealing.box(password).decrypt(self.secret))
        except nacl.exceptions.CryptoError:
            raise WrongPassword(
                f"wrong password for {self.source}; try again, or recover the key from its {WORDS_COUNT} words"
            ) from None
        if public_key(seed) != self.public_key:
            raise BadKeyFile(f"{self.source}: the public key does not belong to the secret; the file is damaged")
        return seed

    def to_json(self) -> bytes:
        """The content of the file."""
        kdf: object = "none"
        if self.sealing is not None:
            kdf = {
                "argon2id": {
                    "operations": self.sealing.operations,
                    "memory_bytes": self.sealing.memory_bytes,
                    "salt": self.sealing.salt.hex(),
                }
            }
        fields = {
            "kind": self.kind,
            "public_key": self.public_key.hex(),
            "kdf": kdf,
            "secret": self.secret.hex(),
        }
        return json.dumps(fields, indent=2).encode() + b"\n"

    def write(self, path: Path) -> None:
        """*path* holds this key, mode 0600, durably. Raises KeyFault if anything stands there."""
        try:
            write_atomically(path, self.to_json(), mode=PRIVATE_MODE, replace=False)
        except FileExistsError:
            raise KeyFault(f"{path} exists; a key is never overwritten: choose another name or move the file") from None


def _sealing_from(kdf: Any, source: str) -> Sealing | None:
    if kdf == "none":
        return None
    inner = kdf.get("argon2id") if isinstance(kdf, dict) and len(kdf) == 1 else None
    if not isinstance(inner, dict) or set(inner) != {"operations", "memory_bytes", "salt"}:
        raise BadKeyFile(f"{source}: kdf must be “none” or argon2id with operations, memory_bytes and salt")
    operations, memory_bytes = inner["operations"], inner["memory_bytes"]
    lowest_memory = nacl.pwhash.argon2id.MEMLIMIT_MIN
    if type(operations) is not int or not nacl.pwhash.argon2id.OPSLIMIT_MIN <= operations <= ARGON2_OPERATIONS_MAX:
        raise BadKeyFile(f"{source}: argon2id operations must be at most {ARGON2_OPERATIONS_MAX}")
    if type(memory_bytes) is not int or not lowest_memory <= memory_bytes <= ARGON2_MEMORY_BYTES_MAX:
        raise BadKeyFile(f"{source}: argon2id memory_bytes must be {lowest_memory}…{ARGON2_MEMORY_BYTES_MAX}")
    salt = _hex(inner, "salt", nacl.pwhash.argon2id.SALTBYTES, source)
    return Sealing(salt=salt, operations=operations, memory_bytes=memory_bytes)


def _hex(fields: dict[str, Any], name: str, size: int, source: str) -> bytes:
    value = fields[name]
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != size:
        raise BadKeyFile(f"{source}: {name} must be {size} bytes in hex")
    return data
