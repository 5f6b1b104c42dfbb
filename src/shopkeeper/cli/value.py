"""What assets are worth, and whether what comes back from serving is fit to learn from."""

from typing import Annotated, Any

import typer

from shopkeeper.cli.quality import quality_app
from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import (
    HERE,
    Json,
    ShopDir,
    bars,
    number,
    out,
    print_json,
    say,
    stoppable,
    table,
)
from shopkeeper.errors import NotReady


@app.command()
def value(
    name: Annotated[str | None, typer.Argument(help="One asset, such as clean.items.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure now, within [value] max_minutes.")
    ] = False,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """What each asset and column is worth to recommendations and to revenue, beside what it costs."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        if measure:
            with bars(quiet=as_json) as report, stoppable():
                told = opened.measure_values(report)
            if told["left_for_later"] and not as_json:
                say(f"{told['left_for_later']} things are left for the next time (max_minutes)")
        rows = opened.values(name)
    if not rows:
        raise NotReady(
            f"nothing is known of what {name or 'anything'} is worth",
            next="measure it: shopkeeper value --measure",
        )
    if as_json:
        print_json(rows)
        return
    for metric in dict.fromkeys(row["metric"] for row in rows):
        some = [row for row in rows if row["metric"] == metric]
        out.print(f"[bold]{metric}[/]: {some[0]['base']:,.4f} with everything")
        form = "+.4f" if metric.startswith("NDCG") else "+,.0f"
        table(
            ("without", "loses", "95%", "worth", "CPU s", "bytes", "method"),
            (
                (
                    f"{row['asset']} {row['column'] or '(all)'}",
                    format(row["gain"], form),
                    f"{row['low']:{form}} to {row['high']:{form}}",
                    row["worth"],
                    number(row["cpu_seconds"], ".1f"),
                    number(row["bytes"], ","),
                    row["method"],
                )
                for row in some
            ),
        )


@quality_app.command("loop")
def quality_loop(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Is what comes back from serving fit to learn from: places looked at, exposure, feedback, skew."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        checks = opened.loop_quality()
    if not checks:
        raise NotReady("the loop was not checked yet", next="shopkeeper run quality.loop")
    if as_json:
        print_json(checks)
        return
    table(
        ("level", "check", "value", "before", "wanted", "what it means, what to do"),
        (
            (
                one["level"],
                one["check"],
                _with_interval(one),
                _before(one["history"]),
                one["wanted"],
                (one["detail"].get("why") or one["reason"])
                + (f". Next: {one['next']}" if one["next"] else ""),
            )
            for one in checks
        ),
    )


def _with_interval(check: dict[str, Any]) -> str:
    """The value, and its interval where there is one."""
    value = number(check["value"], ".4f")
    if check["low"] is None or check["value"] is None:
        return value
    return f"{value} ({check['low']:.3f} to {check['high']:.3f})"


def _before(history: list[dict[str, Any]]) -> str:
    """The value of the measuring before the newest, and how many there are."""
    if len(history) < 2:
        return ""
    return f"{number(history[-2]['value'], '.4f')} {history[-2]['level']} (of {len(history)})"
