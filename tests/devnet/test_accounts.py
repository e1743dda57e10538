"""Load accounts sign what the chain accepts."""

import nacl.bindings

from consensus.signing import verify
from consensus.transaction import Body, Message, Transaction
from devnet.accounts import Transfer, account, account_addresses, sign_transfer
from devnet.batches import Signed, body_of
from devnet.workload import Workload


def test_accounts_are_the_same_for_the_same_chain_and_differ_between_chains() -> None:
    assert account("a-chain", 3) == account("a-chain", 3)
    assert len({account("a-chain", 0).address, account("a-chain", 1).address, account("b-chain", 0).address}) == 3
    assert list(account_addresses("a-chain", 2)) == [account("a-chain", 0).address, account("a-chain", 1).address]


def test_the_fast_way_of_signing_gives_the_bytes_of_the_careful_way() -> None:
    sender, receiver = account("a-chain", 0), account("a-chain", 1)
    raw = sign_transfer(
        Transfer(sender=sender, to=receiver.address, nonce=70_000, amount=5),
        chain_id="a-chain",
        valid_until_ms=2**41,
        fee=100,
    )
    body = Body(
        chain_id="a-chain",
        sender=sender.address,
        nonce=70_000,
        valid_until_ms=2**41,
        fee=100,
        fee_payer=None,
        messages=(Message("coin", "send", (receiver.address, 5)),),
        signers=(sender.public_key,),
    )
    assert raw == body.signed(nacl.bindings.crypto_sign_ed25519_sk_to_seed(sender.secret)).raw
    transaction = Transaction.decode(raw)
    assert verify(sender.public_key, transaction.message, transaction.signatures[0])


def test_a_workload_uses_each_account_in_turn_with_nonces_in_order() -> None:
    load = Workload("a-chain", [account("a-chain", index) for index in range(3)])
    signed = list(load.signed(7, nonces=[0, 5, 9], valid_until_ms=2**41))
    assert [(it.sender, it.nonce) for it in signed] == [(0, 0), (1, 5), (2, 9), (0, 1), (1, 6), (2, 10), (0, 2)]
    assert len({it.id for it in signed}) == 7


def test_a_batch_is_json_rpc() -> None:
    body = body_of([Signed("aa", b"YQ==", 0, 0, 1), Signed("bb", b"Yg==", 0, 1, 1)])
    assert body == (
        b'[{"jsonrpc":"2.0","id":0,"method":"broadcast_tx_sync","params":{"tx":"YQ=="}},'
        b'{"jsonrpc":"2.0","id":1,"method":"broadcast_tx_sync","params":{"tx":"Yg=="}}]'
    )
