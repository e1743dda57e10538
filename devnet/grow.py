"""A chain that is made, not lived: blocks with all signatures, as fast as one process can execute and store them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from consensus.application import Application
from consensus.block import Commit
from consensus.signing import public_key, sign
from consensus.transaction import Transaction
from consensus.validators import ValidatorSet
from consensus.validity import commit_from_votes
from consensus.vote import Vote, VoteKind, vote_sign_bytes
from node.execution import Executor
from node.store import Store


class Refused(Exception):
    """The application found a transaction inadmissible; the text says which and why."""


class Grower:
    """Adds blocks to a store whose genesis is written. Holds the keys of all validators, so it needs no others."""

    def __init__(self, store: Store, app: Application, seeds: Sequence[bytes]) -> None:
        """*seeds*: of the validators' keys."""
        self._store = store
        self._executor = Executor(app, store)
        self._seeds: Mapping[bytes, bytes] = {public_key(seed): seed for seed in seeds}

    async def block(self, transactions: Sequence[Transaction] = (), *, wait_ms: int | None = None) -> None:
        """One more block holds *transactions*, *wait_ms* after the former (None: as soon as is allowed).

        Every validator of a known key has signed it. Raises Refused.
        """
        parent = self._store.chain_state()
        assert parent is not None, "the genesis is written"
        refused: list[str] = []
        executed = await self._executor.propose(
            parent,
            time_ms=parent.time_ms + (parent.params.block_delay_ms if wait_ms is None else wait_ms),
            proposer=parent.validators.proposer(0).address,
            last_commit=self._store.commit_of(parent.height)[0] if parent.height else None,
            reap=lambda _: transactions,
            drop=lambda identity, code, text: refused.append(f"{identity.hex()}: {code}, {text}"),
            until=math.inf,
        )
        if refused:
            raise Refused(refused[0])
        commit = self._commit(parent.chain_id, parent.validators, parent.height + 1, executed.id)
        await self._store.commit(executed.decided_by(commit))

    def _commit(self, chain_id: str, validators: ValidatorSet, height: int, block_id: bytes) -> Commit:
        message = vote_sign_bytes(chain_id, VoteKind.PRECOMMIT, height, 0, block_id)
        votes = [
            Vote(
                kind=VoteKind.PRECOMMIT,
                height=height,
                round=0,
                block_id=block_id,
                validator=member.address,
                signature=sign(self._seeds[member.public_key], message),
            )
            for member in validators.validators
            if member.public_key in self._seeds
        ]
        return commit_from_votes(validators, votes, height, 0, block_id)
