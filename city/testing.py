"""A town in memory, for tests of modules: people send messages, blocks pass, invariants are checked after each.

```python
def test_a_late_tool_costs_a_fee_for_each_day(town: Town) -> None:
    anna = town.person(coins=100)
    town.govern("tools.add", tool=7, called="ladder")
    anna.sends("tools.borrow", tool=7)
    town.passes(days=17)
    anna.sends("tools.give_back", tool=7)
    assert anna.balance == 100 - 3 * 5
```
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from city import app
from city.execution import BlockExecution
from city.sdk.context import GOVERNANCE, REGISTER, Context, module_address
from city.sdk.module import Module
from city.sdk.runtime import Registry
from consensus.address import key_address, to_text
from consensus.application import (
    BlockInfo,
    BlockOutcome,
    Changes,
    Event,
    Inadmissible,
    Misbehaviour,
    QueryRefused,
    Result,
)
from consensus.params import TINY, Params
from consensus.signing import public_key, sha256
from consensus.transaction import Body, Message, Transaction
from consensus.validators import ValidatorSet

CHAIN_ID = "ting-test"
START_MS = 1_790_000_000_000
BLOCK_MS = 1_000
VALID_MS = 10**12
FREE = {"coin.weight_price": 0}


class MemoryState:
    """A committed state in memory, with the order that the real one has."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[bytes, bytes]] = {}
        self._keys: dict[str, list[bytes]] = {}

    def get(self, module: str, key: bytes) -> bytes | None:
        """The value of *key* in *module*, None if absent."""
        return self._rows.get(module, {}).get(key)

    def scan(
        self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys in [start, stop) with their values, ascending (descending if *reverse*)."""
        keys = self._keys.get(module, [])
        found = keys[bisect_left(keys, start) : len(keys) if stop is None else bisect_left(keys, stop)]
        return iter([(key, self._rows[module][key]) for key in (reversed(found) if reverse else found)])

    def after(self, changes: Changes) -> MemoryState:
        """The state after a block that made *changes*; this one must not be read any more, for they share their rows.

        Another object, since an application may remember what it read of a state.
        """
        following = MemoryState()
        following._rows, following._keys = self._rows, self._keys
        following.apply(changes)
        return following

    def apply(self, changes: Changes) -> None:
        """What a block changed stands in the state."""
        for module, rows in changes.items():
            held, keys = self._rows.setdefault(module, {}), self._keys.setdefault(module, [])
            for key, value in rows.items():
                if value is None:
                    del held[key]
                    del keys[bisect_left(keys, key)]
                else:
                    if key not in held:
                        insort(keys, key)
                    held[key] = value

    def module(self, name: str) -> Mapping[bytes, bytes]:
        """All rows of one module."""
        return dict(self._rows.get(name, {}))


class Account:
    """Somebody in a test town: a key, its address, and what can be done with it."""

    def __init__(self, town: Town, seed: bytes) -> None:
        self.town = town
        self.seed = seed
        self.key = public_key(seed)
        self.address = key_address(self.key)

    @property
    def text(self) -> str:
        """The address as ``ting1…``."""
        return to_text(self.address)

    @property
    def balance(self) -> int:
        """The account's coins."""
        balance: int = self.town.query("coin/balance", address=self.text)
        return balance

    @property
    def nonce(self) -> int:
        """The next nonce."""
        nonce: int = self.town.query("town/account", address=self.text)["next_nonce"]
        return nonce

    def transaction(
        self,
        *messages: Message,
        fee: int = 0,
        nonce: int | None = None,
        fee_payer: Account | None = None,
        seeds: Sequence[bytes] | None = None,
        valid_until_ms: int = START_MS + VALID_MS,
        chain_id: str = CHAIN_ID,
    ) -> Transaction:
        """*messages* signed by this account, the fee payer, and *seeds* in place of both where given."""
        signing = seeds if seeds is not None else [self.seed, *([fee_payer.seed] if fee_payer else [])]
        body = Body(
            chain_id=chain_id,
            sender=self.address,
            nonce=self.nonce if nonce is None else nonce,
            valid_until_ms=valid_until_ms,
            fee=fee,
            fee_payer=None if fee_payer is None else fee_payer.address,
            messages=messages,
            signers=tuple(sorted(public_key(seed) for seed in signing)),
        )
        return body.signed(*signing)

    def sends(self, message: str, /, *, fee: int = 0, fee_payer: Account | None = None, **arguments: Any) -> Result:
        """The message took effect, in a block of its own. AssertionError with the code if it was refused."""
        result = self.tries(message, fee=fee, fee_payer=fee_payer, **arguments)
        assert result.code == "", f"{message}: {result.code}"
        return result

    def is_refused(self, code: str, message: str, /, *, fee: int = 0, **arguments: Any) -> Result:
        """The message was refused with *code*, in a block of its own. AssertionError if not."""
        result = self.tries(message, fee=fee, **arguments)
        assert result.code == code, f"{message}: expected {code}, got {result.code or 'success'}"
        return result

    def tries(self, message: str, /, *, fee: int = 0, fee_payer: Account | None = None, **arguments: Any) -> Result:
        """The result of the message, in a block of its own."""
        made = self.town.message(message, **arguments)
        (result,) = self.town.block(self.transaction(made, fee=fee, fee_payer=fee_payer))
        return result


class Town:
    """A town in memory with the installed modules, and *modules* besides. It charges no fees unless *fees* says so.

    *genesis* and *town_params* are the tables ``town`` and ``town.params`` of a genesis file.
    """

    def __init__(
        self,
        *modules: type[Module],
        fees: bool = False,
        params: Params = TINY,
        genesis: Mapping[str, Any] | None = None,
        town_params: Mapping[str, int] | None = None,
    ) -> None:
        installed = app.installed_modules()
        self.faults: list[BaseException] = []
        """What modules raised unexpectedly."""
        self.app = app.Town((*installed, *modules), report=lambda _, error: self.faults.append(error))
        self.state = MemoryState()
        self.time_ms = START_MS
        self.height = 0
        self.params = params
        self.events: list[Event] = []
        """Every event so far."""
        self.last: BlockOutcome | None = None
        """What the last block's end decided."""
        self._accounts = 0
        self._registrar = self._account()
        document = dict(genesis or {})
        document["params"] = {**({} if fees else FREE), **(town_params or {})}
        document.setdefault("identity", {"persons": [{"address": self._registrar.text, "roles": ["registrar"]}]})
        first = self.app.genesis(document, chain_id=CHAIN_ID, time_ms=START_MS, params=params)
        self.genesis_validators = first.validators
        self.state = self.state.after(first.changes)
        self._check()

    @property
    def registrar(self) -> Account:
        """Who attests persons; a person too."""
        return self._registrar

    def stranger(self, coins: int = 0) -> Account:
        """An account that is no person's."""
        account = self._account()
        if coins:
            self.govern("coin.mint", to=account, amount=coins)
        return account

    def person(self, coins: int = 0) -> Account:
        """An account that is a person's."""
        account = self.stranger(coins)
        self._registrar.sends("identity.attest", account=account, nullifier=sha256(account.address))
        return account

    def message(self, name: str, /, **arguments: Any) -> Message:
        """The message *name* (``module.message``) with typed arguments; an `Account` stands for its address."""
        module, _, handler = name.partition(".")
        values = {key: value.address if isinstance(value, Account) else value for key, value in arguments.items()}
        return Message(module, handler, self._registry.handlers[module, handler].signature.write(values))

    def govern(self, message: str, /, **arguments: Any) -> None:
        """The message took effect with the authority of governance, without a ballot."""
        code = self.tries_to_govern(message, **arguments)
        assert code == "", f"{message}: {code}"

    def tries_to_govern(self, message: str, /, **arguments: Any) -> str:
        """The code of the message, carried with the authority of governance in a block of its own."""
        return self.carries(self.message(message, **arguments))

    def carries(self, message: Message) -> str:
        """The code of *message* as it stands, carried with the authority of governance in a block of its own."""
        execution = _Governing(self._registry, None, self.state, self._next_block(None), self.app.report)
        execution.begin()
        result = execution.govern(message)
        self._commit(execution, [result])
        return result.code

    def block(
        self, *transactions: Transaction, time_ms: int | None = None, evidence: Sequence[Misbehaviour] = ()
    ) -> list[Result]:
        """The results of *transactions* in the next block, a second later or at *time_ms*. Raises Inadmissible.

        *evidence*: what the block proves of validators.
        """
        execution = self.app.execute(self.state, replace(self._next_block(time_ms), evidence=tuple(evidence)))
        begun = execution.begin()
        results = [execution.deliver(transaction) for transaction in transactions]
        self._commit(execution, [begun, *results])
        return results

    def inadmissible(self, transaction: Transaction) -> str:
        """The code with which *transaction* is kept out of the pool. AssertionError if it is admitted."""
        try:
            self.app.admit(transaction, self.state, time_ms=self.time_ms, params=self.params)
        except Inadmissible as error:
            return error.code
        raise AssertionError("it was admitted")

    def passes(self, *, days: int = 0, hours: int = 0, ms: int = 0) -> None:
        """The time has passed, with a block whenever something was due and one at its end."""
        until = self.time_ms + days * 86_400_000 + hours * 3_600_000 + ms
        while (due := self.app.next_due_ms(self.state)) is not None and max(due, self.time_ms + 1) < until:
            self.block(time_ms=max(due, self.time_ms + 1))
        self.block(time_ms=until)

    def query(self, path: str, /, **arguments: Any) -> Any:
        """The answer to ``module/query``, as JSON-ready data."""
        return self.app.query(path, arguments, self.state, height=self.height, time_ms=self.time_ms)

    def query_refused(self, path: str, /, **arguments: Any) -> str:
        """The code with which the query is refused. AssertionError if it is answered."""
        try:
            self.query(path, **arguments)
        except QueryRefused as error:
            return error.code
        raise AssertionError("it was answered")

    @property
    def _registry(self) -> Registry:
        return self.app.registry

    def _account(self) -> Account:
        self._accounts += 1
        return Account(self, sha256(b"account %d" % self._accounts))

    def _next_block(self, time_ms: int | None) -> BlockInfo:
        self.height += 1
        before, self.time_ms = self.time_ms, self.time_ms + BLOCK_MS if time_ms is None else time_ms
        return BlockInfo(
            chain_id=CHAIN_ID,
            height=self.height,
            time_ms=self.time_ms,
            parent_time_ms=before,
            proposer=self._registrar.address,
            params=self.params,
            validators=ValidatorSet(()),
        )

    def _commit(self, execution: BlockExecution, results: list[Result]) -> None:
        self.last = execution.end()
        self.params = self.last.params or self.params
        self.state = self.state.after(execution.changes)
        for result in (*results, self.last.result):
            self.events.extend(result.events)
        self._check()

    def _check(self) -> None:
        """The invariants hold in the committed state, as it will be read."""
        broken = self.app.broken_invariants(self.state)
        assert not broken, f"broken: {', '.join(broken)}"


class _Governing(BlockExecution):
    """An execution that carries messages with the authority of governance, as a passed proposal does."""

    def govern(self, message: Message) -> Result:
        """The result of *message*."""
        runtime = self._runtime
        context = Context(runtime, module_address(REGISTER), (), GOVERNANCE)
        call = runtime.read(message)
        assert call is not None
        code = runtime.attempt("govern", lambda: runtime.carry(call, context))
        return self._result(code, 0, 0)
