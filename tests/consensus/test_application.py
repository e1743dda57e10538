"""The interface between engine and application: its exceptions carry codes, its results are hashed whole."""

from __future__ import annotations

from consensus.application import EngineFault, Event, Inadmissible, QueryRefused, Result
from consensus.shape import from_bytes, to_bytes


def test_refusals_carry_a_code_and_a_text() -> None:
    """The code is for programs, the text for people."""
    for kind in (Inadmissible, QueryRefused):
        refusal = kind("tx.nonce", "the nonce was used")
        assert (refusal.code, str(refusal)) == ("tx.nonce", "the nonce was used")


def test_no_handler_catches_a_fault_of_the_engine() -> None:
    """An I/O error must not become a result, though handlers' exceptions do."""
    assert not issubclass(EngineFault, Exception)


def test_a_result_survives_the_wire_with_its_events() -> None:
    """Every field of it is hashed."""
    result = Result("coin.poor", 120, 5, (Event("coin", "sent", (bytes(20), 5)),))
    assert from_bytes(Result, to_bytes(result)) == result
