"""What the marketplace knows besides events and items: one small file a kind, made from what happened.

raw/reviews.csv  raw/stock_movements.csv  raw/price_history.csv  raw/coupons.csv  raw/campaigns.csv
raw/campaign_participation.csv  raw/follows.jsonl  raw/regions.csv  raw/dialogues.jsonl  raw/knowledge.jsonl

Its dice are its own, so the other files are the same with and without it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shopkeeper.demo.behaviour import Users
from shopkeeper.demo.goods import REGIONS, SHOPS

DAY_MS = 86_400_000
WORDS = {
    5: ("Just what I wanted.", "非常满意，正是想要的。"),
    4: ("Good, would buy again.", "不错，会再买。"),
    3: ("It does what it should.", "一般，够用。"),
    2: ("Not quite as described.", "与描述有些出入。"),
    1: ("Broke within a week.", "一周就坏了。"),
}
ASKED = (
    ("delivery", "When does my order arrive?", "我的订单什么时候到？",
     "It is on its way and arrives within three days.", "已在途中，三天内送达。"),
    ("returns", "Can I send it back?", "可以退货吗？",
     "Yes, within seven days of delivery, unused.", "可以，签收后七天内、未使用即可。"),
    ("invoice", "I need an invoice.", "我需要发票。",
     "You find it under your order, ready to be saved.", "可在订单页下载电子发票。"),
)  # fmt: skip
TIER = {"Guangdong": "广东", "Zhejiang": "浙江", "Jiangsu": "江苏", "Shanghai": "上海", "Beijing": "北京",
        "Shandong": "山东", "Sichuan": "四川", "Hubei": "湖北", "Fujian": "福建", "Hunan": "湖南",
        "Henan": "河南", "Shaanxi": "陕西", "Hong Kong": "香港"}  # fmt: skip


def write(
    folder: Path,
    *,
    seed: int,
    events: pl.DataFrame,
    page: pl.DataFrame,
    people: Users,
    first_ms: int,
    last_ms: int,
) -> None:
    """Write the kinds into `folder`/raw; the same arguments give the same bytes.

    Args:
        events: as simulated, before anything is soiled. page: the catalogue, one row an item.
    """
    rng = np.random.default_rng([seed, 13])
    raw = folder / "raw"
    _regions().write_csv(raw / "regions.csv")
    campaigns = _campaigns(first_ms, last_ms)
    campaigns.write_csv(raw / "campaigns.csv")
    _coupons(campaigns).write_csv(raw / "coupons.csv")
    _prices(rng, page, campaigns, first_ms).write_csv(raw / "price_history.csv")
    _stock(events, page, first_ms, last_ms).write_csv(raw / "stock_movements.csv")
    _reviews(rng, events, people).write_csv(raw / "reviews.csv")
    _participation(rng, people, campaigns).write_csv(raw / "campaign_participation.csv")
    _lines(raw / "follows.jsonl", _follows(rng, people, first_ms))
    _lines(raw / "dialogues.jsonl", _dialogues(rng, people, first_ms, last_ms))
    _lines(raw / "knowledge.jsonl", _knowledge(first_ms))


def _at(ms: int) -> str:
    return f"{np.datetime64(ms, 'ms')}Z"


def _times(column: str) -> pl.Expr:
    return pl.from_epoch(column, time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").alias("ts")


def _regions() -> pl.DataFrame:
    rows: list[tuple[str, str, str, str, str | None]] = [
        ("China", "China", "中国", "country", None)
    ]
    rows += [(name, name, TIER[name], "province", "China") for name, _ in REGIONS]
    names = ["region_id", "name", "name_zh", "level", "parent_id"]
    return pl.DataFrame(rows, schema=names, orient="row")


def _campaigns(first_ms: int, last_ms: int) -> pl.DataFrame:
    """Three equally long stretches of the time there is, a week or less each."""
    span = (last_ms - first_ms) // 4
    names = (
        ("Spring tea days", "春茶节", "discount", "app"),
        ("Free delivery week", "包邮周", "shipping", "web"),
        ("Members' weekend", "会员周末", "coupon", "miniapp"),
    )
    rows = []
    for number, (name, name_zh, kind, channel) in enumerate(names, start=1):
        start = first_ms + number * span
        end = start + min(span // 2, 7 * DAY_MS)
        rows.append((f"C{number}", name, name_zh, kind, channel, _at(start), _at(end), 5_000_00))
    columns = ["campaign_id", "name", "name_zh", "kind", "channel", "starts_at", "ends_at", "budget_minor"]  # fmt: skip
    return pl.DataFrame(rows, schema=columns, orient="row")


def _coupons(campaigns: pl.DataFrame) -> pl.DataFrame:
    kinds = (("amount", 1000, None), ("shipping", None, None), ("percent", None, 10.0))
    rows = []
    for (kind, amount, percent), one in zip(kinds, campaigns.iter_rows(named=True), strict=True):
        rows.append(
            {
                "coupon_id": f"K-{one['campaign_id']}",
                "name": one["name"],
                "name_zh": one["name_zh"],
                "kind": kind,
                "amount_minor": amount,
                "percent": percent,
                "min_spend_minor": 9900,
                "campaign_id": one["campaign_id"],
                "starts_at": one["starts_at"],
                "ends_at": one["ends_at"],
                "issued": 1000,
            }
        )
    return pl.DataFrame(rows)


def _prices(
    rng: np.random.Generator, page: pl.DataFrame, campaigns: pl.DataFrame, first_ms: int
) -> pl.DataFrame:
    """Every item's price from the first day on; a tenth of them are cheaper during the first campaign."""
    sale = campaigns.row(0, named=True)
    cheaper = rng.random(page.height) < 0.1
    rows = []
    for item, price, shop, less in zip(
        page["item_id"], page["price_minor"], page["shop_id"], cheaper.tolist(), strict=True
    ):
        rows.append((item, _at(first_ms), price, None, shop, None))
        if less:
            now = price * 4 // 5
            rows.append((item, sale["starts_at"], now, price, shop, sale["campaign_id"]))
            rows.append((item, sale["ends_at"], price, None, shop, None))
    columns = ["item_id", "ts", "price_minor", "list_price_minor", "shop_id", "campaign_id"]
    return pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)


def _stock(events: pl.DataFrame, page: pl.DataFrame, first_ms: int, last_ms: int) -> pl.DataFrame:
    """A receipt of each item, sales and returns by day, so that what the page says is left is left."""
    moved = (
        events.filter(
            pl.col("kind").is_in(["purchase", "return"]), pl.col("ms").is_between(first_ms, last_ms)
        )
        .with_columns(
            day=pl.col("ms") // DAY_MS,
            sign=pl.when(pl.col("kind") == "purchase").then(-1).otherwise(1),
            kind=pl.when(pl.col("kind") == "purchase").then(pl.lit("sale")).otherwise("kind"),
        )
        .group_by("item_id", "kind", "day")
        .agg(
            quantity=(pl.col("sign") * pl.col("quantity").cast(pl.Int64).fill_null(1)).sum(),
            ms=pl.col("ms").max(),
        )
    )
    ends = page.select("item_id", left=pl.col("stock").cast(pl.Int64))
    net = moved.group_by("item_id").agg(net=pl.col("quantity").sum())
    received = ends.join(net, on="item_id", how="left").select(
        "item_id",
        kind=pl.lit("receipt"),
        quantity=pl.col("left") - pl.col("net").fill_null(0),
        ms=pl.lit(first_ms, pl.Int64),
    )
    rows = pl.concat([received, moved.join(ends, on="item_id").select(received.columns)])
    rows = rows.sort("ms", "item_id", "kind").filter(pl.col("quantity") != 0)
    return rows.select(
        pl.format("M{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(7)).alias("movement_id"),
        "item_id",
        "kind",
        "quantity",
        stock_after=pl.col("quantity").cum_sum().over("item_id"),
        ts=_times("ms"),
    )


def _reviews(rng: np.random.Generator, events: pl.DataFrame, people: Users) -> pl.DataFrame:
    """What is written where the simulation has a review."""
    told = events.filter(pl.col("kind") == "review").select("user_id", "item_id", "shop_id", "ms")
    stars = rng.choice((5, 4, 3, 2, 1), told.height, p=(0.52, 0.27, 0.11, 0.06, 0.04)).tolist()
    chinese = dict(zip(people.ids, people.chinese, strict=True))
    texts = [
        WORDS[star][int(chinese.get(user, True))]
        for star, user in zip(stars, told["user_id"], strict=True)
    ]
    return told.select(
        pl.format("R{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(7)).alias("review_id"),
        "user_id", "item_id", "shop_id",
        pl.Series("rating", stars, dtype=pl.Int64), pl.Series("text", texts, dtype=pl.String),
        _times("ms"),
    )  # fmt: skip


def _participation(
    rng: np.random.Generator, people: Users, campaigns: pl.DataFrame
) -> pl.DataFrame:
    """Half of the users are assigned to each campaign by lot; some of them see it, some of these join."""
    rows = []
    for one in campaigns.iter_rows(named=True):
        start = int(np.datetime64(one["starts_at"].removesuffix("Z"), "ms").astype(np.int64))
        dice = rng.random((len(people.ids), 4))
        for user, (arm, sees, joins, when) in zip(people.ids, dice.tolist(), strict=True):
            at = start + int(when * DAY_MS)
            name = "treatment" if arm < 0.5 else "control"
            steps = [("assigned", start)]
            if arm < 0.5 and sees < 0.6:
                steps.append(("view", at))
                if joins < 0.3:
                    steps.append(("join", at + 60_000))
            rows += [(one["campaign_id"], user, kind, _at(ms), name, one["channel"]) for kind, ms in steps]  # fmt: skip
    columns = ["campaign_id", "user_id", "kind", "ts", "arm", "channel"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def _follows(rng: np.random.Generator, people: Users, first_ms: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for place, user in enumerate(people.ids):
        if rng.random() < 0.3:
            shop = f"S{1 + int(rng.integers(len(SHOPS))):02d}"
            rows.append({"user_id": user, "kind": "shop", "shop_id": shop, "ts": _at(first_ms)})
        if rng.random() < 0.2:
            other = people.ids[
                (place + 1 + int(rng.integers(len(people.ids) - 1))) % len(people.ids)
            ]
            rows.append({"user_id": user, "kind": "user", "target_user_id": other, "ts": _at(first_ms)})  # fmt: skip
    return rows


def _dialogues(
    rng: np.random.Generator, people: Users, first_ms: int, last_ms: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(max(len(people.ids) // 20, 3)):
        place = int(rng.integers(len(people.ids)))
        intent, *words = ASKED[rng.integers(len(ASKED))]
        said = (words[1], words[3]) if people.chinese[place] else (words[0], words[2])
        at = int(rng.integers(first_ms, last_ms - DAY_MS))
        for turn, (role, text) in enumerate(zip(("user", "agent"), said, strict=True), start=1):
            rows.append(
                {
                    "dialogue_id": f"D{number:05d}",
                    "turn": turn,
                    "user_id": people.ids[place],
                    "role": role,
                    "text": text,
                    "intent": intent,
                    "channel": "chat",
                    "ts": _at(at + turn * 20_000),
                }
            )
    return rows


def _knowledge(first_ms: int) -> list[dict[str, Any]]:
    return [
        {
            "article_id": f"{intent}-{language}",
            "title": question,
            "text": answer,
            "category": intent,
            "language": language,
            "updated_at": _at(first_ms),
        }
        for intent, en, zh, answer_en, answer_zh in ASKED
        for language, question, answer in (("en", en, answer_en), ("zh", zh, answer_zh))
    ]


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
