"""Repairs of quarantined rows: decisions that cleaning heeds from then on, each with who, when and why.

    repairs = parse("outlier:price_minor", ["price_minor:=CAST(try_cast(price_minor AS BIGINT) / 100 AS BIGINT)"])

A repair names a rule and what to set in the raw rows that go to quarantine under it: `column=text`
sets a text (nothing after `=`: no value), `column:=SQL` what an expression over the row's own raw
columns gives, all of which are text. Rows are then cleaned anew, as if the source had said so. What is
no better for it stays in quarantine as the source said it, with all that is wrong in `detail`.

Raw rows are never changed and a repair knows no row: the same raw rows and the same decisions give the
same tables, whenever and in whatever order they run.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import polars as pl

from shopkeeper.assets.store import Assets, Run
from shopkeeper.clean.checks import CHECKS, Cleaned, Unaccounted
from shopkeeper.errors import InputError, NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.words import ABOUT_USERS, Grade, Purpose

LAYER = "repairs"
MADE, UNDONE = "made", "undone"
SET = re.compile(r"([a-z_][a-z0-9_]*)(:?=)(.*)", re.DOTALL)
DECISION: dict[str, Any] = {
    "repair": pl.String,
    "decision": pl.String,  # made | undone
    "rule": pl.String,
    "set": pl.String,  # JSON: a list of assignments as they were spelt
    "why": pl.String,
    "by": pl.String,
    "at": pl.Datetime("us", "UTC"),
}

Work = Callable[[pl.DataFrame], Cleaned]


@dataclass(frozen=True)
class Repair:
    """One decision that holds."""

    id: str
    rule: str
    set: tuple[str, ...]  # as spelt

    def apply(self, raw: pl.DataFrame) -> pl.DataFrame:
        """The raw rows with what the repair sets. InputError: an expression cannot be computed."""
        try:
            return raw.with_columns(_value(one) for one in self.set)
        except pl.exceptions.PolarsError as error:
            raise InputError(
                f"{', '.join(self.set)}: {str(error).splitlines()[0]}",
                where=f"repair {self.id} of {self.rule}",
                next="raw columns are text: use TRY_CAST(column AS BIGINT), which gives null where "
                "it cannot; or undo it: shopkeeper quarantine undo TABLE REPAIR",
            ) from error


def name_of(table: str) -> str:
    """The asset that holds the decisions about a table."""
    return f"{LAYER}.{table}"


def parse(
    rule: str, assignments: Sequence[str], columns: Sequence[str], fixed: Sequence[str] = ()
) -> Repair:
    """A repair as it is spelt. InputError: no assignment, an unknown column, an unfit expression.

    Args:
        columns: what a raw row has.
        fixed: of those, what no repair may set.
    """
    if not assignments:
        raise InputError("nothing to set", where=rule, next="say what, as in --set quantity=1")
    for text in assignments:
        found = SET.fullmatch(text.strip())
        if found is None:
            raise InputError(
                f"{text!r} is no assignment", where=rule,
                next='write column=value, or column:=SQL as in "quantity:=ABS(TRY_CAST(quantity AS BIGINT))"',
            )  # fmt: skip
        named = [found[1]]
        if found[2] == ":=":
            named += _expression(text, rule).meta.root_names()
        if unknown := [name for name in named if name not in columns]:
            raise InputError(
                f"{text!r}: no column {', '.join(unknown)}", where=rule,
                next=f"columns: {', '.join(columns)}",
            )  # fmt: skip
        if found[1] in fixed:
            raise InputError(
                f"{text!r}: {found[1]} decides where a row stands, so no repair sets it", where=rule,
                next="have the source send it again, put right",
            )  # fmt: skip
    return Repair(uuid4().hex[:8], rule, tuple(text.strip() for text in assignments))


def _expression(text: str, rule: str) -> pl.Expr:
    """What stands behind `:=`, which must look at one row at a time."""
    found = SET.fullmatch(text.strip())
    assert found is not None
    try:
        made = pl.sql_expr(found[3])
        names = made.meta.root_names()
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"{text!r}: {str(error).splitlines()[0]}", where=rule, next="correct the expression"
        ) from error
    if not _of_one_row(made, names):
        raise InputError(
            f"{text!r} looks at more than its own row", where=rule,
            next="what becomes of a row must not depend on others: leave out MAX, SUM, OVER and the like",
        )  # fmt: skip
    return made


def _of_one_row(made: pl.Expr, names: Sequence[str]) -> bool:
    """Whether an expression gives each row alone what it gives it among others, as tried out."""
    rows = pl.DataFrame({"other rows": ["a"] * 4} | {name: ["1", "2", "3", "3"] for name in names})
    try:
        whole = rows.with_columns(made.alias("made"))
        alone = pl.concat([rows[n : n + 1].with_columns(made.alias("made")) for n in range(4)])
    except pl.exceptions.PolarsError:  # numbers are no times: what it does is seen on real rows
        return True
    return whole.equals(alone)


def _value(text: str) -> pl.Expr:
    found = SET.fullmatch(text)
    assert found is not None
    if found[2] == "=":
        return pl.lit(found[3] or None, pl.String).alias(found[1])
    return _expression(text, "").cast(pl.String).alias(found[1])


def clean(raw: pl.DataFrame, repairs: Sequence[Repair], work: Work) -> Cleaned:
    """`work(raw)`, with the repairs of those rows that it would quarantine; each at most once a row.

    Args:
        raw: with `seq`, which tells one row from another.
    Returns:
        accounts of the same rows: what a repair made fit is clean or merged, and counted as repaired.
    """
    cleaned = work(raw)
    if not repairs or not cleaned.quarantine.height:
        return cleaned
    now, done = raw, pl.DataFrame(schema={"seq": raw.schema["seq"], "repair": pl.String})
    for _ in repairs:  # a row that a repair leads into another rule may be repaired there
        changed = False
        for repair in repairs:
            bad = cleaned.quarantine.filter(pl.col("rule") == repair.rule).select("seq")
            had = done.filter(pl.col("repair") == repair.id)
            todo = bad.join(had, on="seq", how="anti")
            if todo.height:
                mask = now["seq"].is_in(todo["seq"].implode())
                fixed = repair.apply(now.filter(mask)).select(now.columns)
                now = pl.concat([now.filter(~mask), fixed]).sort("seq", maintain_order=True)
                done = pl.concat([done, todo.with_columns(repair=pl.lit(repair.id))])
                changed = True
        if not changed:
            break
        cleaned = work(now)
    return _settled(raw, now, cleaned, done, {repair.id: repair.rule for repair in repairs}, work)


def _settled(
    raw: pl.DataFrame,
    now: pl.DataFrame,
    cleaned: Cleaned,
    done: pl.DataFrame,
    rules: dict[str, str],
    work: Work,
) -> Cleaned:
    """What no repair helped goes back to what the source said; what it helped is counted."""
    helpless = cleaned.quarantine.join(done, on="seq", how="semi").select("seq", detail_="detail")
    helped = done.join(helpless, on="seq", how="anti")
    if helpless.height:
        mask = now["seq"].is_in(helpless["seq"].implode())
        back = raw.filter(pl.col("seq").is_in(helpless["seq"].implode())).select(now.columns)
        cleaned = work(pl.concat([now.filter(~mask), back]).sort("seq", maintain_order=True))
        told = cleaned.quarantine.join(helpless, on="seq", how="left", maintain_order="left")
        still = pl.format("{}; repaired it would be: {}", "detail", "detail_")
        detail = pl.when(pl.col("detail_").is_not_null()).then(still).otherwise("detail")
        cleaned = replace(cleaned, quarantine=told.with_columns(detail=detail).drop("detail_"))
    if raw.height != cleaned.clean.height + cleaned.merged + cleaned.quarantine.height:
        raise Unaccounted(f"{raw.height} rows in, and after repairs not as many out")
    rows = helped.with_columns(rule=pl.col("repair").replace_strict(rules, return_dtype=pl.String))
    counts = rows.group_by("rule").agg(pl.col("seq").n_unique()).sort("rule")
    asset = cleaned.checks["asset"][0] if cleaned.checks.height else ""
    made = [
        (asset, f"repair:{rule}", rule.rpartition(":")[2], "WARN", n, raw.height, "", None)
        for rule, n in counts.iter_rows()
    ]
    repaired = cleaned.repaired | {f"repair:{rule}": n for rule, n in counts.iter_rows()}
    checks = pl.concat([cleaned.checks, pl.DataFrame(made, schema=CHECKS, orient="row")])
    return replace(cleaned, checks=checks, repaired=dict(sorted(repaired.items())))


# decisions


def decide(
    assets: Assets, table: str, repair: Repair, decision: str, why: str, by: str
) -> dict[str, Any]:
    """Keep a decision; it is on disk when this returns, and the next run heeds it."""
    if not why.strip():
        raise InputError("no reason given", where=repair.rule, next='say it: --why "…"')
    at = datetime.now(UTC)
    told = (repair.id, decision, repair.rule, json.dumps(repair.set, ensure_ascii=False), why.strip(), by, at)  # fmt: skip
    about = {"table": table, "repair": repair.id, "decision": decision, "rule": repair.rule}
    with assets.run("quarantine.repair", parameters=about) as run:
        kept = run.table(
            name_of(table), "append", description=f"repairs of {table}: who, when, why"
        )
        kept.grade = Grade.PERSONAL if table in ABOUT_USERS else Grade.INTERNAL
        kept.put(pl.DataFrame([told], schema=DECISION, orient="row"))
    return {"table": table, "repair": repair.id, "rule": repair.rule, "set": list(repair.set),
            "decision": decision, "why": why.strip(), "by": by, "at": at.isoformat()}  # fmt: skip


def decisions(assets: Assets, table: str) -> list[dict[str, Any]]:
    """[{"repair", "rule", "set", "why", "by", "at", "undone": {"why", "by", "at"} | None}], oldest first."""
    if not assets.exists(name_of(table)):
        return []
    frame = assets.read(name_of(table), by=OWNER, purpose=Purpose.ANALYSE).sort("at")
    found: dict[str, dict[str, Any]] = {}
    for row in frame.iter_rows(named=True):
        said = {"why": row["why"], "by": row["by"], "at": row["at"].isoformat()}
        if row["decision"] == MADE:
            told = {"repair": row["repair"], "rule": row["rule"], "set": json.loads(row["set"])}
            found[row["repair"]] = {**told, **said, "undone": None}
        elif row["repair"] in found:
            found[row["repair"]]["undone"] = said
    return list(found.values())


def undo(assets: Assets, table: str, repair: str, why: str, by: str) -> dict[str, Any]:
    """Take a repair back. NotFound: there is none of this id that holds."""
    held = [one for one in decisions(assets, table) if one["undone"] is None]
    one = next((one for one in held if one["repair"] == repair), None)
    if one is None:
        raise NotFound(
            f"no repair {repair!r} of {table} that holds", where="quarantine",
            next="there are: " + (", ".join(one["repair"] for one in held) or "none"),
        )  # fmt: skip
    return decide(assets, table, Repair(repair, one["rule"], tuple(one["set"])), UNDONE, why, by)


def repairs_of(run: Run, table: str) -> tuple[Repair, ...]:
    """The repairs that hold as a run reads them, oldest first."""
    if not run.has(name_of(table)):
        return ()
    frame = run.read(name_of(table)).sort("at")
    made = {row["repair"]: row for row in frame.iter_rows(named=True) if row["decision"] == MADE}
    undone = set(frame.filter(pl.col("decision") == UNDONE)["repair"])
    return tuple(
        Repair(row["repair"], row["rule"], tuple(json.loads(row["set"])))
        for name, row in made.items()
        if name not in undone
    )
