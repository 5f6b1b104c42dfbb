"""The same rules by Shopkeeper, pandera, pointblank and Great Expectations, on the same rows, in one run.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install 'pandera[polars]' pointblank great_expectations
    python benchmarks/quality.py --peers /tmp/peers/bin/python [--rows 10000000]

Every tool gets the typed table in memory (Great Expectations as pandas, which is what it takes) and
checks it in a process of its own; what is counted is the CPU time of the checks alone, without imports,
reading and conversion. Pointblank is told to collect no rows, Great Expectations to count only; pandera
lists every failing value, and cannot be told not to. Of Shopkeeper the checks are counted, and again with
what it does besides: clean rows and broken ones, whole, with their reasons. The rows that break each
rule must be the same for all (keys come twice at most, so "rows beyond the first" are half of "rows of
repeated keys"). One JSON line.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

KINDS = ["view", "impression", "search", "cart", "purchase", "favorite"]
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: bench
name: bench
version: 1.0.0
status: active
schema:
  - name: bench
    quality:
      - {metric: duplicateValues, arguments: {properties: [event_id]}, mustBe: 0}
    properties:
      - {name: event_id, logicalType: string, required: true}
      - {name: user_id, logicalType: string, required: true}
      - {name: kind, logicalType: string, required: true, quality: [{metric: invalidValues, arguments: {validValues: [view, impression, search, cart, purchase, favorite]}, mustBe: 0}]}
      - {name: region, logicalType: string, logicalTypeOptions: {pattern: "^[A-Z]{2}-[0-9]{2}$"}}
      - {name: query, logicalType: string, logicalTypeOptions: {maxLength: 40}}
      - {name: price_minor, logicalType: integer, logicalTypeOptions: {minimum: 0, maximum: 100000000}}
      - {name: quantity, logicalType: integer, logicalTypeOptions: {minimum: 1, maximum: 1000}}
      - {name: propensity, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 1}}
"""
RULES = (
    "required:event_id", "required:user_id", "required:kind", "allowed:kind", "pattern:region",
    "length:query", "range:price_minor", "range:quantity", "range:propensity", "key:event_id",
)  # fmt: skip
PEERS = ("pandera", "pointblank", "great_expectations")


def write(path: Path, rows: int) -> None:
    """A table in which about one row in a thousand breaks each rule."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(5)

    def bad() -> Any:
        return pl.lit(pl.Series(rng.random(rows) < 0.001))

    row = pl.int_range(pl.len())
    base = pl.DataFrame(
        {
            "item": rng.integers(0, 90_000, rows),
            "user": rng.integers(0, rows // 50, rows),
            "kind": np.array(KINDS)[rng.integers(0, 6, rows)],
            "p": rng.random(rows),
        }
    )
    nothing = pl.lit(None, pl.String)
    base.select(
        event_id=pl.when(bad() & (row % 2 == 1)).then(pl.format("e{}", row - 1)).otherwise(pl.format("e{}", row)),
        user_id=pl.when(bad()).then(nothing).otherwise(pl.format("u{}", "user")),
        kind=pl.when(bad()).then(pl.lit("hover")).when(bad()).then(nothing).otherwise("kind"),
        region=pl.when(bad()).then(pl.lit("somewhere")).when(row % 3 > 0).then(
            pl.format("CN-{}", (pl.col("item") % 90 + 10).cast(pl.String))
        ),
        query=pl.when(bad()).then(pl.lit("a lamp " * 9)).when(row % 5 == 0).then(pl.format("lamp {}", "item")),
        price_minor=pl.when(bad()).then(pl.lit(-5)).when(row % 4 > 0).then(pl.col("item") + 100).cast(pl.Int64),
        quantity=pl.when(bad()).then(pl.lit(0)).when(row % 4 == 0).then(pl.col("item") % 9 + 1).cast(pl.Int64),
        propensity=pl.when(bad()).then(pl.lit(1.5)).otherwise("p"),
    ).write_parquet(path)  # fmt: skip


def shopkeeper(path: Path) -> tuple[float, dict[str, int], dict[str, Any]]:
    from datetime import UTC, datetime

    import polars as pl

    from shopkeeper.assets import contracts
    from shopkeeper.clean.checks import Ledger, apply
    from shopkeeper.clean.quality import measure

    frame = pl.read_parquet(path)
    contract = contracts.parse(CONTRACT, "bench")
    begin = time.process_time()
    ledger = Ledger("bench", frame, frame)
    apply(ledger, contracts.rules(contract))
    keys = measure(contract.checks, frame.lazy(), now=datetime.now(UTC))
    found = {one.rule: int(one.mask.sum()) for one in ledger.findings}
    spent = time.process_time() - begin
    broken = ledger.broken()
    made = ledger.close(frame if broken is None else frame.filter(~broken), 0)
    whole = time.process_time() - begin
    found = dict.fromkeys(RULES, 0) | found | {one.rule.name: one.count for one in keys}
    more = {"quarantined_rows": made.quarantine.height, "with_quarantine_cpu_seconds": whole}
    return spent, found, more


def pandera(path: Path) -> tuple[float, dict[str, int], dict[str, Any]]:
    import pandera.polars as pa
    import polars as pl

    frame = pl.read_parquet(path)
    check = pa.Check
    schema = pa.DataFrameSchema(
        {
            "event_id": pa.Column(pl.String, unique=False),
            "user_id": pa.Column(pl.String),
            "kind": pa.Column(pl.String, check.isin(KINDS)),
            "region": pa.Column(pl.String, check.str_matches("^[A-Z]{2}-[0-9]{2}$"), nullable=True),
            "query": pa.Column(pl.String, check.str_length(max_value=40), nullable=True),
            "price_minor": pa.Column(pl.Int64, check.in_range(0, 100_000_000), nullable=True),
            "quantity": pa.Column(pl.Int64, check.in_range(1, 1000), nullable=True),
            "propensity": pa.Column(pl.Float64, check.in_range(0, 1), nullable=True),
        },
        unique=["event_id"],
        report_duplicates="exclude_first",
    )
    begin = time.process_time()
    try:
        schema.validate(frame, lazy=True)
        cases = None
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
    spent = time.process_time() - begin
    assert cases is not None
    names = {"not_nullable": "required", "isin": "allowed", "str_matches": "pattern", "str_length": "length", "in_range": "range", "multiple_fields_uniqueness": "key"}  # fmt: skip
    found = dict.fromkeys(RULES, 0)
    for column, told, n in cases.group_by("column", "check").len().iter_rows():
        family = names[told.partition("(")[0]]
        found[f"{family}:{'event_id' if family == 'key' else column}"] += n
    found["key:event_id"] //= 2
    return spent, found, {}


def pointblank(path: Path) -> tuple[float, dict[str, int], dict[str, Any]]:
    import pointblank as pb
    import polars as pl

    frame = pl.read_parquet(path)
    begin = time.process_time()
    asked = (
        pb.Validate(data=frame)
        .col_vals_not_null("event_id")
        .col_vals_not_null("user_id")
        .col_vals_not_null("kind")
        .col_vals_in_set("kind", [*KINDS, None])
        .col_vals_regex("region", "^[A-Z]{2}-[0-9]{2}$", na_pass=True)
        .col_vals_str_len("query", max_val=40, na_pass=True)
        .col_vals_between("price_minor", 0, 100_000_000, na_pass=True)
        .col_vals_between("quantity", 1, 1000, na_pass=True)
        .col_vals_between("propensity", 0, 1, na_pass=True)
        .rows_distinct(columns_subset="event_id")
        .interrogate(collect_extracts=False)
    )
    spent = time.process_time() - begin
    counts = asked.n_failed()
    found = {rule: int(counts[place]) for place, rule in enumerate(RULES, 1)}
    found["key:event_id"] //= 2
    return spent, found, {}


def great_expectations(path: Path) -> tuple[float, dict[str, int], dict[str, Any]]:
    import great_expectations as gx
    import pandas as pd

    frame = pd.read_parquet(path)
    expect = gx.expectations
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = None
    asset = context.data_sources.add_pandas("bench").add_dataframe_asset("bench")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(
        name="bench",
        expectations=[
            expect.ExpectColumnValuesToNotBeNull(column="event_id"),
            expect.ExpectColumnValuesToNotBeNull(column="user_id"),
            expect.ExpectColumnValuesToNotBeNull(column="kind"),
            expect.ExpectColumnValuesToBeInSet(column="kind", value_set=KINDS),
            expect.ExpectColumnValuesToMatchRegex(column="region", regex="^[A-Z]{2}-[0-9]{2}$"),
            expect.ExpectColumnValueLengthsToBeBetween(column="query", max_value=40),
            expect.ExpectColumnValuesToBeBetween(column="price_minor", min_value=0, max_value=100_000_000),
            expect.ExpectColumnValuesToBeBetween(column="quantity", min_value=1, max_value=1000),
            expect.ExpectColumnValuesToBeBetween(column="propensity", min_value=0, max_value=1),
            expect.ExpectColumnValuesToBeUnique(column="event_id"),
        ],
    )  # fmt: skip
    begin = time.process_time()
    told = batch.validate(suite, result_format="BASIC")
    spent = time.process_time() - begin
    names = {
        "expect_column_values_to_not_be_null": "required",
        "expect_column_values_to_be_in_set": "allowed",
        "expect_column_values_to_match_regex": "pattern",
        "expect_column_value_lengths_to_be_between": "length",
        "expect_column_values_to_be_between": "range",
        "expect_column_values_to_be_unique": "key",
    }
    found = {}
    for one in told.results:  # in an order of its own
        asked = one.expectation_config
        rule = f"{names[asked.type]}:{asked.kwargs['column']}"
        found[rule] = int(one.result["unexpected_count"])
    found["key:event_id"] //= 2
    return spent, found, {}


TOOLS = {tool.__name__: tool for tool in (shopkeeper, pandera, pointblank, great_expectations)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--peers", default=sys.executable, help="A Python that has the peers.")
    parser.add_argument("--tool", choices=[*TOOLS], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tool:
        spent, found, more = TOOLS[args.tool](args.file)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        findings = {rule: found[rule] for rule in RULES}
        print(json.dumps({"cpu_seconds": spent, "peak_rss_gb": peak, "findings": findings, **more}))
        return
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        write(file, args.rows)
        for tool in TOOLS:
            python = args.peers if tool in PEERS else sys.executable
            asked = [python, __file__, "--tool", tool, "--file", str(file)]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{tool}: {done.stderr[-2000:]}")
            told[tool] = json.loads(done.stdout.splitlines()[-1])
    findings = {json.dumps(one["findings"]) for one in told.values()}
    own, best = (
        told["shopkeeper"],
        min((told[p] for p in PEERS), key=lambda one: one["cpu_seconds"]),
    )
    print(
        json.dumps(
            {
                "rows": args.rows,
                "identical": len(findings) == 1,
                "cpu_seconds": {tool: round(one["cpu_seconds"], 2) for tool, one in told.items()},
                "peak_rss_gb": {tool: round(one["peak_rss_gb"], 2) for tool, one in told.items()},
                "best_peer_over_shopkeeper": round(best["cpu_seconds"] / own["cpu_seconds"], 2),
                "findings": {tool: one["findings"] for tool, one in told.items()} if len(findings) > 1 else own["findings"],
                "quarantined_rows": own["quarantined_rows"],
                "with_quarantine_cpu_seconds": round(own["with_quarantine_cpu_seconds"], 2),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
