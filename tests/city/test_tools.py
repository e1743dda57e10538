"""The module of the guide works as it reads."""

from __future__ import annotations

from city.testing import Town


def test_a_late_tool_costs_a_fee_for_each_day(town: Town) -> None:
    anna = town.person(coins=100)
    town.govern("tools.add", tool=7, called="ladder")
    anna.sends("tools.borrow", tool=7)
    town.passes(days=17)
    result = anna.sends("tools.give_back", tool=7)
    assert anna.balance == 100 - 3 * 5
    assert town.app.event_to_json(result.events[-1]) == {"module": "tools", "name": "returned", "tool": 7, "fee": 15}


def test_a_tool_in_time_costs_nothing(town: Town) -> None:
    anna = town.person()
    town.govern("tools.add", tool=7, called="ladder")
    anna.sends("tools.borrow", tool=7)
    town.passes(days=13)
    anna.sends("tools.give_back", tool=7)
    assert anna.balance == 0


def test_a_stranger_cannot_borrow(town: Town) -> None:
    town.stranger().is_refused("tools.not_a_person", "tools.borrow", tool=7)


def test_a_tool_that_does_not_exist_cannot_be_borrowed(town: Town) -> None:
    town.person().is_refused("tools.tools_absent", "tools.borrow", tool=7)


def test_a_tool_is_borrowed_by_one_only(town: Town) -> None:
    town.govern("tools.add", tool=7, called="ladder")
    town.person().sends("tools.borrow", tool=7)
    bella = town.person()
    bella.is_refused("tools.taken", "tools.borrow", tool=7)
    bella.is_refused("tools.not_yours", "tools.give_back", tool=7)


def test_only_the_town_adds_tools_and_a_number_once(town: Town) -> None:
    town.person().is_refused("town.not_authorised", "tools.add", tool=7, called="ladder")
    town.govern("tools.add", tool=7, called="ladder")
    assert town.tries_to_govern("tools.add", tool=7, called="saw") == "tools.tools_present"


def test_the_shelf_shows_what_is_free_and_the_index_what_is_out(town: Town) -> None:
    anna = town.person()
    for tool in (3, 1, 2):
        town.govern("tools.add", tool=tool, called=f"tool {tool}")
    anna.sends("tools.borrow", tool=2)
    shelf = town.query("tools/shelf", limit=1)
    assert [row["key"] for row in shelf["rows"]] == [1]
    assert [row["key"] for row in town.query("tools/shelf", after=shelf["next"])["rows"]] == [3]
    assert [row["key"] for row in town.query("tools/borrowed", holder=anna.text)["rows"]] == [2]
    anna.sends("tools.give_back", tool=2)
    assert town.query("tools/borrowed", holder=anna.text) == {"rows": [], "next": None}
