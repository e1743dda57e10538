"""Whether a block follows from its parent, and a commit proves it: functions of them alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from consensus.application import Misbehaviour, State
from consensus.block import HEADER_VERSION, Block, Commit, Header, Signed
from consensus.chain import ChainState, commit_hash, evidence_root, params_hash, transactions_root
from consensus.codec import BadMessage, Wire
from consensus.evidence import Uncounted
from consensus.jellyfish import application_hash
from consensus.params import Params
from consensus.shape import to_bytes
from consensus.signing import verify
from consensus.validators import ValidatorSet
from consensus.vote import Vote, VoteKind, vote_sign_bytes


class InvalidBlock(Exception):
    """The block does not follow from its parent. ``code`` is stable (``block.<what>``); the text gives the values."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def check_block(block: Block, bodies_bytes: int, parent: ChainState, state: State) -> None:
    """*block* follows from *parent*, as far as can be known without executing it. Raises InvalidBlock.

    *state* is the one after *parent*; *bodies_bytes* is the size of all the block's transactions. What only execution
    shows is left: results and next set, and whether the module roots, which here only agree with the application hash,
    are the right ones.
    """
    header = block.header
    _check_place(header, parent)
    _check_contents(block, bodies_bytes, parent.params)
    _require(header.validators_hash == parent.validators.hash, "validators_hash", "names another validator set")
    _require(header.params_hash == params_hash(parent.params), "params_hash", "names other parameters")
    known_proposer = parent.validators.index_of(header.proposer) is not None
    _require(known_proposer, "proposer", f"{header.proposer.hex()} is no validator of this height")
    _check_last_commit(block, parent)
    judged_evidence(block.evidence, parent, state)


def judged_evidence(evidence: Sequence[Wire], parent: ChainState, state: State) -> tuple[Misbehaviour, ...]:
    """What *evidence* in a block on *parent* proves; *state* is that after *parent*. Raises InvalidBlock."""
    try:
        return parent.past(state).judge_all(evidence)
    except (BadMessage, Uncounted) as wrong:
        raise InvalidBlock("block.evidence", str(wrong)) from None


def contents_belong(block: Block) -> bool:
    """Whether the parts of *block* are those that its header commits to; else somebody changed them on the way.

    Only then does a verdict on the block say something of its id.
    """
    header = block.header
    return (
        header.last_commit_hash == commit_hash(block.last_commit)
        and header.transactions_root == transactions_root(block.transaction_ids)
        and header.evidence_root == evidence_root(block.evidence)
        and header.app_hash == application_hash(block.module_roots)
    )


def check_size(block: Block, bodies_bytes: int, params: Params) -> None:
    """*block* with bodies of *bodies_bytes* is within the limit. Raises InvalidBlock."""
    size = len(to_bytes(block)) + bodies_bytes
    _require(size <= params.block_bytes_max, "size", f"{size} bytes, at most {params.block_bytes_max} are allowed")


def _require(holds: bool, what: str, text: str) -> None:
    if not holds:
        raise InvalidBlock(f"block.{what}", text)


def _check_place(header: Header, parent: ChainState) -> None:
    _require(header.version == HEADER_VERSION, "version", f"version {header.version}, expected {HEADER_VERSION}")
    _require(header.chain_id == parent.chain_id, "chain_id", f"chain {header.chain_id!r}, expected {parent.chain_id!r}")
    height = parent.height + 1
    _require(header.height == height, "height", f"height {header.height}, expected {height}")
    same_parent = header.last_block_id == parent.block_id
    _require(same_parent, "last_block_id", f"parent {header.last_block_id.hex()}, expected {parent.block_id.hex()}")
    earliest_ms = parent.time_ms + (parent.params.block_delay_ms if parent.height else 0)
    _require(header.time_ms >= earliest_ms, "time", f"time {header.time_ms}, at least {earliest_ms} is required")


def _check_contents(block: Block, bodies_bytes: int, params: Params) -> None:
    header, ids = block.header, block.transaction_ids
    count_max = params.block_transactions_max
    _require(len(ids) <= count_max, "transactions", f"{len(ids)} transactions, at most {count_max} are allowed")
    check_size(block, bodies_bytes, params)
    _require(len(set(ids)) == len(ids), "duplicate_transaction", "a transaction occurs twice")
    _require(header.transactions_root == transactions_root(ids), "transactions_root", "is not that of the ids")
    _require(header.evidence_root == evidence_root(block.evidence), "evidence_root", "is not that of the evidence")
    names = [leaf.module for leaf in block.module_roots]
    in_order = all(name.isascii() for name in names) and names == sorted(set(names))
    _require(in_order, "module_roots", "module roots must have ASCII names, in order, each once")
    _require(header.app_hash == application_hash(block.module_roots), "app_hash", "is not that of the module roots")


def _check_last_commit(block: Block, parent: ChainState) -> None:
    commit = block.last_commit
    _require(block.header.last_commit_hash == commit_hash(commit), "last_commit_hash", "is not that of the last commit")
    if commit is None:
        _require(parent.height == 0, "last_commit", "every block after the first carries its parent's commit")
        return
    _require(parent.height > 0, "last_commit", "the first block carries no commit")
    _require(commit.height == parent.height, "last_commit", f"a commit of {commit.height}, expected {parent.height}")
    verify_commit(parent.chain_id, parent.last_validators, commit, parent.block_id)


def commit_from_votes(
    validators: ValidatorSet, votes: Iterable[Vote], height: int, round_: int, block_id: bytes
) -> Commit:
    """The commit that verified *votes* make: precommits for *block_id* or nil; others count as absent.

    There must be more than two thirds of the power for *block_id* among them.
    """
    by_address = {
        vote.validator: vote
        for vote in votes
        if vote.kind is VoteKind.PRECOMMIT and (vote.height, vote.round) == (height, round_)
    }
    entries: list[Signed | None] = []
    power = 0
    for address, validator in zip(validators.addresses, validators.validators, strict=True):
        vote = by_address.get(address)
        if vote is None or vote.block_id not in (None, block_id):
            entries.append(None)
            continue
        entries.append(Signed(vote.block_id is not None, vote.signature))
        power += validator.power if vote.block_id is not None else 0
    assert validators.has_two_thirds(power), (power, validators.total_power)
    return Commit(height, round_, block_id, tuple(entries))


def verify_commit(chain_id: str, validators: ValidatorSet, commit: Commit, block_id: bytes) -> None:
    """*commit* proves that *validators* decided *block_id*. Raises InvalidBlock.

    Every signature present is verified, against the validator at its own place in the set, not only as many as make
    two thirds: a commit is stored, passed on, and says who was absent.
    """
    _require(commit.block_id == block_id, "commit_block_id", f"a commit for another block, {commit.block_id.hex()}")
    members = validators.validators
    _require(
        len(commit.entries) == len(members),
        "commit_entries",
        f"{len(commit.entries)} entries for {len(members)} validators",
    )
    power = sum(
        validator.power
        for validator, entry in zip(members, commit.entries, strict=True)
        if entry is not None and entry.for_block
    )
    _require(
        validators.has_two_thirds(power), "commit_power", f"power {power} of {validators.total_power} is no quorum"
    )
    _verify_signatures(chain_id, tuple(validator.public_key for validator in members), commit)


@lru_cache(maxsize=8)
def _verify_signatures(chain_id: str, keys: tuple[bytes, ...], commit: Commit) -> None:
    """Every signature in *commit* is by the key of its place. Raises InvalidBlock.

    What held is remembered for a while: the commit that a height was believed for is mostly that which the next block
    carries.
    """
    height, round_ = commit.height, commit.round
    for_block = vote_sign_bytes(chain_id, VoteKind.PRECOMMIT, height, round_, commit.block_id)
    for_nil = vote_sign_bytes(chain_id, VoteKind.PRECOMMIT, height, round_, None)
    for place, (key, entry) in enumerate(zip(keys, commit.entries, strict=True)):
        if entry is not None:
            holds = verify(key, for_block if entry.for_block else for_nil, entry.signature)
            _require(holds, "commit_signature", f"the signature at place {place} does not hold")
