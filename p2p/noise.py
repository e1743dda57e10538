"""``Noise_XX_25519_ChaChaPoly_SHA256`` without a socket: bytes in, bytes out (noiseprotocol.org, revision 34).

    -> e
    <- e, ee, s, es
    -> s, se

Afterwards both sides hold two ciphers, one for each direction, and know each other's static key.
"""

from __future__ import annotations

import hashlib
import hmac

import nacl.bindings
import nacl.exceptions

from consensus.codec import BadMessage

PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
MESSAGE_BYTES_MAX = 65_535
"""Largest Noise message on the wire, its tag included (§3 of the specification)."""
TAG_BYTES = 16
KEY_BYTES = 32
NONCE_MAX = 2**64 - 2
"""The last usable nonce: 2^64 - 1 is reserved (§5.1)."""

_encrypt = nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt
_decrypt = nacl.bindings.crypto_aead_chacha20poly1305_ietf_decrypt


class CipherState:
    """One direction's key and its counter of messages (§5.1)."""

    __slots__ = ("_key", "_nonce")

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._key = key
        self._nonce = 0

    def encrypt(self, plaintext: bytes, associated: bytes = b"") -> bytes:
        """*plaintext* sealed under the next nonce, 16 bytes longer."""
        return _encrypt(plaintext, associated, self._next_nonce(), self._key)

    def decrypt(self, ciphertext: bytes, associated: bytes = b"") -> bytes:
        """What the other side sealed under the next nonce. Raises BadMessage if the tag does not fit."""
        if len(ciphertext) < TAG_BYTES:
            raise BadMessage("shorter than its tag", "bad_message.undecryptable")
        try:
            return _decrypt(ciphertext, associated, self._next_nonce(), self._key)
        except nacl.exceptions.CryptoError as error:
            raise BadMessage("the tag does not fit", "bad_message.undecryptable") from error

    def _next_nonce(self) -> bytes:
        nonce = self._nonce
        assert nonce <= NONCE_MAX, "a cipher's nonces are used up"
        self._nonce = nonce + 1
        return b"\0\0\0\0" + nonce.to_bytes(8, "little")


class _SymmetricState:
    """The chaining key and the hash of all that was said (§5.2)."""

    def __init__(self) -> None:
        self.hash = PROTOCOL_NAME.ljust(32, b"\0")
        self._chaining_key = self.hash
        self._cipher: CipherState | None = None

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        self._chaining_key, key = _derive(self._chaining_key, material)
        self._cipher = CipherState(key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt(plaintext, self.hash) if self._cipher else plaintext
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self._cipher.decrypt(ciphertext, self.hash) if self._cipher else ciphertext
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        first, second = _derive(self._chaining_key, b"")
        return CipherState(first), CipherState(second)


class XXHandshake:
    """One side of the handshake: call `write` and `read` in turn, the initiator first, three messages in all."""

    def __init__(self, *, initiator: bool, static: bytes, ephemeral: bytes, prologue: bytes = b"") -> None:
        """*static* and *ephemeral*: 32-byte X25519 secret keys; the ephemeral one must be fresh for every handshake."""
        assert len(static) == len(ephemeral) == KEY_BYTES
        self._initiator = initiator
        self._static = static
        self._ephemeral = ephemeral
        self._remote_ephemeral = b""
        self._remote_static = b""
        self._messages = 0
        self._symmetric = _SymmetricState()
        self._symmetric.mix_hash(prologue)

    @property
    def remote_static(self) -> bytes:
        """32 bytes, the other side's static public key; empty until its message with ``s`` was read."""
        return self._remote_static

    @property
    def static_public(self) -> bytes:
        """32 bytes, our own static public key."""
        return _public(self._static)

    @property
    def hash(self) -> bytes:
        """32 bytes that both sides share and that name this handshake."""
        return self._symmetric.hash

    @property
    def finished(self) -> bool:
        """Whether all three messages have passed, so that `split` may be called."""
        return self._messages == 3

    def write(self, payload: bytes = b"") -> bytes:
        """The next message of this side, with *payload* inside (in clear in the first message)."""
        assert self._initiator == (self._messages in (0, 2)), "it is the other side's turn"
        symmetric = self._symmetric
        message = b""
        if self._messages < 2:  # e
            public = _public(self._ephemeral)
            symmetric.mix_hash(public)
            message = public
        if self._messages == 1:  # ee, s, es
            symmetric.mix_key(_shared(self._ephemeral, self._remote_ephemeral))
            message += symmetric.encrypt_and_hash(_public(self._static))
            symmetric.mix_key(_shared(self._static, self._remote_ephemeral))
        elif self._messages == 2:  # s, se
            message += symmetric.encrypt_and_hash(_public(self._static))
            symmetric.mix_key(_shared(self._static, self._remote_ephemeral))
        message += symmetric.encrypt_and_hash(payload)
        assert len(message) <= MESSAGE_BYTES_MAX
        self._messages += 1
        return message

    def read(self, message: bytes) -> bytes:
        """The payload of the other side's next *message*. Raises BadMessage if it is malformed or was changed."""
        assert self._initiator == (self._messages == 1), "it is our turn to write"
        symmetric = self._symmetric
        rest = message
        if self._messages < 2:  # e
            self._remote_ephemeral, rest = _cut(rest, KEY_BYTES)
            symmetric.mix_hash(self._remote_ephemeral)
        if self._messages == 1:  # ee, s, es
            symmetric.mix_key(_shared(self._ephemeral, self._remote_ephemeral))
            rest = self._read_static(rest)
            symmetric.mix_key(_shared(self._ephemeral, self._remote_static))
        elif self._messages == 2:  # s, se
            rest = self._read_static(rest)
            symmetric.mix_key(_shared(self._ephemeral, self._remote_static))
        payload = symmetric.decrypt_and_hash(rest)
        self._messages += 1
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers for (sending, receiving), once the handshake is finished."""
        assert self.finished, "the handshake is not finished"
        to_responder, to_initiator = self._symmetric.split()
        return (to_responder, to_initiator) if self._initiator else (to_initiator, to_responder)

    def _read_static(self, rest: bytes) -> bytes:
        sealed, rest = _cut(rest, KEY_BYTES + TAG_BYTES)
        self._remote_static = self._symmetric.decrypt_and_hash(sealed)
        return rest


def _derive(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """Noise's HKDF with two outputs (§4.3)."""
    temporary = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(temporary, b"\x01", "sha256")
    return first, hmac.digest(temporary, first + b"\x02", "sha256")


def _public(secret: bytes) -> bytes:
    return nacl.bindings.crypto_scalarmult_base(secret)


def _shared(secret: bytes, public: bytes) -> bytes:
    try:
        return nacl.bindings.crypto_scalarmult(secret, public)
    except nacl.exceptions.RuntimeError as error:  # libsodium refuses points of small order
        raise BadMessage("not a usable X25519 key", "bad_message.weak_key") from error


def _cut(data: bytes, size: int) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise BadMessage("a handshake message is too short", "bad_message.handshake")
    return data[:size], data[size:]
