"""``allting light``: the RPC of a node, served to programs of this machine by whoever trusts no node."""

from __future__ import annotations

import time

import click

from node import log as node_log
from node.cli.place import Place, home_option
from node.cli.screen import Mistake, Screen, json_option
from node.config import RpcConfig, split_host_port
from node.invite import Invite
from node.trust_root import TrustRoot

LISTEN = "127.0.0.1:26659"
WITNESSES_MAX = 16
"""Each block is fetched once more from every witness."""


@click.command()
@click.option("--primary", metavar="URL", required=True, help="The node whose answers are verified and given.")
@click.option("--witness", "witnesses", metavar="URL", multiple=True, help="A node to hold it against; give several.")
@click.option("--trust", "link", metavar="LINK", help="Begin at the block of this invite link.")
@click.option("--height", type=click.IntRange(1), help="Begin at the block of this height, with --hash.")
@click.option("--hash", "hash_", metavar="HEX", help="The id of that block, from somebody you trust.")
@click.option("--listen", metavar="HOST:PORT", default=LISTEN, show_default=True, help="Where RPC is served.")
@click.option("--log", "log_format", type=click.Choice(node_log.FORMATS), default="console", show_default=True)
@json_option
@home_option
def light(
    primary: str,
    witnesses: tuple[str, ...],
    link: str | None,
    height: int | None,
    hash_: str | None,
    listen: str,
    log_format: str,
    place: Place,
    screen: Screen,
) -> None:
    """Serve a node's RPC with every answer verified, until Ctrl-C. Trusts no node, as long as one witness is honest.

    Trust begins at an invite link (--trust), at a block id (--height and --hash), or with the genesis or the link that
    a node's home has; later starts go on where the last one was.
    """
    if not 1 <= len(witnesses) <= WITNESSES_MAX:
        raise Mistake(
            f"name 1…{WITNESSES_MAX} other nodes with --witness URL: what one node proves alone, a third of liars can "
            "forge unseen"
        )
    if len({primary, *witnesses}) != 1 + len(witnesses):
        raise Mistake("a node that is its own witness proves nothing: name each URL once")
    invite, block = _told(link, height, hash_)
    try:
        split_host_port(listen)
    except ValueError as error:
        raise Mistake(f"--listen: {error}") from None
    node_log.configure(format="json" if screen.as_json else log_format, level="info")
    from node.cli import running  # HTTP and the whole node's code are loaded only by those who need them
    from node.light import begin

    asked = begin.Beginning(
        folder=place.path,
        urls=[primary, *witnesses],
        genesis=place.genesis_path,
        invite=invite,
        block=block,
        rpc=RpcConfig(listen=listen),
        progress=screen.progress,
        steps=screen.steps("headers"),
    )

    def serving(url: str, chain_id: str, latest: int) -> None:
        shown = {"rpc": url, "chain_id": chain_id, "height": latest}
        screen.show(shown, [f"{url} answers for {chain_id}, verified up to height {latest}"])

    running.until_stopped(begin.serve, asked, serving)


def _told(link: str | None, height: int | None, hash_: str | None) -> tuple[Invite | None, TrustRoot | None]:
    if (height is None) != (hash_ is None):
        raise Mistake("--height and --hash belong together: the id of the block of that height")
    if link is not None and height is not None:
        raise Mistake("trust begins at one place: give --trust LINK, or --height and --hash")
    if link is not None:
        return Invite.read(link, now_ms=time.time_ns() // 1_000_000), None
    if height is None or hash_ is None:
        return None, None
    try:
        block_id = bytes.fromhex(hash_.removeprefix("0x"))
    except ValueError:
        block_id = b""
    if len(block_id) != 32:
        raise Mistake("--hash must be a block id: 64 hex digits")
    return None, TrustRoot(height, block_id)


COMMANDS = (light,)
