"""Branches: try a change of settings, contracts or code without touching what is current."""

import json
from typing import Annotated, Any

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, out, print_json, table, tell

branch_app = typer.Typer(
    help="Runs that change nothing until they are promoted.", no_args_is_help=True
)
app.add_typer(branch_app, name="branch")

Name = Annotated[str, typer.Argument(help="As given to: shopkeeper run --branch NAME")]


@branch_app.command("ls")
def branch_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Open branches, and what each has written."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.branches()
    if as_json:
        print_json(told)
        return
    table(
        ("branch", "since", "asset", "version", "stands on", "main"),
        (
            (
                branch["branch"],
                branch["created_at"][:16].replace("T", " "),
                head["asset"],
                head["version"].rpartition("@")[2],
                head["base"].rpartition("@")[2] if head["base"] else "nothing",
                "has moved on" if head["moved"] else "",
            )
            for branch in told
            for head in branch["assets"] or [{"asset": "", "version": "", "base": "", "moved": ""}]
        ),
    )


@branch_app.command("diff")
def branch_diff(name: Name, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """What the branch would change: columns, rows, examples of rows."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.branch_diff(name)
    if as_json:
        print_json(told)
        return
    say_changes(told)


@branch_app.command("promote")
def branch_promote(name: Name, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Make all that the branch wrote current, whole or not at all; refused when main has moved on."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        made = opened.promote(name)
    tell(
        {"branch": name, "current": made}, as_json,
        f"current now: {', '.join(made) or 'nothing, the branch was empty'}\nnext: shopkeeper run",
    )  # fmt: skip


@branch_app.command("drop")
def branch_drop(name: Name, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Give up the branch and what only it has; `shopkeeper assets tidy` then frees the disk."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        gone = opened.drop_branch(name)
    tell({"branch": name, "gone": gone}, as_json, f"gone: {', '.join(gone) or 'nothing'}")


def say_diff(told: dict[str, Any]) -> None:
    """Print one `Assets.diff`."""
    if told["a"] is None:
        rows = "" if told["rows"] is None else f", {told['rows']:,} rows"
        out.print(f"{told['b']}: new{rows}")
        return
    out.print(f"{told['a']} -> {told['b']}: {'the same' if told['same'] else 'not the same'}")
    if told["kind"] != "table":
        for what in ("added", "removed", "changed"):
            for file in told["files"][what]:
                out.print(f"  {what:<8} {file['file']}")
        return
    for what, columns in told["schema"].items():
        if columns:
            out.print(f"  columns {what}: {', '.join(columns)}")
    out.print(f"  rows: {', '.join(f'{what} {count:,}' for what, count in told['rows'].items())}")
    for what, examples in told["examples"].items():
        for row in examples:
            text = json.dumps(row, ensure_ascii=False, default=str)
            out.print(f"  {what}: {text}", soft_wrap=True, markup=False)


def say_changes(told: list[dict[str, Any]]) -> None:
    """Print the differences that are any, then what stays the same."""
    for change in told:
        if not change.get("same"):
            say_diff(change)
    same = [change["asset"] for change in told if change.get("same")]
    if same:
        out.print(f"unchanged: {', '.join(same)}", soft_wrap=True)
    if not told:
        out.print("nothing was written")
