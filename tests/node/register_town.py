"""A small real application for tests of the engine: numbered registers, nonces, updates of the validator set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from consensus.address import key_address
from consensus.application import (
    Admission,
    BlockInfo,
    BlockOutcome,
    Changes,
    Event,
    Founder,
    Genesis,
    Inadmissible,
    ProofTarget,
    QueryRefused,
    Result,
    State,
)
from consensus.params import Params
from consensus.signing import public_key
from consensus.transaction import Body, Message, Transaction
from consensus.validators import Update

WEIGHT = 100


class RegisterTown:
    """Messages: ``register.set [key, value]`` (value 13 is refused), ``validators.power [public key, power]``.

    Whom evidence convicts leaves the set.
    """

    name = "register"
    version = 1
    module_names: tuple[str, ...] = ("accounts", "register")

    def genesis(self, document: Mapping[str, Any], *, chain_id: str, time_ms: int, params: Params) -> Genesis:
        members = [Update(bytes.fromhex(member["public_key"]), member["power"]) for member in document["members"]]
        return Genesis(changes={"accounts": {}, "register": {}}, validators=tuple(members))

    def resume(
        self, former: State, founders: Sequence[Founder], *, chain_id: str, time_ms: int, params: Params
    ) -> Genesis:
        raise ValueError("this town goes on from nothing")

    def entry_to_json(self, module: str, key: bytes, value: bytes | None) -> Any:
        return {"entry": key.hex(), "value": None if value is None else value.hex()}

    def admit(self, transaction: Transaction, state: State, *, time_ms: int, params: Params) -> Admission:
        sender = transaction.body.sender
        assert sender is not None
        if transaction.body.valid_until_ms < time_ms:
            raise Inadmissible("tx.expired", "too late")
        nonce = int.from_bytes(state.get("accounts", sender) or b"", "big")
        return Admission(sender=sender, next_nonce=nonce, weight_max=WEIGHT, priority=transaction.body.fee)

    def execute(self, state: State, block: BlockInfo) -> RegisterExecution:
        return RegisterExecution(state, block)

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


class RegisterExecution:
    """One block over *state*."""

    def __init__(self, state: State, block: BlockInfo) -> None:
        self._state = state
        self._block = block
        self._changes: dict[str, dict[bytes, bytes | None]] = {"accounts": {}, "register": {}}
        self._updates: list[Update] = []
        self.weight = 0

    def begin(self) -> Result:
        members = [member.public_key for member in self._block.validators.validators]
        for lie in self._block.evidence:
            if lie.public_key in members and len(members) > 1:
                self._updates.append(Update(lie.public_key, 0))
        return Result("", 0, 0, ())

    def deliver(self, transaction: Transaction) -> Result:
        body = transaction.body
        assert body.sender is not None
        if body.valid_until_ms < self._block.time_ms:
            raise Inadmissible("tx.expired", "too late")
        stored = self._changes["accounts"].get(body.sender) or self._state.get("accounts", body.sender) or b""
        if int.from_bytes(stored, "big") != body.nonce:
            raise Inadmissible("tx.nonce", "another nonce is next")
        if body.messages[0].name == "too_deep":
            raise RecursionError
        self._changes["accounts"][body.sender] = (body.nonce + 1).to_bytes(8, "big")
        self.weight += WEIGHT
        return self._act(body.messages[0])

    def _act(self, message: Message) -> Result:
        assert isinstance(message.args, tuple)
        first, second = message.args
        if message.name == "power":
            assert isinstance(first, bytes)
            assert isinstance(second, int)
            self._updates.append(Update(first, second))
            return Result("", WEIGHT, 0, ())
        if second == 13:
            return Result("register.unlucky", WEIGHT, 0, ())
        self._changes["register"][str(first).encode()] = str(second).encode()
        return Result("", WEIGHT, 0, (Event("register", "set", (first, second)),))

    def end(self) -> BlockOutcome:
        return BlockOutcome(result=Result("", 0, 0, ()), validator_updates=tuple(self._updates))

    @property
    def changes(self) -> Changes:
        return self._changes


def signed(chain_id: str, seed: bytes, nonce: int, message: Message, *, valid_until_ms: int) -> bytes:
    """The bytes of a transaction with *message*, by the account of *seed*."""
    key = public_key(seed)
    body = Body(
        chain_id=chain_id,
        sender=key_address(key),
        nonce=nonce,
        valid_until_ms=valid_until_ms,
        fee=0,
        fee_payer=None,
        messages=(message,),
        signers=(key,),
    )
    return body.signed(seed).raw


def registers(state: State) -> Iterator[tuple[int, int]]:
    """All registers with their values."""
    for key, value in state.scan("register", b"", None):
        yield int(key), int(value)
