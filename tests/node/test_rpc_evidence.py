"""Evidence by RPC: handed in, seen while it waits, shown in its block, and what the town made of it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from consensus.address import key_address, to_text
from consensus.codec import BadMessage, encode
from consensus.evidence import DuplicateVote, to_wire
from consensus.signing import public_key, sha256, sign
from consensus.vote import Vote, VoteKind, vote_sign_bytes
from node.rpc import shapes
from node.rpc.errors import InvalidParams
from tests.node.served import CHAIN_ID, VALIDATOR, served
from tests.node.test_metrics import samples

A, B = sorted([sha256(b"a"), sha256(b"b")])


def lie(*, height: int, chain_id: str = CHAIN_ID) -> DuplicateVote:
    """The town's only validator precommitted A and B."""
    key = public_key(VALIDATOR)
    votes = [
        Vote(
            kind=VoteKind.PRECOMMIT,
            height=height,
            round=3,
            block_id=value,
            validator=key_address(key),
            signature=sign(VALIDATOR, vote_sign_bytes(chain_id, VoteKind.PRECOMMIT, height, 3, value)),
        )
        for value in (A, B)
    ]
    return DuplicateVote.of(*votes)


def text(evidence: DuplicateVote) -> str:
    """As `broadcast_evidence` takes it."""
    return base64.b64encode(encode(to_wire(evidence))).decode()


async def test_evidence_is_handed_in_and_shown_in_its_block(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        evidence = lie(height=1)
        assert await town.call("broadcast_evidence", evidence=text(evidence)) == {
            "hash": evidence.id.hex(),
            "code": "",
            "text": "",
        }
        shown: dict[str, Any] = {
            "kind": "duplicate_vote",
            "hash": evidence.id.hex(),
            "validator": to_text(evidence.accused),
            "height": 1,
            "round": 3,
            "vote": "precommit",
            "votes": [
                {"block_id": vote.block_id.hex() if vote.block_id else None, "signature": vote.signature.hex()}
                for vote in (evidence.first, evidence.second)
            ],
        }
        assert await town.call("unconfirmed_evidence") == {"evidence": [shown]}
        assert (await town.call("consensus_state"))["evidence_waiting"] == 1
        await town.height(town.services.store.height + 1)
        height = town.services.store.height
        block = (await town.call("block", height=height))["block"]
        assert block["evidence"] == [shown]
        assert shapes.block_from_json(block)[0] == town.services.store.block(height)
        lies: list[dict[str, Any]] = [{"kind": "x"}, {"votes": shown["votes"][:1]}, {"vote": "prevoted"}, {"vote": []}]
        for wrong in lies:
            with pytest.raises(BadMessage):
                shapes.evidence_from_json({**shown, **wrong})
        with pytest.raises(BadMessage, match="half a character"):
            shapes.header_from_json({**block["header"], "chain_id": "\ud800"})
        jailing = await town.call("query", path="validators/jailing", args={"public_key": public_key(VALIDATOR).hex()})
        assert jailing["answer"]["convicted_at"] == height
        await town.height(height + 1)
        assert (await town.call("validators"))["total_power"] == 10, "the last validator stays"
        _, body = await town.http("GET", "/metrics")
        numbers = samples(body)
        assert numbers["allting_evidence_committed_total"] == 1
        assert numbers["allting_evidence_waiting"] == 0


@pytest.mark.parametrize("wrong", [None, True, -1, 1.5, "", "é", [], {}, [[]], [{}, {}]])
def test_evidence_of_another_form_in_an_answer_is_a_bad_message(wrong: Any) -> None:
    """Whichever member has it."""
    shown = shapes.evidence_json(lie(height=1))
    assert shapes.evidence_from_json(shown) == lie(height=1)
    vote = shown["votes"][0]
    changed = [{**shown, name: wrong} for name in shown if name != "hash"]
    changed += [
        {**shown, "votes": [{**vote, name: wrong}, vote]} for name in vote if (name, wrong) != ("block_id", None)
    ]
    for value in (wrong, *changed):
        with pytest.raises(BadMessage):
            shapes.evidence_from_json(value)


async def test_evidence_that_does_not_count_is_answered_with_why(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(1)

        answer = await town.call("broadcast_evidence", evidence=text(lie(height=10**6)))
        assert answer["code"] == "evidence.too_new"
        for false, code in (
            (text(lie(height=1, chain_id="other")), "bad_message.evidence"),
            (base64.b64encode(b"\xc1").decode(), "bad_message.malformed"),
        ):
            with pytest.raises(InvalidParams) as refused:
                await town.call("broadcast_evidence", evidence=false)
            assert refused.value.code == code
        assert await town.call("unconfirmed_evidence") == {"evidence": []}
