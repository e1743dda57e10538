"""Methods for clients that only know how to sign: messages in, canonical bytes out, and signatures onto them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from consensus.address import key_address, to_text
from consensus.application import Application, QueryRefused
from consensus.codec import BadMessage, decode, encode
from consensus.shape import shape_of
from consensus.signing import verify
from consensus.transaction import Body, Transaction
from node.rpc import shapes
from node.rpc.errors import InvalidParams, TransactionRefused
from node.rpc.methods import method
from node.rpc.parameters import AddressText, Base64, Integer, JsonObject, KeyText, SignatureText
from node.services import Services

VALID_MS = 3_600_000
"""How long a prepared transaction stays valid if the caller doesn't say: time to sign by hand."""
BODY_BYTES_MAX = 2**20
ACCOUNT_QUERY = "town/account"
TOO_DEEP = "bad_message.too_deep"


class Accounts(Protocol):
    """What is known of accounts where transactions are prepared. Raises RpcError."""

    async def account(self, address: bytes) -> Mapping[str, Any]:
        """What the application says: ``next_nonce``, and ``record`` (keys, threshold) or null."""

    async def next_nonce(self, address: bytes) -> int:
        """The nonce after those in blocks and those that are known to wait."""

    def now_ms(self) -> int:
        """Own clock or the latest block's time, whichever is later."""


class PrepareMethods:
    """Transactions for clients without a codec."""

    def __init__(self, app: Application, chain_id: str, accounts: Accounts) -> None:
        self._app = app
        self._chain_id = chain_id
        self._accounts = accounts

    @method
    async def prepare_tx(
        self,
        messages: list[JsonObject],
        sender: AddressText | None = None,
        signers: list[KeyText] | None = None,
        nonce: Integer | None = None,
        fee: Integer = 0,
        fee_payer: AddressText | None = None,
        valid_until_ms: Integer | None = None,
    ) -> Any:
        """Messages as canonical bytes to sign: nonce, keys and validity are filled in from the state where absent.

        *signers* are public keys (hex); one key also gives the sender if that is absent. Sign ``sign_bytes`` (base64)
        with Ed25519 for each of ``signers``, in their order, then call assemble_tx.
        """
        if sender is None and signers is not None and len(signers) == 1:
            sender = key_address(signers[0])
        chosen = await self._signers(sender, fee_payer, signers)
        body = self._body(
            messages=messages,
            sender=sender,
            signers=tuple(sorted(set(chosen))),
            nonce=await self._nonce(sender) if nonce is None else nonce,
            fee=fee,
            fee_payer=fee_payer,
            valid_until_ms=self._accounts.now_ms() + VALID_MS if valid_until_ms is None else valid_until_ms,
        )
        return {
            "body": shapes.base64_text(encode(shape_of(Body).to_wire(body))),
            "sign_bytes": shapes.base64_text(body.sign_bytes()),
            "sign_bytes_hex": body.sign_bytes().hex(),
            **shapes.body_json(self._app, body),
        }

    def _body(self, *, messages: list[dict[str, Any]], **fields: Any) -> Body:
        try:
            typed = self._app.messages_from_json(messages)
            body = Body(chain_id=self._chain_id, messages=typed, **fields)
            checked: Body = shape_of(Body).from_wire(
                decode(encode(shape_of(Body).to_wire(body)), bytes_max=BODY_BYTES_MAX)
            )
        except RecursionError:
            raise TransactionRefused("messages inside messages, deeper than any node reads", TOO_DEEP) from None
        except QueryRefused as error:
            raise TransactionRefused(str(error), error.code) from None
        except BadMessage as error:
            raise TransactionRefused(str(error), error.code) from None
        return checked

    @method
    async def next_nonce(self, address: AddressText) -> Any:
        """The nonce for an account's next transaction: after those in blocks and those that wait on this node."""
        return {"next_nonce": await self._nonce(address)}

    async def _nonce(self, sender: bytes | None) -> int:
        return 0 if sender is None else await self._accounts.next_nonce(sender)

    async def _signers(self, sender: bytes | None, fee_payer: bytes | None, given: list[bytes] | None) -> list[bytes]:
        if given is not None or sender is None:
            return given or []
        found: list[bytes] = []
        for address in (sender, fee_payer):
            if address is None:
                continue
            record = (await self._accounts.account(address))["record"]
            if record is None or record["threshold"] != len(record["keys"]):
                raise InvalidParams(
                    f"which keys sign for {to_text(address)} does not follow from the state; "
                    "give signers (public keys, hex)",
                    parameter="signers",
                )
            found += [bytes.fromhex(key) for key in record["keys"]]
        return found


class NodeAccounts:
    """Accounts by this node's own state and pool."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def account(self, address: bytes) -> Mapping[str, Any]:
        """By the latest state."""
        services = self._services
        chain = services.store.chain_state()
        assert chain is not None, "RPC serves once the genesis is stored"
        arguments = {"address": to_text(address)}
        state = services.store.state()
        try:
            answer = services.app.query(ACCOUNT_QUERY, arguments, state, height=chain.height, time_ms=chain.time_ms)
        except QueryRefused as error:
            raise TransactionRefused(str(error), error.code) from None
        assert isinstance(answer, dict)
        return answer

    async def next_nonce(self, address: bytes) -> int:
        """After those in blocks and those that wait here."""
        nonce = int((await self.account(address))["next_nonce"])
        while self._services.mempool.holds(address, nonce):
            nonce += 1
        return nonce

    def now_ms(self) -> int:
        """Own clock or the latest block's time, whichever is later."""
        chain = self._services.store.chain_state()
        return max(self._services.now_ms(), 0 if chain is None else chain.time_ms)


class AssembleMethods:
    """What needs no state: signatures onto a prepared body."""

    @method
    async def assemble_tx(self, body: Base64, signatures: list[SignatureText]) -> Any:
        """The transaction made of a prepared body and its signatures (one for each signer, in order), and its hash."""
        try:
            fields = decode(body, bytes_max=BODY_BYTES_MAX)
            if type(fields) is not tuple or len(fields) != 9:
                raise BadMessage("a body is an array of 9 fields, as prepare_tx gives it")
            transaction = Transaction.decode(encode((*fields, tuple(signatures))))
        except BadMessage as error:
            raise TransactionRefused(str(error), error.code) from None
        for key, signature in zip(transaction.body.signers, transaction.signatures, strict=True):
            if not verify(key, transaction.message, signature):
                raise TransactionRefused(f"the signature by {key.hex()} does not hold for this body", "tx.signature")
        return {"tx": shapes.base64_text(transaction.raw), "hash": transaction.id.hex()}
