"""What is made of what in cleaning, column by column: said beside the code that does it.

A column of clean.<table> is its raw column, converted and repaired. Any column may break a rule and so
decides with the others which rows there are; so do the tables that references lead to. Rows in
quarantine are raw rows, whole.
"""

from collections.abc import Collection, Iterable

from shopkeeper.assets.contracts import Contract
from shopkeeper.assets.lineage import Column, Derivation
from shopkeeper.assets.store import Run
from shopkeeper.clean.checks import TRACE

WHERE = ("source", "file", "line")  # of TRACE, what stays as it is
REPAIRS = "repairs."  # what people said is to be put right, in any column


def table(run: Run, contract: Contract) -> None:
    """Say it of a table that is made of raw.<table>; whatever else was read decides on its rows."""
    name = contract.name
    raw = f"raw.{name}"
    content = {"content"} & run.lineage.read.get(raw, set())
    columns = {
        column: from_each(run, [raw], column) for column in (*contract.names, *TRACE, *content)
    }
    others = from_read(run, *(asset for asset in run.lineage.read if asset != raw))
    _said(run, name, columns, dict(columns), others, (*WHERE, *content))


def events(run: Run, contract: Contract, persons: tuple[str, str]) -> None:
    """Say it of events: of files and of what came while serving, by the person who did them.

    Args:
        persons: names of the tables that tell who is whom, and hold the events that moved.
    """
    identities, moved = persons
    raw = [name for name in ("raw.events", "raw.feedback", moved) if name in run.lineage.read]
    whole = {column: from_each(run, raw, column) for column in (*contract.names, *TRACE)}
    columns = dict(whole)
    columns["quantity"] = [*columns["quantity"], *columns["kind"]]  # pieces of a return below 0
    who = from_read(run, identities)
    if who:  # the person, and the event's id where two of one person's are alike
        columns["user_id"] = [*columns["user_id"], *who]
        columns["event_id"] = [*columns["event_id"], *columns["user_id"]]
    others = from_read(run, *(name for name in run.lineage.read if name not in raw))
    others += from_each(run, [moved], "origin")
    _said(run, "events", columns, whole, others, WHERE)


def items(run: Run, contract: Contract) -> None:
    """Say it of items: states of files and live writes, whose fields are one JSON text."""
    files = [name for name in ("raw.items",) if name in run.lineage.read]
    written = "raw.item_writes" in run.lineage.read
    own: dict[str, list[Column]] = {
        "item_id": [("raw.item_writes", "item_id")],
        "updated_at": [("raw.item_writes", "received")],
        "line": [("raw.item_writes", "line")],
        "seq": [("raw.item_writes", name) for name in ("after_rows", "seq")],
        "source": [],
        "file": [],
    }
    columns: dict[str, list[Column]] = {}
    for column in (*contract.names, *TRACE):
        columns[column] = from_each(run, files, column)
        if written:
            columns[column] += own.get(column, [("raw.item_writes", "fields")])
    _said(run, "items", columns, dict(columns), from_read(run, *run.lineage.read), ("line",))


def _said(
    run: Run,
    name: str,
    columns: dict[str, list[Column]],
    whole: dict[str, list[Column]],
    others: Iterable[Column],
    copied: Collection[str],
) -> None:
    """Derive clean.<name> and quarantine.<name>.

    Args:
        columns: of the clean table. whole: of raw rows, as quarantine has them.
        others: what decides on rows besides the columns themselves.
    """
    rows = sorted({*others, *(found for some in whole.values() for found in some)})
    bad: dict[str, Collection[Column]] = {**whole, "rule": rows, "detail": rows}
    mended = from_read(run, *(asset for asset in run.lineage.read if asset.startswith(REPAIRS)))
    clean = {column: [*found, *mended] for column, found in columns.items()}
    run.derive(f"clean.{name}", Derivation(clean, rows, () if mended else copied))
    run.derive(f"quarantine.{name}", Derivation(bad, rows, copied))


def from_each(run: Run, assets: Iterable[str], column: str) -> list[Column]:
    """That column of each of these assets that has it; a contract may know more than there is."""
    return [(asset, column) for asset in assets if column in run.lineage.read.get(asset, ())]


def from_read(run: Run, *assets: str) -> list[Column]:
    """All columns that the run read of these assets; none of those that it did not read."""
    return [(name, column) for name in assets for column in sorted(run.lineage.read.get(name, ()))]
