"""Invite links: all that a newcomer needs to join a chain, in one line that one member gives another.

The link carries a trust root, which is only as good as the way by which it came: send it as you would send a key.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

from consensus.codec import BadMessage
from consensus.shape import U63, Count, Hash, Length, PublicKey, Range, Signature, from_bytes, shape_of, to_bytes
from consensus.signing import public_key, sign, sign_bytes, verify
from consensus.transaction import ChainId
from p2p.address import PeerAddress

PREFIX = "allting://join/"
VERSION = 1
LINK_LENGTH_MAX = 8_192
PEERS_MAX = 16
CLOCK_DRIFT_MS = 600_000
"""A link from so far in the future says that one of two clocks is wrong."""


class BadInvite(Exception):
    """The link can't be used; says why and what to ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an invite says, and its issuer signs."""

    version: Annotated[int, Range(VERSION, VERSION)] = VERSION
    chain_id: ChainId
    genesis_hash: Hash
    height: U63
    """Of the trust root: the issuer's latest block; 0 with the genesis hash before the first."""
    block_id: Hash
    time_ms: U63
    """Time of that block."""
    issued_ms: U63
    expires_ms: U63
    """Issue time plus the trusting period: later the root is worth nothing, and the voucher is not for the finder."""
    peers: Annotated[tuple[Annotated[str, Length(200)], ...], Count(PEERS_MAX, 1)]
    """``nodeid@host:port``, the issuer first."""
    voucher: Hash | None
    """Seed of an account that pays the newcomer's first fees."""
    issuer: PublicKey
    """The node id of who issued it."""


@dataclass(frozen=True, slots=True)
class Invite:
    """Signed terms: whole and unchanged since the issuer wrote them."""

    terms: Terms
    signature: Signature

    @classmethod
    def issue(cls, terms: Terms, node_seed: bytes) -> Invite:
        """The invite with these *terms*, signed with the issuer's node key."""
        assert public_key(node_seed) == terms.issuer
        return cls(terms, sign(node_seed, _message(terms)))

    def link(self) -> str:
        """The text to send."""
        return PREFIX + base64.urlsafe_b64encode(to_bytes(self)).decode("ascii").rstrip("=")

    @property
    def height(self) -> int:
        """The height of the trust root."""
        return self.terms.height

    @property
    def block_id(self) -> bytes:
        """32 bytes: the block id of the trust root."""
        return self.terms.block_id

    @classmethod
    def read(cls, link: str, *, now_ms: int) -> Invite:
        """The invite behind *link*, complete, signed and not expired. Raises BadInvite."""
        invite = cls.parse(link)
        terms = invite.terms
        if now_ms > terms.expires_ms:
            days = (now_ms - terms.expires_ms) // 86_400_000
            ago = f"{days} days ago" if days else "today"
            raise BadInvite(f"the link expired {ago}; ask a member for a fresh one (allting invite)")
        if terms.issued_ms > now_ms + CLOCK_DRIFT_MS:
            raise BadInvite("the link was issued in the future by this machine's clock; set the clock and try again")
        return invite

    @classmethod
    def parse(cls, link: str) -> Invite:
        """The invite behind *link*, complete and signed, whatever its age. Raises BadInvite."""
        invite = cls._decode(link.strip())
        terms = invite.terms
        if not verify(terms.issuer, _message(terms), invite.signature):
            raise BadInvite("the link was changed on its way (its signature does not hold); ask for it again")
        for peer in terms.peers:
            try:
                PeerAddress.parse(peer)
            except ValueError:
                raise BadInvite(f"the link names a peer that is none: {peer[:80]!r}; ask for another link") from None
        return invite

    @classmethod
    def _decode(cls, link: str) -> Invite:
        if not link.startswith(PREFIX):
            raise BadInvite(f"this is no invite link; one begins with {PREFIX}")
        if len(link) > LINK_LENGTH_MAX:
            raise BadInvite(f"the link is longer than {LINK_LENGTH_MAX} characters; something was pasted twice?")
        text = link[len(PREFIX) :]
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return from_bytes(cls, data, bytes_max=LINK_LENGTH_MAX)
        except (binascii.Error, ValueError, BadMessage):
            raise BadInvite("the link is incomplete or damaged; copy all of it, without spaces") from None


def _message(terms: Terms) -> bytes:
    return sign_bytes("invite", terms.chain_id, shape_of(Terms).to_wire(terms))
