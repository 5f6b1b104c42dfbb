"""Who is a robot: the only detector in the house.

A user is a robot when they do what no person does:
    bot:rate        more acts within some hour than `bot_events_per_hour`
    bot:regularity  at least 50 pauses between acts of one sitting, nearly all equally long: their
                    spread is less than `bot_regularity` of their median. The spread is told by the
                    middle half of the pauses (its width / 1.349, which is the standard deviation
                    of a normal distribution), so a few odd pauses hide nobody. Pauses must be long
                    beside the step of the clock that told most of this user's times, or whole
                    minutes would look like clockwork
    bot:breadth     more different items within a day than `bot_items_per_day`; without times, nearly
                    the whole catalogue
Acts are all events but impressions: what a page shows is not what its reader does. Without times
neither rate nor regularity can be known, and nobody is called a robot for it.
"""

import numpy as np
import polars as pl

from shopkeeper.config import CleanSettings
from shopkeeper.words import SITTING_MS, Kind

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SITTING_US = SITTING_MS * 1000
MIN_PAUSES = 50
CLOCK_STEPS_US = (60_000_000, 1_000_000, 1_000)  # clocks that tell minutes, seconds, milliseconds
NORMAL_HALF = 1.349  # width of the middle half of a normal distribution, in standard deviations
STEPS_A_PAUSE = 5  # a pause of fewer clock steps is too coarse to call regular
WHOLE_CATALOGUE = 0.95
SMALL_CATALOGUE = 1000  # of fewer items a person may well have seen all

FOUND = {"user_id": pl.String(), "rule": pl.String(), "detail": pl.String()}


def find(events: pl.DataFrame, settings: CleanSettings, catalogue: int | None) -> pl.DataFrame:
    """Robots among the users of `events`.

    Args:
        events: user_id, item_id, kind, ts; sorted by user_id, ts. All events of each user.
        catalogue: number of items of the shop; None where unknown.
    Returns:
        user_id, rule, detail: one row a robot, sorted by user_id; the first rule that holds.
    """
    acts = events.filter(pl.col("kind") != Kind.IMPRESSION.value).select("user_id", "item_id", "ts")
    timed = acts.filter(pl.col("ts").is_not_null())
    timed = timed.with_columns(at=pl.col("ts").to_physical())
    found = [
        _by_rate(timed, settings.bot_events_per_hour),
        _by_regularity(timed, settings.bot_regularity),
        _by_breadth(timed, settings.bot_items_per_day),
        _by_whole_catalogue(acts.filter(pl.col("ts").is_null()), catalogue),
    ]
    return pl.concat(found).unique("user_id", keep="first", maintain_order=True).sort("user_id")


def _by_rate(acts: pl.DataFrame, limit: int) -> pl.DataFrame:
    ahead = pl.col("at").shift(-limit)
    fast = (pl.col("user_id") == pl.col("user_id").shift(-limit)) & (ahead - pl.col("at") < HOUR_US)
    users = acts.filter(fast)["user_id"].unique().sort()
    rows = []
    for user, part in _parts(acts, users):
        at = part["at"].to_numpy()
        within = np.searchsorted(at, at + HOUR_US) - np.arange(len(at))
        first = int(within.argmax())
        rows.append(
            (
                user,
                "bot:rate",
                f"user '{user}' did {int(within[first]):,} things within one hour from "
                f"{part['ts'][first]:%Y-%m-%d %H:%M} UTC, wanted at most {limit:,}",
            )
        )
    return pl.DataFrame(rows, schema=FOUND, orient="row")


def _by_regularity(acts: pl.DataFrame, limit: float) -> pl.DataFrame:
    if not acts.height:
        return pl.DataFrame(schema=FOUND)
    same = pl.col("user_id") == pl.col("user_id").shift(1)
    pause = pl.col("at").diff()
    pauses = acts.select(
        "user_id", pause=pl.when(same & pause.is_between(1, SITTING_US)).then(pause)
    )
    pauses = pauses.drop_nulls("pause")
    enough = pauses.group_by("user_id").len().filter(pl.col("len") >= MIN_PAUSES)
    clocks = acts.join(enough, on="user_id", how="semi").group_by("user_id").agg(step=_clock_step())
    seconds = pl.col("pause") / 1e6
    measured = (
        pauses.join(enough, on="user_id", how="semi")
        .group_by("user_id")
        .agg(
            n=pl.len(),
            median=seconds.median(),
            low=seconds.quantile(0.25, "linear"),
            high=seconds.quantile(0.75, "linear"),
        )
        .with_columns(spread=(pl.col("high") - pl.col("low")) / NORMAL_HALF / pl.col("median"))
        .join(clocks, on="user_id")
        .filter(
            (pl.col("spread") < limit) & (pl.col("median") * 1e6 >= STEPS_A_PAUSE * pl.col("step"))
        )
    )
    rows = [
        (
            user,
            "bot:regularity",
            f"user '{user}' acted {n + 1:,} times {median:.1f} s apart, give or take {spread:.1%}; "
            f"wanted pauses that vary by {limit:.1%} or more",
        )
        for user, n, median, spread in measured.select("user_id", "n", "median", "spread")
        .sort("user_id")
        .iter_rows()
    ]
    return pl.DataFrame(rows, schema=FOUND, orient="row")


def _clock_step() -> pl.Expr:
    """The coarsest clock that tells most of a group's times, microseconds."""
    step = pl.lit(1)
    for finer in reversed(CLOCK_STEPS_US):
        told = (pl.col("at") % finer == 0).mean() > 0.5
        step = pl.when(told).then(finer).otherwise(step)
    return step


def _by_breadth(acts: pl.DataFrame, limit: int) -> pl.DataFrame:
    same_day = (pl.col("user_id") == pl.col("user_id").shift(-limit)) & (
        pl.col("at").shift(-limit) // DAY_US == pl.col("at") // DAY_US
    )
    users = acts.filter(same_day)["user_id"].unique().sort()
    rows = []
    for user, part in _parts(acts, users):
        days = part.group_by(pl.col("ts").dt.date().alias("day")).agg(pl.col("item_id").n_unique())
        day, items = days.sort("item_id", "day", descending=[True, False]).row(0)
        if items > limit:
            text = f"user '{user}' went through {items:,} different items on {day}, wanted at most {limit:,}"
            rows.append((user, "bot:breadth", text))
    return pl.DataFrame(rows, schema=FOUND, orient="row")


def _by_whole_catalogue(acts: pl.DataFrame, catalogue: int | None) -> pl.DataFrame:
    if (
        catalogue is None
        or catalogue < SMALL_CATALOGUE
        or acts.height < WHOLE_CATALOGUE * catalogue
    ):
        return pl.DataFrame(schema=FOUND)
    limit = int(WHOLE_CATALOGUE * catalogue)
    many = acts.group_by("user_id").len().filter(pl.col("len") > limit)["user_id"].sort()
    rows = []
    for user, part in _parts(acts, many):
        items = part["item_id"].n_unique()
        if items > limit:
            text = (
                f"user '{user}' went through {items:,} of all {catalogue:,} items, "
                f"wanted at most {limit:,}"
            )
            rows.append((user, "bot:breadth", text))
    return pl.DataFrame(rows, schema=FOUND, orient="row")


def _parts(acts: pl.DataFrame, users: pl.Series) -> list[tuple[str, pl.DataFrame]]:
    """The rows of each of the few `users`, in order."""
    if not len(users):
        return []
    some = acts.filter(pl.col("user_id").is_in(users.implode()))
    parts = some.partition_by("user_id", as_dict=True, maintain_order=True)
    return [(user, parts[(user,)]) for user in users]
