"""The methods of a node that a light client can answer: each answer is verified, or it is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from consensus.application import Application, QueryRefused, Result
from consensus.block import Commit, Header
from consensus.light import HEADERS_AT_ONCE, TrustedBlock
from consensus.validators import ValidatorSet
from node.light.answers import (
    block_in,
    commit_in,
    entries_in,
    header_in,
    number_in,
    offer_in,
    params_in,
    part,
    results_in,
    same_header,
    set_in,
    transaction_in,
)
from node.light.follower import Behind
from node.light.service import Light
from node.proofs import NotProved
from node.rpc import chain_answers, shapes
from node.rpc.errors import InvalidParams, NotFound, QueryFailed, RpcError, Unverifiable
from node.rpc.methods import Method, method
from node.rpc.node_methods import PROTOCOL_VERSION
from node.rpc.parameters import Flag, HashText, Height, Integer, JsonObject, Limit, Parameters, Text


class LightStatusMethods:
    """What the light client says of itself."""

    def __init__(self, light: Light) -> None:
        self._light = light

    @method
    async def status(self) -> Any:
        """How far the light client is, whom it asks, and until when it trusts."""
        light, follower = self._light, self._light.follower
        latest = await follower.latest()
        sources = light.sources
        return {
            "node_info": {
                "moniker": "light client",
                "network": light.genesis.chain_id,
                "genesis_hash": light.genesis.hash.hex(),
                "application": light.genesis.application,
                "protocol_version": PROTOCOL_VERSION,
                "version": version("allting"),
                "started_ms": light.started_ms,
            },
            "sync_info": {
                "latest_block_height": latest.height,
                "latest_block_hash": latest.block_id.hex(),
                "latest_app_hash": latest.header.app_hash.hex(),
                "latest_block_time_ms": latest.time_ms,
                "catching_up": False,
                "peers": len(sources.all),
            },
            "validator_info": None,
            "light_info": {
                "primary": sources.primary.name,
                "witnesses": [source.name for source in sources.witnesses],
                "dropped": sources.dropped,
                "stale": follower.is_stale(latest.header),
                "trusted_until_ms": latest.time_ms + follower.params.trusting_period_ms,
            },
        }

    @method
    async def health(self) -> Any:
        """An empty object, as long as the light client serves."""
        return {}

    @method
    async def genesis(self) -> Any:
        """The genesis file, byte for byte, and its hash."""
        return chain_answers.of_genesis(self._light.genesis)


class LightChainMethods:
    """What was decided, as far as headers commit to it."""

    def __init__(self, light: Light) -> None:
        self._app: Application = light.app
        self._follower = light.follower

    async def _header(self, height: int | None) -> Header:
        if height is None:
            return (await self._follower.latest()).header
        if height < 1:
            raise NotFound("there is no block before the first decided height")
        return await self._follower.header(height)

    async def _chosen(self, height: int | None, hash_: bytes | None) -> Header:
        if hash_ is None:
            return await self._header(height)
        if height is not None:
            raise InvalidParams("give height or hash, not both", parameter="hash")

        async def named(answer: Any) -> Header:
            shown = header_in(answer)
            if shown.id != hash_:
                raise NotProved("the node shows another block than that with the hash")
            same_header(shown, await self._follower.header(shown.height))
            return shown

        return await self._follower.verified("header", {"hash": hash_.hex()}, named)

    @method
    async def header(self, height: Height | None = None, hash_: HashText | None = None) -> Any:
        """A header by height or hash; without either the latest."""
        return {"header": shapes.header_json(await self._chosen(height, hash_))}

    @method
    async def block(self, height: Height | None = None, hash_: HashText | None = None) -> Any:
        """A block with its transactions, by height or hash; without either the latest."""
        header = await self._chosen(height, hash_)

        async def shown(answer: Any) -> Any:
            return chain_answers.of_block(*block_in(answer, header))

        return await self._follower.verified("block", {"height": header.height}, shown)

    @method
    async def blockchain(self, min_height: Height | None = None, max_height: Height | None = None) -> Any:
        """Headers from *max_height* (the latest) down to *min_height*, at most 20."""
        last = (await self._follower.latest()).height
        newest = min(last, last if max_height is None else max_height)
        oldest = max(1, newest - HEADERS_AT_ONCE + 1, min_height or 1)
        headers = [await self._follower.header(height) for height in reversed(range(oldest, newest + 1))]
        return {"last_height": last, "headers": [shapes.header_json(header) for header in headers]}

    @method
    async def commit(self, height: Height | None = None) -> Any:
        """A header with its commit; *canonical* says whether the next header chose that commit."""
        header = await self._header(height)
        return await self._committed(header, await self._follower.validators(header.height))

    async def _committed(self, header: Header, validators: ValidatorSet) -> dict[str, Any]:
        following = await self._following(header)

        async def shown(answer: Any) -> dict[str, Any]:
            return _of_commit(header, commit_in(answer, header, validators), following)

        return await self._follower.verified("commit", {"height": header.height}, shown)

    async def _following(self, header: Header) -> Header | None:
        """The header after *header*, None if it is the latest."""
        if header.height >= self._follower.blocks.latest.height:
            latest = await self._follower.latest()
            if header.height == latest.height:
                return None
        return await self._follower.header(header.height + 1)

    @method
    async def light_block(self, height: Height | None = None) -> Any:
        """All that a light client needs of a height: header, commit, its validators and those of the next height."""
        header = await self._header(height)
        following = await self._following(header)

        async def shown(answer: Any) -> dict[str, Any]:
            validators = set_in(answer, "validators", header.validators_hash)
            commit = commit_in(answer, header, validators)
            next_validators = TrustedBlock.of(header, offer_in(answer).next_validators or validators).next_validators
            return {
                **_of_commit(header, commit, following),
                "validators": members_json(validators),
                "next_validators": members_json(next_validators),
            }

        return await self._follower.verified("light_block", {"height": header.height}, shown)

    @method
    async def validators(
        self, height: Height | None = None, page: Integer | None = None, per_page: Limit | None = None
    ) -> Any:
        """The validators of a height (of the next one, if none is given), in the set's order, without priorities.

        A header vouches for keys and powers only: whose turn it is to propose is not answered.
        """
        chosen = (await self._follower.latest()).height + 1 if height is None else height
        if chosen < 1:
            raise NotFound(f"the validators of height {chosen} are not known here")
        members = members_json(await self._follower.validators(chosen))
        return chain_answers.of_validators(chosen, members, page, per_page)

    @method
    async def consensus_params(self, height: Height | None = None) -> Any:
        """The engine's parameters in force at a height (at the latest one, if none is given)."""
        header = await self._header(height)

        async def shown(answer: Any) -> Any:
            return {"height": header.height, "params": shapes.params_json(params_in(answer, header))}

        return await self._follower.verified("consensus_params", {"height": header.height}, shown)

    async def results(self, header: Header) -> tuple[Result, ...]:
        """All results of a believed header's block."""

        async def shown(answer: Any) -> tuple[Result, ...]:
            return results_in(answer, header)

        asked = {"height": header.height, "events": False, "prove": True}
        return await self._follower.verified("block_results", asked, shown)

    @method
    async def block_results(self, height: Height | None = None, events: Flag = True) -> Any:
        """What came of a block: the results of ``begin``, each transaction and ``end``; perhaps without *events*."""
        header = await self._header(height)
        results = await self.results(header)
        shown = [shapes.result_json(self._app, result, events=events) for result in results]
        return chain_answers.of_results(header.height, shown)

    @method
    async def tx(self, hash_: HashText, prove: Flag = False) -> Any:
        """A transaction on the chain by its hash, with what came of it; *prove* adds the way to the block's root."""

        async def shown(answer: Any) -> Any:
            header = await self._follower.header(number_in(answer, "height"))
            results = await self.results(header)
            raw, proof = transaction_in(answer, hash_, header, results)
            found = chain_answers.of_transaction(self._app, header.height, proof.index, raw, results)
            return {**found, "proof": shapes.list_proof_json(proof, header.transactions_root)} if prove else found

        return await self._follower.verified("tx", {"hash": hash_.hex(), "prove": True}, shown)


class LightQueryMethods:
    """Questions to the application, answered from proved entries alone."""

    def __init__(self, light: Light) -> None:
        self._app: Application = light.app
        self._follower = light.follower

    @method
    async def query(
        self, path: Text, args: JsonObject | None = None, height: Height | None = None, prove: Flag = False
    ) -> Any:
        """What ``module/query`` answers to *args* at *height* (the latest if absent), always proved.

        *stale* says that the chain, or the node that is asked, has shown no block for two heartbeats. With *prove* the
        entries that the answer rests on come along.
        """
        arguments = args or {}
        try:
            targets = self._app.proof_targets(path, arguments)
        except QueryRefused as error:
            raise QueryFailed(str(error), error.code) from None

        async def shown(answer: Any) -> Any:
            at = number_in(answer, "height")
            if height is not None and at != height:
                raise NotProved(f"the node answered for height {at} instead of {height}")
            if height is None and at < self._follower.blocks.latest.height:
                raise Behind(f"answers for height {at}, and {self._follower.blocks.latest.height} is believed")
            header = await self._follower.header(at)
            values, proof = entries_in(answer, targets, header)
            try:
                computed = shapes.plain(self._app.answer_from_proof(path, arguments, values))
            except QueryRefused as error:
                raise QueryFailed(str(error), error.code) from None
            if computed != part(answer, "answer") or header.time_ms != part(answer, "time_ms"):
                raise NotProved("the node's answer is not what its own proof shows")
            found = {
                "height": at,
                "block_id": header.id.hex(),
                "time_ms": header.time_ms,
                "stale": height is None and self._follower.is_stale(header),
                "answer": computed,
            }
            return {**found, "proof": proof} if prove else found

        asked = {"path": path, "args": dict(arguments), "height": height, "prove": True}
        return await self._follower.verified("query", asked, shown)


UNVERIFIABLE = {
    "check_tx": "what a pool would say of a transaction",
    "consensus_state": "where a node stands in the current height",
    "events": "that no event is missing between two others",
    "net_info": "whom a node is connected with",
    "num_unconfirmed_txs": "what waits in a node's pool",
    "subscribe": "that no event is missing between two others",
    "tx_search": "that no transaction is missing from a list",
    "tx_status": "what became of a transaction in a node's pool",
    "unconfirmed_evidence": "what waits in a node's pool",
    "unconfirmed_txs": "what waits in a node's pool",
    "unsubscribe": "that no event is missing between two others",
}
"""Methods of a node that no header vouches for, and what it is that no proof shows."""


def unverifiable_methods() -> Mapping[str, Method]:
    """Each refuses with a stable code, whatever it is asked."""
    return {name: _refusing(name, why) for name, why in UNVERIFIABLE.items()}


def unverifiable(name: str) -> RpcError:
    """The refusal of a method."""
    return Unverifiable(
        f"{name} is not answered by a light client: no proof shows {UNVERIFIABLE[name]}; ask a node that you trust"
    )


class _Anything(Parameters):
    """Parameters that are not looked at."""

    def read(self, given: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
        return {}


async def _nothing(self: object) -> None:
    """Declares no parameters."""


def _refusing(name: str, why: str) -> Method:
    async def refuse() -> Any:
        raise unverifiable(name)

    return Method(name, f"Refused: no proof shows {why}.", _Anything(_nothing), refuse)


def members_json(validators: ValidatorSet) -> list[dict[str, Any]]:
    """The members of a set, without the priorities that no header vouches for."""
    shown = shapes.validators_json(validators)
    return [{name: value for name, value in member.items() if name != "priority"} for member in shown]


def _of_commit(header: Header, commit: Commit, following: Header | None) -> dict[str, Any]:
    canonical = following is not None and following.last_commit_hash == commit.hash
    return chain_answers.of_commit(header, commit, canonical=canonical)
