"""What could be wrong in the light client and in what nodes make of its proofs."""

from __future__ import annotations

from tests.mutants.defect import Defect

WITNESS = ("tests/consensus/test_light_witness.py",)
ATTACK = ("tests/consensus/test_light_attack.py",)
PROXY = ("tests/node/test_light_proxy.py",)

DEFECTS = (
    Defect(
        "a witness that can't prove its block agrees",
        "consensus/light_witness.py",
        "        return Lies(str(error))",
        "        return Agrees()",
        WITNESS,
    ),
    Defect(
        "evidence rests on a block that the witness does not show",
        "consensus/light_witness.py",
        "common, ours = way[place - 1].trusted, way[place]",
        "common, ours = way[0].trusted, way[place]",
        WITNESS,
    ),
    Defect(
        "whoever signed the other round is convicted",
        "consensus/light_attack.py",
        "if (self.height, self.commit.round) != (own.header.height, own.commit.round):",
        "if self.height != own.header.height:",
        ATTACK,
    ),
    Defect(
        "evidence of an attack is believed unsigned",
        "consensus/light_attack.py",
        "            check_signed(common, LightBlock(self.header, self.commit, canonical=False), self.validators)",
        "            pass",
        ATTACK,
    ),
    Defect(
        "the way back skips a parent",
        "consensus/light.py",
        '_require(header.id == trusted.last_block_id, "last_block_id", "is not the parent of the trusted block")',
        "pass",
        ("tests/consensus/test_light.py",),
    ),
    Defect(
        "a block is believed without a witness",
        "node/light/follower.py",
        "            if any(isinstance(verdict, Agrees) for verdict in verdicts.values()):",
        "            if True:",
        PROXY,
    ),
    Defect(
        "a light client serves on after two chains were proved",
        "node/light/follower.py",
        "        self.diverged = divergence\n",
        "",
        PROXY,
    ),
    Defect(
        "a transaction's place is the node's word",
        "node/light/answers.py",
        'if proof.total != len(results) - 2 or proof.index != part(answer, "index"):',
        "if False:",
        PROXY,
    ),
    Defect(
        "a block's transactions are not hashed",
        "node/light/answers.py",
        "if tuple(sha256(body) for body in bodies) != block.transaction_ids:",
        "if False:",
        PROXY,
    ),
    Defect(
        "a stepping stone is answered as part of the chain",
        "node/light/follower.py",
        "        self.blocks.add(end)\n",
        "        for step in way[1:]:\n            self.blocks.add(step.trusted)  # type: ignore[arg-type]\n",
        ("tests/node/test_light_forged_way.py",),
    ),
)
