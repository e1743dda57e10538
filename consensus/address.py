"""Addresses: 20 bytes that name an account, shown as bech32m ``ting1…`` (BIP-350)."""

from __future__ import annotations

from functools import lru_cache

from consensus.signing import sha256

PREFIX = "ting"
TEXTS_REMEMBERED_MAX = 32_768
"""Texts of addresses that are kept: a block shown to people names the same accounts again and again."""
_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3


class BadAddress(ValueError):
    """The text is no address; says why."""


def address_of(kind: str, *parts: bytes) -> bytes:
    """The 20 bytes that name the account of *kind* (key, module, multisig, company, …) made of *parts*.

    Nothing stands between kind and parts, so no kind may begin with another kind, and parts that vary in length need
    their lengths among them.
    """
    return sha256(f"allting/address/{kind}".encode() + b"".join(parts))[:20]


def key_address(public_key: bytes) -> bytes:
    """The account that obeys *public_key* (32 bytes) until it has a key record of its own."""
    return address_of("key", public_key)


def module_address(name: str) -> bytes:
    """The account of the module *name*; no key signs for it."""
    return address_of("module", name.encode("ascii"))


@lru_cache(maxsize=TEXTS_REMEMBERED_MAX)
def to_text(address: bytes) -> str:
    """The bech32m text of *address* (20 bytes)."""
    assert len(address) == 20
    data = _regroup(address, 8, 5)
    checksum = _polymod(_expanded_prefix() + data + [0] * 6) ^ _BECH32M
    data += [(checksum >> 5 * (5 - i)) & 31 for i in range(6)]
    return PREFIX + "1" + "".join(_CHARSET[value] for value in data)


def from_text(text: str) -> bytes:
    """The 20 bytes behind *text*. Raises BadAddress, saying what to check."""
    lowered = text.lower()
    if text not in (lowered, text.upper()) or not text.isascii():  # lower() makes an ASCII k of the Kelvin sign
        raise BadAddress("an address is written all lower or all upper case, in ASCII")
    if not lowered.startswith(PREFIX + "1"):
        raise BadAddress(f"an address begins with {PREFIX}1")
    body = lowered[len(PREFIX) + 1 :]
    if len(body) != 38 or any(character not in _VALUES for character in body):
        raise BadAddress("an address has 38 letters and digits after ting1; check that all of it was copied")
    data = [_VALUES[character] for character in body]
    if _polymod(_expanded_prefix() + data) != _BECH32M:
        raise BadAddress("the checksum is wrong; check the address for a mistyped character")
    return bytes(_regroup(data[:-6], 5, 8))


def _expanded_prefix() -> list[int]:
    return [ord(c) >> 5 for c in PREFIX] + [0] + [ord(c) & 31 for c in PREFIX]


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(_GENERATOR):
            if top >> i & 1:
                check ^= generator
    return check


def _regroup(data: bytes | list[int], source: int, target: int) -> list[int]:
    """*data* in groups of *source* bits as groups of *target* bits; 160 bits divide by both 5 and 8."""
    accumulator = bits = 0
    out: list[int] = []
    for value in data:
        accumulator = accumulator << source | value
        bits += source
        while bits >= target:
            bits -= target
            out.append(accumulator >> bits & (1 << target) - 1)
    return out
