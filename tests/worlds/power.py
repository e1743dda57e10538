"""A small net whose machines lose their power at any step on the disk, and all that anybody ever signed in it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio

from consensus.vote import VoteKind
from devnet.simulated_disk import PowerCut, SimulatedDisk, Watching
from node import consensus_gossip
from node.consensus_gossip import ConsensusGossip
from node.consensus_messages import ProposalWithBlock, Votes, from_wire
from tests.node.small_net import SmallNet


class Said:
    """Every signed vote and proposal that any engine of this test published, or decoded from a peer's message."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._said: dict[tuple[object, ...], set[object]] = {}
        self.count = 0
        publish_vote, publish_proposal = ConsensusGossip.publish_vote, ConsensusGossip.publish_proposal

        def heard(data: bytes) -> Any:
            message = from_wire(data)
            if isinstance(message, Votes):
                for vote in message.votes:
                    self._note(vote.validator, vote.kind, vote.height, vote.round, vote.block_id)
            elif isinstance(message, ProposalWithBlock):
                self._note_proposal(message.proposal)
            return message

        def vote_published(gossip: ConsensusGossip, vote: Any) -> None:
            self._note(vote.validator, vote.kind, vote.height, vote.round, vote.block_id)
            publish_vote(gossip, vote)

        def proposal_published(gossip: ConsensusGossip, proposal: Any, block: Any) -> None:
            self._note_proposal(proposal)
            publish_proposal(gossip, proposal, block)

        monkeypatch.setattr(consensus_gossip, "from_wire", heard)
        monkeypatch.setattr(ConsensusGossip, "publish_vote", vote_published)
        monkeypatch.setattr(ConsensusGossip, "publish_proposal", proposal_published)

    def _note(self, *slot_and_value: object) -> None:
        *slot, value = slot_and_value
        self.count += 1
        self._said.setdefault(tuple(slot), set()).add(value)

    def _note_proposal(self, proposal: Any) -> None:
        # The proposer follows from height and round, and no signature of another is passed on.
        self._note("proposal", proposal.height, proposal.round, (proposal.block_id, proposal.pol_round))

    def assert_nothing_twice(self) -> None:
        """Nobody signed two different things for one place."""
        twice = {slot: values for slot, values in self._said.items() if len(values) > 1}
        assert not twice, twice

    def precommitted(self, height: int) -> set[object]:
        """The values that anybody precommitted at *height*."""
        return {
            value
            for slot, values in self._said.items()
            for value in values
            if slot[1:3] == (VoteKind.PRECOMMIT, height)
        }


class PowerNet(SmallNet):
    """Each engine lives on a simulated disk; a power cut ends it and its links in one instant."""

    def __init__(self, folder: Path, dice: random.Random, **options: Any) -> None:
        super().__init__(folder, **options)
        self.watches: dict[int, Watching] = {}
        """For the next life of an engine."""
        self.disks: dict[int, SimulatedDisk] = {}
        """Of the present or last life."""
        self.links_go_at_once = True
        """Whether what a machine has sent in its last instant is lost with it."""
        self._dice = dice

    def disk(self, number: int) -> SimulatedDisk:
        """A fresh one, watched by what `watches` has for this life."""
        watch = self.watches.pop(number, None)
        self.disks[number] = SimulatedDisk(self._dice, watch, on_cut=lambda: self._off(number))
        return self.disks[number]

    async def start(self, nursery: trio.Nursery, *numbers: int) -> None:
        """As `SmallNet.start`; an engine that loses its power on the way has started, too."""
        for number in numbers or range(self.size):
            self._reconnect(number)
            await super().start(nursery, number)

    async def cut(self, *numbers: int) -> None:
        """The engines *numbers* have lost their power, at the moment that their watches wait for."""
        for number in numbers:
            await self._stopped[number].wait()
            assert self.disks[number].is_cut
            self.engines.pop(number, None)

    async def power_off(self, *numbers: int) -> None:
        """The engines *numbers* lose their power now."""
        for number in numbers:
            self.disks[number].cut_power()
        await self.kill(*numbers)

    async def _run(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        started = _Once(task_status)
        try:
            await super()._run(number, task_status=started)
        except* PowerCut:
            started.started()
        finally:
            self._stopped[number].set()

    def _off(self, number: int) -> None:
        if self.links_go_at_once:
            self.split((number,), tuple(other for other in range(self.size) if other != number))

    def _reconnect(self, number: int) -> None:
        off = {other for other, disk in self.disks.items() if disk.is_cut and other != number}
        self.heal((number,), tuple(other for other in range(self.size) if other != number and other not in off))


class _Once:
    """A task status that may be told again."""

    def __init__(self, status: trio.TaskStatus[None]) -> None:
        self._status = status
        self._told = False

    def started(self, value: None = None) -> None:
        if not self._told:
            self._told = True
            self._status.started()
