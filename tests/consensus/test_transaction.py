"""A transaction's bytes have one meaning, and its signatures cover all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.codec import BadMessage, Wire, decode, encode
from consensus.shape import shape_of
from consensus.signing import public_key, sha256, sign, sign_bytes, verify
from consensus.transaction import CHAIN_ID_LENGTH_MAX, MESSAGES_MAX, SIGNERS_MAX, Body, Message, Transaction

SEEDS = sorted((sha256(b"signer %d" % number) for number in range(SIGNERS_MAX + 1)), key=public_key)
KEYS = tuple(public_key(seed) for seed in SEEDS)
SEND = Message("coin", "send", (bytes(20), 5))
BODY = Body(
    chain_id="ting-test-1",
    sender=bytes(20),
    nonce=3,
    valid_until_ms=1_790_000_000_000,
    fee=10,
    fee_payer=None,
    messages=(SEND,),
    signers=(KEYS[0],),
)
ANONYMOUS = replace(BODY, sender=None, nonce=0, fee=0, signers=())


def fields_of(transaction: Transaction) -> list[Wire]:
    """The ten fields on the wire."""
    fields = decode(transaction.raw, bytes_max=2**20)
    assert isinstance(fields, tuple)
    return list(fields)


def code_of(fields: Any) -> str:
    """The code that the transaction with these wire fields is refused with."""
    with pytest.raises(BadMessage) as error:
        Transaction.decode(encode(fields))
    return error.value.code


bodies = st.builds(
    Body,
    chain_id=st.text("abc-1", max_size=8),
    sender=st.binary(min_size=20, max_size=20),
    nonce=st.integers(0, 2**63 - 1),
    valid_until_ms=st.integers(0, 2**63 - 1),
    fee=st.integers(0, 2**63 - 1),
    fee_payer=st.none() | st.binary(min_size=20, max_size=20),
    messages=st.lists(
        st.builds(
            Message,
            st.text(max_size=4),
            st.text(max_size=4),
            st.lists(st.none() | st.integers(-9, 9) | st.binary(max_size=3), max_size=3).map(tuple),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    signers=st.lists(st.sampled_from(range(SIGNERS_MAX)), min_size=1, max_size=3, unique=True).map(
        lambda places: tuple(KEYS[place] for place in sorted(places))
    ),
)


@given(bodies)
def test_what_is_signed_is_read_back(body: Body) -> None:
    """Body, exact bytes, id, and signatures that hold over what was signed."""
    transaction = body.signed(*SEEDS)
    again = Transaction.decode(transaction.raw)
    assert again.body == body
    assert again.raw == transaction.raw
    assert again.id == sha256(transaction.raw)
    assert again.message == body.sign_bytes()
    for key, signature in zip(body.signers, again.signatures, strict=True):
        assert verify(key, again.message, signature)


def test_sign_bytes_are_every_field_but_the_signatures() -> None:
    """Under the domain of transactions, on their chain."""
    fields = fields_of(BODY.signed(SEEDS[0]))
    assert BODY.sign_bytes() == sign_bytes("tx", BODY.chain_id, tuple(fields[:9]))
    assert len(fields) == 10


@given(st.data())
def test_no_bit_can_be_changed_in_passing(data: st.DataObject) -> None:
    """The bytes are refused, or a signature fails, or nobody's signature is asked for who did not sign."""
    transaction = BODY.signed(SEEDS[0])
    raw = bytearray(transaction.raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        changed = Transaction.decode(bytes(raw))
    except BadMessage:
        return
    assert changed.id != transaction.id
    assert not verify(changed.body.signers[0], changed.message, changed.signatures[0])


@pytest.mark.parametrize("fields", [5, None, (), (1,) * 9, (1,) * 11, b"bytes"])
def test_a_transaction_is_an_array_of_ten(fields: Any) -> None:
    """Whatever they are."""
    assert code_of(fields) == "bad_message.malformed"


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (0, 2, "bad_message.out_of_range"),
        (1, "c" * (CHAIN_ID_LENGTH_MAX + 1), "bad_message.out_of_range"),
        (2, bytes(21), "bad_message.out_of_range"),
        (3, -1, "bad_message.out_of_range"),
        (3, 2**63, "bad_message.out_of_range"),
        (4, None, "bad_message.malformed"),
        (5, True, "bad_message.malformed"),
        (6, bytes(19), "bad_message.out_of_range"),
        (7, (), "bad_message.out_of_range"),
        (7, (("coin", "send"),), "bad_message.malformed"),
        (7, (("coin", "send", ()),) * (MESSAGES_MAX + 1), "bad_message.out_of_range"),
        (7, (("c" * 41, "send", ()),), "bad_message.out_of_range"),
        (8, (bytes(31),), "bad_message.out_of_range"),
        (8, (KEYS[0], KEYS[0]), "bad_message.signers"),
        (8, (KEYS[1], KEYS[0]), "bad_message.signers"),
        (8, (KEYS[0], KEYS[1]), "bad_message.signers"),
        (8, (), "bad_message.signers"),
        (8, KEYS, "bad_message.out_of_range"),
        (9, (), "bad_message.signers"),
        (9, (bytes(64), bytes(64)), "bad_message.signers"),
        (9, (bytes(63),), "bad_message.out_of_range"),
        (9, bytes(64), "bad_message.malformed"),
        (9, (bytes(64),) * (SIGNERS_MAX + 1), "bad_message.out_of_range"),
    ],
)
def test_a_field_that_can_t_be_is_refused(place: int, value: Any, code: str) -> None:
    """With its code."""
    fields = fields_of(BODY.signed(SEEDS[0]))
    fields[place] = value
    assert code_of(tuple(fields)) == code


def test_somebody_must_sign_for_a_sender() -> None:
    """No signers and no signatures is not a transaction."""
    fields = fields_of(BODY.signed(SEEDS[0]))
    assert code_of((*fields[:8], (), ())) == "bad_message.signers"


@pytest.mark.parametrize("signers", [(KEYS[1], KEYS[0]), (KEYS[0], KEYS[0]), (KEYS[0], KEYS[2], KEYS[1])])
def test_signers_ascend_each_once(signers: tuple[bytes, ...]) -> None:
    """Though there are as many signatures."""
    fields = fields_of(BODY.signed(SEEDS[0]))
    assert code_of((*fields[:8], signers, (bytes(64),) * len(signers))) == "bad_message.signers"


def test_several_may_sign() -> None:
    """Up to the limit; whatever the order of the seeds."""
    body = replace(BODY, signers=KEYS[:SIGNERS_MAX])
    transaction = body.signed(*reversed(SEEDS))
    expected = tuple(sign(seed, body.sign_bytes()) for seed in SEEDS[:SIGNERS_MAX])
    assert transaction.signatures == expected


@pytest.mark.parametrize("count", [1, 15, SIGNERS_MAX])
def test_what_is_signed_is_cut_out_of_the_bytes_whatever_the_number_of_signatures(count: int) -> None:
    body = replace(BODY, signers=KEYS[:count])
    assert body.signed(*SEEDS[:count]).message == body.sign_bytes()


def test_signing_without_a_signer_s_seed_is_our_defect() -> None:
    """The caller has to bring all of them."""
    with pytest.raises(KeyError):
        BODY.signed(SEEDS[1])


def test_an_anonymous_message_comes_alone() -> None:
    """Nonce 0, fee 0, no payer, no signers; its module checks the rest."""
    assert ANONYMOUS.signed().body == ANONYMOUS


@pytest.mark.parametrize(
    "fields",
    [
        {"nonce": 1},
        {"fee": 1},
        {"fee_payer": bytes(20)},
        {"signers": (KEYS[0],)},
        {"messages": (SEND, SEND)},
    ],
)
def test_an_anonymous_message_brings_nothing_else(fields: dict[str, Any]) -> None:
    """Each of them would have to belong to somebody."""
    with pytest.raises(BadMessage) as error:
        replace(ANONYMOUS, **fields).signed(SEEDS[0])
    assert error.value.code == "bad_message.anonymous"


def test_the_size_limit_is_the_caller_s() -> None:
    """Checked before anything is read."""
    raw = BODY.signed(SEEDS[0]).raw
    assert Transaction.decode(raw, bytes_max=len(raw)).raw == raw
    with pytest.raises(BadMessage) as error:
        Transaction.decode(raw, bytes_max=len(raw) - 1)
    assert error.value.code == "bad_message.too_large"


def test_arguments_stay_as_they_came() -> None:
    """Their types are the module's business."""
    message = Message("coin", "send", (None, (1, (b"", True))))
    shape = shape_of(Message)
    assert shape.from_wire(shape.to_wire(message)) == message
