"""What serves together."""

from typing import Annotated

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, number, out, print_json, table, tell
from shopkeeper.errors import InputError

release_app = typer.Typer(help="What serves together.", no_args_is_help=True)
app.add_typer(release_app, name="release")


@release_app.command("ls")
def release_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All releases on disk, newest first."""
    from shopkeeper.serving import releases
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = releases.listed(opened.releases)
        metric = opened.settings.gate.metric
    if as_json:
        print_json(told)
        return
    table(
        ("release", "serves", "made", metric, "models", "items", "users"),
        (
            (
                row["release"], ("pinned" if row["pinned"] else "yes") if row["current"] else "",
                row["created_at"][:19], number(row["metrics"].get("fused", {}).get(metric), ".4f"),
                ", ".join(row["models"]), f"{row['items']:,}", f"{row['users']:,}",
            )
            for row in told
        ),
    )  # fmt: skip


@release_app.command("show")
def release_show(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """The decisions of gate, swaps and rollbacks, oldest first."""
    from shopkeeper.serving import releases
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = releases.decisions(opened.releases)
    if as_json:
        print_json(told)
        return
    for row in told:
        out.print(f"{row['at'][:19]} {row['what']:<9} {row['release']} {row['reason']}")


@release_app.command("rollback")
def release_rollback(
    to: Annotated[str | None, typer.Argument(help="Default: the one before.")] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Serve an earlier release; running servers follow within seconds. It stays until unpinned."""
    from shopkeeper.serving import releases
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = releases.rollback(opened.releases, to)
    tell({"release": told}, as_json, f"{told} serves now, pinned; let the gate decide again with: shopkeeper release pin --off")  # fmt: skip


@release_app.command("pin")
def release_pin(
    release: Annotated[str | None, typer.Argument()] = None,
    off: Annotated[bool, typer.Option("--off", help="Let the gate decide again.")] = False,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Keep serving RELEASE whatever passes the gate."""
    from shopkeeper.serving import releases
    from shopkeeper.shop import Shop

    if off == (release is not None):
        raise InputError("name a release, or --off", where="release pin", next="see them: shopkeeper release ls")  # fmt: skip
    with Shop.open(shop) as opened:
        releases.pin(opened.releases, release)
    tell({"pinned": release}, as_json, f"{release} is pinned" if release else "unpinned")
