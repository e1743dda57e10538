"""A signed transaction: 1 to 16 messages, all or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from consensus.codec import BadMessage, decode, encode
from consensus.shape import U63, Address, Anything, Count, Length, PublicKey, Range, Signature, constructor_of, shape_of
from consensus.signing import public_key, sha256, sign, sign_bytes, sign_bytes_over

VERSION = 1
MESSAGES_MAX = 16
SIGNERS_MAX = 16
NONCE_AHEAD_MAX = 64
"""A nonce up to this far ahead of the next one is parked; further ones are refused."""

CHAIN_ID_LENGTH_MAX = 50
ChainId = Annotated[str, Length(CHAIN_ID_LENGTH_MAX)]
Name = Annotated[str, Length(40)]


@dataclass(frozen=True, slots=True)
class Message:
    """One act: a message of a module, with its arguments in declared order, not yet checked against their types."""

    module: Name
    name: Name
    args: Anything
    """A tuple; the module's declaration says of what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is signed: every field but the signatures."""

    version: Annotated[int, Range(VERSION, VERSION)] = VERSION
    chain_id: ChainId
    sender: Address | None
    """None: an anonymous message, admitted by its module's own check."""
    nonce: U63
    valid_until_ms: U63
    """Void in a block with a later time."""
    fee: U63
    """Charged whole, in base units; buys weight."""
    fee_payer: Address | None
    """None: the sender."""
    messages: Annotated[tuple[Message, ...], Count(MESSAGES_MAX, 1)]
    signers: Annotated[tuple[PublicKey, ...], Count(SIGNERS_MAX)]
    """Ascending, no duplicates."""

    def sign_bytes(self) -> bytes:
        """What every signer signs."""
        return sign_bytes("tx", self.chain_id, shape_of(Body).to_wire(self))

    def signed(self, *seeds: bytes) -> Transaction:
        """The transaction with the signatures of *seeds* (32 bytes each), which must be those of the signers."""
        message = self.sign_bytes()
        signatures = {bytes(key): signature for key, signature in (_key_and_signature(seed, message) for seed in seeds)}
        fields = shape_of(Body).to_wire(self)
        assert isinstance(fields, tuple)
        return Transaction.decode(encode((*fields, tuple(signatures[key] for key in self.signers))))


@dataclass(frozen=True, slots=True, eq=False)
class Transaction:
    """A well-formed transaction with its exact bytes. Its signatures have not been verified by existing."""

    body: Body
    signatures: tuple[bytes, ...]
    raw: bytes
    """The complete canonical bytes, kept from the socket to the disk."""
    id: bytes
    """32 bytes, SHA-256 of `raw`."""
    message: bytes
    """What was signed (`Body.sign_bytes`)."""
    derived: dict[object, Any] = field(default_factory=dict)
    """What others compute from the bytes alone, by a key of their own: once for the pool, and for each execution."""

    @classmethod
    def decode(cls, raw: bytes, *, bytes_max: int = 2**20, id_: bytes | None = None) -> Transaction:
        """The transaction whose canonical bytes are *raw*. Raises BadMessage; does not verify signatures.

        *id_*: the SHA-256 of *raw*, where the caller has it already.
        """
        fields = decode(raw, bytes_max=bytes_max)
        if type(fields) is not tuple or len(fields) != 10:
            raise BadMessage("a transaction is an array of 10 fields")
        body: Body = _BODY.from_wire(fields[:9])
        signatures: tuple[bytes, ...] = _SIGNATURES.from_wire(fields[9])
        if len(body.signers) > 1 and list(body.signers) != sorted(set(body.signers)):
            raise BadMessage("signers must be ascending, without duplicates", "bad_message.signers")
        if len(signatures) != len(body.signers):
            raise BadMessage("one signature for each signer is needed", "bad_message.signers")
        _check_sender(body)
        # What is signed are the bytes themselves: an array of 9 instead of 10, without its last item.
        signed = b"\x99" + raw[1 : len(raw) - _signatures_bytes(len(signatures))]
        message = sign_bytes_over("tx", body.chain_id, signed)
        return _NEW((body, signatures, raw, id_ or sha256(raw), message, {}))


_NEW = constructor_of(Transaction)
_BODY = shape_of(Body)
_SIGNATURES = shape_of(Annotated[tuple[Signature, ...], Count(SIGNERS_MAX)])


def _signatures_bytes(count: int) -> int:
    """The length of an encoded array of *count* signatures: its header, and 66 bytes for each."""
    return (1 if count < 16 else 3) + 66 * count


def _check_sender(body: Body) -> None:
    if body.sender is not None:
        if not body.signers:
            raise BadMessage("a transaction with a sender needs a signer", "bad_message.signers")
    elif body.nonce or body.fee or body.fee_payer is not None or body.signers or len(body.messages) != 1:
        raise BadMessage("without a sender: one message, nonce 0, fee 0, no payer, no signers", "bad_message.anonymous")


def _key_and_signature(seed: bytes, message: bytes) -> tuple[bytes, bytes]:
    return public_key(seed), sign(seed, message)
