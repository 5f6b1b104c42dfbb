"""What happened while serving -> the lake, exactly once: the last seq taken stands in the catalogue,
in the same transaction as the rows."""

import json
from datetime import datetime
from typing import Any

import polars as pl

from shopkeeper.collect.land import begun, put_by_user, raw_schema
from shopkeeper.engine.steps import Context
from shopkeeper.serving.answers import AnswerLog, joined
from shopkeeper.serving.events import EventLog
from shopkeeper.serving.items import ItemLog
from shopkeeper.words import VISIT, Grade

EVENT_LOG = "events.db"  # below store/online
ITEM_LOG = "items.db"
ANSWER_LOG = "answers.db"
LIVE = "live"
MAPPING = {
    "raw.feedback": "2",
    "raw.item_writes": "2",
    "raw.answers": "1",
}  # changes when logs become other rows
BATCH = 200_000
ANSWERS = 5_000  # read at a time: each holds its candidates and their scores

WRITES = pl.Schema(
    {
        "item_id": pl.String,
        "mode": pl.String,  # put | patch | delete
        "fields": pl.String,  # JSON object
        "received": pl.String,  # ISO 8601, UTC
        "after_rows": pl.Int64,  # rows of raw.items that were there before this write
        "line": pl.Int64,  # seq in the log
        "seq": pl.Int64,
    }
)

_ANSWER: dict[str, pl.DataType | type[pl.DataType]] = {
    "answer_id": pl.String,
    "user_id": pl.String,  # of a visitor who is nobody's user yet: the visit
    "session_id": pl.String,
    "kind": pl.String,  # search | recommend
    "scene": pl.String,
    "query": pl.String,
    "release": pl.String,
    "degraded": pl.Boolean,
    "explored": pl.Int64,  # the slot (from 0) that showed something unranked
    "received": pl.Datetime("us", "UTC"),
    "items": pl.List(pl.String),
    "positions": pl.List(pl.Int64),  # from 1
    "propensity": pl.List(pl.Float64),
    "scores": pl.List(pl.Float64),
    "seq": pl.Int64,
}
SHOWN = pl.Schema(_ANSWER)


def land_events(context: Context) -> None:
    """Logged events -> raw.feedback. Of a visitor who is nobody's user yet, the visit is the user."""
    path = context.folder / "store" / "online" / EVENT_LOG
    if not path.exists():
        return
    run = context.run
    mapping = MAPPING["raw.feedback"]
    known, anew = context.assets.catalog.positions("raw.feedback", mapping)
    after = 0 if anew or context.force else _last(known)
    rows = run.table(
        "raw.feedback",
        "replace" if anew or context.force else "append",
        description="events received while serving",
        grade=Grade.PERSONAL,
    )
    rows.settings = mapping
    before = None
    if rows.mode == "replace" and context.assets.exists("raw.feedback"):
        before = context.assets.scan("raw.feedback", by=run.by, purpose=run.purpose)
    schema = raw_schema("events")
    rows.put(pl.DataFrame(schema=schema))
    taken = 0
    log = EventLog(path)
    answers = AnswerLog(path.with_name(ANSWER_LOG))
    try:
        while True:
            frame = joined(log.frame(after, BATCH), answers)
            if not frame.height:
                break
            if before is not None:
                frame = _as_joined_before(frame, before)
            landed = frame.with_columns(
                user_id=pl.coalesce("user_id", pl.format(VISIT + "{}", "session_id")),
                source=pl.lit(LIVE),
                file=pl.lit(EVENT_LOG),
                line=pl.col("seq"),
            )
            put_by_user(rows, landed.select(schema.names()), context.settings.buckets)
            after = int(frame["seq"][-1])
            taken += frame.height
            context.progress(after, log.last(), f"{taken:,} events")
    finally:
        log.close()
        answers.close()
    rows.notes = {"seq": after}
    run.position(rows, LIVE, EVENT_LOG, {"seq": after})
    run.note("rows", taken)


def land_answers(context: Context) -> None:
    """Logged answers -> raw.answers: what was shown to whom, and where. They stay when the log, which
    keeps the candidates as well, has forgotten them; so they are never read anew."""
    path = context.folder / "store" / "online" / ANSWER_LOG
    if not path.exists():
        return
    run = context.run
    mapping = MAPPING["raw.answers"]
    known, anew = context.assets.catalog.positions("raw.answers", mapping)
    after = 0 if anew else _last(known)
    rows = run.table(
        "raw.answers",
        "replace" if anew else "append",
        description="answers that were served: what was shown to whom, and where",
        grade=Grade.PERSONAL,
    )
    rows.settings = mapping
    rows.put(pl.DataFrame(schema=SHOWN))
    taken = 0
    log = AnswerLog(path)
    try:
        while batch := log.read(after, ANSWERS):
            frame = pl.DataFrame([_shown(answer) for answer in batch], schema=SHOWN, orient="row")
            put_by_user(rows, frame, context.settings.buckets)
            after = batch[-1]["seq"]
            taken += len(batch)
    finally:
        log.close()
    rows.notes = {"seq": after}
    run.position(rows, LIVE, ANSWER_LOG, {"seq": after})
    run.note("rows", taken)


def _shown(answer: dict[str, Any]) -> tuple[Any, ...]:
    """A logged answer as a row of `SHOWN`."""
    asked = answer["request"]
    session = asked.get("session_id")
    return (
        answer["answer_id"],
        asked.get("user_id") or f"{VISIT}{session or ''}",
        session,
        answer["kind"],
        asked.get("scene"),
        asked.get("query"),
        answer["release"],
        answer["degraded"],
        answer.get("policy", {}).get("explored"),
        datetime.fromisoformat(answer["received"]),
        answer["items"],
        answer["positions"],
        answer["propensity"],
        answer["scores"],
        answer["seq"],
    )


def _as_joined_before(events: pl.DataFrame, before: pl.LazyFrame) -> pl.DataFrame:
    """Events with the position and propensity that they had when their answer was still kept."""
    names = ("position", "propensity")
    told = before.select("event_id", *names).join(events.lazy(), on="event_id", how="semi")
    known = told.unique("event_id").collect()
    both = events.join(known, on="event_id", how="left", suffix="_before", maintain_order="left")
    return both.with_columns(
        pl.coalesce(name, f"{name}_before").alias(name) for name in names
    ).select(events.columns)


def land_items(context: Context) -> None:
    """Live item writes -> raw.item_writes.

    Where raw.items was read anew, its rows are counted anew, and so are all writes: states without
    a time that a reading from the start brings are of before the writes taken in with it.
    """
    path = context.folder / "store" / "online" / ITEM_LOG
    if not path.exists():
        return
    run = context.run
    mapping = MAPPING["raw.item_writes"]
    known, anew = context.assets.catalog.positions("raw.item_writes", mapping)
    before, since = 0, ""
    if run.has("raw.items"):
        items = context.assets.current("raw.items")
        before, since = items.rows or 0, begun(items)
    at = known.get(LIVE, {}).get(ITEM_LOG, {})
    anew = anew or context.force or at.get("items_begun", since) != since
    after = 0 if anew else _last(known)
    rows = run.table(
        "raw.item_writes",
        "replace" if anew else "append",
        description="item writes received while serving",
    )
    rows.settings = mapping
    log = ItemLog(path)
    try:
        writes = log.read(after, 10_000_000)
    finally:
        log.close()
    landed = [
        (
            *(w.item_id, w.mode, json.dumps(w.fields, ensure_ascii=False), w.received),
            *(before, w.seq, w.seq),
        )
        for w in writes
    ]
    rows.put(pl.DataFrame(landed, schema=WRITES, orient="row"))
    last = writes[-1].seq if writes else after
    rows.notes = {"seq": last}
    run.position(rows, LIVE, ITEM_LOG, {"seq": last, "items_begun": since})
    run.note("rows", len(writes))


def taken_up_to(context: Context, clean: str, raw: str) -> int:
    """The seq of the online log up to which the current version of `clean` holds it: what was taken
    into `raw` since it was made, or into no version of `raw` that it was made from, is not in it."""
    catalog = context.assets.catalog
    known = _last(catalog.positions(raw, MAPPING[raw])[0])  # of versions that do not note theirs
    inputs = map(catalog.version, catalog.made_from(context.assets.current(clean).id))
    return max((v.notes.get("seq", known) for v in inputs if v and v.asset == raw), default=0)


def _last(known: dict[str, dict[str, dict[str, Any]]]) -> int:
    return max((at["seq"] for files in known.values() for at in files.values()), default=0)
