"""Promises of the verifiers: one right answer for each signature, in order; a dead helper ends the node."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
import trio
import trio.testing

from consensus.signing import public_key, sign
from node import verifier_process
from node.verifier import (
    BATCH_SIGNATURES_MAX,
    QUEUE_SIGNATURES_MAX,
    SLICE_SIGNATURES,
    InlineVerifier,
    Item,
    ProcessVerifier,
    Verifier,
    VerifierDied,
    new_verifier,
)

SEED = bytes(range(32))
KEY = public_key(SEED)
GOOD = (KEY, b"message", sign(SEED, b"message"))
FORGED = (KEY, b"another message", GOOD[2])


def items(count: int, forged: set[int]) -> list[Item]:
    return [FORGED if index in forged else GOOD for index in range(count)]


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions inside groups of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


def expected(count: int, forged: set[int]) -> list[bool]:
    return [index not in forged for index in range(count)]


@pytest.mark.parametrize("processes", [0, 1, 2])
async def test_each_signature_gets_its_own_answer(processes: int) -> None:
    verifier = new_verifier(processes)
    async with trio.open_nursery() as nursery:
        await nursery.start(verifier.run)
        assert await verifier.verify([]) == []
        assert await verifier.verify([GOOD]) == [True]
        assert await verifier.verify([FORGED]) == [False]
        count, forged = 2 * BATCH_SIGNATURES_MAX + 5, {0, 255, 256, 516}
        assert await verifier.verify(items(count, forged)) == expected(count, forged)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "item",
    [(KEY, b"message", b""), (b"", b"message", GOOD[2]), (bytes(32), b"message", GOOD[2]), (KEY, b"", bytes(64))],
)
async def test_malformed_keys_and_signatures_do_not_hold(item: Item) -> None:
    async with trio.open_nursery() as nursery:
        verifier = ProcessVerifier()
        await nursery.start(verifier.run)
        assert await verifier.verify([item, GOOD]) == await InlineVerifier().verify([item, GOOD]) == [False, True]
        nursery.cancel_scope.cancel()


async def test_calls_in_flight_at_once_do_not_mix_their_answers() -> None:
    async def ask(verifier: Verifier, number: int) -> None:
        forged = {number % 40}
        assert await verifier.verify(items(40, forged), urgent=number % 3 == 0) == expected(40, forged)

    async with trio.open_nursery() as parts:
        verifier = ProcessVerifier()
        await parts.start(verifier.run)
        async with trio.open_nursery() as callers:
            for number in range(30):
                callers.start_soon(ask, verifier, number)
        parts.cancel_scope.cancel()


async def test_a_caller_waits_while_the_queue_is_full_and_an_urgent_one_passes() -> None:
    order: list[str] = []

    async def ask(verifier: Verifier, name: str, count: int, *, urgent: bool = False) -> None:
        await verifier.verify([GOOD] * count, urgent=urgent)
        order.append(name)

    async with trio.open_nursery() as parts:
        verifier = ProcessVerifier()
        await parts.start(verifier.run)
        async with trio.open_nursery() as callers:
            callers.start_soon(ask, verifier, "large", QUEUE_SIGNATURES_MAX)
            await trio.testing.wait_all_tasks_blocked()
            callers.start_soon(ask, verifier, "later", 1)
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as urgent:
                urgent.start_soon(lambda: ask(verifier, "urgent", 1, urgent=True))
            assert order == ["urgent"], "a block does not wait for the pool"
            callers.cancel_scope.cancel()
        parts.cancel_scope.cancel()


async def test_a_cancelled_caller_disturbs_nobody() -> None:
    async with trio.open_nursery() as nursery:
        verifier = ProcessVerifier()
        await nursery.start(verifier.run)
        with trio.CancelScope() as scope:
            scope.cancel()
            await verifier.verify([GOOD])
        with trio.move_on_after(0.001):
            await verifier.verify([GOOD] * 500)
        assert await verifier.verify([FORGED, GOOD]) == [False, True]
        nursery.cancel_scope.cancel()


async def test_a_helper_that_dies_ends_the_node_with_a_reason() -> None:
    failures: list[str] = []

    async def ask(verifier: Verifier) -> None:
        with pytest.raises(VerifierDied):
            await verifier.verify([GOOD] * 5_000)
        failures.append("told")

    async def run_node_and_kill_its_helper() -> None:
        async with trio.open_nursery() as node:
            await node.start(verifier.run)
            callers.start_soon(ask, verifier)
            await trio.testing.wait_all_tasks_blocked(0.001)
            os.kill(verifier.pids[0], signal.SIGKILL)

    verifier = ProcessVerifier()
    async with trio.open_nursery() as callers:
        with pytest.raises(BaseExceptionGroup) as caught:
            await run_node_and_kill_its_helper()
        assert {(type(reason), str(reason)) for reason in leaves(caught.value)} == {
            (VerifierDied, "a signature helper process was ended by SIGKILL")
        }
    assert failures == ["told"], "who waited for an answer does not wait for ever"
    with pytest.raises(VerifierDied, match="does not run"):
        await verifier.verify([GOOD])


async def test_helpers_are_gone_when_the_verifier_is() -> None:
    async with trio.open_nursery() as nursery:
        verifier = ProcessVerifier(processes=2)
        await nursery.start(verifier.run)
        pids = verifier.pids
        assert len(set(pids)) == 2
        nursery.cancel_scope.cancel()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        (
            "sys.stdout.buffer.write(bytes([0, 0, 0, 2, 1, 1])); sys.stdout.flush(); sys.stdin.read()",
            "verifies wrongly",
        ),
        ("sys.exit(3)", "ended with code 3"),
    ],
)
async def test_a_helper_that_can_not_be_trusted_never_serves(
    behaviour: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impostor = tmp_path / "python"
    impostor.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.buffer.read(4)\n{behaviour}\n")
    impostor.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(impostor))
    with pytest.raises(BaseExceptionGroup) as caught:
        await ProcessVerifier().run()
    (reason,) = leaves(caught.value)
    assert isinstance(reason, VerifierDied)
    assert complaint in str(reason)


def test_a_helper_ignores_the_keyboard_and_ends_as_its_input_closes() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "node.verifier_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        frame = msgpack.packb([GOOD, FORGED])
        for _ in range(2):
            process.stdin.write(struct.pack(">I", len(frame)) + frame)
            process.stdin.flush()
            assert process.stdout.read(6) == b"\x00\x00\x00\x02\x01\x00"
            process.send_signal(signal.SIGINT)
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_helper_drops_a_frame_that_was_cut() -> None:
    frame = msgpack.packb([GOOD])
    answers = io.BytesIO()
    verifier_process.serve(io.BytesIO(struct.pack(">I", len(frame)) + frame[:-1]), answers)
    verifier_process.serve(io.BytesIO(b"\x00\x00"), answers)
    assert answers.getvalue() == b""


async def test_inline_verification_lets_others_run() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await InlineVerifier().verify([GOOD] * 320)
        nursery.cancel_scope.cancel()
    assert turns >= 320 // SLICE_SIGNATURES - 1
