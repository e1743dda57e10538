"""A chain state that is restored from a header and leaf ``chain`` is the very one that executing the chain gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.chain import chain_changes, without_priorities
from consensus.codec import BadMessage
from consensus.params import HOUR_MS, TINY
from consensus.restored import chain_state_from, members_in
from consensus.validators import ValidatorSet
from tests.consensus.chain_builder import GENESIS_HASH, Chain, update

AGING = TINY.replaced(
    heartbeat_ms=1_000, evidence_age_ms=2 * HOUR_MS, trusting_period_ms=HOUR_MS, evidence_age_blocks=3
)


def leaf_after(chain: Chain) -> dict[bytes, bytes]:
    """All entries of leaf ``chain`` after the latest block."""
    leaf: dict[bytes, bytes] = {}
    for parent, following in zip([None, *chain.states], chain.states, strict=False):
        for key, value in chain_changes(parent, following).items():
            if value is None:
                leaf.pop(key, None)
            else:
                leaf[key] = value
    return leaf


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1_000, HOUR_MS // 2, 3 * HOUR_MS]),
            st.dictionaries(st.integers(4, 7), st.integers(1, 9), max_size=2),
            st.sampled_from([None, 500, 2_000]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_restored_is_what_execution_gives(history: list[tuple[int, dict[int, int], int | None]]) -> None:
    """Whatever changed on the way: sets that came and went, parameters, hours without a block."""
    chain = Chain(params=AGING)
    for wait_ms, powers, heartbeat_ms in history:
        chain.extend(
            time_ms=chain.state.time_ms + wait_ms,
            updates=[update(number, power) for number, power in powers.items()],
            params=None if heartbeat_ms is None else AGING.replaced(heartbeat_ms=heartbeat_ms),
        )
    restored = chain_state_from(
        chain.blocks[-1].header,
        genesis_hash=GENESIS_HASH,
        last_validators=without_priorities(chain.state.last_validators),
        entries=leaf_after(chain),
    )
    expected = replace(chain.state, last_validators=without_priorities(chain.state.last_validators))
    assert restored == expected
    following = chain.next_block(updates=[update(8, 3)])[1]
    assert chain_changes(restored, following) == chain_changes(chain.state, following)


def test_the_sets_that_evidence_can_rest_on_are_named_with_their_first_heights() -> None:
    """The present one is the last of them."""
    chain = Chain()
    chain.extend(2, updates=[])
    chain.extend(updates=[update(9, 4)])
    sets = dict(members_in(leaf_after(chain)))
    assert sets == {1: without_priorities(chain.genesis.validators), 4: without_priorities(chain.state.validators)}


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ("last", "bad_message.validators"),
        ("set", "bad_message.validators"),
        ("missing", "bad_message.snapshot"),
    ],
)
def test_what_does_not_belong_to_the_header_is_refused(lie: str, code: str) -> None:
    """A set of another hash, or a leaf without a set."""
    chain = Chain()
    chain.extend(3)
    entries, last = leaf_after(chain), chain.state.last_validators
    if lie == "last":
        last = ValidatorSet.of([update(9, 1)])
    elif lie == "set":
        other = Chain((7,))
        entries |= leaf_after(other)
    else:
        del entries[b"set\x00"]
    with pytest.raises(BadMessage) as refusal:
        chain_state_from(chain.blocks[-1].header, genesis_hash=GENESIS_HASH, last_validators=last, entries=entries)
    assert refusal.value.code == code
