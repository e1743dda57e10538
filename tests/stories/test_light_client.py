"""A wallet that trusts nobody: what `allting light` answers is true, whoever lies to it; two chains stop it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.stories.liars import Fork, lying
from tests.stories.network import ALLTING, Network, RpcRefused, act, rpc, succeed, until

pytestmark = pytest.mark.story


class Wallet:
    """A running ``allting light``."""

    def __init__(self, folder: Path, name: str) -> None:
        self.home = folder / name
        self._shown = folder / f"{name}.json"
        self._log = folder / f"{name}.log"

    @property
    def url(self) -> str:
        """Its RPC, once it serves."""

        def served() -> Any:
            text = self._shown.read_text()
            return json.loads(text)["rpc"] if text.endswith("}\n") else None

        return str(until(served, f"the light client serves: {self._log.read_text()}", seconds=60))

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Lines of its log with this message."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    @contextmanager
    def running(self, primary: str, *witnesses: str, link: str | None = None) -> Iterator[None]:
        """It serves; it is gone afterwards."""
        others = [option for witness in witnesses for option in ("--witness", witness)]
        trust = [] if link is None else ["--trust", link]
        command = [*ALLTING, "light", "--home", str(self.home), "--primary", primary, *others, *trust]
        with self._shown.open("w") as shown, self._log.open("a") as log:
            process = subprocess.Popen(
                [*command, "--listen", "127.0.0.1:0", "--json"], stdout=shown, stderr=log, start_new_session=True
            )
            try:
                yield
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                assert process.wait(timeout=30) == 0, self._log.read_text()


def balance(network: Network, url: str) -> dict[str, Any]:
    """What *url* says of david's coins."""
    found: dict[str, Any] = rpc(url, "query", path="coin/balance", args={"address": network.address("david")})
    return found


def richer(method: str, answer: Any) -> Any:
    """A node that tells david he had a coin more."""
    if method == "query":
        answer["answer"] += 1
    return answer


def test_a_wallet_is_told_the_truth_or_nothing(network: Network) -> None:
    network.up()
    link = json.loads(succeed("invite", "--home", str(network.directory / "node0"), "--json"))["link"]
    truth = balance(network, network.urls[0])["answer"]
    wallet = Wallet(network.directory.parent, "wallet")
    with lying(network.urls[0], richer) as liar, wallet.running(liar, *network.urls[1:], link=link):
        found = balance(network, wallet.url)
        assert found["answer"] == truth
        assert [line["node"] for line in wallet.logged("light_liar_dropped")] == [liar]
        assert rpc(wallet.url, "status")["light_info"]["primary"] == network.urls[1]

        sent = act(wallet.url, network.key("anna"), {"coin.send": {"to": network.address("david"), "amount": 7}})
        assert sent["result"]["code"] == ""
        assert balance(network, wallet.url)["answer"] == truth + 7

        network.devnet("kill", "1")
        network.until_height(network.height(2) + 1, nodes=[2])
        assert balance(network, wallet.url)["answer"] == truth + 7
        assert rpc(wallet.url, "status")["light_info"]["primary"] == network.urls[2]
        network.devnet("start", "1")

        leaving = network.validator_key(3).public_key.hex()
        act(wallet.url, network.key("david"), {"validators.resign": {"public_key": leaving}})
        until(lambda: rpc(wallet.url, "validators")["total"] == 3, "the light client follows the smaller set")
        assert balance(network, wallet.url)["answer"] == truth + 7

    # Later, its primary shows blocks that two of the three validators signed beside the true ones.
    fork = Fork(network, 0, 1)
    with lying(network.urls[0], fork) as forker, wallet.running(forker, *network.urls[1:3]):
        assert balance(network, wallet.url)["answer"] == truth + 7
        fork.on = True
        until(lambda: refused(network, wallet.url) == "light.diverged", "the light client stops", seconds=90)
        with pytest.raises(RpcRefused, match="fresh link"):
            rpc(wallet.url, "health")
        assert len(wallet.logged("light_chain_diverged")) == 1
    assert (wallet.home / "light_divergence.json").exists()

    def alarmed() -> set[str]:
        return {line["node"] for line in network.log_lines("error") if line["event"] == "light_client_attack"}

    until(lambda: alarmed() == {f"node{number}" for number in range(4)}, "every node has logged the attack")
    until(lambda: keys(network) == {network.validator_key(2).public_key.hex()}, "who signed twice has no power left")


def refused(network: Network, url: str) -> str:
    """The code with which *url* refuses an answer some blocks from now, "" if it gives one."""
    network.until_height(network.height() + 3)
    try:
        balance(network, url)
    except RpcRefused as refusal:
        return str(refusal.code)
    return ""


def keys(network: Network) -> set[str]:
    """Of the validators of the next height."""
    return {member["public_key"] for member in rpc(network.urls[2], "validators")["validators"]}
