"""What one can do with a devnet's nodes: start, stop, kill, pause, cut and heal. Each call leaves the record true."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from devnet import links, record
from devnet.ports import listens
from devnet.processes import Process, start
from devnet.record import Devnet, Node, NoDevnet

ZONES = ("UTC0", "NST3:30NDT", "NPT-5:45", "LINT-14", "HST10")
LOCALES = ("C", "C.UTF-8", "POSIX", "tr_TR.UTF-8", "en_US.UTF-8")
LINKS_WAIT_SECONDS = 10.0
LOG_TAIL_LINES = 15
LINE_BYTES = 1024
"""What a line of a log takes at most, but for rare ones."""


class StartFailed(RuntimeError):
    """A process of the devnet could not start; the text has the end of its log."""


def environment_of(number: int) -> dict[str, str]:
    """Node *number*'s environment: ours, with its own hash seed, time zone and locale, as on machines that differ."""
    return {
        **os.environ,
        "PYTHONHASHSEED": str(1 + 7919 * number),
        "TZ": ZONES[number % len(ZONES)],
        "LC_ALL": LOCALES[number % len(LOCALES)],
    }


def start_links(devnet: Devnet) -> Devnet:
    """The links process listens, if this devnet has one. Raises StartFailed."""
    if devnet.links is None or (devnet.links.process is not None and devnet.links.process.alive()):
        return devnet
    ports = {node.number: int(node.p2p.rpartition(":")[2]) for node in devnet.nodes}
    places = {name: (port, ports[int(name.split(">")[1])]) for name, port in devnet.links.ports.items()}
    setup = json.dumps({"control": devnet.links.control, "places": places})
    log = devnet.directory / "links.log"
    process = start([sys.executable, "-m", "devnet.links", setup], environment=dict(os.environ), log=log)
    devnet = dataclasses.replace(devnet, links=dataclasses.replace(devnet.links, process=process))
    record.save(devnet)
    _wait_for_links(devnet, process, log)
    return devnet


def _wait_for_links(devnet: Devnet, process: Process, log: Path) -> None:
    assert devnet.links is not None
    deadline = time.monotonic() + LINKS_WAIT_SECONDS
    while True:
        try:
            links.ask(devnet.links.control, {})
            return
        except OSError:
            if not process.alive() or time.monotonic() > deadline:
                raise StartFailed(f"the links process did not start:\n{tail(log)}") from None
            time.sleep(0.02)  # another process: it can only be asked; bounded by the deadline


def node_command(node: Node, *, profile: Path | None = None, clock_offset_ms: int = 0) -> list[str]:
    """What runs *node*: the same command as an operator's."""
    module = ["node.cli.main"] if profile is None else ["devnet.profiled", str(profile)]
    if clock_offset_ms:
        module = ["devnet.skewed", str(clock_offset_ms)]
    return [sys.executable, "-m", *module, "start", "--home", node.home]


def start_node(devnet: Devnet, number: int, *, profile: Path | None = None, clock_offset_ms: int = 0) -> Devnet:
    """Node *number* runs (its RPC may not answer yet). Raises NoDevnet if it runs already.

    With *profile* it runs under a sampling profiler, which writes there when the node stops. Its clock is
    *clock_offset_ms* ahead of the machine's (behind, if negative).
    """
    node = devnet.node(number)
    if node.running():
        raise NoDevnet(f"{node.name} runs already (pid {node.process.pid if node.process else '?'})")
    if listens(int(node.rpc.rpartition(":")[2])):
        raise NoDevnet(
            f"something else answers at {node.rpc}, perhaps {node.name} itself, started by hand; stop it first: "
            f"allting stop --home {node.home}"
        )
    process = start(
        node_command(node, profile=profile, clock_offset_ms=clock_offset_ms),
        environment=environment_of(number),
        log=node.log,
    )
    return _changed(devnet, dataclasses.replace(node, process=process, paused=False))


def stop_nodes(devnet: Devnet, numbers: list[int]) -> tuple[Devnet, list[str]]:
    """The nodes *numbers* are gone after SIGTERM. Names of those that it did not end in time, and that were killed."""
    running = [node for node in map(devnet.node, numbers) if node.process is not None]
    for node in running:
        if node.process is not None:
            node.process.ask_to_stop()  # all at once: they go together, rather than one waiting for the other
    stubborn: list[str] = []
    for node in running:
        devnet, went = _ended(devnet, node)
        if not went:
            stubborn.append(node.name)
    return devnet, stubborn


def _ended(devnet: Devnet, node: Node) -> tuple[Devnet, bool]:
    went = node.process.await_end() if node.process is not None else True
    return _changed(devnet, dataclasses.replace(node, process=None, paused=False)), went


def kill_node(devnet: Devnet, number: int) -> Devnet:
    """Node *number* and its helper processes were killed (SIGKILL), as if the power had gone."""
    return kill_nodes(devnet, [number])


def kill_nodes(devnet: Devnet, numbers: list[int]) -> Devnet:
    """The nodes *numbers* were killed in the same instant."""
    nodes = [devnet.node(number) for number in numbers]
    for node in nodes:
        if node.process is not None:
            node.process.signal_group(signal.SIGKILL)
    for node in nodes:
        if node.process is not None:
            node.process.kill()
        devnet = _changed(devnet, dataclasses.replace(node, process=None, paused=False))
    return devnet


def pause_node(devnet: Devnet, number: int) -> Devnet:
    """Node *number* stands still (SIGSTOP), its connections open and silent. Raises NoDevnet unless it was running."""
    return _paused(devnet, number, signal.SIGSTOP, paused=True)


def resume_node(devnet: Devnet, number: int) -> Devnet:
    """Node *number* goes on (SIGCONT). Raises NoDevnet if it was not paused."""
    return _paused(devnet, number, signal.SIGCONT, paused=False)


def _paused(devnet: Devnet, number: int, order: signal.Signals, *, paused: bool) -> Devnet:
    node = devnet.node(number)
    if node.running() and node.paused == paused:
        raise NoDevnet(f"{node.name} is paused already" if paused else f"{node.name} is not paused")
    if not node.running() or node.process is None:
        raise NoDevnet(f"{node.name} does not run; start it: allting devnet start {number}")
    node.process.signal_group(order)
    return _changed(devnet, dataclasses.replace(node, paused=paused))


def set_links(devnet: Devnet, settings: Mapping[str, Mapping[str, int | bool]]) -> None:
    """Faults of links hold from now on. Raises NoDevnet without ``--faults``, ValueError for what makes no sense."""
    if devnet.links is None:
        raise NoDevnet(
            "links of this devnet cannot be cut; for one whose links can: allting devnet down, then up --fresh --faults"
        )
    if devnet.links.process is None or not devnet.links.process.alive():
        raise NoDevnet("the links process does not run; start it with the nodes: allting devnet up")
    try:
        links.ask(devnet.links.control, settings)
    except OSError as error:
        raise NoDevnet(f"the links process does not answer ({error}); run: allting devnet down, then up") from None


def down(devnet: Devnet) -> list[str]:
    """No process of the devnet is left. Names of nodes that SIGTERM did not end in time, and that were killed."""
    devnet, stubborn = stop_nodes(devnet, [node.number for node in devnet.nodes])
    if devnet.links is not None and devnet.links.process is not None:
        devnet.links.process.kill()  # it keeps nothing
        devnet = dataclasses.replace(devnet, links=dataclasses.replace(devnet.links, process=None))
    record.save(dataclasses.replace(devnet, watcher=None))
    return stubborn


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last *lines* of *log*, for people."""
    if not log.exists():
        return "(no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - lines * LINE_BYTES))
        found = file.read().decode(errors="replace").splitlines()
    return "\n".join(found[max(0, len(found) - lines) :])


def _changed(devnet: Devnet, node: Node) -> Devnet:
    devnet = devnet.with_node(node)
    record.save(devnet)
    return devnet
