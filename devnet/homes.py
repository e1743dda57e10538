"""What stands on disk before a devnet starts: one genesis, a home for each node, keys of people to play with."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from consensus.address import to_text
from devnet.accounts import account_addresses
from devnet.ports import free_ports
from devnet.record import FILE, Devnet, Links, Node
from node.applications import application_for
from node.config import Config, LogConfig, P2pConfig, RpcConfig
from node.files import write_atomically
from node.genesis import BadGenesis, GenesisFile, genesis_toml
from node.keys import KeyFile

PERSONS = ("anna", "bjorn", "cilla", "david")
"""Attested persons with coins; anna is also registrar."""
STRANGER = "stranger"
"""Has coins, but nobody attested a person behind it."""
COINS = 1_000_000
TREASURY = 1_000_000
LOAD_COINS = 1_000_000_000
POWER = 10
VALIDATORS_MAX = 32
GRAIN_MS = 1_000
BALLOT_MS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `create` makes."""

    validators: int = 4
    preset: str = "TINY"
    faults: bool = False
    load_accounts: int = 1_000
    params: Mapping[str, int] = field(default_factory=dict)
    """Engine parameters that differ from the preset."""
    town_params: Mapping[str, Any] = field(default_factory=dict)
    """Module parameters (``module.name``) that differ from their defaults."""
    time_ms: int | None = None
    """Genesis time; None: now."""


def create(directory: Path, plan: Plan, *, instead_of: Devnet | None = None) -> Devnet:
    """*directory* holds all that the nodes of *plan* need; nothing runs. Raises BadGenesis for bad parameters.

    The devnet *instead_of* which it is made is deleted, once nothing is left to refuse.
    """
    numbers = list(range(plan.validators))
    keys = {name: KeyFile.create("account") for name in (*PERSONS, STRANGER)}  # open: what they hold is worth nothing
    seeds = {number: (KeyFile.create("node"), KeyFile.create("validator")) for number in numbers}
    chain_id = f"ting-devnet-{time.time_ns() // 1_000_000_000 % 10**8}"
    genesis = _genesis(chain_id, plan, keys, [validator for _, validator in seeds.values()])
    if plan.town_params or plan.params:
        _check(genesis)
    pairs = [(one, other) for one in numbers for other in numbers if one != other] if plan.faults else []
    ports = iter(free_ports(2 * len(numbers) + len(pairs) + 1))
    nodes = tuple(
        Node(
            name=f"node{number}",
            home=str(directory / f"node{number}"),
            rpc=f"http://127.0.0.1:{next(ports)}",
            p2p=f"127.0.0.1:{next(ports)}",
            node_id=seeds[number][0].public_key.hex(),
        )
        for number in numbers
    )
    links = Links(control=next(ports), ports={f"{one}>{other}": next(ports) for one, other in pairs}) if pairs else None
    devnet = Devnet(
        directory=directory,
        chain_id=chain_id,
        preset=plan.preset,
        nodes=nodes,
        keys=tuple(keys),
        load_accounts=plan.load_accounts,
        links=links,
    )
    if instead_of is not None:
        _forget(instead_of)
    for name, key in keys.items():
        key.write(directory / "keys" / "accounts" / f"{name}.json")
    for node in nodes:
        node_key, validator_key = seeds[node.number]
        home = Path(node.home)
        node_key.write(home / "keys" / "node.json")
        validator_key.write(home / "keys" / "validator.json")
        write_atomically(home / "genesis.toml", genesis)
        _config(devnet, node).write(home / "config.toml")
    return devnet


def _forget(old: Devnet) -> None:
    """Everything of the devnet *old* is deleted, with what clients verified of its chain, but nothing else."""
    for node in old.nodes:
        shutil.rmtree(node.home, ignore_errors=True)
    shutil.rmtree(old.directory / "keys", ignore_errors=True)
    for name in ("links.log", "light.json", FILE):
        (old.directory / name).unlink(missing_ok=True)


def _config(devnet: Devnet, node: Node) -> Config:
    others = [other for other in devnet.nodes if other != node]
    return Config(
        moniker=node.name,
        p2p=P2pConfig(
            listen=node.p2p,
            persistent_peers=tuple(f"{other.node_id}@{_way(devnet, node, other)}" for other in others),
            # Where links can be cut, nobody may learn of a way around them.
            exchange=devnet.links is None,
        ),
        rpc=RpcConfig(listen=node.rpc.removeprefix("http://")),
        log=LogConfig(format="json", file=node.log.name),
    )


def _way(devnet: Devnet, node: Node, other: Node) -> str:
    """host:port at which *node* finds *other*."""
    if devnet.links is None:
        return other.p2p
    return f"127.0.0.1:{devnet.links.ports[f'{node.number}>{other.number}']}"


def _genesis(chain_id: str, plan: Plan, keys: Mapping[str, KeyFile], validators: Iterable[KeyFile]) -> bytes:
    operators = [to_text(keys[name].address) for name in PERSONS]
    town_params = dict(plan.town_params)
    if plan.preset == "TINY":
        town_params = {**TINY_TOWN, **town_params}
    return genesis_toml(
        chain_id=chain_id,
        time_ms=time.time_ns() // 1_000_000 if plan.time_ms is None else plan.time_ms,
        modules=_modules(),
        preset=plan.preset,
        params=plan.params,
        town={
            "params": town_params,
            "coin": {
                "treasury": TREASURY,
                "accounts": [
                    *({"address": to_text(key.address), "amount": COINS} for key in keys.values()),
                    *(
                        {"address": to_text(address), "amount": LOAD_COINS}
                        for address in account_addresses(chain_id, plan.load_accounts)
                    ),
                ],
            },
            "identity": {
                "persons": [
                    {"address": operators[index], "roles": ["registrar"] if index == 0 else []}
                    for index in range(len(PERSONS))
                ]
            },
            "validators": {
                "members": [
                    {
                        "public_key": key.public_key.hex(),
                        "power": POWER,
                        "operator": operators[index % len(operators)],
                        "name": f"node{index}",
                    }
                    for index, key in enumerate(validators)
                ]
            },
        },
    )


def _check(genesis: bytes) -> None:
    """Raises BadGenesis if the town refuses *genesis*, before any node would."""
    parsed = GenesisFile.parse(genesis)
    try:
        application_for(parsed).genesis(
            parsed.town, chain_id=parsed.chain_id, time_ms=parsed.time_ms, params=parsed.params
        )
    except ValueError as error:
        raise BadGenesis(str(error)) from error


TINY_TOWN: Mapping[str, Any] = {"governance.voting_period_ms": BALLOT_MS, "town.grain_ms": GRAIN_MS}
"""Module parameters of a TINY devnet."""


def _modules() -> dict[str, int]:
    """Every module that is installed, ours and others': name → version."""
    found = {point.name: point.load() for point in entry_points(group="allting.modules")}
    return {name: int(module.version) for name, module in sorted(found.items())}
