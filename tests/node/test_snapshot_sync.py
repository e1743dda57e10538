"""A newcomer begins with a snapshot that its link proves, whatever some peers say; or executes all blocks."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import lmdb
import pytest
import structlog
import trio
from trio.testing import MockClock

from consensus.block import ModuleRoot
from consensus.signing import public_key
from consensus.transaction import Message, Transaction
from devnet.grow import Grower
from node.engine import write_genesis
from node.signer_state import unlock_at_risk
from node.snapshot_messages import (
    Headers,
    LightBlockHere,
    ModuleRoots,
    Snapshots,
    StateEntries,
    StateNode,
    WantSnapshots,
    WantState,
)
from node.store import Store
from node.sync_messages import NoHeight, SyncMessage, SyncQuestion, WantHeight
from node.sync_server import SyncServer
from node.trust_root import TrustRoot
from tests.node.register_town import RegisterTown, signed
from tests.node.small_net import CHAIN_ID, START_MS, SmallNet, seed

HEIGHTS = 23
INTERVAL = 10
NEWCOMER = 4

Lie = Callable[[SyncQuestion, SyncMessage], Awaitable[SyncMessage]]


class Town(SmallNet):
    """Four validators, all at height 23, with registers; the fifth engine is a newcomer with a link."""

    slow_ms = 0
    """How far the newcomer's clock is behind."""

    def clock(self, number: int) -> Callable[[], int]:
        return (lambda: self.now_ms() - self.slow_ms) if number == NEWCOMER else super().clock(number)

    def trusts(self, height: int) -> None:
        """The newcomer's link vouches for the block of *height*."""
        block_id = self.engines[0].store.header(height).id if height else self.genesis.hash
        self.trust_roots[NEWCOMER] = TrustRoot(height, block_id)

    def lies(self, number: int, lie: Lie) -> None:
        """Engine *number* passes all that it says to newcomers through *lie*."""
        engine = self.engines[number]
        engine._sync.server = _Liar(engine.store, lie)

    async def joins(self, nursery: trio.Nursery, number: int = NEWCOMER) -> None:
        """The newcomer has what the others have."""
        with trio.fail_after(120):
            await self.start(nursery, number)
            await self.height(self.engines[0].store.height, number)
        assert self.registers(number) == self.registers(0)
        self.engines[number].store.check_state()

    def began_at(self, number: int = NEWCOMER) -> int:
        """The height that the newcomer began with."""
        return self.engines[number].store.kept.earliest["blocks"] - 1


class _Liar(SyncServer):
    """Lies to newcomers, and is honest to those who execute blocks."""

    def __init__(self, store: Store, lie: Lie) -> None:
        super().__init__(store)
        self._lie = lie

    async def answer(self, question: SyncQuestion) -> SyncMessage:
        honest = await super().answer(question)
        return honest if isinstance(question, WantHeight) else await self._lie(question, honest)


def _net(folder: Path) -> Town:
    return Town(folder, full_nodes=2, heartbeat_ms=4_000_000, snapshot_interval_blocks=INTERVAL)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of 23 blocks, in which the set of validators changes at height 8."""
    folder = tmp_path_factory.mktemp("grown")
    net = _net(folder)

    async def grow() -> None:
        store = Store.open(folder / "chain", map_bytes=16 * 2**20, inline=True)
        app = RegisterTown()
        write_genesis(store, net.genesis, app)
        grower = Grower(store, app, [seed("validator", number) for number in range(4)])
        for number in range(HEIGHTS):
            messages = [Message("register", "set", (10 * number + each, each)) for each in range(5)]
            if number == 7:
                messages[0] = Message("validators", "power", (public_key(seed("validator", 1)), 12))
            raws = [
                signed(CHAIN_ID, seed("account", 0), 5 * number + index, message, valid_until_ms=START_MS + 3_600_000)
                for index, message in enumerate(messages)
            ]
            await grower.block([Transaction.decode(raw) for raw in raws])
        store.close()

    trio.run(grow)
    return folder / "chain"


@pytest.fixture
async def town(grown: Path, tmp_path: Path) -> AsyncIterator[tuple[Town, trio.Nursery]]:
    """The validators run; nothing is decided unless somebody brings a transaction."""
    net = _net(tmp_path)
    for number in range(4):
        home = tmp_path / f"node{number}"
        shutil.copytree(grown, home / "data" / "chain")
        # The chain was grown with other hands: what these keys signed for it, this machine does not know.
        key = public_key(seed("validator", number))
        unlock_at_risk(home / "data" / "last_sign.json", key, CHAIN_ID, height=HEIGHTS + 1)
    async with trio.open_nursery() as nursery:
        await trio.sleep(10)  # the blocks are not of the future
        await net.start(nursery, 0, 1, 2, 3)
        yield net, nursery
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("root", [0, 3, 20, 22])
async def test_a_newcomer_begins_with_a_snapshot(
    root: int, town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    """Whether its link vouches for genesis, a block before, the snapshot's own, or one after it."""
    net, nursery = town
    net.trusts(root)
    await net.joins(nursery)
    assert net.began_at() == 20


async def test_after_a_snapshot_a_node_goes_on_like_the_others(
    town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    """Also after a restart."""
    net, nursery = town
    net.trusts(22)
    await net.joins(nursery)
    await net.sets(NEWCOMER, 999, 7, account=5)
    await net.height(HEIGHTS + 1)
    assert net.registers(0)[999] == 7
    net.engines[NEWCOMER].store.check_state()
    decided = {engine.store.header(HEIGHTS + 1).id for engine in net.engines.values()}
    assert len(decided) == 1
    await net.kill(NEWCOMER)
    await net.start(nursery, NEWCOMER)
    assert net.began_at() == 20


@pytest.mark.parametrize("is_damaged", [False, True], ids=["whole", "damaged"])
async def test_a_newcomer_that_is_stopped_on_the_way_asks_only_for_the_rest(
    is_damaged: bool, town: tuple[Town, trio.Nursery], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """And once more for what the disk changed meanwhile."""
    monkeypatch.setattr("node.snapshot_download.FLUSH_BYTES", 1)
    net, nursery = town
    net.trusts(22)
    asked: list[str] = []
    withheld = {"register"}

    async def withholds(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
        if isinstance(question, WantState):
            asked.append(question.module)
            if question.module in withheld:
                await trio.sleep_forever()
        return answer

    for number in range(4):
        net.lies(number, withholds)
    with trio.move_on_after(5):
        await net.start(nursery, NEWCOMER)
    assert set(asked) > withheld
    folder = net.folder / f"node{NEWCOMER}" / "data" / "snapshot"
    if is_damaged:
        _spoil(folder)
    wanted = set(asked) if is_damaged else set(withheld)
    asked.clear()
    withheld.clear()
    await net.joins(nursery)
    assert net.began_at() == 20
    assert (len(asked), set(asked)) == (len(wanted), wanted)
    assert not folder.exists()


def _spoil(folder: Path) -> None:
    """No kept piece is what it was."""
    with lmdb.open(str(folder), max_dbs=32, lock=False) as env:
        table = env.open_db(b"pieces")
        with env.begin(write=True) as transaction:
            rows = list(transaction.cursor(table))
            assert rows
            for key, value in rows:
                transaction.put(key, value[:-1] + bytes((value[-1] ^ 1,)), db=table)


async def test_who_began_with_a_snapshot_serves_the_next_newcomer(
    town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    net, nursery = town
    net.trusts(22)
    await net.joins(nursery)
    for number in range(4):
        net.lies(number, _silent)
    net.trust_roots[5] = TrustRoot(20, net.engines[0].store.header(20).id)
    await net.joins(nursery, 5)
    assert net.began_at(5) == 20


async def test_a_node_that_is_set_to_execute_all_blocks_does(
    town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    """Also where some peers lack them, because they began with a snapshot themselves."""
    net, nursery = town
    net.trusts(22)
    await net.joins(nursery)
    net.sync_mode = "blocks"
    net.trusts(22)
    net.trust_roots[5] = net.trust_roots[NEWCOMER]
    await net.joins(nursery, 5)
    assert net.began_at(5) == 0


async def _silent(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    await trio.sleep(80_000)
    return answer


async def _denies(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    return answer if isinstance(question, WantSnapshots) else NoHeight(1, 1)


async def _claims_the_future(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    return Snapshots((2**62, 2**61)) if isinstance(question, WantSnapshots) else answer


async def _stalls_with_the_state(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    if isinstance(question, WantState):
        await trio.sleep_forever()
    return answer


async def _forges_entries(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    if isinstance(answer, StateEntries):
        return StateEntries(tuple((key, value + b"!") for key, value in answer.entries))
    return answer


async def _invents_nodes(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    return StateNode((None,) * 16) if isinstance(question, WantState) else answer


async def _forges_roots(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    if isinstance(answer, ModuleRoots):
        return ModuleRoots(answer.height, (*answer.roots[:-1], ModuleRoot(answer.roots[-1].module, bytes(32))))
    return answer


async def _forges_headers(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    if isinstance(answer, LightBlockHere):
        return dataclasses.replace(answer, header=dataclasses.replace(answer.header, app_hash=bytes(32)))
    if isinstance(answer, Headers):
        return Headers(tuple(dataclasses.replace(header, app_hash=bytes(32)) for header in answer.headers))
    return answer


async def _forges_sets(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    if isinstance(answer, LightBlockHere):
        return dataclasses.replace(answer, validators=answer.validators.advanced().updated(()), next_validators=None)
    return answer


async def _answers_something_else(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    return Snapshots(()) if not isinstance(question, WantSnapshots) else answer


async def _has_none(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
    return Snapshots(()) if isinstance(question, WantSnapshots) else answer


LIES = (
    _silent,
    _denies,
    _claims_the_future,
    _stalls_with_the_state,
    _forges_entries,
    _invents_nodes,
    _forges_roots,
    _forges_headers,
    _forges_sets,
    _answers_something_else,
)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__.strip("_"))
async def test_a_newcomer_gets_its_snapshot_though_peers_lie(
    lie: Lie, town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    """Three of four do; they are passed over, and those who forge are named."""
    net, nursery = town
    net.trusts(22)
    for number in range(3):
        net.lies(number, lie)
    with structlog.testing.capture_logs() as lines:
        await net.joins(nursery)
    assert net.began_at() == 20
    if lie in (
        _forges_entries,
        _invents_nodes,
        _answers_something_else,
    ):  # of the rest, an honest one may be asked first
        assert any(line["event"] == "snapshot_answer_refused" for line in lines)


@pytest.mark.parametrize("lie", [_silent, _stalls_with_the_state, _forges_entries])
async def test_if_all_peers_lie_about_snapshots_all_blocks_are_executed(
    lie: Lie, town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    net, nursery = town
    net.trusts(22)
    for number in range(4):
        net.lies(number, lie)
    await net.joins(nursery)
    assert net.began_at() == 0


async def test_where_nobody_has_a_snapshot_all_blocks_are_executed_soon(
    town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    net, nursery = town
    net.trusts(22)
    for number in range(4):
        net.lies(number, _has_none)
    began_s = trio.current_time()
    await net.joins(nursery)
    assert net.began_at() == 0
    assert trio.current_time() - began_s < 10


async def test_who_gives_headers_one_by_one_is_asked_once(
    town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    """Else a newcomer could be led down from its link's block to a snapshot for hours, a header in four seconds."""
    asked: list[SyncQuestion] = []

    async def dribble(question: SyncQuestion, answer: SyncMessage) -> SyncMessage:
        if isinstance(question, WantSnapshots):
            return Snapshots((10,))
        if isinstance(answer, Headers):
            asked.append(question)
            await trio.sleep(4)
            return Headers(answer.headers[:1])
        return answer

    net, nursery = town
    net.trusts(22)
    for number in range(4):
        net.lies(number, dribble)
    await net.joins(nursery)
    assert net.began_at() == 0
    assert len(asked) == 4


async def test_a_link_that_vouches_for_another_chain_gives_no_snapshot(
    town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    """Then executing the blocks finds it out, and says so."""
    net, _ = town
    net.trust_roots[NEWCOMER] = TrustRoot(22, bytes(32))
    with pytest.raises(ExceptionGroup) as stopped:  # noqa: PT012
        async with trio.open_nursery() as nursery:
            await net.start(nursery, NEWCOMER)
            await trio.sleep(60)
    assert "another chain" in str(_first(stopped.value))


async def test_trust_that_has_expired_gives_no_snapshot(
    town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    net, nursery = town
    net.trusts(3)
    await net.kill(0, 1, 2, 3)
    await trio.sleep(2 * 86_400)
    await net.start(nursery, 0, 1, 2, 3)
    with structlog.testing.capture_logs() as lines:
        await net.joins(nursery)
    assert net.began_at() == 0
    assert any("trust in height 3 ended" in line.get("why", "") for line in lines)


async def test_a_newcomer_whose_clock_is_slow_takes_nobody_for_a_liar(
    town: tuple[Town, trio.Nursery], autojump_clock: MockClock
) -> None:
    """Its peers' blocks seem to come from the future, so it executes all of them."""
    net, nursery = town
    net.trusts(3)
    net.slow_ms = 3_600_000
    with structlog.testing.capture_logs() as lines:
        await net.joins(nursery)
    assert net.began_at() == 0
    told = [line["event"] for line in lines]
    assert told.count("snapshot_peer_passed_over") == 4
    assert not {"snapshot_answer_refused", "peer_banned"} & set(told)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
