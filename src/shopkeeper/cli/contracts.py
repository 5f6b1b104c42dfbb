"""Contracts: what tables promise, drafted, checked, compared."""

from pathlib import Path
from typing import Annotated, Any

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, print_json, say, table, tell
from shopkeeper.errors import NotFound

contract = typer.Typer(help="What tables promise: ODCS v3.1 YAML.", no_args_is_help=True)
app.add_typer(contract, name="contract")


@contract.command()
def ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Every table's contract, and where it comes from."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.contracts()
    if as_json:
        print_json(told)
        return
    table(("table", "version", "from"), ((o["table"], o["version"], o["origin"]) for o in told))


@contract.command()
def show(
    name: Annotated[str, typer.Argument(metavar="TABLE")],
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """The YAML of a table's contract."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.contract(name)
    if as_json:
        print_json(told)
    else:
        typer.echo(told["yaml"], nl=False)


@contract.command()
def check(file: Path, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """What is wrong with a contract, by line, and what it would change in this shop.

    Ends with 1 where it is not valid.
    """
    from shopkeeper.shop import Shop

    if not file.is_file():
        raise NotFound(
            "no such file", where=str(file), next="draft one: shopkeeper contract infer FILE"
        )
    text = file.read_text("utf-8", errors="replace")
    with Shop.open(shop) as opened:
        told = opened.contract_check(text)
    if as_json:
        print_json(told)
    else:
        for error in told["errors"]:
            say(f"{file}: {error['where']}: {error['message']}")
        _say_changes(told["changes"])
        if told["valid"]:
            say("valid")
    if not told["valid"]:
        raise typer.Exit(1)


@contract.command()
def diff(
    a: Annotated[str, typer.Argument(help="A file, or: events, events@built-in, clean.events@3")],
    b: Annotated[str, typer.Argument(help="Likewise.")],
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """What contract B promises otherwise than A, breaking changes first.

    Example: shopkeeper contract diff events@built-in events
    """
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.contract_diff(a, b)
    if as_json:
        print_json(told)
        return
    _say_changes(told)
    if not told:
        say("no promise changes")


@contract.command()
def accept(
    name: Annotated[str, typer.Argument(metavar="TABLE")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Show what changed in a contract since its table was last cleaned, and say that it is meant.

    The next run then does not stop for it. Example: shopkeeper contract accept events
    """
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        change = opened.contract_pending(name)
        if change is None:
            tell(
                None,
                as_json,
                f"the contract of {name} is as it was when the table was last cleaned",
            )
            return
        if not as_json:
            say(f"{name} {change['from']} -> {change['to']}")
            _say_changes(change["changes"])
        if not change["stops"]:
            tell(change, as_json, "nothing to accept: the next run goes through")
            return
        if not (yes or as_json) and not typer.confirm("is this meant?"):
            say("nothing was accepted; the next run stops")
            raise typer.Exit(1)
        told = opened.contract_accept(name, change["digest"])
    tell(told, as_json, "accepted\nnext: shopkeeper run")


@contract.command()
def infer(
    what: Annotated[str, typer.Argument(help="A .csv, .parquet, .jsonl or .xlsx, or an asset.")],
    to: Annotated[
        Path | None, typer.Option("--out", help="Write it here; default: print it.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Look at so many rows at most.")] = 1_000_000,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Draft a contract from data: types, keys, empty values, ranges, words, forms.

    Example: shopkeeper contract infer raw/orders.csv --out contracts-draft.yaml
    """
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        text = opened.contract_infer(what, rows)
    if to is not None:
        to.write_text(text, "utf-8")
        tell(
            {"out": str(to)},
            as_json,
            f"-> {to}\nnext: read it, then: shopkeeper contract check {to}",
        )
    elif as_json:
        print_json({"yaml": text})
    else:
        typer.echo(text, nl=False)


def _say_changes(changes: list[dict[str, Any]]) -> None:
    for one in changes:
        word = "breaking" if one["breaking"] else "harmless"
        say("  ".join(filter(None, (word, one["column"], one["change"], one["detail"]))))
