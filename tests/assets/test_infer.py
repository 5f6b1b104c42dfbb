"""A contract drafted from rows says what they say, validly, and nothing of people."""

from datetime import UTC, datetime

import polars as pl
import yaml

from shopkeeper.assets import contracts
from shopkeeper.assets.contracts import infer

N = 600


def orders() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "order_id": [f"O-{n:05d}" for n in range(N)],
            "customer_email": [f"p{n % 50}@example.com" for n in range(N)],
            "state": [("paid", "sent", "back")[n % 3] for n in range(N)],
            "amount": [f"{n * 1.5:.2f}" for n in range(N)],
            "pieces": [str(1 + n % 7) for n in range(N)],
            "post_code": [f"0{n:04d}" for n in range(N)],
            "gift": [("true", "false")[n % 2] for n in range(N)],
            "at": [f"2026-01-{1 + n % 28:02d} 08:00:00" for n in range(N)],
            "note": [None if n % 3 else f"call {n} first" for n in range(N)],
            "extra": ['{"a": 1}'] * N,
        }
    )


def drafted(frame: pl.DataFrame, name: str = "orders") -> dict:
    text = infer.draft(frame, name)
    contracts.parse(text, "draft")  # valid, and all of it is checked
    told = yaml.safe_load(text)
    return {one["name"]: one for one in told["schema"][0]["properties"]}


def test_types_nulls_ranges_words_forms_and_the_key() -> None:
    found = drafted(orders())
    kinds = {name: one["logicalType"] for name, one in found.items()}
    assert kinds == {
        "order_id": "string", "customer_email": "string", "state": "string", "amount": "number",
        "pieces": "integer", "post_code": "string", "gift": "boolean", "at": "timestamp",
        "note": "string", "extra": "string",
    }  # fmt: skip
    assert [name for name, one in found.items() if one.get("primaryKey")] == ["order_id"]
    assert [name for name, one in found.items() if not one.get("required")] == ["note"]
    assert found["pieces"]["logicalTypeOptions"] == {"minimum": 0, "maximum": 7}
    assert found["amount"]["logicalTypeOptions"] == {"minimum": 0.0, "maximum": 900.0}
    assert found["state"]["quality"][0]["arguments"]["validValues"] == ["back", "paid", "sent"]
    assert found["order_id"]["logicalTypeOptions"] == {"pattern": r"^[A-Z]-\d{5}$"}
    assert found["extra"]["logicalTypeOptions"] == {"format": "json"}


def test_what_looks_like_people_is_personal_and_none_of_its_values_are_written() -> None:
    frame = orders().with_columns(gender=pl.Series([("f", "m")[n % 2] for n in range(N)]))
    found = drafted(frame)
    for name in ("customer_email", "gender"):
        assert found[name]["classification"] == "personal"
        assert "quality" not in found[name]
    assert found["order_id"]["classification"] == "internal"


def test_a_key_may_take_two_columns_and_there_may_be_none() -> None:
    rows = pl.DataFrame(
        {"talk_id": [n // 4 for n in range(40)], "turn": [n % 4 for n in range(40)]}
    )
    found = drafted(rows)
    assert [name for name, one in found.items() if one.get("primaryKey")] == ["talk_id", "turn"]
    twice = pl.concat([rows, rows])
    assert not any(one.get("primaryKey") for one in drafted(twice).values())


def test_an_empty_table_and_an_empty_column_promise_little() -> None:
    found = drafted(pl.DataFrame({"a": [None, None], "b": ["", "null"]}))
    assert found["a"]["logicalType"] == found["b"]["logicalType"] == "string"
    assert "required" not in found["a"]
    assert drafted(pl.DataFrame({"a": []}, schema={"a": pl.String}))["a"]["name"] == "a"


def test_rows_that_are_typed_already_keep_their_types() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    found = drafted(
        pl.DataFrame({"n": [1, -250], "x": [0.5, 1.5], "at": [at, at], "b": [True, False]})
    )
    kinds = [one["logicalType"] for one in found.values()]
    assert kinds == ["integer", "number", "timestamp", "boolean"]
    assert found["n"]["logicalTypeOptions"] == {"minimum": -300, "maximum": 1}


def test_a_draft_of_a_table_of_the_shop_overrides_its_contract(tmp_path) -> None:
    known = contracts.built_in("shops")
    rows = pl.DataFrame({"shop_id": ["s1", "s2"], "name": ["A", "B"], "seq": [0, 1]})
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "shops.odcs.yaml").write_text(
        infer.draft(rows, "shops", known=known), "utf-8"
    )
    made = contracts.load(tmp_path)["shops"]
    assert made.names == known.names
    assert made.column("name").required
    assert made.grade == known.grade
