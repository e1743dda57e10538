"""A validator says one thing a round, only once it is durable, and nothing that its signer refuses."""

from __future__ import annotations

from pathlib import Path

from trio.testing import MockClock

from consensus.effects import SignProposal, SignVote
from node.voice import Voice
from tests.node.bench import PRECOMMIT, PREVOTE, Bench

ID = b"\x05" * 32


async def test_a_vote_is_said_once_and_repeated_alike(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    voice, height = bench.driver.voice, bench.driver.height
    first = voice.vote(height, SignVote(PREVOTE, 1, 0, ID))
    assert first is not None
    assert voice.vote(height, SignVote(PREVOTE, 1, 0, None)) is first, "what was said stands"
    assert voice.take_unspoken() == [first]
    assert voice.take_unspoken() == []
    bench.store.close()


async def test_a_proposal_is_said_once_and_repeated_alike(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    voice, height = bench.driver.voice, bench.driver.height
    first = voice.proposal(height, SignProposal(1, 0, -1, ID))
    assert first is not None
    assert voice.proposal(height, SignProposal(1, 0, -1, bytes(32))) is first
    assert voice.take_unspoken() == [first]
    bench.store.close()


async def test_what_the_signer_refuses_is_not_said(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    voice, height = bench.driver.voice, bench.driver.height
    assert bench.signer is not None
    bench.signer.sign_vote(PRECOMMIT, 1, 5, None)
    assert voice.vote(height, SignVote(PREVOTE, 1, 5, None)) is None
    assert voice.proposal(height, SignProposal(1, 5, -1, ID)) is None
    assert voice.take_unspoken() == []
    bench.store.close()


async def test_who_is_muted_or_has_no_key_is_silent(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    height = bench.driver.height
    bench.driver.voice.muted = True
    for voice in (bench.driver.voice, Voice(None, bench.wal)):
        assert voice.vote(height, SignVote(PREVOTE, 1, 0, None)) is None
        assert voice.proposal(height, SignProposal(1, 0, -1, ID)) is None
    assert Voice(None, bench.wal).address is None
    bench.store.close()


async def test_nothing_leaves_before_the_log_is_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    voice = bench.driver.voice
    voice.vote(bench.driver.height, SignVote(PREVOTE, 1, 0, None))
    before = (tmp_path / "consensus.wal").stat().st_size
    voice.take_unspoken()
    assert (tmp_path / "consensus.wal").stat().st_size > before
    bench.store.close()
