"""Promises of a whole table: read from ODCS blocks, refused where nobody would check them."""

from pathlib import Path

import pytest

from shopkeeper.assets import contracts
from shopkeeper.assets.contracts import built_in_text, edit
from shopkeeper.assets.contracts.dataset import DatasetRule
from shopkeeper.errors import InputError

SHOPS = built_in_text("shops")


def shops(*blocks: str, sla: str = "") -> contracts.Contract:
    """The contract of shops with quality blocks of the table."""
    quality = "    quality:\n" + "".join(f"      - {block}\n" for block in blocks)
    text = SHOPS.replace("    properties:", quality + "    properties:", 1) if blocks else SHOPS
    return contracts.parse(text + sla, "shops.odcs.yaml")


OURS = "type: custom, engine: shopkeeper, implementation:"


def test_each_promise_has_a_name_and_says_what_is_wanted() -> None:
    made = shops(
        "{metric: duplicateValues, arguments: {properties: [shop_id]}, mustBe: 0}",
        "{metric: rowCount, mustBeBetween: [1, 5], severity: warning}",
        '{type: sql, name: no ghosts, query: "SELECT 0 FROM ${object}", mustBe: 0}',
        f"{{{OURS} {{check: volume, maxFallPercent: 20}}}}",
    )
    assert [(rule.name, rule.severity, rule.wanted) for rule in made.checks] == [
        ("key:shop_id", "error", "0"),
        ("rows", "warning", "between 1 and 5"),
        ("sql:no_ghosts", "error", "0"),
        ("volume", "error", "at most 20 % fewer and inf % more rows than before"),
    ]


def test_two_promises_of_one_kind_have_two_names() -> None:
    made = shops("{metric: rowCount, mustBeLessThan: 9}", "{metric: rowCount, mustNotBe: 3}")
    assert [rule.name for rule in made.checks] == ["rows", "rows#2"]


def test_a_latency_is_a_freshness_that_warns(tmp_path) -> None:
    text = built_in_text("events") + "slaProperties: [{property: latency, value: 2, unit: d, element: events.ts}]\n"  # fmt: skip
    (rule,) = contracts.parse(text, "x").checks
    assert (rule.name, rule.severity, rule.bounds) == ("freshness:ts", "warning", (48.0,))


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("{metric: nullValues, mustBe: 0}", "stands under a column"),
        ("{metric: rowCount, mustBe: 0, severity: fatal}", "'fatal' of a quality check"),
        ("{metric: rowCount, mustBe: 0, unit: furlongs}", "'furlongs' is not rows or percent"),
        ("{type: custom, engine: soda, implementation: {check: volume}}", "engine 'soda'"),
        (f"{{{OURS} {{check: volume, maxFall: 20}}}}", "volume knows no maxFall"),
        (f"{{{OURS} {{check: volume, maxFallPercent: -1}}}}", "maxFallPercent is no such number"),
        (f"{{{OURS} {{check: drift}}}}", "drift stands under a column"),
        (
            "{metric: duplicateValues, arguments: {properties: [shpo]}, mustBe: 0}",
            "column 'shpo', which is no column",
        ),
    ],
)
def test_what_nobody_would_check_is_refused(block: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        shops(block)
    assert says in str(caught.value)


def test_times_do_not_drift() -> None:
    text = built_in_text("events").replace(
        "logicalTypeOptions: {timezone: true}",
        f"quality: [{{{OURS} {{check: drift}}}}]\n        logicalTypeOptions: {{timezone: true}}",
        1,
    )
    with pytest.raises(InputError, match="drift of a time tells nothing"):
        contracts.parse(text, "x")


@pytest.mark.parametrize(
    ("operator", "bounds", "good", "bad"),
    [
        ("mustBe", (0,), 0, 1),
        ("mustNotBe", (0,), 1, 0),
        ("mustBeGreaterThan", (1,), 2, 1),
        ("mustBeGreaterOrEqualTo", (1,), 1, 0),
        ("mustBeLessThan", (1,), 0, 1),
        ("mustBeLessOrEqualTo", (1,), 1, 2),
        ("mustBeBetween", (1, 3), 3, 4),
        ("mustNotBeBetween", (1, 3), 4, 3),
    ],
)
def test_each_comparison_of_the_standard(operator: str, bounds, good: float, bad: float) -> None:
    rule = DatasetRule("rows", "rows", (), "error", operator, bounds)
    assert (rule.holds(good), rule.holds(bad)) == (True, False)


def test_a_promise_that_may_stop_a_run_is_a_breaking_change(tmp_path: Path) -> None:
    def changes(block: str) -> list[tuple[str, bool]]:
        text = SHOPS.replace("    properties:", f"    quality: [{block}]\n    properties:", 1)
        told = edit.check(text, tmp_path, "shops")
        assert told["valid"], told["errors"]
        return [(one["change"], one["breaking"]) for one in told["changes"]]

    assert changes("{metric: rowCount, mustBeGreaterThan: 0}") == [("rows", True)]
    assert changes("{metric: rowCount, mustBeGreaterThan: 0, severity: warning}") == [
        ("rows", False)
    ]


def test_an_override_adds_promises_and_those_of_the_same_name_win(tmp_path: Path) -> None:
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "shops.odcs.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: mine\nversion: 1.0.0\nstatus: active\nname: shops\n"
        "schema:\n  - name: shops\n    quality: [{metric: rowCount, mustBeGreaterThan: 0}]\n",
        "utf-8",
    )
    assert [rule.name for rule in contracts.load(tmp_path)["shops"].checks] == ["rows"]


def test_a_column_named_for_its_promise_or_its_range_keeps_its_grade(tmp_path: Path) -> None:
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "events.odcs.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: mine\nversion: 1.0.0\nstatus: active\nname: events\n"
        "schema:\n  - name: events\n    properties:\n"
        "      - {name: region, quality: [{metric: nullValues, mustBe: 0, severity: warning}]}\n"
        "      - {name: query, logicalType: string, logicalTypeOptions: {maxLength: 9}}\n",
        "utf-8",
    )
    made, base = contracts.load(tmp_path)["events"], contracts.built_in("events")
    assert made.column("region") == base.column("region")
    assert [rule.name for rule in made.checks] == ["nulls:region"]
    assert made.column("query").grade == base.column("query").grade
    assert made.column("query").max_length == 9
