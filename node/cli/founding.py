"""What a new home is furnished with: settings, keys, genesis; and a chain of one validator to begin with."""

from __future__ import annotations

import socket
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from consensus.address import to_text
from node.applications import MODULE_GROUP
from node.cli.place import VOUCHER, Place
from node.cli.screen import Mistake
from node.config import Config, split_host_port
from node.disk import DISK
from node.files import PUBLIC_MODE, write_atomically
from node.genesis import GenesisFile, genesis_toml
from node.genesis_state import read_state
from node.home import Home
from node.invite import Invite
from node.keys import KeyFile
from node.trust_root import TrustRoot
from p2p.address import BadAddress, PeerAddress

POWER = 10
TREASURY_COINS = 1_000_000
COPY_BYTES = 2**20


def refuse_taken(place: Place) -> None:
    """Raises Mistake if a node lives in the home, or something else does."""
    if place.home.config.exists():
        raise Mistake(f"{place.path} is a node already; start it, or go to an empty folder, or give another --home")
    foreign = [each.name for each in place.path.iterdir()] if place.path.is_dir() else []
    if set(foreign) - {"keys"}:
        raise Mistake(f"{place.path} is not empty ({sorted(foreign)[0]}); give an empty or new folder with --home")


def furnish(
    place: Place,
    *,
    moniker: str,
    genesis: bytes,
    validator: KeyFile,
    invite: Invite | None = None,
    config: Config | None = None,
) -> None:
    """The home holds all that a start needs. The settings come last: they say that the home is complete."""
    home = place.home
    KeyFile.create("node").write(home.node_key)
    validator.write(home.validator_key)
    write_atomically(home.genesis, genesis)
    if invite is not None:
        TrustRoot(invite.height, invite.block_id).write(home.trust_root)
        if invite.terms.voucher is not None:
            KeyFile.create("account", seed=invite.terms.voucher).write(place.accounts / f"{VOUCHER}.json")
    (config or default_config(moniker)).write(home.config)


def furnish_from_file(
    place: Place,
    genesis: GenesisFile,
    state: Path | None,
    *,
    moniker: str,
    peers: tuple[str, ...],
    old: Path | None,
) -> None:
    """The home holds all that a start with *genesis*, and the *state* that it goes on from, needs.

    Keys that are in the home already stay. From the home *old* come keys and settings; the last-sign state does not:
    it belongs to the old chain, whose id is in all that was signed. Raises BadGenesis, BadConfig, Mistake.
    """
    home = place.home
    for peer in peers:
        try:
            PeerAddress.parse(peer)
        except BadAddress as error:
            raise Mistake(f"--peer: {error}") from None
    if state is not None:
        assert genesis.state is not None, "the genesis names the state"
        read_state(state, genesis.state)
    if old is not None:
        _take_keys(Home(old), home)
    settings = default_config(moniker) if old is None else Config.load(Home(old).config)
    wanted = settings.p2p.persistent_peers + tuple(peer for peer in peers if peer not in settings.p2p.persistent_peers)
    settings = Config.parse(replace(settings, p2p=replace(settings.p2p, persistent_peers=wanted)).render())
    for key, kind in ((home.node_key, "node"), (home.validator_key, "validator")):
        if not key.exists():
            KeyFile.create(kind).write(key)
    if state is not None:
        _copy(state, home.genesis_state)
    write_atomically(home.genesis, genesis.raw)
    settings.write(home.config)


def _take_keys(old: Home, home: Home) -> None:
    """The keys of node, validator and accounts of *old* are in *home* too."""
    if not old.config.exists():
        raise Mistake(f"there is no node in {old.path}, from which keys and settings could come")
    folder = old.node_key.parent
    for path in sorted(folder.rglob("*.json")):
        target = home.node_key.parent / path.relative_to(folder)
        if not target.exists():
            KeyFile.load(path).write(target)


def _copy(source: Path, target: Path) -> None:
    """*target* holds what *source* does, durably."""
    beside = target.with_name(target.name + ".new")
    with source.open("rb") as read, DISK.create(beside, mode=PUBLIC_MODE) as file:
        at = 0
        while data := read.read(COPY_BYTES):
            file.write(data, at)
            at += len(data)
        file.sync()
    DISK.replace(beside, target)
    DISK.sync_folder(target.parent)


def default_config(moniker: str) -> Config:
    """The settings of a node that starts a chain; ports that are taken are replaced."""
    defaults = Config.defaults()
    return replace(
        defaults,
        moniker=moniker,
        p2p=replace(defaults.p2p, listen=_free(defaults.p2p.listen)),
        rpc=replace(defaults.rpc, listen=_free(defaults.rpc.listen)),
    )


def config(*, moniker: str, invite: Invite, p2p_listen: str | None, rpc_listen: str | None) -> Config:
    """The settings of a node that joins by *invite*. Raises Mistake for an address that is none."""
    own = default_config(moniker)
    for option, value in (("--p2p-listen", p2p_listen), ("--rpc-listen", rpc_listen)):
        _check_address(option, value)
    return replace(
        own,
        p2p=replace(own.p2p, listen=p2p_listen or own.p2p.listen, persistent_peers=invite.terms.peers),
        rpc=replace(own.rpc, listen=rpc_listen or own.rpc.listen),
    )


def first_genesis(
    *, chain_id: str, time_ms: int, preset: str, account: bytes, coins: int, validator: bytes, moniker: str
) -> bytes:
    """The genesis of a chain of one validator, whose operator is its first person and registrar. Raises BadGenesis."""
    person = to_text(account)
    modules = {point.name: int(point.load().version) for point in entry_points(group=MODULE_GROUP)}
    return genesis_toml(
        chain_id=chain_id,
        time_ms=time_ms,
        modules=dict(sorted(modules.items())),
        preset=preset,
        town={
            "coin": {"treasury": TREASURY_COINS, "accounts": [{"address": person, "amount": coins}]},
            "identity": {"persons": [{"address": person, "roles": ["registrar"]}]},
            "validators": {
                "members": [{"public_key": validator.hex(), "power": POWER, "operator": person, "name": moniker[:40]}]
            },
        },
    )


def _check_address(option: str, value: str | None) -> None:
    try:
        if value is not None:
            split_host_port(value)
    except ValueError as error:
        raise Mistake(f"{option}: {error}") from None


def _free(listen: str) -> str:
    """*listen* if nothing listens there, else the same host with a free port."""
    host, port = split_host_port(listen)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"
