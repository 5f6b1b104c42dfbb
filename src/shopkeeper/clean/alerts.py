"""Alerts: told when a rule newly fails, and when it is well again; queued on disk, tried again, never waited for.

After a run the newest report of each table is compared with what was told last. What changed goes, one
alert a table, to the webhook and the command of `[alerts]`. What a hook does not take stays in the
catalogue and is tried after the next run. An alert holds names and counts and never a value of a row.
"""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from shopkeeper.assets import journal
from shopkeeper.assets.catalog import Catalog, now, upsert
from shopkeeper.assets.schema import alert_outbox, rule_states
from shopkeeper.config import AlertSettings
from shopkeeper.words import TABLES

SECONDS = 10.0  # that a run waits for hooks in all
ONE = 5.0  # that one hook gets at a time
PAUSES = (0.0, 0.5, 2.0)  # before each try within a run
KEPT = 200  # alerts that wait at most; older ones are given up
KEYS = ("rule", "column", "level", "count", "rows", "value")
SEVERITY = {"FAIL": "error", "WARN": "warning", "PASS": "ok"}


def after_run(catalog: Catalog, settings: AlertSettings, shop: str, folder: Path) -> dict[str, int]:
    """Queue what changed and hand it over; {"queued", "delivered", "waiting"}. Raises nothing of hooks."""
    if not settings.hooks:
        return {"queued": 0, "delivered": 0, "waiting": 0}
    queued = sum(_queue(catalog, settings, shop, f"clean.{table}") for table in TABLES)
    delivered = deliver(catalog, settings, folder)
    return {"queued": queued, "delivered": delivered, "waiting": len(_waiting(catalog))}


def levels(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a rule of a report is to alerts: of rows, those that quarantine; of tables, every promise."""
    return {
        rule["rule"]: {key: rule.get(key) for key in KEYS} | {"level": SEVERITY[rule["level"]]}
        for rule in report["rules"]
        if rule["level"] != "WARN" or rule.get("value") is not None
    }


def _queue(catalog: Catalog, settings: AlertSettings, shop: str, asset: str) -> int:
    history = journal.history(catalog, asset)
    if not history:
        return 0
    last = history[-1]
    rules: dict[str, dict[str, Any]] = {}
    for one in history[-1:] if not last["watched"] else history[-2:]:  # ages stand beside a report
        rules |= levels(one)
    wanted = ("error",) if settings.level == "error" else ("error", "warning")
    where = rule_states.c.asset == asset
    known = {
        row["rule"]: row["level"] for row in catalog._rows(sa.select(rule_states).where(where))
    }
    bad = {name: rule for name, rule in rules.items() if rule["level"] in wanted}
    failed = [rule for name, rule in bad.items() if known.get(name) != rule["level"]]
    recovered = [
        rules.get(name, {"rule": name, "level": "ok"})
        for name, level in known.items()
        if level in wanted and name not in bad
    ]
    if not failed and not recovered:
        return 0
    alert = {
        "source": "shopkeeper",
        "shop": shop,
        "asset": asset,
        "at": last["created_at"],
        "version": last["version"],
        "stopped": last["stopped"],
        "failed": failed,
        "recovered": recovered,
        "text": _text(shop, asset, last["stopped"], failed, recovered),
    }
    with catalog.write() as connection:
        for rule in failed:
            key = {"asset": asset, "rule": rule["rule"]}
            upsert(
                connection, rule_states, key, {"level": rule["level"], "since": last["created_at"]}
            )
        for rule in recovered:
            gone = (where, rule_states.c.rule == rule["rule"])
            connection.execute(rule_states.delete().where(*gone))
        for hook in settings.hooks:
            connection.execute(
                alert_outbox.insert().values(hook=hook, alert=alert, queued_at=now(), tries=0)
            )
    return 1


def _text(
    shop: str, asset: str, stopped: bool, failed: list[dict[str, Any]], well: list[dict[str, Any]]
) -> str:
    """The alert in one line, for those who read it in a chat."""
    parts = []
    if failed:
        names = ", ".join(f"{rule['rule']} ({rule['count']:,} rows)" for rule in failed)
        parts.append(f"newly broken: {names}")
    if well:
        parts.append("well again: " + ", ".join(rule["rule"] for rule in well))
    return f"{shop}: {asset}{' was not renewed' if stopped else ''}: {'; '.join(parts)}"


def deliver(catalog: Catalog, settings: AlertSettings, folder: Path) -> int:
    """Hand over what waits, the oldest first; how many were taken. At most SECONDS."""
    until, taken = time.monotonic() + SECONDS, 0
    for row in _waiting(catalog):
        if row["hook"] not in settings.hooks:
            _forget(catalog, row["seq"])
            continue
        error, tries = "", row["tries"]
        for pause in PAUSES:
            left = until - time.monotonic() - pause
            if left <= 0:
                return taken
            time.sleep(pause)
            tries += 1
            error = _hand_over(row["hook"], row["alert"], settings, folder, min(ONE, left))
            if not error:
                break
        if error:
            with catalog.write() as connection:
                where = alert_outbox.c.seq == row["seq"]
                connection.execute(
                    alert_outbox.update().where(where).values(tries=tries, error=error[:500])
                )
        else:
            _forget(catalog, row["seq"])
            taken += 1
    return taken


def _hand_over(
    hook: str, alert: Mapping[str, Any], settings: AlertSettings, folder: Path, seconds: float
) -> str:
    """Give one alert to one hook; what went wrong, or ""."""
    body = json.dumps(alert, ensure_ascii=False).encode()
    try:
        if hook == "command":
            subprocess.run(
                settings.command,
                input=body,
                cwd=folder,
                timeout=seconds,
                check=True,
                capture_output=True,
            )
        else:
            request = urllib.request.Request(
                str(settings.webhook), data=body, headers={"Content-Type": "application/json"}
            )
            urllib.request.urlopen(request, timeout=seconds).close()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _waiting(catalog: Catalog) -> list[dict[str, Any]]:
    found = catalog._rows(sa.select(alert_outbox).order_by(alert_outbox.c.seq))
    for row in found[:-KEPT]:
        _forget(catalog, row["seq"])
    return found[-KEPT:]


def _forget(catalog: Catalog, seq: int) -> None:
    with catalog.write() as connection:
        connection.execute(alert_outbox.delete().where(alert_outbox.c.seq == seq))
