"""Survivors write the same genesis for the same height; a new chain begins with it, whole, and with nothing else."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.application import Founder
from consensus.codec import encode
from consensus.signing import public_key, sha256
from consensus.validators import Update
from node import genesis_state
from node.applications import application_for
from node.engine import write_genesis
from node.export import CannotExport, Exported, export, next_chain_id
from node.genesis import BadGenesis, FormerState, GenesisFile
from node.genesis_state import ENGINE, chunk_of, first_validators, read_state
from node.home import Home
from node.joining import NobodyAnswered, fetch_state
from node.state import StateGone
from node.stopped import NodeStopped
from node.store import Store
from tests.node.served import CHAIN_ID, VALIDATOR, Served, served, text

HEIGHT = 6
NEW_CHAIN = "served-2"
NEW_KEY = public_key(sha256(b"a new machine"))
FOUNDERS = (
    Founder(public_key=NEW_KEY, power=3, name="new"),
    Founder(public_key=public_key(VALIDATOR), power=10, name=""),
)


@asynccontextmanager
async def _town(folder: Path) -> AsyncIterator[Served]:
    """A town that has lived for a while; its home has all that homes have."""
    async with served(folder) as town:
        Home(folder).genesis.write_bytes(town.services.genesis.raw)
        town.services.config.write(Home(folder).config)
        await town.call("broadcast_tx_commit", tx=text(town.payment(5)))
        proposal = {"governance.propose": {"title": "A lamp", "body_hash": "00" * 32, "messages": []}}
        await town.call("broadcast_tx_commit", tx=text(town.signed(proposal, nonce=1)))
        await town.height(HEIGHT + 2)
        yield town


def _exported(town: Served, folder: Path, *, height: int = HEIGHT, **changes: object) -> Exported:
    founders = changes.pop("founders", FOUNDERS)
    wanted: dict[str, object] = {"chain_id": NEW_CHAIN, **changes}
    return export(
        town.services.store,
        town.services.genesis,
        town.app,
        founders,  # type: ignore[arg-type]  # founders, or the default
        folder,
        height=height,
        **wanted,  # type: ignore[arg-type]  # as export takes them
    )


async def test_the_same_height_gives_the_same_bytes(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """At another time, on another machine, with the validators named in another order."""
    async with _town(tmp_path / "town") as town:
        one = _exported(town, tmp_path / "one")
        await town.height(HEIGHT + 10)
        other = _exported(town, tmp_path / "other", founders=FOUNDERS[::-1])
        later = _exported(town, tmp_path / "later", height=HEIGHT + 1)
    assert one.genesis_hash == other.genesis_hash != later.genesis_hash
    for name in ("genesis.toml", "genesis.state"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


async def test_a_new_chain_begins_with_every_entry_but_the_set(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with _town(tmp_path / "town") as town:
        done = _exported(town, tmp_path / "new")
        genesis = GenesisFile.load(tmp_path / "new" / "genesis.toml")
        store = Store.open(tmp_path / "new" / "chain", inline=True)
        app = application_for(genesis)
        write_genesis(store, genesis, app, tmp_path / "new" / "genesis.state")
        former, state = town.services.store.state(HEIGHT), store.state()
        roots = {root.module: root.root for root in town.services.store.module_roots(HEIGHT)}
        differ = {root.module for root in store.module_roots(0) if root.root != roots[root.module]}
        assert differ == {ENGINE, "validators"}
        assert list(former.scan("governance", b"", None)) == list(state.scan("governance", b"", None)) != []
        chain = store.chain_state()
        assert chain is not None
        assert (chain.chain_id, chain.height, chain.genesis_hash) == (NEW_CHAIN, 0, done.genesis_hash)
        assert chain.time_ms == town.services.store.header(HEIGHT).time_ms
        assert chain.params == town.services.store.params_at(HEIGHT + 1)
        assert {each.public_key: each.power for each in chain.validators.validators} == {
            NEW_KEY: 3,
            public_key(VALIDATOR): 10,
        }
        assert set(first_validators(genesis, app)) == {Update(NEW_KEY, 3), Update(public_key(VALIDATOR), 10)}
        assert app.next_due_ms(state) == town.app.next_due_ms(former) is not None, "what is due stays due"
        store.close()
        assert set(first_validators(town.services.genesis, app)) == {Update(public_key(VALIDATOR), 10)}


async def test_what_can_not_be_exported_is_said(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with _town(tmp_path / "town") as town:
        with pytest.raises(CannotExport, match="is not decided here"):
            _exported(town, tmp_path / "x", height=10_000)
        with pytest.raises(CannotExport, match="an id of its own"):
            _exported(town, tmp_path / "x", chain_id=CHAIN_ID)
        with pytest.raises(CannotExport, match="can't begin before block 6"):
            _exported(town, tmp_path / "x", time_ms=5)
        with pytest.raises(ValueError, match="members_present"):
            _exported(town, tmp_path / "x", founders=(FOUNDERS[0], FOUNDERS[0]))
        with pytest.raises(BadGenesis, match="1…256 of them"):
            _exported(town, tmp_path / "x", founders=())
        await town.services.store.prune(HEIGHT + 1)
        with pytest.raises(StateGone):
            _exported(town, tmp_path / "x")
    assert not (tmp_path / "x" / "genesis.toml").exists(), "what would begin no chain is not written"
    assert [next_chain_id(name) for name in ("ting-9", "town", "a-b-1")] == ["ting-10", "town-2", "a-b-2"]
    with pytest.raises(CannotExport, match="too long"):
        next_chain_id("x" * 50)


async def test_a_state_file_that_is_not_the_genesis_own_is_refused(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _town(tmp_path / "town") as town:
        monkeypatch.setattr(genesis_state, "CHUNK_BYTES", 300)
        _exported(town, tmp_path / "new")
    genesis = GenesisFile.load(tmp_path / "new" / "genesis.toml")
    assert genesis.state is not None
    assert len(genesis.state.chunks) >= 5
    file = tmp_path / "new" / "genesis.state"
    whole = file.read_bytes()
    assert [sha256(chunk_of(file, number) or b"") for number in range(len(genesis.state.chunks))] == list(
        genesis.state.chunks
    )
    assert chunk_of(file, len(genesis.state.chunks)) is None
    assert chunk_of(tmp_path / "none", 0) is None
    for data, what in (
        (whole[:-1], f"chunk {len(genesis.state.chunks) - 1} is not the one"),
        (b"\x00\x00\x00\x02\x91\x01" + whole[6:], "chunk 0 is not the one"),
        (b"\xff\xff\xff\xff", "chunk 0 is not the one"),
        (whole + b"\x00", "more follows"),
    ):
        file.write_bytes(data)
        with pytest.raises(BadGenesis, match=what):
            read_state(file, genesis.state)
        store = Store.open(tmp_path / "chain", inline=True)
        with pytest.raises(NodeStopped, match="can't begin a chain"):
            write_genesis(store, genesis, application_for(genesis), file)
        assert store.height == -1
        store.close()
    file.unlink()
    with pytest.raises(BadGenesis, match="is missing"):
        read_state(file, genesis.state)


@pytest.mark.parametrize(
    ("chunk", "what"),
    [
        (encode(("coin", b"a", b"1", b"a", b"2")), "out of order"),
        (encode((ENGINE, b"a", b"1")), "a module of the application"),
        (encode((5, b"a", b"1")), "a module of the application"),
        (encode(("coin",)), "a module and its entries"),
        (encode(("coin", b"a")), "a module and its entries"),
        (encode("coin"), "a module and its entries"),
        (encode(("coin", "a", b"1")), "keys and values are bytes"),
        (b"\xc1", "not MessagePack"),
    ],
)
def test_a_chunk_that_no_honest_export_has_is_refused(tmp_path: Path, chunk: bytes, what: str) -> None:
    (tmp_path / "genesis.state").write_bytes(len(chunk).to_bytes(4, "big") + chunk)
    former = FormerState(chain_id="a", height=1, app_hash=bytes(32), chunks=(sha256(chunk),))
    with pytest.raises(BadGenesis, match=what):
        read_state(tmp_path / "genesis.state", former)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda text: text.replace('name = "new"', "name = 5"), "validators.*name: must be a text"),
        (lambda text: text.replace("power = 3", "power = 0"), "power: must be a whole number"),
        (lambda text: text.replace("power = 3\n", ""), "has public_key, power"),
        (lambda text: text.replace("height = 6", "height = 0"), "state.height: must be a whole number from 1"),
        (lambda text: text.replace("height = 6\n", ""), "state.height: is missing"),
        (lambda text: text.replace("height = 6", "depth = 6"), "state.depth: unknown key"),
        (lambda text: text.replace('app_hash = "', 'app_hash = "x'), "64 lower-case hex digits"),
        (lambda text: text.replace('chunks = ["', 'chunks = ["x'), "64 lower-case hex digits"),
        (lambda text: text.replace("chunks = [", "chunks = 5 #"), "a list of 1…1024 hashes"),
        (lambda text: text.replace('chain_id = "served-1"', "chain_id = 5"), "the former chain's id"),
        (lambda text: text + "[town]\n", "town: does not go with a state"),
        (lambda text: text.replace("[[validators]]", "[[founders]]"), "founders: unknown key"),
        (lambda text: text[: text.index("[[validators]]")], "1…256 of them are needed"),
        (
            lambda text: text[: text.index("[state]")] + text[text.index("[[validators]]") :],
            "validators: goes only with a state",
        ),
    ],
)
def test_a_malformed_genesis_names_its_key(change: Callable[[str], str], what: str) -> None:
    with pytest.raises(BadGenesis, match=what):
        GenesisFile.parse(change(EXAMPLE).encode())
    assert GenesisFile.parse(EXAMPLE.encode()).founders == FOUNDERS[:1]


EXAMPLE = f"""chain_id = "served-2"
time_ms = 1
application = "town"
application_version = 1

[modules]
coin = 1

[params]
preset = "TINY"

[state]
chain_id = "served-1"
height = 6
app_hash = "{"ab" * 32}"
chunks = ["{"cd" * 32}"]

[[validators]]
public_key = "{NEW_KEY.hex()}"
power = 3
name = "new"
"""


async def test_a_newcomer_gets_the_state_from_a_peer(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with _town(tmp_path / "old") as town:
        _exported(town, tmp_path / "new")
        genesis = GenesisFile.load(tmp_path / "new" / "genesis.toml")
        assert genesis.state is not None
        shutil.copy(tmp_path / "new" / "genesis.state", Home(town.home).genesis_state)
        address = f"{town.services.network.node_id.hex()}@node:1000"
        chunks: list[bytes] = []
        ask = {
            "chain_id": CHAIN_ID,
            "genesis_hash": town.services.genesis.hash,
            "peers": [address],
            "transport": town.links.transport("newcomer"),
        }
        await fetch_state(genesis.state.chunks, chunks.append, **ask)  # type: ignore[arg-type]  # as it takes them
        assert [sha256(chunk) for chunk in chunks] == list(genesis.state.chunks)
        Home(town.home).genesis_state.unlink()
        with pytest.raises(NobodyAnswered, match="gave the state of the genesis"):
            await fetch_state(genesis.state.chunks, chunks.append, **ask, timeout_s=5)  # type: ignore[arg-type]
