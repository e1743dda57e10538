"""The light client: which headers to believe, from one trusted header or the genesis, without executing anything.

No I/O and no clock: the caller fetches light blocks and validator sets from anybody and says what time it is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

from consensus.block import Commit, Header, LightBlock
from consensus.chain import without_priorities
from consensus.params import Params
from consensus.signing import verify
from consensus.validators import Update, ValidatorSet
from consensus.validity import InvalidBlock, verify_commit
from consensus.vote import VoteKind, vote_sign_bytes

CLOCK_DRIFT_MS = 10_000
"""How far ahead of our clock a header's time may be."""

TOO_FAR = "light.too_far"
"""The code that says: not proved by what is trusted, but a height in between may be."""

EXPIRED = "light.expired"
"""The code that says: what is trusted is too old to prove anything; only a fresh root of trust helps."""

FUTURE = "light.future"
"""The code that says: the header is ahead of our clock; either may be wrong."""

PIVOT = (9, 16)
"""Where, between a trusted height and one that is too far away to skip to, to try next."""

STALE_HEARTBEATS = 2
"""An idle chain makes a block each heartbeat; who shows nothing newer than two of them hides some, or stands still."""

HEADERS_AT_ONCE = 20
"""Headers asked for at once on the way back: what a node shows in one answer."""


class BadLightBlock(Exception):
    """What was offered is not proved by what is trusted. ``code`` is stable (``light.<what>``)."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class TrustedBlock:
    """A header that is believed, and the set that it names for the next height.

    Priorities are not covered by a set's hash, so they are not kept: whose turn it is must come from a proof of leaf
    ``chain``, never from a peer's set.
    """

    header: Header
    next_validators: ValidatorSet

    @classmethod
    def root(cls, header: Header, block_id: bytes, next_validators: ValidatorSet) -> TrustedBlock:
        """Trust from outside the chain, such as an invite's *block_id*. Raises BadLightBlock."""
        _require(header.id == block_id, "root", f"the header is not that of the trusted block {block_id.hex()}")
        return cls.of(header, next_validators)

    @classmethod
    def of(cls, header: Header, next_validators: ValidatorSet) -> TrustedBlock:
        """The believed *header* with the set that it names. Raises BadLightBlock for another set."""
        _require_set(next_validators, header.next_validators_hash)
        return cls(header, without_priorities(next_validators))

    @property
    def chain_id(self) -> str:
        """The chain that the header belongs to."""
        return self.header.chain_id

    @property
    def height(self) -> int:
        """The height of the header."""
        return self.header.height

    @property
    def time_ms(self) -> int:
        """The time of the header."""
        return self.header.time_ms

    @property
    def block_id(self) -> bytes:
        """32 bytes: the id of the block."""
        return self.header.id


@dataclass(frozen=True, slots=True)
class TrustedGenesis:
    """The genesis file, believed as it is: height 0 of a chain, where trust can begin as well as at a header."""

    chain_id: str
    block_id: bytes
    """32 bytes: the SHA-256 of the genesis file."""
    time_ms: int
    next_validators: ValidatorSet

    @classmethod
    def of(cls, *, chain_id: str, genesis_hash: bytes, time_ms: int, validators: Iterable[Update]) -> TrustedGenesis:
        """The genesis with this first set. Raises BadUpdate where no chain can begin with it."""
        return cls(chain_id, genesis_hash, time_ms, without_priorities(ValidatorSet.of(validators)))

    @property
    def height(self) -> int:
        """0."""
        return 0


Trusted = TrustedBlock | TrustedGenesis


def verify_adjacent(
    trusted: Trusted,
    light_block: LightBlock,
    validators: ValidatorSet,
    next_validators: ValidatorSet | None,
    now_ms: int,
    params: Params,
) -> TrustedBlock:
    """*light_block*, of the height after *trusted*, is believed. Raises BadLightBlock.

    *validators* are those of its height (`trusted.next_validators`), *next_validators* those of the one after; None
    says that they are the same. Neither is believed by itself: headers name them by hash.
    """
    _check_clock(trusted, light_block.header, now_ms, params)
    _check_adjacent(trusted, light_block, validators)
    return TrustedBlock.of(light_block.header, validators if next_validators is None else next_validators)


def verify_skipping(
    trusted: Trusted,
    light_block: LightBlock,
    validators: ValidatorSet,
    next_validators: ValidatorSet | None,
    now_ms: int,
    params: Params,
) -> TrustedBlock:
    """*light_block*, of any later height, is believed, because some correct validator that we trust signed it.

    More than a third of the power of `trusted.next_validators` must have signed, and more than two thirds of its own
    set. Raises BadLightBlock; code `TOO_FAR` says to try a height in between (`pivot`).
    """
    _check_clock(trusted, light_block.header, now_ms, params)
    check_signed(trusted, light_block, validators)
    return TrustedBlock.of(light_block.header, validators if next_validators is None else next_validators)


def check_signed(trusted: Trusted, light_block: LightBlock, validators: ValidatorSet) -> None:
    """Whoever trusts *trusted* must believe *light_block*, of a later height, whatever the time. Raises BadLightBlock.

    What `verify_skipping` checks but for clock and trusting period: it convicts as it convinces.
    """
    header = light_block.header
    if header.height == trusted.height + 1:
        _check_adjacent(trusted, light_block, validators)
        return
    _check_order(trusted, light_block)
    _require(header.height > trusted.height, "height", f"height {header.height} is not after {trusted.height}")
    _require_set(validators, header.validators_hash)
    _check_trust_level(trusted, light_block, validators)
    _check_quorum(light_block, validators)


def is_stale(header: Header, now_ms: int, params: Params) -> bool:
    """Whether *header* is too old to be the latest of a chain that lives."""
    return header.time_ms + STALE_HEARTBEATS * params.heartbeat_ms < now_ms


@dataclass(frozen=True, slots=True)
class Offer:
    """What anybody offers for a height: its light block, its set, and the set after it (None: the same)."""

    light_block: LightBlock
    validators: ValidatorSet
    next_validators: ValidatorSet | None


@dataclass(frozen=True, slots=True)
class Step:
    """A block that was believed on the way, and what was offered for it (None: it was trusted before)."""

    trusted: Trusted
    offer: Offer | None


def follow(trusted: Trusted, height: int, now_ms: int, params: Params) -> Generator[int, Offer, TrustedBlock]:
    """From *trusted* forward to *height*: `trace` for who needs only the end of the way."""
    steps = yield from trace(trusted, height, now_ms, params)
    end = steps[-1].trusted
    assert isinstance(end, TrustedBlock), "a later height than the genesis"
    return end


def trace(trusted: Trusted, height: int, now_ms: int, params: Params) -> Generator[int, Offer, tuple[Step, ...]]:
    """From *trusted* forward to *height* in as few steps as the changes of the set allow.

    A generator: it yields the height that it needs next, is sent the `Offer` for it, and returns the way: *trusted*
    first, *height* last, each believed on the strength of the one before. Offers that were too far are kept meanwhile,
    so each height is asked for once, at most 2 log₂ of the distance are kept, and the steps come to an end, since a
    neighbour is never too far. Raises BadLightBlock.
    """
    _require(height > trusted.height, "height", f"height {height} is not after {trusted.height}")
    way = [Step(trusted, None)]
    ahead: list[tuple[int, Offer]] = []
    wanted = height
    while True:
        if not ahead or ahead[-1][0] != wanted:
            ahead.append((wanted, (yield wanted)))
        offer = ahead[-1][1]
        _require(offer.light_block.header.height == wanted, "height", f"height {wanted} was asked for")
        try:
            trusted = verify_skipping(
                trusted, offer.light_block, offer.validators, offer.next_validators, now_ms, params
            )
        except BadLightBlock as error:
            if error.code != TOO_FAR:
                raise
            wanted = pivot(trusted.height, wanted)
            continue
        way.append(Step(trusted, offer))
        ahead.pop()
        if not ahead:
            return tuple(way)
        wanted = ahead[-1][0]


def back(trusted: Header, height: int) -> Generator[range, Sequence[Header], Header]:
    """From the believed header *trusted* back to that of *height*, along the chain of hashes.

    A generator: it yields the heights that it needs next, descending, at most `HEADERS_AT_ONCE`, is sent their headers
    in that order (as many as there are from the first on), and returns the last. What was sent is believed once the
    next is asked for. Raises BadLightBlock.
    """
    _require(1 <= height <= trusted.height, "height", f"height {height} is not in 1…{trusted.height}")
    while trusted.height > height:
        lowest = max(height, trusted.height - HEADERS_AT_ONCE)
        headers = yield range(trusted.height - 1, lowest - 1, -1)
        _require(0 < len(headers) <= trusted.height - lowest, "height", "not the headers that were asked for")
        for header in headers:
            verify_backwards(trusted, header)
            trusted = header
    return trusted


def verify_backwards(trusted: Header, header: Header) -> None:
    """*header* is the parent of the believed header *trusted*, by the chain of hashes. Raises BadLightBlock."""
    _require(header.id == trusted.last_block_id, "last_block_id", "is not the parent of the trusted block")
    # The hash settles it for an honest chain; a lying quorum could still have signed a nonsense parent.
    sound = (header.chain_id, header.height + 1) == (trusted.chain_id, trusted.height)
    _require(sound and header.time_ms < trusted.time_ms, "height", "the parent is not of the height and time before")


def pivot(trusted_height: int, too_far_height: int) -> int:
    """The height to try after `verify_skipping` found *too_far_height* too far: between the two."""
    numerator, denominator = PIVOT
    distance = too_far_height - trusted_height
    return trusted_height + max(1, distance * numerator // denominator)


def _require(holds: bool, what: str, text: str) -> None:
    if not holds:
        raise BadLightBlock(f"light.{what}", text)


def _require_set(validators: ValidatorSet, expected_hash: bytes) -> None:
    same = validators.hash == expected_hash
    _require(same, "validators", f"not the validator set with hash {expected_hash.hex()}")
    # When skipping, the header is not believed yet, so its set may be an attacker's: a trusted validator that stood in
    # it several times would lend its power several times.
    once = len(set(validators.addresses)) == len(validators.addresses)
    _require(once, "validators", "a validator stands in the set twice")


def _check_clock(trusted: Trusted, header: Header, now_ms: int, params: Params) -> None:
    expiry_ms = trusted.time_ms + params.trusting_period_ms
    _require(
        now_ms < expiry_ms,
        "expired",
        f"trust in height {trusted.height} ended at {expiry_ms} ms; a fresh invite is needed",
    )
    latest_ms = now_ms + CLOCK_DRIFT_MS
    _require(header.time_ms <= latest_ms, "future", f"time {header.time_ms} is in the future; check the clock")


def _check_order(trusted: Trusted, light_block: LightBlock) -> None:
    header, commit = light_block.header, light_block.commit
    same_chain = header.chain_id == trusted.chain_id
    _require(same_chain, "chain_id", f"chain {header.chain_id!r}, expected {trusted.chain_id!r}")
    after = header.time_ms > trusted.time_ms or (trusted.height == 0 and header.time_ms == trusted.time_ms)
    _require(after, "time", f"time {header.time_ms} is not after {trusted.time_ms}")
    _require(commit.height == header.height, "commit", "the commit is of another height")


def _check_adjacent(trusted: Trusted, light_block: LightBlock, validators: ValidatorSet) -> None:
    header = light_block.header
    _check_order(trusted, light_block)
    height = trusted.height + 1
    _require(header.height == height, "height", f"height {header.height}, expected {height}")
    _require(header.last_block_id == trusted.block_id, "last_block_id", "is not built on the trusted block")
    promised = header.validators_hash == trusted.next_validators.hash
    _require(promised, "validators_hash", "is not the set that the trusted block names for this height")
    _require_set(validators, header.validators_hash)
    _check_quorum(light_block, validators)


def _check_quorum(light_block: LightBlock, validators: ValidatorSet) -> None:
    try:
        verify_commit(light_block.header.chain_id, validators, light_block.commit, light_block.header.id)
    except InvalidBlock as error:
        raise BadLightBlock("light.commit", str(error)) from error


def _check_trust_level(trusted: Trusted, light_block: LightBlock, validators: ValidatorSet) -> None:
    """More than a third of the trusted power signed for the block; with the trusted keys, not those of the new set."""
    commit, known = light_block.commit, trusted.next_validators
    _require(len(commit.entries) == len(validators.validators), "commit", "not one entry for each validator")
    message = _block_message(light_block.header, commit)
    power = 0
    for address, entry in zip(validators.addresses, commit.entries, strict=True):
        member = known.by_address(address)
        if member is None or entry is None or not entry.for_block:
            continue
        _require(verify(member.public_key, message, entry.signature), "commit", f"{address.hex()} did not sign")
        power += member.power
    enough = known.has_one_third(power)
    _require(enough, "too_far", f"trusted power {power} of {known.total_power} signed, more than a third is needed")


def _block_message(header: Header, commit: Commit) -> bytes:
    return vote_sign_bytes(header.chain_id, VoteKind.PRECOMMIT, commit.height, commit.round, header.id)
