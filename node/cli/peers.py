"""``allting peers``: whom the running node is connected with, whom it bans, and why."""

from __future__ import annotations

from typing import Any

import click

from node.cli.place import Place, home_option
from node.cli.screen import ListedGroup, Mistake, Screen, json_option
from node.keys import KeyFile
from p2p.scores import BAN_SECONDS_MAX

HOUR_SECONDS = 3_600
BAN_HOURS_DEFAULT = 24


@click.group(cls=ListedGroup, invoke_without_command=True)
@json_option
@home_option
@click.pass_context
def peers(context: click.Context, place: Place, screen: Screen) -> None:
    """List the peers that the running node is connected with, their scores and rates; or bans."""
    if context.invoked_subcommand is not None:
        return
    facts = place.admin("peers")
    lines = [line for peer in facts["peers"] for line in _peer_lines(peer)]
    bans = len(facts["bans"])
    lines.append(f"{len(facts['peers'])} peers, {facts['known_addresses']} addresses known, {bans} bans in force")
    screen.show(facts["peers"], lines)


@peers.command()
@json_option
@home_option
def bans(place: Place, screen: Screen) -> None:
    """List the nodes that are not let in now, for how long yet, and why."""
    found = place.admin("peers")["bans"]
    lines = [f"{ban['node_id']}  {_span(ban['seconds_left'])} more  {ban['reason']}" for ban in found]
    screen.show(found, lines or ["nobody is banned"])


@peers.command()
@click.argument("node_id")
@click.option(
    "--hours",
    type=click.IntRange(1, BAN_SECONDS_MAX // HOUR_SECONDS),
    default=BAN_HOURS_DEFAULT,
    show_default=True,
    help="How long.",
)
@json_option
@home_option
def ban(node_id: str, hours: int, place: Place, screen: Screen) -> None:
    """Keep a node out; its id, or the first 8 digits of it if it is connected."""
    if place.home.node_key.exists() and node_id.lower() == KeyFile.load(place.home.node_key).public_key.hex():
        raise Mistake(f"{node_id} is this node itself")
    done = place.admin("ban", node_id=node_id.lower(), seconds=hours * HOUR_SECONDS)
    screen.show(done, [f"{done['node_id']} is banned for {hours} hour{'' if hours == 1 else 's'}"])


@peers.command()
@click.argument("node_id")
@json_option
@home_option
def unban(node_id: str, place: Place, screen: Screen) -> None:
    """Forget a node's ban and points; its id, or the first 8 digits of it."""
    done = place.admin("unban", node_id=node_id.lower())
    screen.show(done, [f"{done['node_id']} is welcome again"])


def _peer_lines(peer: dict[str, Any]) -> list[str]:
    arrow = "→" if peer["outbound"] else "←"
    where = peer["address"].partition("@")[2] if peer["address"] else f"{peer['host']} (does not listen)"
    rates = peer["bytes_per_second"]
    trip = "?" if peer["round_trip_ms"] is None else f"{peer['round_trip_ms']:.0f}"
    skew = "?" if peer["clock_skew_ms"] is None else f"{peer['clock_skew_ms']:+d}"
    shown = [
        f"{arrow} {peer['node_id'][:8]} {peer['moniker']:<16} {where}",
        f"    for {_span(peer['connected_seconds'])}, in {rates['received']} and out {rates['sent']} bytes/s, "
        f"{trip} ms away, clock {skew} ms",
    ]
    if peer["points"] or peer["reasons"]:
        reasons = ", ".join(f"{reason} {points}" for reason, points in peer["reasons"].items())
        shown.append(f"    score {peer['points']}: {reasons}")
    return shown


def _span(seconds: float) -> str:
    """A length of time for people."""
    for unit, length in (("days", 86_400), ("hours", HOUR_SECONDS), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


COMMANDS = (peers,)
