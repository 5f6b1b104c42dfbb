"""An unencrypted table opens in plain Delta readers, whatever was done to it, with the same rows."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable, QueryBuilder

from shopkeeper.assets import lake
from shopkeeper.assets.buckets import bucket_of
from shopkeeper.assets.store import Assets
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Purpose

NAME, BUCKETS = "clean.events", 4
AT = datetime(2026, 1, 31, 8, tzinfo=UTC)


def by_assets(assets: Assets, number: int) -> pl.DataFrame:
    return assets.read(NAME, by=OWNER, purpose=Purpose.AUDIT, version=number)


def delta(assets: Assets, number: int) -> DeltaTable:
    """As a stranger opens it; the current version is the head, without any number."""
    current = assets.current(NAME).number == number
    version = None if current else assets.version(NAME, number).delta_version
    return DeltaTable(str(assets.root / "lake" / "clean" / "events"), version=version)


def by_delta_rs(assets: Assets, number: int) -> pl.DataFrame:
    query = QueryBuilder().register("t", delta(assets, number)).execute("SELECT * FROM t")
    return pl.DataFrame(query.read_all())


def by_polars(assets: Assets, number: int) -> pl.DataFrame:
    return pl.scan_delta(delta(assets, number)).collect()


def by_duckdb(assets: Assets, number: int) -> pl.DataFrame:
    """DuckDB's own Delta extension has to be downloaded; it reads the files that Delta lists."""
    files = delta(assets, number).file_uris()
    with duckdb.connect() as connection:
        found = connection.execute(  # times as numbers: to read them as such it wants pytz
            "SELECT * REPLACE (epoch_us(ts) AS ts) "
            "FROM read_parquet(?, union_by_name = true, hive_partitioning = false)",
            [files],
        )
        names = [column[0] for column in found.description or ()]
        rows = found.fetchall()
    frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    return frame.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))


def by_spark(assets: Assets, number: int) -> pl.DataFrame:
    """Spark with Delta's own reader; times as numbers, since Spark's have the session's zone."""
    from delta import configure_spark_with_delta_pip
    from pyspark.sql import SparkSession

    builder = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config(
            "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        )
    )
    spark = configure_spark_with_delta_pip(builder).getOrCreate()
    table = delta(assets, number)
    rows = (
        spark.read.format("delta")
        .option("versionAsOf", table.version())
        .load(table.table_uri)
        .selectExpr("* EXCEPT (ts)", "unix_micros(ts) AS ts")
    )
    found = [row.asDict() for row in rows.collect()]
    frame = pl.DataFrame(found, schema=rows.columns, infer_schema_length=None)
    return frame.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))


READERS: list[Callable[[Assets, int], pl.DataFrame]] = [by_delta_rs, by_polars, by_duckdb]


def events(first: int, count: int, **more: Any) -> pl.DataFrame:
    ids = range(first, first + count)
    return pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in ids],
            "user_id": [f"用户{n % 7}" for n in ids],
            "ts": [AT + timedelta(seconds=n) for n in ids],
            "price_minor": [n if n % 3 else None for n in ids],
            "tags": [[f"t{n}", "all"] if n % 2 else [] for n in ids],
        },
        schema_overrides={"price_minor": pl.Int64(), "tags": pl.List(pl.String())},
    ).with_columns(**more)


def write(assets: Assets, frame: pl.DataFrame, mode: Any) -> None:
    with assets.run("write") as run:
        for bucket in range(BUCKETS):
            mine = [bucket_of(user, BUCKETS) == bucket for user in frame["user_id"]]
            run.table(NAME, mode).put(frame.filter(pl.Series(mine)), bucket)


def append(assets: Assets) -> None:
    write(assets, events(100, 30), "append")


def append_a_column(assets: Assets) -> None:
    write(assets, events(200, 20, kind=pl.lit("view")), "append")


def replace(assets: Assets) -> None:
    write(assets, events(300, 25), "replace")


def replace_buckets(assets: Assets) -> None:
    write(assets, events(400, 2), "buckets")


def restore(assets: Assets) -> None:
    write(assets, events(500, 5).drop("tags"), "replace")
    assets.restore(NAME, 1)


def compact(assets: Assets) -> None:
    append(assets)
    append_a_column(assets)
    told = assets.compact(NAME)
    assert told["files"]["after"] < told["files"]["before"]


def retain(assets: Assets) -> None:
    compact(assets)
    replace(assets)
    append(assets)
    assert assets.retain(keep_last=2, days=0)["removed"]
    assert assets.vacuum(grace=timedelta(0))["files"]


def promote(assets: Assets) -> None:
    with assets.branch("trial") as branch:
        append_a_column(branch)
    assets.promote("trial")


def after_a_checkpoint(assets: Assets) -> None:
    for n in range(7):
        write(assets, events(1000 + n, 1), "append")
    retain(assets)
    log = assets.root / "lake" / "clean" / "events" / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))


@pytest.mark.parametrize(
    "work",
    [append, append_a_column, replace, replace_buckets, restore, compact, retain, promote, after_a_checkpoint],
)  # fmt: skip
def test_every_kept_version_opens_in_every_reader(
    tmp_path: Path, work: Callable[[Assets], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake, "CHECKPOINT_EVERY", 5)
    assets = Assets(tmp_path, buckets=BUCKETS)
    write(assets, events(0, 40), "replace")
    work(assets)
    kept = [v for v in assets.catalog.history(NAME) if v.removed_at is None]
    assert kept[0].id == assets.current(NAME).id
    for version in kept[:3]:
        wanted = by_assets(assets, version.number).sort("event_id")
        assert wanted.height == version.rows
        for reader in READERS:
            found = reader(assets, version.number).select(wanted.columns).sort("event_id")
            assert found.rows() == wanted.rows(), (version.id, reader.__name__)


@pytest.mark.slow
def test_every_kept_version_opens_in_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark", reason="PySpark is not installed")
    pytest.importorskip("delta", reason="delta-spark, which brings Delta's jar, is not installed")
    if shutil.which("java") is None:
        pytest.skip("no Java, which Spark runs on")
    monkeypatch.setattr(lake, "CHECKPOINT_EVERY", 5)
    assets = Assets(tmp_path, buckets=BUCKETS)
    write(assets, events(0, 40), "replace")
    for work in (append_a_column, compact, restore, retain):
        work(assets)
        for version in [v for v in assets.catalog.history(NAME) if v.removed_at is None][:3]:
            wanted = by_assets(assets, version.number).sort("event_id")
            found = by_spark(assets, version.number).select(wanted.columns).sort("event_id")
            assert found.rows() == wanted.rows(), version.id


def test_rows_are_those_that_were_written(tmp_path: Path) -> None:
    """The readers agree with each other above; here with what went in."""
    assets = Assets(tmp_path, buckets=BUCKETS)
    write(assets, events(0, 40), "replace")
    compact(assets)
    frames = [events(0, 40), events(100, 30), events(200, 20, kind=pl.lit("view"))]
    wanted = pl.concat(frames, how="diagonal").sort("event_id")
    assert by_assets(assets, 3).sort("event_id").rows() == wanted.rows()
