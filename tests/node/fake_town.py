"""A small application for the pool's tests: balances and nonces in a mapping, fees must be payable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from consensus.address import key_address
from consensus.application import (
    Admission,
    BlockInfo,
    Event,
    Execution,
    Founder,
    Genesis,
    Inadmissible,
    ProofTarget,
    QueryRefused,
    State,
)
from consensus.chain import ChainState
from consensus.params import TINY, Params
from consensus.signing import public_key
from consensus.transaction import Body, Message, Transaction
from consensus.validators import Update

CHAIN_ID = "pool-test-1"
TIME_MS = 1_790_000_000_000
MINUTE_MS = 60_000


class Balances:
    """A `State` with a next nonce and a balance for each account; accounts that were never set have plenty."""

    def __init__(self, nonces: Mapping[bytes, int] | None = None, balances: Mapping[bytes, int] | None = None) -> None:
        self.nonces = dict(nonces or {})
        self.balances = dict(balances or {})

    def get(self, module: str, key: bytes) -> bytes | None:
        table = {"nonce": self.nonces, "balance": self.balances}[module]
        return str(table[key]).encode() if key in table else None

    def scan(
        self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return iter(())


class FakeTown:
    """An `Application` of which only admission is asked."""

    name = "fake"
    version = 1
    module_names: tuple[str, ...] = ("balance", "nonce")

    def __init__(self) -> None:
        self.admissions = 0

    def resume(
        self, former: State, founders: Sequence[Founder], *, chain_id: str, time_ms: int, params: Params
    ) -> Genesis:
        raise ValueError("this town goes on from nothing")

    def entry_to_json(self, module: str, key: bytes, value: bytes | None) -> Any:
        return {"entry": key.hex(), "value": None if value is None else value.hex()}

    def admit(self, transaction: Transaction, state: State, *, time_ms: int, params: Params) -> Admission:
        self.admissions += 1
        body = transaction.body
        if body.messages[0].name == "explode":
            raise ZeroDivisionError("a defect of a module")
        if body.sender is None:
            return Admission(sender=body.messages[0].name.encode(), next_nonce=0, weight_max=1, priority=0)
        if body.sender not in [key_address(key) for key in body.signers]:
            raise Inadmissible("tx.not_signed", "the sender's key is not among the signers")
        balance = int(state.get("balance", body.sender) or 10**9)
        if body.fee > balance:
            raise Inadmissible("tx.unpayable", f"the fee is {body.fee}, the balance is {balance}")
        next_nonce = int(state.get("nonce", body.sender) or 0)
        return Admission(sender=body.sender, next_nonce=next_nonce, weight_max=1, priority=body.fee)

    def genesis(self, document: Mapping[str, Any], *, chain_id: str, time_ms: int, params: Params) -> Genesis:
        return Genesis(changes={}, validators=())

    def execute(self, state: State, block: BlockInfo) -> Execution:
        raise AssertionError("the pool never executes")

    def next_due_ms(self, state: State) -> int | None:
        return None

    def query(self, path: str, args: Mapping[str, Any], state: State, *, height: int, time_ms: int) -> Any:
        raise QueryRefused("query.unknown", path)

    def proof_targets(self, path: str, args: Mapping[str, Any]) -> Sequence[ProofTarget]:
        return ()

    def answer_from_proof(self, path: str, args: Mapping[str, Any], values: Sequence[bytes | None]) -> Any:
        return None

    def messages_from_json(self, messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
        return ()

    def message_to_json(self, message: Message) -> Any:
        return None

    def event_to_json(self, event: Event) -> Any:
        return None

    def refusal_text(self, code: str) -> str | None:
        return None

    def describe(self) -> dict[str, Any]:
        return {}


def seed_of(number: int) -> bytes:
    """The seed of test account *number*."""
    return number.to_bytes(32, "big")


def account(number: int) -> bytes:
    """The address of test account *number*."""
    return key_address(public_key(seed_of(number)))


def signed(
    number: int,
    nonce: int,
    *,
    fee: int = 10,
    chain_id: str = CHAIN_ID,
    valid_until_ms: int = TIME_MS + MINUTE_MS,
    message: str = "send",
    padding: int = 0,
    payer: int | None = None,
) -> Transaction:
    """A transaction of account *number*; account *payer* pays for it."""
    signers = {public_key(seed_of(each)): seed_of(each) for each in {number, payer or number}}
    body = Body(
        chain_id=chain_id,
        sender=account(number),
        nonce=nonce,
        valid_until_ms=valid_until_ms,
        fee=fee,
        fee_payer=None if payer is None else account(payer),
        messages=(Message("coin", message, (bytes(20), 5, bytes(padding))),),
        signers=tuple(sorted(signers)),
    )
    return body.signed(*[signers[key] for key in sorted(signers)])


def anonymous(name: str, *, valid_until_ms: int = TIME_MS + MINUTE_MS) -> Transaction:
    """A transaction without a sender; *name* stands for its key image."""
    body = Body(
        chain_id=CHAIN_ID,
        sender=None,
        nonce=0,
        valid_until_ms=valid_until_ms,
        fee=0,
        fee_payer=None,
        messages=(Message("polls", name, ()),),
        signers=(),
    )
    return body.signed()


def chain_at(height: int, *, time_ms: int = TIME_MS, params: Params = TINY) -> ChainState:
    """A chain state whose height is *height*; its history is not looked at."""
    genesis = ChainState.genesis(
        chain_id=CHAIN_ID,
        genesis_hash=bytes(32),
        time_ms=time_ms,
        validators=[Update(public_key(seed_of(1)), 10)],
        params=params,
    )
    fields = {name: getattr(genesis, name) for name in genesis.__slots__}
    return ChainState(**{**fields, "height": height})
