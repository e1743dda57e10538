"""Several engines in one process: memory transport, mock clock, stores inline. Kill, start, cut, mend at will."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import trio

from consensus.params import TINY
from consensus.signing import public_key, sha256
from consensus.transaction import Message
from node.config import Config, P2pConfig, SyncConfig, VerifyConfig
from node.disk import DISK, Disk
from node.engine import Belongings, Engine, Surroundings, write_genesis
from node.evidence_pool import EvidencePool
from node.genesis import GenesisFile, genesis_toml
from node.home import Home
from node.signer import Signer
from node.snapshot_start import begin_with_snapshot
from node.store import Store
from node.trust_root import TrustRoot
from node.wal import Wal
from p2p.memory import MemoryNetwork
from tests.node.register_town import RegisterTown, registers, signed

CHAIN_ID = "small-net-1"
START_MS = 1_790_000_000_000
PORT = 1000


def seed(kind: str, number: int) -> bytes:
    """A key for the tests."""
    return sha256(f"{kind}/{number}".encode())


class SmallNet:
    """*validators* engines with equal power, and perhaps full nodes after them; none runs before `start`."""

    def __init__(
        self,
        folder: Path,
        *,
        validators: int = 4,
        full_nodes: int = 0,
        heartbeat_ms: int = 3_000,
        powers: tuple[int, ...] = (),
        snapshot_interval_blocks: int = TINY.snapshot_interval_blocks,
    ) -> None:
        self.folder = folder
        self.size = validators + full_nodes
        self.validators = validators
        self.links = MemoryNetwork()
        self.engines: dict[int, Engine] = {}
        self._scopes: dict[int, trio.CancelScope] = {}
        self._stopped: dict[int, trio.Event] = {}
        self._nonces: dict[int, int] = {}
        self.trust_roots: dict[int, TrustRoot] = {}
        """Of engines that join by an invite link."""
        self.sync_mode = "auto"
        raw = genesis_toml(
            chain_id=CHAIN_ID,
            time_ms=START_MS,
            application="register",
            modules={"register": 1},
            preset="TINY",
            params={
                name: value
                for name, value in (
                    ("heartbeat_ms", heartbeat_ms),
                    ("snapshot_interval_blocks", snapshot_interval_blocks),
                )
                if value != getattr(TINY, name)
            },
            town={
                "members": [
                    {"public_key": public_key(seed("validator", number)).hex(), "power": power}
                    for number, power in enumerate(powers or (10,) * validators)
                    if power
                ]
            },
        )
        self.genesis = GenesisFile.parse(raw)

    def now_ms(self) -> int:
        """The clock of all nodes: follows trio's."""
        return START_MS + round(trio.current_time() * 1000)

    def clock(self, number: int) -> Callable[[], int]:
        """The clock by which engine *number* lives."""
        return self.now_ms

    def disk(self, number: int) -> Disk:
        """The disk on which engine *number* lives from its next start on."""
        return DISK

    def application(self, number: int) -> RegisterTown:
        """What engine *number* hosts from its next start on."""
        return RegisterTown()

    async def start(self, nursery: trio.Nursery, *numbers: int) -> None:
        """The engines *numbers* run (all, if none is named) over whatever their folders hold."""
        for number in numbers or range(self.size):
            self._stopped[number] = trio.Event()
            self._scopes[number] = trio.CancelScope()
            await nursery.start(self._run, number)

    async def kill(self, *numbers: int) -> None:
        """The engines *numbers* are gone, as by kill -9: nothing is said or written on the way out."""
        for number in numbers:
            self._scopes[number].cancel()
        for number in numbers:
            await self._stopped[number].wait()
            del self.engines[number]

    def split(self, *sides: tuple[int, ...]) -> None:
        """Engines of different *sides* can't reach each other."""
        for one, other in self._across(sides):
            self.links.sever(_host(one), _host(other))

    def heal(self, *sides: tuple[int, ...]) -> None:
        """Engines of different *sides* can reach each other again."""
        for one, other in self._across(sides):
            self.links.mend(_host(one), _host(other))

    async def height(self, height: int, *numbers: int, within_s: float = 60.0) -> None:
        """The engines *numbers* (all) have decided *height*; fails after *within_s* virtual seconds."""
        with trio.fail_after(within_s):
            for number in numbers or sorted(self.engines):
                await self.engines[number].heights.wait_beyond(height - 1)

    async def sets(self, number: int, key: int, value: int, *, account: int = 0) -> bytes:
        """Engine *number* has taken a transaction that sets a register; returns its id."""
        return await self.submits(number, Message("register", "set", (key, value)), account=account)

    async def powers(self, number: int, validator: int, power: int) -> bytes:
        """Engine *number* has taken a transaction that gives a validator power; returns its id."""
        key = public_key(seed("validator", validator))
        return await self.submits(number, Message("validators", "power", (key, power)))

    async def submits(self, number: int, message: Message, *, account: int = 0) -> bytes:
        """Engine *number* has taken a transaction with *message*; returns its id."""
        nonce = self._nonces.get(account, 0)
        valid_until_ms = self.now_ms() + 3_600_000
        raw = signed(CHAIN_ID, seed("account", account), nonce, message, valid_until_ms=valid_until_ms)
        outcomes = await self.engines[number].mempool.submit([raw], source=None)
        assert outcomes[0].code == "", outcomes
        self._nonces[account] = nonce + 1
        assert outcomes[0].id is not None
        return outcomes[0].id

    def registers(self, number: int) -> dict[int, int]:
        """The registers as engine *number* has stored them."""
        return dict(registers(self.engines[number].store.state()))

    def assert_one_history(self) -> None:
        """No two engines have decided different blocks at any height."""
        lowest = min((engine.store.height for engine in self.engines.values()), default=0)
        for height in range(1, lowest + 1):
            ids = {engine.store.header(height).id for engine in self.engines.values()}
            assert len(ids) == 1, f"fork at height {height}"

    async def _run(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        home, disk = Home(self.folder / f"node{number}"), self.disk(number)
        home.data.mkdir(parents=True, exist_ok=True)
        app = self.application(number)

        with ExitStack() as opened:
            opened.callback(self._stopped[number].set)
            store = opened.enter_context(closing(Store.open(home.chain, map_bytes=16 * 2**20, inline=True, disk=disk)))
            signer = self._signer(number, home, disk, fresh=store.height < 0)
            write_genesis(store, self.genesis, app)
            wal = Wal.open(home.wal, disk=disk)
            own = Belongings(
                home=home,
                config=self._config(number),
                genesis=self.genesis,
                node_seed=seed("node", number),
                store=store,
                evidence=opened.enter_context(closing(EvidencePool.open(home.evidence, disk=disk))),
                wal=wal,
                signer=signer,
                trust_root=self.trust_roots.get(number),
            )
            dice = random.Random(number)
            around = Surroundings(self.links.transport(_host(number)), self.clock(number), dice, disk)
            with self._scopes[number]:
                await begin_with_snapshot(own, app, around)
                engine = Engine(own, app, around)
                self.engines[number] = engine
                await engine.run(task_status=task_status)

    def _signer(self, number: int, home: Home, disk: Disk, *, fresh: bool) -> Signer | None:
        if number >= self.validators:
            return None
        key = seed("validator", number)
        if fresh and not disk.exists(home.last_sign):
            return Signer.create(key, home.last_sign, CHAIN_ID, disk=disk)
        return Signer.open(key, home.last_sign, CHAIN_ID, disk=disk)

    def _config(self, number: int) -> Config:
        peers = tuple(
            f"{public_key(seed('node', other)).hex()}@{_host(other)}:{PORT}"
            for other in range(self.size)
            if other != number
        )
        p2p = P2pConfig(listen=f"{_host(number)}:{PORT}", persistent_peers=peers, exchange=False)
        return dataclasses.replace(
            Config.defaults(), p2p=p2p, verify=VerifyConfig(processes=0), sync=SyncConfig(mode=self.sync_mode)
        )

    @staticmethod
    def _across(sides: tuple[tuple[int, ...], ...]) -> Iterator[tuple[int, int]]:
        for index, side in enumerate(sides):
            for other_side in sides[index + 1 :]:
                for one in side:
                    for other in other_side:
                        yield one, other


def _host(number: int) -> str:
    return f"node{number}"


NetFactory = Callable[..., SmallNet]
