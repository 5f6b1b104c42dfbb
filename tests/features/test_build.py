"""Features of events and items, by hand."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from shopkeeper.features.build import item_rows, item_table, known_items, sequence_rows, sequences
from shopkeeper.features.sequences import NO_TIME, Vocabulary, pack
from shopkeeper.words import KIND_CODES


def at(second: int) -> datetime:
    return datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)


def events(*rows: tuple[str, str | None, str, datetime | None, int]) -> pl.LazyFrame:
    schema = {"user_id": pl.String, "item_id": pl.String, "kind": pl.String, "ts": pl.Datetime("us", "UTC"), "seq": pl.Int64}  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(
        dwell_ms=pl.lit(None, dtype=pl.Int64), price_minor=pl.lit(None, dtype=pl.Int64)
    ).lazy()


def test_a_users_events_are_oldest_first_and_ties_keep_their_arrival() -> None:
    made = sequence_rows(
        events(
            ("u", "late", "view", at(9), 0),
            ("u", "b", "view", at(5), 2),
            ("u", "a", "purchase", at(5), 1),
            ("t", "x", "view", at(1), 3),
        ),
        ["view", "purchase"],
    )
    assert made["user_id"].to_list() == ["t", "u"]
    assert made["item_id"].to_list() == [["x"], ["a", "b", "late"]]
    assert made["kind"].to_list()[1] == [
        KIND_CODES["purchase"],
        KIND_CODES["view"],
        KIND_CODES["view"],
    ]


def test_without_times_order_is_arrival_and_events_with_times_come_after() -> None:
    made = sequence_rows(
        events(("u", "third", "view", at(1), 0), ("u", "second", "view", None, 7), ("u", "first", "view", None, 3)),
        ["view"],
    )  # fmt: skip
    assert made["item_id"].to_list() == [["first", "second", "third"]]


def test_only_kinds_of_interest_about_an_item_enter() -> None:
    made = sequence_rows(
        events(("u", "a", "impression", at(1), 0), ("u", None, "search", at(2), 1), ("u", "b", "view", at(3), 2)),
        ["view", "search"],
    )  # fmt: skip
    assert made["item_id"].to_list() == [["b"]]


def test_packed_values_are_logs_and_unknown_is_zero() -> None:
    packed = pack(
        ["u"], [3], [0, 1, 2],
        times=[0, 1000, NO_TIME], dwell_ms=[1000.0, float("nan"), 1e12], price_minor=[99.0, -1.0, 0.0],
    )  # fmt: skip
    assert packed.dwell == pytest.approx([np.log1p(1), 0, np.log1p(1800)], rel=1e-6)
    assert packed.prices == pytest.approx([np.log1p(99), 0, 0], rel=1e-6)
    assert packed.gaps == pytest.approx([0, np.log1p(1), 0], rel=1e-6)


def test_gaps_do_not_cross_users() -> None:
    packed = pack(["a", "b"], [1, 2], [0, 1, 2], times=[0, 500_000, 501_000])
    assert packed.gaps == pytest.approx([0, 0, np.log1p(1)], rel=1e-6)


def test_slices_and_takes_keep_users_together() -> None:
    packed = pack(["a", "b", "c"], [2, 0, 3], [0, 1, 2, 3, 4])
    assert packed.take(np.array([2, 0])).items.tolist() == [2, 3, 4, 0, 1]
    assert packed.last(1).items.tolist() == [1, 4]
    assert packed.last(1).lengths.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="lengths add up to 2, but there are 1 events"):
        pack(["a"], [2], [0])


def test_items_outside_the_vocabulary_are_left_out_and_the_newest_kept() -> None:
    rows = sequence_rows(
        events(("u", "a", "view", at(1), 0), ("u", "zz", "view", at(2), 1), ("u", "b", "view", at(3), 2), ("v", "zz", "view", at(3), 3)),
        ["view"],
    )  # fmt: skip
    made = sequences(rows, Vocabulary(["a", "b"]))
    assert (made.users, made.lengths.tolist(), made.items.tolist()) == (["u", "v"], [2, 0], [0, 1])
    assert sequences(rows, Vocabulary(["a", "b"]), max_length=1).items.tolist() == [1]


def test_attributes_become_tags_and_standardised_numbers() -> None:
    items = pl.DataFrame(
        {
            "item_id": ["b", "a", "c"],
            "category": ["lamp", "lamp", "mug"],
            "price_minor": [99, None, 9999],
            "attributes": [
                '{"colour": ["red", "blue"], "size": [1, 2], "item_feature": 3.5}',
                '{"colour": "red", "item_feature": 4.5}',
                None,
            ],
        }
    )
    rows = item_rows(items, pl.Series(["a", "only in events", None]))
    assert rows["item_id"].to_list() == ["a", "b", "c", "only in events"]
    table = item_table(rows)
    assert table.tag_names == ["category=lamp", "colour=red"]  # one item alone says nothing
    assert table.tags[table.tag_offsets[1] : table.tag_offsets[2]].tolist() == [0, 1]
    assert table.number_names == ["item_feature", "log_price", "size[0]", "size[1]"]
    assert table.numbers[:, 0].tolist() == [1.0, -1.0, 0.0, 0.0]  # 4.5 and 3.5 around their mean
    assert len(table) == 4


def test_a_shop_without_a_catalogue_knows_its_items_from_events() -> None:
    table = item_table(item_rows(None, pl.Series(["b", "a", "b"])))
    assert table.vocabulary.ids == ["a", "b"]
    assert table.numbers.shape == (2, 0)


def test_items_known_from_events_only_get_a_bare_row() -> None:
    clean = pl.DataFrame({"item_id": ["b"], "title": ["lamp"]})
    made = known_items(clean, ["a", "b"])
    assert made.rows() == [("a", None), ("b", "lamp")]


def test_a_number_too_large_for_32_bits_is_left_out_and_a_long_one_is_kept() -> None:
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "attributes": [
                '{"iccid": 89860012345678901234, "weight": 1e39, "size": NaN}',
                '{"iccid": 1' + 400 * "0" + ', "weight": 2}',
                '{"weight": 4}',
            ],
        }
    )
    rows = item_rows(items, pl.Series([], dtype=pl.String))
    assert rows["names"].to_list() == [["iccid"], ["weight"], ["weight"]]
    table = item_table(rows)
    assert table.number_names == ["iccid", "weight"]
    assert table.numbers.tolist() == [[0, 0], [0, -1], [0, 1]]


def test_numbers_of_a_state_newer_than_the_instant_are_left_out_and_their_columns_stay() -> None:
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "category": ["lamp"] * 4,
            "attributes": ['{"sold": 2}', '{"sold": 4}', '{"sold": 900}', '{"sold": 3}'],
            "updated_at": [at(1), at(5), at(6), None],
        }
    )
    rows = item_rows(items, pl.Series([], dtype=pl.String))
    five = int(at(5).timestamp() * 1000)
    table = item_table(rows, as_of=five)
    spread = np.std([2, 4, 3])
    assert table.numbers[:, 0].tolist() == pytest.approx([-1 / spread, 1 / spread, 0, 0])
    assert table.tag_names == item_table(rows).tag_names
    assert item_table(rows, as_of=0).number_names == ["sold"]
    assert item_table(rows).numbers[2, 0] > 1
