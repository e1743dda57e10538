"""Addresses: 20 bytes, shown as bech32m (BIP-350); a slip of the pen is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import address as module
from consensus.address import BadAddress, address_of, from_text, key_address, module_address, to_text
from consensus.signing import sha256

addresses = st.binary(min_size=20, max_size=20)
CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

BIP_350_VALID = [
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]
BIP_350_INVALID = ["y1b0jsk6g", "lt1igcx5c0", "in1muywd", "mm1crxm3i", "au1s5cgom", "M1VUXWEZ", "16plkw9", "1p2gdwpf"]


def checksum_holds(text: str) -> bool:
    """Whether our polynomial accepts *text*, whatever its prefix."""
    prefix, _, data = text.lower().rpartition("1")
    if not prefix or any(character not in CHARSET for character in data):
        return False
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    return module._polymod(expanded + [CHARSET.index(c) for c in data]) == module._BECH32M


@pytest.mark.parametrize("text", BIP_350_VALID)
def test_valid_strings_of_bip_350_hold(text: str) -> None:
    """The checksum is bech32m's, not bech32's."""
    assert checksum_holds(text)


@pytest.mark.parametrize("text", BIP_350_INVALID)
def test_invalid_strings_of_bip_350_do_not(text: str) -> None:
    """Nor do they pass for addresses."""
    assert not checksum_holds(text)
    with pytest.raises(BadAddress):
        from_text(text)


def test_bits_are_grouped_as_in_segwit_addresses() -> None:
    """BIP-173's witness program, 20 bytes, written with our prefix: the data part is that of the known address."""
    program = bytes.fromhex("751e76e8199196d454941c45d1b3a323f1433bd6")
    assert to_text(program)[5:-6] == "w508d6qejxtdg4y5r3zarvary0c5xw7k"


@given(addresses)
def test_what_is_written_is_read(address: bytes) -> None:
    """In lower or upper case."""
    text = to_text(address)
    assert text.startswith("ting1")
    assert len(text) == 43
    assert from_text(text) == from_text(text.upper()) == address


@given(addresses, st.integers(5, 42), st.sampled_from(CHARSET))
def test_a_mistyped_character_is_noticed(address: bytes, place: int, character: str) -> None:
    """Any one."""
    text = to_text(address)
    mistyped = text[:place] + character + text[place + 1 :]
    if mistyped != text:
        with pytest.raises(BadAddress, match="checksum"):
            from_text(mistyped)


@given(addresses, st.integers(5, 41))
def test_swapped_neighbours_are_noticed(address: bytes, place: int) -> None:
    """The commonest slip."""
    text = to_text(address)
    swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    if swapped != text:
        with pytest.raises(BadAddress, match="checksum"):
            from_text(swapped)


GOOD = to_text(bytes(20))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD[:5].upper() + GOOD[5:], "all lower or all upper"),
        ("TING1\N{KELVIN SIGN}" + GOOD[6:].upper(), "ASCII"),
        ("Ting1" + GOOD[5:], "all lower or all upper"),
        ("bc1" + GOOD[5:], "begins with ting1"),
        ("", "begins with ting1"),
        ("ting", "begins with ting1"),
        (GOOD[:-1], "38 letters"),
        (GOOD + "q", "38 letters"),
        (GOOD[:-1] + "b", "38 letters"),
        (GOOD[:-1] + " ", "38 letters"),
        (GOOD[:-1] + "é", "ASCII"),
    ],
)
def test_the_complaint_says_what_to_check(text: str, complaint: str) -> None:
    """For a person who copies it."""
    with pytest.raises(BadAddress, match=complaint):
        from_text(text)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_bad_one(text: str) -> None:
    """No other exception; and one address has two spellings, no more."""
    try:
        address = from_text(text)
    except BadAddress:
        return
    assert text.lower() == to_text(address)


def test_kinds_never_collide() -> None:
    """Each kind hashes into a domain of its own."""
    key = sha256(b"key")
    assert key_address(key) == sha256(b"allting/address/key" + key)[:20]
    assert module_address("coin") == sha256(b"allting/address/modulecoin")[:20]
    assert address_of("multisig", b"a", b"b") == sha256(b"allting/address/multisigab")[:20]


def test_an_address_has_20_bytes() -> None:
    """Showing anything else is our defect."""
    with pytest.raises(AssertionError):
        to_text(bytes(32))
