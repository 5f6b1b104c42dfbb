"""Differences between versions, against rows that can be counted by hand."""

import json
import math
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from shopkeeper.assets.buckets import bucket_of
from shopkeeper.assets.diff import HIDDEN
from shopkeeper.assets.store import Assets
from shopkeeper.errors import Denied, InputError
from shopkeeper.governance.access import OWNER, Principal
from shopkeeper.words import Grade, Purpose

BUCKETS = 4


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    return Assets(tmp_path, buckets=BUCKETS)


def write(
    assets: Assets,
    name: str,
    frame: pl.DataFrame,
    mode: Any = "replace",
    user: str | None = None,
    **about: Any,
) -> None:
    """Each row in the bucket of the user in column `user`."""
    with assets.run("write") as run:
        writer = run.table(name, mode, **about)
        writer.put(frame.clear())
        buckets = [bucket_of(u, BUCKETS) if user else 0 for u in frame[user or frame.columns[0]]]
        for bucket in sorted(set(buckets)):
            writer.put(frame.filter(pl.Series(buckets) == bucket), bucket)


def diff(
    assets: Assets, name: str, a: int = 1, b: int | None = None, **more: Any
) -> dict[str, Any]:
    told = assets.diff(name, a, b, by=OWNER, purpose=Purpose.ANALYSE, **more)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    return told


def items(**price: int) -> pl.DataFrame:
    return pl.DataFrame({"item_id": list(price), "price_minor": list(price.values())})


def test_by_key_rows_are_added_removed_and_changed(assets: Assets) -> None:
    about = {"contract": ("items", "1.0.0"), "grade": Grade.INTERNAL}
    write(assets, "clean.items", items(a=1, b=2, c=3), **about)
    write(assets, "clean.items", items(b=2, c=30, d=4), **about)
    told = diff(assets, "clean.items")
    assert (told["a"], told["b"], told["same"]) == ("clean.items@1", "clean.items@2", False)
    assert told["keys"] == ["item_id"]
    assert told["rows"] == {"a": 3, "b": 3, "added": 1, "removed": 1, "changed": 1}
    assert told["examples"] == {
        "added": [{"item_id": "d", "price_minor": 4}],
        "removed": [{"item_id": "a", "price_minor": 1}],
        "changed": [{"key": {"item_id": "c"}, "columns": {"price_minor": {"a": 3, "b": 30}}}],
    }
    assert told["columns"]["price_minor"] == {
        "a": {"nulls": 0, "distinct": 3, "mean": 2.0, "q0": 1, "q0.25": 2, "q0.5": 2, "q0.75": 3, "q1": 3},
        "b": {"nulls": 0, "distinct": 3, "mean": 12.0, "q0": 2, "q0.25": 4, "q0.5": 4, "q0.75": 30, "q1": 30},
        "psi": None,
    }  # fmt: skip


def test_without_a_key_versions_are_multisets_of_rows(assets: Assets) -> None:
    write(assets, "features.n", pl.DataFrame({"n": [1, 1, 1, 2]}))
    write(assets, "features.n", pl.DataFrame({"n": [1, 2, 2, 3]}))
    told = diff(assets, "features.n")
    assert told["rows"] == {"a": 4, "b": 4, "added": 2, "removed": 2}
    assert sorted(row["n"] for row in told["examples"]["added"]) == [2, 3]
    assert told["examples"]["removed"] == [{"n": 1}, {"n": 1}]


def test_columns_that_came_went_or_changed_their_type(assets: Assets) -> None:
    write(assets, "features.n", pl.DataFrame({"k": [1], "old": ["x"], "v": [1]}))
    write(assets, "features.n", pl.DataFrame({"k": [1], "new": ["x"], "v": ["1"]}))
    told = diff(assets, "features.n", keys=["k"])
    assert told["schema"] == {
        "added": {"new": "String"},
        "removed": {"old": "String"},
        "retyped": {"v": {"a": "Int64", "b": "String"}},
    }
    assert told["rows"] == {"a": 1, "b": 1, "added": 0, "removed": 0, "changed": 0}
    with pytest.raises(InputError, match="both versions need the key v with one type; choose from"):
        diff(assets, "features.n", keys=["v"])


def test_a_row_whose_user_moved_to_another_bucket_is_changed_not_lost_and_found(
    assets: Assets,
) -> None:
    assert bucket_of("a", BUCKETS) != bucket_of("b", BUCKETS)
    one = pl.DataFrame({"event_id": ["e1", "e2"], "user_id": ["a", "a"]})
    two = pl.DataFrame({"event_id": ["e1", "e2"], "user_id": ["a", "b"]})
    write(assets, "clean.events", one, user="user_id", contract=("events", "1.0.0"))
    write(assets, "clean.events", two, user="user_id", contract=("events", "1.0.0"))
    told = diff(assets, "clean.events", keys=["event_id"])
    assert told["rows"] == {"a": 2, "b": 2, "added": 0, "removed": 0, "changed": 1}
    assert told["examples"]["added"] == told["examples"]["removed"] == []


def test_values_above_internal_are_never_shown(assets: Assets) -> None:
    secret = "13800138000"
    about = {"contract": ("events", "1.0.0"), "grade": Grade.PERSONAL}
    one = pl.DataFrame({"event_id": ["e1", "e2"], "user_id": [secret, secret], "kind": ["view"] * 2, "shoe": [4242, 4242]})  # fmt: skip
    two = pl.DataFrame({"event_id": ["e2", "e3"], "user_id": [f"{secret}9", secret], "kind": ["cart"] * 2, "shoe": [4242, 4243]})  # fmt: skip
    write(assets, "clean.events", one, **about)
    write(assets, "clean.events", two, **about)
    told = diff(assets, "clean.events", keys=["event_id"])
    assert told["examples"]["changed"] == [
        {
            "key": {"event_id": "e2"},
            "columns": {"user_id": {"a": HIDDEN, "b": HIDDEN}, "kind": {"a": "view", "b": "cart"}},
        }
    ]
    text = json.dumps(told)
    assert secret not in text
    assert "424" not in text  # a column no contract knows has the grade of its asset
    assert told["columns"]["user_id"]["b"] == {"nulls": 0, "distinct": 2}
    write(assets, "features.users", one, grade=Grade.PERSONAL)
    write(assets, "features.users", two, grade=Grade.PERSONAL)
    assert secret not in json.dumps(diff(assets, "features.users"))


def test_the_population_stability_index_of_a_category(assets: Assets) -> None:
    write(assets, "features.n", pl.DataFrame({"kind": ["view"] * 3 + ["cart"]}))
    write(assets, "features.n", pl.DataFrame({"kind": ["view", "cart", None, None]}))
    # shares: view 3/4 -> 1/4, cart 1/4 -> 1/4, null 0 (0.0001) -> 1/2
    wanted = (0.25 - 0.75) * math.log(0.25 / 0.75) + (0.5 - 0.0001) * math.log(0.5 / 0.0001)
    told = diff(assets, "features.n")["columns"]["kind"]
    assert told["psi"] == pytest.approx(wanted, abs=1e-6)
    assert (told["a"]["nulls"], told["b"]["nulls"]) == (0, 2)


def test_only_files_that_differ_are_read(assets: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    write(assets, "features.n", pl.DataFrame({"n": [1, 2]}))
    write(assets, "features.n", pl.DataFrame({"n": [3]}), "append")
    opened: list[int] = []
    plain = Assets._open_files

    def counting(self: Assets, version: Any, files: Any) -> pl.LazyFrame:
        opened.append(len(files))
        return plain(self, version, files)

    monkeypatch.setattr(Assets, "_open_files", counting)
    told = diff(assets, "features.n")
    assert told["rows"] == {"a": 2, "b": 3, "added": 1, "removed": 0}
    assert opened[:2] == [0, 1]  # the profiles of columns read all


def test_the_same_rows_are_told_as_the_same(assets: Assets) -> None:
    write(assets, "features.n", pl.DataFrame({"n": [1]}))
    write(assets, "features.n", pl.DataFrame({"n": [2]}))
    assets.restore("features.n", 1)
    told = diff(assets, "features.n", 1, 3)
    assert (told["same"], told["columns"]) == (True, {})
    assert told["rows"] == {"a": 1, "b": 1, "added": 0, "removed": 0}


def test_files_by_digest_and_size(assets: Assets) -> None:
    for texts in ({"w": "1", "c": "x"}, {"w": "22", "d": "x"}):
        with assets.run("fill") as run:
            run.files(
                "models.x",
                lambda folder, t=texts: [(folder / n).write_text(v) for n, v in t.items()] and None,
                kind="model",
            )
    told = diff(assets, "models.x")
    assert told["bytes"] == {"a": 2, "b": 3}
    assert [f["file"] for f in told["files"]["added"]] == ["d"]
    assert [f["file"] for f in told["files"]["removed"]] == ["c"]
    (changed,) = told["files"]["changed"]
    assert (changed["file"], changed["a"]["bytes"], changed["b"]["bytes"]) == ("w", 1, 2)


def test_bytes_are_told_by_size_and_of_many_rows_distinct_values_are_estimated(
    assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopkeeper.assets.diff.EXACT_ROWS", 1)
    at = pl.Series([1, 2]).cast(pl.Datetime("us", "UTC"))
    for content in ([b"a", None], [b"ab", None]):
        frame = {
            "k": ["x", "y"],
            "content": content,
            "flag": [True, None],
            "at": at,
            "f": [1.5, 2.5],
        }
        write(assets, "raw.images", pl.DataFrame(frame))
    told = diff(assets, "raw.images", keys=["k"])
    assert told["rows"] == {"a": 2, "b": 2, "added": 0, "removed": 0, "changed": 1}
    (changed,) = told["examples"]["changed"]
    assert list(changed["columns"]) == ["content"]
    assert changed["columns"]["content"]["b"].startswith("<2 bytes, ")
    assert told["columns"]["content"]["a"] == {"nulls": 1}
    assert told["columns"]["flag"]["a"] == {"nulls": 1, "distinct_about": 1}
    assert told["columns"]["at"]["a"]["distinct_about"] == 2
    assert told["columns"]["f"]["b"]["mean"] == 2.0


def test_strangers_see_no_differences(assets: Assets) -> None:
    write(assets, "features.n", pl.DataFrame({"n": [1]}))
    with pytest.raises(Denied):
        assets.diff("features.n", 1, 1, by=Principal("stranger"), purpose=Purpose.ANALYSE)


def test_against_a_slow_plain_reference(assets: Assets) -> None:
    """Random tables with lists, nulls, NaN and repeated rows: counts as plain Python counts them."""
    dice = Random(7)

    def table() -> pl.DataFrame:
        users = [dice.choice("abcdefgh") for _ in range(120)]
        return pl.DataFrame(
            {
                "user_id": users,
                "k": [f"k{dice.randrange(60)}" for _ in users],
                "v": [dice.choice([1.0, 2.0, None, math.nan]) for _ in users],
                "l": [dice.choice([[1], [1, 2], None]) for _ in users],
            },
            schema={"user_id": pl.String, "k": pl.String, "v": pl.Float64, "l": pl.List(pl.Int64)},
        )

    one, two = table(), table()
    write(assets, "features.n", one, user="user_id")
    write(assets, "features.n", two, user="user_id")
    left, right = (Counter(map(repr, frame.rows())) for frame in (one, two))
    gone, come = left - right, right - left
    told = diff(assets, "features.n")["rows"]
    assert told == {"a": 120, "b": 120, "added": come.total(), "removed": gone.total()}
    lost, made = (
        Counter(eval(row, {"nan": 0})[1] for row in rest.elements()) for rest in (gone, come)
    )
    by_key = diff(assets, "features.n", keys=["k"])["rows"]
    changed = (lost & made).total()
    assert by_key["changed"] == changed
    assert by_key["added"] == made.total() - changed
