"""The town of a node world: its genesis, its people, and the transactions that they send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from city.app import Town
from consensus.address import key_address, to_text
from consensus.signing import public_key, sha256
from consensus.transaction import Body, Message
from devnet.sim.node_clock import START_MS
from node.genesis import GenesisFile, genesis_toml

CHAIN_ID = "ting-world"
MODULES = ("coin", "governance", "identity", "validators")
"""Ours alone, so that a seed means the same wherever other modules are installed."""
PERSONS = 3
"""Attested, with a vote each; person 0 is registrar."""
ACCOUNTS = 8
"""With coins, persons included."""
COINS = 1_000_000
BALLOT_MS = 1_500
JAIL_MS = 2 * 24 * 3_600_000
"""For two votes in one round; besides, the key is tombstoned."""
VALID_MS = 24 * 3_600_000
SNAPSHOT_BLOCKS = 4
"""Between two heights whose state newcomers can fetch."""


def seed_of(kind: str, number: int) -> bytes:
    """The key of somebody or something in the worlds."""
    return sha256(f"allting/sim/{kind}/{number}".encode())


def address_of(account: int) -> bytes:
    """The address of an account."""
    return key_address(public_key(seed_of("account", account)))


@lru_cache(maxsize=64)
def genesis(powers: tuple[int, ...]) -> GenesisFile:
    """A town whose validators have *powers*."""
    return GenesisFile.parse(
        genesis_toml(
            chain_id=CHAIN_ID,
            time_ms=START_MS,
            modules=_versions(),
            preset="TINY",
            params={"snapshot_interval_blocks": SNAPSHOT_BLOCKS},
            town={
                "params": {
                    "coin.weight_price": 0,
                    "governance.voting_period_ms": BALLOT_MS,
                    "town.grain_ms": 1_000,
                    "validators.double_sign_jail_ms": JAIL_MS,
                },
                "coin": {
                    "treasury": COINS,
                    "accounts": [
                        {"address": to_text(address_of(number)), "amount": COINS} for number in range(ACCOUNTS)
                    ],
                },
                "identity": {
                    "persons": [
                        {"address": to_text(address_of(number)), "roles": ["registrar"] if number == 0 else []}
                        for number in range(PERSONS)
                    ]
                },
                "validators": {
                    "members": [
                        {
                            "public_key": public_key(seed_of("validator", number)).hex(),
                            "power": power,
                            "operator": to_text(address_of(0)),
                            "name": f"node{number}",
                        }
                        for number, power in enumerate(powers)
                    ]
                },
            },
        )
    )


def transaction(account: int, nonce: int, messages: Sequence[Message], *, valid_until_ms: int) -> bytes:
    """The bytes of a transaction with *messages*, signed by *account*."""
    seed = seed_of("account", account)
    key = public_key(seed)
    body = Body(
        chain_id=CHAIN_ID,
        sender=key_address(key),
        nonce=nonce,
        valid_until_ms=valid_until_ms,
        fee=0,
        fee_payer=None,
        messages=tuple(messages),
        signers=(key,),
    )
    return body.signed(seed).raw


def message(name: str, /, **arguments: Any) -> Message:
    """The message *name* (``module.message``) with JSON-ready *arguments*."""
    return _town().messages_from_json([{name: arguments}])[0]


@lru_cache(maxsize=1)
def _town() -> Town:
    return Town([point.load() for point in _points()])


def _points() -> Sequence[Any]:
    found = {point.name: point for point in entry_points(group="allting.modules")}
    return [found[name] for name in MODULES]


def _versions() -> Mapping[str, int]:
    return {point.name: int(point.load().version) for point in _points()}
