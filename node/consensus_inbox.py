"""What the machine is still to hear: our own messages first, then in order what peers, timers and tasks bring."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from consensus.inputs import Input, VoteReceived
from consensus.vote import Vote, VoteKind

_Key: TypeAlias = tuple[VoteKind, int, bytes, bytes | None]


class Inbox:
    """Of one height at a time."""

    def __init__(self) -> None:
        self._own: deque[Input] = deque()
        self._others: deque[Input] = deque()
        self._votes: set[_Key] = set()
        """Votes among the others."""

    def put(self, input_: Input) -> None:
        """*input_* comes after all that others have brought."""
        if isinstance(input_, VoteReceived):
            self._votes.add(_key(input_.vote))
        self._others.append(input_)

    def put_own(self, input_: Input) -> None:
        """A message of ours, on its way back, is never behind what others bring."""
        self._own.append(input_)

    def holds(self, vote: Vote) -> bool:
        """Whether this vote of another's is here, whatever its signature."""
        return _key(vote) in self._votes

    def take(self) -> tuple[Input, bool] | None:
        """The next input, here no longer, and whether it is our own; None if there is none."""
        if self._own:
            return self._own.popleft(), True
        if not self._others:
            return None
        input_ = self._others.popleft()
        if isinstance(input_, VoteReceived):
            self._votes.discard(_key(input_.vote))
        return input_, False

    def clear(self) -> list[Vote]:
        """Nothing is here. Gives the votes of others that were, in order."""
        votes = [input_.vote for input_ in self._others if isinstance(input_, VoteReceived)]
        self._own.clear()
        self._others.clear()
        self._votes.clear()
        return votes


def _key(vote: Vote) -> _Key:
    """What a vote says, without its signature, of which a liar can make many."""
    return vote.kind, vote.round, vote.validator, vote.block_id
