"""The consensus machine of one height: Algorithm 1 of arXiv:1807.04938 (L1–L67) with no clock, dice, log or I/O.

An input is first noted; then the rules fire, one at a time, always the first that holds in the order of
`Machine._rules`, until none holds. What differs from the paper stands in README.md beside this file.
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.effects import (
    BuildValue,
    Decide,
    Effect,
    EnteredRound,
    EnteredStep,
    FetchBlock,
    FoundEquivocation,
    KeepBlock,
    RefusedDecision,
    SignProposal,
    SignVote,
    StartTimer,
)
from consensus.inputs import (
    BeginRound,
    BlockArrived,
    HeaderSeen,
    Input,
    ProposalReceived,
    Step,
    TimerFired,
    ValueBuilt,
    VoteReceived,
)
from consensus.params import Params
from consensus.tally import Tally
from consensus.validators import ValidatorSet
from consensus.vote import Vote, VoteKind

PROPOSALS_PER_ROUND_MAX = 4
"""Different proposals of one round that are kept; more than one means that its proposer lies."""

PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT


class Machine:
    """One validator's (or follower's) part in deciding one height. Same inputs, same effects, on every machine."""

    def __init__(self, *, height: int, validators: ValidatorSet, params: Params, own_address: bytes | None) -> None:
        """In step WAIT. *own_address*: 20 bytes, or None for a full node, which follows silently and still decides."""
        self.height = height
        self.round = -1
        """-1 in WAIT."""
        self.step = Step.WAIT
        self.locked_round = -1
        self.locked_block_id: bytes | None = None
        self.valid_round = -1
        self.valid_block_id: bytes | None = None
        self.decided: Decide | None = None
        self.refused: RefusedDecision | None = None
        self.tally = Tally(validators)
        self._validators = validators
        self._params = params
        self._own = own_address if own_address is not None and validators.by_address(own_address) else None
        self._proposals: dict[int, list[ProposalReceived]] = {}
        self._validity: dict[bytes, bool] = {}
        """Of every block that is complete here, by id."""
        self._fetching: set[bytes] = set()
        self._building = False
        self._polka_seen = self._prevote_timer_started = self._precommit_timer_started = False
        """For what happens for the first time in a round (L34, L36, L47)."""
        self._effects: list[Effect] = []
        self._rules: tuple[Callable[[], bool], ...] = (
            self._decides,
            self._fetches,
            self._skips_rounds,
            self._begins,
            self._prevotes_fresh,
            self._prevotes_again,
            self._sees_polka,
            self._sees_polka_for_nil,
            self._sees_prevotes_of_any,
            self._sees_precommits_of_any,
        )

    def start(self) -> list[Effect]:
        """The height has begun (L10), in WAIT; call it once, before any input."""
        return [EnteredStep(self.height, self.round, self.step)]

    def handle(self, event: Input) -> list[Effect]:
        """All that must happen because of *event*, in order. Of another height, or stale: nothing."""
        if isinstance(event, VoteReceived):
            if event.vote.height == self.height:
                self._note_vote(event.vote)
        elif self.decided is None and self.refused is None:
            self._note(event)
        self._fire()
        effects, self._effects = self._effects, []
        return effects

    # What comes in

    def _note_vote(self, vote: Vote) -> None:
        """Votes are counted after the decision too: late precommits belong in the commit, and lies in evidence."""
        contradicted = self.tally.add(vote)
        if contradicted is not None:
            self._effects.append(FoundEquivocation(contradicted, vote))

    def _note(self, event: Input) -> None:
        match event:
            case ProposalReceived(proposal=proposal) if proposal.height == self.height:
                self._note_proposal(event)
            case BlockArrived(height=self.height, block_id=block_id, valid=valid):
                self._note_block(block_id, valid)
            case BeginRound(height=self.height) | HeaderSeen(height=self.height) if self.step is Step.WAIT:
                self._start_round(0)
            case ValueBuilt(height=self.height, round=self.round, block_id=block_id):
                self._propose_built(block_id)
            case TimerFired(height=self.height, round=self.round, step=step):
                self._time_out(step)

    def _note_proposal(self, event: ProposalReceived) -> None:
        """The verdict on the block stays, whatever becomes of the proposal: the driver bounds how many it executes."""
        proposal = event.proposal
        self._note_block(proposal.block_id, event.valid)
        proposer = self._validators.proposer(proposal.round).address
        if not self.tally.hear(proposer, proposal.round):
            return
        known = self._proposals.setdefault(proposal.round, [])
        if len(known) < PROPOSALS_PER_ROUND_MAX and all(other.proposal != proposal for other in known):
            known.append(event)
        self._forget_proposals_ahead()

    def _forget_proposals_ahead(self) -> None:
        """Proposals of future rounds are bounded with the votes: one that its proposer has outrun goes."""
        for round_ in [ahead for ahead in self._proposals if ahead > self.round]:
            if not self.tally.keeps(self._validators.proposer(round_).address, round_):
                del self._proposals[round_]

    def _note_block(self, block_id: bytes, valid: bool) -> None:
        known = self._validity.setdefault(block_id, valid)
        assert known == valid, "validity is a function of the block and its parent state alone"

    def _fire(self) -> None:
        """Ends: each rule that fires sets what only a new round resets, and rounds only rise, to one already heard."""
        while self.decided is None and self.refused is None:
            for rule in self._rules:
                if rule():
                    break
            else:
                return

    # The rules, in the order in which they fire. Each returns whether it fired.

    def _decides(self) -> bool:
        """L49–L51: precommits of more than 2/3 for a block, in any round, and the block."""
        if self.tally.commit is None or self.tally.commit[1] not in self._validity:
            return False
        round_, block_id = self.tally.commit
        if self._validity[block_id]:  # L50
            self.step = Step.DECIDED
            self.decided = Decide(self.height, round_, block_id)  # L51
            self._effects.append(self.decided)
        else:
            self.refused = RefusedDecision(self.height, round_, block_id)
            self._effects.append(self.refused)
        return True

    def _fetches(self) -> bool:
        """For L36 and L49: a quorum for a block that is not here."""
        wanted = [(self.round, self.tally.value(self.round, PREVOTE)), self.tally.commit or (self.round, None)]
        for round_, block_id in wanted:
            if block_id is not None and block_id not in self._validity and block_id not in self._fetching:
                self._fetching.add(block_id)
                self._effects.append(FetchBlock(self.height, round_, block_id))
                return True
        return False

    def _skips_rounds(self) -> bool:
        """L55–L56: more than 1/3 are in a later round (in WAIT: in any)."""
        round_ = self.tally.round_to_skip_to()
        if round_ is None:
            return False
        self._start_round(round_)
        return True

    def _begins(self) -> bool:
        """From WAIT on round 0's proposal: its proposer has found something to decide."""
        if self.step is not Step.WAIT or 0 not in self._proposals:
            return False
        self._start_round(0)
        return True

    def _prevotes_fresh(self) -> bool:
        """L22–L27: a proposal without a POL round; only here must it be timely."""
        if self.step is not Step.PROPOSE:
            return False
        for event in self._proposals.get(self.round, ()):
            block_id = event.proposal.block_id
            if event.proposal.pol_round == -1:
                free = self.locked_round == -1 or self.locked_block_id == block_id  # L23
                self._prevote(block_id if event.valid and event.timely and free else None)  # L24, L26
                return True
        return False

    def _prevotes_again(self) -> bool:
        """L28–L33: a proposal with a POL round, and the polka of that round."""
        if self.step is not Step.PROPOSE:
            return False
        for event in self._proposals.get(self.round, ()):
            block_id, pol_round = event.proposal.block_id, event.proposal.pol_round
            if 0 <= pol_round < self.round and self.tally.has_quorum(pol_round, PREVOTE, block_id):
                free = self.locked_round <= pol_round or self.locked_block_id == block_id  # L29
                self._prevote(block_id if event.valid and free else None)  # L30, L32
                return True
        return False

    def _sees_polka(self) -> bool:
        """L36–L43: prevotes of more than 2/3 for a valid block; for the first time in the round."""
        if self.step < Step.PREVOTE or self._polka_seen:
            return False
        block_id = self.tally.value(self.round, PREVOTE)
        if block_id is None or not self._validity.get(block_id, False):
            return False
        self._polka_seen = True
        locks = self.step is Step.PREVOTE  # L37
        self.valid_block_id, self.valid_round = block_id, self.round  # L42, L43
        if locks:
            self.locked_block_id, self.locked_round = block_id, self.round  # L38, L39
        self._effects.append(KeepBlock(self.height, self.round, block_id, locks))
        if locks:
            self._precommit(block_id)  # L40, L41
        return True

    def _sees_polka_for_nil(self) -> bool:
        """L44–L46: prevotes of more than 2/3 for nil."""
        if self.step is not Step.PREVOTE or not self.tally.has_quorum(self.round, PREVOTE, None):
            return False
        self._precommit(None)
        return True

    def _sees_prevotes_of_any(self) -> bool:
        """L34–L35: prevotes of more than 2/3, whatever for; for the first time in the round."""
        if self.step is not Step.PREVOTE or self._prevote_timer_started:
            return False
        if not self.tally.has_quorum_of_any(self.round, PREVOTE):
            return False
        self._prevote_timer_started = True
        self._start_timer(Step.PREVOTE, self._params.prevote_ms(self.round))
        return True

    def _sees_precommits_of_any(self) -> bool:
        """L47–L48: precommits of more than 2/3, whatever for; for the first time in the round, in any step of it."""
        if self._precommit_timer_started or not self.tally.has_quorum_of_any(self.round, PRECOMMIT):
            return False
        self._precommit_timer_started = True
        self._start_timer(Step.PRECOMMIT, self._params.precommit_ms(self.round))
        return True

    # What the rules do

    def _start_round(self, round_: int) -> None:
        """L11–L21. The proposer has a propose timer too: building a block may fail or take too long."""
        self.round, self.step = round_, Step.PROPOSE  # L12, L13
        self.tally.enter(round_)
        self._building = self._polka_seen = self._prevote_timer_started = self._precommit_timer_started = False
        proposer = self._validators.proposer(round_).address
        self._effects.append(EnteredRound(self.height, round_, proposer))
        self._start_timer(Step.PROPOSE, self._params.propose_ms(round_))  # L21
        if proposer != self._own or round_ in self._proposals:  # L14; what we proposed before a restart stands
            return
        if self.valid_block_id is not None:  # L15, L16, L19
            self._effects.append(SignProposal(self.height, round_, self.valid_round, self.valid_block_id))
        else:
            self._building = True
            self._effects.append(BuildValue(self.height, round_))  # L18

    def _propose_built(self, block_id: bytes) -> None:
        """L19: the value that we asked for is here, and the round still waits for it."""
        if self._building and self.step is Step.PROPOSE:
            self._building = False
            self._effects.append(SignProposal(self.height, self.round, -1, block_id))

    def _time_out(self, step: Step) -> None:
        """L57–L67, for a timer of the current round."""
        if step is Step.PROPOSE and self.step is Step.PROPOSE:  # L58
            self._prevote(None)  # L59, L60
        elif step is Step.PREVOTE and self.step is Step.PREVOTE:  # L62
            self._precommit(None)  # L63, L64
        elif step is Step.PRECOMMIT:  # L66
            self._start_round(self.round + 1)  # L67

    def _prevote(self, block_id: bytes | None) -> None:
        self._vote(PREVOTE, block_id)
        self._enter_step(Step.PREVOTE)

    def _precommit(self, block_id: bytes | None) -> None:
        self._vote(PRECOMMIT, block_id)
        self._enter_step(Step.PRECOMMIT)

    def _vote(self, kind: VoteKind, block_id: bytes | None) -> None:
        """Unless we have no vote, or are known to have cast it already (before a restart): that one stands."""
        if self._own is not None and self.tally.vote(self.round, kind, self._own) is None:
            self._effects.append(SignVote(kind, self.height, self.round, block_id))

    def _enter_step(self, step: Step) -> None:
        self.step = step
        self._effects.append(EnteredStep(self.height, self.round, step))

    def _start_timer(self, step: Step, duration_ms: int) -> None:
        self._effects.append(StartTimer(self.height, self.round, step, duration_ms))
