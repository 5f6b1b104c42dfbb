"""Promises of a whole table in a running shop: broken ones keep the version before."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from shopkeeper.analysis import promises
from shopkeeper.errors import InputError
from shopkeeper.shop import Shop

HEAD = "apiVersion: v3.1.0\nkind: DataContract\nid: mine\nversion: 1.0.0\nstatus: active\nname: items\nschema:\n  - name: items\n"
OURS = "type: custom, engine: shopkeeper, implementation:"


def promise(folder, *blocks: str, columns: str = "", sla: str = "") -> None:
    (folder / "contracts").mkdir(exist_ok=True)
    quality = "    quality:\n" + "".join(f"      - {block}\n" for block in blocks) if blocks else ""
    text = HEAD + quality + columns + sla
    (folder / "contracts" / "items.odcs.yaml").write_text(text, "utf-8")


def found(shop: Shop) -> dict[str, tuple[str, float | None]]:
    (report,) = [one for one in shop.quality() if one["table"] == "items"]
    return {rule["rule"]: (rule["level"], rule["value"]) for rule in report["rules"]}


def add_items(folder, count: int, title: str = "Lamp") -> None:
    with (folder / "raw" / "items.csv").open("a", encoding="utf-8") as file:
        for n in range(count):
            file.write(f"new{title}{n},{title},,,Lighting,L,100,1,,\n")
    time.sleep(1.1)  # collect waits for a file that is being written


def test_a_broken_promise_keeps_the_version_before_and_is_in_the_history(folder) -> None:
    promise(folder, "{metric: rowCount, mustBeBetween: [1, 48]}", "{metric: rowCount, mustBeLessThan: 10, severity: warning}")  # fmt: skip
    with Shop.open(folder) as shop:
        shop.run(["collect.items", "clean.items"], accept_change=True)
        before = shop.assets.current("clean.items").id
        assert (found(shop)["rows"], found(shop)["rows#2"]) == (("PASS", 48.0), ("WARN", 48.0))
        add_items(folder, 2)
        with pytest.raises(InputError) as caught:
            shop.run(["collect.items", "clean.items"])
        assert "items breaks 1 promise: rows: 50, wanted between 1 and 48" in str(caught.value)
        assert "the version before stays current" in str(caught.value)
        assert shop.assets.current("clean.items").id == before
        *_, last = shop.quality_history("clean.items")
        assert (last["stopped"], last["version"], last["rows"]) == (True, None, 50)
        assert {rule["rule"]: rule["value"] for rule in last["rules"]}["rows"] == 50.0
        promise(folder)
        shop.run(["clean.items"])
        assert shop.assets.current("clean.items").rows == 50


def test_sql_sees_the_rows_that_are_about_to_be_committed(folder) -> None:
    sql = (
        "SELECT count(*) FROM ${object} JOIN clean.images USING (item_id) WHERE price_minor > 5000"
    )
    wrong = "SELECT item_id FROM {object}"
    promise(folder, f'{{type: sql, name: dear, query: "{sql}", mustBe: 0, severity: warning}}')
    with Shop.open(folder) as shop:
        shop.run(["clean.items"], accept_change=True)
        assert found(shop)["sql:dear"] == ("WARN", 15.0)
        promise(folder, f'{{type: sql, name: dear, query: "{wrong}", mustBe: 0}}')
        with pytest.raises(InputError, match="answers 2 rows of 1 columns, wanted one value"):
            shop.run(["clean.items"], accept_change=True)
        promise(folder, '{type: sql, name: dear, query: "DELETE FROM ${object}", mustBe: 0}')
        with pytest.raises(InputError, match="only SELECT is answered"):
            shop.run(["clean.items"], accept_change=True)


def test_volume_and_drift_are_told_against_the_versions_before(folder) -> None:
    column = f"    properties:\n      - {{name: title, logicalType: string, quality: [{{{OURS} {{check: drift, max: 0.2}}, severity: warning}}]}}\n"
    promise(folder, f"{{{OURS} {{check: volume, maxGrowthPercent: 50}}, severity: warning}}", columns=column)  # fmt: skip
    add_items(folder, 200, "Old")
    with Shop.open(folder) as shop:
        shop.run(["collect.items", "clean.items"], accept_change=True)
        level, value = found(shop)["volume"]
        assert (level, round(value)) == ("WARN", 417)  # 248 beside 48
        add_items(folder, 120, "Tent")
        shop.run(["collect.items", "clean.items"])
        assert found(shop)["drift:title"][0] == "WARN"


def test_old_data_warn_and_stop_where_the_promise_says_so(folder) -> None:
    def age(hours: float, severity: str) -> None:
        check = f"{OURS} {{check: freshness, maxHours: {hours}}}, severity: {severity}"
        text = HEAD.replace("items", "events") + f"    properties:\n      - {{name: ts, logicalType: timestamp, quality: [{{{check}}}]}}\n"  # fmt: skip
        (folder / "contracts").mkdir(exist_ok=True)
        (folder / "contracts" / "events.odcs.yaml").write_text(text, "utf-8")

    since = (datetime.now(UTC) - datetime(2026, 3, 1, tzinfo=UTC)) / timedelta(hours=1)
    age(2 * since, "error")
    with Shop.open(folder) as shop:
        shop.run(["clean"], accept_change=True)
        assert shop.run(["clean.events"])["steps"][0]["state"] == "fresh"
        age(1, "warning")
        shop.run(["clean.events"], accept_change=True)
        watched = [one for one in shop.quality_history("clean.events") if one["watched"]]
        assert {rule["level"] for one in watched for rule in one["rules"]} == {"PASS"}
        age(1, "error")
        with pytest.raises(InputError, match="nothing new came in: events breaks 1 promise"):
            promises.watch(shop.assets, folder, "events")  # what a fresh step does
        with pytest.raises(InputError, match="events breaks 1 promise: freshness:ts"):
            shop.run(["clean.events"], accept_change=True)
