"""Which users' rows have to be judged again when rows are added to a bucket of events.

What becomes of an event depends on other events of its user only: one with the same id, one of nearly
the same time, and all that decides whether a robot is at work; and on the item it names. Users for whom
none of these joins new rows to old ones keep what they have, and their new rows are judged by themselves.
The others are found here, too many rather than too few: whoever is named is cleaned anew, exactly.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from shopkeeper.assets.buckets import crc32
from shopkeeper.assets.lake import DataFile
from shopkeeper.assets.parts import Rows
from shopkeeper.clean import bots
from shopkeeper.clean.events import TO_COME
from shopkeeper.collect.mapping import file_digest
from shopkeeper.config import CleanSettings
from shopkeeper.words import Kind

TIME = "%Y-%m-%dT%H:%M:%S%.fZ"  # as collect/ writes one
CHANGED = pl.Schema({"item_id": pl.String, "other": pl.Boolean})  # other: now known, or no more


@dataclass(frozen=True)
class Old:
    """A bucket as it is before rows are added."""

    raw: pl.LazyFrame
    clean: Rows
    quarantine: pl.LazyFrame
    last: datetime | None  # newest time of an event in it that may be; None: not known
    busy: "Busy | None" = None  # None: not known


@dataclass(frozen=True)
class Busy:
    """Who did so much in the rows of a bucket when it was cleaned as a whole that a few more of
    theirs may make a robot."""

    file: str  # digest of the data file that its clean rows went to
    users: tuple[int, ...]  # crc32 of their ids; another who has the same is taken for busy, too


def changed_items(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """CHANGED: items that events are judged by in another way than before.

    Args:
        before, now: item_id, price_minor of all known items.
    """
    both = before.select("item_id", was="price_minor", old=True).join(
        now.select("item_id", listed="price_minor", known=True),
        on="item_id", how="full", coalesce=True,
    )  # fmt: skip
    there = pl.col("old").fill_null(False) & pl.col("known").fill_null(False)
    same = there & pl.col("was").eq_missing(pl.col("listed"))
    return both.filter(~same).select("item_id", other=~there).sort("item_id")


def touched(
    new: pl.DataFrame,
    alone: pl.DataFrame,
    robots: pl.Series,
    old: Old,
    items: pl.DataFrame,
    settings: CleanSettings,
    now: datetime,
) -> pl.Series:
    """Users whose old and new rows must be judged together, sorted.

    Args:
        new: raw rows that are added.
        alone: what of them is clean, judged by themselves.
        robots: users who are robots by their new rows alone.
        items: CHANGED.
        now: up to when events may be.
    """
    rows = new.select(
        user=pl.col("user_id").str.strip_chars(),
        id=pl.col("event_id").str.strip_chars(),
        own=pl.col("event_id") == _line_ids(new),
        ts=pl.col("ts").str.to_datetime(TIME, time_unit="us", strict=False),
    ).drop_nulls("user")
    users = rows["user"].unique().sort()
    found = [robots, _in_quarantine(old, users, now), _of_changed(old, items)]
    if len(users):
        found.append(_same_ids(rows, old.raw))
        found.append(_near(rows, old, settings))
        found.append(_robots_now(rows, users, alone, old, settings))
    return pl.concat([one.rename("user_id").cast(pl.String) for one in found]).unique().sort()


def _line_ids(new: pl.DataFrame) -> pl.Series:
    """The ids that collecting gives to rows that have none of their own."""
    files = new.select("source", "file").unique()
    begin = [file_digest(str(source), str(file)) for source, file in files.iter_rows()]
    made = new.select("source", "file", "line").join(
        files.with_columns(begin=pl.Series(begin, dtype=pl.String)),
        on=["source", "file"], how="left", nulls_equal=True, maintain_order="left",
    )  # fmt: skip
    line = (pl.col("line") + 10**16).cast(pl.String)
    return made.select(own=pl.col("begin") + line)["own"]


def _same_ids(rows: pl.DataFrame, raw: pl.LazyFrame) -> pl.Series:
    """Users with an id that an old row of theirs has; ids made of file and line are there once."""
    given = rows.filter(~pl.col("own").fill_null(False)).select("user", "id").drop_nulls("id")
    if not given.height:
        return pl.Series(dtype=pl.String)
    old = raw.select(
        user=pl.col("user_id").str.strip_chars(), id=pl.col("event_id").str.strip_chars()
    )
    old = old.filter(pl.col("id").is_in(given["id"].unique().implode()))
    return old.collect().join(given, on=["user", "id"], how="semi")["user"]


def _near(rows: pl.DataFrame, old: Old, settings: CleanSettings) -> pl.Series:
    """Users with an old and a new row that may be one event, sent again within seconds."""
    window = timedelta(seconds=max(settings.same_event_seconds, 0.0))
    timed = rows.select("user", "ts").drop_nulls()
    if not timed.height:
        return pl.Series(dtype=pl.String)
    first, last = timed["ts"].min(), timed["ts"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    if old.last is not None and first.replace(tzinfo=UTC) - window > old.last:
        return pl.Series(dtype=pl.String)
    low, high = (f"{at:%Y-%m-%dT%H:%M:%S}" for at in (first - window, last + window))
    near = old.raw.filter(pl.col("ts").is_between(pl.lit(low), pl.lit(high + "~")))
    near = near.select(user=pl.col("user_id").str.strip_chars(), ts="ts")
    there = near.filter(pl.col("user").is_in(timed["user"].unique().implode())).collect()
    there = there.with_columns(pl.col("ts").str.to_datetime(TIME, time_unit="us", strict=False))
    both = pl.concat([timed.with_columns(old=False), there.with_columns(old=True)])
    both = both.sort("user", "ts")
    pair = (
        (pl.col("user") == pl.col("user").shift(1))
        & (pl.col("old") != pl.col("old").shift(1))
        & (pl.col("ts") - pl.col("ts").shift(1) <= window)
    )
    return both.filter(pair)["user"]


def _robots_now(
    rows: pl.DataFrame, users: pl.Series, alone: pl.DataFrame, old: Old, settings: CleanSettings
) -> pl.Series:
    """Users whom old and new rows together make a robot.

    Few users have acts enough to be one. Of most that is told by counting: a row that is added makes
    two pauses of a sitting more, at the most.
    """
    clean = old.clean
    files = sorted(clean.files, key=lambda file: (-file.rows, file.path))
    if not files:
        return pl.Series(dtype=pl.String)
    known = [file for file in files if old.busy is not None and file.digest == old.busy.file]
    base = known or files[:1]
    others = [file for file in files if file not in base]

    def acts(of: Sequence[DataFile], columns: Sequence[str]) -> pl.LazyFrame:
        some = replace(clean, files=tuple(of)).scan()
        return some.filter(pl.col("kind") != Kind.IMPRESSION.value).select(columns)

    added = [rows.select(user_id="user")]
    if others:
        mine = acts(others, ["user_id"]).filter(pl.col("user_id").is_in(users.implode()))
        added.append(mine.collect())
    more = pl.concat(added).group_by("user_id").agg(more=pl.len())
    least = min(settings.bot_events_per_hour, settings.bot_items_per_day)
    if old.busy is not None and known:
        much = (2 * pl.col("more") > bots.MIN_PAUSES // 2) | (pl.col("more") > least // 2)
        is_busy = np.isin(crc32(more["user_id"]), np.array(old.busy.users, dtype=np.uint32))
        few = more.filter(much | pl.Series(is_busy))["user_id"]
    else:
        counted = _sittings(acts(base, ["user_id", "ts"]).collect())
        counted = counted.filter(pl.col("user_id").is_in(users.implode()))
        both = counted.join(more, on="user_id", how="full", coalesce=True).fill_null(0)
        may_be = (pl.col("pauses") + 2 * pl.col("more") >= bots.MIN_PAUSES) | (
            pl.col("acts") + pl.col("more") > least
        )
        few = both.filter(may_be)["user_id"]
    if not len(few):
        return few
    columns = ["user_id", "item_id", "kind", "ts"]
    theirs = clean.scan().filter(pl.col("user_id").is_in(few.implode())).select(columns)
    together = pl.concat([theirs.collect(), alone.select(columns).filter(pl.col("user_id").is_in(few.implode()))])  # fmt: skip
    return bots.find(together.sort("user_id", "ts"), settings, None)["user_id"]


def busy(clean: pl.DataFrame, file: str, settings: CleanSettings) -> Busy:
    """Of the rows of a bucket that was cleaned as a whole, in the data file with the digest `file`; the
    bounds are half of what makes a robot."""
    acts = clean.filter(pl.col("kind") != Kind.IMPRESSION.value).select("user_id", "ts")
    least = min(settings.bot_events_per_hour, settings.bot_items_per_day)
    much = (pl.col("pauses") >= bots.MIN_PAUSES // 2) | (pl.col("acts") > least - least // 2)
    users = _sittings(acts).filter(much)["user_id"]
    return Busy(file, tuple(np.unique(crc32(users)).tolist()))


def _sittings(acts: pl.DataFrame) -> pl.DataFrame:
    """user_id, acts, pauses: of each user, how many acts, and pauses within a sitting.

    Args:
        acts: user_id, ts; cheapest where each user's lie together, in order of time.
    """
    runs = acts["user_id"].rle().struct.unnest()
    back = (acts["ts"] < acts["ts"].shift(1)) & (acts["user_id"] == acts["user_id"].shift(1))
    if runs["value"].n_unique() < runs.height or back.any():
        acts = acts.sort("user_id", "ts")
        runs = acts["user_id"].rle().struct.unnest()
    if not runs.height:
        return pl.DataFrame(schema={"user_id": pl.String, "acts": pl.Int64, "pauses": pl.Int64})
    ends = runs["len"].cum_sum().to_numpy().astype(np.int64)
    starts = ends - runs["len"].to_numpy()
    pause = np.diff(acts["ts"].to_physical().to_numpy(), prepend=0)
    pause[starts] = 0  # the first of a user follows nothing
    sitting = ((pause >= 1) & (pause <= bots.SITTING_US)).astype(np.int64)
    pauses = np.add.reduceat(sitting, starts)
    return pl.DataFrame({"user_id": runs["value"], "acts": ends - starts, "pauses": pauses})


def _in_quarantine(old: Old, users: pl.Series, now: datetime) -> pl.Series:
    """Users of old rows in quarantine that were to come and now are past, or that a robot did who
    comes again."""
    user = pl.col("user_id").str.strip_chars()
    robot = pl.col("rule").str.starts_with("bot:")
    to_come = pl.col("detail").str.contains(TO_COME, literal=True)
    rows = (
        old.quarantine.filter(robot | to_come).select("rule", "detail", "ts", user=user).collect()
    )
    today = pl.col("ts").str.to_datetime(TIME, time_unit="us", strict=False).dt.replace_time_zone("UTC") <= now  # fmt: skip
    comes_again = robot & pl.col("user").is_in(users.implode())
    return rows.filter(comes_again | (to_come & today.fill_null(True)))["user"].drop_nulls()


def _of_changed(old: Old, items: pl.DataFrame) -> pl.Series:
    """Users with an old row about an item that was not known or now is not, or with a price of one
    that costs something else now."""
    if not items.height:
        return pl.Series(dtype=pl.String)
    item, user = pl.col("item_id").str.strip_chars(), pl.col("user_id").str.strip_chars()
    price = items.filter(~pl.col("other"))["item_id"]
    about = item.is_in(items["item_id"].implode()) & (
        pl.col("price_minor").is_not_null() | ~item.is_in(price.implode())
    )
    return old.raw.filter(about).select(user=user).unique().collect()["user"].drop_nulls()


def digest(values: pl.Series | None) -> str:
    """Of a set of ids."""
    if values is None:
        return ""
    text = "\n".join(values.drop_nulls().unique().sort())
    return hashlib.sha256(text.encode()).hexdigest()[:32]
