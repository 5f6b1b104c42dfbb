"""The root of all commands; every file beside this one adds its own."""

import typer

app = typer.Typer(
    name="shopkeeper",
    help="Shopkeeper 掌柜: a shop's raw data into governed assets, search and recommendations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
