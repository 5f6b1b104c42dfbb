"""Finding assets, saying what they are, and what they hold, cost and are used for."""

from typing import Annotated

import typer

from shopkeeper.cli.assets import assets_app
from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, number, out, print_json, say, table, tell

glossary_app = typer.Typer(help="What words mean here.", no_args_is_help=True)
app.add_typer(glossary_app, name="glossary")

Name = Annotated[str, typer.Argument(help="As in: shopkeeper assets ls")]


@app.command()
def find(
    query: Annotated[str, typer.Argument(help="English or 中文; typing errors do not matter.")],
    limit: Annotated[int, typer.Option(min=1, max=200, help="So many assets at most.")] = 20,
    kind: Annotated[str | None, typer.Option(help="table, model, index, report, …")] = None,
    layer: Annotated[str | None, typer.Option(help="raw, clean, features, …")] = None,
    tag: Annotated[str | None, typer.Option(help="Only what carries this tag.")] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Find assets by name, column, description, tag, term or owner.

    Example: shopkeeper find "订单 price"
    """
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.find(query, limit, kind=kind, layer=layer, tag=tag)
    if as_json:
        print_json(told)
        return
    if not told:
        say(f"nothing is called, holds or means {query!r}; all there is: shopkeeper assets ls")
        return
    table(
        ("asset", "kind", "what", "found by", "reads in 30 days"),
        (
            (
                hit["name"], hit["kind"], hit["description"],
                ", ".join(f"{one['what']} {one['text'][:40]}" for one in hit["matched"][:2]),
                number(hit["reads_30d"], ","),
            )
            for hit in told
        ),
    )  # fmt: skip


@assets_app.command("profile")
def assets_profile(
    name: Name,
    version: Annotated[str | None, typer.Option(help="Default: the current one.")] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """What stands in each column: nulls, distinct values, range, mean, most frequent values."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.profile(name, version)
    if as_json:
        print_json(told)
        return
    looked = "" if told["sampled"] == 1 else f"; frequent values from {told['sampled']:.1%} of them"
    out.print(f"[bold]{told['version']}[/]: {told['rows']:,} rows{looked}")
    table(
        ("column", "type", "grade", "nulls", "distinct", "least", "greatest", "mean", "frequent"),
        (
            (
                column["column"], column["type"], column["grade"], number(column["nulls"], ","),
                number(column["distinct"], ","), _short(column["min"]), _short(column["max"]),
                number(column["mean"], ",.4g"),
                ", ".join(f"{_short(value)} ×{rows:,}" for value, rows in column["top"][:3]),
            )
            for column in told["columns"]
        ),
    )  # fmt: skip


def _short(value: object) -> str:
    return "" if value is None else str(value)[:24]


@assets_app.command("describe")
def assets_describe(
    name: Name,
    column: Annotated[str | None, typer.Argument(help="Default: the asset as a whole.")] = None,
    description: Annotated[str | None, typer.Option(help='What it is; "" takes it back.')] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help='In the place of all tags before; "" for none.')
    ] = None,
    term: Annotated[
        list[str] | None, typer.Option(help='Of the glossary, in the place of all before; "" none.')
    ] = None,
    grade: Annotated[
        str | None,
        typer.Option(help="Stricter than the contract's: internal, personal, sensitive."),
    ] = None,
    fresh_hours: Annotated[
        float | None, typer.Option(help="Promised to be no older than this; 0 promises nothing.")
    ] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Say what an asset or a column is; without options, tell what is said."""
    from shopkeeper.shop import Shop

    said = (description, owner, tag, term, grade, fresh_hours)
    with Shop.open(shop) as opened:
        if any(value is not None for value in said):
            told = opened.describe(
                name, column, description=description, owner=owner, tags=tag, terms=term,
                grade=grade, fresh_hours=fresh_hours,
            )  # fmt: skip
        else:
            told = opened.about(name)
    if as_json:
        print_json(told)
        return
    out.print(
        f"[bold]{name}[/] {told['description']}; owner {told['owner']}, grade {told['grade']}"
    )
    if told["tags"]:
        say(f"tags: {', '.join(told['tags'])}")
    for one in told["terms"]:
        say(f"{one['term']}: {one['definition']}")
    fresh = told["freshness"]
    if fresh is not None:
        age = "never made" if fresh["age_hours"] is None else f"{fresh['age_hours']:,.1f} h old"
        late = ", overdue" if fresh["overdue"] else ""
        say(f"promised to be no older than {fresh['fresh_hours']:g} h: {age}{late}")
    table(
        ("column", "grade", "what", "tags", "terms"),
        (
            (
                key, one["grade"], one["description"] or "", ", ".join(one["tags"]),
                ", ".join(term["term"] for term in one["terms"]),
            )
            for key, one in told["columns"].items()
        ),
    )  # fmt: skip


@assets_app.command("usage")
def assets_usage(name: Name, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Who read an asset in the last 30 days, for what, how often."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.usage(name)
    if as_json:
        print_json(told)
        return
    say(f"{name}: {told['reads_30d']:,} reads in 30 days, no fewer than {told['popularity']:.0%} of what is read")  # fmt: skip
    table(
        ("who", "purpose", "reads", "last"),
        ((r["who"], r["purpose"], f"{r['reads']:,}", r["last_at"][:19]) for r in told["readers"]),
    )


@assets_app.command("cost")
def assets_cost(name: Name, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """What making an asset took: CPU, time, memory, bytes, run by run."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.cost(name)
    if as_json:
        print_json(told)
        return
    say(
        f"{name}: {told['cpu_seconds']:,.1f} CPU s in {told['runs']:,} runs, "
        f"{told['bytes'] / 1e6:,.1f} MB kept, {told['peak_rss_mb']:,.0f} MB of memory at most"
    )
    table(
        ("version", "step", "made", "CPU s", "s", "MB of memory", "assets of the run", "kB"),
        (
            (
                run["version"], run["step"], run["at"][:19], number(run["cpu_seconds"], ",.2f"),
                number(run["seconds"], ",.2f"), number(run["peak_rss_mb"], ",.0f"),
                str(run["assets"]), number(run["bytes"] / 1024, ",.0f"),
            )
            for run in told["history"]
        ),
    )  # fmt: skip


@glossary_app.command("ls")
def glossary_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All terms with what they mean, other words for them, and what carries them."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.glossary()
    if as_json:
        print_json(told)
        return
    table(
        ("term", "meaning", "also", "of"),
        (
            (
                one["term"], one["definition"], ", ".join(one["synonyms"]),
                "built in" if one["built_in"] else ", ".join(one["used_by"]),
            )
            for one in told
        ),
    )  # fmt: skip


@glossary_app.command("add")
def glossary_add(
    term: str,
    definition: str,
    also: Annotated[
        list[str] | None, typer.Option(help="Another word for it, in any language.")
    ] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Define a term, or define it anew.

    Example: shopkeeper glossary add GMV "All that was paid" --also turnover --also 成交总额
    """
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.define(term, definition, also or [])
    tell(told, as_json, f"{told['term']}: {told['definition']}")


@glossary_app.command("rm")
def glossary_rm(term: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Take a term of this workspace out of the glossary."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        opened.undefine(term)
    tell({"removed": term}, as_json, f"{term} is no term of this workspace any more")
