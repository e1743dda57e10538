"""Who gives way when all inbound places are taken: never those whom an attacker can't imitate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p.eviction import Candidate, to_evict

SECRET = b"s" * 32


def candidate(
    number: int, group: str, at: float, *, trip: float | None = 50.0, useful: dict[str, float] | None = None
) -> Candidate:
    return Candidate(number.to_bytes(32, "big"), group, at, trip, useful or {})


def attackers(count: int, *, groups: int = 5, first: int = 1_000, at: float = 100.0) -> list[Candidate]:
    """Connected by turns from *groups* networks, all at the same distance, and useful to nobody."""
    return [candidate(first + number, f"6.{number % groups}.0.0/16", at + number) for number in range(count)]


def evicted_in_turn(candidates: list[Candidate], times: int) -> set[bytes]:
    """Who went while so many attackers from one more network came one after the other."""
    gone: set[bytes] = set()
    left = list(candidates)
    for turn in range(times):
        chosen = to_evict(left, secret=SECRET)
        if chosen is None:
            break
        gone.add(chosen)
        left = [each for each in left if each.node_id != chosen]
        left.append(candidate(50_000 + turn, "7.7.0.0/16", 1_000.0 + turn, trip=1.0))
    return gone


def test_whoever_fills_all_places_from_few_networks_gives_way_himself() -> None:
    honest = [candidate(number, f"80.{number}.0.0/16", 500.0 + number) for number in range(3)]
    chosen = to_evict(attackers(37) + honest, secret=SECRET)
    assert chosen is not None
    assert int.from_bytes(chosen, "big") >= 1_000


def test_a_flood_never_displaces_those_that_were_useful_near_or_long_there() -> None:
    useful = [
        candidate(number, "9.9.0.0/16", 900.0, useful={kind: 950.0 + number})
        for number, kind in enumerate(("consensus", "consensus", "transactions", "transactions", "sync", "sync"))
    ]
    near = [candidate(10 + number, "9.9.0.0/16", 901.0, trip=0.1) for number in range(4)]
    old = [candidate(20 + number, "9.9.0.0/16", float(number)) for number in range(5)]
    gone = evicted_in_turn(attackers(25) + useful + near + old, 500)
    assert not gone & {each.node_id for each in (*useful, *near, *old)}
    assert len(gone) == 500


def test_among_equals_the_youngest_of_the_most_crowded_network_goes() -> None:
    crowd = [candidate(number, "6.6.0.0/16", float(number), trip=None) for number in range(10)]
    others = [candidate(100 + number, f"80.{number}.0.0/16", number - 50.0, trip=None) for number in range(10)]
    assert to_evict(crowd + others, secret=SECRET) in {each.node_id for each in crowd}


def test_where_everybody_is_kept_for_a_reason_nobody_goes() -> None:
    one = candidate(1, "a", 1.0)
    assert to_evict([one], secret=SECRET) is None
    assert to_evict([one, candidate(2, "b", 2.0, useful={"sync": 2.0})], secret=SECRET) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.floats(0, 1_000),
            st.none() | st.floats(0, 500),
            st.dictionaries(st.sampled_from(["consensus", "sync", "transactions"]), st.floats(0, 1_000)),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_who_goes_is_one_of_them_and_never_the_longest_connected(
    rows: list[tuple[int, float, float | None, dict[str, float]]],
) -> None:
    candidates = [
        candidate(number, f"6.{group}.0.0/16", at, trip=trip, useful=useful)
        for number, (group, at, trip, useful) in enumerate(rows)
    ]
    chosen = to_evict(candidates, secret=SECRET)
    assert chosen == to_evict(list(reversed(candidates)), secret=SECRET), "the order of asking does not matter"
    if len(candidates) > 8:
        assert chosen is not None, "a newcomer gets in"
    if chosen is not None:
        (gone,) = (each for each in candidates if each.node_id == chosen)
        if len(candidates) > 8:
            others = [each.connected_at for each in candidates if each is not gone]
            assert min(others) <= gone.connected_at, "half of those without another reason stay for their age"
