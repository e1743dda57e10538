"""Whether a transaction may stand in a block, and what it may use: the same rules for the mempool and for execution."""

from __future__ import annotations

from typing import NamedTuple, cast

from city.register import Register
from city.sdk.context import REGISTER, signed_by
from city.sdk.fees import FeePolicy
from city.sdk.runtime import Call, Registry, Runtime
from city.sdk.weights import BYTE, SIGNATURE, TRANSACTION
from consensus.address import to_text
from consensus.application import Inadmissible
from consensus.codec import BadMessage
from consensus.transaction import NONCE_AHEAD_MAX, Message, Transaction

WRONG_CHAIN = "tx.wrong_chain"
EXPIRED = "tx.expired"
NO_SENDER = "tx.no_sender"
UNKNOWN_MESSAGE = "tx.unknown_message"
BAD_ARGUMENTS = "tx.bad_arguments"
NONCE_USED = "tx.nonce_used"
NONCE_GAP = "tx.nonce_gap"
NONCE_TOO_FAR = "tx.nonce_too_far"
WRONG_SIGNERS = "tx.wrong_signers"
UNPAYABLE_FEE = "tx.unpayable_fee"
FEE_TOO_LOW = "tx.fee_too_low"
BLOCK_FULL = "tx.block_full"


class Terms(NamedTuple):
    """On what terms a transaction is executed."""

    sender: bytes
    payer: bytes
    next_nonce: int
    intrinsic: int
    """Weight that it uses before its first message runs."""
    weight_max: int
    calls: tuple[Call, ...]
    """Its messages, read."""


class _Reading(NamedTuple):
    """What a transaction's bytes say to this town, whatever the state."""

    registry: Registry
    sender: bytes
    payer: bytes
    intrinsic: int
    calls: tuple[Call, ...]


def intrinsic_weight(transaction: Transaction) -> int:
    """The weight of a transaction before its first message runs."""
    return TRANSACTION + BYTE * len(transaction.raw) + SIGNATURE * len(transaction.signatures)


def check(transaction: Transaction, runtime: Runtime, fees: FeePolicy | None) -> Terms:
    """The terms of *transaction* by the state that *runtime* reads, whatever its nonce. Raises Inadmissible.

    The weight that this uses is the caller's to forget: it is part of the intrinsic weight.
    """
    body = transaction.body
    moment = runtime.moment
    if body.chain_id != moment.chain_id:
        raise Inadmissible(WRONG_CHAIN, f"this is {moment.chain_id}, the transaction is for {body.chain_id}")
    if body.valid_until_ms < moment.time_ms:
        raise Inadmissible(EXPIRED, f"it was valid until {body.valid_until_ms}, the block's time is {moment.time_ms}")
    _, sender, payer, intrinsic, calls = _reading(transaction, runtime)
    register = cast(Register, runtime.modules[REGISTER])
    _check_signers(register, body.signers, sender, payer)
    weight_max = moment.params.transaction_weight_max
    if fees is not None:
        weight_max = fees.weight_bought(
            sender=sender, payer=payer, fee=body.fee, weight_max=weight_max, time_ms=moment.time_ms
        )
    if weight_max < intrinsic:
        raise Inadmissible(
            FEE_TOO_LOW, f"the transaction weighs at least {intrinsic}, what is paid for is {weight_max}"
        )
    return Terms(sender, payer, register.nonces.get(sender, 0), intrinsic, weight_max, calls)


def _reading(transaction: Transaction, runtime: Runtime) -> _Reading:
    """What *transaction* says; read once, for the pool, and kept with it for the blocks. Raises Inadmissible."""
    known = transaction.derived.get(_Reading)
    if known is not None and known.registry is runtime.registry:
        return cast(_Reading, known)
    body = transaction.body
    if body.sender is None:
        raise Inadmissible(NO_SENDER, "no module of this town takes messages without a sender")
    calls = tuple([_read(message, runtime) for message in body.messages])
    payer = body.fee_payer or body.sender
    reading = _Reading(runtime.registry, body.sender, payer, intrinsic_weight(transaction), calls)
    transaction.derived[_Reading] = reading
    return reading


def check_nonce_for_pool(nonce: int, next_nonce: int) -> None:
    """Raises Inadmissible unless the transaction's turn can still come, and soon enough to wait for."""
    if nonce < next_nonce:
        raise Inadmissible(NONCE_USED, f"nonce {nonce} has been used, the next one is {next_nonce}")
    if nonce > next_nonce + NONCE_AHEAD_MAX:
        raise Inadmissible(NONCE_TOO_FAR, f"nonce {nonce} is more than {NONCE_AHEAD_MAX} ahead of {next_nonce}")


def check_nonce_for_block(nonce: int, next_nonce: int) -> None:
    """Raises Inadmissible unless it is the transaction's turn."""
    if nonce < next_nonce:
        raise Inadmissible(NONCE_USED, f"nonce {nonce} has been used, the next one is {next_nonce}")
    if nonce > next_nonce:
        raise Inadmissible(NONCE_GAP, f"nonce {nonce} must wait for {next_nonce}")


def _read(message: Message, runtime: Runtime) -> Call:
    try:
        call = runtime.read(message)
    except BadMessage as error:
        raise Inadmissible(BAD_ARGUMENTS, f"{message.module}.{message.name}: {error}") from None
    if call is None:
        raise Inadmissible(UNKNOWN_MESSAGE, f"this town has no message {message.module}.{message.name}")
    return call


def _check_signers(register: Register, signers: tuple[bytes, ...], sender: bytes, payer: bytes) -> None:
    if not signed_by(register, sender, signers):
        raise Inadmissible(WRONG_SIGNERS, f"the signers are not those whom the sender {to_text(sender)} obeys")
    if payer != sender and not signed_by(register, payer, signers):
        raise Inadmissible(WRONG_SIGNERS, f"the fee payer {to_text(payer)} did not sign")
