"""Issue line 2: a town decides through a node's JSON-RPC, and what it decided is done on every node."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.stories.network import Network, act, rpc, until

pytestmark = pytest.mark.story

TEXT = "Longer ballots, and 500 coins for the lamp at the bridge."


def propose(network: Network, title: str, *messages: dict[str, Any]) -> int:
    """The number of anna's new proposal."""
    body_hash = hashlib.sha256(TEXT.encode()).hexdigest()
    asked = {"title": title, "body_hash": body_hash, "messages": list(messages)}
    answer = act(network.urls[0], network.key("anna"), {"governance.propose": asked})
    assert answer["result"]["code"] == ""
    events = answer["result"]["events"]
    number: int = next(event["proposal"] for event in events if event["name"] == "proposed")
    return number


def vote(network: Network, name: str, proposal: int, choice: str, *, node: int = 0, fee: int = 0) -> str:
    """The result code of *name*'s vote, handed in at *node*."""
    message = {"governance.vote": {"proposal": proposal, "choice": choice}}
    answer = act(network.urls[node], network.key(name), message, fee=fee)
    return str(answer["result"]["code"])


def closed(network: Network, proposal: int) -> dict[str, Any]:
    """The proposal once it stands as decided on every node."""

    def decided() -> Any:
        found = [network.query("governance/proposal", node=node, proposal=proposal) for node in range(4)]
        return found[0] if all(each["status"] != "voting" for each in found) else None

    answer: dict[str, Any] = until(decided, f"proposal {proposal} closed on all nodes", seconds=60)
    return answer


def test_a_town_raises_a_parameter_and_pays_from_its_treasury(network: Network) -> None:
    network.up("--set", "governance.voting_period_ms=20000")
    before = network.query("coin/balance", address=network.address("david"))
    number = propose(
        network,
        "The lamp at the bridge",
        {"governance.set_param": {"module": "governance", "name": "voting_period_ms", "value": 30_000}},
        {"coin.pay_from_treasury": {"to": network.address("david"), "amount": 500}},
    )
    for node, name in enumerate(("anna", "bjorn", "cilla")):
        assert vote(network, name, number, "yes", node=node) == ""
    assert vote(network, "stranger", number, "no", fee=100) == "governance.not_a_person"
    answer = closed(network, number)
    assert answer["status"] == "executed"
    for node in range(4):
        assert network.query("coin/balance", node=node, address=network.address("david")) == before + 500
    height = network.height()
    network.until_height(height)
    assert len(network.app_hashes(height)) == 1


def test_a_proposal_whose_second_message_refuses_changes_nothing(network: Network) -> None:
    network.up("--set", "governance.voting_period_ms=12000")
    treasury = network.query("coin/treasury")
    number = propose(
        network,
        "More than there is",
        {"coin.pay_from_treasury": {"to": network.address("david"), "amount": 500}},
        {"coin.pay_from_treasury": {"to": network.address("david"), "amount": 2**50}},
    )
    for name in ("anna", "bjorn", "cilla"):
        vote(network, name, number, "yes")
    answer = closed(network, number)
    assert (answer["status"], answer["code"]) == ("failed", "coin.short")
    assert network.query("coin/treasury") >= treasury  # fees may have come in; nothing went out


def test_refusals_have_the_codes_that_the_documents_name(network: Network) -> None:
    network.up()
    message = {"governance.vote": {"proposal": 1, "choice": "yes"}}
    assert act(network.urls[0], network.key("anna"), message)["result"]["code"] == "governance.no_such_proposal"
    assert rpc(network.urls[0], "check_tx", tx="AAAA")["code"].startswith("bad_message.")
