"""What was checked, and the rows that broke a rule."""

import json
from typing import Annotated

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, Rows, ShopDir, out, print_json, say, table
from shopkeeper.errors import NotFound

quarantine_app = typer.Typer(help="Rows that broke a rule, whole.", no_args_is_help=True)
app.add_typer(quarantine_app, name="quarantine")


@app.command()
def quality(
    asset: Annotated[
        str | None, typer.Argument(help="events, items, users, shops or images.")
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
