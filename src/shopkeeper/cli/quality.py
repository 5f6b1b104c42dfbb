"""What was checked, and the rows that broke a rule."""

import getpass
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import (
    HERE,
    Json,
    Rows,
    ShopDir,
    bars,
    err,
    number,
    out,
    print_json,
    say,
    table,
    tell,
)
from shopkeeper.errors import NotFound

quarantine_app = typer.Typer(help="Rows that broke a rule, whole.", no_args_is_help=True)
app.add_typer(quarantine_app, name="quarantine")


class _ShownByDefault(TyperGroup):
    """`shopkeeper quality events` is `shopkeeper quality show events`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


quality_app = typer.Typer(help="What was checked, and how it has been.", cls=_ShownByDefault)
app.add_typer(quality_app, name="quality")


@quality_app.command()
def show(
    asset: Annotated[
        str | None, typer.Argument(help="events, items, users, shops, images, …")
    ] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """What was checked, what was found, repaired, merged and quarantined."""
    from shopkeeper.shop import Shop

    wanted = asset.rpartition(".")[2] if asset else None
    with Shop.open(shop) as opened:
        reports = [r for r in opened.quality() if wanted in (None, r["table"])]
    if not reports:
        raise NotFound(
            f"no quality report of {wanted or 'anything'}", next="make one: shopkeeper run clean"
        )
    if as_json:
        print_json(reports)
        return
    for report in reports:
        out.print(
            f"[bold]{report['table']}[/]: {report['rows']:,} rows = {report['clean']:,} clean + "
            f"{report['merged']:,} merged + {report['quarantined']:,} quarantined"
            f"; {report['unread']:,} unreadable lines"
        )
        table(
            ("level", "rule", "rows", "what", "example"),
            (
                (
                    rule["level"],
                    rule["rule"],
                    f"{rule['count']:,}",
                    rule["label_en"],
                    rule["example"],
                )
                for rule in report["rules"]
                if rule["count"]
            ),
        )


@quality_app.command()
def history(
    asset: Annotated[str, typer.Argument(help="As in clean.events.")],
    rule: Annotated[str | None, typer.Option(help="This rule alone, by what it measured.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this .svg.")] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """The quality of a table version by version, runs that a broken promise stopped included.

    Example: shopkeeper quality history clean.events --plot events.svg
    """
    from shopkeeper.analysis.trend import draw
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.quality_history(asset)
    if not told:
        raise NotFound(f"no quality of {asset} yet", next="make it: shopkeeper run clean")
    if plot is not None:
        draw(told, plot, rule)
        err.print(f"-> {plot}")
    if as_json:
        print_json(told)
        return
    table(
        ("when", "version", "rows", "score", "broken"),
        (
            (
                one["created_at"][:19],
                one["version"] or "stopped",
                number(one["rows"], ","),
                number(one["score"], ".4f"),
                ", ".join(_broken(r) for r in one["rules"] if _told(r, rule)),
            )
            for one in told
        ),
    )


def _told(one: dict[str, Any], rule: str | None) -> bool:
    """Whether a rule stands in the line of a version: the one asked for, else what is broken."""
    return one["rule"] == rule if rule else one["level"] == "FAIL" or (one["level"] == "WARN" and one["value"] is not None)  # fmt: skip


def _broken(one: dict[str, Any]) -> str:
    return f"{one['rule']} {one['count']:,}" if one["value"] is None else f"{one['rule']} {one['value']:g}"  # fmt: skip


@quarantine_app.command("ls")
def quarantine_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Quarantined rows by table and rule."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.quarantine()
    if as_json:
        print_json(told)
        return
    for row in told:
        rows = f"{row['count']:,} row" + ("s, the first:" if row["count"] > 1 else ":")
        where = f"{row['file']}:{row['line']}"
        say(f"{row['table']}  {row['rule']}  {rows} {where}")
        say(row["detail"], indent=4)
        say(f"next: {row['next']}", indent=4)
    if not told:
        say("nothing is in quarantine")


@quarantine_app.command("show")
def quarantine_show(
    table: str, rule: str | None = None, n: Rows = 20, shop: ShopDir = HERE, as_json: Json = False
) -> None:
    """Rows in quarantine, whole, with the rule and the reason."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        rows = opened.quarantined_rows(table, rule, n)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        say(f"{row['file']}:{row['line']} {row['rule']} {row['detail']}")
        shown = {k: v for k, v in row.items() if v is not None and k not in ("file", "line", "rule", "detail")}  # fmt: skip
        say(json.dumps(shown, ensure_ascii=False), indent=2)


Rule = Annotated[str, typer.Option("--rule", help="As told by: shopkeeper quarantine ls")]
Why = Annotated[str, typer.Option("--why", help="The reason; it is kept with the decision.")]


@quarantine_app.command("repair")
def quarantine_repair(
    table: str,
    rule: Rule,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="column=text, column= (no value), or column:=SQL of the row's own columns.",
        ),
    ],
    why: Why = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what it would set.")
    ] = False,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Put right what cleaning quarantines under a rule, now and in every later run.

    Example: shopkeeper quarantine repair events --rule range:quantity
      --set "quantity:=ABS(TRY_CAST(quantity AS BIGINT))" --why "the till books returns below 0"
    """
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        if dry_run:
            told = opened.quarantine_try(table, rule, set_)
        else:
            told = opened.quarantine_repair(table, rule, set_, why, getpass.getuser())
    lines = [f"{table}: {told['rows']:,} rows in quarantine under {rule}"]
    for one in told["examples"]:
        before, after = (json.dumps(one[side], ensure_ascii=False) for side in ("before", "after"))
        lines.append(f"  {one['file']}:{one['line']} {before} -> {after}")
    if not dry_run:
        lines.append(f"kept as repair {told['repair']}; do it now: {told['next']}")
    tell(told, as_json, "\n".join(lines))


@quarantine_app.command("repairs")
def quarantine_repairs(
    table: Annotated[str | None, typer.Argument()] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Every repair there is: what it sets, who made it, when and why, and whether it still holds."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.quarantine_repairs(table)
    if as_json:
        print_json(told)
        return
    for one in told:
        state = f"undone {one['undone']['at'][:19]} by {one['undone']['by']}: {one['undone']['why']}" if one["undone"] else f"{one['repaired']:,} rows now"  # fmt: skip
        say(f"{one['repair']}  {one['table']}  {one['rule']}  {', '.join(one['set'])}  {state}")
        say(f"{one['at'][:19]} {one['by']}: {one['why']}", indent=4)
    if not told:
        say("no repair was made")


@quarantine_app.command("undo")
def quarantine_undo(
    table: str, repair: str, why: Why = "", shop: ShopDir = HERE, as_json: Json = False
) -> None:
    """Take a repair back; its rows are in quarantine again from the next run on."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.quarantine_undo(table, repair, why, getpass.getuser())
    tell(
        told, as_json, f"repair {repair} of {told['rule']} holds no more; do it now: {told['next']}"
    )


@quarantine_app.command("replay")
def quarantine_replay(
    table: str,
    rule: Annotated[
        str | None, typer.Option("--rule", help="Count the rows of this rule alone.")
    ] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Clean a table again, as its repairs, its contract and what it refers to are now."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened, bars(quiet=as_json) as report:
        told = opened.quarantine_replay(table, rule, report)
    tell(
        told, as_json,
        f"{told['replayed']:,} rows were in quarantine: {told['clean']:,} are clean now, "
        f"{told['merged']:,} merged into others, {told['still']:,} still there",
    )  # fmt: skip
