"""What is known of a peer decides what it is sent, and stays small."""

from __future__ import annotations

from typing import cast

from consensus.vote import VoteKind
from node.peer_view import HOLDS_S, LATER_BYTES_MAX, LATER_MESSAGES_MAX, RESEND_S, PeerView
from p2p.peer import Peer
from tests.node.bench import FakePeer, vote

VOTE = vote(VoteKind.PREVOTE, 1, 0, None, 1)
KEY = (0, VoteKind.PREVOTE, 1, None)


def _view() -> PeerView:
    return PeerView(cast(Peer, FakePeer(1))).at(1)


def test_a_vote_is_sent_again_only_after_a_while() -> None:
    view = _view()
    assert view.votes_to_send(iter([(KEY, VOTE)]), 10.0) == [VOTE]
    assert view.votes_to_send(iter([(KEY, VOTE)]), 10.0 + RESEND_S / 2) == []
    assert view.votes_to_send(iter([(KEY, VOTE)]), 10.0 + RESEND_S) == [VOTE]


def test_what_the_peer_sent_itself_is_not_sent_back_for_longer() -> None:
    view = _view()
    view.holds(KEY, 10.0)
    assert view.votes_to_send(iter([(KEY, VOTE)]), 10.0 + RESEND_S) == []
    assert view.votes_to_send(iter([(KEY, VOTE)]), 10.0 + HOLDS_S) == [VOTE]


def test_a_proposal_is_sent_again_only_after_a_while() -> None:
    view = _view()
    assert view.proposal_due(0, 10.0)
    assert not view.proposal_due(0, 10.1)
    assert view.proposal_due(1, 10.1)
    assert view.proposal_due(0, 10.0 + RESEND_S)


def test_another_height_begins_with_nothing_known() -> None:
    view = _view()
    view.holds(KEY, 10.0)
    view.blocks.add(bytes(32))
    assert not view.at(2).blocks
    assert view.at(2).votes_to_send(iter([(KEY, VOTE)]), 10.0) == [VOTE]


def test_messages_for_later_come_back_in_order_when_their_height_is_there() -> None:
    view = _view()
    for height, message in ((2, b"a"), (2, b"b"), (3, b"c")):
        view.keep_for_later(height, message)
    assert list(view.due_messages(1)) == []
    assert list(view.due_messages(2)) == [b"a", b"b"]
    assert list(view.due_messages(9)) == [b"c"]
    assert list(view.due_messages(9)) == []


def test_messages_for_later_are_bounded_by_bytes_and_number_and_make_room_when_taken() -> None:
    view = _view()
    view.keep_for_later(2, bytes(LATER_BYTES_MAX))
    view.keep_for_later(2, b"too much")
    assert len(list(view.due_messages(2))) == 1
    for _ in range(LATER_MESSAGES_MAX + 5):
        view.keep_for_later(2, b"x")
    assert len(list(view.due_messages(2))) == LATER_MESSAGES_MAX
