"""Lineage of columns: what runs read and steps say, walked both ways, and held against perturbed data."""

import csv
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from shopkeeper.assets import lineage
from shopkeeper.assets.lineage import Derivation, Edge
from shopkeeper.assets.store import Assets
from shopkeeper.errors import InputError, NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose


def make(assets: Assets, name: str, reads: dict[str, list[str]], columns: list[str], said: Derivation | None = None) -> None:  # fmt: skip
    """A table of one row, made by a run that reads these columns of others."""
    with assets.run(f"make.{name}", reads=list(reads)) as run:
        for asset, some in reads.items():
            run.read(asset, columns=some)
        if said is not None:
            run.derive(name, said)
        run.table(name).put(pl.DataFrame({column: [name] for column in columns}))


def ends(edges: set[Edge]) -> set[tuple[str, str, str]]:
    return {(".".join(e.source), ".".join(e.target), e.how) for e in edges}


def test_what_nobody_spoke_of_may_hold_all_that_was_read_and_nothing_else(assets: Assets) -> None:
    make(assets, "raw.a", {}, ["x", "y", "z"])
    make(assets, "clean.a", {"raw.a": ["x", "y"]}, ["u"])
    found = ends(lineage.column_walk(assets.catalog, "clean.a", "u"))
    assert found == {("raw.a.x", "clean.a.u", "read"), ("raw.a.y", "clean.a.u", "read")}
    assert lineage.column_walk(assets.catalog, "raw.a", "z", direction="down") == set()


def test_a_run_that_names_its_columns_can_read_no_others(assets: Assets) -> None:
    make(assets, "raw.a", {}, ["x", "y"])
    with assets.run("look", reads=["raw.a"]) as run:
        assert run.scan("raw.a", columns=["y"]).collect_schema().names() == ["y"]


def test_what_a_step_says_is_held_against_what_it_read_and_made(assets: Assets) -> None:
    make(assets, "raw.a", {}, ["x", "y"])
    wrong = Derivation({"u": [("raw.a", "y")]})
    with pytest.raises(ValueError, match=r"made from raw\.a\.y, which the run did not read"):
        make(assets, "clean.a", {"raw.a": ["x"]}, ["u"], wrong)
    with pytest.raises(ValueError, match=r"where clean\.a\.v is from, but there is no such column"):
        make(assets, "clean.a", {"raw.a": ["x"]}, ["u"], Derivation({"v": [("raw.a", "x")]}))
    assert not assets.exists("clean.a")


def test_values_and_rows_are_walked_apart(assets: Assets) -> None:
    make(assets, "raw.a", {}, ["id", "x", "flag"])
    said = Derivation({"id": [("raw.a", "id")], "x": [("raw.a", "x")]}, [("raw.a", "flag")], ["id"])
    make(assets, "clean.a", {"raw.a": ["id", "x", "flag"]}, ["id", "x"], said)
    make(assets, "reports.a", {"clean.a": ["x"]}, ["total"], Derivation({"total": [("clean.a", "x")]}))  # fmt: skip
    up = ends(lineage.column_walk(assets.catalog, "reports.a", "total"))
    assert up == {("clean.a.x", "reports.a.total", "computed"), ("raw.a.x", "clean.a.x", "computed")}  # fmt: skip
    rows = ends(lineage.column_walk(assets.catalog, "reports.a", "total", rows=True))
    assert ("raw.a.flag", "clean.a.*", "rows") in rows
    assert up < rows
    down = lineage.column_walk(assets.catalog, "raw.a", "flag", direction="down")
    assert down == set()  # it is in no value
    down = lineage.column_walk(assets.catalog, "raw.a", "flag", direction="down", rows=True)
    assert {e.target for e in down} >= {("clean.a", "*"), ("reports.a", "total")}
    assert ends(lineage.column_walk(assets.catalog, "reports.a", "total", depth=1)) == {
        ("clean.a.x", "reports.a.total", "computed")
    }


def test_only_current_versions_count_and_equal_maps_are_stored_once(assets: Assets) -> None:
    make(assets, "raw.a", {}, ["x", "y"])
    for column in ("x", "y"):
        with assets.run("make", reads=["raw.a"], parameters={"column": column}) as run:
            value = run.read("raw.a", columns=[column])
            run.table("clean.a").put(value.rename({column: "u"}).with_columns(v=pl.lit(column)))
    now = {e.source for e in lineage.column_walk(assets.catalog, "clean.a", "u")}
    assert now == {("raw.a", "y")}
    before = {e.source for e in lineage.edges_of(assets.catalog, "clean.a@1")}
    assert before == {("raw.a", "x")}
    assert lineage.column_walk(assets.catalog, "raw.a", "x", direction="down") == set()
    for n in range(3):  # other rows of the same making
        with assets.run("again", reads=["raw.a"]) as run:
            run.read("raw.a", columns=["y"])
            run.table("clean.b").put(pl.DataFrame({"u": [n]}))
    with assets.catalog.reader.connect() as connection:
        maps = connection.execute(
            sa.text("SELECT count(DISTINCT map), count(*) FROM column_maps WHERE asset = 'clean.b'")
        ).one()
    assert tuple(maps) == (1, 3)


def test_a_restored_version_is_made_as_the_old_one_was(assets: Assets) -> None:
    make(assets, "raw.a", {}, ["x", "y"])
    for column in ("x", "y"):
        with assets.run("make", reads=["raw.a"], parameters={"column": column}) as run:
            run.read("raw.a", columns=[column])
            run.table("clean.a").put(pl.DataFrame({"u": [column]}))
    assets.restore("clean.a", 1)
    assert {e.source for e in lineage.column_walk(assets.catalog, "clean.a", "u")} == {("raw.a", "x")}  # fmt: skip
    told = lineage.walk(assets.catalog, ["clean.a@3"])
    assert told["edges"] == [{"from": "raw.a@1", "to": "clean.a@3"}]


def test_versions_are_walked_both_ways_to_a_depth(assets: Assets) -> None:
    make(assets, "a.0", {}, ["x"])
    for n in range(1, 5):
        make(assets, f"a.{n}", {f"a.{n - 1}": ["x"]}, ["x"])
    up = lineage.walk(assets.catalog, ["a.4@1"], depth=2)
    assert [(n["version"], n["depth"]) for n in up["nodes"]] == [("a.4@1", 0), ("a.3@1", 1), ("a.2@1", 2)]  # fmt: skip
    down = lineage.walk(assets.catalog, ["a.0@1"], "down")
    assert [n["version"] for n in down["nodes"]] == [f"a.{n}@1" for n in range(5)]
    assert lineage.asset_edges(assets.catalog, "a.2", "up") == {("a.1", "a.2"), ("a.0", "a.1")}
    assert lineage.all_asset_edges(assets.catalog) == {(f"a.{n}", f"a.{n + 1}") for n in range(4)}


def test_a_hop_looks_only_at_what_it_was_asked_for(assets: Assets) -> None:
    make(assets, "raw.a", {}, ["x"])
    make(assets, "clean.a", {"raw.a": ["x"]}, ["x"])
    asked: list[str] = []
    sa.event.listen(
        assets.catalog.reader, "before_cursor_execute", lambda *said: asked.append(said[2])
    )
    for way in lineage.ways("both"):
        lineage.walk(assets.catalog, ["clean.a@1", "raw.a@1"], way)
        lineage.asset_edges(assets.catalog, "clean.a", way)
        lineage.column_walk(assets.catalog, "clean.a", "x", direction=way)
    with assets.catalog.reader.connect() as connection:
        for statement in [one for one in asked if "json_each" in one]:
            given = tuple("$[0]" if n else '[["a", "b"]]' for n in range(statement.count("?")))
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).all()
            steps = [str(row[3]) for row in plan]
            assert not [one for one in steps if "AUTOMATIC" in one], statement
            assert [one for one in steps if one.startswith("SCAN")] == [
                "SCAN given VIRTUAL TABLE INDEX 1:"
            ], statement


def test_a_catalogue_from_before_maps_still_knows_who_made_what(assets: Assets) -> None:
    make(assets, "raw.a", {}, ["x"])
    make(assets, "clean.a", {"raw.a": ["x"]}, ["u"])
    with assets.catalog.write() as connection:
        connection.execute(sa.text("DELETE FROM column_maps"))
    folder = assets.root.parent
    assets.close()
    opened = Assets(folder, buckets=4)
    assert lineage.asset_edges(opened.catalog, "clean.a", "up") == {("raw.a", "clean.a")}
    assert lineage.column_walk(opened.catalog, "clean.a", "u") == set()  # nobody knows any more
    opened.close()


def test_a_column_that_is_none_is_told_with_those_there_are(assets: Assets) -> None:
    make(assets, "raw.a", {}, ["x", "y"])
    with pytest.raises(NotFound, match=r"raw\.a has no column 'z'; it has x, y"):
        lineage.column_lineage(assets.catalog, "raw.a", "z")
    with pytest.raises(NotFound, match=r"no asset 'raw\.b'"):
        lineage.column_lineage(assets.catalog, "raw.b")
    with pytest.raises(InputError, match="no direction 'left'"):
        lineage.column_lineage(assets.catalog, "raw.a", direction="left")


# planted truth


def later(text: str) -> str:
    return (datetime.fromisoformat(text) + timedelta(hours=1)).isoformat()


PERTURBED: list[tuple[str, str, Callable[[str], str]]] = [
    ("events", "dwell_ms", lambda text: str(int(text) + 7)),
    ("events", "ts", later),
    ("events", "price_minor", lambda text: text if text == "NaN" else str(int(text) + 3)),
    ("items", "title", lambda text: text + " new"),
    ("items", "category", lambda text: "My " + text),
    ("items", "stock", lambda text: str(int(text) + 1)),
    ("items", "price_minor", lambda text: str(int(text) + 1)),
]


def rewrite(path: Path, column: str, change: Callable[[str], str]) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows({**row, column: change(row[column])} for row in rows)


def tables(shop: Shop) -> dict[str, pl.DataFrame]:
    """Current tables of all layers that steps make, bytes left out."""
    names = [r["name"] for r in shop.assets_list() if r["kind"] == "table" and r["rows"]]
    return {
        name: shop.assets.read(name, by=OWNER, purpose=Purpose.ANALYSE).drop(pl.selectors.binary())
        for name in names
        if name.partition(".")[0] in ("clean", "features", "reports", "quarantine")
    }


def test_exactly_the_columns_downstream_of_a_perturbed_raw_column_change(folder: Path) -> None:
    steps = ["collect", "clean", "report", "features"]
    with Shop.open(folder) as shop:
        shop.run(steps, force=True)
        before = tables(shop)
        for table, column, change in PERTURBED:
            rewrite(folder / "raw" / f"{table}.csv", column, change)
            shop.run(steps, force=True)
            after = tables(shop)
            changed = {
                (name, one)
                for name, frame in after.items()
                for one in frame.columns
                if not frame[one].equals(before[name][one])
            }
            edges = shop.column_lineage(f"raw.{table}", column, direction="down")["edges"]
            may = {tuple(edge["to"]) for edge in edges}
            must = {
                tuple(edge["to"])
                for edge in edges
                if edge["how"] in ("copied", "computed")
                and edge["to"][0].startswith(("clean.", "features."))
                and edge["to"][0] in after
            }
            assert changed, column
            assert changed <= may, (column, sorted(changed - may))
            # what is told as computed from it did change: names of numbers are the one exception, as
            # they tell that there is a price and not which
            assert must - changed <= {("features.items", "names")}, (column, sorted(must - changed))
            before = after
