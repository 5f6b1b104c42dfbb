"""SQL over assets."""

from pathlib import Path
from typing import Annotated

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, tell


@app.command()
def sql(
    query: Annotated[
        str, typer.Argument(help='E.g. "SELECT kind, count(*) FROM clean.events GROUP BY ALL"')
    ],
    to: Annotated[
        Path | None, typer.Option("--out", help=".csv, .parquet, .json, .jsonl or .svg")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Stopped after so long.")] = 60.0,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Answer one SELECT over assets, by name ("clean.events") or version ("clean.events@3")."""
    from shopkeeper.analysis.sql import Limits
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        answer = opened.sql(query, Limits(rows=limit, seconds=seconds, answer_mb=512))
    if to is not None:
        answer.write(to)
    tell(
        answer.as_dict(), as_json, f"{answer.frame.height:,} rows -> {to}" if to else answer.text()
    )
