"""Before the engine of a newcomer starts: it begins with a snapshot, if its link and its peers allow that."""

from __future__ import annotations

from contextlib import closing

import structlog
import trio

from consensus.application import Application
from node.engine import Belongings, Surroundings, write_genesis
from node.snapshot_kept import KeptPieces, discard_pieces
from node.snapshot_peers import Sources
from node.snapshot_sync import NoSnapshot, SnapshotSync
from node.sync_messages import CHANNEL
from p2p.address import PeerAddress
from p2p.address_book import AddressBook
from p2p.handshake import Hello
from p2p.limits import Limits
from p2p.named import NamedPeers
from p2p.network import Network

log = structlog.get_logger("snapshot")


async def begin_with_snapshot(own: Belongings, app: Application, around: Surroundings) -> None:
    """The store of a newcomer stands at a verified snapshot, or at genesis where none can be had.

    Nothing happens on a node that has blocks, that no invite link vouches for, or that is set to execute all blocks.
    The node key used for asking is thrown away.
    """
    genesis = own.store.chain_state()
    if own.trust_root is None or genesis is None or genesis.height > 0 or own.config.sync.mode == "blocks":
        discard_pieces(own.home.snapshot)
        return
    sources = Sources(around.dice)
    try:
        with closing(KeptPieces.open(own.home.snapshot, around.disk)) as kept:
            sync = SnapshotSync(
                store=own.store,
                genesis=genesis,
                trust_root=own.trust_root,
                sources=sources,
                kept=kept,
                now_ms=around.now_ms,
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(_network(own, around, sources).run)
                await sync.run()
                nursery.cancel_scope.cancel()
    except* NoSnapshot as group:
        log.info("snapshot_not_used", why=str(group.exceptions[0]))
    discard_pieces(own.home.snapshot)
    if own.store.height < 0:
        await own.store.abandon_import()
        write_genesis(own.store, own.genesis, app, own.home.genesis_state)


def _network(own: Belongings, around: Surroundings, sources: Sources) -> Network:
    p2p = own.config.p2p
    book = AddressBook(dice=around.dice)
    for seed in p2p.seeds:
        book.add(PeerAddress.parse(seed), source="seed")
    return Network(
        seed=around.dice.randbytes(32),
        hello=Hello(
            chain_id=own.genesis.chain_id, genesis_hash=own.genesis.hash, moniker="newcomer", listen_address=None
        ),
        channels=(CHANNEL,),
        services={"sync": sources.serve},
        transport=around.transport,
        book=book,
        limits=Limits(outbound_max=p2p.outbound_peers_max if p2p.exchange else 0),
        named=NamedPeers(persistent=map(PeerAddress.parse, p2p.persistent_peers)),
        clock=around.now_ms,
        dice=around.dice,
        make_peer=around.make_peer,
    )
