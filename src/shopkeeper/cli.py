"""The command line: the same calls as the Python face and the API, one result each.

A ShopkeeperError is printed on one line and gives its exit code: 2 the caller can fix it, 3 a step
has to run first, 4 an outside system failed. Anything else is our defect and keeps its traceback.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from shopkeeper.errors import InputError, NotFound, ShopkeeperError

app = typer.Typer(
    name="shopkeeper",
    help="Shopkeeper 掌柜: a shop's raw data into governed assets, search and recommendations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
assets_app = typer.Typer(help="What data, models and indexes there are.", no_args_is_help=True)
quarantine_app = typer.Typer(help="Rows that broke a rule, whole.", no_args_is_help=True)
release_app = typer.Typer(help="What serves together.", no_args_is_help=True)
clients_app = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(assets_app, name="assets")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(release_app, name="release")
app.add_typer(clients_app, name="clients")

ShopDir = Annotated[Path, typer.Option("--shop", help="The workspace.", show_default="here")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Rows = Annotated[int, typer.Option("--n", "-n", min=1, help="So many rows.")]
HERE = Path()
NARROWEST = 7  # a column of a table that can still be read

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


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

    with _bars(quiet=as_json) as report:
        told = write(
            folder, users=users, items=items, days=days, seed=seed,
            progress=lambda done, total, text: report("demo", done, total, text),
        )  # fmt: skip
    _tell(
        told, as_json,
        f"{told['events']:,} events, {told['users']:,} users, {told['items']:,} items -> {folder}\n"
        f"next: shopkeeper run --shop {folder}",
    )  # fmt: skip


@app.command()
def init(folder: Path, as_json: Json = False) -> None:
    """Make an empty workspace in FOLDER with a commented shop.toml."""
    from shopkeeper.template import write_workspace

    path = write_workspace(folder)
    _tell({"written": str(path)}, as_json, f"{path}\nnext: put files into {folder}/raw, then: shopkeeper run --shop {folder}")  # fmt: skip


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
    as_json: Json = False,
) -> None:
    """Run the loop: collect, clean, features, train, compare, index, release. Only what is not fresh.

    Example: shopkeeper run --shop myshop --every 15m
    """
    from shopkeeper.schedule import run_every, seconds_of
    from shopkeeper.shop import Shop

    if every is None and rounds is not None:
        raise InputError("--rounds counts the rounds of --every", next="add e.g. --every 15m")
    if every is not None:
        if force or as_json:
            raise InputError(
                f"{'--force' if force else '--json'} does not go with --every",
                next=f"leave it out, or run once: shopkeeper run --shop {shop}",
            )
        code = run_every(
            shop.resolve(), seconds_of(every), lambda opened: opened.run(steps or [], scheduled=True),
            say=lambda line: typer.echo(line, err=True), rounds=rounds,
        )  # fmt: skip
        raise typer.Exit(code)
    with Shop.open(shop) as opened:
        with _stoppable(), _bars(quiet=as_json) as report:
            told = opened.run(steps or [], force=force, report=report)
        if as_json:
            _print_json(told)
            return
        _say_run(told)
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
        with _stoppable(), _bars(quiet=as_json) as report:
            opened.run(["collect", "clean", "features"], report=report)
            told = opened.run(
                [*(f"train.{n}" for n in names), "report"], force=force, report=report
            )
        if as_json:
            _print_json(told)
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
        _print_json(told)
        return
    _table(
        ("step", "state", "last run", "seconds"),
        ((row["step"], row["state"], (row["last_run"] or "")[:19], _number(row["seconds"], ".1f")) for row in told["steps"]),
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
            _print_json(board)
            return
        _say_board(board, opened)


@app.command()
def quality(
    asset: Annotated[
        str | None, typer.Argument(help="events, items, users, shops or images.")
    ] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """What was checked, what was found, repaired, merged and quarantined."""
    from shopkeeper.shop import Shop

    wanted = asset.rpartition(".")[2] if asset else None
    with Shop.open(shop) as opened:
        reports = [r for r in opened.quality() if wanted in (None, r["table"])]
    if not reports:
        raise NotFound(
            f"no quality report of {wanted or 'anything'}", next="make one: shopkeeper run clean"
        )
    if as_json:
        _print_json(reports)
        return
    for report in reports:
        out.print(
            f"[bold]{report['table']}[/]: {report['rows']:,} rows = {report['clean']:,} clean + "
            f"{report['merged']:,} merged + {report['quarantined']:,} quarantined"
            f"; {report['unread']:,} unreadable lines"
        )
        _table(
            ("level", "rule", "rows", "what", "example"),
            (
                (
                    rule["level"],
                    rule["rule"],
                    f"{rule['count']:,}",
                    rule["label_en"],
                    rule["example"],
                )
                for rule in report["rules"]
                if rule["count"]
            ),
        )


@quarantine_app.command("ls")
def quarantine_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Quarantined rows by table and rule."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.quarantine()
    if as_json:
        _print_json(told)
        return
    for row in told:
        rows = f"{row['count']:,} row" + ("s, the first:" if row["count"] > 1 else ":")
        where = f"{row['file']}:{row['line']}"
        _say(f"{row['table']}  {row['rule']}  {rows} {where}")
        _say(row["detail"], indent=4)
        _say(f"next: {row['next']}", indent=4)
    if not told:
        _say("nothing is in quarantine")


@quarantine_app.command("show")
def quarantine_show(
    table: str, rule: str | None = None, n: Rows = 20, shop: ShopDir = HERE, as_json: Json = False
) -> None:
    """Rows in quarantine, whole, with the rule and the reason."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        rows = opened.quarantined_rows(table, rule, n)
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        _say(f"{row['file']}:{row['line']} {row['rule']} {row['detail']}")
        shown = {k: v for k, v in row.items() if v is not None and k not in ("file", "line", "rule", "detail")}  # fmt: skip
        _say(json.dumps(shown, ensure_ascii=False), indent=2)


@assets_app.command("ls")
def assets_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All assets with their current version."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.assets_list()
    if as_json:
        _print_json(told)
        return
    _table(
        ("asset", "kind", "version", "rows", "kB", "grade", "made", "what"),
        (
            (
                row["name"], row["kind"], str(row["number"]), _number(row["rows"], ","),
                _number(row["bytes"] and row["bytes"] / 1024, ",.0f"), row["grade"],
                (row["created_at"] or "")[:19], row["description"],
            )
            for row in told
        ),
    )  # fmt: skip


@assets_app.command("show")
def assets_show(name: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """One asset: schema, versions, the run that made it."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.asset(name)
    if as_json:
        _print_json(told)
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
        _print_json(told)
        return
    columns = told["columns"]
    _table(columns, (["" if row[c] is None else str(row[c])[:40] for c in columns] for row in told["rows"]))  # fmt: skip


@assets_app.command("history")
def assets_history(name: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All versions of an asset, newest first."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.history(name)
    if as_json:
        _print_json(told)
        return
    _table(
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
        _print_json(told)
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
    _tell(told, as_json, f"{told['asset']} -> {to}")


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
        _print_json(told)
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
    rows = ", ".join(f"{what} {count:,}" for what, count in told["rows"].items())
    out.print(f"  rows: {rows}")
    for what, examples in told["examples"].items():
        for row in examples:
            out.print(f"  {what}: {json.dumps(row, ensure_ascii=False, default=str)}", soft_wrap=True, markup=False)  # fmt: skip


@assets_app.command("restore")
def assets_restore(name: str, version: int, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Make an old version current again, as a new version; what stands on it is stale then."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        made = opened.restore(name, version)
    _tell(
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
    _tell(
        told, as_json,
        f"{len(told['removed']):,} versions {would}given up, {told['merged_files']:,} files {would}merged, "
        f"{told['deleted_files']:,} files ({told['deleted_bytes'] / 1e6:,.1f} MB) {would}deleted",
    )  # fmt: skip


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
        answer = opened.sql(query, Limits(rows=limit, seconds=seconds))
    if to is not None:
        answer.write(to)
    _tell(
        answer.as_dict(), as_json, f"{answer.frame.height:,} rows -> {to}" if to else answer.text()
    )


@app.command()
def recommend(
    user: Annotated[str | None, typer.Option(help="A user id; unknown ones are newcomers.")] = None,
    k: Annotated[int, typer.Option("-k")] = 10,
    explain: bool = False,
    all_users: Annotated[bool, typer.Option("--all", help="For every user, to --out.")] = False,
    to: Annotated[Path | None, typer.Option("--out", help=".csv, .parquet or .jsonl")] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Recommendations for a user, or for all users into a file."""
    from shopkeeper.shop import Shop

    if all_users == (user is not None):
        raise InputError("name a user with --user, or take --all --out FILE", where="recommend")
    with Shop.open(shop) as opened:
        if user is None:
            if to is None:
                raise InputError("--all needs --out FILE", where="recommend", next="e.g. --out recommendations.csv")  # fmt: skip
            with _bars(quiet=as_json) as report:
                users = opened.recommend_all(to, k, lambda done, total: report("recommend", done, total, ""))  # fmt: skip
            _tell({"users": users, "out": str(to)}, as_json, f"{users:,} users -> {to}")
            return
        answer = opened.service.recommend(user_id=user, k=k)
        told = answer.as_dict()
        if explain:
            told["trace"] = opened.service.trace(answer.answer_id)
        if as_json:
            _print_json(told)
            return
        _say_hits(opened, told)
        if explain:
            _say_trace(told["trace"])


@app.command()
def search(
    query: str,
    k: Annotated[int, typer.Option("-k")] = 10,
    user: str | None = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Search the catalogue, in Chinese or English."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.service.search(query, user_id=user, k=k).as_dict()
        if as_json:
            _print_json(told)
            return
        corrected = f", corrected to {told['corrected']!r}" if told.get("corrected") else ""
        out.print(f"{told['total']:,} items, stage {told['stage']}{corrected}")
        _say_hits(opened, told)


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
    from shopkeeper.shop import Shop

    check_port(host, port)
    with Shop.open(shop) as opened:
        opened.service.health()  # NotReady without a release, before a port is taken
    err.print(f"storefront http://{host}:{port}/   console http://{host}:{port}/console   API http://{host}:{port}/docs")  # fmt: skip
    start(shop.resolve(), host, port, workers)


@app.command()
def bench(
    name: str,
    data: Annotated[Path, typer.Option(help="A folder of that benchmark's form.")],
    model: Annotated[
        str | None, typer.Option(help="Default: transformer; full for chorus_icecat (or lexical).")
    ] = None,
    seed: int = 42,
    as_json: Json = False,
) -> None:
    """A public benchmark under its published protocol."""
    from shopkeeper.search import benchmark as of_search

    if name == of_search.NAME:
        told = of_search.benchmark(data, model or "full")
    else:
        from shopkeeper.evaluation.benchmarks import run_benchmark

        model = model or "transformer"
        with _bars(quiet=as_json) as report:
            told = run_benchmark(
                name,
                data,
                model,
                seed,
                lambda done, total, text: report(f"bench {model}", done, total, text),
            )
    if as_json:
        _print_json(told)
        return
    for key, value in told.items():
        if key == "metrics":
            for metric, number in value.items():
                out.print(f"  {metric:<20} {number:.4f}")
        elif not isinstance(value, list | dict):
            out.print(f"{key}: {value}")
    if told.get("published"):
        metrics = list(dict.fromkeys(m for row in told["published"].values() for m in row))
        _table(
            ("published", *metrics),
            ((name, *(_number(row.get(m), ".4f") for m in metrics)) for name, row in told["published"].items()),
        )  # fmt: skip


@release_app.command("ls")
def release_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All releases on disk, newest first."""
    from shopkeeper.serving import releases
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = releases.listed(opened.releases)
        metric = opened.settings.gate.metric
    if as_json:
        _print_json(told)
        return
    _table(
        ("release", "serves", "made", metric, "models", "items", "users"),
        (
            (
                row["release"], ("pinned" if row["pinned"] else "yes") if row["current"] else "",
                row["created_at"][:19], _number(row["metrics"].get("fused", {}).get(metric), ".4f"),
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
        _print_json(told)
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
    _tell({"release": told}, as_json, f"{told} serves now, pinned; let the gate decide again with: shopkeeper release pin --off")  # fmt: skip


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
    _tell({"pinned": release}, as_json, f"{release} is pinned" if release else "unpinned")


@clients_app.command("add")
def clients_add(
    name: str,
    publishable: Annotated[
        bool, typer.Option(help="For a web page: may send browser events only.")
    ] = False,
    origin: Annotated[list[str] | None, typer.Option(help="Web origin that may use it.")] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Make an API key; it is shown this once."""
    from shopkeeper.governance.clients import Clients, KeyType

    _needs_workspace(shop)
    with Clients.of(shop.resolve()) as clients:
        kind = KeyType.PUBLISHABLE if publishable else KeyType.SECRET
        client, key = clients.add(name, kind, origins=origin or [])
    _tell(
        {"client": client.as_dict(), "key": key},
        as_json,
        f"{key}\nkeep it: only its digest is stored",
    )


@clients_app.command("ls")
def clients_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All API clients; no keys."""
    from shopkeeper.governance.clients import Clients

    _needs_workspace(shop)
    with Clients.of(shop.resolve()) as clients:
        told = [client.as_dict() for client in clients.all()]
    if as_json:
        _print_json(told)
        return
    if told:
        _table(list(told[0]), (["" if v is None else str(v) for v in row.values()] for row in told))


@clients_app.command("revoke")
def clients_revoke(name: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """End a key, by its client's name or id; servers refuse it within seconds."""
    from shopkeeper.governance.clients import Clients

    _needs_workspace(shop)
    with Clients.of(shop.resolve()) as clients:
        client = clients.revoke(name)
    _tell({"client": client.as_dict()}, as_json, f"{client.name} is revoked")


# what the commands share


def _needs_workspace(folder: Path) -> None:
    if not (folder / "shop.toml").exists() and not (folder / "store").exists():
        raise NotFound(
            "no workspace here", where=str(folder), next=f"make one: shopkeeper init {folder}"
        )


@contextmanager
def _bars(*, quiet: bool) -> Iterator[Callable[[str, float, float, str], None]]:
    """Progress on standard error: bars on a terminal, a line a finished step otherwise."""
    if quiet:
        yield lambda step, done, total, text: None
        return
    if not err.is_terminal:

        def line(step: str, done: float, total: float, text: str) -> None:
            if text in ("done", "fresh"):
                err.print(f"{step}: {text}")

        yield line
        return
    columns = (SpinnerColumn(), TextColumn("{task.fields[step]:<22}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=err) as progress:
        tasks: dict[str, Any] = {}

        def draw(step: str, done: float, total: float, text: str) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=None, step=step, text="")
            if text in ("done", "fresh"):
                progress.update(tasks[step], total=1, completed=1, text=text)
                progress.stop_task(tasks[step])
            else:
                progress.update(tasks[step], total=total or None, completed=done, text=text)

        yield draw


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C in the loop is no failure: say what became of the work."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("stopped; what was finished is kept: the same command goes on from there")
        raise


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows below their headings; what is too long for the terminal goes on in the next line.

    More columns than fit side by side stand below each other, row by row.
    """
    names = list(headings)
    if len(names) * NARROWEST > out.width:
        wide = max(map(len, names))
        for row in rows:
            out.rule(style="dim")
            for name, cell in zip(names, row, strict=True):
                if cell:
                    out.print(f"{name:<{wide}}  {cell}", soft_wrap=True, markup=False)
        return
    table = Table(box=None)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _say(text: str, *, indent: int = 0) -> None:
    """A line as it is; on a terminal its continuation is indented alike."""
    if out.is_terminal:
        out.print(Padding(Text(text, overflow="fold"), (0, 0, 0, indent)))
    else:
        out.print(" " * indent + text, soft_wrap=True, markup=False)


def _tell(value: Any, as_json: bool, text: str) -> None:
    if as_json:
        _print_json(value)
    else:
        out.print(text, soft_wrap=True, markup=False)


def _say_run(told: dict[str, Any]) -> None:
    for step in told["steps"]:
        notes = step["notes"]
        if step["state"] != "done" or not notes:
            continue
        if "quarantined" in notes:
            text = f"{notes['rows']:,} rows = {notes['clean']:,} clean + {notes['merged']:,} merged + {notes['quarantined']:,} quarantined"  # fmt: skip
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
    _table(headings, rows)
    out.print(f"plot: {opened.report_folder() / 'leaderboard.en.svg'}", soft_wrap=True)


def _say_release(opened: Any) -> None:
    from shopkeeper.serving import releases

    now = releases.pointer(opened.releases)
    decisions = releases.decisions(opened.releases)
    if decisions:
        out.print(f"\ngate: {decisions[-1]['what']}: {decisions[-1]['reason']}", soft_wrap=True)
    if now is not None:
        out.print(f"release {now.release} serves; see it with: shopkeeper serve --shop {opened.folder}", soft_wrap=True)  # fmt: skip


def _say_hits(opened: Any, told: dict[str, Any]) -> None:
    units = opened.settings.minor_units
    rows = []
    for hit in told["items"]:
        card = opened.service.item(hit["item_id"])
        price = card.get("price_minor")
        title = card.get("title") or card.get("title_zh") or ""
        shown = "" if price is None else f"{price / units:,.2f}"
        why = hit.get("reason") or {}
        rows.append((str(hit["position"]), hit["item_id"], title[:40], shown, hit.get("source") or "", why.get("en", "")))  # fmt: skip
    _table(("", "item", "title", "price", "source", "why"), rows)
    if told["degraded"]:
        out.print("degraded: a floor answered in place of a model that failed")


def _say_trace(trace: dict[str, Any]) -> None:
    """Where every item of an answer came from: what each source said of it, and what moved it."""
    models = trace["candidates"]["models"]
    rows = moves(trace)
    page = [place for place, row in enumerate(rows, start=1) if row["position"] is not None]
    shown = rows[: max(page, default=0)]
    out.print()
    _table(
        ("item", *models, "fused", "final", "position", "chance", "moved by"),
        (
            (
                row["item_id"], *(_number(score, ".3f") for score in row["models"]),
                _number(row["fused"], ".4f"), _number(row["final"], ".4f"),
                str(row["position"] or "-"), _number(row["propensity"], ".4f"), row["moved_by"],
            )
            for row in shown
        ),
    )  # fmt: skip
    if len(shown) < len(rows):
        _say(f"and {len(rows) - len(shown)} candidates below, in their order; all with --json")
    versions, policy, request = trace["versions"], trace["policy"], trace["request"]
    for name, weight in trace["weights"].items():
        _say(f"model     {versions.get(f'models.{name}', name)}, weight {weight:g}")
    for name, why in trace["failed"].items():
        _say(f"failed    {versions.get(f'models.{name}', name)}: {why}")
    _say(f"snapshot  release {trace['release']}: {versions['features.sequences']}, {versions['clean.items']}")  # fmt: skip
    _say(f"user      {request['user_id']}, scene {request['scene']}, {trace['history_length']} acts known")  # fmt: skip
    share = f"{policy['exploration']:.1%} of answers show one of {policy['pool']} further candidates in one slot"  # fmt: skip
    _say(f"policy    {share}; not in the first {policy['first_slot']}; chance = propensity of the item in its slot")  # fmt: skip
    _say(f"answer    {trace['answer_id']}")
    _say("moved by  viewed: seen before, so its score is halved; variety: alike to what stands above; others: these stepped back; exploration: shown to learn")  # fmt: skip


def moves(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """The candidates of an answer's trace, best fused score first, each with the rule that moved it.

    A row: item_id, models (scores, one a source), fused; final, position, propensity (None off the
    page); moved_by: "" where the item stands as the fusion ranked it.
    """
    candidates, explored = trace["candidates"], trace["policy"]["explored"]
    at = {item: place for place, item in enumerate(trace["items"])}
    ids = candidates["item_ids"]
    rows = []
    ranked = [(item, candidates["fused"][n], [s[n] for s in candidates["models"].values()]) for n, item in enumerate(ids)]  # fmt: skip
    ranked += [(item, None, [None] * len(candidates["models"])) for item in at if item not in ids]
    for rank, (item, fused, scores) in enumerate(ranked, start=1):
        place = at.get(item)
        final = None if place is None else trace["scores"][place]
        if place is not None and place == explored:
            why = "exploration"
        elif place is None:
            why = "" if rank > len(at) else "viewed or variety"
        elif fused is not None and final < fused * 0.99:
            why = "viewed"
        elif place + 1 > rank:
            why = "variety"
        else:
            why = "" if place + 1 == rank else "others"
        rows.append(
            {
                "item_id": item,
                "models": scores,
                "fused": fused,
                "final": final,
                "position": None if place is None else trace["positions"][place],
                "propensity": None if place is None else trace["propensity"][place],
                "moved_by": why,
            }
        )
    return rows


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
