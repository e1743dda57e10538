"""``allting mempool``: where a transaction is, and why it waits."""

from __future__ import annotations

import click

from node.cli.place import Place, place_options
from node.cli.screen import ListedGroup, Mistake, Screen, json_option, table


@click.group(cls=ListedGroup)
def mempool() -> None:
    """Transactions that wait for a block."""


@mempool.command()
@click.argument("hash_", metavar="HASH")
@json_option
@place_options
def why(hash_: str, place: Place, screen: Screen) -> None:
    """Say where the transaction HASH is, and why it waits, or why it was not let in."""
    if len(hash_) != 64 or not set(hash_.lower()) <= set("0123456789abcdef"):
        raise Mistake(f"{hash_!r:.80} is no hash of a transaction: that is 64 hex digits")
    answer = place.client().call("tx_status", hash=hash_.lower())
    screen.show(answer, [f"{answer['where']}: {answer['text']}", *table(_facts(answer), "  ")])


def _facts(answer: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in answer.items() if name not in ("hash", "where", "text") and value != ""}


COMMANDS = (mempool,)
