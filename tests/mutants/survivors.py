"""Changes to ``consensus/`` that no test notices, and why that is right: function and new line → reason."""

from __future__ import annotations

WORDS = "Only the words of a refusal differ: its code is what callers rely on, and what tests look at."
LENGTHS = "A second look: that both have one length was checked, or follows from where they come from."
ONE_CODEC = "One codec by two names."
BIG_ENDIAN = "The default order of bytes is the same."
FALSE = "Both are false."
LATER_RULES = (
    "What the rule enables stands below it in the list, so that it fires in the same pass, or waits for an input."
)
BEFORE_A_ROUND = "No round has begun: `_start_round` sets it before anything reads it."
MESSAGEPACK = "MessagePack refuses it a moment later, with the same code and without making room."
STRINGS = "That byte is a string's, and was taken by the branch above."
CANONICAL = "Whether the next block carries this very commit is not asked of what was signed."
SLOWER = "Only slower: what is right as it stands is read all the same, and comes back as it was."
CONSTRUCTED = "Only slower: the constructor is called where the slots could have been filled."
LINE_OF_A_LIST = "The words of a refusal, on a line of their own."

SURVIVORS: dict[tuple[str, str], str] = {
    (
        "consensus.application.State.scan",
        "self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = True",
    ): ("A protocol: nobody calls this one, and whoever implements it has a default of its own."),
    (
        "consensus.light_attack.LightClientAttack.verify_signed",
        "check_signed(common, LightBlock(self.header, self.commit, canonical=None), self.validators)",
    ): (CANONICAL),
    (
        "consensus.light_attack.LightClientAttack.verify_signed",
        "check_signed(common, LightBlock(self.header, self.commit, canonical=True), self.validators)",
    ): (CANONICAL),
    (
        "consensus.transaction.Transaction.decode",
        "if len(body.signers) >= 1 and list(body.signers) != sorted(set(body.signers)):",
    ): ("One signer stands in order, and once."),
    ("consensus.address.module_address", 'return address_of("module", name.encode("ASCII"))'): ONE_CODEC,
    (
        "consensus.chain._hours_to_forget",
        "return iter(range(_first_hour(parent), min(kept_since, parent.time_ms // HOUR_MS + 2)))",
    ): ("Deletes one more hour, which has no entry."),
    ("consensus.chain._first_hour", "return max(1, (state.time_ms - state.params.evidence_age_ms) // HOUR_MS)"): (
        "No chain begins in the first hour of 1970."
    ),
    ("consensus.validity.verify_commit", "None,"): LINE_OF_A_LIST,
    ("consensus.validity.verify_commit", "for validator, entry in zip(members, commit.entries, strict=None)"): LENGTHS,
    ("consensus.validity.verify_commit", "for validator, entry in zip(members, commit.entries, )"): LENGTHS,
    ("consensus.validity.verify_commit", "for validator, entry in zip(members, commit.entries, strict=False)"): LENGTHS,
    ("consensus.codec.decode", "value = msgpack.unpackb(data, use_list=None)"): FALSE,
    ("consensus.codec.decode_own", "value: Wire = msgpack.unpackb(data, use_list=None)"): FALSE,
    ("consensus.codec.decode", r'if data.count(b"\xdc") + data.count(b"\xdd") >= DEPTH_MAX:'): (
        "Looks closer at what needs no closer look."
    ),
    ("consensus.codec._refuse_bomb", "if first <= 0x80 or first >= 0xE0:"): MESSAGEPACK,
    ("consensus.codec._refuse_bomb", "if first < 129 or first >= 0xE0:"): MESSAGEPACK,
    ("consensus.codec._refuse_bomb", "if 0xA0 <= first <= 0xC0:"): (
        "Nil is taken for a string of no bytes: both have none that follow."
    ),
    ("consensus.codec._refuse_bomb", "if 0xA0 <= first < 193:"): (
        "Nil is taken for a string of no bytes: both have none that follow."
    ),
    ("consensus.codec._refuse_bomb", "at += width + int.from_bytes(data[at : at + width], )"): BIG_ENDIAN,
    ("consensus.codec._refuse_bomb", "elif 0x90 <= first <= 0xA0 or first in _ARRAY_LENGTH_BYTES:"): STRINGS,
    ("consensus.codec._refuse_bomb", "elif 0x90 <= first < 161 or first in _ARRAY_LENGTH_BYTES:"): STRINGS,
    (
        "consensus.codec._refuse_bomb",
        "missing.append(int.from_bytes(data[at : at + width], ) if width else first & 0x0F)",
    ): (BIG_ENDIAN),
    ("consensus.codec._refuse_bomb", "if missing[+1] > size - at:"): MESSAGEPACK,
    ("consensus.codec._refuse_bomb", "if missing[-2] > size - at:"): MESSAGEPACK,
    ("consensus.codec._refuse_bomb", "if missing[-1] > size + at:"): MESSAGEPACK,
    ("consensus.codec._refuse_bomb", "if len(missing) > DEPTH_MAX + 2:"): (
        "`_check` refuses the one level more, with the same code."
    ),
    (
        "consensus.evidence.Past.validators_at",
        'rows = self._state.scan(LEAF, leaf_key("members", ), leaf_key("members", height + 1), reverse=True)',
    ): ("No key lies between the table's name and its first height."),
    (
        "consensus.evidence.Past.validators_at",
        'rows = self._state.scan(LEAF, leaf_key("members", 1), leaf_key("members", height + 1), reverse=True)',
    ): ("The first set is that of height 1."),
    ("consensus.evidence.Past.convicted_at", "return -2"): "Below every height, as -1 is.",
    ("consensus.evidence.Past.convicted_at", "height = decode(row, bytes_max=17)"): (
        "A height has nine bytes at most."
    ),
    ("consensus.evidence.Past.require_counts", "text = None"): WORDS,
    ("consensus.evidence.Past.require_counts", "raise Uncounted(PUNISHED, None)"): WORDS,
    (
        "consensus.jellyfish.common_bits",
        'return DEPTH_MAX - (int.from_bytes(first, ) ^ int.from_bytes(second, "big")).bit_length()',
    ): (BIG_ENDIAN),
    (
        "consensus.jellyfish.common_bits",
        'return DEPTH_MAX - (int.from_bytes(first, "big") ^ int.from_bytes(second, )).bit_length()',
    ): (BIG_ENDIAN),
    ("consensus.jellyfish._end_of_path", "if len(key_hash) != len(EMPTY) and len(value_hash) != len(EMPTY):"): (
        "With one wrong length a leaf is hashed from another number of bytes than any of a tree: no root has it."
    ),
    ("consensus.light._check_clock", "None,"): LINE_OF_A_LIST,
    (
        "consensus.light._check_trust_level",
        "for address, entry in zip(validators.addresses, commit.entries, strict=None):",
    ): (LENGTHS),
    ("consensus.light._check_trust_level", "for address, entry in zip(validators.addresses, commit.entries, ):"): (
        LENGTHS
    ),
    (
        "consensus.light._check_trust_level",
        "for address, entry in zip(validators.addresses, commit.entries, strict=False):",
    ): (LENGTHS),
    (
        "consensus.light_attack.LightClientAttack._signers",
        "for address, entry in zip(self.validators.addresses, self.commit.entries, strict=None):",
    ): (LENGTHS),
    (
        "consensus.light_attack.LightClientAttack._signers",
        "for address, entry in zip(self.validators.addresses, self.commit.entries, ):",
    ): (LENGTHS),
    (
        "consensus.light_attack.LightClientAttack._signers",
        "for address, entry in zip(self.validators.addresses, self.commit.entries, strict=False):",
    ): (LENGTHS),
    ("consensus.light_attack._votes", "for address, entry in zip(members.addresses, commit.entries, strict=None):"): (
        LENGTHS
    ),
    ("consensus.light_attack._votes", "for address, entry in zip(members.addresses, commit.entries, ):"): LENGTHS,
    ("consensus.light_attack._votes", "for address, entry in zip(members.addresses, commit.entries, strict=False):"): (
        LENGTHS
    ),
    ("consensus.light_witness.examine", "return Lies(None)"): WORDS,
    ("consensus.light_witness._first_conflict", "if height >= top_height:"): (
        "At the height of its latest block the witness contradicts us, or it would not be examined."
    ),
    (
        "consensus.light_witness._first_conflict",
        'raise BadLightBlock(None, f"height {height} was asked for, height {shown.height} was shown")',
    ): ("It becomes a verdict, of which only the sentence is kept."),
    (
        "consensus.light_witness._first_conflict",
        'raise BadLightBlock("XXlight.heightXX", f"height {height} was asked for, height {shown.height} was shown")',
    ): ("It becomes a verdict, of which only the sentence is kept."),
    (
        "consensus.light_witness._first_conflict",
        'raise BadLightBlock("LIGHT.HEIGHT", f"height {height} was asked for, height {shown.height} was shown")',
    ): ("It becomes a verdict, of which only the sentence is kept."),
    ("consensus.machine.Machine.__init__", "self._building = None"): BEFORE_A_ROUND,
    ("consensus.machine.Machine.__init__", "self._building = True"): BEFORE_A_ROUND,
    (
        "consensus.machine.Machine.__init__",
        "self._polka_seen = self._prevote_timer_started = self._precommit_timer_started = None",
    ): (BEFORE_A_ROUND),
    (
        "consensus.machine.Machine.__init__",
        "self._polka_seen = self._prevote_timer_started = self._precommit_timer_started = True",
    ): (BEFORE_A_ROUND),
    (
        "consensus.machine.Machine._forget_proposals_ahead",
        "for round_ in [ahead for ahead in self._proposals if ahead >= self.round]:",
    ): ("Of the current round everything is kept (`Tally.keeps`)."),
    ("consensus.machine.Machine._fetches", "return False"): LATER_RULES,
    ("consensus.machine.Machine._skips_rounds", "return False"): LATER_RULES,
    ("consensus.machine.Machine._begins", "return False"): LATER_RULES,
    ("consensus.machine.Machine._prevotes_fresh", "return False"): LATER_RULES,
    ("consensus.machine.Machine._prevotes_again", "return False"): LATER_RULES,
    ("consensus.machine.Machine._sees_polka", "return False"): LATER_RULES,
    ("consensus.machine.Machine._sees_polka_for_nil", "return False"): LATER_RULES,
    ("consensus.machine.Machine._sees_prevotes_of_any", "return False"): LATER_RULES,
    ("consensus.machine.Machine._sees_precommits_of_any", "return False"): LATER_RULES,
    ("consensus.machine.Machine._sees_polka", "if block_id is None or not self._validity.get(block_id, None):"): (
        FALSE
    ),
    ("consensus.machine.Machine._sees_polka", "if block_id is None or not self._validity.get(block_id, ):"): FALSE,
    (
        "consensus.machine.Machine._start_round",
        "self._building = self._polka_seen = self._prevote_timer_started = self._precommit_timer_started = None",
    ): (FALSE),
    ("consensus.machine.Machine._propose_built", "self._building = None"): FALSE,
    ("consensus.params.Params.check", "if not 1 <= getattr(self, field.name) < 2**53 - 1:"): (
        "Every parameter has a smaller bound of its own."
    ),
    ("consensus.params.Params.check", "if not 1 <= getattr(self, field.name) <= 2**53 - 2:"): (
        "Every parameter has a smaller bound of its own."
    ),
    ("consensus.params.Params.check", "self.transaction_weight_max <= self.block_weight_max / 2,"): (
        "The same, of integers."
    ),
    (
        "consensus.restored.chain_state_from",
        "set_since = max((since for since, _ in members_in(entries)), default=None)",
    ): ("A proved leaf has a set."),
    ("consensus.restored.chain_state_from", "set_since = max((since for since, _ in members_in(entries)), )"): (
        "A proved leaf has a set."
    ),
    (
        "consensus.restored.chain_state_from",
        "set_since = max((since for since, _ in members_in(entries)), default=2)",
    ): ("A proved leaf has a set."),
    ("consensus.restored.members_in", "yield since, from_bytes(ValidatorSet, value, )"): (
        "What a proof brought has its bound already."
    ),
    ("consensus.restored._table", "yield int.from_bytes(key[len(prefix) :], ), entries[key]"): BIG_ENDIAN,
    ("consensus.restored._entry", "return from_bytes(kind, value, )"): "What a proof brought has its bound already.",
    ("consensus.tally.Tally.__init__", "self.round = -2"): "Below every round, as -1 is.",
    ("consensus.tally.Tally.__init__", "self._power = dict(zip(validators.addresses, powers, strict=None))"): LENGTHS,
    ("consensus.tally.Tally.__init__", "self._power = dict(zip(validators.addresses, powers, ))"): LENGTHS,
    ("consensus.tally.Tally.__init__", "self._power = dict(zip(validators.addresses, powers, strict=False))"): (
        LENGTHS
    ),
    ("consensus.tally.Tally.keeps", "return round_ < self.round or validator in self._heard.get(round_, ())"): (
        "It is asked of rounds above the current one only."
    ),
    ("consensus.params.Params.check", '"XXtrusting_period_ms must be less than two thirds of evidence_age_msXX",'): (
        LINE_OF_A_LIST
    ),
    ("consensus.params.Params.check", '"XXtransaction_weight_max must fit in half a blockXX",'): (LINE_OF_A_LIST),
    (
        "consensus.params.Params.check",
        '"XXblock_bytes_max must hold a full commit, one piece of evidence and the largest transactionXX",',
    ): (LINE_OF_A_LIST),
    (
        "consensus.params.Params.check",
        '"XXblock_weight_max must be executed in a quarter of propose_timeout_ms (50,000 a millisecond)XX",',
    ): (LINE_OF_A_LIST),
    ("consensus.params.Params.check", '"XXsnapshot_interval_blocks must not exceed 10,000XX",'): (LINE_OF_A_LIST),
    (
        "consensus.jellyfish.module_leaf",
        'name = module.module.encode("UTF-8")  # ASCII in a valid block; at most 160 bytes in any other',
    ): (ONE_CODEC),
    ("consensus.leaf.leaf_key", 'return table.encode("ASCII") + b"\\x00" + b"".join(map(_part, parts))'): (ONE_CODEC),
    (
        "consensus.leaf._part",
        'return part.to_bytes(8, ) if isinstance(part, int) else len(part).to_bytes(2, "big") + part',
    ): (BIG_ENDIAN),
    (
        "consensus.leaf._part",
        'return part.to_bytes(8, "big") if isinstance(part, int) else len(part).to_bytes(2, ) + part',
    ): (BIG_ENDIAN),
    ("consensus.merkle._level_above", "pairs = zip(level[::2], level[1::2], strict=None)"): (FALSE),
    ("consensus.merkle._level_above", "pairs = zip(level[::2], level[1::2], )"): (FALSE),
    ("consensus.validators.ValidatorSet._with_priorities", "pairs = zip(self.validators, priorities, strict=None)"): (
        LENGTHS
    ),
    (
        "consensus.validity.commit_from_votes",
        "for address, validator in zip(validators.addresses, validators.validators, strict=None):",
    ): (LENGTHS),
    (
        "consensus.record_reader.record_reader",
        '*(f"        {_step(field, x, place)}" for place, (field, x) in enumerate(zip(fields, places, strict=None))),',
    ): (LENGTHS),
    (
        "consensus.shape._tuple",
        "return tuple(shape.from_wire(item) for shape, item in zip(shapes, value, strict=None))",
    ): (LENGTHS),
    (
        "consensus.shape._tuple",
        "return Shape(lambda value: tuple(shape.to_wire(item) for shape, item in zip(shapes, value, strict=None)), "
        "from_wire)",
    ): (LENGTHS),
    (
        "consensus.shape._record",
        "fields = [Field(name, shape.from_wire, shape.plain) for name, shape in zip(names, shapes, strict=None)]",
    ): (LENGTHS),
    ("consensus.shape.constructor_of", "return lambda values: kind(**dict(zip(names, values, strict=None)))"): (
        LENGTHS
    ),
    ("consensus.validators.ValidatorSet._with_priorities", "pairs = zip(self.validators, priorities, )"): (LENGTHS),
    (
        "consensus.validity.commit_from_votes",
        "for address, validator in zip(validators.addresses, validators.validators, ):",
    ): (LENGTHS),
    (
        "consensus.record_reader.record_reader",
        '*(f"        {_step(field, x, place)}" for place, (field, x) in enumerate(zip(fields, places, ))),',
    ): (LENGTHS),
    ("consensus.shape._tuple", "return tuple(shape.from_wire(item) for shape, item in zip(shapes, value, ))"): (
        LENGTHS
    ),
    (
        "consensus.shape._tuple",
        "return Shape(lambda value: tuple(shape.to_wire(item) for shape, item in zip(shapes, value, )), from_wire)",
    ): (LENGTHS),
    (
        "consensus.shape._record",
        "fields = [Field(name, shape.from_wire, shape.plain) for name, shape in zip(names, shapes, )]",
    ): (LENGTHS),
    ("consensus.shape.constructor_of", "return lambda values: kind(**dict(zip(names, values, )))"): (LENGTHS),
    ("consensus.validators.ValidatorSet._with_priorities", "pairs = zip(self.validators, priorities, strict=False)"): (
        LENGTHS
    ),
    (
        "consensus.validity.commit_from_votes",
        "for address, validator in zip(validators.addresses, validators.validators, strict=False):",
    ): (LENGTHS),
    (
        "consensus.record_reader.record_reader",
        '*(f"        {_step(field, x, place)}" for place, (field, x) in enumerate(zip(fields, places, strict=False))),',
    ): (LENGTHS),
    (
        "consensus.shape._tuple",
        "return tuple(shape.from_wire(item) for shape, item in zip(shapes, value, strict=False))",
    ): (LENGTHS),
    (
        "consensus.shape._tuple",
        "return Shape(lambda value: tuple(shape.to_wire(item) for shape, item in zip(shapes, value, strict=False)), "
        "from_wire)",
    ): (LENGTHS),
    (
        "consensus.shape._record",
        "fields = [Field(name, shape.from_wire, shape.plain) for name, shape in zip(names, shapes, strict=False)]",
    ): (LENGTHS),
    ("consensus.shape.constructor_of", "return lambda values: kind(**dict(zip(names, values, strict=False)))"): (
        LENGTHS
    ),
    ("consensus.validators._rescale", "if spread >= window:"): ("Divides by 1."),
    (
        "consensus.validators._rescale",
        "priorities[index] = priority // ratio if priority > 0 else -(-priority // ratio)",
    ): ("0 is divided either way."),
    (
        "consensus.validators._rescale",
        "priorities[index] = priority // ratio if priority >= 1 else -(-priority // ratio)",
    ): ("0 is divided either way."),
    ("consensus.record_reader._step", "if field.plain:"): (SLOWER),
    (
        "consensus.shape._marked",
        "return Shape(_same, _same, None) if bound is None else Shape(_same, _encoded(bound))",
    ): (SLOWER),
    ("consensus.shape._marked", "return Shape(_same, _same, ) if bound is None else Shape(_same, _encoded(bound))"): (
        SLOWER
    ),
    ("consensus.shape._marked", "plain = None"): (SLOWER),
    ("consensus.shape._marked", "return Shape(_same, _integer(mark.low, mark.high), None)"): (SLOWER),
    ("consensus.shape._marked", "return Shape(_same, _integer(mark.low, mark.high), )"): (SLOWER),
    ("consensus.shape._marked", "return Shape(_same, _bytes(mark.low, high), None)"): (SLOWER),
    ("consensus.shape._marked", "return Shape(_same, _bytes(mark.low, high), )"): (SLOWER),
    ("consensus.shape._marked", "return Shape(_same, _text(mark.high), None)"): (SLOWER),
    ("consensus.shape._marked", "return Shape(_same, _text(mark.high), )"): (SLOWER),
    ("consensus.shape._marked", "high = mark.low if mark.high <= 0 else mark.high"): (
        "A size of no bytes, at most and at least."
    ),
    ("consensus.shape._marked", "high = mark.low if mark.high < 1 else mark.high"): (
        "A size of no bytes, at most and at least."
    ),
    ("consensus.shape._optional", "None,"): (SLOWER),
    ("consensus.shape._optional", ")"): (SLOWER),
    (
        "consensus.shape._optional",
        "_same if (inner_to is _same) and False else lambda value: None if value is None else inner_to(value),",
    ): ("Only slower: what goes to the wire as it is, is written."),
    ("consensus.shape._optional", 'inner.plain or f"{{x}} is None or ({inner.plain})",'): (
        "Only slower: nil is read all the same."
    ),
    (
        "consensus.shape._record",
        "fields = [Field(name, shape.from_wire, None) for name, shape in zip(names, shapes, strict=True)]",
    ): (SLOWER),
    ("consensus.shape.constructor_of", "fields = dataclasses.fields(cast(None, kind))"): ("A cast does nothing."),
    ("consensus.shape.constructor_of", "slotted = None"): (CONSTRUCTED),
    ("consensus.shape.constructor_of", "slotted = all(name in kind.__dict__.get(None, ()) for name in names)"): (
        CONSTRUCTED
    ),
    (
        "consensus.shape.constructor_of",
        'slotted = all(name in kind.__dict__.get("XX__slots__XX", ()) for name in names)',
    ): (CONSTRUCTED),
    ("consensus.shape.constructor_of", 'slotted = all(name in kind.__dict__.get("__SLOTS__", ()) for name in names)'): (
        CONSTRUCTED
    ),
    (
        "consensus.shape.constructor_of",
        'if len(names) <= len(fields) or not slotted or hasattr(kind, "__post_init__"):',
    ): (CONSTRUCTED),
    ("consensus.shape._fields_getter", "if len(names) > 2:"): ("Only slower: two names are looked up one by one."),
}
