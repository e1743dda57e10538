"""Signatures are Ed25519 as libsodium decides, bound to their domain and chain."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.codec import encode
from consensus.signing import KINDS, public_key, sha256, sign, sign_bytes, verify

RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
"""The first two test vectors of RFC 8032, 7.1: seed, public key, message, signature."""

SEED = sha256(b"seed")
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_signatures_are_those_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    """Keys, signatures, and their verification."""
    assert public_key(bytes.fromhex(seed)).hex() == public
    assert sign(bytes.fromhex(seed), bytes.fromhex(message)).hex() == signature
    assert verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


@given(st.binary(max_size=80), st.integers(0, 511))
@settings(max_examples=40)
def test_a_flipped_bit_is_refused(message: bytes, bit: int) -> None:
    """In the signature, the message or the key."""
    public, signature = public_key(SEED), sign(SEED, message)
    assert verify(public, message, signature)
    flipped = (int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(64, "big")
    assert not verify(public, message, flipped)
    assert not verify(public, message + b"\x00", signature)
    other = (int.from_bytes(public, "big") ^ 1 << bit % 256).to_bytes(32, "big")
    assert not verify(other, message, signature)


@pytest.mark.parametrize(("public", "signature"), [(31, 64), (33, 64), (0, 64), (32, 63), (32, 65), (32, 0)])
def test_malformed_keys_and_signatures_do_not_hold(public: int, signature: int) -> None:
    """They raise nothing; lengths can't be shifted from one to the other."""
    assert not verify(bytes(public), b"message", bytes(signature))


def test_no_byte_moves_between_signature_and_message() -> None:
    """Both stand beside each other where they are verified."""
    whole = sign(bytes(32), b"message")
    assert verify(public_key(bytes(32)), b"message", whole)
    assert not verify(public_key(bytes(32)), b"essage", whole + b"m")
    assert not verify(public_key(bytes(32)), whole[63:] + b"message", whole[:63])


def test_a_second_form_of_a_signature_is_refused() -> None:
    """S plus the group's order would verify by the equation alone: signatures could be changed without the key."""
    public, signature = public_key(SEED), sign(SEED, b"message")
    high = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify(public, b"message", signature[:32] + high.to_bytes(32, "little"))


def test_keys_of_small_order_are_refused() -> None:
    """With the neutral element for a key, anybody's zeros would sign everything."""
    neutral = b"\x01" + bytes(31)
    assert not verify(neutral, b"message", neutral + bytes(32))
    assert not verify(bytes(32), b"message", bytes(64))


def test_sign_bytes_name_domain_and_chain() -> None:
    """So that a signature is void in every other."""
    assert sign_bytes("tx", "ting-1", (1, None)) == encode(("allting/tx/1", "ting-1", (1, None)))
    signed = {sign_bytes(kind, chain, (1,)) for kind in KINDS for chain in ("ting-1", "ting-2")}
    assert len(signed) == 2 * len(KINDS)


def test_an_unknown_domain_is_our_defect() -> None:
    """Every domain stands in the list."""
    with pytest.raises(AssertionError):
        sign_bytes("anything", "ting-1", ())


def test_hashes_are_sha_256() -> None:
    """FIPS 180-4's example."""
    assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
