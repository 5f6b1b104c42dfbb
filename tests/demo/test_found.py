"""The clean step against the sealed list: how much of each kind of dirt it finds, and what else.

Recall: share of the planted lines that met their outcome. Precision: share of the lines with that
fate (by rule) that were planted so. Nothing may be lost: every line has exactly one fate.
"""

import shutil
from pathlib import Path

import polars as pl
import pytest

from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

KEY = ["file", "line"]
# the rule that should name each kind of dirt; several where either is right
RULES: dict[str, tuple[str, ...]] = {
    "missing_user": ("required:user_id",),
    "missing_item": ("required:item_id",),
    "unknown_item": ("reference:item_id",),
    "unknown_kind": ("allowed:kind",),
    "negative_price": ("range:price_minor",),
    "huge_price": ("outlier:price_minor",),
    "nan_price": ("impossible:price_minor",),
    "no_quantity": ("range:quantity",),
    "future": ("future:ts",),
    "unreadable_time": ("type:ts",),
    "too_many_fields": ("too_many_fields",),
    "too_few_fields": ("too_few_fields",),
    "bad_bytes": ("encoding",),
    "bot_regular": ("bot:regularity",),
    "bot_fast": ("bot:rate",),
    "item_without_id": ("required:item_id",),
    "item_negative_price": ("range:price_minor",),
    "item_nan_price": ("impossible:price_minor",),
    "picture_cut_off": ("unreadable_image",),
    "picture_is_text": ("unreadable_image",),
}

# the columns that are put right for each kind of dirt whose rows stay
REPAIRED: dict[str, tuple[str, ...]] = {
    "negative_dwell": ("dwell_ms",),
    "endless_dwell": ("dwell_ms",),
    "untidy_text": ("user_id", "item_id"),
    "return_below_zero": ("quantity",),
    "negative_stock": ("stock",),
    "unreadable_consent": ("personalisation",),
}


def changed(raw: pl.DataFrame, clean: pl.DataFrame) -> pl.DataFrame:
    """file, line, repaired: which of the columns in REPAIRED cleaning changed."""
    names = sorted({name for names in REPAIRED.values() for name in names} & set(clean.columns))
    both = clean.join(raw.select(*KEY, *names), on=KEY, suffix=" raw")
    told = [
        pl.when(
            pl.col(f"{name} raw").is_not_null(),
            pl.col(name).cast(pl.String).ne_missing(pl.col(f"{name} raw")),
        ).then(pl.lit(name))
        for name in names
    ]
    return both.select(*KEY, repaired=pl.concat_list(told).list.drop_nulls())


@pytest.fixture(scope="module")
def fates(
    small: Path, dirt: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> pl.DataFrame:
    """table, file, line, fate ("clean", "merged" or a rule), repaired, kind, outcome, id."""
    folder = tmp_path_factory.mktemp("found") / "shop"
    shutil.copytree(small, folder, ignore=shutil.ignore_patterns("truth"))
    parts = []
    with Shop.open(folder) as shop:
        shop.run(["collect", "clean"])
        for table in ("events", "items", "users", "images"):
            raw, clean, quarantine, unread = (
                shop.assets.read(f"{layer}.{table}", by=OWNER, purpose=Purpose.AUDIT)
                for layer in ("raw", "clean", "quarantine", "unread")
            )
            every = pl.concat([raw.select(KEY), unread.select(KEY)])
            assert every.is_unique().all()
            named = pl.concat(
                [
                    clean.select(*KEY, fate=pl.lit("clean")),
                    quarantine.select(*KEY, fate="rule"),
                    unread.select(*KEY, fate="rule"),
                ]
            )
            assert named.select(KEY).is_unique().all()
            part = (
                every.join(named, on=KEY, how="left")
                .join(changed(raw, clean), on=KEY, how="left")
                .join(dirt.filter(table=table).drop("table"), on=KEY, how="left")
            )
            parts.append(
                part.with_columns(table=pl.lit(table), fate=pl.col("fate").fill_null("merged"))
            )
    return pl.concat(parts)


def test_every_planted_line_was_read(fates: pl.DataFrame, dirt: pl.DataFrame) -> None:
    assert fates["kind"].drop_nulls().len() == dirt.height


@pytest.mark.parametrize("kind", sorted(RULES))
def test_what_cannot_be_true_is_quarantined_by_the_rule_that_says_why(
    fates: pl.DataFrame, kind: str
) -> None:
    planted = fates.filter(kind=kind)
    table = planted["table"][0]
    called = fates.filter(pl.col("table") == table, pl.col("fate").is_in(RULES[kind]))
    hits = planted.filter(pl.col("fate").is_in(RULES[kind])).height
    recall = hits / planted.height
    same_rule = [other for other in RULES if set(RULES[other]) & set(RULES[kind])]
    precision = called.filter(pl.col("kind").is_in(same_rule)).height / called.height
    assert recall >= 0.99, planted["fate"].value_counts()
    assert precision >= 0.99, called["kind"].value_counts()


@pytest.mark.parametrize("kind", ["exact_duplicate", "resent"])
def test_what_was_sent_twice_is_merged_and_only_that(fates: pl.DataFrame, kind: str) -> None:
    events = fates.filter(table="events")
    planted = events.filter(kind=kind)
    merged = events.filter(fate="merged")
    assert (planted["fate"] == "merged").mean() >= 0.99  # type: ignore[operator]
    of_copies = merged["kind"].is_in(["exact_duplicate", "resent"]).mean()
    assert of_copies >= 0.99  # type: ignore[operator]


def test_older_states_and_second_copies_of_items_and_users_leave_one_row_each(
    fates: pl.DataFrame,
) -> None:
    for table in ("items", "users"):
        rows = fates.filter(table=table)
        twice = rows.filter(pl.col("kind").is_in(["same_state", "older_state"])).height
        assert rows.filter(fate="merged").height == twice
    assert (fates.filter(kind="older_state")["fate"] == "merged").all()


@pytest.mark.parametrize("outcome", ["repaired", "kept"])
def test_what_can_be_put_right_or_only_looks_odd_stays(fates: pl.DataFrame, outcome: str) -> None:
    planted = fates.filter(outcome=outcome)
    assert planted.height > 30
    assert (planted["fate"] == "clean").all(), planted.filter(fate="clean").head()


@pytest.mark.parametrize("kind", sorted(REPAIRED))
def test_what_can_be_put_right_is_and_little_else_is_changed(
    fates: pl.DataFrame, kind: str
) -> None:
    planted = fates.filter(kind=kind)
    hit = pl.col("repaired").list.eval(pl.element().is_in(REPAIRED[kind])).list.any()
    called = fates.filter(pl.col("table") == planted["table"][0], hit)
    same_columns = [other for other in REPAIRED if set(REPAIRED[other]) & set(REPAIRED[kind])]
    recall = planted.filter(hit).height / planted.height
    precision = called.filter(pl.col("kind").is_in(same_columns)).height / called.height
    assert recall >= 0.99, planted.filter(~hit).head()
    assert precision >= 0.99, called["kind"].value_counts()


def test_every_kind_of_dirt_has_its_measure(dirt: pl.DataFrame) -> None:
    merged = {"exact_duplicate", "resent", "older_state", "same_state"}
    kept = set(dirt.filter(outcome="kept")["kind"])
    assert set(dirt["kind"]) == {*RULES, *REPAIRED, *merged, *kept}


def test_lines_without_dirt_stay(fates: pl.DataFrame) -> None:
    sound = fates.filter(pl.col("kind").is_null(), pl.col("table").is_in(["events", "images"]))
    assert sound.height > 5_000
    assert (sound["fate"] == "clean").all(), sound.filter(pl.col("fate") != "clean").head()
