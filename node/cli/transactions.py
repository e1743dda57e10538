"""``allting tx MODULE MESSAGE``: build, sign and send a transaction, and wait for its block."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from consensus.address import key_address, to_text
from consensus.application import QueryRefused
from consensus.signing import public_key
from consensus.transaction import Body, Transaction
from node.cli.declared import Declared
from node.cli.modules import Modules, help_text, summary
from node.cli.place import VOUCHER, Place, place_options, unlock
from node.cli.screen import Failed, Mistake, Screen, json_option, table
from node.client import Client, RpcFailed
from node.genesis import GenesisFile

VALID_MS = 600_000
VOUCHER_FEE = 200
"""Buys two million of weight at the default price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How a transaction is to be signed, paid and sent."""

    name: str
    sender: bytes | None
    fee: int | None
    with_voucher: bool
    nonce: int | None
    wait: bool


def send(place: Place, screen: Screen, messages: list[dict[str, Any]], how: Sending) -> dict[str, Any]:
    """The node's answer to the signed transaction. Raises Failed where the town refused it."""
    seeds = [unlock(place.account(how.name))]
    fee, payer = how.fee or 0, None
    if how.with_voucher:
        seeds.append(unlock(place.account(VOUCHER)))
        payer = key_address(public_key(seeds[1]))
        fee = VOUCHER_FEE if how.fee is None else how.fee
    client = place.client()
    sender = how.sender or key_address(public_key(seeds[0]))
    try:
        typed = place.application().messages_from_json(messages)
    except QueryRefused as error:
        raise Mistake(str(error), code=error.code) from None
    body = Body(
        chain_id=_chain_id(place, client),
        sender=sender,
        nonce=_next_nonce(client, sender) if how.nonce is None else how.nonce,
        valid_until_ms=time.time_ns() // 1_000_000 + VALID_MS,
        fee=fee,
        fee_payer=payer,
        messages=typed,
        signers=tuple(sorted({public_key(seed) for seed in seeds})),
    )
    return _broadcast(client, screen, body.signed(*seeds), wait=how.wait)


def _broadcast(client: Client, screen: Screen, transaction: Transaction, *, wait: bool) -> dict[str, Any]:
    tx = base64.b64encode(transaction.raw).decode()
    if not wait:
        return _accepted(client.call("broadcast_tx_sync", tx=tx))
    screen.progress(f"sending {transaction.id.hex()}, and waiting for its block …")
    answer = _accepted(client.call("broadcast_tx_commit", tx=tx))
    result = answer["result"]
    if result["code"]:
        raise Failed(f"{result['text']} ({result['code']}, in block {answer['height']})", code=result["code"])
    return answer


def _accepted(answer: Any) -> dict[str, Any]:
    if answer["code"]:
        raise Failed(f"{answer['text']} ({answer['code']})", code=answer["code"])
    accepted: dict[str, Any] = answer
    return accepted


def _chain_id(place: Place, client: Client) -> str:
    """The chain that the home knows; the node's word where there is no home. Raises Failed where the node is behind."""
    status = client.call("status")
    if status["sync_info"]["catching_up"]:
        raise Failed(
            f"the node at {client.url} is catching up with its peers, and does not know the latest accounts yet; "
            "send it again when allting status no longer says so",
            code="node.catching_up",
        )
    named = str(status["node_info"]["network"])
    if place.genesis_path is not None:
        known = GenesisFile.load(place.genesis_path).chain_id
        if known != named:
            raise Mistake(f"the node at {client.url} is on the chain {named}, this home on {known}")
    return named


def _next_nonce(client: Client, sender: bytes) -> int:
    """The nonce after those in blocks and those that wait on the node."""
    return int(client.call("next_nonce", address=to_text(sender))["next_nonce"])


def _make(module: str, name: str, declaration: Mapping[str, Any], declared: Declared) -> click.Command:
    @place_options
    @json_option
    def command(place: Place, screen: Screen, **options: Any) -> None:
        message = {f"{module}.{name}": declared.values(options, place)}
        how = Sending(
            name=options["from_name"],
            sender=None if options["sender"] is None else place.address(options["sender"]),
            fee=options["fee"],
            with_voucher=options["voucher"],
            nonce=options["nonce"],
            wait=options["wait"],
        )
        answer = send(place, screen, [message], how)
        screen.show(answer, _lines(answer))

    parameters = list(getattr(command, "__click_params__", []))
    parameters.reverse()
    return click.Command(
        name,
        callback=command,
        params=[*declared.options(), *_sending_options(), *parameters],
        help=help_text(declaration),
        short_help=summary(declaration),
    )


def _sending_options() -> list[click.Option]:
    return [
        click.Option(["--from", "from_name"], required=True, metavar="NAME", help="The account that acts (and signs)."),
        click.Option(["--as", "sender"], metavar="ADDRESS", help="The account, where the key is not its first one."),
        click.Option(["--fee"], type=click.IntRange(0), help="Paid whole; a person of the town may pay none."),
        click.Option(["--voucher"], is_flag=True, help="The voucher of your invite pays the fee."),
        click.Option(["--nonce"], type=click.IntRange(0), help="Instead of the account's next one."),
        click.Option(["--wait/--no-wait"], default=True, show_default=True, help="Wait until it is in a block."),
    ]


def _lines(answer: Mapping[str, Any]) -> list[str]:
    lines = [f"hash: {answer['hash']}"]
    if "height" in answer:
        result = answer["result"]
        lines += [f"in block {answer['height']}, weight {result['weight']}, fee {result['fee']}"]
        lines += table(result["events"])
    else:
        lines.append("accepted; it waits for a block")
    return lines


tx = Modules(kind="messages", make=_make, name="tx", help="Send a message of a module as a signed transaction.")


@tx.command("show")
@click.argument("hash_", metavar="HASH")
@json_option
@place_options
def show(hash_: str, place: Place, screen: Screen) -> None:
    """Show a transaction on the chain, and what came of it."""
    try:
        answer = place.client().call("tx", hash=hash_)
    except RpcFailed as error:
        raise Failed(str(error), code=error.code) from None
    screen.show(answer, table(answer))


COMMANDS = (tx,)
