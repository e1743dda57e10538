"""What goes wrong while clients work: Jepsen's nemeses against Tendermint, with our means."""

from __future__ import annotations

import dataclasses
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devnet import fleet
from devnet.links import cuts_for, healed
from devnet.ports import free_ports
from devnet.processes import Process, start
from node.config import Config
from tests.stories.network import CommandFailed, Network, act, rpc, succeed, until

NODES = list(range(4))
RING = ((0, 2), (1, 3))
"""Links that are cut in a ring: each node still hears two others, and no two nodes hear the same."""
TAIL_BYTES_MAX = 200
SKEWS_MS = (-60_000, -2_000, -400, 400, 2_000, 60_000)
SKEWS_OF_MANY_MS = (-60_000, 60_000)
"""Both beyond what the town allows: those who share one find the time of all others wrong."""
POWER = 10
POWERS = (5, 7, 12)
PERSONS = ("anna", "bjorn", "cilla")

_RIVALS: dict[Path, Process] = {}
"""Of each network: a second process with one of its keys."""


@dataclass(frozen=True, slots=True)
class Nemesis:
    """Something that is done to a network, and undone."""

    name: str
    begin: Callable[[Network, random.Random], None]
    end: Callable[[Network, random.Random], None]


def _single(network: Network, dice: random.Random) -> None:
    fleet.set_links(network.record, cuts_for([[dice.choice(NODES)]], NODES))


def _half(network: Network, dice: random.Random) -> None:
    fleet.set_links(network.record, cuts_for([dice.sample(NODES, 2)], NODES))


def _ring(network: Network, dice: random.Random) -> None:
    settings: dict[str, dict[str, int | bool]] = {}
    for one, other in RING:
        settings |= {f"{one}>{other}": {"cut": True}, f"{other}>{one}": {"cut": True}}
    fleet.set_links(network.record, settings)


def _heal(network: Network, dice: random.Random) -> None:
    fleet.set_links(network.record, healed(NODES))


def _crash(network: Network, dice: random.Random) -> None:
    numbers = sorted(dice.sample(NODES, dice.randint(1, len(NODES))))
    network.devnet("kill", ",".join(map(str, numbers)))


def _start(network: Network, dice: random.Random) -> None:
    stopped = [node.number for node in network.record.nodes if not node.running()]
    if stopped:
        network.devnet("start", ",".join(map(str, stopped)))


def _pause(network: Network, dice: random.Random) -> None:
    for number in dice.sample(NODES, dice.randint(1, 2)):
        network.devnet("pause", str(number))


def _resume(network: Network, dice: random.Random) -> None:
    for node in network.record.nodes:
        if node.paused:
            network.devnet("resume", str(node.number))


def _skew(network: Network, dice: random.Random) -> None:
    """Up to all clocks are wrong, by less than the town allows or by a minute."""
    for number in dice.sample(NODES, dice.randint(1, len(NODES))):
        network.devnet("kill", str(number))
        network.devnet("start", str(number), "--clock-offset-ms", str(dice.choice(SKEWS_MS)))


def _skew_many(network: Network, dice: random.Random) -> None:
    """Half of the clocks, or all but one, are wrong by the same minute."""
    numbers = ",".join(map(str, dice.sample(NODES, dice.choice((2, 3)))))
    network.devnet("kill", numbers)
    network.devnet("start", numbers, "--clock-offset-ms", str(dice.choice(SKEWS_OF_MANY_MS)))


def _right_clocks(network: Network, dice: random.Random) -> None:
    network.devnet("kill", ",".join(map(str, NODES)))
    network.devnet("start", ",".join(map(str, NODES)))


def _truncate_log(network: Network, dice: random.Random) -> None:
    """The end of a log is gone, as after a torn write."""
    number = dice.choice(NODES)
    network.devnet("kill", str(number))
    log = _home(network, number) / "data" / "consensus.wal"
    size = log.stat().st_size
    with log.open("r+b") as file:
        file.truncate(max(0, size - dice.randint(1, TAIL_BYTES_MAX)))


def _truncate_store(network: Network, dice: random.Random) -> None:
    """Half of a store is gone: the node refuses to run, and says to move the folder away."""
    number = dice.choice(NODES)
    network.devnet("kill", str(number))
    chain = _home(network, number) / "data" / "chain"
    data = chain / "data.mdb"
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)
    with pytest.raises(CommandFailed, match="move the folder away"):
        network.devnet("start", str(number))
    shutil.rmtree(chain)


def _remove_one(network: Network, dice: random.Random) -> None:
    """A validator has left the set, and another has more or less power."""
    leaves, stays = (_public_key(network, number) for number in dice.sample(NODES, 2))
    power = dice.choice(POWERS)
    _decide(
        network,
        {"validators.remove": {"public_key": leaves}},
        {"validators.set_power": {"public_key": stays, "power": power}},
    )
    left = {_public_key(network, number): POWER for number in NODES} | {stays: power}
    del left[leaves]
    until(lambda: _set(network) == left, "the validator has left", seconds=120)


def _admit_again(network: Network, dice: random.Random) -> None:
    """Whoever had left is a validator again; all have the same power."""
    before = _set(network)
    messages = []
    for number in NODES:
        key = _public_key(network, number)
        if key not in before:
            act(network.urls[0], network.key("anna"), {"validators.apply": {"public_key": key, "name": f"{number}"}})
            messages.append({"validators.admit": {"public_key": key, "power": POWER}})
        elif before[key] != POWER:
            messages.append({"validators.set_power": {"public_key": key, "power": POWER}})
    _decide(network, *messages)
    whole = {_public_key(network, number): POWER for number in NODES}
    until(lambda: _set(network) == whole, "all are validators again", seconds=120)


def _set(network: Network) -> dict[str, int]:
    """Public key → power, as node 0 has them."""
    members = rpc(network.urls[0], "validators")["validators"]
    return {member["public_key"]: member["power"] for member in members}


def _public_key(network: Network, number: int) -> str:
    return network.validator_key(number).public_key.hex()


def _decide(network: Network, *messages: dict[str, Any]) -> None:
    """A proposal with *messages* has three votes; it is carried out when its ballot closes."""
    url = network.urls[0]
    proposal = {"title": "Validators", "body_hash": "00" * 32, "messages": list(messages)}
    answer = act(url, network.key("anna"), {"governance.propose": proposal})
    number = next(event["proposal"] for event in answer["result"]["events"] if event["name"] == "proposed")
    for name in PERSONS:
        act(url, network.key(name), {"governance.vote": {"proposal": number, "choice": "yes"}})


def _peekaboo(network: Network, dice: random.Random) -> None:
    """The same validator on two machines, which are awake in turn."""
    number = dice.choice(NODES)
    rival = _rival(network, number)
    network.devnet("pause", str(number))
    _RIVALS[network.directory] = rival()


def _twins(network: Network, dice: random.Random) -> None:
    """The same validator on two machines at once, while the network is in halves."""
    number = dice.choice(NODES)
    _RIVALS[network.directory] = _rival(network, number)()
    _half(network, dice)


def _no_rival(network: Network, dice: random.Random) -> None:
    """One machine is left; its operator unlocks the key that it has found used elsewhere."""
    rival = _RIVALS.pop(network.directory, None)
    if rival is not None:
        rival.kill()
    _heal(network, dice)
    _resume(network, dice)
    for node in network.record.nodes:
        if rpc(node.rpc, "consensus_state")["signing"] == "locked":
            network.devnet("stop", str(node.number))
            succeed("keys", "unlock", "--home", node.home)
            network.devnet("start", str(node.number))


def _rival(network: Network, number: int) -> Callable[[], Process]:
    """Starts a copy of node *number* as it is now, at ports of its own."""
    home = network.directory / f"rival-{time.monotonic_ns()}"
    network.devnet("stop", str(number))
    shutil.copytree(_home(network, number), home)
    network.devnet("start", str(number))
    config = Config.load(home / "config.toml")
    p2p, rpc_port = free_ports(2)
    dataclasses.replace(
        config,
        p2p=dataclasses.replace(config.p2p, listen=f"127.0.0.1:{p2p}"),
        rpc=dataclasses.replace(config.rpc, listen=f"127.0.0.1:{rpc_port}"),
    ).write(home / "config.toml")
    command = [sys.executable, "-m", "node.cli.main", "start", "--home", str(home)]
    return lambda: start(command, environment=fleet.environment_of(number), log=home / "rival.log")


def _home(network: Network, number: int) -> Path:
    return Path(network.record.node(number).home)


NEMESES = (
    Nemesis("single partitions", _single, _heal),
    Nemesis("half partitions", _half, _heal),
    Nemesis("ring partitions", _ring, _heal),
    Nemesis("crash", _crash, _start),
    Nemesis("pause", _pause, _resume),
    Nemesis("clocks", _skew, _right_clocks),
    Nemesis("clocks of many", _skew_many, _right_clocks),
    Nemesis("truncated log", _truncate_log, _start),
    Nemesis("truncated store", _truncate_store, _start),
    Nemesis("changing validators", _remove_one, _admit_again),
    Nemesis("peekaboo duplicate validators", _peekaboo, _no_rival),
    Nemesis("split duplicate validators", _twins, _no_rival),
)
