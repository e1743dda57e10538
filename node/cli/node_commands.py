"""Commands about one node: make it, start it, join a chain with it, invite others, see how it is."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import click

from consensus.address import key_address, to_text
from consensus.params import HOUR_MS
from consensus.signing import public_key
from node.applications import application_for
from node.cli import founding
from node.cli.place import DEVNET_FILE, Place, home_option, new_home_option, place_options
from node.cli.screen import Failed, Mistake, Screen, json_option
from node.cli.transactions import Sending, send
from node.config import Config
from node.genesis import PRESETS, BadGenesis, GenesisFile
from node.genesis_state import first_state
from node.invite import Invite
from node.keys import KeyFile, new_seed

VOUCHER_COINS = 5_000


def now_ms() -> int:
    """Own clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000


def machine_name() -> str:
    """What a node is called where nobody named it."""
    return platform.node()[:60] or "node"


@click.command()
@click.option("--chain-id", help="Of the new chain; lower-case letters, digits and dashes.")
@click.option("--moniker", default=machine_name, help="The name that peers see.")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), default="CITY", show_default=True)
@click.option("--genesis", "genesis_file", type=click.Path(path_type=Path, dir_okay=False), help="Use this genesis.")
@click.option(
    "--from",
    "old",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="With --genesis: take keys and settings from this home, whose node has stopped for good.",
)
@click.option(
    "--peer", "peers", multiple=True, metavar="ID@HOST:PORT", help="A peer to stay connected with; repeatable."
)
@click.option("--operator", default="operator", show_default=True, help="Name of the first person's account.")
@click.option("--coins", type=click.IntRange(0), default=1_000_000, show_default=True, help="Of the first person.")
@json_option
@new_home_option
def init(
    chain_id: str | None,
    moniker: str,
    preset: str,
    genesis_file: Path | None,
    old: Path | None,
    peers: tuple[str, ...],
    operator: str,
    coins: int,
    place: Place,
    screen: Screen,
) -> None:
    """Make the home of a new node: settings and keys, and a chain of its own unless a genesis is given."""
    founding.refuse_taken(place)
    if genesis_file is not None:
        genesis = GenesisFile.load(genesis_file)
        application_for(genesis)
        state = genesis_file.with_name("genesis.state") if genesis.state is not None else None
        founding.furnish_from_file(place, genesis, state, moniker=moniker, peers=peers, old=old)
        screen.show(
            {"home": str(place.path), "chain_id": genesis.chain_id},
            [f"{place.path} is ready for {genesis.chain_id}; next: allting start --home {place.path}"],
        )
        return
    if old is not None or peers:
        raise Mistake("--from and --peer go with --genesis: a chain of one's own has neither")
    chain = chain_id or f"ting-{moniker.lower()}-1"
    account = KeyFile.create("account")
    validator = KeyFile.create("validator")
    raw = founding.first_genesis(
        chain_id=chain,
        time_ms=now_ms(),
        preset=preset,
        account=account.address,
        coins=coins,
        validator=validator.public_key,
        moniker=moniker,
    )
    founding.furnish(place, moniker=moniker, genesis=raw, validator=validator)
    account.write(place.accounts / f"{operator}.json")
    shown: dict[str, Any] = {
        "home": str(place.path),
        "chain_id": chain,
        "account": {operator: to_text(account.address)},
    }
    screen.show(
        shown,
        [
            f"{place.path} is a node of the new chain {chain}.",
            f"Its first person is {operator}, {to_text(account.address)}, in an open key file;",
            f"write down its words: allting keys show {operator} --words --home {place.path}",
            f"Next: allting start --home {place.path}",
        ],
    )


@click.command()
@home_option
def start(place: Place) -> None:
    """Run the node of this home until Ctrl-C or SIGTERM."""
    run(place)


def run(place: Place) -> None:
    """The node of *place* has run until it was told to stop. Raises what stopped it else."""
    from node.cli import running  # the whole node is loaded only by those who run one

    if not place.home.config.exists() and not (place.path / DEVNET_FILE).exists():
        raise Mistake(f"there is no node in {place.path}; make one with allting init, or allting join LINK")
    place.require_node()
    running.run(place.path)


@click.command()
@click.argument("link")
@click.option("--moniker", help="The name that peers see; without it this machine's.")
@click.option("--p2p-listen", metavar="HOST:PORT", help="Where peers reach this node; without it a free port is taken.")
@click.option("--rpc-listen", metavar="HOST:PORT", help="Where RPC is served; without it a free port is taken.")
@click.option("--no-start", is_flag=True, help="Only prepare the home; start it later with allting start.")
@new_home_option
def join(
    link: str, moniker: str | None, p2p_listen: str | None, rpc_listen: str | None, no_start: bool, place: Place
) -> None:
    """Join a chain with the invite LINK: this home becomes a node of it, which starts at once."""
    screen = Screen(False)
    invite = Invite.read(link, now_ms=now_ms())
    if place.home.config.exists():
        known = GenesisFile.load(place.home.genesis)
        if known.hash != invite.terms.genesis_hash:
            raise Mistake(
                f"{place.path} is already a node of {known.chain_id}; join in an empty folder, or give another --home"
            )
        _refuse_other_settings(place, {"moniker": moniker, "p2p.listen": p2p_listen, "rpc.listen": rpc_listen})
        screen.progress(f"{place.path} has joined {known.chain_id} before{'' if no_start else '; starting it'}")
    else:
        founding.refuse_taken(place)
        moniker = moniker or machine_name()
        genesis = _fetched(invite, screen)
        config = founding.config(moniker=moniker, invite=invite, p2p_listen=p2p_listen, rpc_listen=rpc_listen)
        if genesis.state is not None:
            from node.cli import running

            running.fetch_state(invite.terms, genesis.state.chunks, place.home.genesis_state, screen)
        founding.furnish(
            place,
            moniker=moniker,
            genesis=genesis.raw,
            validator=KeyFile.create("validator"),
            invite=invite,
            config=config,
        )
        screen.progress(f"{place.path} is a node of {genesis.chain_id}; RPC will be at http://{config.rpc.listen}")
    if not no_start:
        run(place)


def _refuse_other_settings(place: Place, wanted: dict[str, str | None]) -> None:
    """Raises Mistake if one of the settings *wanted* differs from that of the home."""
    config = Config.load(place.home.config)
    has = {"moniker": config.moniker, "p2p.listen": config.p2p.listen, "rpc.listen": config.rpc.listen}
    others = [name for name, value in wanted.items() if value is not None and value != has[name]]
    if others:
        raise Mistake(
            f"{place.path} has joined before with another {', '.join(others)}: change it in {place.home.config}, "
            "or leave it out here"
        )


def _fetched(invite: Invite, screen: Screen) -> GenesisFile:
    """The genesis that the link names, from its peers, checked against the link's hash."""
    from node.cli import running  # loads the whole network code

    terms = invite.terms
    screen.progress(f"asking {len(terms.peers)} peer(s) of {terms.chain_id} for the genesis, for a minute at most …")
    genesis = GenesisFile.parse(running.fetch(terms))
    if genesis.hash != terms.genesis_hash or genesis.chain_id != terms.chain_id:
        raise Failed("the peers gave another genesis than the link names; ask for a fresh link", code="cli.genesis")
    application_for(genesis)
    return genesis


@click.command()
@click.option("--voucher", is_flag=True, help="Set coins aside with which the newcomer pays first fees.")
@click.option("--coins", type=click.IntRange(1), default=VOUCHER_COINS, show_default=True, help="How many.")
@click.option("--from", "from_name", metavar="NAME", help="The account that they come from.")
@click.option("--fee", type=click.IntRange(0), help="Of the transaction that sets them aside.")
@json_option
@place_options
def invite(voucher: bool, coins: int, from_name: str | None, fee: int | None, place: Place, screen: Screen) -> None:
    """Print a link with which somebody else can join; the node of this home must be running."""
    answer = place.admin("invite")
    if voucher:  # coins are set aside only where a link is sure to follow
        answer = place.admin("invite", voucher=_voucher(place, screen, coins, from_name, fee).hex())
    hours = round((answer["expires_ms"] - now_ms()) / HOUR_MS)
    screen.progress(f"valid for {hours} hours; send it to one person only:")
    screen.show(answer, [answer["link"]])


def _voucher(place: Place, screen: Screen, coins: int, from_name: str | None, fee: int | None) -> bytes:
    """The seed of a fresh key, for which *coins* are set aside on the chain."""
    seed = new_seed()
    name = from_name or place.only_account()
    period = place.client().call("consensus_params")["params"]["trusting_period_ms"]
    opening = {
        "key_address": to_text(key_address(public_key(seed))),
        "amount": coins,
        "expires_ms": now_ms() + period,
    }
    screen.progress(f"{name} sets {coins} coins aside for the voucher")
    how = Sending(name=name, sender=None, fee=fee, with_voucher=False, nonce=None, wait=True)
    send(place, screen, [{"coin.open_voucher": opening}], how)
    return seed


@click.command()
@json_option
@place_options
def status(place: Place, screen: Screen) -> None:
    """Show how far the node is, whom it is connected with, and whether it votes."""
    answer = place.client().call("status")
    screen.show(answer, _status_lines(place.url, answer))


_SILENT = {
    "locked": ", but its key is locked: the log says why (key_used_elsewhere), docs/faults.md what to do",
    "waiting": ", but its key waits for a block without it, after allting keys unlock",
}


def _status_lines(url: str, answer: dict[str, Any]) -> list[str]:
    node, sync, validator = answer["node_info"], answer["sync_info"], answer["validator_info"]
    light = answer.get("light_info")
    behind = " (catching up)" if sync["catching_up"] else ""
    age_s = max(0, now_ms() - sync["latest_block_time_ms"]) / 1000
    power = 0 if validator is None else validator["power"]
    signing = "" if validator is None else validator["signing"]
    lines = [
        f"node      {node['moniker']} on {node['network']} at {url}, version {node['version']}",
        f"height    {sync['latest_block_height']}{behind}, {age_s:.1f} s ago",
        f"app hash  {sync['latest_app_hash']}",
    ]
    if light is not None:
        return [*lines, f"primary   {light['primary']}", f"witnesses {', '.join(light['witnesses'])}"]
    lines.insert(1, f"id        {node['id']}")
    return [
        *lines,
        f"peers     {sync['peers']}",
        f"validator {'no' if not power else 'yes, power ' + str(power)}{_SILENT.get(signing, '')}",
    ]


@click.command()
@home_option
def stop(place: Place) -> None:
    """Tell the node of this home to stop."""
    place.admin("stop")
    click.echo("stopping")


@click.command("validate-genesis")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@json_option
@home_option
def validate_genesis(file: Path | None, place: Place, screen: Screen) -> None:
    """Check a genesis file (that of the home, if none is named): its keys, the town's tables, the first validators."""
    genesis = GenesisFile.load(file or place.home.genesis)
    application = application_for(genesis)
    try:
        first = first_state(genesis, application, (file or place.home.genesis).with_name("genesis.state"))
    except BadGenesis:
        raise
    except ValueError as error:
        raise BadGenesis(f"{file or place.home.genesis}: {error}") from error
    shown = {
        "chain_id": genesis.chain_id,
        "hash": genesis.hash.hex(),
        "validators": len(first.validators),
        "modules": sorted(genesis.modules),
    }
    screen.show(shown, [f"{genesis.chain_id} is well formed: {len(first.validators)} validators, {genesis.hash.hex()}"])


@click.group("node")
def node_group() -> None:
    """Facts about the node of this home."""


@node_group.command("id")
@json_option
@home_option
def node_id(place: Place, screen: Screen) -> None:
    """Print the node id: the public key by which peers know this node."""
    place.require_node()
    key = KeyFile.load(place.home.node_key, kind="node")
    screen.show({"id": key.public_key.hex()}, [key.public_key.hex()])


@node_group.command("validator")
@click.option("--new", "is_new", is_flag=True, help="Make the key first, in a home that is to be made yet.")
@json_option
@home_option
def node_validator(is_new: bool, place: Place, screen: Screen) -> None:
    """Print the public key with which this node votes, if it is made a validator."""
    if is_new:
        founding.refuse_taken(place)
        KeyFile.create("validator").write(place.home.validator_key)
    key = KeyFile.load(place.home.validator_key, kind="validator")
    shown = {"public_key": key.public_key.hex(), "address": to_text(key.address)}
    screen.show(shown, [f"{name}: {value}" for name, value in shown.items()])


@click.command()
@json_option
def version(screen: Screen) -> None:
    """Print the version."""
    found = {"version": installed_version("allting"), "python": platform.python_version()}
    screen.show(found, [f"allting {found['version']}, Python {found['python']}"])


COMMANDS = (init, start, stop, join, invite, status, validate_genesis, node_group, version)
