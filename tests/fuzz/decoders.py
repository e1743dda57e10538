"""The decoders that bytes of a stranger reach: through the p2p port, RPC, a link, or a file that somebody sent."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import strategies as st

from consensus import address, evidence
from consensus.block import Block, Commit, Header, LightBlock
from consensus.codec import BadMessage, decode, encode
from consensus.evidence import DuplicateVote
from consensus.light_attack import LightClientAttack, proof_from_bytes
from consensus.shape import from_bytes, to_bytes
from consensus.transaction import Body, Transaction
from consensus.vote import Proposal, Vote
from node import consensus_messages, evidence_gossip, sync_messages, transaction_gossip
from node.evidence_gossip import Charges, EvidenceMessage
from node.genesis import BadGenesis, GenesisFile
from node.invite import PREFIX, BadInvite, Invite
from node.rpc.errors import RpcError
from node.rpc.protocol import parse
from p2p import handshake
from p2p.address import BadAddress, Endpoint, PeerAddress
from p2p.control import decode_control, encode_control
from p2p.frames import read_sections
from p2p.handshake import Greeting, Hello, Identity
from p2p.noise import XXHandshake
from tests.fuzz.decoder import Decoder, Read
from tests.fuzz.file_decoders import FILE_DECODERS
from tests.fuzz.grammar import WIRE, values_of
from tests.fuzz.json_decoders import JSON_DECODERS

SEED = bytes(range(32))


def _record(kind: Any) -> Decoder:
    samples = values_of(kind).map(to_bytes)
    return Decoder(kind.__name__, partial(from_bytes, kind), (BadMessage,), samples, to_bytes)


def _channel(name: str, module: Any) -> Decoder:
    kinds = st.sampled_from(module._TABLE._kinds).flatmap(values_of)
    return Decoder(name, module.from_wire, (BadMessage,), kinds.map(module.to_wire), module.to_wire)


def _charges(data: bytes) -> EvidenceMessage:
    """A message on channel `evidence`, every piece of it read."""
    message = evidence_gossip.from_wire(data)
    if isinstance(message, Charges):
        read = tuple([evidence.to_wire(evidence.from_wire(piece)) for piece in message.pieces])
        return Charges(read)
    return message


def _evidence_messages() -> st.SearchStrategy[bytes]:
    pieces = st.lists(values_of(DuplicateVote).map(evidence.to_wire), min_size=1, max_size=2).map(tuple)
    return (pieces.map(Charges) | values_of(evidence_gossip.Settled)).map(evidence_gossip.to_wire)


def _transactions() -> st.SearchStrategy[bytes]:
    """Transactions with as many signatures as signers, in order; whether they hold is not the decoder's business."""

    def with_signatures(body: Body) -> bytes:
        fields = decode(to_bytes(body), bytes_max=2**20)
        assert isinstance(fields, tuple)
        return encode((*fields[:-1], tuple(sorted(set(body.signers))), (bytes(64),) * len(set(body.signers))))

    return values_of(Body).map(with_signatures)


def _first_of_noise(data: bytes) -> None:
    XXHandshake(initiator=False, static=SEED, ephemeral=SEED).read(data)


def _third_of_noise(data: bytes) -> None:
    """The message in which the other side proves who it is."""
    ours = XXHandshake(initiator=False, static=SEED, ephemeral=SEED)
    theirs = XXHandshake(initiator=True, static=SEED[::-1], ephemeral=SEED[::-1])
    ours.read(theirs.write())
    theirs.read(ours.write())
    ours.read(data)


IDENTITY = Identity(seed=SEED, hello=Hello(chain_id="a", genesis_hash=bytes(32), moniker="b"), channels=())


def _greetings() -> st.SearchStrategy[bytes]:
    return values_of(Greeting).map(lambda greeting: encode((1, to_bytes(greeting))))


def _control() -> st.SearchStrategy[bytes]:
    tags = st.integers(0, 8)
    return st.tuples(tags, st.lists(WIRE, max_size=3)).map(lambda parts: encode((parts[0], *parts[1])))


def _text(read: Callable[[str], Any]) -> Read:
    return lambda data: read(data.decode("utf-8", "replace"))


LINKS = values_of(Invite).map(lambda invite: PREFIX.encode() + base64.urlsafe_b64encode(to_bytes(invite)).rstrip(b"="))
CALLS = st.sampled_from(
    [
        b'{"jsonrpc":"2.0","id":1,"method":"status","params":{}}',
        b'[{"jsonrpc":"2.0","id":"a","method":"tx","params":["00"]},{}]',
        b'{"jsonrpc":"2.0","method":"query","params":{"path":"coin/balance","args":{"account":"\\u00e5"}}}',
        b"[" * 200,
    ]
)
GENESIS = st.just(
    b'[chain]\nid = "a"\ntime = 2026-01-01T00:00:00Z\napplication = "town"\npreset = "TINY"\n'
    b"\n[modules]\ncoin = 1\n\n[town.coin]\n"
)

DECODERS = (
    Decoder("codec", partial(decode, bytes_max=2**16), (BadMessage,), WIRE.map(encode), encode),
    Decoder("transaction", Transaction.decode, (BadMessage,), _transactions(), lambda transaction: transaction.raw),
    _channel("channel consensus", consensus_messages),
    _channel("channel sync", sync_messages),
    Decoder("channel evidence", _charges, (BadMessage,), _evidence_messages(), evidence_gossip.to_wire),
    Decoder(
        "channel transactions",
        transaction_gossip._read,
        (BadMessage,),
        st.tuples(st.integers(0, 4), st.lists(st.binary(max_size=64), max_size=3).map(tuple) | st.binary()).map(encode),
    ),
    *map(_record, (Vote, Proposal, Header, Block, Commit, LightBlock, DuplicateVote)),
    Decoder(
        "channel divergence",
        proof_from_bytes,
        (BadMessage,),
        values_of(LightClientAttack).map(lambda attack: attack.encoded),
    ),
    Decoder("control", decode_control, (BadMessage,), _control(), encode_control),
    Decoder("sections of a record", read_sections, (BadMessage,), st.binary(max_size=80)),
    Decoder("noise, first message", _first_of_noise, (BadMessage,), st.binary(min_size=32, max_size=64)),
    Decoder("noise, third message", _third_of_noise, (BadMessage,), st.binary(min_size=64, max_size=128)),
    Decoder("greeting", lambda data: handshake._examine(data, SEED, IDENTITY), (BadMessage,), _greetings()),
    Decoder("peer address", _text(PeerAddress.parse), (BadAddress,), st.just(b"ab" * 32 + b"@node.example:26656")),
    Decoder(
        "endpoint", _text(Endpoint.parse), (BadAddress,), st.sampled_from([b"[::1]:80", b"a.b:1", b"10.0.0.1:65535"])
    ),
    Decoder(
        "account address",
        _text(address.from_text),
        (address.BadAddress,),
        st.binary(min_size=20, max_size=20).map(address.to_text).map(str.encode),
    ),
    Decoder("invite link", _text(Invite.parse), (BadInvite,), LINKS),
    Decoder("genesis file of a peer", GenesisFile.parse, (BadGenesis,), GENESIS),
    Decoder("JSON-RPC body", partial(parse, batch_calls_max=50), (RpcError,), CALLS),
    *FILE_DECODERS,
    *JSON_DECODERS,
)
