"""What the simulated users do: sessions with an aim, and what comes of it.

A user has lasting tastes (style, brand, price, colour, and which goods). A session has an aim: a
good that goes with something bought before, something used up, something looked at and not yet
bought, or a fresh wish. The shop shows a list (its old ranking: fame and luck), the user reads it
from the top, opens what fits the taste, stays longer on what is liked, and buys sometimes. After a
purchase the wish moves on to what goes with it.
"""

import math
import random
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from shopkeeper.demo.catalogue import (
    BRAND_DIM,
    TASTE_WIDTH,
    Array,
    Catalogue,
    Ints,
    item_id,
    shop_id,
)
from shopkeeper.demo.goods import BRANDS, CATEGORIES, COLOURS, GOODS, REGIONS, STYLES

DAY_MS = 86_400_000
PAGE = 8  # items of one shown list
LEADS = (0.70, 0.20, 0.10)  # chance of the first, second, third good of `leads_to`
POSITION = 0.8 ** np.arange(PAGE)  # a list is read from the top; each place is read less often
HOURS = (2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 10, 11, 11, 9, 9, 9, 9, 10, 13, 16, 17, 13, 6)
CHANNELS = ("web", "app", "miniapp")
UTC_OFFSET_MS = 8 * 3_600_000  # everybody lives in China Standard Time

# called with (done, total) users
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Users:
    """N users. Row u of everything is user u."""

    ids: list[str]
    page: pl.DataFrame  # (N, …) what the shop knows: the canonical user columns and more
    taste: Array  # (N, TASTE_WIDTH)
    wish: Array  # (N, len(GOODS)) shares, rows add up to 1
    region: list[str]
    chinese: list[bool]  # searches in Chinese
    channel: Ints  # (N,) row of CHANNELS
    visits: Ints  # (N,) sessions
    joined: Array  # (N,) day of registration; negative: before the first day


def make_users(rng: np.random.Generator, users: int, days: int, first_day: np.datetime64) -> Users:
    """`users` users, a quarter of whom register while we watch."""
    styles = len(STYLES)
    taste = np.zeros((users, TASTE_WIDTH))
    favourite = rng.permuted(np.tile(np.arange(styles), (users, 1)), axis=1)
    np.put_along_axis(taste[:, :styles], favourite[:, :1], 2.6, axis=1)
    np.put_along_axis(taste[:, :styles], favourite[:, 1:2], 1.4, axis=1)
    taste[:, styles : styles + BRAND_DIM] = rng.normal(0.0, 0.55, (users, BRAND_DIM))
    budget = rng.beta(1.6, 2.0, users)
    taste[:, styles + BRAND_DIM] = 2 * 7.0 * budget  # -7 (t - budget)^2, without the constant
    taste[:, styles + BRAND_DIM + 1] = -7.0
    loved = rng.integers(0, len(COLOURS), (users, 2))
    for column in (0, 1):
        np.put_along_axis(
            taste[:, styles + BRAND_DIM + 2 :], loved[:, column : column + 1], 0.9, axis=1
        )
    names = list(CATEGORIES)
    category_of = np.array([names.index(good.category) for good in GOODS])
    category_share = rng.dirichlet(np.full(len(names), 0.16), users)
    wish = (0.95 * category_share[:, category_of] + 0.05 / len(names)) * rng.gamma(
        0.7, size=(users, len(GOODS))
    )
    wish /= wish.sum(axis=1, keepdims=True)
    joined = np.where(
        rng.random(users) < 0.25, rng.uniform(0, days * 0.9, users), -rng.uniform(1, 900, users)
    )
    stay = np.clip((days - np.maximum(joined, 0.0)) / 60, 0.1, None)
    visits = 1 + rng.poisson(rng.gamma(0.9, 4.8, users) * stay)
    region = rng.choice(len(REGIONS), users, p=[share for _, share in REGIONS])
    chinese = rng.random(users) < 0.72
    channel = rng.choice(len(CHANNELS), users, p=(0.4, 0.42, 0.18))
    agreed = rng.random(users) >= 0.07
    level = rng.choice(("basic", "silver", "gold"), users, p=(0.7, 0.22, 0.08))
    ids = [f"U{10_000 + 3 * row}" for row in range(users)]
    since = first_day + (joined * 86_400).astype("timedelta64[s]")
    page = pl.DataFrame(
        {
            "user_id": ids,
            "region": [REGIONS[row][0] for row in region],
            "personalisation": np.where(agreed, "true", "false"),
            "registered_at": [f"{moment}Z" for moment in since],
            "language": np.where(chinese, "zh", "en"),
            "member_level": level,
        }
    )
    return Users(
        ids=ids,
        page=page,
        taste=taste,
        wish=wish,
        region=[REGIONS[row][0] for row in region],
        chinese=[bool(flag) for flag in chinese],
        channel=channel,
        visits=visits,
        joined=joined,
    )


COLUMNS = (
    "user_id", "session_id", "item_id", "shop_id", "kind", "ms", "dwell_ms", "query",
    "price_minor", "quantity", "channel", "region", "position",
)  # fmt: skip


class _Log:
    """Events column by column; `add` is the innermost call of the simulation."""

    def __init__(self, items: list[str], shops: list[str]) -> None:
        self.items, self.shops = items, shops
        self.rows: list[tuple[object, ...]] = []
        self.who: tuple[str, str | None, str, str] = (
            "",
            None,
            "",
            "",
        )  # user, session, channel, region

    def add(
        self,
        kind: str,
        ms: int,
        item: int = -1,
        *,
        dwell_ms: int | None = None,
        query: str | None = None,
        price: int | None = None,
        quantity: int | None = None,
        position: int | None = None,
    ) -> None:
        user, session, channel, region = self.who
        known = item >= 0
        self.rows.append(
            (
                user,
                session,
                self.items[item] if known else None,
                self.shops[item] if known else None,
                kind,
                ms,
                dwell_ms,
                query,
                price,
                quantity,
                channel,
                region,
                position,
            )
        )

    def frame(self) -> pl.DataFrame:
        types = {
            "ms": pl.Int64,
            "dwell_ms": pl.Int64,
            "price_minor": pl.Int64,
            "quantity": pl.Int64,
            "position": pl.Int64,
        }
        schema = {name: types.get(name, pl.String()) for name in COLUMNS}
        return pl.DataFrame(self.rows, schema=schema, orient="row")


class Market:
    """The catalogue as the simulation uses it from day to day."""

    def __init__(self, rng: np.random.Generator, catalogue: Catalogue, days: int) -> None:
        self.catalogue = catalogue
        self.days = days
        weeks = days // 7 + 2
        steps = rng.normal(0.0, 0.3, (weeks, len(catalogue.good)))
        self.fashion = np.cumsum(steps, axis=0)  # (weeks, M) what is in fashion drifts
        self.season = rng.uniform(0, 2 * math.pi, len(GOODS))
        names = {good.name: row for row, good in enumerate(GOODS)}
        self.leads = [[names[name] for name in good.leads_to] for good in GOODS]

    def prominence(self, good: int, day: float) -> Array:
        """(items of the good,) log weight in the shop's lists; -inf before the launch."""
        part = slice(int(self.catalogue.start[good]), int(self.catalogue.start[good + 1]))
        age = day - self.catalogue.launched[part]
        fresh = np.where(age < 30, 1.6 * np.exp(-np.maximum(age, 0.0) / 10), 0.0)
        shown = self.catalogue.fame[part] + self.fashion[int(day / 7), part] + fresh
        return np.where(age >= 0, shown, -np.inf)


def appeal(catalogue: Catalogue, taste: Array) -> Array:
    """(M,) how much a user of this taste likes each item; log weight of opening it when shown."""
    liked: Array = catalogue.traits @ taste + catalogue.quality
    return liked


def simulate(
    rng: np.random.Generator,
    market: Market,
    users: Users,
    first_ms: int,
    tick: Tick | None = None,
) -> pl.DataFrame:
    """All events of all users, sorted by time: COLUMNS."""
    dice = random.Random(int(rng.integers(0, 2**62)))
    total = len(market.catalogue.good)
    log = _Log(
        [item_id(row) for row in range(total)], [shop_id(int(s)) for s in market.catalogue.shop]
    )
    for row in range(len(users.ids)):
        _life(rng, dice, market, users, row, first_ms, log)
        if tick is not None and row % 500 == 499:
            tick(row + 1, len(users.ids))
    frame = log.frame()
    end = first_ms + market.days * DAY_MS
    return frame.filter(pl.col("ms") < end).sort("ms", "user_id", maintain_order=True)


def _visit_times(dice: random.Random, users: Users, row: int, days: int) -> list[float]:
    """Days (with fraction) of a user's sessions, in order, at least 45 minutes apart."""
    begin = max(float(users.joined[row]), 0.0)
    times = []
    hours = list(range(24))
    for _ in range(int(users.visits[row])):
        day = dice.uniform(begin, days)
        local = dice.choices(hours, HOURS)[0] + dice.random()
        times.append(int(day) + ((local - 8) % 24) / 24)
    times.sort()
    kept: list[float] = []
    for moment in times:
        if moment >= begin and moment < days and (not kept or moment - kept[-1] > 1 / 32):
            kept.append(moment)
    return kept or [min(begin + 0.01, days - 0.01)]


def _life(
    rng: np.random.Generator,
    dice: random.Random,
    market: Market,
    users: Users,
    row: int,
    first_ms: int,
    log: _Log,
) -> None:
    """Every session of one user."""
    catalogue = market.catalogue
    liking = appeal(catalogue, users.taste[row])
    wish = np.cumsum(users.wish[row])
    pending: list[tuple[float, int, int]] = []  # (due day, good, item bought before or -1)
    have: set[int] = set()  # goods that last: one is enough for most people
    open_good, open_day = -1, -99.0  # looked at, not bought
    channel = CHANNELS[int(users.channel[row])]
    for number, day in enumerate(_visit_times(dice, users, row, market.days)):
        log.who = (users.ids[row], f"{users.ids[row]}-{number + 1}", channel, users.region[row])
        due = [entry for entry in pending if entry[0] <= day]
        before, again = -1, False
        if due and dice.random() < 0.85:
            entry = min(due)
            pending.remove(entry)
            _, good, before = entry
            again = before >= 0 and int(catalogue.good[before]) == good
        elif day - open_day < 5 and dice.random() < 0.4:
            good = open_good
        else:
            good = _fresh_wish(dice, market, wish, day, have)
        ms = first_ms + int(day * DAY_MS)
        for _ in range(4):
            bought, ms = _look(
                rng, dice, market, users, row, liking, good, before, again, day, ms, log
            )
            if bought >= 0:
                open_good, open_day = -1, -99.0
                kind = GOODS[good]
                if kind.again_days and dice.random() < 0.8:
                    wait = kind.again_days * dice.uniform(0.8, 1.2)
                    pending.append((day + wait, good, bought))
                if not kind.again_days:
                    have.add(good)
                if market.leads[good]:
                    after = dice.choices(market.leads[good], LEADS[: len(market.leads[good])])[0]
                    if after in have and dice.random() < 0.8:
                        break
                    if dice.random() < 0.45:
                        good, before, again = after, bought, False
                        continue
                    pending.append((day + dice.lognormvariate(1.0, 0.7), after, bought))
                break
            open_good, open_day = good, day
            roll = dice.random()
            if roll < 0.22:
                again = False  # one more list of the same good
            elif roll < 0.42 and market.leads[good]:
                good = dice.choices(market.leads[good], LEADS[: len(market.leads[good])])[0]
                again = False
            else:
                break


def _fresh_wish(
    dice: random.Random, market: Market, wish: Array, day: float, have: set[int]
) -> int:
    """A good from the user's shares, less often out of season or when there is one at home."""
    while True:
        good = min(bisect(wish, dice.random()), len(GOODS) - 1)
        factor = 1 + 0.5 * math.sin(2 * math.pi * day / 90 + market.season[good])
        if dice.random() * 1.5 < factor * (0.15 if good in have else 1.0):
            return good


def _look(
    rng: np.random.Generator,
    dice: random.Random,
    market: Market,
    users: Users,
    row: int,
    liking: Array,
    good: int,
    before: int,
    again: bool,
    day: float,
    ms: int,
    log: _Log,
) -> tuple[int, int]:
    """One list of one good: what is opened, kept, bought. Returns (item bought or -1, time)."""
    catalogue = market.catalogue
    first, last = int(catalogue.start[good]), int(catalogue.start[good + 1])
    likes = liking[first:last]
    if before >= 0 and not again:  # what goes with it: same style, same colour, same brand
        likes = (
            likes
            + 1.6 * (catalogue.style[first:last] == catalogue.style[before])
            + 1.0 * (catalogue.colour[first:last] == catalogue.colour[before])
            + 1.6 * (catalogue.brand[first:last] == catalogue.brand[before])
        )
    if again and dice.random() < 0.7:
        return before, _buy(dice, market, before, None, day, ms + dice.randint(5_000, 40_000), log)
    shown_weight = market.prominence(good, day)
    if dice.random() < 0.4:
        best = first + int(np.argmax(likes))
        text, named = _query(dice, catalogue, good, best, users.chinese[row])
        log.add("search", ms, query=text)
        ms += dice.randint(3_000, 9_000)
        if named == "style":
            shown_weight = shown_weight + 2.5 * (
                catalogue.style[first:last] == catalogue.style[best]
            )
        elif named == "brand":
            shown_weight = shown_weight + 2.5 * (
                catalogue.brand[first:last] == catalogue.brand[best]
            )
    luck = rng.gumbel(size=(2, last - first))
    shown = np.argsort(-(shown_weight + luck[0]))[:PAGE]
    shown = shown[np.isfinite(shown_weight[shown])]
    if len(shown) == 0:
        return -1, ms
    chance = likes[shown] + np.log(POSITION[: len(shown)])
    opened = np.argsort(-(chance + luck[1][: len(shown)]))
    count = min(1 + int(dice.expovariate(0.75)), len(shown))
    if log.who[2] == "app":  # only the app records what was shown
        depth = min(int(opened[:count].max()) + 2, len(shown))
        for place in range(depth):
            log.add("impression", ms, first + int(shown[place]), position=place + 1)
    best_like = float(likes.max())
    for place in opened[:count].tolist():
        item = first + int(shown[place])
        ms += dice.randint(4_000, 15_000)
        joy = float(likes[shown[place]]) - best_like  # 0: could not be better
        dwell = int(1000 * min(dice.lognormvariate(3.6 + 0.28 * max(joy, -4.0), 0.6), 1500.0))
        price = _price(market, item, day)
        log.add("view", ms, item, dwell_ms=dwell, price=price, position=place + 1)
        ms += dwell
        if dice.random() < 0.11 * math.exp(0.5 * joy):
            ms += 3_000
            log.add("favorite", ms, item)
        if dice.random() < 0.05 * math.exp(0.3 * joy) * 0.3:
            ms += 3_000
            log.add("share", ms, item)
        if dice.random() < 0.55 * math.exp(0.45 * joy):
            ms += dice.randint(3_000, 8_000)
            if dice.random() < 0.62:
                return item, _buy(dice, market, item, place + 1, day, ms, log)
            log.add("cart", ms, item, price=price, quantity=1, position=place + 1)
    return -1, ms + dice.randint(5_000, 30_000)


def _buy(
    dice: random.Random,
    market: Market,
    item: int,
    position: int | None,
    day: float,
    ms: int,
    log: _Log,
) -> int:
    """Cart and purchase now, perhaps a review or a return some days later. Returns the time."""
    price = _price(market, item, day)
    quantity = dice.choices((1, 2, 3), (0.9, 0.08, 0.02))[0]
    if position is None:
        dwell = dice.randint(4_000, 25_000)
        log.add("view", ms, item, dwell_ms=dwell, price=price)
        ms += dwell
    log.add("cart", ms, item, price=price, quantity=quantity, position=position)
    ms += dice.randint(10_000, 120_000)
    log.add("purchase", ms, item, price=price, quantity=quantity, position=position)
    who = log.who
    log.who = (who[0], None, who[2], who[3])
    quality = float(market.catalogue.quality[item])
    if dice.random() < 0.05 * math.exp(-0.8 * quality):
        later = ms + int(dice.uniform(2, 9) * DAY_MS)
        log.add("return", later, item, price=price, quantity=quantity)
    elif dice.random() < 0.14:
        log.add("review", ms + int(dice.uniform(3, 12) * DAY_MS), item)
    log.who = who
    return ms + dice.randint(8_000, 40_000)


def _price(market: Market, item: int, day: float) -> int:
    """Every good is 10% cheaper for one week of every seven."""
    price = int(market.catalogue.price_minor[item])
    on_offer = int(day / 7) % 7 == int(market.catalogue.good[item]) % 7
    return round(price * 0.9) if on_offer else price


def _query(
    dice: random.Random, catalogue: Catalogue, good: int, best: int, chinese: bool
) -> tuple[str, str]:
    """What the user types, and what it names beside the good: "style", "brand", "colour" or ""."""
    kind = GOODS[good]
    base = kind.zh if chinese else kind.name
    roll = dice.random()
    if roll < 0.22:
        pair, named = STYLES[int(catalogue.style[best])], "style"
    elif roll < 0.4:
        pair, named = BRANDS[int(catalogue.brand[best])], "brand"
    elif roll < 0.52:
        paint = COLOURS[int(catalogue.colour[best])]
        pair, named = (paint.name, paint.zh), "colour"
    elif roll < 0.68:
        pair, named = dice.choice(kind.features), ""
    else:
        pair, named = ("", ""), ""
    text = f"{pair[1]}{base}" if chinese else f"{pair[0].lower()} {base}".strip()
    if not chinese and len(text) > 6 and dice.random() < 0.06:  # a slip of the finger
        at = dice.randint(1, len(text) - 3)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text, named
