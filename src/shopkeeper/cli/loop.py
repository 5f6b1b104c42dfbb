"""The loop and what it makes: demo, init, run, train, status, leaderboard, bench, serve."""

from pathlib import Path
from typing import Annotated, Any

import typer

from shopkeeper.cli.branches import say_changes
from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import (
    HERE,
    Json,
    ShopDir,
    bars,
    err,
    number,
    out,
    print_json,
    stoppable,
    table,
    tell,
)
from shopkeeper.errors import InputError, NotFound


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="An empty folder.")],
    users: int = 6000,
    items: int = 2400,
    days: int = 60,
    seed: int = 7,
    as_json: Json = False,
) -> None:
    """Write a demo marketplace's raw files and shop.toml into FOLDER. Its numbers are simulated."""
    from shopkeeper.demo.marketplace import write

    with bars(quiet=as_json) as report:
        told = write(
            folder, users=users, items=items, days=days, seed=seed,
            progress=lambda done, total, text: report("demo", done, total, text),
        )  # fmt: skip
    tell(
        told, as_json,
        f"{told['events']:,} events, {told['users']:,} users, {told['items']:,} items -> {folder}\n"
        f"next: shopkeeper run --shop {folder}",
    )  # fmt: skip


@app.command()
def init(folder: Path, as_json: Json = False) -> None:
    """Make an empty workspace in FOLDER with a commented shop.toml."""
    from shopkeeper.template import write_workspace

    path = write_workspace(folder)
    tell({"written": str(path)}, as_json, f"{path}\nnext: put files into {folder}/raw, then: shopkeeper run --shop {folder}")  # fmt: skip


@app.command()
def run(
    steps: Annotated[
        list[str] | None, typer.Argument(help="Steps or groups; all by default.")
    ] = None,
    shop: ShopDir = HERE,
    force: Annotated[
        bool, typer.Option(help="Also what is fresh; raw files from the start.")
    ] = False,
    every: Annotated[str | None, typer.Option(help="Again and again, e.g. 15m.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="With --every: stop after so many.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option(help="Write into this branch; nothing current changes.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would change, and change nothing.")
    ] = False,
    accept_change: Annotated[
        bool, typer.Option("--accept-change", help="Breaking changes of contracts are meant.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the loop: collect, clean, features, train, compare, index, release. Only what is not fresh.

    Example: shopkeeper run --shop myshop --every 15m
    To try a change of shop.toml: shopkeeper run clean features --shop myshop --dry-run
    """
    from shopkeeper.schedule import run_every, seconds_of
    from shopkeeper.shop import Shop

    if every is None and rounds is not None:
        raise InputError("--rounds counts the rounds of --every", next="add e.g. --every 15m")
    if every is not None:
        others = {"--force": force, "--json": as_json, "--branch": branch, "--dry-run": dry_run}
        for option in (name for name, asked in others.items() if asked):
            raise InputError(
                f"{option} does not go with --every",
                next=f"leave it out, or run once: shopkeeper run --shop {shop}",
            )
        code = run_every(
            shop.resolve(), seconds_of(every), lambda opened: opened.run(steps or [], scheduled=True),
            say=lambda line: typer.echo(line, err=True), rounds=rounds,
        )  # fmt: skip
        raise typer.Exit(code)
    if branch is not None and dry_run:
        raise InputError(
            "--dry-run makes a branch of its own and drops it",
            next="leave out --dry-run, then see: shopkeeper branch diff " + branch,
        )
    with Shop.open(shop) as opened:
        with stoppable(), bars(quiet=as_json) as report:
            if dry_run:
                told = opened.dry_run(steps or [], force=force, report=report)
            elif branch is not None:
                with opened.branch(branch) as view:
                    told = view.run(steps or [], force=force, report=report)
            else:
                told = opened.run(
                    steps or [], force=force, accept_change=accept_change, report=report
                )
        if as_json:
            print_json(told)
            return
        _say_run(told)
        if dry_run:
            say_changes(told["changes"])
            out.print("nothing was changed; to keep it: the same command with --branch NAME")
            return
        if branch is not None:
            out.print(f"see it: shopkeeper branch diff {branch}; keep it: shopkeeper branch promote {branch}", soft_wrap=True)  # fmt: skip
            return
        _say_board(opened.leaderboard(), opened)
        _say_release(opened)


@app.command()
def train(
    models: Annotated[list[str] | None, typer.Argument(help="All by default.")] = None,
    shop: ShopDir = HERE,
    force: bool = False,
    as_json: Json = False,
) -> None:
    """Train models (and measure them); what they stand on is brought up to date first."""
    from shopkeeper.evaluation.trial import asset_name
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        known = [asset_name(name) for name in opened.settings.models]
        names = [asset_name(name) for name in models or opened.settings.models]
        for name in names:
            if name not in known:
                raise NotFound(
                    f"no model {name!r} in shop.toml", next=f"there are: {', '.join(known)}"
                )
        with stoppable(), bars(quiet=as_json) as report:
            opened.run(["collect", "clean", "features"], report=report)
            told = opened.run(
                [*(f"train.{n}" for n in names), "report"], force=force, report=report
            )
        if as_json:
            print_json(told)
            return
        _say_run(told)
        _say_board(opened.leaderboard(), opened)


@app.command()
def status(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """What is fresh, stale, missing or failed; and what to do next."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.status()
    if as_json:
        print_json(told)
        return
    table(
        ("step", "state", "last run", "seconds"),
        ((row["step"], row["state"], (row["last_run"] or "")[:19], number(row["seconds"], ".1f")) for row in told["steps"]),
    )  # fmt: skip
    out.print(f"release: {told['release'] or 'none'}\n{told['next']}", soft_wrap=True, markup=False)
    if any(row["state"] == "failed" for row in told["steps"]):
        raise typer.Exit(1)


@app.command()
def leaderboard(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All models on the primary split, with intervals and paired differences."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        board = opened.leaderboard()
        if board is None:
            opened.assets.current("reports.leaderboard")  # NotReady, with the next step
        if as_json:
            print_json(board)
            return
        _say_board(board, opened)


@app.command()
def bench(
    name: str,
    data: Annotated[Path, typer.Option(help="A folder of that benchmark's form.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Default: transformer; full for chorus_icecat (or lexical); image_cnn for clothing."
        ),
    ] = None,
    seed: int = 42,
    as_json: Json = False,
) -> None:
    """A public benchmark under its published protocol."""
    from shopkeeper.search import benchmark as of_search

    if name == of_search.NAME:
        told = of_search.benchmark(data, model or "full")
    elif name in ("clothing", "clothing_small"):
        from shopkeeper.evaluation import picture_benchmark as of_pictures

        with bars(quiet=as_json) as report:
            told = of_pictures.benchmark(
                data,
                model or of_pictures.MODEL,
                seed,
                lambda done, total, text: report(f"bench {name}", done, total, text),
            )
    else:
        from shopkeeper.evaluation.benchmarks import run_benchmark

        model = model or "transformer"
        with bars(quiet=as_json) as report:
            told = run_benchmark(
                name,
                data,
                model,
                seed,
                lambda done, total, text: report(f"bench {model}", done, total, text),
            )
    if as_json:
        print_json(told)
        return
    for key, value in told.items():
        if key == "metrics":
            for metric, number in value.items():
                out.print(f"  {metric:<20} {number:.4f}")
        elif not isinstance(value, list | dict):
            out.print(f"{key}: {value}")
    if told.get("published"):
        metrics = list(dict.fromkeys(m for row in told["published"].values() for m in row))
        table(
            ("published", *metrics),
            ((name, *(number(row.get(m), ".4f") for m in metrics)) for name, row in told["published"].items()),
        )  # fmt: skip


@app.command()
def serve(
    shop: ShopDir = HERE,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8800,
    workers: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Serve search, recommendations, events and the console until Ctrl-C or SIGTERM."""
    from shopkeeper.api.server import check_port
    from shopkeeper.api.server import serve as start
    from shopkeeper.governance.clients import Clients, may_bind
    from shopkeeper.shop import Shop

    check_port(host, port)
    with Shop.open(shop) as opened, Clients.of(opened.folder) as clients:
        may_bind(host, clients)
        opened.service.health()  # NotReady without a release, before a port is taken
    err.print(f"storefront http://{host}:{port}/   console http://{host}:{port}/console   API http://{host}:{port}/docs")  # fmt: skip
    start(shop.resolve(), host, port, workers)


def _say_run(told: dict[str, Any]) -> None:
    for step in told["steps"]:
        notes = step["notes"]
        if step["state"] != "done" or not notes:
            continue
        if "quarantined" in notes:
            text = f"{notes['rows']:,} rows = {notes['clean']:,} clean + {notes['merged']:,} merged + {notes['quarantined']:,} quarantined"  # fmt: skip
            if "added" in notes:
                text += f"; {notes['added']:,} of them new"
        elif "metrics" in notes:
            text = ", ".join(f"{key} {value:.4f}" for key, value in notes["metrics"].items())
        else:
            text = ", ".join(f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in notes.items())  # fmt: skip
        out.print(
            f"{step['step']:<22} {step['seconds']:>7.1f} s  {text}", soft_wrap=True, markup=False
        )
    notes = [step["notes"] for step in told["steps"] if step["state"] == "done"]
    aside = sum(note.get("quarantined", 0) + note.get("unread", 0) for note in notes)
    if aside:
        rows = "1 row" if aside == 1 else f"{aside:,} rows"
        out.print(f"{rows} went to quarantine; see why with: shopkeeper quarantine ls")
    fresh = sum(step["state"] == "fresh" for step in told["steps"])
    out.print(f"{told['seconds']:.1f} s in all; {fresh} steps were fresh")


def _say_board(board: dict[str, Any] | None, opened: Any) -> None:
    if board is None:
        return
    import polars as pl

    from shopkeeper.evaluation.compare import BOARD
    from shopkeeper.evaluation.leaderboard import table as board_table

    headings, rows = board_table(pl.read_parquet(opened.report_folder() / BOARD))
    split = board["split"]
    out.print(
        f"\nleaderboard: split by {split['by']}, {split['test_users']:,} users asked "
        f"({split['test_new_users']:,} new), seen items {'excluded' if board['exclude_seen'] else 'allowed'}"
    )
    table(headings, rows)
    out.print(f"plot: {opened.report_folder() / 'leaderboard.en.svg'}", soft_wrap=True)


def _say_release(opened: Any) -> None:
    from shopkeeper.serving import releases

    now = releases.pointer(opened.releases)
    decisions = releases.decisions(opened.releases)
    if decisions:
        out.print(f"\ngate: {decisions[-1]['what']}: {decisions[-1]['reason']}", soft_wrap=True)
    if now is not None:
        out.print(f"release {now.release} serves; see it with: shopkeeper serve --shop {opened.folder}", soft_wrap=True)  # fmt: skip
