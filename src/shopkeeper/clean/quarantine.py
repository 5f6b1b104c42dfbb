"""Quarantine as work: what a repair would do to the rows there, and what became of rows cleaned again."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from shopkeeper.assets import contracts
from shopkeeper.assets.diff import HIDDEN
from shopkeeper.assets.profile import OPEN
from shopkeeper.assets.store import Assets
from shopkeeper.clean import repairs
from shopkeeper.clean.repairs import Repair
from shopkeeper.errors import InputError, NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.words import ABOUT_USERS, TABLES, WHOLE_FILES, Purpose

PLACE = ("source", "file", "line")  # what tells a row of a source from every other
SHOWN = 3  # rows that show what a repair does


def propose(
    assets: Assets, table: str, rule: str, assignments: Sequence[str]
) -> tuple[Repair, dict[str, Any]]:
    """A repair, tried on the rows in quarantine.

    Returns:
        it, and {"rows", "examples": [{"file", "line", "before", "after"}]} with values above grade
        internal hidden
    Raises:
        InputError: it cannot be heeded, see `repairs.parse`. NotFound: nothing is there under `rule`.
    """
    _known(table)
    if table in WHOLE_FILES:
        raise InputError(f"{table} are files; a repair sets columns", where="quarantine")
    bad = in_quarantine(assets, table)
    rows = bad.filter(pl.col("rule") == rule)
    if not rows.height:
        held = ", ".join(bad["rule"].unique().sort()) or "nothing"
        raise NotFound(
            f"no row of {table} is in quarantine under {rule!r}", where="quarantine",
            next=f"there is {held}; lines that cannot be read at all have no columns to set",
        )  # fmt: skip
    columns = contracts.built_in(table).names
    fixed = ("user_id",) if table in ABOUT_USERS else ()
    repair = repairs.parse(rule, assignments, columns, fixed)
    after = repair.apply(rows)
    grades = {column.name: column.grade for column in contracts.built_in(table).columns}
    named = [str(text.partition("=")[0]).rstrip(":") for text in repair.set]
    examples = []
    for old, new in zip(rows.head(SHOWN).to_dicts(), after.head(SHOWN).to_dicts(), strict=True):
        sides = [
            {
                name: row[name] if grades[name] in OPEN or row[name] is None else HIDDEN
                for name in named
            }
            for row in (old, new)
        ]
        examples.append(
            {"file": old["file"], "line": old["line"], "before": sides[0], "after": sides[1]}
        )
    return repair, {"rows": rows.height, "examples": examples}


def in_quarantine(assets: Assets, table: str) -> pl.DataFrame:
    """The rows of a table that cleaning rejected; none where nothing was cleaned yet."""
    _known(table)
    name = f"quarantine.{table}"
    if not assets.exists(name):
        return pl.DataFrame(schema={"rule": pl.String, **dict.fromkeys(PLACE, pl.String)})
    scan = assets.scan(name, by=OWNER, purpose=Purpose.OPERATE)
    return scan.drop(pl.selectors.binary()).collect()


def became(assets: Assets, table: str, before: pl.DataFrame) -> dict[str, int]:
    """What became of rows that were in quarantine, counted.

    Returns:
        {"replayed", "clean", "merged", "still"}; merged: what another row of the same key tells already
    """

    def there(name: str) -> int:
        if not assets.exists(name) or not before.height:
            return 0
        places = assets.scan(name, by=OWNER, purpose=Purpose.OPERATE).select(PLACE).collect()
        here = before.select(pl.col(name).cast(kind) for name, kind in places.schema.items())
        return here.join(places, on=PLACE, how="semi", nulls_equal=True).height

    still, clean = there(f"quarantine.{table}"), there(f"clean.{table}")
    merged = before.height - still - clean
    return {"replayed": before.height, "clean": clean, "merged": merged, "still": still}


def listed(assets: Assets, table: str | None = None) -> list[dict[str, Any]]:
    """[{"table", "repair", "rule", "set", "why", "by", "at", "undone", "repaired": rows of now}]."""
    told = []
    for name in TABLES if table is None else (table,):
        _known(name)
        version = assets.catalog.current(f"quality.{name}")
        counts = version.notes.get("repaired", {}) if version else {}
        for one in repairs.decisions(assets, name):
            rows = 0 if one["undone"] else counts.get(f"repair:{one['rule']}", 0)
            told.append({"table": name, **one, "repaired": rows})
    return told


def spelt(assignments: Sequence[str] | str) -> list[str]:
    """One assignment, or several."""
    return [assignments] if isinstance(assignments, str) else list(assignments)


def _known(table: str) -> None:
    if table not in TABLES:
        raise NotFound(f"no table {table!r}", next=f"there are: {', '.join(TABLES)}")
