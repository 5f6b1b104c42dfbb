"""Every report against a slow, plain count over the same events, whatever bucket they are in."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from shopkeeper.analysis import reports
from shopkeeper.assets.buckets import bucket_of

ZONE = "Asia/Shanghai"
LEAST = 3
Rows = list[dict[str, Any]]
SCHEMA: dict[str, Any] = {
    "user_id": pl.String, "session_id": pl.String, "item_id": pl.String, "kind": pl.String,
    "ts": pl.Datetime("us", "UTC"), "query": pl.String, "price_minor": pl.Int64,
    "quantity": pl.Int64, "channel": pl.String, "seq": pl.Int64,
}  # fmt: skip
KINDS = ["view", "view", "view", "cart", "purchase", "purchase", "search", "favorite", "return", "impression"]  # fmt: skip


def events(seed: int, rows: int = 700) -> Rows:
    """Random events of 40 users over ten weeks, with everything missing now and then."""
    dice = random.Random(seed)
    start = datetime(2026, 1, 20, tzinfo=UTC)
    made = []
    for seq in range(rows):
        kind = dice.choice(KINDS)
        user = f"u{int(dice.triangular(0, 40, 5))}"
        at = start + timedelta(
            minutes=dice.randrange(70 * 24) * 60 + dice.choice([0, 5, 29, 30, 31])
        )
        made.append(
            {
                "user_id": user,
                "session_id": dice.choice([None, f"{user}-{at:%m%d}", f"{user}-{at:%m}"]),
                "item_id": None if kind == "search" else f"i{int(dice.triangular(0, 9, 2))}",
                "kind": kind,
                "ts": None if dice.random() < 0.03 else at,
                "query": dice.choice(["Lamp", " lamp ", "台灯", "a  b", ""]) if kind == "search" else None,
                "price_minor": dice.choice([None, 100, 120, 999]) if kind != "search" else None,
                "quantity": dice.choice([None, 1, 2]) if kind in ("purchase", "return") else None,
                "channel": dice.choice(["app", "web", "web", None, "kiosk"]),
                "seq": seq,
            }
        )  # fmt: skip
    return made


def buckets(rows: Rows, count: int = 3) -> list[pl.LazyFrame]:
    parts: list[Rows] = [[] for _ in range(count)]
    for row in rows:
        parts[bucket_of(row["user_id"], count)].append(row)
    return [pl.DataFrame(part, schema=SCHEMA, orient="row").lazy() for part in parts]


def day(row: dict[str, Any]) -> date:
    found: date = row["ts"].astimezone(ZoneInfo(ZONE)).date()
    return found


def monday(at: date) -> date:
    return at - timedelta(days=at.weekday())


def few(users: Iterable[str]) -> bool:
    return 0 < len(set(users)) < LEAST


def told(report: reports.Report) -> list[tuple[Any, ...]]:
    return report.frame.rows()


@pytest.fixture(params=range(4))
def rows(request: pytest.FixtureRequest) -> Rows:
    return events(request.param)


def test_funnel(rows: Rows) -> None:
    reached: dict[tuple[date, str], dict[str, int]] = defaultdict(dict)
    for row in rows:
        stage = {"view": 1, "cart": 2, "purchase": 3}.get(row["kind"])
        if stage and row["ts"]:
            cell = reached[day(row), row["channel"] or "(unknown)"]
            cell[row["user_id"]] = max(stage, cell.get(row["user_id"], 0))
    wanted = []
    for (at, channel), users in sorted(reached.items()):
        if len(users) >= LEAST:
            carted, bought = ([u for u, s in users.items() if s >= least] for least in (2, 3))
            n_carted = None if few(carted) else len(carted)
            n_bought = None if few(bought) else len(bought)
            wanted.append((at, channel, len(users), n_carted, n_bought))
    made = reports.funnel(buckets(rows), ZONE, least=LEAST)
    assert wanted
    assert [row[:5] for row in told(made)] == wanted
    assert made.notes["hidden_rows"] == len(reached) - len(wanted)
    for *_, viewed, carted_, bought_, cart_rate, purchase_rate in told(made):
        assert cart_rate == (None if carted_ is None else carted_ / viewed)
        assert purchase_rate == (None if bought_ is None else bought_ / viewed)


def test_retention(rows: Rows) -> None:
    weeks: dict[str, set[date]] = defaultdict(set)
    for row in rows:
        if row["ts"]:
            weeks[row["user_id"]].add(monday(day(row)))
    last_day = max(day(row) for row in rows if row["ts"])
    wanted = []
    for cohort in sorted({min(found) for found in weeks.values()}):
        users = [user for user, found in weeks.items() if min(found) == cohort]
        at = cohort
        while at <= monday(last_day) and len(users) >= LEAST:
            active = [user for user in users if at in weeks[user]]
            n = None if few(active) else len(active)
            share = None if n is None else n / len(users)
            complete = at + timedelta(days=6) <= last_day
            wanted.append((cohort, (at - cohort).days // 7, len(users), n, share, complete))
            at += timedelta(days=7)
    assert told(reports.retention(buckets(rows), ZONE, least=LEAST)) == wanted


def test_cohort_value(rows: Rows) -> None:
    spent: dict[str, Counter[date]] = defaultdict(Counter)
    for row in rows:
        if row["kind"] == "purchase" and row["ts"]:
            value = (row["price_minor"] or 0) * (row["quantity"] or 1)
            spent[row["user_id"]][day(row).replace(day=1)] += value
    months = sorted({month for found in spent.values() for month in found})
    wanted = []
    for cohort in sorted({min(found) for found in spent.values()}):
        users = [user for user, found in spent.items() if min(found) == cohort]
        total, latest = 0, 0
        for number, month in enumerate(m for m in months if m >= cohort):
            buyers = [user for user in users if month in spent[user]]
            total += sum(spent[user][month] for user in buyers)
            latest = len(buyers) or latest
            if len(users) >= LEAST:
                shown = total if latest >= LEAST else None
                n = None if few(buyers) else len(buyers)
                wanted.append((cohort, number, len(users), n, shown))
    made = reports.cohort_value(buckets(rows), ZONE, least=LEAST)
    assert [row[:5] for row in told(made)] == wanted
    unpriced = [r for r in rows if r["kind"] == "purchase" and r["ts"] and r["price_minor"] is None]
    assert made.notes["purchases_without_price"] == len(unpriced)


def test_a_sum_is_hidden_until_enough_people_buy_again() -> None:
    def buys(user: str, month: int, price: int) -> dict[str, Any]:
        at = datetime(2026, month, 5, tzinfo=UTC)
        return dict.fromkeys(SCHEMA) | {"user_id": user, "kind": "purchase", "ts": at, "price_minor": price, "seq": 0}  # fmt: skip

    users = ("a", "b", "c")
    made = reports.cohort_value(
        buckets([*(buys(u, 1, 10) for u in users), buys("a", 2, 7), *(buys(u, 4, 1) for u in users)]),
        ZONE, least=3,
    )  # fmt: skip
    assert made.frame["buyers"].to_list() == [3, None, 0, 3]
    assert made.frame["cumulative_minor"].to_list() == [30, None, None, 40]


@pytest.mark.parametrize("level", ["item", "category"])
def test_basket(rows: Rows, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_BASKET", 4)
    groups = {f"i{n}": f"g{n % 4}" for n in range(8)}  # i8 is in none
    rows = [row | {"kind": "purchase", "item_id": row["item_id"] or "i8"} for row in rows]
    raw: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        if row["kind"] == "purchase" and (row["session_id"] or row["ts"]):
            name = f"s{row['session_id']}" if row["session_id"] else f"d{day(row)}"
            raw[row["user_id"], name].add(row["item_id"])
    found = {key: items for key, items in raw.items() if len(items) <= 4}
    if level == "category":
        mapped = ((key, {groups[i] for i in items if i in groups}) for key, items in found.items())
        found = {key: items for key, items in mapped if items}
    single = Counter(item for items in found.values() for item in items)
    pairs: Counter[tuple[str, str]] = Counter()
    who: dict[tuple[str, str], set[str]] = defaultdict(set)
    for (user, _), items in found.items():
        for pair in combinations(sorted(items), 2):
            pairs[pair] += 1
            who[pair].add(user)
    n = len(found)
    wanted = [
        (level, a, b, count, len(who[a, b]), count / n, count / single[a], count / single[b], count * n / (single[a] * single[b]))
        for (a, b), count in pairs.items()
        if count >= 3 and len(who[a, b]) >= LEAST
    ]  # fmt: skip
    frame = pl.DataFrame({"item_id": list(groups), "group": list(groups.values())})
    made = reports.basket(buckets(rows), ZONE, frame, least=LEAST, least_baskets=3)
    assert wanted
    listed = sorted(row for row in told(made) if row[0] == level)
    assert [row[:5] for row in listed] == [row[:5] for row in sorted(wanted)]
    for one, other in zip(listed, sorted(wanted), strict=True):
        assert one[5:] == pytest.approx(other[5:])
    assert made.notes["baskets_too_large"] == sum(len(items) > 4 for items in raw.values())


def test_search_terms(rows: Rows) -> None:
    tally: dict[str, list[tuple[str, bool, bool, bool]]] = defaultdict(list)
    for user in {row["user_id"] for row in rows}:
        own = [r for r in rows if r["user_id"] == user]
        own.sort(key=lambda r: (r["ts"] is not None, r["ts"] or datetime.min, r["seq"]))
        for place, row in enumerate(own):
            term = " ".join((row["query"] or "").split()).lower()
            if row["kind"] != "search" or not term:
                continue
            follow = []
            for later in own[place + 1 :]:
                if later["kind"] == "search" and (later["query"] or "").strip():
                    break
                if row["ts"] and later["ts"] and later["ts"] - row["ts"] <= timedelta(minutes=30):
                    follow.append(later["kind"])
            followed = any(kind in ("view", "favorite", "cart", "purchase") for kind in follow)
            tally[term].append((user, followed, "purchase" in follow, row["ts"] is not None))
    wanted = {}
    for term, found in tally.items():
        users = {user for user, *_ in found}
        if len(users) < LEAST:
            continue
        timed = all(known for *_, known in found)
        yes = {user for user, followed, *_ in found if followed}
        no = {user for user, followed, *_ in found if not followed}
        buyers = {user for user, _, bought, _ in found if bought}
        n = sum(followed for _, followed, *_ in found)
        open_ = timed and not few(yes) and not few(no)
        bought = sum(b for _, _, b, _ in found) if timed and not few(buyers) else None
        wanted[term] = (len(found), len(users), n if open_ else None, len(found) - n if open_ else None, bought)  # fmt: skip
    made = reports.search_terms(buckets(rows), least=LEAST).frame
    assert wanted
    assert {row[0]: (*row[1:5], row[6]) for row in made.rows()} == wanted


def test_searches_and_what_followed_by_hand() -> None:
    def at(minute: int, kind: str, **more: Any) -> dict[str, Any]:
        when = datetime(2026, 1, 1, 12, minute, tzinfo=UTC)
        return dict.fromkeys(SCHEMA) | {"kind": kind, "ts": when, "seq": minute, **more}

    rows = []
    for user in ("a", "b", "c"):
        acts = [at(0, "search", query="Lamp"), at(1, "search", query=" lamp"), at(31, "view", item_id="x"), at(40, "search", query="tent")]  # fmt: skip
        rows += [act | {"user_id": user} for act in acts]
    made = reports.search_terms(buckets(rows), least=3).frame
    assert made.select("term", "searches", "users", "followed", "unfollowed").rows() == [
        ("lamp", 6, 3, 3, 3),  # the second search is followed, 30 minutes later; the first is not
        ("tent", 3, 3, 0, 3),
    ]


def test_channels(rows: Rows) -> None:
    wanted = []
    for channel in sorted({row["channel"] or "(unknown)" for row in rows}):
        own = [row for row in rows if (row["channel"] or "(unknown)") == channel]
        users = {row["user_id"] for row in own}
        bought = [row for row in own if row["kind"] == "purchase"]
        sessions = {(r["user_id"], r["session_id"]) for r in own if r["session_id"]}
        revenue = sum((r["price_minor"] or 0) * (r["quantity"] or 1) for r in bought)
        buyers = {row["user_id"] for row in bought}
        figures = (len(buyers), len(bought), revenue) if not few(buyers) else (None, None, None)
        if len(users) >= LEAST:
            wanted.append((channel, len(users), len(sessions), *figures))
    made = reports.channels(buckets(rows), least=LEAST)
    assert [row[:6] for row in told(made)] == wanted
    assert made.notes["events_without_session"] == sum(not r["session_id"] for r in rows)


def state(**prices: tuple[int | None, int | None]) -> pl.LazyFrame:
    rows = [(item, price, stock) for item, (price, stock) in prices.items()]
    schema = {"item_id": pl.String, "price_minor": pl.Int64, "stock": pl.Int64}
    return pl.LazyFrame(rows, schema=schema, orient="row")


STATES = [
    (date(2026, 1, 1), state(i0=(100, 9), i1=(50, 5))),
    (date(2026, 1, 2), state(i0=(100, 4), i1=(60, 8))),
    (date(2026, 1, 5), state(i0=(120, 10), i1=(60, None), i2=(7, 1))),
    (date(2026, 1, 6), state(i0=(100, 10), i2=(7, 1))),
]


def test_price_history(rows: Rows) -> None:
    seen: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["kind"] in ("view", "cart") and row["price_minor"] and row["ts"]:
            seen[row["item_id"], row["price_minor"]].append(row)
    wanted = [
        (item, "seen", price, min(map(day, own)), max(map(day, own)), len({r["user_id"] for r in own}))
        for (item, price), own in seen.items()
        if len({r["user_id"] for r in own}) >= LEAST
    ]  # fmt: skip
    made = reports.price_history(buckets(rows), STATES, ZONE, least=LEAST)
    assert wanted
    assert sorted(row for row in told(made) if row[1] == "seen") == sorted(wanted)
    a, b, c, d = (at for at, _ in STATES)
    catalogue = [row[:5] for row in told(made) if row[1] == "catalogue"]
    assert [(item, price, first, last) for item, _, price, first, last in catalogue] == [
        ("i0", 100, a, b),
        ("i0", 120, c, c),
        ("i0", 100, d, d),
        ("i1", 50, a, a),
        ("i1", 60, b, c),
        ("i2", 7, c, d),
    ]
    assert "why_no_history" not in made.notes


def test_stock_movement(rows: Rows) -> None:
    last = max(day(row) for row in rows if row["ts"])
    sold: dict[str, list[tuple[str, int]]] = defaultdict(list)
    late: dict[str, list[tuple[str, int]]] = defaultdict(list)
    back: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in rows:
        pieces = (row["user_id"], row["quantity"] or 1)
        if row["kind"] == "purchase":
            sold[row["item_id"]].append(pieces)
            if row["ts"] and day(row) > last - timedelta(days=28):
                late[row["item_id"]].append(pieces)
        if row["kind"] == "return":
            back[row["item_id"]].append(pieces)

    def pieces_of(lines: list[tuple[str, int]]) -> int | None:
        return None if few(user for user, _ in lines) else sum(n for _, n in lines)

    stock = {"i0": (10, 6, 5), "i2": (1, 0, 0)}
    wanted = []
    for item in sorted({*sold, *back, *stock}):
        now, risen, fallen = stock.get(item, (None, None, None))
        pace = pieces_of(late[item])
        days = now / (pace / 28) if pace and now is not None else None
        wanted.append(
            (item, now, risen, fallen, pieces_of(sold[item]), pieces_of(back[item]), days)
        )
    made = reports.stock_movement(buckets(rows), STATES, ZONE, least=LEAST)
    assert told(made) == [pytest.approx(row) for row in wanted]


def test_without_history_a_report_says_so_and_invents_nothing() -> None:
    rows = buckets(events(1))
    made = reports.stock_movement(rows, STATES[:1], ZONE)
    assert made.frame["risen"].null_count() == made.frame.height
    assert made.notes["why_no_history"] == "the catalogue (clean.items) is known as of a single day; its history grows with each day on which it changes"  # fmt: skip
    none = reports.price_history(rows, [], ZONE)
    assert "known as of no day" in none.notes["why_no_history"]
    assert none.frame["source"].unique().to_list() == ["seen"]


def test_the_same_whatever_the_buckets(rows: Rows) -> None:
    for count in (1, 7):
        for name in ("funnel", "retention", "cohort_value", "basket"):
            report = getattr(reports, name)
            assert report(buckets(rows, count), ZONE).frame.equals(
                report(buckets(rows), ZONE).frame
            )
        for name in ("search_terms", "channels"):
            report = getattr(reports, name)
            assert report(buckets(rows, count)).frame.equals(report(buckets(rows)).frame)


def test_an_empty_report_says_why() -> None:
    timeless = buckets([row | {"ts": None} for row in events(2)])
    for name in ("funnel", "retention", "cohort_value"):
        report = getattr(reports, name)
        made = report(timeless, ZONE)
        assert made.frame.height == 0, name
        assert made.notes["why_empty"] == reports.NO_TIME
        assert report(buckets([]), ZONE).notes["why_empty"] == "there are no events"
    assert reports.search_terms(timeless).frame["followed"].null_count() == 3
    assert reports.channels(timeless).frame.height == 4
    assert reports.price_history(timeless, STATES, ZONE).notes["why_no_seen"]
    assert reports.stock_movement(timeless, STATES, ZONE).notes["why_no_pace"] == reports.NO_TIME
    views = buckets([row for row in events(2) if row["kind"] == "view"])
    assert reports.cohort_value(views, ZONE).notes["why_empty"] == "there are no events of kind purchase"  # fmt: skip
    assert reports.search_terms(views).notes["why_empty"] == "there are no events of kind search"
    assert reports.basket(views, ZONE).notes["why_empty"] == "there are no events of kind purchase"
    two = buckets(events(2, rows=4))
    assert "about too few users" in reports.retention(two, ZONE).notes["why_empty"]
