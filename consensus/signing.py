"""What is hashed and what is signed, and whether a signature holds."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import nacl.bindings
import nacl.exceptions

from consensus.codec import encode

KINDS = frozenset({"tx", "vote", "proposal", "node", "invite", "snapshot"})
"""Domains of signatures: a signature made for one is void in every other."""


def sha256(data: bytes) -> bytes:
    """32 bytes, the SHA-256 of *data*."""
    return hashlib.sha256(data).digest()


def sign_bytes(kind: str, chain_id: str, body: object) -> bytes:
    """What is signed for *body*: bound to its domain and chain, so that it can't be replayed in another."""
    return sign_bytes_over(kind, chain_id, encode(body))


def sign_bytes_over(kind: str, chain_id: str, encoded: bytes) -> bytes:
    """The same where the canonical bytes of the body are at hand."""
    return _sign_head(kind, chain_id) + encoded


@lru_cache(maxsize=64)
def _sign_head(kind: str, chain_id: str) -> bytes:
    """What stands before the body: the beginning of an array of three, and its first two items."""
    assert kind in KINDS, kind
    return encode((f"allting/{kind}/1", chain_id, None))[:-1]


def sign(seed: bytes, message: bytes) -> bytes:
    """64 bytes, the Ed25519 signature of *message* by the key whose 32-byte *seed* this is (RFC 8032)."""
    _, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
    return nacl.bindings.crypto_sign(message, secret)[:64]


def public_key(seed: bytes) -> bytes:
    """32 bytes, the public key of *seed*."""
    public, _ = nacl.bindings.crypto_sign_seed_keypair(seed)
    return public


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether *signature* is *public*'s over *message*, as libsodium decides; False for malformed ones."""
    if len(signature) != 64 or len(public) != 32:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except nacl.exceptions.BadSignatureError:
        return False
    return True
