"""The quality of a table over time, drawn."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from shopkeeper.analysis.chart import LINES, chart
from shopkeeper.assets import durable
from shopkeeper.errors import InputError

AT = pl.Datetime("us", "UTC")


def trend(history: Sequence[Mapping[str, Any]], rule: str | None = None) -> pl.DataFrame:
    """at, rule, share of rows of the rules that hit most; or at and value of one rule.

    Args:
        history: as `Shop.quality_history`, of one table.
    Raises:
        InputError: `rule` was never measured.
    """
    if rule is not None:
        rows = [
            (datetime.fromisoformat(one["created_at"]), float(value))
            for one in history
            for found in one["rules"]
            if found["rule"] == rule
            and (value := found["count"] if found["value"] is None else found["value"]) is not None
        ]
        if not rows:
            known = sorted({found["rule"] for one in history for found in one["rules"]})
            raise InputError(f"no rule {rule!r} was measured", next=f"known: {', '.join(known)}")
        return pl.DataFrame(rows, schema={"at": AT, rule: pl.Float64}, orient="row")
    told = [one for one in history if one["rows"]]
    total: dict[str, int] = {}
    for one in told:
        for found in one["rules"]:
            if found["value"] is None and found["level"] != "PASS":
                total[found["rule"]] = total.get(found["rule"], 0) + found["count"]
    worst = sorted(total, key=lambda name: (-total[name], name))[:LINES]
    made = []
    for one in told:
        counts = {found["rule"]: found["count"] for found in one["rules"]}
        at = datetime.fromisoformat(one["created_at"])
        made += [(at, name, counts.get(name, 0) / one["rows"]) for name in worst]
    schema: dict[str, Any] = {"at": AT, "rule": pl.String, "share of rows": pl.Float64}
    return pl.DataFrame(made, schema=schema, orient="row")


def draw(history: Sequence[Mapping[str, Any]], out: Path, rule: str | None = None) -> None:
    """Write the trend as SVG. InputError: another suffix, or nothing was ever hit."""
    if out.suffix != ".svg":
        raise InputError(
            f"cannot draw into {out.name}", where=str(out), next="name a file that ends in .svg"
        )
    asset = history[0]["asset"]
    frame = trend(history, rule)
    if not frame.height:
        raise InputError("no rule has hit a row yet, so there is no line", where=asset)
    title = f"{asset}: {rule}" if rule else f"{asset}: share of rows by rule"
    durable.write_bytes(out, chart(frame, title).encode())
