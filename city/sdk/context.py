"""What a handler knows of the transaction that calls it, and what it can do beyond its own state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from city.sdk.refusal import NOT_AUTHORISED, refused
from city.sdk.runtime import AUTHORITY_RESERVE, Moment, Runtime
from consensus import address
from consensus.application import BlockInfo
from consensus.codec import BadMessage
from consensus.params import BadParams, Params
from consensus.transaction import Message
from consensus.validators import Update

if TYPE_CHECKING:
    from city.register import Register

TREASURY = address.module_address("treasury")
"""Where fees go, and from where a passed proposal pays."""
GOVERNANCE = "governance"
REGISTER = "town"
VALIDATORS = "validators"
TRANSACTION_WEIGHT_MAX_LEAST = 2_000_000
"""A town can't vote itself out of the weight that a vote takes."""
module_address = lru_cache(maxsize=1024)(address.module_address)
key_address = lru_cache(maxsize=65_536)(address.key_address)


class Context:
    """The transaction (or scheduled work) in whose name a handler runs."""

    __slots__ = ("_runtime", "authority", "sender", "signers")

    treasury = TREASURY

    def __init__(
        self, runtime: Runtime, sender: bytes, signers: tuple[bytes, ...] = (), authority: str | None = None
    ) -> None:
        self._runtime = runtime
        self.sender = sender
        """20 bytes; the account that acts."""
        self.signers = signers
        """Public keys whose signatures the transaction bears, verified."""
        self.authority = authority
        """Whose authority carries this message: "governance" or None."""

    @property
    def time(self) -> int:
        """The block's time, ms since 1970: the only clock."""
        return self._runtime.moment.time_ms

    @property
    def height(self) -> int:
        """The block's height."""
        return self._runtime.moment.height

    @property
    def chain_id(self) -> str:
        """The chain's name."""
        return self._runtime.moment.chain_id

    @property
    def caller(self) -> str | None:
        """The module that called the one that runs; None if the transaction itself did."""
        stack = self._runtime.stack
        return stack[-2] if len(stack) > 1 else None

    @property
    def caller_address(self) -> bytes:
        """The account of the module that called; AssertionError if none did."""
        assert self.caller is not None
        return module_address(self.caller)

    @property
    def own_address(self) -> bytes:
        """The account of the module that runs."""
        return module_address(self._runtime.stack[-1])

    def emit(self, event: object) -> None:
        """*event* (an `event` declared in the module's file) stands in the result and in the log of events."""
        self._runtime.emit(event)

    def signed_by(self, account: bytes) -> bool:
        """Whether the keys of *account* signed this transaction."""
        return signed_by(_register(self._runtime), account, self.signers)

    def schedule(self, at_ms: int, handler: Callable[..., None], **arguments: Any) -> None:
        """*handler* is called with *arguments* in the first block at or after *at_ms*, rounded up to the town's grain.

        It is a `scheduled` method of the module that runs.
        """
        module = self._runtime.stack[-1]
        name = handler.__name__
        declared = self._runtime.modules[module].declaration.scheduled[name]
        _register(self._runtime).enqueue(self.time, at_ms, module, name, declared.signature.write(arguments))

    def readable(self, message: Message) -> bool:
        """Whether *message* is one that this town knows, with arguments of its types."""
        try:
            return self._runtime.read(message) is not None
        except BadMessage:
            return False

    def carry_out(self, messages: Sequence[Message]) -> str:
        """*messages* take effect with the authority of governance, all or none: "" or the code of what refused.

        Only the module governance may: nothing else can grant authority. The sender is the town's own account, which
        holds nothing: that of governance holds the deposits of other ballots.
        """
        self._only_governance()
        runtime = self._runtime
        context = Context(runtime, module_address(REGISTER), (), GOVERNANCE)

        def carry_all() -> None:
            for message in messages:
                call = runtime.read(message)
                assert call is not None, "a proposal's messages were readable when it was proposed"
                runtime.carry(call, context)

        limit = runtime.meter.limit
        reserve = min(AUTHORITY_RESERVE, limit // 2)
        runtime.meter.limit = max(runtime.meter.used, limit - reserve)
        code = runtime.attempt("a proposal", carry_all)
        runtime.meter.limit = limit
        return code

    def set_param(self, module: str, name: str, value: int) -> bool:
        """The parameter is *value*; False if there is none, or *value* is out of its bounds. Only for governance."""
        self._only_governance()
        found = self._runtime.modules.get(module)
        param = None if found is None else found.declaration.params.get(name)
        if found is None or param is None or not param.low <= value <= param.high:
            return False
        found.space.write(param.key, param.write(value), value)
        return True

    def set_engine_param(self, name: str, value: int) -> str:
        """The engine's parameter is *value* from the next height on: "", or why it can't be. Only for governance."""
        self._only_governance()
        decided = self._runtime.decided
        params = decided.params or self._runtime.moment.params
        if name not in {field.name for field in dataclasses.fields(Params)}:
            return f"there is no parameter {name}"
        if name == "transaction_weight_max" and value < TRANSACTION_WEIGHT_MAX_LEAST:
            return (
                f"{name} must be at least {TRANSACTION_WEIGHT_MAX_LEAST}, or no proposal could be carried out any more"
            )
        try:
            decided.params = params.replaced(**{name: value})
        except BadParams as error:
            return str(error)
        return ""

    def update_validator(self, public_key: bytes, power: int) -> None:
        """The validator's power from the next height on; 0 removes it. Only for the module validators."""
        assert self._runtime.stack[-1] == VALIDATORS
        self._runtime.decided.updates += (Update(public_key, power),)

    def code_version(self, module: str) -> int:
        """The version of the code that this node runs; 0 if it has none."""
        found = self._runtime.modules.get(module)
        return 0 if found is None else found.version

    def code_schema(self, module: str) -> bytes:
        """SHA-256 of what the code of *module* declares."""
        return self._runtime.registry.schemas[module]

    def migrate(self, module: str, before: int, after: int) -> None:
        """The migrations of *module* from version *before* to *after* have run, one by one. Only for the register."""
        assert self._runtime.stack[-1] == REGISTER
        found = self._runtime.modules[module]
        for version in range(before + 1, after + 1):
            name = found.declaration.migrations.get(version)
            if name is not None:
                self._runtime.enter(module)
                getattr(found, name)(self)
                self._runtime.leave()

    def _only_governance(self) -> None:
        if self._runtime.stack[-1] != GOVERNANCE:
            raise refused(NOT_AUTHORISED)


def signed_by(register: Register, account: bytes, signers: tuple[bytes, ...]) -> bool:
    """Whether *signers* (public keys) suffice: by the key record, or as the key that hashes to the address."""
    record = register.keys.get(account)
    if record is None:
        for key in signers:  # noqa: SIM110 (most often one; a generator would cost more than the look)
            if key_address(key) == account:
                return True
        return False
    return sum(key in signers for key in record.keys) >= record.threshold


def moment_of(block: BlockInfo) -> Moment:
    """When and where the modules of *block* run."""
    return Moment(block.chain_id, block.height, block.time_ms, block.params)


def _register(runtime: Runtime) -> Register:
    return runtime.modules[REGISTER]  # type: ignore[return-value]  # the application puts it there, always
