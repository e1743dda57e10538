"""What a node of a core world has on its disk: a log and a signer's memory. A crash takes what was not synced."""

from __future__ import annotations

from collections.abc import Iterable

from consensus.effects import Effect
from consensus.inputs import Input
from devnet.sim.outcome import Broken

Slot = tuple[int, int, int]
"""Height, round and step (0 proposal, 1 prevote, 2 precommit): the order in which a validator signs."""
Signed = tuple[Slot, bytes | None]
"""Where something was signed, and for which block."""


class Log:
    """The inputs of the height in progress, our own messages among them, and what the machine answered to each."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.answers: list[list[Effect]] = []
        self._synced = 0

    def append(self, event: Input, answer: list[Effect]) -> None:
        """*event* was handled; it is lost in a crash unless synced."""
        self.inputs.append(event)
        self.answers.append(answer)

    def sync(self) -> None:
        """What was appended is durable."""
        self._synced = len(self.inputs)

    def crash(self, share: float) -> bool:
        """Of what was not synced, *share* (0 … 1) has reached the disk all the same. Whether anything is lost."""
        kept = self._synced + int(share * (len(self.inputs) - self._synced + 1))
        lost = kept < len(self.inputs)
        del self.inputs[kept:], self.answers[kept:]
        return lost


class SignerMemory:
    """What a validator signed last."""

    def __init__(self) -> None:
        self._last: Signed = ((0, 0, 0), None)
        self._synced: Signed = self._last

    def sign(self, slot: Slot, block_id: bytes | None) -> None:
        """Never back, and in one place the same again only. A correct node never has to be refused: raises Broken."""
        last, said = self._last
        if slot < last or (slot == last and said != block_id):
            raise Broken("refused_signature", f"the signer has signed in {last} and is asked to sign in {slot}")
        self._last = (slot, block_id)

    def sync(self) -> None:
        """It is durable."""
        self._synced = self._last

    def crash(self) -> None:
        """What was not synced is forgotten."""
        self._last = self._synced

    def recall(self, said: Iterable[Signed]) -> None:
        """What the log says that we said is signed, and durable."""
        self._last = self._synced = max([self._last, *said], key=lambda signed: signed[0])
