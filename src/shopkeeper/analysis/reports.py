"""The shop's core reports: plain functions of clean tables, one definition each.

Events come as one lazy frame a user-hash bucket. A user's events stand in one bucket, so whatever is
counted per bucket, distinct users too, adds up; memory is that of one bucket and of the answer.
Days, weeks (from Monday) and months are those of the shop's time zone; money is in minor units.

Reports may be shared: a row about fewer than `least` users is left out, and a figure that rests on
some but fewer users within a row is null. How many were hidden stands in the notes. Reports beside
each other, or versions of one, can still be subtracted from each other; that is not prevented.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import polars as pl

from shopkeeper.words import Kind

MIN_USERS = 5
MIN_BASKETS = 5  # a pair bought together less often says nothing
MAX_BASKET = 50  # items; beyond it somebody stocks up, and pairs grow with the square
MAX_PAIR_ITEMS = 5_000  # only the most bought are paired, so that pairs fit into memory
MAX_PAIRS = 5_000
FOLLOWS = timedelta(minutes=30)  # what comes later does not follow from the search
RECENT = timedelta(days=28)  # pace of sales for days of stock
UNKNOWN = "(unknown)"
NO_TIME = (
    "no event has a time, so days and weeks cannot be told; "
    "map a column to ts in shop.toml, then: shopkeeper run"
)

Buckets = Sequence[pl.LazyFrame]
States = Sequence[tuple[date, pl.LazyFrame]]  # clean.items as it stood at the end of days, oldest first  # fmt: skip


@dataclass(frozen=True)
class Report:
    """A table, and what its reader has to know."""

    frame: pl.DataFrame
    notes: dict[str, Any] = field(default_factory=dict)


def funnel(events: Buckets, timezone: str, *, least: int = MIN_USERS) -> Report:
    """Users by how far they got, by day and channel.

    A purchase counts as a cart, a cart as a view, whether those were recorded or not, so no stage is
    larger than the one before. Everything within one day and channel.
    """
    reached = {Kind.VIEW: 1, Kind.CART: 2, Kind.PURCHASE: 3}
    parts = []
    for bucket in events:
        known = bucket.filter(pl.col("kind").is_in(list(reached)) & pl.col("ts").is_not_null())
        stage = pl.col("kind").replace_strict(reached, return_dtype=pl.Int8)
        parts.append(
            known.group_by(_day(timezone).alias("day"), _channel(), "user_id")
            .agg(stage=stage.max())
            .group_by("day", "channel")
            .agg(
                viewed=pl.len().cast(pl.Int64),
                carted=(pl.col("stage") >= 2).sum().cast(pl.Int64),
                bought=(pl.col("stage") >= 3).sum().cast(pl.Int64),
            )
        )
    frame, hidden = _shown(_added(parts, "day", "channel"), "viewed", least)
    frame, nulled = _null(frame, {"carted": ["carted"], "bought": ["bought"]}, least)
    frame = frame.with_columns(
        cart_rate=pl.col("carted") / pl.col("viewed"),
        purchase_rate=pl.col("bought") / pl.col("viewed"),
    ).sort("day", "channel")
    return _told(frame, events, hidden, nulled)


def retention(events: Buckets, timezone: str, *, least: int = MIN_USERS) -> Report:
    """Of the users first seen in a week, how many did anything in each later week.

    First seen is first seen in the data: the oldest cohorts hold old customers too. `complete` says
    whether the data reach to the end of that week.
    """
    parts = []
    for bucket in events:
        weeks = (
            bucket.filter(pl.col("ts").is_not_null())
            .select("user_id", week=_day(timezone).dt.truncate("1w"))
            .unique()
            .with_columns(cohort=pl.col("week").min().over("user_id"))
        )
        parts.append(weeks.group_by("cohort", "week").agg(active=pl.len().cast(pl.Int64)))
    counts = _added(parts, "cohort", "week")
    last = _last_day(events, timezone)
    grid = _grid(counts, "cohort", "week", "1w").join(counts, on=["cohort", "week"], how="left")
    grid = grid.sort("cohort", "week").with_columns(pl.col("active").fill_null(0))
    grid = grid.with_columns(users=pl.col("active").first().over("cohort"))
    frame, hidden = _shown(grid, "users", least)
    frame, nulled = _null(frame, {"active": ["active"]}, least)
    frame = frame.select(
        "cohort",
        week=(pl.col("week") - pl.col("cohort")).dt.total_days() // 7,
        users="users",
        active="active",
        share=pl.col("active") / pl.col("users"),
        complete=pl.col("week") + pl.duration(days=6) <= pl.lit(last, pl.Date),
    )
    return _told(frame, events, hidden, nulled)


def cohort_value(events: Buckets, timezone: str, *, least: int = MIN_USERS) -> Report:
    """What the buyers of a month spent up to each later month; returns are not taken off.

    Only sums up to a month are told, and none after a month in which fewer than `least` of them
    bought until one in which enough did, so that no subtraction finds what few people spent.
    """
    parts = []
    for bucket in events:
        bought = bucket.filter((pl.col("kind") == Kind.PURCHASE) & pl.col("ts").is_not_null())
        months = (
            bought.group_by("user_id", month=_day(timezone).dt.truncate("1mo"))
            .agg(revenue=_money().sum(), unpriced=pl.col("price_minor").null_count().cast(pl.Int64))
            .with_columns(cohort=pl.col("month").min().over("user_id"))
        )
        parts.append(
            months.group_by("cohort", "month").agg(
                pl.col("revenue", "unpriced").sum(), buyers=pl.len().cast(pl.Int64)
            )
        )
    counts = _added(parts, "cohort", "month")
    grid = _grid(counts, "cohort", "month", "1mo").join(counts, on=["cohort", "month"], how="left")
    grid = grid.sort("cohort", "month").with_columns(pl.col("buyers", "revenue").fill_null(0))
    grid = grid.with_columns(
        users=pl.col("buyers").first().over("cohort"),
        cumulative_minor=pl.col("revenue").cum_sum().over("cohort"),
        # of the last month in which any bought: a sum stays hidden until enough buy again
        latest=pl.when(pl.col("buyers") > 0).then("buyers").forward_fill().over("cohort"),
    )
    frame, hidden = _shown(grid, "users", least)
    rests = {"buyers": ["buyers"], "latest": ["cumulative_minor"]}
    frame, nulled = _null(frame, rests, least)
    months_on = 12 * (pl.col("month").dt.year() - pl.col("cohort").dt.year())
    frame = frame.select(
        "cohort",
        month=(months_on + pl.col("month").dt.month() - pl.col("cohort").dt.month()).cast(pl.Int64),
        users="users",
        buyers="buyers",
        cumulative_minor="cumulative_minor",
        per_user_minor=(pl.col("cumulative_minor") / pl.col("users")).round().cast(pl.Int64),
    )
    told = _told(frame, events, hidden, nulled, needs=(Kind.PURCHASE,))
    if unpriced := counts["unpriced"].sum():
        told.notes["purchases_without_price"] = unpriced
    return told


def basket(
    events: Buckets,
    timezone: str,
    groups: pl.DataFrame | None = None,
    *,
    least: int = MIN_USERS,
    least_baskets: int = MIN_BASKETS,
) -> Report:
    """What is bought together: pairs of items, and of the groups they are in.

    A basket is what a user buys in one session; without a session, on one day. Lift is how many
    times more often a pair is bought together than if its two had nothing to do with each other.

    Args:
        groups: item_id and `group` (its category); None: items only.
    """
    parts = [_baskets(bucket, timezone) for bucket in events]
    items, notes = _pairs(parts, least, least_baskets)
    found = [items.with_columns(level=pl.lit("item"))]
    if groups is not None and groups.height:
        of = groups.lazy().select("item_id", "group").drop_nulls()
        grouped = [
            part.join(of, on="item_id").select("user_id", "basket", "large", item_id="group").unique()
            for part in parts
        ]  # fmt: skip
        pairs, more = _pairs(grouped, least, least_baskets)
        found.append(pairs.with_columns(level=pl.lit("category")))
        notes["hidden_rows"] += more["hidden_rows"]
    frame = pl.concat(found).select("level", pl.all().exclude("level"))
    told = _told(frame, events, needs=(Kind.PURCHASE,), timeless=True)
    told.notes.update(notes)
    if not frame.height and "why_empty" not in told.notes:
        told.notes["why_empty"] = f"no pair was bought together by {least} users or more"
    return told


def search_terms(events: Buckets, *, least: int = MIN_USERS) -> Report:
    """What was searched, and whether anything came of it.

    A search is followed when its user views, likes, puts into the cart or buys something within half
    an hour and before the next search. Letters are made small, blanks single.
    """
    after = (Kind.VIEW, Kind.FAVORITE, Kind.CART, Kind.PURCHASE)
    term = pl.col("query").str.strip_chars().str.replace_all(r"\s+", " ").str.to_lowercase()
    search = pl.col("kind") == Kind.SEARCH
    parts = []
    for bucket in events:
        acts = (
            bucket.filter(search & term.is_not_null() & (term != "") | pl.col("kind").is_in(after))
            .select("user_id", "ts", "kind", "seq", term=term, search=search)
            .sort("user_id", "ts", "seq", nulls_last=False)
            .with_columns(block=pl.col("search").cast(pl.Int64).cum_sum().over("user_id"))
            .filter(pl.col("block") > 0)
        )
        start = pl.col("ts").filter("search").first()  # a block has one search, its first row
        soon = ~pl.col("search") & (pl.col("ts") - start <= FOLLOWS)
        searches = acts.group_by("user_id", "block").agg(
            pl.col("term").filter("search").first(),
            timed=start.is_not_null(),
            followed=soon.any(),
            bought=(soon & (pl.col("kind") == Kind.PURCHASE)).any(),
        )
        by_user = searches.group_by("term", "user_id").agg(
            searches=pl.len().cast(pl.Int64),
            timed=pl.col("timed").all(),
            followed=pl.col("followed").sum().cast(pl.Int64),
            bought=pl.col("bought").sum().cast(pl.Int64),
        )
        parts.append(
            by_user.group_by("term").agg(
                pl.col("searches", "followed", "bought").sum(),
                users=pl.len().cast(pl.Int64),
                followers=(pl.col("followed") > 0).sum().cast(pl.Int64),
                others=(pl.col("followed") < pl.col("searches")).sum().cast(pl.Int64),
                buyers=(pl.col("bought") > 0).sum().cast(pl.Int64),
                untimed=(~pl.col("timed")).sum().cast(pl.Int64),
            )
        )
    counts = _added(parts, "term")
    frame, hidden = _shown(counts, "users", least)
    frame = frame.with_columns(  # followed and not followed tell each other: both or none
        unfollowed=pl.col("searches") - pl.col("followed")
    ).with_columns(
        pl.when(pl.col("untimed") == 0).then(name).alias(name)
        for name in ("followed", "unfollowed", "bought")
    )
    figures = ["followed", "unfollowed"]
    frame, nulled = _null(frame, {"followers": figures, "others": figures, "buyers": ["bought"]}, least)  # fmt: skip
    frame = frame.with_columns(unfollowed_rate=pl.col("unfollowed") / pl.col("searches"))
    frame = frame.select(
        "term", "searches", "users", "followed", "unfollowed", "unfollowed_rate", "bought"
    ).sort(["searches", "term"], descending=[True, False])
    told = _told(frame, events, hidden, nulled, needs=(Kind.SEARCH,), timeless=True)
    told.notes["zero_results"] = (
        "events do not tell how many results a search showed; "
        "a search that nothing followed is the nearest sign"
    )
    return told


def channels(
    events: Buckets, participation: pl.LazyFrame | None = None, *, least: int = MIN_USERS
) -> Report:
    """Users, sessions, buyers and revenue by channel; a user of two channels counts in both.

    Needs no times. Revenue is price times pieces of purchases; returns are not taken off. Where
    there is a table of who took part in campaigns: users `reached` on each channel (who saw one), and
    those of them who `joined` (join or use).
    """
    bought = pl.col("kind") == Kind.PURCHASE
    parts = []
    for bucket in events:
        by_user = bucket.group_by(_channel(), "user_id").agg(
            sessions=pl.col("session_id").drop_nulls().n_unique().cast(pl.Int64),
            without_session=pl.col("session_id").null_count().cast(pl.Int64),
            purchases=bought.sum().cast(pl.Int64),
            revenue_minor=_money().filter(bought).sum(),
        )
        parts.append(
            by_user.group_by("channel").agg(
                pl.col("sessions", "without_session", "purchases", "revenue_minor").sum(),
                users=pl.len().cast(pl.Int64),
                buyers=(pl.col("purchases") > 0).sum().cast(pl.Int64),
            )
        )
    counts = _added(parts, "channel")
    frame, hidden = _shown(counts, "users", least)
    frame, nulled = _null(frame, {"buyers": ["buyers", "purchases", "revenue_minor"]}, least)
    frame = frame.select(
        "channel", "users", "sessions", "buyers", "purchases", "revenue_minor",
        conversion=pl.col("buyers") / pl.col("users"),
    ).sort("channel")  # fmt: skip
    if participation is not None:
        took, few = _took_part(participation, least)
        frame = frame.join(took, on="channel", how="full", coalesce=True).sort("channel")
        nulled += few
    told = _told(frame, events, hidden, nulled, timeless=True)
    told.notes["events_without_session"] = int(counts["without_session"].sum())
    return told


def _took_part(participation: pl.LazyFrame, least: int) -> tuple[pl.DataFrame, int]:
    """channel, reached, joined: users by channel of campaigns; too few users are null."""
    joined = pl.col("kind").is_in(["join", "use"])
    counts = (
        participation.filter(pl.col("kind").is_in(["view", "join", "use"]))
        .group_by(_channel(), "user_id")
        .agg(joined=joined.any())
        .group_by("channel")
        .agg(reached=pl.len().cast(pl.Int64), joined=pl.col("joined").sum().cast(pl.Int64))
        .collect()
    )
    shown, hidden = _shown(counts, "reached", least)
    shown, nulled = _null(shown, {"joined": ["joined"]}, least)
    return shown, hidden + nulled


def price_history(
    events: Buckets,
    states: States,
    timezone: str,
    changes: pl.LazyFrame | None = None,
    *,
    least: int = MIN_USERS,
) -> Report:
    """Prices an item had: as users saw them (views and carts), as the catalogue told them, and as the
    table of price changes (clean.price_history) has them, where there is one.

    A recorded price holds until the day of the item's next one on that channel; the last is open.
    A price users saw stands once, with its first and last day; what `least` users did not see is left
    out, as it may be one person's. A catalogue price stands once a stretch of days.
    """
    parts = []
    for bucket in events:
        seen = bucket.filter(
            pl.col("kind").is_in([Kind.VIEW, Kind.CART])
            & pl.col("price_minor").is_not_null()
            & pl.col("ts").is_not_null()
            & pl.col("item_id").is_not_null()
        )
        parts.append(
            seen.group_by("item_id", "price_minor", "user_id")
            .agg(first_day=_day(timezone).min(), last_day=_day(timezone).max())
            .group_by("item_id", "price_minor")
            .agg(pl.col("first_day").min(), pl.col("last_day").max(), users=pl.len().cast(pl.Int64))
        )
    seen_frame, hidden = _shown(_added(parts, "item_id", "price_minor"), "users", least)
    told = _stretches(states)
    columns = ["item_id", "source", "price_minor", "first_day", "last_day", "users"]
    frame = pl.concat(
        [
            seen_frame.with_columns(source=pl.lit("seen")).select(columns),
            told.with_columns(source=pl.lit("catalogue"), users=pl.lit(None, pl.Int64)).select(columns),
            *([] if changes is None else [_recorded(changes, timezone).select(columns)]),
        ]
    ).sort("item_id", "source", "first_day", "price_minor")  # fmt: skip
    notes: dict[str, Any] = {"hidden_rows": hidden, "catalogue_days": len(states)}
    if not seen_frame.height and not hidden:
        notes["why_no_seen"] = "no view or cart event has both a price and a time"
    notes |= _no_history(states)
    return Report(frame, notes)


def _recorded(changes: pl.LazyFrame, timezone: str) -> pl.DataFrame:
    """Stretches between the changes of a price; the last of each item and channel is open."""
    ordered = changes.sort("item_id", "channel", "ts").select(
        "item_id", "price_minor", first_day=_day(timezone),
        last_day=_day(timezone).shift(-1).over("item_id", "channel"),
        source=pl.lit("recorded"), users=pl.lit(None, pl.Int64),
    )  # fmt: skip
    return ordered.collect()


def stock_movement(
    events: Buckets,
    states: States,
    timezone: str,
    movements: pl.LazyFrame | None = None,
    *,
    least: int = MIN_USERS,
) -> Report:
    """Stock of each item now, how it rose and fell between catalogue states, and what was sold.

    `risen` and `fallen` add up the differences between the ends of days; without a second day they
    are null. Where movements are recorded (clean.stock_movements), an item's are added up instead, and
    its newest `stock_after` stands in for a stock the catalogue does not tell. `days_of_stock`: stock by the pace of the last 28 days of events.
    """
    last = _last_day(events, timezone)
    start = last - RECENT if last else None
    parts = []
    for bucket in events:
        lines = bucket.filter(
            pl.col("kind").is_in([Kind.PURCHASE, Kind.RETURN]) & pl.col("item_id").is_not_null()
        ).with_columns(
            pieces=pl.col("quantity").fill_null(1),
            recent=(_day(timezone) > pl.lit(start, pl.Date)).fill_null(False),
            sale=pl.col("kind") == Kind.PURCHASE,
        )
        sale, recent, pieces = pl.col("sale"), pl.col("recent"), pl.col("pieces")
        by_user = lines.group_by("item_id", "user_id").agg(
            sold=pieces.filter(sale).sum(),
            recently=pieces.filter(sale & recent).sum(),
            returned=pieces.filter(~sale).sum(),
        )
        parts.append(
            by_user.group_by("item_id").agg(
                pl.col("sold", "recently", "returned").sum().cast(pl.Int64),
                buyers=(pl.col("sold") > 0).sum().cast(pl.Int64),
                recent_buyers=(pl.col("recently") > 0).sum().cast(pl.Int64),
                returners=(pl.col("returned") > 0).sum().cast(pl.Int64),
            )
        )
    sales = _added(parts, "item_id")
    stock, moved = _moved(_stock(states), movements)
    frame = stock.join(sales, on="item_id", how="full", coalesce=True)
    frame = frame.with_columns(pl.col(sales.columns[1:]).fill_null(0))
    rests = {"buyers": ["sold"], "recent_buyers": ["recently"], "returners": ["returned"]}
    frame, nulled = _null(frame, rests, least)
    pace = pl.col("recently") / RECENT.days
    frame = frame.select(
        "item_id", "stock", "risen", "fallen", "sold", "returned",
        days_of_stock=pl.when(pl.col("recently") > 0).then(pl.col("stock") / pace),
    ).sort("item_id")  # fmt: skip
    notes: dict[str, Any] = {"hidden_figures": nulled, "catalogue_days": len(states)}
    if last is None:
        notes["why_no_pace"] = NO_TIME
    if moved is not None:
        return Report(frame, notes | {"movements": moved})
    return Report(frame, notes | _no_history(states))


def _moved(stock: pl.DataFrame, movements: pl.LazyFrame | None) -> tuple[pl.DataFrame, int | None]:
    """`_stock` with what recorded movements say better, and how many they are."""
    if movements is None:
        return stock, None
    pieces = pl.col("quantity")
    after = pl.col("stock_after").sort_by("ts", "seq").drop_nulls().last()
    told = movements.group_by("item_id").agg(
        rows=pl.len(),
        up=pieces.clip(lower_bound=0).sum(),
        down=(-pieces).clip(lower_bound=0).sum(),
        after=pl.when(pl.col("warehouse").n_unique() == 1).then(after),
    ).collect()  # fmt: skip
    both = stock.join(told, on="item_id", how="full", coalesce=True)
    merged = both.select(
        "item_id",
        stock=pl.coalesce("stock", "after"),
        risen=pl.coalesce("up", "risen"),
        fallen=pl.coalesce("down", "fallen"),
    )
    return merged, int(told["rows"].sum())


# columns


def _day(timezone: str) -> pl.Expr:
    return pl.col("ts").dt.convert_time_zone(timezone).dt.date()


def _channel() -> pl.Expr:
    return pl.col("channel").fill_null(UNKNOWN)


def _money() -> pl.Expr:
    return pl.col("price_minor") * pl.col("quantity").fill_null(1)


# counts


def _added(parts: Sequence[pl.LazyFrame], *keys: str) -> pl.DataFrame:
    """Counts of buckets added up, a bucket at a time; of days the first and the last."""
    total: pl.DataFrame | None = None
    for part in parts:
        one = part.collect(engine="streaming")
        if total is not None:
            names = [name for name in one.columns if name not in keys]
            how = {"first_day": pl.Expr.min, "last_day": pl.Expr.max}
            both = pl.concat([total, one.select(total.columns)])
            one = both.group_by(keys).agg(how.get(n, pl.Expr.sum)(pl.col(n)) for n in names)
        total = one
    if total is None:
        raise ValueError("no buckets")
    return total


def _grid(counts: pl.DataFrame, start: str, step: str, every: str) -> pl.DataFrame:
    """Every `step` from each `start` to the last there is, so that nothing done counts as 0."""
    last = counts[step].max()
    ranges = counts.select(pl.col(start).unique().sort()).with_columns(
        pl.date_ranges(start, pl.lit(last, pl.Date), every).alias(step)
    )
    return ranges.explode(step)


def _shown(frame: pl.DataFrame, users: str, least: int) -> tuple[pl.DataFrame, int]:
    """The rows about enough users, and how many others there are."""
    shown = frame.filter(pl.col(users) >= least)
    return shown, frame.height - shown.height


def _null(frame: pl.DataFrame, rests: dict[str, list[str]], least: int) -> tuple[pl.DataFrame, int]:
    """Figures that rest on some but too few users made null, and how many these are.

    Args:
        rests: column that counts users -> figures that rest on them (the count itself may be one).
    """
    few = {by: (pl.col(by) > 0) & (pl.col(by) < least) for by in rests}
    on: dict[str, pl.Expr] = {}
    for by, names in rests.items():
        for name in names:
            on[name] = on[name] | few[by] if name in on else few[by]
    nulled = sum(frame.select(few_.sum()).item() for few_ in on.values())
    made = frame.with_columns(
        pl.when(~few_).then(pl.col(name)).alias(name) for name, few_ in on.items()
    )
    return made, int(nulled)


def _last_day(events: Buckets, timezone: str) -> date | None:
    days = [bucket.select(_day(timezone).max()).collect().item() for bucket in events]
    return max((day for day in days if day is not None), default=None)


def _told(
    frame: pl.DataFrame,
    events: Buckets,
    hidden: int = 0,
    nulled: int = 0,
    *,
    needs: Sequence[Kind] = (),
    timeless: bool = False,
) -> Report:
    """The report, with the reason where it is empty."""
    notes: dict[str, Any] = {"hidden_rows": hidden, "hidden_figures": nulled}
    if not frame.height:
        has = [
            bucket.select(
                rows=pl.len(),
                timed=pl.col("ts").is_not_null().any(),
                kinds=(pl.col("kind").is_in(needs) if needs else pl.lit(True)).any(),
            ).collect()
            for bucket in events
        ]
        seen = pl.concat(has)
        if not seen["rows"].sum():
            notes["why_empty"] = "there are no events"
        elif not seen["kinds"].any():
            notes["why_empty"] = f"there are no events of kind {', '.join(needs)}"
        elif not timeless and not seen["timed"].any():
            notes["why_empty"] = NO_TIME
        elif hidden:
            notes["why_empty"] = f"all {hidden} rows are about too few users to be shown"
    return Report(frame, notes)


# baskets


def _baskets(bucket: pl.LazyFrame, timezone: str) -> pl.LazyFrame:
    """user_id, basket, item_id, once each, and whether the basket is too `large`."""
    name = pl.coalesce(
        pl.lit("s:") + pl.col("session_id"), pl.lit("d:") + _day(timezone).cast(pl.String)
    )
    return (
        bucket.filter((pl.col("kind") == Kind.PURCHASE) & pl.col("item_id").is_not_null())
        .select("user_id", "item_id", basket=name)
        .drop_nulls("basket")
        .unique()
        .with_columns(large=pl.len().over("user_id", "basket") > MAX_BASKET)
    )


def _pairs(
    parts: Sequence[pl.LazyFrame], least: int, least_baskets: int
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Pairs with their figures, and notes. Two passes: what is seldom bought has no frequent pair."""
    every = pl.concat(
        [
            part.select("user_id", "basket", "large").unique()
            .select(baskets=(~pl.col("large")).sum(), large=pl.col("large").sum()).collect()
            for part in parts
        ]
    )  # fmt: skip
    baskets = int(every["baskets"].sum())
    small = [part.filter(~pl.col("large")) for part in parts]
    counts = _added(
        [part.group_by("item_id").agg(n=pl.len().cast(pl.Int64)) for part in small], "item_id"
    )
    frequent = counts.filter(pl.col("n") >= least_baskets).sort(["n", "item_id"], descending=[True, False])  # fmt: skip
    often = frequent.head(MAX_PAIR_ITEMS).sort("item_id").with_row_index("code")
    codes = often.lazy().select("item_id", "code")
    pairs = []
    for part in small:
        coded = part.join(codes, on="item_id").select("user_id", "basket", "code")
        both = coded.join(coded, on=["user_id", "basket"], suffix="_b")
        pairs.append(
            both.filter(pl.col("code") < pl.col("code_b"))
            .group_by("code", "code_b", "user_id")
            .agg(baskets=pl.len().cast(pl.Int64))
            .group_by("code", "code_b")
            .agg(pl.col("baskets").sum(), users=pl.len().cast(pl.Int64))
        )
    found = _added(pairs, "code", "code_b").filter(pl.col("baskets") >= least_baskets)
    shown, hidden = _shown(found, "users", least)
    a = often.select("code", item_a="item_id", n_a="n")
    b = often.select(code_b="code", item_b="item_id", n_b="n")
    n, n_a, n_b = pl.col("baskets"), pl.col("n_a"), pl.col("n_b")
    frame = shown.join(a, on="code").join(b, on="code_b").select(
        "item_a", "item_b", "baskets", "users",
        support=n / baskets, confidence_ab=n / n_a, confidence_ba=n / n_b,
        lift=n * baskets / (n_a * n_b),
    ).sort(["baskets", "lift", "item_a", "item_b"], descending=[True, True, False, False])  # fmt: skip
    notes: dict[str, Any] = {
        "baskets": baskets, "baskets_too_large": int(every["large"].sum()), "hidden_rows": hidden
    }  # fmt: skip
    if frequent.height > MAX_PAIR_ITEMS:
        notes["items_left_out"] = frequent.height - MAX_PAIR_ITEMS
    if frame.height > MAX_PAIRS:
        notes["pairs_left_out"] = frame.height - MAX_PAIRS
    return frame.head(MAX_PAIRS), notes


# the catalogue over days


def _no_history(states: States) -> dict[str, str]:
    if len(states) > 1:
        return {}
    found = "a single day" if states else "no day"
    return {
        "why_no_history": f"the catalogue (clean.items) is known as of {found}; "
        "its history grows with each day on which it changes"
    }


def _stretches(states: States) -> pl.DataFrame:
    """item_id, price_minor, first_day, last_day: stretches of days with one price."""
    columns = ["item_id", "price_minor", "first_day", "last_day"]
    open_ = pl.DataFrame(
        schema={"item_id": pl.String, "price_minor": pl.Int64, "first_day": pl.Date, "last_day": pl.Date}
    )  # fmt: skip
    done = []
    for day, state in states:
        now = state.select("item_id", new="price_minor").drop_nulls().collect()
        both = open_.join(now, on="item_id", how="full", coalesce=True)
        same = pl.col("price_minor") == pl.col("new")
        ended = both.filter(pl.col("price_minor").is_not_null() & ~same.fill_null(False))
        done.append(ended.select(columns))
        today = pl.lit(day, pl.Date)
        open_ = both.filter(pl.col("new").is_not_null()).select(
            "item_id",
            price_minor="new",
            first_day=pl.when(same.fill_null(False)).then("first_day").otherwise(today),
            last_day=today,
        )
    return pl.concat([*done, open_])


def _stock(states: States) -> pl.DataFrame:
    """item_id, stock, risen, fallen: stock at last, and the sum of its rises and falls."""
    kept = pl.DataFrame(
        schema={"item_id": pl.String, "stock": pl.Int64, "risen": pl.Int64, "fallen": pl.Int64}
    )
    for _, state in states:
        now = state.select("item_id", new="stock").collect()
        both = now.join(kept, on="item_id", how="left")  # what left the catalogue is left out
        moved = pl.col("new") - pl.col("stock")
        kept = both.select(
            "item_id",
            stock="new",
            risen=pl.sum_horizontal("risen", moved.clip(lower_bound=0), ignore_nulls=True),
            fallen=pl.sum_horizontal("fallen", (-moved).clip(lower_bound=0), ignore_nulls=True),
        )
    if len(states) < 2:
        kept = kept.with_columns(risen=pl.lit(None, pl.Int64), fallen=pl.lit(None, pl.Int64))
    return kept
