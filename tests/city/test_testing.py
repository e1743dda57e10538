"""The town in memory tells a test what went wrong."""

from __future__ import annotations

import pytest

from city.modules.coin import Coin
from city.testing import Town


def test_a_message_that_should_have_worked_names_its_code(town: Town) -> None:
    with pytest.raises(AssertionError, match=r"coin\.send: coin\.short"):
        town.stranger().sends("coin.send", to=town.stranger(), amount=1)
    with pytest.raises(AssertionError, match=r"coin\.burn: coin\.short"):
        town.govern("coin.burn", amount=1)


def test_a_message_that_should_have_been_refused_names_what_came_instead(town: Town) -> None:
    anna = town.stranger(coins=5)
    with pytest.raises(AssertionError, match=r"coin\.send: expected coin\.short, got success"):
        anna.is_refused("coin.short", "coin.send", to=anna, amount=1)
    with pytest.raises(AssertionError, match="it was admitted"):
        town.inadmissible(anna.transaction(town.message("coin.send", to=anna, amount=1)))
    with pytest.raises(AssertionError, match="it was answered"):
        town.query_refused("coin/total")


def test_a_broken_invariant_ends_the_test_with_its_name(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Coin, "no_coin_is_lost_or_made", lambda self: False)
    with pytest.raises(AssertionError, match=r"broken: coin\.no_coin_is_lost_or_made"):
        town.block()
