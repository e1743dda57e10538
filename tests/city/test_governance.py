"""The town decides together, by exact numbers, and carries out what it decided, all or nothing."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from city.modules.coin import Output
from city.modules.governance import Choice, Rules, Status, Tally, outcome, recount, votes_in
from city.sdk import DAY_MS, PPM, TREASURY, module_address
from city.testing import Account, Town
from consensus.params import TINY
from consensus.transaction import Message

BODY = b"b" * 32
RULES = Rules(quorum=334_000, threshold=500_000, veto=334_000)


@pytest.fixture
def persons(town: Town) -> list[Account]:
    """Four persons: the registrar and three more, all with coins."""
    return [town.person(coins=1_000) for _ in range(3)] + [town.registrar]


def proposes(town: Town, who: Account, *messages: Message) -> int:
    who.sends("governance.propose", title="a question", body_hash=BODY, messages=messages)
    number: int = town.query("governance/list_proposals", limit=1_000)["rows"][-1]["key"]
    return number


def votes(who: Account, proposal: int, choice: Choice = Choice.YES) -> None:
    who.sends("governance.vote", proposal=proposal, choice=choice)


def status(town: Town, proposal: int) -> tuple[str, str]:
    found = town.query("governance/proposal", proposal=proposal)
    return found["status"], found["code"]


def test_what_passes_is_executed_with_the_towns_authority(town: Town, persons: list[Account]) -> None:
    town.govern("coin.mint", to=TREASURY, amount=500)
    beneficiary = town.stranger()
    number = proposes(
        town,
        persons[0],
        town.message("governance.set_param", module="coin", name="quota_weight", value=500_000),
        town.message("coin.pay_from_treasury", to=beneficiary, amount=500),
    )
    for person in persons[:3]:
        votes(person, number)
    assert town.query("governance/tally", proposal=number) == {"yes": 3, "no": 0, "abstain": 0, "veto": 0}
    assert persons[0].balance == 900
    town.passes(days=8)
    assert status(town, number) == ("executed", "")
    assert beneficiary.balance == 500
    assert persons[0].balance == 1_000


def test_a_message_that_refuses_undoes_the_others_and_the_proposal_failed(town: Town, persons: list[Account]) -> None:
    beneficiary = town.stranger()
    number = proposes(
        town,
        persons[0],
        town.message("coin.mint", to=beneficiary, amount=5),
        town.message("coin.pay_from_treasury", to=beneficiary, amount=1),
    )
    for person in persons[:3]:
        votes(person, number)
    town.passes(days=8)
    assert status(town, number) == ("failed", "coin.short")
    assert beneficiary.balance == 0
    assert persons[0].balance == 1_000


def test_a_question_without_messages_passes(town: Town, persons: list[Account]) -> None:
    number = proposes(town, persons[0])
    votes(persons[0], number)
    votes(persons[1], number)
    town.passes(days=8)
    assert status(town, number) == ("passed", "")


def test_a_veto_burns_the_deposit(town: Town, persons: list[Account]) -> None:
    before = town.query("coin/total")
    number = proposes(town, persons[0])
    votes(persons[0], number)
    votes(persons[1], number, Choice.VETO)
    town.passes(days=8)
    assert status(town, number) == ("vetoed", "")
    assert persons[0].balance == 900
    assert town.query("coin/total") == before - 100


def test_without_a_quorum_it_is_rejected_and_the_deposit_returns(town: Town, persons: list[Account]) -> None:
    number = proposes(town, persons[0])
    votes(persons[0], number)
    town.passes(days=8)
    assert status(town, number) == ("rejected", "")
    assert persons[0].balance == 1_000


def test_who_votes_again_changes_the_vote(town: Town, persons: list[Account]) -> None:
    number = proposes(town, persons[0])
    votes(persons[0], number, Choice.YES)
    votes(persons[0], number, Choice.NO)
    assert town.query("governance/tally", proposal=number) == {"yes": 0, "no": 1, "abstain": 0, "veto": 0}
    assert town.query("governance/vote_of", proposal=number, voter=persons[0].text) == "no"
    rows = town.query("governance/all_votes", proposal=number)["rows"]
    assert rows == [{"key": [number, persons[0].text], "value": "no"}]
    assert town.query("governance/all_votes", proposal=number, after=persons[0].text)["rows"] == []


def test_only_persons_propose_and_vote(town: Town, persons: list[Account]) -> None:
    stranger = town.stranger(coins=1_000)
    stranger.is_refused("governance.not_a_person", "governance.propose", title="t", body_hash=BODY)
    number = proposes(town, persons[0])
    stranger.is_refused("governance.not_a_person", "governance.vote", proposal=number, choice=Choice.YES)


def test_who_became_a_person_after_the_opening_does_not_vote(town: Town, persons: list[Account]) -> None:
    number = proposes(town, persons[0])
    late = town.person()
    late.is_refused("governance.not_in_census", "governance.vote", proposal=number, choice=Choice.YES)


def test_a_person_who_moved_to_another_account_does_not_vote_twice(town: Town, persons: list[Account]) -> None:
    number = proposes(town, persons[0])
    votes(persons[1], number)
    nullifier = bytes.fromhex(town.query("identity/person", account=persons[1].text)["nullifier"])
    town.registrar.sends("identity.withdraw", account=persons[1])
    other = town.stranger()
    town.registrar.sends("identity.attest", account=other, nullifier=nullifier)
    other.is_refused("governance.not_in_census", "governance.vote", proposal=number, choice=Choice.YES)


def test_a_proposer_without_the_deposit_is_refused(town: Town) -> None:
    town.person(coins=99).is_refused("coin.short", "governance.propose", title="t", body_hash=BODY)


def test_a_deposit_of_nothing_moves_nothing(persons: list[Account], town: Town) -> None:
    town.govern("governance.set_param", module="governance", name="deposit", value=0)
    numbers = [proposes(town, persons[0]) for _ in range(2)]
    for number, choice in zip(numbers, (Choice.VETO, Choice.NO), strict=True):
        votes(persons[0], number, choice)
        votes(persons[1], number, choice)
    town.passes(days=8)
    assert [status(town, number)[0] for number in numbers] == ["vetoed", "rejected"]
    assert persons[0].balance == 1_000


def test_messages_that_the_town_cannot_read_are_not_proposed(town: Town, persons: list[Account]) -> None:
    for unreadable in (Message("coin", "steal", ()), Message("coin", "burn", (-1,))):
        persons[0].is_refused(
            "governance.unreadable", "governance.propose", title="t", body_hash=BODY, messages=(unreadable,)
        )


def test_votes_count_up_to_the_closing_time_and_not_after(town: Town, persons: list[Account]) -> None:
    number = proposes(town, persons[0])
    closes = town.query("governance/proposal", proposal=number)["closes"]
    vote = town.message("governance.vote", proposal=number, choice=Choice.YES)
    (result,) = town.block(persons[0].transaction(vote), time_ms=closes)
    assert result.code == ""
    (result,) = town.block(persons[1].transaction(vote), time_ms=closes + 1)
    assert result.code == "governance.closed"
    town.passes(days=1)
    assert status(town, number) == ("rejected", "")
    persons[1].is_refused("governance.closed", "governance.vote", proposal=number, choice=Choice.YES)


def test_a_vote_on_nothing_is_refused(town: Town, persons: list[Account]) -> None:
    persons[0].is_refused("governance.no_such_proposal", "governance.vote", proposal=99, choice=Choice.YES)
    assert town.query("governance/proposal", proposal=99) is None
    assert town.query("governance/tally", proposal=99) is None


def test_parameters_change_within_their_bounds_only(town: Town) -> None:
    set_param = "governance.set_param"
    town.govern(set_param, module="governance", name="deposit", value=7)
    for arguments in (
        {"module": "governance", "name": "deposit", "value": 10**6 + 1},
        {"module": "governance", "name": "price", "value": 1},
        {"module": "gov", "name": "deposit", "value": 1},
    ):
        assert town.tries_to_govern(set_param, **arguments) == "governance.no_such_param"
    town.person().is_refused("town.not_authorised", set_param, module="governance", name="deposit", value=1)


def test_the_engines_parameters_change_together_and_only_where_the_chain_can_go_on(town: Town) -> None:
    set_param = "governance.set_param"
    town.govern(set_param, module="engine", name="block_delay_ms", value=200)
    assert town.params.block_delay_ms == 200
    assert town.tries_to_govern(set_param, module="engine", name="heartbeat_ms", value=100) == (
        "governance.bad_engine_params"
    )
    assert town.tries_to_govern(set_param, module="engine", name="transaction_weight_max", value=1_999_999) == (
        "governance.bad_engine_params"
    )
    assert town.tries_to_govern(set_param, module="engine", name="colour", value=100) == "governance.bad_engine_params"
    assert town.params.block_delay_ms == 200


def test_a_later_message_builds_on_engine_parameters_that_an_earlier_one_set(
    town: Town, persons: list[Account]
) -> None:
    number = proposes(
        town,
        persons[0],
        town.message("governance.set_param", module="engine", name="heartbeat_ms", value=5_000),
        town.message("governance.set_param", module="engine", name="block_delay_ms", value=4_000),
    )
    for person in persons:
        votes(person, number)
    town.passes(days=8)
    assert (town.params.heartbeat_ms, town.params.block_delay_ms) == (5_000, 4_000)


def test_engine_parameters_of_a_failed_proposal_are_undone(town: Town, persons: list[Account]) -> None:
    number = proposes(
        town,
        persons[0],
        town.message("governance.set_param", module="engine", name="block_delay_ms", value=400),
        town.message("coin.burn", amount=1),
    )
    for person in persons:
        votes(person, number)
    town.passes(days=8)
    assert status(town, number) == ("failed", "coin.short")
    assert town.params.block_delay_ms == 100


def test_the_rules_of_a_ballot_are_those_of_its_opening(town: Town, persons: list[Account]) -> None:
    number = proposes(town, persons[0])
    town.govern("governance.set_param", module="governance", name="quorum", value=0)
    votes(persons[0], number)
    town.passes(days=8)
    assert status(town, number)[0] == "rejected"


def test_a_ballot_is_closed_by_an_idle_town(town: Town, persons: list[Account]) -> None:
    number = proposes(town, persons[0])
    closes = town.query("governance/proposal", proposal=number)["closes"]
    due = town.app.next_due_ms(town.state)
    assert due is not None
    assert closes <= due < closes + 60_000
    town.block(time_ms=due)
    assert status(town, number)[0] == "rejected"
    assert town.app.next_due_ms(town.state) is None


@pytest.mark.parametrize(
    ("tally", "persons", "expected"),
    [
        (Tally(), 0, Status.REJECTED),
        (Tally(yes=334), 1_000, Status.PASSED),  # the quorum is reached exactly
        (Tally(yes=333), 1_000, Status.REJECTED),  # and missed by one
        (Tally(yes=5, no=5), 10, Status.REJECTED),  # exactly the threshold is not above it
        (Tally(yes=6, no=5), 11, Status.PASSED),
        (Tally(abstain=10), 10, Status.REJECTED),  # nobody decided anything
        (Tally(yes=1, abstain=9), 10, Status.PASSED),  # abstaining counts for the quorum only
        (Tally(yes=666, veto=334), 1_000, Status.PASSED),  # exactly the veto's share is not above it
        (Tally(yes=665, veto=335), 1_000, Status.VETOED),
        (Tally(yes=500, no=167, veto=333), 1_000, Status.REJECTED),  # a veto below its share is a no
        (Tally(yes=501, no=166, veto=333), 1_000, Status.PASSED),
        (Tally(yes=2, veto=1, abstain=1), 10, Status.PASSED),
        (Tally(yes=1, veto=1, abstain=1), 3, Status.REJECTED),
        (Tally(veto=1, yes=1), 2, Status.VETOED),
    ],
)
def test_the_tally_is_exact_at_its_boundaries(tally: Tally, persons: int, expected: Status) -> None:
    assert outcome(tally, RULES, persons) is expected


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(Choice))), max_size=40))
def test_a_tally_counts_the_last_vote_of_each(cast: list[tuple[int, Choice]]) -> None:
    tally, last = Tally(), dict[int, Choice]()
    for voter, choice in cast:
        tally = recount(tally, last.get(voter), choice)
        last[voter] = choice
    counts = {choice: list(last.values()).count(choice) for choice in Choice}
    assert (tally.yes, tally.no, tally.abstain, tally.veto) == tuple(counts[choice] for choice in Choice)
    assert votes_in(tally) == len(last)


@given(*[st.integers(0, 50)] * 4, st.integers(1, 200))
def test_one_more_yes_never_turns_a_pass_into_something_else(
    yes: int, no: int, abstain: int, veto: int, persons: int
) -> None:
    tally = Tally(yes=yes, no=no, abstain=abstain, veto=veto)
    more = Tally(yes=yes + 1, no=no, abstain=abstain, veto=veto)
    if outcome(tally, RULES, persons) is Status.PASSED:
        assert outcome(more, RULES, persons) is Status.PASSED


def test_ballots_last_as_long_as_the_town_says(town: Town, persons: list[Account]) -> None:
    town.govern("governance.set_param", module="governance", name="voting_period_ms", value=DAY_MS)
    number = proposes(town, persons[0])
    found = town.query("governance/proposal", proposal=number)
    assert found["closes"] - found["opened"] == DAY_MS
    assert found["rules"] == {"quorum": 334_000, "threshold": PPM // 2, "veto": 334_000}


def test_a_town_cannot_vote_itself_out_of_voting(town: Town) -> None:
    """Bounds leave every person a few votes a period, and every ballot a quorum that people can reach."""
    for module, name, value in (
        ("coin", "quota_weight", 199_999),
        ("governance", "quorum", 667_001),
        ("governance", "threshold", 900_001),
        ("governance", "deposit", 10**6 + 1),
    ):
        assert town.tries_to_govern("governance.set_param", module=module, name=name, value=value) == (
            "governance.no_such_param"
        )


def test_messages_that_weigh_too_much_fail_and_the_outcome_is_written_down(persons: list[Account], town: Town) -> None:
    params = dataclasses.replace(TINY, transaction_weight_max=100_000)
    town.params = params
    outputs = tuple(Output(to=bytes([i]) * 20, amount=1) for i in range(90))
    town.govern("coin.mint", to=module_address("town"), amount=1_000)
    number = proposes(town, persons[0], town.message("coin.multi_send", outputs=outputs))
    for person in persons:
        votes(person, number)
    town.passes(days=8)
    assert status(town, number) == ("failed", "town.out_of_weight")
    assert persons[0].balance == 1_000


def test_what_the_town_decides_can_not_spend_the_deposits_of_other_ballots(town: Town, persons: list[Account]) -> None:
    taking = proposes(town, persons[0], town.message("coin.send", to=persons[2], amount=100))
    other = proposes(town, persons[1])
    for person in persons[:3]:
        votes(person, taking)
        votes(person, other)
    town.passes(days=8)
    assert status(town, taking) == ("failed", "coin.short")
    assert status(town, other) == ("passed", "")
    assert persons[1].balance == 1_000


def test_no_key_comes_to_stand_for_the_town(town: Town, persons: list[Account]) -> None:
    for message in ("identity.create", "identity.rotate_keys"):
        assert town.tries_to_govern(message, keys=(persons[0].key,), threshold=1) == "identity.no_keys_for_the_town"
