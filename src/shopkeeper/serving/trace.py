"""Row level lineage, both ways: from an answer to the raw rows behind it, and from a raw row to all that
it reached.

A raw row is known by where it stood: file and line (of the event log, its seq). The lake keeps that
place with every row from raw.* to clean.* and quarantine.*, so what is said of a version here was read
in it: a version of many runs ago, or one whose files were merged since, is looked into as it is. What
follows from a clean version (features, models, releases) is what runs recorded; for a user's sequence
the event itself is looked up in it. Of tables about users only the user's part is read.

Values of personal and sensitive columns are hidden; places are not.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from shopkeeper.assets import contracts, lineage
from shopkeeper.assets.buckets import bucket_of
from shopkeeper.assets.catalog import Version
from shopkeeper.assets.diff import HIDDEN, column_grades
from shopkeeper.assets.profile import OPEN
from shopkeeper.assets.store import Assets
from shopkeeper.clean.identity import IDENTITIES, members
from shopkeeper.config import Settings
from shopkeeper.errors import NotFound, NotReady
from shopkeeper.features.sequences import NO_TIME
from shopkeeper.governance.access import OWNER, check_read
from shopkeeper.serving import releases, state
from shopkeeper.serving.answers import AnswerLog
from shopkeeper.serving.events import Act, EventLog, instant_us, session_key, user_key
from shopkeeper.serving.feedback import ANSWER_LOG, EVENT_LOG, ITEM_LOG, LIVE
from shopkeeper.serving.live import rules
from shopkeeper.serving.pages import Request
from shopkeeper.serving.snapshot import Snapshot
from shopkeeper.words import ABOUT_USERS, INTEREST_KINDS, KIND_CODES, TABLES, Purpose

WRITES = "raw.item_writes"  # its rows are of one log, and say so by `line` alone
RAW = {"raw.feedback": "events", WRITES: "items"}  # raw tables that have another's name when clean
BESIDE = ("source", "file", "line", "seq")
NEAR_MS = 60_000  # a merged event is looked for this near to its own time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# from a raw row to what it reached


def trace_row(assets: Assets, file: str, line: int) -> dict[str, Any]:
    """All that came of the raw row that stood in `line` of `file`.

    Returns:
        {"file", "line", "rows", "unread"}. A place that was read again under other contents has
        several rows: {"table", "source", "file", "line", "seq", "versions" (of the raw table that have
        it), "row" (open values), "cleaned": [{"state": clean | quarantined | merged, "versions",
        "rule", "detail", "into"}], "reached": [{"version", "why", "created_at", "current", …}],
        "given_up": versions whose data are gone}. `unread`: [{"versions", "rule", "detail"}].
    Raises:
        NotFound: no version that is kept has a row of that place.
    """
    look = _Look(assets)
    found: list[dict[str, Any]] = []
    unread: list[dict[str, Any]] = []
    for name in _raw_tables(assets, file):
        where = pl.col("line") == line
        if name != WRITES:
            where &= pl.col("file") == file
        found += _rows(look, name, where, (name, file, line))
        bad = name.replace("raw.", "unread.")
        if assets.exists(bad):
            unread += _unread(look, bad, where, (bad, file, line))
    if not found and not unread:
        raise NotFound(
            f"no row of line {line} of {file!r} is in any version that is kept",
            where="lineage",
            next="see the files that were read: shopkeeper sql \"SELECT file, count(*) FROM raw.events GROUP BY 1\"",
        )  # fmt: skip
    return {"file": file, "line": line, "rows": found, "unread": unread}


def trace_event(assets: Assets, event_id: str) -> dict[str, Any]:
    """As `trace_row`, of all rows with that event id; {"event_id", "rows", "logged"}.

    `logged`: seq in the event log of one that no run has collected yet, else None.
    """
    look = _Look(assets)
    found: list[dict[str, Any]] = []
    for name in ("raw.events", "raw.feedback"):
        if assets.exists(name):
            where = pl.col("event_id") == event_id
            found += _rows(look, name, where, (name, "event_id", event_id))
    seq = None
    path = assets.root / "online" / EVENT_LOG
    if not found and path.exists():
        log = EventLog(path)
        try:
            rows = log.file.query("SELECT seq FROM events WHERE event_id = ?", (event_id,))
        finally:
            log.close()
        seq = int(rows[0][0]) if rows else None
    if not found and seq is None:
        raise NotFound(f"no event {event_id!r} in raw.events, raw.feedback or the event log", where="lineage")  # fmt: skip
    return {"event_id": event_id, "rows": found, "logged": seq}


class _Look:
    """Rows of versions, looked up data file by data file: a file that several versions have in common
    is read once."""

    def __init__(self, assets: Assets) -> None:
        self.assets = assets
        self._known: dict[tuple[Any, str, str], list[dict[str, Any]]] = {}

    def rows(
        self, version: Version, where: pl.Expr, key: Any, bucket: int | None = None
    ) -> list[dict[str, Any]]:
        """Rows of a version that `where` (called `key`) is true of, each with its `bucket`."""
        check_read(OWNER, Purpose.AUDIT, version.asset)
        files = [f for f in self.assets._data_files(version) if bucket in (None, f.bucket)]
        parts: dict[int, list[Any]] = {}
        for file in files:
            if (key, version.asset, file.path) not in self._known:
                parts.setdefault(file.bucket, []).append(file)
        for (
            some
        ) in parts.values():  # most parts have none of it: then one look tells it of all files
            many = len(some) > 1 and not self._scan(version, some, where)
            for file in some:
                rows = [] if many else self._scan(version, [file], where)
                self._known[key, version.asset, file.path] = rows
        return [
            {**row, "bucket": file.bucket}
            for file in files
            for row in self._known[key, version.asset, file.path]
        ]

    def _scan(self, version: Version, files: list[Any], where: pl.Expr) -> list[dict[str, Any]]:
        scan = self.assets._open_files(version, files)
        return scan.filter(where).drop(pl.selectors.binary()).collect().to_dicts()


def _raw_tables(assets: Assets, file: str) -> list[str]:
    """Raw tables that may have rows of this file: those that say they read it, else all."""
    live = {EVENT_LOG: "raw.feedback", ITEM_LOG: WRITES}
    if file in live:
        return [live[file]] if assets.exists(live[file]) else []
    every = [f"raw.{table}" for table in TABLES if assets.exists(f"raw.{table}")]
    return [name for name in every if file in assets.catalog.files_read(name)] or every


def _rows(look: _Look, name: str, where: pl.Expr, key: Any) -> list[dict[str, Any]]:
    """What `where` finds in any version of a raw table, and what became of each."""
    groups: dict[str, dict[str, Any]] = {}
    gone = []
    for version in look.assets.catalog.history(name):
        if version.removed_at is not None:
            gone.append(version.id)
            continue
        for row in look.rows(version, where, key):
            digest = repr(sorted((k, repr(v)) for k, v in row.items() if k != "seq"))
            groups.setdefault(digest, {"row": row, "versions": []})["versions"].append(version.id)
    return [_traced(look, name, one["row"], one["versions"], gone) for one in groups.values()]


def _traced(
    look: _Look, name: str, row: dict[str, Any], versions: list[str], gone: list[str]
) -> dict[str, Any]:
    table = RAW.get(name, name.partition(".")[2])
    place = {"source": row.get("source", LIVE), "file": row.get("file", ITEM_LOG), "line": row["line"]}  # fmt: skip
    cleaned, starts, given_up = _cleaned(look, table, name, row, place, versions)
    return {
        "table": name,
        **place,
        "seq": row["seq"],
        "versions": versions,
        "row": _open(look.assets, name, row),
        "cleaned": cleaned,
        "reached": _reached(look, table, starts),
        "given_up": [*gone, *given_up],
    }


def _cleaned(
    look: _Look,
    table: str,
    name: str,
    row: dict[str, Any],
    place: dict[str, Any],
    versions: list[str],
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]], list[str]]:
    """What every cleaning of those raw versions made of the row; clean versions with the row they have
    of it; versions that cannot be looked into any more."""
    catalog = look.assets.catalog
    told: dict[str, dict[str, Any]] = {}
    starts: dict[str, dict[str, Any]] = {}
    gone: list[str] = []
    where = pl.all_horizontal(pl.col(k) == pl.lit(v) for k, v in place.items())
    key = tuple(place.values())
    for run in lineage.readers(catalog, versions):
        made = {v.asset: v for v in map(catalog.version, run["makes"]) if v is not None}
        clean, bad = made.get(f"clean.{table}"), made.get(f"quarantine.{table}")
        if clean is None or bad is None:
            continue
        if clean.removed_at or bad.removed_at:
            gone += [v.id for v in (clean, bad) if v.removed_at]
            continue
        bucket, user = _home(look, table, row, run["reads"])
        state: dict[str, Any]
        if kept := look.rows(clean, where, key, bucket):
            state, starts[clean.id] = {"state": "clean"}, kept[0]
        elif refused := look.rows(bad, where, key, bucket):
            detail = _open_detail(look.assets, bad.asset, refused[0])
            state = {"state": "quarantined", "rule": refused[0]["rule"], "detail": detail}
        else:
            into = _merged_into(look, table, clean, row, bucket, user)
            state = {"state": "merged", "into": None if into is None else {k: into[k] for k in BESIDE}}  # fmt: skip
            if into is not None and table != "events":  # older states still tell what newer do not
                starts[clean.id] = into
        versions_of = told.setdefault(repr(state), {**state, "versions": []})["versions"]
        where_it_is = bad if state["state"] == "quarantined" else clean
        if where_it_is.id not in versions_of:
            versions_of.append(where_it_is.id)
    return list(told.values()), starts, gone


def _home(
    look: _Look, table: str, row: Mapping[str, Any], reads: Iterable[str]
) -> tuple[int | None, str | None]:
    """The part in which a run put what became of the row, and whose it is then."""
    if table not in ABOUT_USERS:
        return None, None
    user = (row.get("user_id") or "").strip() or None
    stitched = [i for i in reads if i.startswith(f"{IDENTITIES}@")] if table == "events" else []
    for version in map(look.assets.catalog.version, stitched):
        if version is not None and version.removed_at is None:
            for found in look.rows(version, pl.col("user_id") == user, ("person", user)):
                person = str(found["person"])
                return bucket_of(person, look.assets.buckets), person
    return row["bucket"], user


def _merged_into(
    look: _Look,
    table: str,
    clean: Version,
    row: Mapping[str, Any],
    bucket: int | None,
    user: str | None,
) -> dict[str, Any] | None:
    """The clean row that stands for a row that is neither clean nor quarantined; None: not found."""
    if table == "events":
        mine = look.rows(clean, pl.col("user_id") == user, ("user", user), bucket)
        if same := [r for r in mine if row.get("event_id") and r["event_id"] == row["event_id"]]:
            return same[0]
        ts = pl.Series([row["ts"]], dtype=pl.String).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_zone="UTC", strict=False)[0]  # fmt: skip
        alike = [r for r in mine if r["item_id"] == (row["item_id"] or "").strip() and (r["ts"] is None) == (ts is None)]  # fmt: skip
        if ts is not None:
            alike.sort(key=lambda r: abs((r["ts"] - ts).total_seconds()))
            alike = [r for r in alike if abs((r["ts"] - ts).total_seconds()) * 1000 <= NEAR_MS]
        return alike[0] if alike else None
    contract = contracts.load(look.assets.root.parent)[table]
    keys = [column.name for column in contract.columns if column.key]
    if not keys or any(row.get(name) is None for name in keys):
        return None
    where = pl.all_horizontal(
        pl.col(name).cast(pl.String) == str(row[name]).strip() for name in keys
    )
    found = look.rows(clean, where, tuple(str(row[name]) for name in keys), bucket)
    return found[0] if found else None


def _reached(look: _Look, table: str, starts: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Versions that hold the row or were made from one that does, nearest first."""
    if not starts:
        return []
    catalog = look.assets.catalog
    graph = lineage.walk(catalog, starts, "down", every=True)
    after: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}
    for edge in graph["edges"]:
        after.setdefault(edge["from"], []).append(edge["to"])
        before.setdefault(edge["to"], []).append(edge["from"])
    told: dict[str, dict[str, Any]] = {}
    serving = releases.pointer(look.assets.root / "releases")
    todo = list(starts)
    for one in graph["nodes"]:  # nearest first, so what it was made from is decided before it
        version_id = one["version"]
        if version_id not in todo:
            continue
        version = catalog.version(version_id)
        if version is None:
            continue
        why = "row" if version_id in starts else "made from"
        more: dict[str, Any] = {}
        if table == "events" and version_id not in starts:
            holders = [starts[i] for i in before.get(version_id, ()) if i in starts]
            found = _in_features(look, version, holders)
            if found is not None and not found:
                continue
            if found:
                why, more = "values", found
        if version.asset == "releases.main" and (release := version.notes.get("release")):
            folder = look.assets.root / "releases" / release
            more = {"release": release, "on_disk": folder.is_dir(),
                    "serves": serving is not None and serving.release == release}  # fmt: skip
        current = catalog.current(version.asset)
        told[version_id] = {
            "version": version_id,
            "asset": version.asset,
            "why": why,
            "created_at": version.created_at,
            "current": current is not None and current.id == version_id,
            **more,
        }
        todo += after.get(version_id, [])
    return list(told.values())


def _in_features(
    look: _Look, version: Version, events: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Where a version of the features holds one of these clean events; {}: it does not, None: not
    a version of which that can be told."""
    if version.asset not in ("features.sequences", "features.items") or version.removed_at:
        return None
    for event in events:
        if version.asset == "features.sequences":
            user = event["user_id"]
            rows = look.rows(version, pl.col("user_id") == user, ("sequence", user), event["bucket"])  # fmt: skip
            ms = None if event["ts"] is None else _ms(event["ts"])
            wanted = (event["item_id"], KIND_CODES.get(event["kind"]), ms)
            for row in rows:
                acts = list(zip(row["item_id"], row["kind"], row["ts"], strict=True))
                if wanted in acts:
                    newest = acts[::-1].index(wanted) + 1
                    return {"newest": newest, "of": len(acts)}
            continue
        item = event[
            "item_id"
        ]  # an item is there because of events alone where no item table has it
        there = pl.col("item_id") == item
        if item is None or not look.rows(version, there, ("item", item)):
            continue
        inputs = look.assets.catalog.made_from(version.id)
        known = [look.assets.catalog.version(i) for i in inputs if i.startswith("clean.items@")]
        if not any(v and not v.removed_at and look.rows(v, there, ("item", item)) for v in known):
            return {"item_id": item}
    return {}


def _unread(look: _Look, name: str, where: pl.Expr, key: Any) -> list[dict[str, Any]]:
    """Pieces of the place that could not even be read as a row."""
    told: dict[tuple[str, str], dict[str, Any]] = {}
    for version in look.assets.catalog.history(name):
        if version.removed_at is None:
            for row in look.rows(version, where, key):
                one = {"table": name, "rule": row["rule"], "detail": row["detail"], "versions": []}
                told.setdefault((row["rule"], row["detail"]), one)["versions"].append(version.id)
    return list(told.values())


# from an answer to the raw rows behind it


def trace_answer(
    assets: Assets, settings: Settings, answer_id: str, answers: AnswerLog | None = None
) -> dict[str, Any]:
    """What an answer was made of: release, models, what they were trained on, and the raw rows of the
    events that were the user's history when it was given.

    Args:
        answers: the log of a service that is open here; else it is opened.
    Returns:
        {"answer_id", "kind", "received", "release": {"id", "on_disk", "serves", "version"}, "models":
        [{"name", "version", "weight", "trained_on", "run"}], "snapshot": {asset: version}, "versions",
        "input": {"why": history | given | opted_out | nobody, "events": [{"source", "file", "line",
        "seq", "version", "event_id", "item_id", "kind", "ts", "in_model"}], "verified"}}, oldest event
        first. `verified`: features of these events have the digest that was logged with the answer;
        None where none was logged or the release is gone.
    Raises:
        NotFound: no such answer; they are kept for a limited time.
    """
    body = _answer(assets, answer_id, answers)
    catalog = assets.catalog
    versions: dict[str, str] = body["versions"]
    folder = assets.root / "releases" / body["release"]
    now = releases.pointer(assets.root / "releases")
    made = [version for version in catalog.history("releases.main")
            if version.notes.get("release") == body["release"]]  # fmt: skip
    models = [
        {
            "name": name.partition(".")[2],
            "version": version,
            "weight": (body.get("weights") or {}).get(name.partition(".")[2]),
            "trained_on": catalog.made_from(version),
        }
        for name, version in sorted(versions.items())
        if name.startswith("models.")
    ]
    return {
        "answer_id": answer_id,
        "kind": body["kind"],
        "received": body["received"],
        "release": {
            "id": body["release"],
            "version": made[0].id if made else None,
            "on_disk": folder.is_dir(),
            "serves": now is not None and now.release == body["release"],
        },
        "models": models,
        "snapshot": {name: v for name, v in versions.items() if name.startswith("features.")},
        "versions": versions,
        "input": _input(_Look(assets), settings, body, folder),
    }


def _answer(assets: Assets, answer_id: str, answers: AnswerLog | None) -> dict[str, Any]:
    path = assets.root / "online" / ANSWER_LOG
    body = None
    if answers is not None:
        body = answers.find(answer_id)
    elif path.exists():
        log = AnswerLog(path)
        try:
            body = log.find(answer_id)
        finally:
            log.close()
    if body is None:
        raise NotFound(f"no answer {answer_id!r}", next="answers are kept for a limited time")
    return body


@dataclass(frozen=True)
class _Then:
    """What a release knew, read from its folder or, where that is gone, from its versions."""

    clean: Version  # of clean.events
    position: int  # seq of the event log that is inside
    persons: Mapping[str, str]
    opted_out: frozenset[str]
    items: list[str]  # that its models know, in their order
    raw: Mapping[str, str]  # raw table -> version that `clean` was made from


def _input(look: _Look, settings: Settings, body: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # fmt: skip
    """The history that an answer saw; see `trace_answer`."""
    asked = body["request"]
    user, session = asked.get("user_id"), asked.get("session_id")
    empty: dict[str, Any] = {"events": [], "verified": None}
    if asked.get("history") is not None:
        given = Request.from_log(asked).given()
        items = [act.item_id for act in given.acts] if given else []
        return {"why": "given", **empty, "items": items}
    if user is None and session is None:
        return {"why": "nobody", **empty}
    then = _then(look, body["versions"], folder)
    if user in then.opted_out:
        return {"why": "opted_out", **empty}
    person = then.persons.get(user, user) if user is not None else None
    rows = [] if person is None else _history_rows(look, settings, then, person)
    log = EventLog(look.assets.root / "online" / EVENT_LOG)
    try:
        known = rules(settings)
        histories = state.Histories(log, _Numbered(rows, then.position), known, then.persons)
        version = body.get("state") or _state_by_time(log, histories, body)
        history = histories.at(user, session, (version[0], version[1]))
        live = _logged(log, [act.seq for act in history.acts if act.seq > 0])
    finally:
        log.close()
    order = {item: n for n, item in enumerate(then.items)}
    whole = state.features(history.acts, order, len(order), known.limit)
    verified = None
    if body.get("history_digest") is not None:
        verified = state.digest(whole) == body["history_digest"]
    hidden = _hidden(look.assets, "clean.events")
    events = []
    for act in history.acts:
        row = rows[-act.seq - 1] if act.seq < 0 else live[act.seq]
        source = "raw.feedback" if row["source"] == LIVE else "raw.events"
        place = {name: row[name] for name in BESIDE}
        if act.seq < 0:
            place |= {"version": then.raw.get(source), "clean": then.clean.id}
        else:
            place |= {"version": None, "clean": None}
        shown = {n: _shown(n, row[n], hidden) for n in ("event_id", "item_id", "kind", "ts")}
        events.append({**place, **shown, "in_model": act.item_id in order})
    return {"why": "history", "events": events, "verified": verified, "state": list(version)}


def _then(look: _Look, versions: Mapping[str, str], folder: Path) -> _Then:
    """NotReady: the clean events that the release was made from were given up."""
    catalog = look.assets.catalog
    clean = catalog.version(versions["clean.events"])
    if clean is None or clean.removed_at is not None:
        raise NotReady(
            f"{versions['clean.events']}, which the answer's release was made from, was given up",
            where="lineage",
            next="keep more versions: shopkeeper assets tidy --keep-last",
        )
    inputs = [v for v in map(catalog.version, catalog.made_from(clean.id)) if v is not None]
    raw = {v.asset: v.id for v in inputs if v.asset.startswith("raw.")}
    position = max((v.notes.get("seq", 0) for v in inputs if v.asset == "raw.feedback"), default=0)
    read = {"by": OWNER, "purpose": Purpose.AUDIT}

    def table(name: str, columns: Sequence[str]) -> pl.DataFrame | None:
        version = catalog.version(versions[name]) if name in versions else None
        if version is None or version.removed_at is not None:
            return None
        scan = look.assets.scan(name, version=version.number, **read)  # type: ignore[arg-type]
        return scan.select(columns).collect()

    persons: dict[str, str] = {}
    if folder.is_dir():
        position = releases.Manifest.read(folder).positions["events"]
        out = pl.read_parquet(folder / "opted_out.parquet")["user_id"].to_list()
        items = pl.read_parquet(folder / "vocabulary.parquet")["item_id"].to_list()
        if (folder / "persons.parquet").exists():
            persons = dict(pl.read_parquet(folder / "persons.parquet").iter_rows())
    else:
        known = table("features.items", ["item_id"])
        items = [] if known is None else known["item_id"].to_list()
        who = table(IDENTITIES, ["user_id", "person"])
        persons = {} if who is None else dict(who.iter_rows())
        consents = table("clean.users", ["user_id", "personalisation"])
        out = []
        if consents is not None:
            out = consents.filter(~pl.col("personalisation").fill_null(True))["user_id"].to_list()
            out = out if who is None else members(who, out)
    return _Then(clean, position, persons, frozenset(out), items, raw)


def _history_rows(
    look: _Look, settings: Settings, then: _Then, person: str
) -> list[dict[str, Any]]:
    """Clean events of a person that a release has in its histories, oldest first."""
    bucket = bucket_of(person, look.assets.buckets)
    rows = look.rows(then.clean, pl.col("user_id") == person, ("user", person), bucket)
    kinds = {kind.value for kind in INTEREST_KINDS}
    kept = [row for row in rows if row["kind"] in kinds and row["item_id"] is not None]
    kept.sort(key=lambda row: (row["ts"] is not None, row["ts"] or 0, row["seq"]))
    return kept[-settings.serving.history :]


class _Numbered(Snapshot):
    """Histories of one person, whose acts say by `seq` (-1 for the first) which row they are of."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], position: int) -> None:
        self.position = position
        self._rows = rows

    def acts(self, user_id: str) -> list[Act]:
        return [
            Act(
                -n,
                NO_TIME if row["ts"] is None else _ms(row["ts"]),
                row["item_id"],
                row["kind"],
                row["dwell_ms"],
                row["price_minor"],
                row["quantity"],
                0,
            )
            for n, row in enumerate(self._rows, 1)
        ]


def _state_by_time(
    log: EventLog, histories: state.Histories, body: Mapping[str, Any]
) -> tuple[int, int]:
    """The newest events that were there when an answer was given, of one that does not say."""
    asked, until = body["request"], instant_us(body["received"])

    def newest(keys: Iterable[str]) -> int:
        sql = "SELECT coalesce(max(seq), 0) FROM events WHERE who = ? AND received <= ?"
        return max((int(log.file.query(sql, (key, until))[0][0]) for key in keys), default=0)

    user, session = asked.get("user_id"), asked.get("session_id")
    mine = histories._of(user) if user is not None else [user_key("")]
    return newest(mine), newest([session_key(session)] if session is not None else [])


def _logged(log: EventLog, seqs: Sequence[int]) -> dict[int, dict[str, Any]]:
    """seq -> the event of the log, with its place there."""
    found = {}
    for seq in seqs:
        sql = "SELECT event_id, item_id, kind, ts FROM events WHERE seq = ?"
        names = ("event_id", "item_id", "kind", "ts")
        row = dict(zip(names, log.file.query(sql, (seq,))[0], strict=True))
        found[seq] = {**row, "source": LIVE, "file": EVENT_LOG, "line": seq, "seq": seq}
    return found


def _ms(at: datetime) -> int:
    """Whole milliseconds since 1970, as features count them."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


# what may be shown


def _hidden(assets: Assets, name: str) -> set[str]:
    version = assets.current(name)
    grades = column_grades(assets, name, list(version.schema))
    return {column for column, grade in grades.items() if grade not in OPEN}


def _shown(column: str, value: Any, hidden: Iterable[str]) -> Any:
    if value is None:
        return None
    if column in hidden:
        return HIDDEN
    return value if isinstance(value, int | float | bool) else str(value)


def _open(assets: Assets, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a raw row as they may be shown."""
    table = RAW.get(name, name.partition(".")[2])
    grades = column_grades(assets, f"raw.{table}", list(row))
    hidden = {column for column, grade in grades.items() if grade not in OPEN}
    return {k: _shown(k, v, hidden) for k, v in row.items() if k not in (*BESIDE, "bucket")}


def _open_detail(assets: Assets, name: str, row: Mapping[str, Any]) -> str:
    """What was found in a quarantined row; hidden where it quotes a column that is not open."""
    detail = str(row["detail"])
    return HIDDEN if any(f"{c} is " in detail for c in _secret(assets, name)) else detail


def _secret(assets: Assets, name: str) -> Iterator[str]:
    version = assets.current(name)
    grades = column_grades(assets, name, [c for c in version.schema if c not in ("rule", "detail")])
    return (column for column, grade in grades.items() if grade not in OPEN)
