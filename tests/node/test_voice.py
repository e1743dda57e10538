"""A validator says one thing a round, only once it is durable, and nothing that its signer refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.effects import SignProposal, SignVote
from node.consensus_messages import ProposalWithBlock, Votes
from node.voice import Voice
from tests.node.bench import PRECOMMIT, PREVOTE, Bench, address, commit_of, first_proposer, settled, vote
from tests.node.small_net import CHAIN_ID

ID = b"\x05" * 32


async def test_a_vote_is_said_once_and_repeated_alike(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    voice, height = bench.driver.voice, bench.driver.height
    first = voice.vote(height, SignVote(PREVOTE, 1, 0, ID))
    assert first is not None
    assert voice.vote(height, SignVote(PREVOTE, 1, 0, None)) is first, "what was said stands"
    assert voice.take_unspoken() == [first]
    assert voice.take_unspoken() == []
    bench.close()


async def test_a_proposal_is_said_once_and_repeated_alike(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    voice, height = bench.driver.voice, bench.driver.height
    first = voice.proposal(height, SignProposal(1, 0, -1, ID))
    assert first is not None
    assert voice.proposal(height, SignProposal(1, 0, -1, bytes(32))) is first
    assert voice.take_unspoken() == [first]
    bench.close()


async def test_what_the_signer_refuses_is_not_said(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    voice, height = bench.driver.voice, bench.driver.height
    assert bench.signer is not None
    bench.signer.sign_vote(PRECOMMIT, 1, 5, None)
    assert voice.vote(height, SignVote(PREVOTE, 1, 5, None)) is None
    assert voice.proposal(height, SignProposal(1, 5, -1, ID)) is None
    assert voice.take_unspoken() == []
    bench.close()


async def test_who_is_muted_or_has_no_key_is_silent(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    height = bench.driver.height
    bench.driver.voice.muted = True
    for voice in (bench.driver.voice, Voice(None, bench.wal, CHAIN_ID)):
        assert voice.vote(height, SignVote(PREVOTE, 1, 0, None)) is None
        assert voice.proposal(height, SignProposal(1, 0, -1, ID)) is None
    assert Voice(None, bench.wal, CHAIN_ID).address is None
    bench.close()


async def test_nothing_leaves_before_the_signers_memory_is_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    voice = bench.driver.voice
    before = (tmp_path / "last_sign.json").read_bytes()
    voice.vote(bench.driver.height, SignVote(PREVOTE, 1, 0, None))
    assert (tmp_path / "last_sign.json").read_bytes() == before, "the log comes first"
    voice.take_unspoken()
    assert (tmp_path / "last_sign.json").read_bytes() != before
    bench.store.close()


async def test_nothing_leaves_before_the_log_is_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path)
    voice = bench.driver.voice
    voice.vote(bench.driver.height, SignVote(PREVOTE, 1, 0, None))
    before = (tmp_path / "consensus.wal").stat().st_size
    voice.take_unspoken()
    assert (tmp_path / "consensus.wal").stat().st_size > before
    bench.close()


@pytest.mark.parametrize("what", ["vote", "proposal"])
async def test_a_peer_that_shows_what_our_key_signed_elsewhere_silences_us_for_good(
    what: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    own = first_proposer(0)
    async with Bench(tmp_path, own=own).running() as bench:
        link = bench.meets(9)
        executed = await bench.block(proposer=own)
        if what == "vote":
            link.peer.says(Votes((vote(PREVOTE, 1, 0, executed.id, own),)))
        else:
            link.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
        await settled()
        assert bench.driver.voice.signing == "locked"
        await trio.sleep(20)
        said = [cast for message in link.peer.told(Votes) for cast in message.votes]
        assert [cast for cast in said if cast.validator == address(own) and cast.block_id != executed.id] == []
        assert bench.signer is not None
        assert "another machine" in bench.signer.last.locked
    async with Bench(tmp_path, own=own).running() as bench:
        assert bench.driver.voice.signing == "locked", "a restart changes nothing"


async def test_our_own_votes_from_a_log_that_was_lost_are_taken_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    own = first_proposer(1)
    async with Bench(tmp_path, own=own).running() as bench:
        assert bench.signer is not None
        bench.signer.sign_vote(PREVOTE, 1, 0, ID)
        link = bench.meets(9)
        link.peer.says(Votes((vote(PREVOTE, 1, 0, ID, own),)))
        await settled()
        assert bench.driver.voice.signing == "yes"


async def test_a_signature_of_ours_in_a_commit_that_we_do_not_remember_silences_us(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    bench = Bench(tmp_path, own=1)  # the test decides with the keys of 1, 2 and 3
    parent = bench.driver.height.parent
    block = (await bench.block()).block
    for voters, signing in (((0, 2, 3), "yes"), ((1, 2, 3), "locked")):
        commit = commit_of(bench, block, *voters)
        bench.driver.voice.decided(parent.validators, block.header, commit, parent.params.precision_ms)
        assert bench.driver.voice.signing == signing
    bench.store.close()
