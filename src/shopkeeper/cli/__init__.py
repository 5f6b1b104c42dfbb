"""The command line: the same calls as the Python face and the API, one result each.

A ShopkeeperError is printed on one line and gives its exit code: 2 the caller can fix it, 3 a step
has to run first, 4 an outside system failed. Anything else is our defect and keeps its traceback.
Adding a command is one file here and its name in the list below.
"""

import json
import os
import sys

import typer

from shopkeeper.cli import (
    analysis,
    answers,
    assets,
    backfill,
    backup,
    branches,
    catalogue,
    clients,
    contracts,
    identity,
    lake,
    lineage,
    loop,
    models,
    quality,
    releases,
    value,
)
from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import err
from shopkeeper.errors import ShopkeeperError

GROUPS = (
    loop,
    models,
    quality,
    contracts,
    assets,
    catalogue,
    branches,
    analysis,
    answers,
    releases,
    clients,
    backup,
    backfill,
    identity,
    lake,
    lineage,
    value,
)


def main() -> None:
    """The `shopkeeper` command."""
    try:
        app(standalone_mode=True)
    except ShopkeeperError as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps(error.as_dict(), ensure_ascii=False))
        err.print(f"error: {error}", soft_wrap=True, markup=False)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


__all__ = ["GROUPS", "app", "main"]
