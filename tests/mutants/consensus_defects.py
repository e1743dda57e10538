"""What could be wrong in `consensus/`."""

from __future__ import annotations

from tests.mutants.defect import WORLDS, Defect

MACHINE = (
    "tests/consensus/test_machine_votes.py",
    "tests/consensus/test_machine_rounds.py",
    "tests/consensus/test_machine_decisions.py",
)
TALLY = ("tests/consensus/test_tally.py",)
VALIDATORS = ("tests/consensus/test_validators.py",)
VALIDITY = ("tests/consensus/test_validity.py",)
EVIDENCE = ("tests/consensus/test_evidence.py",)
LIGHT = ("tests/consensus/test_light.py",)

_MACHINE_PY, _TALLY_PY, _VALIDITY_PY = "consensus/machine.py", "consensus/tally.py", "consensus/validity.py"
_VALIDATORS_PY, _LIGHT_PY = "consensus/validators.py", "consensus/light.py"

RULES = (
    Defect(
        "a locked validator prevotes any fresh block (L23)",
        _MACHINE_PY,
        "free = self.locked_round == -1 or self.locked_block_id == block_id  # L23",
        "free = True",
        MACHINE,
    ),
    Defect(
        "a lock gives way to an older polka (L29)",
        _MACHINE_PY,
        "free = self.locked_round <= pol_round or self.locked_block_id == block_id  # L29",
        "free = True",
        MACHINE,
    ),
    Defect(
        "a lock never gives way to a later polka (L29)",
        _MACHINE_PY,
        "free = self.locked_round <= pol_round or self.locked_block_id == block_id  # L29",
        "free = self.locked_round == -1 or self.locked_block_id == block_id",
        MACHINE,
    ),
    Defect(
        "a POL round is believed without its polka (L28)",
        _MACHINE_PY,
        "and self.tally.has_quorum(pol_round, PREVOTE, block_id):",
        "and True:",
        MACHINE,
    ),
    Defect(
        "the polka of the round itself stands for an earlier one (L28)",
        _MACHINE_PY,
        "0 <= pol_round < self.round and",
        "0 <= pol_round <= self.round and",
        MACHINE,
    ),
    Defect(
        "a polka is taken up before our own prevote (L36)",
        _MACHINE_PY,
        "if self.step < Step.PREVOTE or self._polka_seen:",
        "if self._polka_seen:",
        MACHINE,
    ),
    Defect(
        "a polka locks in the step PRECOMMIT too (L37)",
        _MACHINE_PY,
        "locks = self.step is Step.PREVOTE  # L37",
        "locks = True",
        MACHINE,
    ),
    Defect(
        "a precommit leaves no lock (L38)",
        _MACHINE_PY,
        "self.locked_block_id, self.locked_round = block_id, self.round  # L38, L39",
        "pass",
        (*MACHINE, WORLDS),
    ),
    Defect(
        "the valid value is that of the lock only (L42)",
        _MACHINE_PY,
        "self.valid_block_id, self.valid_round = block_id, self.round  # L42, L43\n        if locks:",
        "if locks:\n            self.valid_block_id, self.valid_round = block_id, self.round",
        MACHINE,
    ),
    Defect(
        "a proposer forgets the valid value (L15)",
        _MACHINE_PY,
        "if self.valid_block_id is not None:  # L15, L16, L19",
        "if False:",
        MACHINE,
    ),
    Defect(
        "an untimely block gets a prevote (L22)",
        _MACHINE_PY,
        "event.valid and event.timely and free",
        "event.valid and free",
        MACHINE,
    ),
    Defect(
        "an invalid block with a polka gets a prevote (L29)",
        _MACHINE_PY,
        "self._prevote(block_id if event.valid and free else None)  # L30, L32",
        "self._prevote(block_id if free else None)",
        MACHINE,
    ),
    Defect(
        "after the propose timeout the lock is voted for (L59)",
        _MACHINE_PY,
        "self._prevote(None)  # L59, L60",
        "self._prevote(self.locked_block_id)",
        MACHINE,
    ),
    Defect(
        "a round is left out after the precommit timeout (L67)",
        _MACHINE_PY,
        "self._start_round(self.round + 1)  # L67",
        "self._start_round(self.round + 2)",
        MACHINE,
    ),
    Defect(
        "only the current round decides (L49)",
        _MACHINE_PY,
        "if self.tally.commit is None or self.tally.commit[1] not in self._validity:",
        "if (self.tally.commit or (-9,))[0] != self.round or self.tally.commit[1] not in self._validity:",
        MACHINE,
    ),
    Defect(
        "an invalid block is decided (L50)", _MACHINE_PY, "if self._validity[block_id]:  # L50", "if True:", MACHINE
    ),
    Defect(
        "a vote cast before a restart is cast again",
        _MACHINE_PY,
        "if self._own is not None and self.tally.vote(self.round, kind, self._own) is None:",
        "if self._own is not None:",
        MACHINE,
    ),
)

COUNTING = (
    Defect(
        "two thirds are a quorum",
        _TALLY_PY,
        "return 3 * self._power.get(block_id, 0) > 2 * self._total_power",
        "return 3 * self._power.get(block_id, 0) >= 2 * self._total_power",
        TALLY,
    ),
    Defect(
        "two thirds are a quorum of any",
        _TALLY_PY,
        "return 3 * self._power_any > 2 * self._total_power",
        "return 3 * self._power_any >= 2 * self._total_power",
        TALLY,
    ),
    Defect(
        "one third is enough to skip a round (L55)",
        _TALLY_PY,
        "if 3 * sum(self._power[s] for s in senders) > total]",
        "if 3 * sum(self._power[s] for s in senders) >= total]",
        TALLY,
    ),
    Defect(
        "the lowest round is skipped to (L55)",
        _TALLY_PY,
        "return max(enough, default",
        "return min(enough, default",
        TALLY,
    ),
    Defect(
        "the same vote counts twice",
        _TALLY_PY,
        "if any(known.block_id == vote.block_id for known in kept):",
        "if False:",
        TALLY,
    ),
    Defect(
        "an equivocator counts twice towards any",
        _TALLY_PY,
        "        if not kept:\n            self._power_any += power",
        "        self._power_any += power",
        TALLY,
    ),
    Defect("only a first vote counts (decision 18)", _TALLY_PY, "CONFLICTING_FREE = 2", "CONFLICTING_FREE = 1", TALLY),
    Defect(
        "two thirds of a set are a quorum",
        _VALIDATORS_PY,
        "return 3 * power > 2 * self.total_power",
        "return 3 * power >= 2 * self.total_power",
        VALIDATORS,
    ),
    Defect(
        "priorities are divided downward",
        _VALIDATORS_PY,
        "priorities[index] = priority // ratio if priority >= 0 else -(-priority // ratio)",
        "priorities[index] = priority // ratio",
        VALIDATORS,
    ),
    Defect(
        "who leaves and comes back owes no turns",
        _VALIDATORS_PY,
        "newcomer_priority = -(before_removals + (before_removals >> 3))",
        "newcomer_priority = 0",
        VALIDATORS,
    ),
    Defect(
        "a tie goes to the higher address",
        _VALIDATORS_PY,
        "winner = min(range(len(powers)), key=lambda index: (-priorities[index], addresses[index]))",
        "winner = max(range(len(powers)), key=lambda index: (priorities[index], addresses[index]))",
        VALIDATORS,
    ),
)

FACTS = (
    Defect(
        "votes for nil stand in a commit unverified",
        _VALIDITY_PY,
        "        if entry is not None:\n            holds = ",
        "        if entry is not None and entry.for_block:\n            holds = ",
        VALIDITY,
    ),
    Defect(
        "a commit needs no quorum",
        _VALIDITY_PY,
        'validators.has_two_thirds(power), "commit_power"',
        'True, "commit_power"',
        VALIDITY,
    ),
    Defect(
        "a block may come before the block delay is over",
        _VALIDITY_PY,
        'header.time_ms >= earliest_ms, "time"',
        'header.time_ms >= parent.time_ms, "time"',
        VALIDITY,
    ),
    Defect(
        "a transaction may stand twice in a block",
        _VALIDITY_PY,
        'len(set(ids)) == len(ids), "duplicate_transaction"',
        'True, "duplicate_transaction"',
        VALIDITY,
    ),
    Defect(
        "a block may have a byte too many",
        _VALIDITY_PY,
        "size <= params.block_bytes_max, ",
        "size <= params.block_bytes_max + 1, ",
        VALIDITY,
    ),
    Defect(
        "evidence of another round convicts",
        "consensus/evidence.py",
        "return vote.validator, vote.kind, vote.height, vote.round",
        "return vote.validator, vote.kind, vote.height",
        EVIDENCE,
    ),
    Defect(
        "evidence expires by time alone",
        "consensus/evidence.py",
        "< time_ms and found_height",
        "< time_ms or found_height",
        EVIDENCE,
    ),
    Defect(
        "evidence counts only while it is young in time and in blocks",
        "consensus/evidence.py",
        "return min(young_in_blocks, mark.height)",
        "return max(young_in_blocks, mark.height)",
        EVIDENCE,
    ),
    Defect(
        "a lie at the height of a conviction is punished again",
        "consensus/evidence.py",
        "if height <= convicted_at:",
        "if height < convicted_at:",
        EVIDENCE,
    ),
    Defect(
        "a block may convict a validator twice",
        "consensus/evidence.py",
        "if accused != sorted(set(accused)):",
        "if accused != sorted(accused):",
        EVIDENCE,
    ),
    Defect(
        "evidence is judged by the set after its height",
        "consensus/evidence.py",
        'leaf_key("members", height + 1), reverse=True',
        'leaf_key("members", height + 2), reverse=True',
        EVIDENCE,
    ),
    Defect(
        "one true signature is enough for a conviction",
        "consensus/evidence.py",
        "if not all(vote.verify(",
        "if not any(vote.verify(",
        EVIDENCE,
    ),
    Defect(
        "a header is skipped to on nobody's word",
        _LIGHT_PY,
        "enough = known.has_one_third(power)",
        "enough = True",
        LIGHT,
    ),
    Defect("trust outlives its period", _LIGHT_PY, "now_ms < expiry_ms,", "now_ms <= expiry_ms,", LIGHT),
    Defect(
        "an adjacent header may have another parent",
        _LIGHT_PY,
        "_require(header.last_block_id == trusted.block_id,",
        "_require(True,",
        LIGHT,
    ),
    Defect(
        "a leaf proves that it is absent",
        "consensus/jellyfish.py",
        "key_hash != path and common_bits(key_hash, path) >= len(proof.siblings)",
        "common_bits(key_hash, path) >= len(proof.siblings)",
        ("tests/consensus/test_jellyfish.py",),
    ),
    Defect(
        "a value is proved under another key",
        "consensus/jellyfish.py",
        "if (key_hash, value_hash) == (path, sha256(value)) else None",
        "if value_hash == sha256(value) else None",
        ("tests/consensus/test_jellyfish.py",),
    ),
    Defect(
        "a path may be too short for its tree",
        "consensus/merkle.py",
        "return last == 0 and node == root",
        "return node == root",
        ("tests/consensus/test_merkle.py",),
    ),
    Defect(
        "bytes have two readings",
        "consensus/codec.py",
        "if _pack(value) != data:",
        "if False:",
        ("tests/consensus/test_codec.py",),
    ),
    Defect(
        "a signature for one purpose holds for another",
        "consensus/signing.py",
        'encode((f"allting/{kind}/1", chain_id, None))',
        'encode(("allting/1", chain_id, None))',
        ("tests/consensus/test_signing.py",),
    ),
)

DEFECTS = (*RULES, *COUNTING, *FACTS)
