"""The books: every accepted transaction ends somewhere, once."""

import pytest

from devnet.batches import Answer, Signed
from devnet.ledger import RESEND_SECONDS, Block, Ledger, State, latency, report

YES = Answer("", "")


def transaction(name: str, *, valid_until_ms: int = 10_000) -> Signed:
    """A transaction whose id is *name*."""
    return Signed(name, b"", 0, 0, valid_until_ms)


def block(*ids: str, height: int = 1, time_ms: int = 1, codes: list[str] | None = None) -> Block:
    """A decided block."""
    return Block(height, time_ms, ids, codes)


@pytest.fixture
def books() -> Ledger:
    """A ledger with transaction ``a`` on its way since second 0."""
    ledger = Ledger()
    ledger.send(transaction("a"), due=0.0, now=0.0, node=0)
    return ledger


def test_a_transaction_in_a_block_is_committed_and_has_a_latency(books: Ledger) -> None:
    books.answered(transaction("a"), YES, now=0.1)
    books.block(block("a"), now=0.25)
    assert books.open == 0
    assert report(books)["committed"] == 1
    assert report(books)["latency_ms"] == {"p50": 250.0, "p99": 250.0, "max": 250.0}


def test_one_with_a_result_code_is_refused(books: Ledger) -> None:
    books.block(block("a", codes=["coin.short"]), now=1.0)
    assert report(books)["refused_codes"] == {"coin.short": 1}
    assert report(books)["latency_ms"] == {"p50": None, "p99": None, "max": None}


def test_one_that_no_node_takes_is_rejected(books: Ledger) -> None:
    books.answered(transaction("a"), Answer("tx.wrong_chain", ""), now=0.1)
    assert (books.open, report(books)["accepted"], report(books)["rejected_codes"]) == (0, 0, {"tx.wrong_chain": 1})


def test_one_refused_for_the_moment_is_tried_again(books: Ledger) -> None:
    books.answered(transaction("a"), Answer("tx.pool_full", ""), now=0.1)
    assert books.overdue(0.2, limit=10) == []
    assert [entry.transaction.id for entry in books.overdue(0.7, limit=10)] == ["a"]


def test_one_that_waits_too_long_is_sent_again_and_counted(books: Ledger) -> None:
    books.answered(transaction("a"), YES, now=0.1)
    assert books.overdue(RESEND_SECONDS - 0.1, limit=10) == []
    [entry] = books.overdue(RESEND_SECONDS, limit=10)
    books.again(entry.transaction, now=5.0, node=1)
    assert (entry.last_node, books.resent) == (1, 1)
    assert books.overdue(5.1, limit=10) == []


def test_a_second_try_refused_because_the_first_went_through_stays_open(books: Ledger) -> None:
    books.again(transaction("a"), now=1.0, node=1)
    books.answered(transaction("a"), Answer("tx.nonce_used", ""), now=1.1)
    assert books.open == 1
    books.block(block("a"), now=1.2)
    assert (books.open, report(books)["committed"]) == (0, 1)


def test_one_that_the_chain_has_outlived_is_expired(books: Ledger) -> None:
    books.answered(transaction("a"), YES, now=0.1)
    books.block(block(time_ms=10_001), now=6.0)
    assert books.overdue(6.0, limit=10) == []
    assert (books.open, report(books)["expired"], report(books)["lost"]) == (0, 1, 0)


def test_one_accepted_and_never_decided_is_lost(books: Ledger) -> None:
    books.answered(transaction("a"), YES, now=0.1)
    assert report(books)["lost"] == 1


def test_one_found_twice_on_the_chain_is_repeated(books: Ledger) -> None:
    books.block(block("a"), now=1.0)
    books.block(block("a", height=2), now=2.0)
    assert (report(books)["repeated"], report(books)["committed"]) == (1, 1)


def test_a_rejected_one_that_turns_up_on_the_chain_counts_as_committed(books: Ledger) -> None:
    books.answered(transaction("a"), Answer("tx.wrong_chain", ""), now=0.1)
    books.block(block("a"), now=1.0)
    assert (books.open, books.count(State.COMMITTED), books.count(State.REJECTED)) == (0, 1, 0)


def test_transactions_of_others_are_none_of_our_business(books: Ledger) -> None:
    books.block(block("b"), now=1.0)
    assert books.open == 1


def test_ranks_are_nearest() -> None:
    assert latency(range(1, 101)) == {"p50": 50, "p99": 99, "max": 100}
