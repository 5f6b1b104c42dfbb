"""Where data come from: assets, columns, rows; and what other systems tell of theirs."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, print_json, say, table, tell


class _Named(TyperGroup):
    """`lineage NAME` is `lineage show NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["show", *args]
        return super().parse_args(ctx, args)


lineage_app = typer.Typer(
    help="What is made from what: `shopkeeper lineage NAME`.", no_args_is_help=True, cls=_Named
)
app.add_typer(lineage_app, name="lineage")
trace_app = typer.Typer(help="Follow one row: from an answer, or to all it reached.", no_args_is_help=True)  # fmt: skip
app.add_typer(trace_app, name="trace")

SHOWN = 20  # events of an answer, newest last


@lineage_app.command("show")
def show(
    name: str,
    column: Annotated[
        str | None, typer.Option(help='One column; "*": what decided on the rows.')
    ] = None,
    down: Annotated[bool, typer.Option("--down", help="What was made from it instead.")] = False,
    depth: Annotated[int, typer.Option(min=1, help="So many hops.")] = 100,
    columns: Annotated[bool, typer.Option("--columns", help="All columns.")] = False,
    rows: Annotated[
        bool, typer.Option("--rows", help="Follow what decided on rows as well, not values alone.")
    ] = False,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """What an asset was made from; with --column or --columns, which columns from which.

    Example: shopkeeper lineage features.sequences --column dwell_ms
    """
    from shopkeeper.shop import Shop

    way = "down" if down else "up"
    with Shop.open(shop) as opened:
        told: dict[str, Any]
        if column is None and not columns:
            told = opened.lineage(name, depth=depth, direction=way)
        else:
            told = opened.column_lineage(name, column, depth=depth, direction=way, rows=rows)
    if as_json:
        print_json(told)
        return
    for edge in told["edges"]:
        if "how" in edge:
            source, target = ".".join(edge["from"]), ".".join(edge["to"])
            say(f"{source} -> {target}  ({edge['how']})")
        else:
            say(f"{edge['from']} -> {edge['to']}")
    if not told["edges"]:
        say("made from nothing else here" if way == "up" else "nothing was made from it")


@lineage_app.command("import")
def take(
    file: Annotated[Path, typer.Argument(help="OpenLineage events, one JSON object a line.")],
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Take in the lineage that other systems tell; it stands beside our own from then on."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.lineage_import(file)
    text = "{events:,} events: {edges:,} edges between {assets:,} assets, {columns:,} of columns"
    tell(told, as_json, text.format(**told))


@lineage_app.command("send")
def send(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Send the OpenLineage events that wait because an endpoint was down; every run does as well."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.lineage_send()
    errors = "".join(f"\n{target}: {why}" for target, why in told["errors"].items())
    tell(told, as_json, f"{told['sent']:,} sent, {told['waiting']:,} waiting{errors}")


@trace_app.command("answer")
def trace_answer(answer_id: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """From a served answer to its release, models, training snapshot and the raw rows behind it."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.trace_answer(answer_id)
    if as_json:
        print_json(told)
        return
    release = told["release"]
    serves = ", serves now" if release["serves"] else "" if release["on_disk"] else ", gone"
    say(f"{told['kind']} answered {told['received'][:19]} by release {release['id']} ({release['version']}{serves})")  # fmt: skip
    for model in told["models"]:
        say(f"  {model['version']}, trained on {', '.join(model['trained_on'])}")
    seen = told["input"]
    if seen["why"] != "history":
        words = {
            "given": "its history came with the request",
            "nobody": "it was asked for nobody in particular",
            "opted_out": "the user switched personalisation off: no event was looked at",
        }
        say(words[seen["why"]])
        return
    sure = {True: "; features match the answer's", False: "; features do NOT match the answer's"}
    say(f"{len(seen['events'])} events{sure.get(seen['verified'], '')}")
    if len(seen["events"]) > SHOWN:
        say(f"  the newest {SHOWN} (all with --json):")
    table(
        ("file", "line", "version", "event", "kind", "item"),
        (
            (e["file"], str(e["line"]), e["version"] or "live", e["event_id"] or "", e["kind"], e["item_id"])
            for e in seen["events"][-SHOWN:]
        ),
    )  # fmt: skip


@trace_app.command("row")
def trace_row(file: str, line: int, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """From a raw row to every version, model and release that it reached.

    FILE as `shopkeeper quarantine` and raw tables name it, relative to the workspace; events received
    while serving stand in events.db, item writes in items.db.
    """
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.trace_row(file, line)
    if as_json:
        print_json(told)
        return
    for row in told["rows"]:
        _say_row(row)
    for one in told["unread"]:
        say(f"could not be read: {one['rule']}: {one['detail']}  ({', '.join(one['versions'])})")


@trace_app.command("event")
def trace_event(event_id: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """As `trace row`, by the event's id."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.trace_event(event_id)
    if as_json:
        print_json(told)
        return
    for row in told["rows"]:
        _say_row(row)
    if told["logged"] is not None:
        say(f"in the event log at {told['logged']}; the next run collects it: shopkeeper run")


def _say_row(row: dict[str, Any]) -> None:
    say(f"{row['table']}  {row['file']}:{row['line']}  in {', '.join(row['versions'])}")
    for one in row["cleaned"]:
        more = f" {one['rule']}: {one['detail']}" if one["state"] == "quarantined" else ""
        if one["state"] == "merged" and one["into"]:
            more = f" into {one['into']['file']}:{one['into']['line']}"
        say(f"  {one['state']}{more}  ({', '.join(one['versions'])})")
    for one in row["reached"]:
        if one["why"] == "row":
            continue
        more = f": event {one['newest']} of {one['of']}, newest first" if "newest" in one else ""
        if "release" in one:
            more = f": release {one['release']}{', serves now' if one['serves'] else ''}"
        say(f"  reached {one['version']}{more}")
    if row["given_up"]:
        say(f"  cannot be looked into any more: {', '.join(row['given_up'])}")
