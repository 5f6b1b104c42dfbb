"""What reading one table of a database costs: ours, and Arrow-native drivers beside it.

    python benchmarks/sql_sources.py --url postgresql://user:password@host/db [--rows 1000000]

Makes the table `bench` (seven columns: whole numbers, text, decimal, float, boolean, time) in the
database, and reads it once by each driver in a process of its own, in order of its key. `ours` is
collect/sql.py as a run uses it: text columns, watermark, position. The others are made text columns by
collect/cells.py. ADBC cannot hand decimals to Polars, so the server casts them to text.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import polars as pl
import sqlalchemy as sa

from shopkeeper.collect.cells import texts
from shopkeeper.collect.sql import SqlTable
from shopkeeper.config import Source

COLUMNS = ["id", "item_id", "title", "price", "weight", "sold", "updated_at"]
DRIVEN = {"postgresql:": "postgresql+psycopg:", "mysql:": "mysql+pymysql:"}


def fill(url: str, rows: int) -> None:
    """Make the table, unless it is there with as many rows."""
    for plain, driven in DRIVEN.items():
        url = url.replace(plain, driven)
    postgresql = url.startswith("postgresql")
    instant = "timestamptz" if postgresql else "datetime(6)"
    numbers = (
        f"generate_series(1, {rows}) n" if postgresql else f"(select seq n from seq_1_to_{rows}) s"
    )
    at = "n * interval '1 second'" if postgresql else "interval n second"
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        for statement in (
            "drop table if exists bench",
            "create table bench (id int primary key, item_id bigint, title varchar(60), price "
            f"numeric(10,2), weight double precision, sold boolean, updated_at {instant})",
            "insert into bench select n, n * 7, concat('item number ', n, ' of the catalogue'), "
            f"n / 100.0, n * 0.25, n % 2 = 0, timestamp '2026-01-01 00:00:00' + {at} from {numbers}",
        ):
            connection.execute(sa.text(statement))


def ours(url: str) -> Iterator[pl.DataFrame]:
    source = Source(table="items", format="sql", url=url, sql_table="bench", watermark="id")
    for chunk, _ in SqlTable(source).read(None, COLUMNS, "id"):
        yield chunk.frame


def adbc(url: str) -> Iterator[pl.DataFrame]:
    import adbc_driver_postgresql.dbapi as driver
    from arro3.core import RecordBatchReader

    named = ", ".join("price::text" if name == "price" else name for name in COLUMNS)
    with driver.connect(url) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(8 << 20)})
        cursor.execute(f"select {named} from bench order by id")
        for batch in RecordBatchReader.from_stream(cursor.fetch_arrow()):
            yield texts(pl.DataFrame(batch))


def connectorx(url: str) -> Iterator[pl.DataFrame]:
    import connectorx as driver

    query = f"select {', '.join(COLUMNS)} from bench order by id"
    for batch in driver.read_sql(url, query, return_type="arrow_stream", batch_size=50_000):
        yield texts(pl.DataFrame(batch))


WAYS = {"ours": ours, "adbc": adbc, "connectorx": connectorx}


def measure(way: str, url: str) -> dict[str, float]:
    wall, cpu, rows, first = time.perf_counter(), time.process_time(), 0, ""
    for frame in WAYS[way](url):
        first = first or str(frame.select("price", "updated_at").row(0))
        rows += frame.height
    return {
        "rows": rows,
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "seconds": round(time.perf_counter() - wall, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "first": first,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--way", choices=WAYS)
    told = parser.parse_args()
    if told.way:
        print(json.dumps(measure(told.way, told.url)))
        return
    fill(told.url, told.rows)
    for way in WAYS:
        if way == "adbc" and not told.url.startswith("postgresql"):
            continue
        again = [sys.executable, __file__, "--url", told.url, "--way", way]
        print(way, subprocess.run(again, check=True, capture_output=True, text=True).stdout.strip())


if __name__ == "__main__":
    main()
