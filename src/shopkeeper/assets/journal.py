"""What became of promises beside the versions: runs that were stopped, ages that were watched, alerts.

A version's own quality stands with the version (`quality.<table>`). Here is what no version tells:
a run that was stopped commits nothing, and data grow old without a run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from shopkeeper.assets.catalog import Catalog, now
from shopkeeper.assets.schema import quality_log

STOPPED, WATCHED = "stopped", "watched"


def stopped(catalog: Catalog, asset: str, run_id: str, report: Mapping[str, Any]) -> None:
    """Remember the report of a run that a broken promise stopped; on disk when this returns."""
    kept = {key: report[key] for key in ("rows", "score", "rules")}
    _keep(catalog, {"asset": asset, "kind": STOPPED, "run_id": run_id, "report": _open(kept)})


def watched(
    catalog: Catalog, asset: str, version_id: str, rules: Sequence[Mapping[str, Any]]
) -> None:
    """Remember ages that were measured of what is current, where some level is another than before."""
    last = newest(catalog, asset, WATCHED)
    before = {rule["rule"]: rule["level"] for rule in last["report"]["rules"]} if last else {}
    here = {rule["rule"]: rule["level"] for rule in rules}
    if here != before:
        report = {"rules": [dict(rule) for rule in rules]}
        _keep(
            catalog, {"asset": asset, "kind": WATCHED, "version_id": version_id, "report": report}
        )


def entries(catalog: Catalog, asset: str | None = None) -> list[dict[str, Any]]:
    """[{"id", "asset", "kind", "at", "run_id", "version_id", "report"}], oldest first."""
    query = sa.select(quality_log).order_by(quality_log.c.id)
    if asset is not None:
        query = query.where(quality_log.c.asset == asset)
    return catalog._rows(query)


def newest(catalog: Catalog, asset: str, kind: str) -> dict[str, Any] | None:
    """The last entry of a kind, or None."""
    return next((one for one in reversed(entries(catalog, asset)) if one["kind"] == kind), None)


def _open(report: dict[str, Any]) -> dict[str, Any]:
    """Without examples, which hold values."""
    rules = [
        {**rule, "example": ""} if rule.get("value") is None else rule for rule in report["rules"]
    ]
    return {**report, "rules": rules}


def _keep(catalog: Catalog, values: Mapping[str, Any]) -> None:
    with catalog.write() as connection:
        connection.execute(quality_log.insert().values(at=now(), **values))


def history(catalog: Catalog, asset: str) -> list[dict[str, Any]]:
    """The quality of a table over time, oldest first: each version's, runs that were stopped, ages.

    Args:
        asset: "clean.events"; its layer does not matter.
    Returns:
        [{"asset", "version", "created_at", "rows", "score", "stopped", "watched", "rules": [{"rule",
        "column", "level", "count", "rows", "value"}]}]; `value` is what was measured of the table, or
        None for a rule of rows; version is None where a run was stopped
    """
    table = asset.partition(".")[2] or asset
    name = f"clean.{table}"
    found = []
    for version in catalog.history(f"quality.{table}"):
        made = [one for one in catalog.outputs(version.run_id) if one.startswith(f"{name}@")]
        id_ = made[0] if made else version.id
        if "rules" in version.notes:
            found.append(_told(name, id_, version.created_at, version.notes))
    for one in entries(catalog, name):
        told = _told(name, one["version_id"], one["at"], one["report"])
        found.append(told | {one["kind"]: True})
    return sorted(found, key=lambda one: str(one["created_at"]))


def _told(asset: str, version: str | None, at: str, report: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("rule", "column", "level", "count", "rows", "value")
    return {
        "asset": asset,
        "version": version,
        "created_at": at,
        "rows": report.get("rows"),
        "score": report.get("score"),
        "stopped": False,
        "watched": False,
        "rules": [{key: rule.get(key) for key in keys} for rule in report["rules"]],
    }
