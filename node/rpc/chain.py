"""Methods about what was decided: blocks, commits, validators, parameters, transactions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import trio

from consensus import merkle
from consensus.light import HEADERS_AT_ONCE
from node.events import Cursor, Kind
from node.retention import BLOCKS, INDEX
from node.rpc import chain_answers, shapes
from node.rpc.chain_answers import PER_PAGE_MAX
from node.rpc.errors import InvalidParams, NotFound, Pending, Pruned
from node.rpc.methods import method
from node.rpc.parameters import AddressText, CursorJson, Flag, HashText, Height, Integer, Limit, Text
from node.services import Services
from node.store import HeightGone

T = TypeVar("T")

RESULTS_BEFORE_YIELD = 64
"""Results shown between two yields to the loop: a few milliseconds."""


def pruned(part: str, height: int, earliest: int) -> Pruned:
    """The answer about a *height* below what this node keeps of *part*."""
    return Pruned(
        f"height {height} is kept here no more: {part} begin at {earliest}. Ask a node that keeps more",
        kept=part,
        earliest_height=earliest,
    )


class ChainMethods:
    """Reads of the store."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    def height_or_latest(self, height: int | None) -> int:
        """*height*, or the latest; raises NotFound unless a block of that height is stored."""
        latest = self._store.height
        chosen = latest if height is None else height
        if chosen > latest:
            raise NotFound(f"height {chosen} is not decided here yet; the latest is {latest}", latest_height=latest)
        if chosen < 1:
            raise NotFound("there is no block before the first decided height", latest_height=latest)
        return chosen

    def stored(self, read: Callable[[int], T], height: int) -> T:
        """What *read* gives for a stored *height*; Pruned where it is kept no more, NotFound where it never was."""
        try:
            return read(height)
        except HeightGone as gone:
            raise pruned(gone.part, height, gone.earliest) from None
        except KeyError:
            raise NotFound(f"height {height} is not kept by this node") from None

    def _chosen(self, height: int | None, hash_: bytes | None) -> int:
        if hash_ is None:
            return self.height_or_latest(height)
        if height is not None:
            raise InvalidParams("give height or hash, not both", parameter="hash")
        found = self._store.height_of_block_id(hash_)
        if found is None:
            raise NotFound(f"no block with the hash {hash_.hex()} is stored here")
        return found

    @method
    async def genesis(self) -> Any:
        """The genesis file, byte for byte, and its hash."""
        return chain_answers.of_genesis(self._services.genesis)

    @method
    async def header(self, height: Height | None = None, hash_: HashText | None = None) -> Any:
        """A header by height or hash; without either the latest."""
        return {"header": shapes.header_json(self.stored(self._store.header, self._chosen(height, hash_)))}

    @method
    async def block(self, height: Height | None = None, hash_: HashText | None = None) -> Any:
        """A block with its transactions, by height or hash; without either the latest."""
        chosen = self._chosen(height, hash_)
        block = self.stored(self._store.block, chosen)
        return chain_answers.of_block(block, self.stored(self._store.block_transactions, chosen))

    @method
    async def blockchain(self, min_height: Height | None = None, max_height: Height | None = None) -> Any:
        """Headers from *max_height* (the latest) down to *min_height*, at most 20."""
        newest = min(self._store.height, self._store.height if max_height is None else max_height)
        oldest = max(self._store.kept.earliest[BLOCKS], newest - HEADERS_AT_ONCE + 1, min_height or 1)
        headers = [self.stored(self._store.header, height) for height in range(newest, oldest - 1, -1)]
        return {"last_height": self._store.height, "headers": [shapes.header_json(header) for header in headers]}

    @method
    async def block_results(self, height: Height | None = None, events: Flag = True, prove: Flag = False) -> Any:
        """What came of a block: the results of ``begin``, each transaction and ``end``; perhaps without *events*.

        With *prove* the canonical bytes of all results come along (base64, in that order): the header's results hash is
        the root of the RFC 6962 tree over them.
        """
        chosen = self.height_or_latest(height)
        shown: list[Any] = []
        results = self.stored(self._store.results, chosen)
        for number, result in enumerate(results):
            shown.append(shapes.result_json(self._services.app, result, events=events))
            if number % RESULTS_BEFORE_YIELD == RESULTS_BEFORE_YIELD - 1:
                await trio.lowlevel.checkpoint()
        answer = chain_answers.of_results(chosen, shown)
        if prove:
            answer["encoded"] = [shapes.base64_text(result.encoded) for result in results]
        return answer

    @method
    async def commit(self, height: Height | None = None) -> Any:
        """A header with its commit; *canonical* says whether the next header chose that commit."""
        chosen = self.height_or_latest(height)
        return self._committed(chosen)

    def _committed(self, height: int) -> dict[str, Any]:
        commit, canonical = self.stored(self._store.commit_of, height)
        return chain_answers.of_commit(self.stored(self._store.header, height), commit, canonical=canonical)

    @method
    async def light_block(self, height: Height | None = None) -> Any:
        """All that a light client needs of a height: header, commit, its validators and those of the next height."""
        chosen = self.height_or_latest(height)
        return {
            **self._committed(chosen),
            "validators": shapes.validators_json(self.stored(self._store.validators_at, chosen)),
            "next_validators": shapes.validators_json(self.stored(self._store.validators_at, chosen + 1)),
        }

    @method
    async def validators(
        self, height: Height | None = None, page: Integer | None = None, per_page: Limit | None = None
    ) -> Any:
        """The validators of a height (of the next one, if none is given), in the set's order."""
        chosen = self._store.height + 1 if height is None else height
        if not 1 <= chosen <= self._store.height + 1:
            raise NotFound(f"the validators of height {chosen} are not known here")
        members = shapes.validators_json(self.stored(self._store.validators_at, chosen))
        return chain_answers.of_validators(chosen, members, page, per_page)

    @method
    async def consensus_params(self, height: Height | None = None) -> Any:
        """The engine's parameters in force at a height (at the next one, if none is given)."""
        chosen = self._store.height + 1 if height is None else height
        return {"height": chosen, "params": shapes.params_json(self.stored(self._store.params_at, chosen))}

    @method
    async def tx(self, hash_: HashText, prove: Flag = False) -> Any:
        """A transaction on the chain by its hash, with what came of it; *prove* adds the way to the block's root."""
        place = self._store.find_transaction(hash_)
        if place is None:
            raise self._absent(hash_)
        height, index = place
        answer = self.transaction(height, index)
        if prove:
            block = self._store.block(height)
            proof = merkle.prove(block.transaction_ids, index)
            answer["proof"] = shapes.list_proof_json(proof, block.header.transactions_root)
        return answer

    def _absent(self, hash_: bytes) -> Exception:
        if self._services.mempool.get(hash_) is not None:
            return Pending("the transaction waits in the mempool", hash=hash_.hex())
        earliest = self._store.kept.earliest[INDEX]
        older = "" if earliest == 1 else f"; those of heights below {earliest} are not found here any more"
        return NotFound(
            f"the transaction {hash_.hex()} is neither on the chain nor waiting here{older}",
            hash=hash_.hex(),
            earliest_height=earliest,
        )

    def transaction(self, height: int, index: int) -> dict[str, Any]:
        """The transaction at *index* (from 0) of a stored block, with its result."""
        raw = self.stored(self._store.block_transactions, height)[index]
        results = self.stored(self._store.results, height)
        return chain_answers.of_transaction(self._services.app, height, index, raw, results)

    def _transactions(self, height: int, positions: Iterable[int]) -> Iterator[dict[str, Any]]:
        """The transactions among the *positions* of a stored block, where ``begin`` is 0 and ``end`` comes last."""
        results = self.stored(self._store.results, height)
        decided = [position for position in positions if 0 < position < len(results) - 1]
        if decided:
            bodies = self.stored(self._store.block_transactions, height)
            for position in decided:
                index = position - 1
                yield chain_answers.of_transaction(self._services.app, height, index, bodies[index], results)

    @method
    async def tx_search(
        self,
        address: AddressText | None = None,
        event: Text | None = None,
        after: CursorJson | None = None,
        limit: Limit = 30,
    ) -> Any:
        """Transactions that touched *address*, or that emitted *event* (``module.name``), oldest first, by pages."""
        if (address is None) == (event is None):
            raise InvalidParams("give one of address and event", parameter="address")
        kind, key = (Kind.ADDRESS, address) if address is not None else (Kind.EVENT, (event or "").encode())
        start = None if after is None else Cursor(*after)
        places = self._store.search(kind, key, after=start, limit=min(limit, PER_PAGE_MAX))
        found: list[dict[str, Any]] = []
        for height, here in itertools.groupby(places, key=lambda place: place.height):
            await trio.lowlevel.checkpoint()  # a full block takes tens of milliseconds to read
            for shown in self._transactions(height, dict.fromkeys(place.transaction for place in here)):
                found.append(shown)
                await trio.lowlevel.checkpoint()
        return {
            "transactions": found,
            "earliest_height": self._store.kept.earliest[INDEX],
            "next": list(places[-1]) if len(places) == min(limit, PER_PAGE_MAX) else None,
        }
