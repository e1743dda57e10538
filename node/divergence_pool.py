"""Attacks on light clients that were proved to this node: judged by its own chain, told in the log, kept to pass on.

An attack takes more than a third of the validators' power. What it proves against single ones, two votes of one round,
becomes evidence, which convicts; for the rest people must look, and the log says at whom.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from consensus.block import Header, LightBlock
from consensus.codec import BadMessage
from consensus.evidence import TOO_NEW, TOO_OLD, DuplicateVote, Uncounted, is_expired
from consensus.light import Trusted, TrustedBlock, TrustedGenesis
from consensus.light_attack import Finding, LightClientAttack, contradicts_time
from node.evidence_pool import FULL
from node.genesis import GenesisFile
from node.heights import Heights
from node.store import Store

log = structlog.get_logger("evidence")

ATTACKS_MAX = 16
"""Attacks that are kept: whoever has a third of the power can make any number, and one is alarm enough."""
LATER_MAX = 16
"""Attacks about heights that are not decided here yet. Those that somebody with power signed go first: a stranger can
make any number of the others."""
Key = tuple[int, bytes]
"""Height and id of the conflicting block: one block is one attack, whoever's signatures come with it."""


@dataclass(frozen=True, slots=True)
class Proved:
    """An attack and what it proves."""

    attack: LightClientAttack
    finding: Finding


class DivergencePool:
    """The attacks that are known. `add` judges; `wait_beyond` wakes whoever passes them on."""

    def __init__(
        self, *, genesis: GenesisFile, store: Store, heights: Heights, convict: Callable[[DuplicateVote], None]
    ) -> None:
        """*convict* gets each pair of votes that an attack contains."""
        self._genesis = genesis
        self._store = store
        self._heights = heights
        self._convict = convict
        self._changed = trio.lowlevel.ParkingLot()
        self._later: OrderedDict[Key, LightClientAttack] = OrderedDict()
        self.known: dict[Key, Proved] = {}
        """In the order in which they came."""
        self.version = 0
        """Rises with every change of `known`."""

    def add(self, attack: LightClientAttack) -> Proved:
        """*attack* is known, was told in the log, and its double votes are on their way to a block.

        Raises BadMessage for a false charge, and Uncounted where our chain does not say whether it is one; what is too
        new is judged once its height is decided.
        """
        key = key_of(attack)
        if key in self.known:
            return self.known[key]
        if len(self.known) >= ATTACKS_MAX:
            raise Uncounted(FULL, f"{ATTACKS_MAX} attacks are known already")
        try:
            proved = self._judged(attack)
        except Uncounted as reason:
            if reason.code == TOO_NEW:
                self._keep_for_later(key, attack)
            raise
        self.known[key] = proved
        self._tell(proved)
        for evidence in proved.finding.duplicates:
            self._convict(evidence)
        self.version += 1
        self._changed.unpark_all()
        return proved

    async def run(self) -> None:
        """What was too new is judged as heights are decided, until cancelled."""
        while True:
            await self._heights.wait_beyond(self._heights.current)
            later, self._later = self._later, OrderedDict()
            for attack in later.values():
                try:
                    self.add(attack)
                except (BadMessage, Uncounted) as reason:
                    log.debug("attack_not_judged", height=attack.height, why=str(reason))
                await trio.lowlevel.checkpoint()  # signatures were verified

    async def wait_beyond(self, version: int) -> None:
        """`version` is greater than *version*."""
        await trio.lowlevel.checkpoint()
        while self.version <= version:
            await self._changed.park()

    def _keep_for_later(self, key: Key, attack: LightClientAttack) -> None:
        is_signed = attack.common_height <= self._store.height  # `_judged` saw to it
        if is_signed or key not in self._later:
            self._later[key] = attack
            self._later.move_to_end(key, last=is_signed)
        if len(self._later) > LATER_MAX:
            self._later.popitem(last=False)

    def _judged(self, attack: LightClientAttack) -> Proved:
        latest = self._store.height
        if latest < 1 or attack.common_height > latest:
            raise Uncounted(TOO_NEW, f"height {attack.common_height} is not decided here; the latest is {latest}")
        try:
            common = self._common(attack.common_height)
            own = self._store.header(min(attack.height, latest))
            commit, canonical = self._store.commit_of(own.height)
            members = self._store.validators_at(own.height)
        except KeyError:
            raise Uncounted(TOO_OLD, f"the blocks that judge an attack at {attack.height} are not kept here") from None
        self._require_young(common, self._store.header(latest))
        if attack.height > latest and not contradicts_time(attack.header, own):
            attack.verify_signed(common)
            raise Uncounted(TOO_NEW, f"height {attack.height} is not decided here; the latest is {latest}")
        attack.verify(common, own)
        return Proved(attack, attack.judge(common, LightBlock(own, commit, canonical), members))

    def _common(self, height: int) -> Trusted:
        following = self._store.validators_at(height + 1)
        if height:
            return TrustedBlock.of(self._store.header(height), following)
        genesis = self._genesis
        return TrustedGenesis(genesis.chain_id, genesis.hash, genesis.time_ms, following)

    def _require_young(self, common: Trusted, latest: Header) -> None:
        """No light client that still trusts *common* is left where it is older than evidence may be."""
        params = self._store.params_at(latest.height + 1)
        if is_expired(
            params,
            found_height=common.height,
            found_time_ms=common.time_ms,
            height=latest.height,
            time_ms=latest.time_ms,
        ):
            raise Uncounted(TOO_OLD, f"nobody trusts height {common.height} any more")

    def _tell(self, proved: Proved) -> None:
        attack, finding = proved.attack, proved.finding
        log.error(
            "light_client_attack",
            kind=finding.kind.value,
            height=attack.height,
            common_height=attack.common_height,
            block=attack.header.id,
            header=repr(attack.header),
            culprits=[address.hex() for address in finding.culprits],
            signers=[address.hex() for address in finding.signers],
        )


def key_of(attack: LightClientAttack) -> Key:
    """What makes two proofs the same attack."""
    return attack.height, attack.header.id
