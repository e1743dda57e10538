"""Invite links: whole, signed, fresh, or refused with what to do."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.params import DAY_MS
from consensus.signing import public_key, sha256
from node.invite import LINK_LENGTH_MAX, PREFIX, BadInvite, Invite, Terms

SEED = sha256(b"node")
NOW_MS = 1_790_000_000_000
PEER = f"{public_key(SEED).hex()}@127.0.0.1:26656"
TERMS = Terms(
    chain_id="ting-1",
    genesis_hash=sha256(b"genesis"),
    height=7,
    block_id=sha256(b"block"),
    time_ms=NOW_MS - 1_000,
    issued_ms=NOW_MS,
    expires_ms=NOW_MS + DAY_MS,
    peers=(PEER,),
    voucher=sha256(b"voucher"),
    issuer=public_key(SEED),
)


def link(**changes: Any) -> str:
    """A link whose terms differ from `TERMS`."""
    return Invite.issue(dataclasses.replace(TERMS, **changes), SEED).link()


def test_a_link_is_read_as_it_was_issued() -> None:
    invite = Invite.read(f"  {link()}\n", now_ms=NOW_MS)
    assert invite.terms == TERMS
    assert (invite.height, invite.block_id) == (7, sha256(b"block"))
    assert Invite.read(link(voucher=None), now_ms=NOW_MS).terms.voucher is None


def test_a_link_expires_and_the_text_says_so() -> None:
    assert Invite.read(link(), now_ms=NOW_MS + DAY_MS).height == 7
    with pytest.raises(BadInvite, match="expired today"):
        Invite.read(link(), now_ms=NOW_MS + DAY_MS + 1)
    with pytest.raises(BadInvite, match="3 days ago"):
        Invite.read(link(), now_ms=NOW_MS + 4 * DAY_MS + 1)
    assert Invite.parse(link()).height == 7


def test_a_link_from_the_future_blames_the_clock() -> None:
    with pytest.raises(BadInvite, match="clock"):
        Invite.read(link(issued_ms=NOW_MS + DAY_MS, expires_ms=NOW_MS + 2 * DAY_MS), now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no invite link"),
        ("https://example.org", "no invite link"),
        (PREFIX, "incomplete"),
        (PREFIX + "%%%", "incomplete"),
        (link()[:-10], "incomplete|changed"),
        (link() + link(), "incomplete"),
        (PREFIX + "A" * LINK_LENGTH_MAX, "longer"),
        (link(peers=("nobody",)), "peer that is none"),
    ],
)
def test_what_is_no_whole_link_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInvite, match=why):
        Invite.read(text, now_ms=NOW_MS)


def test_terms_that_the_issuer_did_not_sign_are_refused() -> None:
    signature = Invite.issue(TERMS, SEED).signature
    other = Invite(dataclasses.replace(TERMS, genesis_hash=sha256(b"other")), signature)
    with pytest.raises(BadInvite, match="changed on its way"):
        Invite.read(other.link(), now_ms=NOW_MS)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_is_accepted(place: int, change: int) -> None:
    whole = link()[len(PREFIX) :]
    data = bytearray(base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4)))
    data[place % len(data)] ^= change
    with pytest.raises(BadInvite):
        Invite.read(PREFIX + base64.urlsafe_b64encode(bytes(data)).decode().rstrip("="), now_ms=NOW_MS)
