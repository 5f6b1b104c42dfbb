"""A part of what is there, made anew."""

from datetime import date
from typing import Annotated, Any

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, bars, out, print_json, stoppable, table
from shopkeeper.errors import InputError


@app.command()
def backfill(
    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day of the events, in UTC.")
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="DAY", help="Last day, included; default: the first."),
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option("--file", help="A source file, as lineage calls it.")
    ] = None,
    buckets: Annotated[
        str | None, typer.Option(help="Numbers of buckets to make anew instead, e.g. 3,7.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell the plan, and change nothing.")
    ] = False,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Read source files of events again that were repaired where they stand, or make some buckets anew.

    Files are found by the days of their events; their rows take the place of those they gave before.
    Buckets are those of clean.events, quarantine.events and features.sequences.

    Example: shopkeeper backfill --from 2026-03-02 --to 2026-03-04 --dry-run
    """
    from shopkeeper import backfill as work
    from shopkeeper.shop import Shop

    if (buckets is None) == (first is None and last is None and not file):
        raise InputError(
            "name what is to be made anew: days or files, or buckets",
            next="e.g. shopkeeper backfill --from 2026-03-02, or shopkeeper backfill --buckets 3,7",
        )
    with Shop.open(shop) as opened, stoppable(), bars(quiet=as_json) as report:
        if buckets is not None:
            told = work.of_buckets(opened, _numbers(buckets), dry_run=dry_run, report=report)
        else:
            told = work.of_files(
                opened, first=_day(first), last=_day(last), files=file or (), dry_run=dry_run,
                report=report,
            )  # fmt: skip
    if as_json:
        print_json(told)
        return
    _say(told)


def _say(told: dict[str, Any]) -> None:
    if "files" in told:
        table(
            ("file", "rows", "of those days", "since it was read"),
            (
                (f["file"], f"{f['rows']:,}", f"{f['rows_in_days']:,}", f["state"])
                for f in told["files"]
            ),
        )
    else:
        table(
            ("table", "rows", "files", "damaged"),
            (
                (t["asset"], f"{t['rows']:,}", f"{t['files']:,}", ", ".join(t["damaged"]) or "none")
                for t in told["tables"]
            ),
        )
    out.print(f"buckets: {', '.join(map(str, told['buckets']))}; steps: {', '.join(told['steps'])}", soft_wrap=True)  # fmt: skip
    if told["dry_run"]:
        out.print("nothing was changed; leave out --dry-run to do it")
        return
    made = {name: one["version"] for name, one in told["run"]["assets"].items()}
    out.print(f"made: {', '.join(made.values()) or 'nothing else than was there'}", soft_wrap=True)
    out.print("next, what stands on them: shopkeeper run")


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is no day", next="write e.g. 2026-03-02") from error


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise InputError(f"--buckets {text!r}: wanted numbers", next="write e.g. 3,7") from error
