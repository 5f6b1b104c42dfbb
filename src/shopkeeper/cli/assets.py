"""What data, models and indexes there are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.filesize import decimal

from shopkeeper.cli.branches import say_diff
from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import (
    HERE,
    Json,
    Rows,
    ShopDir,
    number,
    out,
    print_json,
    table,
    tell,
)

ROOM = 24  # places of a line for what an asset is, at least
_RIGHT = (False, False, True, True, True, False, False)  # numbers stand to the right

assets_app = typer.Typer(help="What data, models and indexes there are.", no_args_is_help=True)
app.add_typer(assets_app, name="assets")


@assets_app.command("ls")
def assets_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All assets with their current version."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.assets_list()
    if as_json:
        print_json(told)
        return
    width = out.width if out.is_terminal else None
    typer.echo("\n".join(listing(told, width)))


def listing(told: Sequence[Mapping[str, Any]], width: int | None) -> list[str]:
    """Assets as lines: one for each, or two where a terminal of `width` is too narrow for one.

    Widths are those on the screen, where a Chinese character takes two places. None: no terminal, so
    nothing is cut. Drawn by hand: a table of ten thousand rows takes rich most of a minute.
    """
    heads = ("asset", "kind", "version", "rows", "size", "grade", "made")
    cells = [heads, *map(_cells, told)]
    wide = [max(cell_len(row[n]) for row in cells) for n in range(len(heads))]
    if width is None or sum(wide) + 2 * len(wide) + ROOM <= width:
        said = ("what", *(row["description"] for row in told))
        lines = [
            "  ".join([*map(_padded, row, wide, _RIGHT), what])
            for row, what in zip(cells, said, strict=True)
        ]
        return [_cut(line.rstrip(), width) for line in lines]
    lines = []
    for row, (name, kind, version, rows, size, grade, made) in zip(told, cells[1:], strict=True):
        counted = [f"{rows} rows"] if rows else []
        facts = ", ".join([kind, *counted, *filter(None, [size]), grade, made[:10]])
        lines.append(_cut(f"{name} @{version}" if version else f"{name} (no version)", width))
        lines.append(_cut(f"    {facts}: {row['description']}", width))
    return lines


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    size = "" if row["bytes"] is None else decimal(row["bytes"])
    made = (row["created_at"] or "")[:16].replace("T", " ")
    version = "" if row["number"] is None else str(row["number"])
    return row["name"], row["kind"], version, number(row["rows"], ","), size, row["grade"], made


def _padded(text: str, width: int, right: bool) -> str:
    room = " " * (width - cell_len(text))
    return room + text if right else text + room


def _cut(text: str, width: int | None) -> str:
    """What fits into one line of the terminal."""
    if width is None or cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…"


@assets_app.command("show")
def assets_show(name: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """One asset: schema, versions, the run that made it."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.asset(name)
    if as_json:
        print_json(told)
        return
    out.print(f"[bold]{told['name']}[/] {told['description']}; version {told['version']}, grade {told['grade']}")  # fmt: skip
    for column, kind in told["schema"].items():
        out.print(f"  {column:<16} {kind}")
    out.print(f"made from: {', '.join(told['made_from']) or 'outside data'}")
    out.print(f"used by:   {', '.join(told['used_by']) or 'nothing yet'}")


@assets_app.command("preview")
def assets_preview(name: str, n: Rows = 10, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """The first rows of a table."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.preview(name, n)
    if as_json:
        print_json(told)
        return
    columns = told["columns"]
    table(columns, (["" if row[c] is None else str(row[c])[:40] for c in columns] for row in told["rows"]))  # fmt: skip


@assets_app.command("history")
def assets_history(name: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All versions of an asset, newest first."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.history(name)
    if as_json:
        print_json(told)
        return
    table(
        ("version", "rows", "made", "run", "digest"),
        ((row["version"], f"{row['rows'] or 0:,}", row["created_at"][:19], row["run_id"][:8], row["digest"][:12]) for row in told),
    )  # fmt: skip


@assets_app.command("lineage")
def assets_lineage(
    name: Annotated[str | None, typer.Argument()] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """What an asset was made from and what was made from it."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.lineage(name)
    if as_json:
        print_json(told)
        return
    for edge in told["edges"]:
        out.print(f"{edge['from']} -> {edge['to']}")


@assets_app.command("export")
def assets_export(
    name: str,
    to: Annotated[Path, typer.Option("--out", help=".csv, .parquet or .jsonl")],
    version: str | None = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Write a table, of any version, to a file."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.export_asset(name, to, version)
    tell(told, as_json, f"{told['asset']} -> {to}")


@assets_app.command("diff")
def assets_diff(
    name: str,
    a: Annotated[int, typer.Argument(help="The older version.")],
    b: Annotated[int | None, typer.Argument(help="Default: the current one.")] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="Columns that tell rows apart; the contract's by default."),
    ] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """What one version of an asset has that another has not: columns, rows, values."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.diff(name, a, b, key)
    if as_json:
        print_json(told)
        return
    say_diff(told)


@assets_app.command("restore")
def assets_restore(name: str, version: int, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Make an old version current again, as a new version; what stands on it is stale then."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        made = opened.restore(name, version)
    tell(
        made, as_json, f"{made['version']} holds what version {version} held\nnext: shopkeeper run"
    )


@assets_app.command("tidy")
def assets_tidy(
    keep_last: Annotated[
        int, typer.Option(min=1, help="Versions of each asset kept at least.")
    ] = 10,
    days: Annotated[float, typer.Option(min=0, help="Younger versions are kept as well.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Give up old versions, merge small files, delete what no kept version needs.

    Never given up: what is current, what a release on disk or a kept model stands on.
    """
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.tidy(keep_last=keep_last, days=days, dry_run=dry_run)
    would = "would be " if dry_run else ""
    tell(
        told, as_json,
        f"{len(told['removed']):,} versions {would}given up, {told['merged_files']:,} files {would}merged, "
        f"{told['deleted_files']:,} files ({told['deleted_bytes'] / 1e6:,.1f} MB) {would}deleted",
    )  # fmt: skip
