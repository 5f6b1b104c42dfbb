"""Logged answers and feedback -> quality.loop: the checks of evaluation.loop, with their history.

One row a check and an instant; the instant is when the newest of what was read was made, so the
same inputs give the same rows.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from shopkeeper.engine.steps import Context
from shopkeeper.errors import NotReady
from shopkeeper.evaluation import examination, loop
from shopkeeper.evaluation.loop import EXAMINATION, SURFACES, Check
from shopkeeper.evaluation.replay import from_log, replay
from shopkeeper.features.build import sequences
from shopkeeper.features.sequences import Sequences, Vocabulary
from shopkeeper.serving.answers import AnswerLog
from shopkeeper.serving.events import EventLog
from shopkeeper.serving.feedback import ANSWER_LOG, EVENT_LOG, LIVE
from shopkeeper.serving.releases import Release
from shopkeeper.serving.replay import Replayer
from shopkeeper.serving.service import readable
from shopkeeper.words import Kind

ASSET = loop.ASSET
READS = (
    "raw.answers",
    "raw.feedback",
    "raw.events",
    "clean.events",
    "clean.items",
    "quarantine.events",
    "features.sequences",
    "features.items",
)
LOOKED_AT = 10_000  # newest answers that examination is learned from
DRAWS = 20  # of its interval
KEPT = 1_000  # measurings of each check that the history goes back
TOLERANCE = (
    1e-5  # of a score computed again: another number of threads adds floats in another order
)
SAMPLE = 500  # newest recommendations whose histories are compared with those of training
CLICKS = tuple(
    kind.value for kind in Kind if kind not in (Kind.IMPRESSION, Kind.SEARCH, Kind.LEAVE)
)
FEATURES = ("length", "kind", "dwell", "gap", "price", "popularity")  # whose drift is measured

_TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "at": pl.Datetime("us", "UTC"),
    "check": pl.String,
    "level": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "wanted": pl.String,
    "reason": pl.String,
    "detail": pl.String,  # JSON
}
SCHEMA = pl.Schema(_TYPES)


@dataclass(frozen=True)
class Logged:
    """What was served and what came back, of the window."""

    answers: pl.DataFrame  # of raw.answers
    feedback: pl.DataFrame  # of raw.feedback: answer_id, item_id, kind


def check_loop(context: Context) -> None:
    """Measure every check and put it beside what was measured before."""
    run, settings = context.run, context.settings.loop
    logged = _logged(context)
    found = [
        *(_examination(context, logged, surface) for surface in SURFACES),
        *_exposure(context, logged),
        _unjoined(logged),
        _bots(context),
        *_skew(context, logged),
    ]
    at = _newest(context)
    rows = []
    for one in found:
        key = one.check.partition(".")[0]
        bounds = getattr(settings, key)
        about = type(settings).model_fields[key].description
        rows.append(
            (
                *(at, one.check, one.level(bounds), one.value, one.low, one.high),
                *(loop.wanted(bounds), about, json.dumps(one.detail, ensure_ascii=False)),
            )
        )
    made = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    if context.assets.exists(ASSET):
        before = context.assets.scan(ASSET, by=run.by, purpose=run.purpose).collect()
        before = before.filter(pl.col("at") < at)
        since = before["at"].unique().sort().tail(KEPT - 1)
        made = pl.concat([before.filter(pl.col("at").is_in(since.implode())), made])
    levels = [row[2] for row in rows]
    table = run.table(ASSET, description="is what comes back from serving fit to learn from")
    table.notes = {level: levels.count(level) for level in loop.WORST}
    table.put(made)
    run.note("levels", table.notes)


def told(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The newest measuring of each check with its history, worst first.

    Returns:
        [{"check", "level", "value", "low", "high", "wanted", "reason", "next", "detail", "at",
        "history": [{"at", "level", "value"}]}], history oldest first; `next` is None where all is well
    """
    if not rows.height:
        return []
    newest = rows["at"].max()
    found = []
    for row in rows.filter(pl.col("at") == newest).to_dicts():
        past = rows.filter(pl.col("check") == row["check"]).sort("at")
        found.append(
            {
                **row,
                "next": _next(row["check"], row["level"]),
                "at": row["at"].isoformat(),
                "detail": json.loads(row["detail"]),
                "history": [
                    {"at": at.isoformat(), "level": level, "value": value}
                    for at, level, value in past.select("at", "level", "value").iter_rows()
                ],
            }
        )
    return sorted(found, key=lambda one: loop.WORST.index(one["level"]))


def _next(check: str, level: str) -> str | None:
    """What to do about a check of this level."""
    if level == loop.OK:
        return None
    return loop.MEASURE_NEXT if level == loop.UNKNOWN else loop.NEXT[check.partition(".")[0]]


def _logged(context: Context) -> Logged:
    """Answers of the window, and the events that carry their ids."""
    run = context.run
    if not run.has("raw.answers"):
        return Logged(pl.DataFrame(schema={"answer_id": pl.String}), pl.DataFrame())
    answers = run.scan("raw.answers")
    since = pl.col("received").max() - timedelta(days=context.settings.loop.days)
    shown = answers.filter(pl.col("received") >= since).sort("seq").collect()
    feedback = pl.DataFrame(
        schema={"answer_id": pl.String, "item_id": pl.String, "kind": pl.String}
    )
    if run.has("raw.feedback"):
        events = run.scan("raw.feedback").select("answer_id", "item_id", "kind")
        ids = shown.lazy().select("answer_id")
        feedback = events.join(ids, on="answer_id", how="semi").collect()
    return Logged(shown, feedback)


def _examination(context: Context, logged: Logged, surface: str) -> Check:
    """How often the deepest known place is looked at in answers of one kind."""
    name, run = f"{EXAMINATION}.{surface}", context.run
    answers = logged.answers
    if answers.height:
        answers = answers.filter(pl.col("kind") == surface).tail(LOOKED_AT)
    if not answers.height:
        return Check(name, None, detail={"why": f"no {surface} answer is logged yet"})
    clicks = logged.feedback.filter(pl.col("kind").is_in(CLICKS))
    categories = None
    if run.has("clean.items"):
        categories = run.scan("clean.items").select("item_id", "category").collect()
    log = examination.exposures(answers, clicks, categories)
    users = answers.select("answer_id", cluster="user_id")
    try:
        log = log.join(users, on="answer_id", how="left", maintain_order="left")
        found = examination.estimate(log, method="em", draws=DRAWS)
    except NotReady as error:
        return Check(name, None, detail={"why": error.message})
    return Check(
        name,
        float(found.curve[-1]),
        float(found.low[-1]),
        float(found.high[-1]),
        found.as_dict(),
    )


def _exposure(context: Context, logged: Logged) -> tuple[Check, Check]:
    """Of answers; where none is logged, of the impressions that files brought."""
    run = context.run
    items = (
        run.scan("clean.items").select(pl.len()).collect().item() if run.has("clean.items") else 0
    )
    told, shown = "answers", pl.Series([], dtype=pl.String)
    if logged.answers.height:
        shown = logged.answers["items"].explode()
    elif run.has("clean.events"):
        told = "impressions"
        seen = run.scan("clean.events").filter(pl.col("kind") == Kind.IMPRESSION.value)
        shown = seen.select("item_id").collect()["item_id"]
    shown = shown.drop_nulls()
    if not len(shown):
        nothing = {"why": "neither an answer nor an impression is known"}
        return Check("exposure_gini", None, detail=nothing), Check(
            "never_shown", None, detail=nothing
        )
    found = examination.exposure(shown, items)
    detail = {"of": told, "shown": len(shown), "items": items}
    return (
        Check("exposure_gini", found["gini"], detail=detail),
        Check("never_shown", found["never_shown"], detail=detail),
    )


def _unjoined(logged: Logged) -> Check:
    """Share of answers that no event came back for."""
    if not logged.answers.height:
        return Check("unjoined", None, detail={"why": "no answer is logged yet"})
    joined = logged.feedback["answer_id"].unique()
    silent = ~logged.answers["answer_id"].is_in(joined.implode())
    by_kind = (
        logged.answers.with_columns(silent=silent)
        .group_by("kind")
        .agg(answers=pl.len(), unjoined=pl.col("silent").mean())
        .sort("kind")
    )
    return Check("unjoined", int(silent.sum()) / len(silent), detail={"kinds": by_kind.to_dicts()})


def _bots(context: Context) -> Check:
    """Share of events by robots: of those received while serving, where there are any, else of all."""
    run = context.run
    if not run.has("quarantine.events"):
        return Check("bots", None, detail={"why": "events were not cleaned yet"})
    live = run.has("raw.feedback") and bool(
        run.scan("raw.feedback").select(pl.len()).collect().item()
    )
    caught = run.scan("quarantine.events").filter(pl.col("rule").str.starts_with("bot:"))
    caught = caught.filter(pl.col("source") == LIVE) if live else caught
    by_rule = caught.group_by("rule").agg(events=pl.len(), users=pl.col("user_id").n_unique())
    found = by_rule.sort("rule").collect()
    names = ["raw.feedback"] if live else ["raw.events"]
    total = sum(run.scan(n).select(pl.len()).collect().item() for n in names if run.has(n))
    if not total:
        return Check("bots", None, detail={"why": "there are no events"})
    detail = {"of": "feedback" if live else "files", "events": total, "rules": found.to_dicts()}
    return Check("bots", int(found["events"].sum()) / total, detail=detail)


def _skew(context: Context, logged: Logged) -> list[Check]:
    """Newest recommendations computed again, and the histories they were asked with."""
    settings = context.settings
    online = context.folder / "store" / "online"
    some = logged.answers
    if some.height:
        some = some.filter(pl.col("kind") == "recommend").tail(max(SAMPLE, settings.loop.replay))
    if not some.height or not (online / ANSWER_LOG).exists():
        nothing = {"why": "no recommendation is logged yet"}
        return [
            Check("skew", None, detail=nothing),
            *(Check(f"drift.{name}", None, detail=nothing) for name in FEATURES),
        ]
    log, answers = EventLog(online / EVENT_LOG), AnswerLog(online / ANSWER_LOG)
    try:
        replayer = Replayer(context.folder, settings, log)
        kept = {
            name: body
            for name in some["answer_id"]
            if (body := answers.find(name)) is not None  # else the log has forgotten it
        }
        asked = [found for body in kept.values() if (found := replayer.history(body)) is not None]
        asked = [one for one in asked if one[0] is asked[-1][0]]  # of the newest release
        newest = list(kept)[-settings.loop.replay :] if settings.loop.replay else []

        def logged_ones() -> Iterator[tuple[str, Any]]:
            for name in newest:
                yield name, from_log(readable(kept[name]))

        report = replay(
            logged_ones(), lambda name: replayer.recompute(kept[name]), tolerance=TOLERANCE
        )
    finally:
        answers.close()
        log.close()
    compared = report.answers - report.missing
    skew = Check(
        "skew",
        (compared - report.equal_scores) / compared if compared else None,
        detail=report.as_dict()
        if compared
        else {"why": "no answer can be computed again any more"},
    )
    return [skew, *_drifts(context, asked)]


def _drifts(context: Context, asked: list[tuple[Release, Sequences]]) -> list[Check]:
    """Features of the requests of one release beside those its models learned from."""
    if not asked:
        gone = {"why": "the release that answered is gone"}
        return [Check(f"drift.{name}", None, detail=gone) for name in FEATURES]
    release = asked[0][0]
    table = "features.sequences"
    known = {v.id for v in context.assets.catalog.history(table) if v.removed_at is None}
    learned = release.manifest.versions.get(table)
    rows = context.run.read(table, version=learned if learned in known else None)
    catalogue = release.catalogue
    vocabulary = Vocabulary(catalogue.ids[: catalogue.model_items])
    trained = sequences(rows.sort("user_id"), vocabulary, context.settings.serving.history)
    live = _end_to_end([whole for _, whole in asked])
    detail = {"requests": len(live), "strangers": int((live.lengths == 0).sum())}
    few = {**detail, "why": f"fewer than {loop.LEAST_VALUES} values on one side"}
    return [
        Check(f"drift.{name}", value, detail=few if value is None else detail)
        for name, value in loop.drifts(trained, live, catalogue.model_items).items()
    ]


def _end_to_end(some: list[Sequences]) -> Sequences:
    """Histories one after another."""
    flat = {
        one.name: np.concatenate([getattr(part, one.name) for part in some])
        for one in fields(Sequences)
        if one.name not in ("users", "offsets")
    }
    lengths = np.concatenate([part.lengths for part in some])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(users=[user for part in some for user in part.users], offsets=offsets, **flat)


def _newest(context: Context) -> datetime:
    """When the newest of what this run reads was made."""
    catalog = context.assets.catalog
    made = [v.created_at for name in READS if (v := catalog.current(name)) is not None]
    at = datetime.fromisoformat(max(made))
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
