"""Tables that their contract describes whole: one path for all of them."""

import wave
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.assets import contracts
from shopkeeper.clean.kinds import clean_table, refers_to
from shopkeeper.clean.report import advice, rule_words
from shopkeeper.errors import InputError
from shopkeeper.governance.access import OWNER
from shopkeeper.serving.events import checked
from shopkeeper.shop import Shop
from shopkeeper.words import ABOUT_USERS, CORE, KIND_CODES, KINDS, Purpose

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
Raw = Callable[[str, list[dict[str, Any]]], pl.DataFrame]


def review(**change: Any) -> dict[str, Any]:
    return {"review_id": "r1", "user_id": "u1", "item_id": "i1", "rating": "5",
            "ts": "2026-01-01T00:00:00.000000Z", **change}  # fmt: skip


def test_the_newest_state_of_a_key_stays_whole_and_the_same_row_twice_is_one(raw: Raw) -> None:
    rows = [review(), review(), review(rating="3"), review(user_id="u2")]
    made = clean_table(raw("reviews", rows), contracts.built_in("reviews"), now=NOW)
    assert made.clean.select("user_id", "rating").rows() == [("u1", 3.0), ("u2", 5.0)]
    assert made.merged == 2
    assert made.quarantine.height == 0


def test_the_newest_is_by_its_time_where_a_state_tells_one(raw: Raw) -> None:
    rows = [
        {"article_id": "a", "title": "new", "updated_at": "2026-02-01T00:00:00.000000Z"},
        {"article_id": "a", "title": "old", "updated_at": "2026-01-01T00:00:00.000000Z"},
    ]
    made = clean_table(raw("knowledge", rows), contracts.built_in("knowledge"), now=NOW)
    assert made.clean["title"].to_list() == ["new"]


def test_regions_that_lead_round_a_circle_and_ties_to_oneself_go_to_quarantine(raw: Raw) -> None:
    parents = {"a": "b", "b": "c", "c": "a", "below": "a", "own": "own", "top": None, "x": "top"}
    rows = [{"region_id": name, "parent_id": parent} for name, parent in parents.items()]
    rows.insert(0, {"region_id": "b", "parent_id": "top"})  # an older state, without a circle
    made = clean_table(raw("regions", rows), contracts.built_in("regions"), now=NOW)
    assert made.clean["region_id"].to_list() == ["b", "below", "top", "x"]
    assert made.quarantine.sort("region_id").select("region_id", "rule").rows() == [
        (name, "cycle:parent_id") for name in ("a", "b", "c", "own")
    ]
    assert "parent_id is 'b', wanted no region_id that leads back" in str(
        made.quarantine["detail"].to_list()
    )
    ties = [
        {"user_id": "u1", "kind": "user", "target_user_id": "u1"},
        {"user_id": "u1", "kind": "user", "target_user_id": "u2"},
        {"user_id": "u1", "kind": "shop", "shop_id": "u1"},
    ]
    made = clean_table(raw("follows", ties), contracts.built_in("follows"), now=NOW)
    assert made.quarantine["rule"].to_list() == ["self:target_user_id"]
    assert made.clean.height == 2


def test_what_breaks_the_contract_goes_to_quarantine_with_the_rule(raw: Raw) -> None:
    rows = [
        review(review_id="r1", rating="9"),
        review(review_id="r2", rating="five"),
        review(review_id="r3", user_id=None),
        review(review_id="r4", ts="2030-01-01T00:00:00.000000Z"),
        review(review_id="r5", item_id="gone"),
        review(review_id="r6", helpful="-3"),
    ]
    known = {"items.item_id": pl.Series(["i1"])}
    made = clean_table(raw("reviews", rows), contracts.built_in("reviews"), now=NOW, known=known)
    assert made.quarantine.sort("review_id")["rule"].to_list() == [
        "range:rating", "type:rating", "required:user_id", "future:ts", "reference:item_id"
    ]  # fmt: skip
    assert made.clean.select("review_id", "helpful").rows() == [("r6", None)]


def test_a_tie_names_whom_it_is_to_by_its_kind(raw: Raw) -> None:
    rows = [
        {"user_id": "u1", "kind": "user", "target_user_id": "u2"},
        {"user_id": "u1", "kind": "shop", "shop_id": "s1"},
        {"user_id": "u1", "kind": "shop"},
        {"user_id": "u1", "kind": "user", "shop_id": "s1"},
    ]
    made = clean_table(raw("follows", rows), contracts.built_in("follows"), now=NOW)
    assert made.clean.height == 2
    assert made.quarantine["rule"].to_list() == ["required:shop_id", "required:target_user_id"]


def test_a_reference_with_severity_warning_is_counted_and_the_row_stays(raw: Raw) -> None:
    rows = [{"region_id": "c", "parent_id": None}, {"region_id": "p", "parent_id": "nowhere"}]
    made = clean_table(raw("regions", rows), contracts.built_in("regions"), now=NOW)
    check = made.checks.filter(pl.col("rule") == "reference:parent_id").row(0, named=True)
    assert (check["level"], check["count"], made.clean.height) == ("WARN", 1, 2)


@pytest.mark.parametrize("table", KINDS)
def test_every_kind_has_a_key_words_for_people_and_a_row_in_the_docs(table: str) -> None:
    contract = contracts.built_in(table)
    assert any(column.key for column in contract.columns)
    assert contract.column("user_id").key if table in ABOUT_USERS else True
    known = rule_words()["columns"]
    assert [name for name in contract.names if name not in known] == []
    text = (ROOT / "docs" / "data-kinds.md").read_text(encoding="utf-8")
    section = text.split(f"### {table}\n")[1].split("\n### ")[0]
    assert [name for name in contract.names if f"`{name}`" not in section] == []


def test_a_kind_refers_only_to_tables_that_are_cleaned_before_it() -> None:
    order = [*CORE, *KINDS]
    for place, table in enumerate(order[5:], start=5):
        assert set(refers_to(contracts.built_in(table))) <= set(order[:place]), table


# kinds of events


def test_kinds_of_events_are_known_by_other_names_and_need_an_item_only_where_they_are_about_one(
    tmp_path: Path,
) -> None:
    lines = ["user_id,item_id,shop_id,behavior"]
    lines += ["u1,i1,,rate", "u1,,,write_review", "u1,i1,,repost", "u1,,s1,follow_shop"]
    lines += ["u1,,,follow", "u1,,,page_leave", "u1,,,view_promotion", "u1,,,Campaign Join"]
    (tmp_path / "user_behavior.csv").write_text("\n".join(lines) + "\n")
    with Shop.open(tmp_path) as opened:
        opened.run(["collect", "clean", "features"])
        events = opened.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        assert events.sort("line")["kind"].to_list() == [
            "review", "share", "follow", "follow", "leave", "campaign_view", "campaign_join"
        ]  # fmt: skip
        bad = opened.assets.read("quarantine.events", by=OWNER, purpose=Purpose.ANALYSE)
        assert bad.select("rule", "line").rows() == [("required:item_id", 3)]
        made = opened.assets.read("features.sequences", by=OWNER, purpose=Purpose.ANALYSE)
        wanted = [KIND_CODES["review"], KIND_CODES["share"]]  # what says something of an item
        assert made["kind"].to_list() == [wanted]


@pytest.mark.parametrize(
    ("kind", "about"),
    [("review", "item_id"), ("share", "item_id"), ("follow", "shop_id"), ("follow", None),
     ("leave", None), ("campaign_view", None), ("campaign_join", None)],
)  # fmt: skip
def test_the_event_log_takes_the_kind(kind: str, about: str | None) -> None:
    event = {"kind": kind, "user_id": "u1"}
    told = event | ({about: "x"} if about else {})
    assert checked(told, "event", 0)[6] == kind
    if about == "item_id":
        with pytest.raises(InputError, match=f"a {kind} needs item_id"):
            checked(event, "event", 0)


# the whole path

FILES = {
    "user_behavior.csv": "user_id,item_id\nu1,i1\nu2,i2\n",
    "item_data.csv": "item_id,title\ni1,one\ni2,two\n",
}
KIND_FILES = {
    "reviews.csv": "id,user,product_id,stars,body,created_at\n"
    "r1,u1,i1,5,good,2026-01-02T00:00:00Z\nr2,u2,i9,4,who?,2026-01-02T00:00:00Z\n",
    "price_history.csv": "sku,time,price\ni1,2026-01-01T00:00:00Z,9.9\ni1,2026-01-05T00:00:00Z,8\n",
    "stock_movements.csv": "movement_id,item_id,kind,quantity,stock_after,ts\n"
    "m1,i1,receipt,10,10,2026-01-01T00:00:00Z\nm2,i1,sale,-3,7,2026-01-02T00:00:00Z\n",
    "follows.jsonl": '{"user_id":"u1","kind":"shop","shop_id":"s1"}\n',
    "campaigns.csv": "campaign_id,name\nc1,sale\n",
    "campaign_participation.csv": "campaign_id,user_id,kind,channel\nc1,u1,join,web\nc7,u1,join,web\n",
}  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_shop_without_kinds_hears_nothing_of_them(shop: Path) -> None:
    with Shop.open(shop) as opened:
        steps = [step.name for step in opened.steps]
        assert not {f"{group}.{kind}" for group in ("collect", "clean") for kind in KINDS} & set(
            steps
        )
        assert "reviews" not in str(opened.status())


def test_kinds_are_found_by_name_and_go_one_path(shop: Path) -> None:
    for name, text in KIND_FILES.items():
        (shop / name).write_text(text)
    folder = shop / "audio" / "d1"
    folder.mkdir(parents=True)
    with wave.open(str(folder / "call.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "NONE"))
        sound.writeframes(bytes(16_000))
    whole = (folder / "call.wav").read_bytes()
    (shop / "audio" / "d2.wav").write_bytes(whole[:-1000])
    with Shop.open(shop) as opened:
        opened.run(["collect", "clean", "report.price_history", "report.stock_movement"])

        def read(name: str) -> pl.DataFrame:
            return opened.assets.read(name, by=OWNER, purpose=Purpose.ANALYSE)

        assert read("clean.reviews")["text"].to_list() == ["good"]
        assert read("quarantine.reviews").select("rule", "line").rows() == [
            ("reference:item_id", 3)
        ]
        assert read("clean.campaign_participation")["campaign_id"].to_list() == ["c1"]
        assert read("clean.follows")["shop_id"].to_list() == ["s1"]
        sound_row = read("clean.audio").row(0, named=True)
        assert sound_row["content"] == whole
        told = ("dialogue_id", "format", "duration_ms", "sample_rate", "channels")
        assert [sound_row[name] for name in told] == ["d1", "wav", 1000, 8000, 1]
        assert read("unread.audio")["rule"].to_list() == ["unreadable_audio"]
        assert advice("unreadable_audio")
        prices = read("reports.price_history").filter(pl.col("source") == "recorded")
        assert prices["price_minor"].to_list() == [990, 800]
        assert [str(day) for day in prices["last_day"]] == ["2026-01-05", "None"]
        stock = read("reports.stock_movement").filter(pl.col("item_id") == "i1")
        assert stock.select("stock", "risen", "fallen").row(0) == (7, 10, 3)
        assert {"reviews", "audio"} <= {one["table"] for one in opened.quality()}
        assert "fresh" in {o["state"] for o in opened.run(["clean"])["steps"]}
