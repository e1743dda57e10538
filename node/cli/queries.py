"""``allting query MODULE NAME``: ask a node; with --prove, believe only what its proofs show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from node.cli.declared import Declared
from node.cli.modules import Modules, help_text, summary
from node.cli.place import Place, place_options
from node.cli.screen import Mistake, Screen, json_option, table
from node.genesis import GenesisFile
from node.proofs import Prover


def _make(module: str, name: str, declaration: Mapping[str, Any], declared: Declared) -> click.Command:
    @place_options
    @json_option
    def command(place: Place, screen: Screen, height: int | None, prove: bool, **options: Any) -> None:
        arguments = declared.values(options, place)
        ask(place, screen, f"{module}/{name}", arguments, height=height, prove=prove)

    parameters = list(getattr(command, "__click_params__", []))
    parameters.reverse()
    return click.Command(
        name,
        callback=command,
        params=[*declared.options(), *_options(), *parameters],
        help=help_text(declaration),
        short_help=summary(declaration),
    )


def _options() -> list[click.Option]:
    return [
        click.Option(["--height"], type=click.IntRange(0), help="As it was after this height; else the latest."),
        click.Option(["--prove"], is_flag=True, help="Verify the answer against the chain's signatures."),
    ]


def ask(
    place: Place, screen: Screen, path: str, arguments: Mapping[str, Any], *, height: int | None, prove: bool
) -> None:
    """The answer is shown; with *prove* only if it follows from headers that this home trusts."""
    if not prove:
        answer = place.client().call("query", path=path, args=dict(arguments), height=height)
        screen.show(answer, table(answer["answer"]))
        return
    if place.genesis_path is None:
        raise Mistake(f"a proof needs a root of trust: there is no genesis.toml in {place.path} (allting join LINK)")
    genesis = GenesisFile.load(place.genesis_path)
    prover = Prover(
        place.client(), genesis, place.application(), home=place.path, step=screen.steps("verifying blocks")
    )
    proved = prover.query(path, arguments, height=height)
    lines = [*table(proved["answer"]), "", f"proved: height {proved['height']}, block {proved['block_id']}"]
    if proved["stale"]:
        age_s = round(proved["age_ms"] / 1000)
        lines.append(f"stale: that block was {age_s} s old; the chain stands still, or the node hides later blocks")
    screen.show(proved, lines)


query = Modules(kind="queries", make=_make, name="query", help="Ask a module; anyone may.")


@query.command("path")
@click.argument("path")
@click.option("--args", "arguments", default="{}", help="Arguments as a JSON object.", show_default=True)
@click.option("--height", type=click.IntRange(0), help="As it was after this height; else the latest.")
@click.option("--prove", is_flag=True, help="Verify the answer against the chain's signatures.")
@json_option
@place_options
def path_(path: str, arguments: str, height: int | None, prove: bool, place: Place, screen: Screen) -> None:
    """Ask any PATH, such as coin/table/balances with --args '{"key": "ting1…"}'."""
    given = Declared({"properties": {"args": {"type": "object"}}, "required": []}).values(
        {"argument_args": arguments}, place
    )["args"]
    if not isinstance(given, dict):
        raise Mistake("--args must be a JSON object")
    ask(place, screen, path, given, height=height, prove=prove)


COMMANDS = (query,)
