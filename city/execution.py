"""One block's execution: scheduled work, then transactions, then what modules have pending."""

from __future__ import annotations

from typing import Any, cast

from city.admission import BLOCK_FULL, Terms, check, check_nonce_for_block
from city.register import Register, Work
from city.sdk.context import REGISTER, Context, module_address, moment_of
from city.sdk.fees import FeePolicy
from city.sdk.module import Handler
from city.sdk.runtime import Registry, Reporter, Runtime
from city.sdk.weights import Meter
from consensus.application import (
    BlockInfo,
    BlockOutcome,
    Changes,
    EngineFault,
    Inadmissible,
    Misbehaviour,
    Result,
    State,
)
from consensus.shape import INTEGER_MAX
from consensus.transaction import Transaction


class BlockExecution:
    """See `consensus.application.Execution`."""

    def __init__(
        self, registry: Registry, fees: type[FeePolicy] | None, state: State, block: BlockInfo, report: Reporter
    ) -> None:
        self._params = block.params
        self._lies = block.evidence
        self._runtime = Runtime(registry, state, moment_of(block), Meter(INTEGER_MAX), report)
        self._register = cast(Register, self._runtime.modules[REGISTER])
        self._fees = fee_policy(self._runtime, fees)
        self.check_invariants = False
        """Whether `end` looks at every row, and raises AssertionError where an invariant is broken."""
        self._weight = 0
        self._changes: Changes | None = None

    @property
    def weight(self) -> int:
        """Weight used so far."""
        return self._weight

    @property
    def changes(self) -> Changes:
        """What the block changed, per module. Valid after `end`."""
        assert self._changes is not None, "the block has not ended"
        return self._changes

    def begin(self) -> Result:
        """Proved lies are answered; then due work has run in the order of its time, in half of the weight at most."""
        self._check_versions()
        for lie in self._lies:
            self._answer(lie)
        room = self._params.block_weight_max // 2
        most = self._params.transaction_weight_max
        while self._weight + most <= room:
            first = self._register.queue.first()
            if first is None or first[0][0] > self._runtime.moment.time_ms:
                break
            (due, number), work = first
            self._carry_out_work(due, number, work)
        return self._result("", self._weight, 0)

    def deliver(self, transaction: Transaction) -> Result:
        """*transaction* took effect, or was refused, its nonce and fee spent. Raises Inadmissible, nothing changed."""
        runtime = self._runtime
        if self._weight >= self._params.block_weight_max:
            raise Inadmissible(BLOCK_FULL, "the block has no weight left")
        self._meter(INTEGER_MAX)
        terms = check(transaction, runtime, self._fees)
        check_nonce_for_block(transaction.body.nonce, terms.next_nonce)
        self._charge(transaction, terms)
        self._meter(terms.weight_max, terms.intrinsic)
        code = runtime.attempt(transaction.id.hex(), lambda: self._carry(transaction, terms))
        used = min(runtime.meter.used, terms.weight_max)
        self._meter(INTEGER_MAX)
        if self._fees is not None and not transaction.body.fee:
            self._fees.spend_quota(sender=terms.sender, weight=used, time_ms=runtime.moment.time_ms)
        self._weight += used
        return self._result(code, used, transaction.body.fee)

    def end(self) -> BlockOutcome:
        """What modules have pending has run, and the block's changes stand."""
        runtime = self._runtime
        used = sum(self._end_of(name) for name in sorted(runtime.modules))
        self._weight += used
        self._meter(INTEGER_MAX)
        result = self._result("", used, 0)
        if self.check_invariants:
            broken = runtime.broken_invariants()
            assert not broken, f"broken: {', '.join(broken)}"
        self._changes = {
            name: changes for name, space in sorted(runtime.spaces.items()) if (changes := space.changes())
        }
        runtime.close()
        return BlockOutcome(
            result=result,
            validator_updates=runtime.decided.updates,
            params=runtime.decided.params,
        )

    def _check_versions(self) -> None:
        """EngineFault if a module's state is later than our code: we would compute something else than the town."""
        for name, written in self._register.versions.page().rows:
            module = self._runtime.modules.get(name)
            installed = 0 if module is None else module.version
            if installed < written.version:
                raise EngineFault(
                    f"the town runs version {written.version} of the module {name}, installed is {installed}; "
                    "install the version that the town uses and start again"
                )

    def _meter(self, limit: int, used: int = 0) -> None:
        self._runtime.meter.limit = limit
        self._runtime.meter.used = used

    def _charge(self, transaction: Transaction, terms: Terms) -> None:
        """Nonce and fee are spent, whatever comes of the messages."""
        self._register.nonces[terms.sender] = terms.next_nonce + 1
        if self._fees is not None:
            self._fees.charge(payer=terms.payer, fee=transaction.body.fee)

    def _carry(self, transaction: Transaction, terms: Terms) -> None:
        context = Context(self._runtime, terms.sender, transaction.body.signers)
        for call in terms.calls:
            self._runtime.carry(call, context)

    def _answer(self, lie: Misbehaviour) -> None:
        """Every module that declares an answer to *lie* has given it, or its failure is noted."""
        for name in sorted(self._runtime.modules):
            handler = self._runtime.modules[name].declaration.misbehaviour
            if handler is not None:
                arguments = {"public_key": lie.public_key, "power": lie.power, "height": lie.height}
                self._weight += self._run_alone(handler, arguments)
                self._runtime.settle()

    def _carry_out_work(self, due: int, number: int, work: Work) -> None:
        """One piece of work has run, or its failure is noted; either way it is out of the queue."""
        runtime = self._runtime
        self._register.queue.remove((due, number))
        self._meter(self._params.transaction_weight_max)
        code = runtime.attempt(f"{work.module}.{work.name}", lambda: self._run(work))
        self._weight += min(runtime.meter.used, runtime.meter.limit)
        self._meter(INTEGER_MAX)
        if code:
            self._register.note_failure(work, due, runtime.moment.height, code)
        runtime.settle()

    def _run(self, work: Work) -> None:
        """KeyError, hence a fault, if the module or its handler is gone."""
        handler = self._runtime.modules[work.module].declaration.scheduled[work.name]
        context = Context(self._runtime, module_address(work.module))
        self._runtime.call(handler, context, handler.signature.read(work.args))

    def _end_of(self, name: str) -> int:
        """The weight that the module's end of the block used; nothing runs where nothing is pending."""
        runtime = self._runtime
        module = runtime.modules[name]
        handler = module.declaration.end_of_block
        self._meter(INTEGER_MAX)
        if handler is None or handler.mark.pending is None:
            return 0
        if module.declared_table(handler.mark.pending.name).first() is None:
            return 0
        return self._run_alone(handler, {})

    def _run_alone(self, handler: Handler, arguments: dict[str, Any]) -> int:
        """The weight that *handler*, in the name of its module, used; what fails changes nothing else, and is noted."""
        runtime = self._runtime
        self._meter(self._params.transaction_weight_max)
        context = Context(runtime, module_address(handler.module))
        code = runtime.attempt(f"{handler.module}, {handler.name}", lambda: runtime.call(handler, context, arguments))
        used = min(runtime.meter.used, runtime.meter.limit)
        self._meter(INTEGER_MAX)
        if code:
            work = Work(module=handler.module, name=handler.name, args=handler.signature.write(arguments))
            self._register.note_failure(work, runtime.moment.time_ms, runtime.moment.height, code)
        return used

    def _result(self, code: str, weight: int, fee: int) -> Result:
        """The result with the events since the last one; what it stands for can't be rolled back any more."""
        runtime = self._runtime
        events = tuple(runtime.events)
        runtime.events.clear()
        runtime.settle()
        return Result(code, weight, fee, events)


def fee_policy(runtime: Runtime, kind: type[FeePolicy] | None) -> FeePolicy | None:
    """The module of *runtime* that keeps the purse."""
    if kind is None:
        return None
    (found,) = (module for module in runtime.modules.values() if isinstance(module, kind))
    return found
