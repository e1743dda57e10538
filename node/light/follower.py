"""Follows the chain by what nodes say, believing only what is signed and what a witness confirms.

Everything that is believed goes through `Follower.header`: forward from the latest trusted block in as few steps as the
validators' changes allow, held against every witness; backward along the chain of hashes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
import trio

from consensus import light
from consensus.block import Header
from consensus.chain import params_hash
from consensus.codec import BadMessage
from consensus.light import EXPIRED, FUTURE, BadLightBlock, Offer, Step, Trusted, TrustedBlock
from consensus.light_attack import LightClientAttack
from consensus.light_store import TrustedBlocks
from consensus.light_witness import Agrees, Ask, Diverged, Examination, Lies, Side, Silent, Verdict, examine
from consensus.params import Params
from consensus.validators import ValidatorSet
from node.light.answers import offer_in, params_in, same_header, sent, set_in
from node.light.root import headers_of
from node.light.source import ASK_SECONDS, Source, SourceGone, SourceRefused
from node.light.sources import Sources
from node.proofs import NotProved
from node.rpc.errors import ChainDiverged, NoSource, NotFound, NotShown, NoWitness, Pruned, RpcError, TrustExpired

_log = structlog.get_logger("light")
T = TypeVar("T")

WITNESS_TRIES = 5
"""How often witnesses are asked for a block that none of them has yet: a block travels in a fraction of a second."""
WITNESS_WAIT_S = 0.25
"""Before the second try; each further wait is one and a half times the one before."""
BEHIND_TRIES = 4
"""How often a primary that is behind what is believed is given a little time before another takes its place."""
BEHIND_WAIT_S = 0.3
NOT_THERE = frozenset({NotFound.code_default, Pruned.code_default})
"""Refusals of a node that is well: it has not decided that height, or keeps it no more."""
FRESH_SECONDS = 30.0
"""How often the latest block is looked at though nobody asks, so that trust does not end while the client runs."""
GRACE_SECONDS = 2.0
"""Once a witness has confirmed a block, the others have so long to contradict it; later ones do at the next block."""
BACK_MAX = 100_000
"""Headers on one way back: half a minute's work."""
WALK_SECONDS = 120.0
"""What a node may take for a way back. Others wait for it, so whoever is slower makes room for the next."""


class Behind(Exception):
    """The node's answer is older than what is believed: it may have caught up in a moment."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Two chains are proved. *evidence* is for whoever can check it against a chain of its own."""

    witness: str
    """Who showed the other chain than the primary."""
    primary: str
    verdict: Diverged

    @property
    def evidence(self) -> tuple[LightClientAttack, ...]:
        """Each side's block as a proof for the other."""
        found = (self.verdict.against_primary, self.verdict.against_witness)
        return tuple(attack for attack in found if attack is not None)


class Follower:
    """The blocks that are believed, and the nodes that are asked for more."""

    def __init__(
        self,
        *,
        blocks: TrustedBlocks,
        params: Params,
        sources: Sources,
        now_ms: Callable[[], int],
        keep: Callable[[], None] = lambda: None,
        alarm: Callable[[Divergence], Awaitable[None]] | None = None,
    ) -> None:
        """*params* are those in force at the latest block of *blocks*. *keep* is called when more is believed.

        *alarm* is called once, when two chains are proved; from then on every call raises ChainDiverged.
        """
        self.blocks = blocks
        self.params = params
        self.sources = sources
        self.now_ms = now_ms
        self.diverged: Divergence | None = None
        self._keep = keep
        self._alarm = alarm
        self._turn = trio.Lock()
        self._turn_back = trio.Lock()

    def require_going(self) -> None:
        """Raises ChainDiverged once two chains are proved."""
        if self.diverged is not None:
            raise ChainDiverged(
                "two chains are proved: more than a third of the validators' power lies. Nothing is answered until you "
                "know which chain is your town's: ask people, and begin again with a fresh link",
                primary=self.diverged.primary,
                witness=self.diverged.witness,
                common_height=self.diverged.verdict.common_height,
                primary_block=self.diverged.verdict.primary.id.hex(),
                witness_block=self.diverged.verdict.witness.id.hex(),
            )

    def is_stale(self, header: Header) -> bool:
        """Whether *header* is too old to be the latest of a chain that lives."""
        return light.is_stale(header, self.now_ms(), self.params)

    # What is believed -----------------------------------------------------------------------------------------------

    async def header(self, height: int) -> Header:
        """The header of *height* (from 1), believed. Raises RpcError: NotShown, NoWitness, NoSource, TrustExpired, …"""
        self.require_going()
        async with self._turn:
            if self.blocks.header(height) is None and height > self.blocks.latest.height:
                await self._each(f"block {height}", lambda source: self._prove(source, height))
        async with self._turn_back:
            known = self.blocks.header(height)
            if known is None:
                known = await self._each(f"the way back to block {height}", lambda source: self._walk(source, height))
            return known

    async def latest(self) -> TrustedBlock:
        """The latest block that the primary has, believed; never one before what was believed already."""
        async with self._turn:
            return await self._each("the latest block", self._prove_latest)

    async def validators(self, height: int) -> ValidatorSet:
        """The set of *height*, from 1 to the one after the latest believed block. Priorities are not vouched for."""
        for block in self.blocks.all:
            if block.height + 1 == height:
                return block.next_validators
        header = await self.header(height)

        async def shown(answer: Any) -> ValidatorSet:
            return set_in(answer, "validators", header.validators_hash)

        return await self.verified("light_block", {"height": height}, shown)

    async def verified(
        self,
        method: str,
        params: Mapping[str, Any],
        check: Callable[[Any], Awaitable[T]],
        *,
        wait_s: float = ASK_SECONDS,
    ) -> T:
        """What *check* makes of an answer, the primary's if possible. It raises NotProved for a lie, Behind for age.

        Raises RpcError: NotShown if every node refuses, NoSource if none answers, …
        """

        async def attempt(source: Source) -> T:
            for _ in range(BEHIND_TRIES - 1):
                try:
                    return await check(await source.call(method, wait_s=wait_s, **params))
                except Behind:
                    await trio.sleep(BEHIND_WAIT_S)
            return await check(await source.call(method, wait_s=wait_s, **params))

        return await self._each(method, attempt)

    async def keep_fresh(self) -> None:
        """The latest block is looked at now and then, until cancelled; what goes wrong is only logged."""
        while True:
            try:
                await self.latest()
            except RpcError as error:
                _log.warning("light_not_fresh", code=error.code, why=str(error))
            await trio.sleep(FRESH_SECONDS)

    # One node after the other ---------------------------------------------------------------------------------------

    async def _each(self, what: str, attempt: Callable[[Source], Awaitable[T]]) -> T:
        """What *attempt* gives with the primary, else with the next node.

        Who lies is dropped, and who does not answer, or stands alone with its block, steps back. A refusal proves
        nothing, so the others are asked, too.
        """
        said: dict[str, str] = {}
        reason = ""
        alone: NoWitness | None = None
        for source in self.sources.all:
            self.require_going()
            start = self.blocks.latest
            try:
                return await attempt(source)
            except SourceRefused as refusal:
                said[source.name] = str(refusal)
                reason = reason or refusal.code
            except NoWitness as error:
                alone = alone or error
                self.sources.step_back(source, str(error))
            except (SourceGone, Behind) as error:
                self.sources.step_back(source, str(error))
            except NotShown as error:  # for a height that this very node named
                if source.name in error.details["said"]:
                    self._judge(source, start, NotProved(f"it answers for a block that it does not show ({error})"))
                else:
                    self.sources.step_back(source, str(error))
            except (NotProved, BadMessage, BadLightBlock) as error:
                self._judge(source, start, error)
        self.require_going()
        if alone is not None:
            raise alone
        if said:
            raise NotShown(f"no node shows {what}: {next(iter(said.values()))}", said=said, reason=reason)
        dropped = f"; {len(self.sources.dropped)} lied and are asked no more" if self.sources.dropped else ""
        raise NoSource(
            f"no node answers for {what}{dropped}; check that they run, or start again with others",
            dropped=self.sources.dropped,
        )

    def _judge(self, source: Source, start: Trusted, error: Exception) -> None:
        """What *source* showed does not follow from *start*. Raises TrustExpired where that is not its fault."""
        code = error.code if isinstance(error, BadLightBlock) else ""
        if code == EXPIRED:
            raise TrustExpired(
                f"{error}: allting light --trust LINK", height=start.height, time_ms=start.time_ms
            ) from error
        if code == FUTURE:  # one of two clocks is wrong, perhaps ours
            self.sources.step_back(source, str(error))
        else:
            self.sources.drop(source, str(error))

    async def _offer(self, source: Source, height: int | None) -> Offer:
        """What *source* shows of *height* (None: of its latest). Raises NotProved, BadMessage.

        Raises SourceRefused where it has none, else SourceGone.
        """
        try:
            return offer_in(await source.call("light_block", height=height))
        except SourceRefused as refusal:
            if refusal.code in NOT_THERE:
                raise
            raise SourceGone(f"{source.name} refused a light block: {refusal}") from refusal

    # Forward --------------------------------------------------------------------------------------------------------

    async def _prove_latest(self, source: Source) -> TrustedBlock:
        """The latest block of *source* is believed."""
        for attempt in range(BEHIND_TRIES):
            offer = await self._offer(source, None)
            shown, known = offer.light_block.header, self.blocks.latest
            if shown.height > known.height:
                return await self._prove(source, shown.height, offer)
            if shown.height == known.height and isinstance(known, TrustedBlock):
                same_header(shown, known.header)
                return known
            if attempt < BEHIND_TRIES - 1:
                await trio.sleep(BEHIND_WAIT_S)
        raise Behind(f"shows height {shown.height} as its latest, and {known.height} is believed")

    async def _prove(self, primary: Source, height: int, latest: Offer | None = None) -> TrustedBlock:
        """*height*, later than all that is believed, by *primary*'s proof that a witness confirms.

        *latest* is its offer for that height, if it came already.
        """
        steps = light.trace(self.blocks.latest, height, self.now_ms(), self.params)
        wanted: int | tuple[Step, ...] = next(steps)
        while isinstance(wanted, int):
            shown = latest if latest is not None and wanted == height else await self._offer(primary, wanted)
            wanted = sent(steps, shown)
        way = wanted
        await self._confirm(primary, way)
        end = way[-1].trusted
        assert isinstance(end, TrustedBlock), "later than the genesis"
        await self._renew_params(primary, end.header)
        # Nothing before it: blocks on the way convinced us, but nothing says that they are ancestors of the end.
        self.blocks.add(end)
        self._keep()
        return end

    async def _renew_params(self, primary: Source, header: Header) -> None:
        """The parameters are those that *header* names."""
        if params_hash(self.params) != header.params_hash:
            self.params = params_in(await primary.call("consensus_params", height=header.height), header)

    async def _confirm(self, primary: Source, way: Sequence[Step]) -> None:
        """At least one witness shows the block at the end of *way*, and none proves another.

        Raises NoWitness, ChainDiverged.
        """
        wait_s = WITNESS_WAIT_S
        for attempt in range(WITNESS_TRIES):
            witnesses = [each for each in self.sources.all if each is not primary]
            verdicts = await self._examined(primary, witnesses, way)
            for witness, verdict in verdicts.items():
                if isinstance(verdict, Diverged):
                    await self._halt(Divergence(witness.name, primary.name, verdict))
            if any(isinstance(verdict, Agrees) for verdict in verdicts.values()):
                return
            if not any(isinstance(verdict, Silent) for verdict in verdicts.values()):
                break
            if attempt < WITNESS_TRIES - 1:
                await trio.sleep(wait_s)
                wait_s *= 1.5
        end = way[-1].trusted
        raise NoWitness(
            f"{primary.name} proves block {end.height}, and no other node confirms it; start again with more witnesses",
            height=end.height,
            dropped=self.sources.dropped,
        )

    async def _examined(
        self, primary: Source, witnesses: Sequence[Source], way: Sequence[Step]
    ) -> dict[Source, Verdict]:
        """What each of *witnesses* says to *way*; who lies is dropped."""
        verdicts: dict[Source, Verdict] = {}

        async def ask(witness: Source) -> None:
            verdict = await self._examine(primary, witness, examine(way, self.now_ms(), self.params))
            verdicts[witness] = verdict
            if isinstance(verdict, Lies):
                self.sources.drop(witness, verdict.why)
            if isinstance(verdict, Agrees):
                scope.deadline = min(scope.deadline, trio.current_time() + GRACE_SECONDS)

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for witness in witnesses:
                    nursery.start_soon(ask, witness)
        return verdicts

    async def _examine(self, primary: Source, witness: Source, steps: Examination) -> Verdict:
        wanted: Ask | Verdict = next(steps)
        while isinstance(wanted, Ask):
            source = witness if wanted.side is Side.WITNESS else primary
            offer: Offer | None = None
            try:
                offer = await self._offer(source, wanted.height)
            except (SourceGone, SourceRefused) as error:
                _log.debug("light_witness_silent", node=source.name, why=str(error))
            except (BadMessage, NotProved) as error:
                if source is witness:
                    return Lies(f"its light block is malformed: {error}")
            wanted = sent(steps, offer)
        return wanted

    async def _halt(self, divergence: Divergence) -> None:
        """Nothing is answered any more. Raises ChainDiverged."""
        verdict = divergence.verdict
        self.diverged = divergence
        _log.error(
            "light_chain_diverged",
            primary=divergence.primary,
            witness=divergence.witness,
            common_height=verdict.common_height,
            primary_height=verdict.primary.height,
            primary_block=verdict.primary.id,
            primary_header=repr(verdict.primary),
            witness_height=verdict.witness.height,
            witness_block=verdict.witness.id,
            witness_header=repr(verdict.witness),
        )
        if self._alarm is not None:
            await self._alarm(divergence)
        self.require_going()

    # Backward -------------------------------------------------------------------------------------------------------

    async def _walk(self, source: Source, height: int) -> Header:
        """*height*, earlier than something believed, along the chain of hashes.

        What *source* shows of the way is kept, so that another can go on.
        """
        start = self.blocks.above(height)
        assert start is not None, "the latest is above"
        if start.height - height > BACK_MAX:
            raise SourceRefused(
                f"it lies {start.height - height} blocks before the nearest believed one, and at most {BACK_MAX} are "
                "walked back",
                code="light.too_far_back",
                data={},
            )
        steps = light.back(start, height)
        wanted: range | Header = next(steps)
        with trio.move_on_after(WALK_SECONDS):
            while isinstance(wanted, range):
                headers = await headers_of(source, wanted)
                wanted = sent(steps, headers)
                for header in headers:
                    self.blocks.remember(header)
            return wanted
        raise SourceGone(f"{source.name} takes more than {WALK_SECONDS:.0f} s to show the way back to block {height}")
