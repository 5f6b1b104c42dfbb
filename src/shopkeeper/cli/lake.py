"""Where the tables lie."""

from typing import Annotated

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, bars, tell


@app.command()
def lake(
    move: Annotated[
        bool, typer.Option("--move", help="Move all tables to where `lake` of shop.toml says.")
    ] = False,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Where the tables lie (this disk, or a bucket by `lake` in shop.toml), and how large they are.

    Stop the server before you move. What was copied stays when a move is interrupted: move again.

    Example: shopkeeper lake --move --shop myshop
    """
    from shopkeeper.shop import Shop

    if move:
        with bars(quiet=as_json) as report:
            told = Shop.move_lake(shop, report=report)
        tell(
            told, as_json,
            f"{told['files']:,} files, {told['bytes'] / 1e6:,.1f} MB: {told['from']} -> {told['to']} "
            f"({told['copied_bytes'] / 1e6:,.1f} MB copied)",
        )  # fmt: skip
        return
    with Shop.open(shop) as opened:
        told = opened.lake()
    tell(
        told, as_json,
        f"{told['place']}: {told['files']:,} data files, {told['bytes'] / 1e6:,.1f} MB; on this disk "
        f"{told['copies']:,}, {told['copied_bytes'] / 1e6:,.1f} MB",
    )  # fmt: skip
