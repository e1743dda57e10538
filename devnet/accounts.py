"""Accounts for load: derived from the chain id, so that the genesis funds and the generator signs for the same ones.

Their keys are no secret: whoever knows the chain id has them. They exist on devnets only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgpack
import nacl.bindings

from consensus.address import key_address
from consensus.signing import sha256, sign_bytes
from consensus.transaction import VERSION


@dataclass(frozen=True, slots=True)
class Account:
    """One account of the load."""

    public_key: bytes
    secret: bytes
    """64 bytes, libsodium's form: seed and public key."""
    address: bytes


def account(chain_id: str, index: int) -> Account:
    """The *index*-th load account of *chain_id*."""
    seed = sha256(f"allting/devnet/load/{chain_id}/{index}".encode())
    public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
    return Account(public, secret, key_address(public))


def account_addresses(chain_id: str, count: int) -> Iterator[bytes]:
    """Addresses of the first *count* load accounts."""
    return (account(chain_id, index).address for index in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A transfer between two load accounts, before it is signed."""

    sender: Account
    to: bytes
    nonce: int
    amount: int


def sign_transfer(transfer: Transfer, *, chain_id: str, valid_until_ms: int, fee: int) -> bytes:
    """The canonical bytes of the signed transfer.

    The same bytes as `consensus.transaction.Body.signed` gives (a test holds them together), without its checks,
    because a benchmark signs a hundred thousand of them.
    """
    sender = transfer.sender
    body = (
        VERSION,
        chain_id,
        sender.address,
        transfer.nonce,
        valid_until_ms,
        fee,
        None,
        (("coin", "send", (transfer.to, transfer.amount)),),
        (sender.public_key,),
    )
    signature = nacl.bindings.crypto_sign(sign_bytes("tx", chain_id, body), sender.secret)[:64]
    packed: bytes = msgpack.packb((*body, (signature,)), use_bin_type=True)
    return packed
