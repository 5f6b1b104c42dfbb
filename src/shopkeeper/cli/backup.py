"""Backup of a whole workspace, its return, and its upgrade."""

from pathlib import Path
from typing import Annotated, Any

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, bars, out, print_json, table, tell
from shopkeeper.errors import InputError

Where = Annotated[str, typer.Argument(help="A folder, or s3://bucket/path (gs://, az://).")]
Which = Annotated[str | None, typer.Option("--id", help="Default: the newest.")]


@app.command()
def backup(
    to: Where,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Afterwards give up all but so many backups.")
    ] = None,
    verify: Annotated[bool, typer.Option(help="Read back what was stored.")] = True,
    ls: Annotated[bool, typer.Option("--ls", help="Only list the backups there.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only read a whole backup and compare.")
    ] = False,
    id: Which = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Keep the whole workspace at TO; only what changed is stored. Safe while it serves and runs.

    Example: shopkeeper backup /backup/myshop --shop myshop --keep 14
    """
    from shopkeeper.assets import backup as backups
    from shopkeeper.assets.objects import open_store
    from shopkeeper.shop import Shop

    if ls:
        told = backups.listed(open_store(to))
        if as_json:
            print_json(told)
            return
        table(("backup", "made"), ((row["id"], row["created_at"]) for row in told))
        return
    with bars(quiet=as_json) as report:
        if check:
            found = backups.check(
                open_store(to), id, lambda done, total, text: report("check", done, total, text)
            )
            bad = found["damaged"]
            what = (
                f"{len(bad):,} files are damaged: {', '.join(bad[:5])}" if bad else "all is sound"
            )
            tell(found, as_json, f"{found['id']}: {found['parts']:,} parts read; {what}")
            if bad:
                raise typer.Exit(4)
            return
        with Shop.open(shop) as opened:
            made = opened.backup(
                to,
                verify=verify,
                progress=lambda done, total, text: report("backup", done, total, text),
            )
    if keep is not None:
        made["pruned"] = backups.prune(open_store(to), keep)
    tell(
        made, as_json,
        f"{made['id']}: {made['files']:,} files, {made['bytes'] / 1e6:,.1f} MB; stored anew "
        f"{made['new_bytes'] / 1e6:,.1f} MB -> {to}\nback again with: shopkeeper restore {to} NEW_FOLDER",
    )  # fmt: skip


@app.command()
def restore(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Where `backup` kept it.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    id: Which = None,
    as_json: Json = False,
) -> None:
    """Write a backup into FOLDER, every byte compared; it serves the same answers as before."""
    from shopkeeper.assets import backup as backups
    from shopkeeper.assets.objects import is_url, open_store

    if not is_url(source) and not Path(source).is_dir():
        raise InputError("no such folder", where=source, next="name what `shopkeeper backup` wrote")
    with bars(quiet=as_json) as report:
        told = backups.restore(
            open_store(source),
            folder,
            id,
            lambda done, total, text: report("restore", done, total, text),
        )
    tell(
        told, as_json,
        f"{told['id']}: {told['files']:,} files, {told['bytes'] / 1e6:,.1f} MB -> {folder}\n"
        f"next: shopkeeper status --shop {folder}",
    )  # fmt: skip


@app.command()
def upgrade(
    whole: Annotated[
        bool, typer.Option("--whole", help="Read every byte and compare, not only sizes.")
    ] = False,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Bring a workspace of an older version up to date, and check that all its files are there.

    Stop the server and the loop first. A copy of the old catalogue is kept beside it.
    """
    from shopkeeper.shop import Shop

    with bars(quiet=as_json) as report:
        told = Shop.upgrade(shop, whole=whole, report=report)
    if as_json:
        print_json(told)
    else:
        _say_upgrade(told, shop)
    if told["damaged"]:
        raise typer.Exit(3)


def _say_upgrade(told: dict[str, Any], shop: Path) -> None:
    if told["copy"]:
        out.print(f"catalogue: schema {told['from']} -> {told['to']}; the old one: {told['copy']}", soft_wrap=True)  # fmt: skip
    else:
        out.print(f"catalogue: schema {told['to']}, up to date")
    out.print(f"checked: {told['versions']:,} current versions, {told['files']:,} files, {told['bytes'] / 1e6:,.1f} MB")  # fmt: skip
    for bad in told["damaged"][:10]:
        out.print(f"damaged: {bad['version']}: {bad['file']}: {bad['what']}", soft_wrap=True, markup=False)  # fmt: skip
    if told["damaged"]:
        out.print("bring them back from a backup, or make them anew: shopkeeper run --force")
        return
    out.print(f"will run again: {', '.join(told['stale']) or 'nothing'}", soft_wrap=True)
    out.print(f"next: shopkeeper run --shop {shop}" if told["stale"] else f"next: shopkeeper serve --shop {shop}")  # fmt: skip
