"""OpenLineage: what runs tell is valid by the published schema, is never lost, and others' is taken in."""

import importlib
import json
import pkgutil
import threading
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import attr
import polars as pl
import pytest

from shopkeeper.assets import lineage, openlineage
from shopkeeper.assets.lineage import Derivation
from shopkeeper.assets.openlineage import Teller
from shopkeeper.assets.store import Assets
from shopkeeper.errors import InputError
from shopkeeper.shop import Shop

client = pytest.importorskip("openlineage.client.event_v2")
generated = importlib.import_module("openlineage.client.generated")
MODULES = [
    importlib.import_module(f"openlineage.client.generated.{found.name}")
    for found in pkgutil.iter_modules(generated.__path__)
]
# classes that the standard's own project generates from its published JSON schemas, by the address of
# each; the schema files themselves are in no package that can be installed
CLASSES = {
    kind._get_schema(): kind
    for module in MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and attr.has(kind) and "_get_schema" in vars(kind)
}


def holds(kind: Any, value: Any, where: str) -> None:
    """Fails unless `value` is one of type `kind`: no field too many, none missing, all of their types."""
    if kind is Any:
        return
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is not None:
            (some,) = (one for one in of if one is not type(None))
            holds(some, value, where)
    elif origin is list:
        assert isinstance(value, list), where
        for one in value:
            holds(of[0], one, where)
    elif origin is dict:
        assert isinstance(value, dict), where
        for key, one in value.items():
            holds(facet(one) if "_schemaURL" in one else of[1], one, f"{where}.{key}")
    elif attr.has(kind):
        assert isinstance(value, dict), where
        hints = typing.get_type_hints(kind)
        fields = {field.name: field for field in attr.fields(kind)}
        assert set(value) <= set(fields), f"{where}: {set(value) - set(fields)}"
        for name, field in fields.items():
            if name in value:
                holds(hints[name], value[name], f"{where}.{name}")
            else:
                assert field.default is not attr.NOTHING or not field.init, f"{where}: no {name}"
    elif isinstance(kind, type) and issubclass(kind, Enum):
        kind(value)
    elif isinstance(kind, type):
        assert isinstance(value, kind), f"{where} is {value!r}"


def facet(value: dict[str, Any]) -> Any:
    return CLASSES[value["_schemaURL"]]


def check(event: dict[str, Any]) -> set[str]:
    """The event is one of the standard's, with all its facets; their names."""
    holds(CLASSES[event["schemaURL"]], event, "event")
    client.Run(event["run"]["runId"])  # raises unless a UUID
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    parts = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    names = ("facets", "inputFacets", "outputFacets")
    return {name for part in parts for some in names for name in part.get(some, {})}


@contextmanager
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]], list[int]]]:
    """A real HTTP server that keeps what is posted: its address, events, and answers to give first."""
    taken: list[dict[str, Any]] = []
    answers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = answers.pop(0) if answers else 201
            if status == 201:
                taken.append(json.loads(body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v1/lineage", taken, answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def steps(assets: Assets) -> None:
    with assets.run("collect.a") as run:
        run.table("raw.a").put(pl.DataFrame({"id": ["1"], "x": ["2"], "secret": ["hush"]}))
    with assets.run("clean.a", reads=["raw.a"]) as run:
        run.read("raw.a", columns=["id", "x"])
        said = {"id": [("raw.a", "id")], "x": [("raw.a", "x")]}
        run.derive("clean.a", Derivation(said, [("raw.a", "x")], ["id"]))
        run.table("clean.a").put(pl.DataFrame({"id": ["1"], "x": [2]}))
    with pytest.raises(RuntimeError), assets.run("clean.b", reads=["raw.a"]):
        raise RuntimeError("no")


def test_every_run_tells_its_start_and_its_end_as_the_published_schema_wants(
    assets: Assets,
) -> None:
    assets.teller = Teller(["told/events.jsonl"])
    steps(assets)
    told = openlineage.deliver(assets.catalog, assets.root.parent)
    assert told == {"sent": 6, "waiting": 0, "errors": {}}
    text = (assets.root.parent / "told" / "events.jsonl").read_text()
    events = [json.loads(line) for line in text.splitlines()]
    assert [(e["job"]["name"], e["eventType"]) for e in events] == [
        ("collect.a", "START"), ("collect.a", "COMPLETE"), ("clean.a", "START"),
        ("clean.a", "COMPLETE"), ("clean.b", "START"), ("clean.b", "FAIL"),
    ]  # fmt: skip
    seen = set().union(*map(check, events))
    assert {"schema", "columnLineage", "version", "outputStatistics", "errorMessage"} <= seen
    assert events[2]["run"]["runId"] == events[3]["run"]["runId"]
    (clean,) = events[3]["outputs"]
    column = clean["facets"]["columnLineage"]
    (source,) = column["fields"]["id"]["inputFields"]
    assert (source["name"], source["field"]) == ("raw.a", "id")
    assert source["transformations"][0]["subtype"] == "IDENTITY"
    assert column["dataset"][0]["field"] == "x"
    assert [i["facets"]["version"]["datasetVersion"] for i in events[3]["inputs"]] == ["raw.a@1"]
    assert "hush" not in text


def test_a_shop_tells_all_its_steps_and_they_are_valid(folder: Path) -> None:
    with (folder / "shop.toml").open("a") as file:
        file.write('\n[lineage]\nfile = "store/lineage.jsonl"\nnamespace = "corner"\n')
    with Shop.open(folder) as shop:
        shop.run(["clean", "features"], force=True)
    events = [
        json.loads(line) for line in (folder / "store/lineage.jsonl").read_text().splitlines()
    ]
    names = {e["job"]["name"] for e in events if e["eventType"] == "COMPLETE"}
    assert {"clean.events", "features.sequences"} <= names
    seen = set().union(*map(check, events))
    assert {"dataQualityAssertions", "dataQualityMetrics"} <= seen
    (clean,) = [e for e in events if e["job"]["name"] == "clean.events" and e["outputs"]]
    facets = {d["name"]: d["facets"] for d in clean["outputs"]}
    metrics = facets["clean.events"]["dataQualityMetrics"]
    assert metrics["rowCount"] == facets_rows(clean, "clean.events")
    kinds = metrics["columnMetrics"]["kind"]
    assert kinds["nullCount"] + kinds["count"] == metrics["rowCount"]
    assert set(kinds) == {"nullCount", "count", "distinctCount"}  # of no row its value
    (raw,) = [d for d in clean["inputs"] if d["name"] == "raw.events"]
    checks = raw["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert all(check["success"] == ("severity" not in check) for check in checks)
    assert any(check["success"] for check in checks)
    (features,) = [e for e in events if e["job"]["name"] == "features.sequences" and e["outputs"]]
    (read,) = [d for d in features["inputs"] if d["name"] == "clean.events"]
    again = read["inputFacets"]["dataQualityMetrics"]
    assert again["columnMetrics"] == metrics["columnMetrics"]
    assert {d["namespace"] for e in events for d in e["outputs"]} == {"corner"}


def facets_rows(event: dict[str, Any], name: str) -> int:
    (made,) = [d for d in event["outputs"] if d["name"] == name]
    return int(made["outputFacets"]["outputStatistics"]["rowCount"])


def test_an_event_with_a_field_that_the_standard_does_not_know_would_be_found(
    assets: Assets,
) -> None:
    assets.teller = Teller(["events.jsonl"])
    steps(assets)
    openlineage.deliver(assets.catalog, assets.root.parent)
    told = json.loads((assets.root.parent / "events.jsonl").read_text().splitlines()[3])
    told["outputs"][0]["facets"]["schema"]["fields"][0]["kind"] = "x"
    with pytest.raises(AssertionError, match="kind"):
        check(told)


def test_what_an_endpoint_does_not_take_waits_and_goes_out_later_in_order(assets: Assets) -> None:
    with endpoint() as (url, taken, answers):
        assets.teller = Teller([url])
        steps(assets)
        answers += [201, 201, 503]
        told = openlineage.deliver(assets.catalog, assets.root.parent)
        assert (told["sent"], told["waiting"]) == (2, 4)
        assert "503" in told["errors"][url]
        assert openlineage.deliver(assets.catalog, assets.root.parent)["waiting"] == 0
        assert [e["eventType"] for e in taken] == [
            "START", "COMPLETE", "START", "COMPLETE", "START", "FAIL",
        ]  # fmt: skip


def test_a_run_does_not_fail_for_an_endpoint_that_is_down(folder: Path) -> None:
    with endpoint() as (url, taken, _):
        pass  # it is gone now: nobody listens there
    with (folder / "shop.toml").open("a") as file:
        file.write(f'\n[lineage]\nurl = "{url}"\n')
    with Shop.open(folder) as shop:
        assert shop.run(["features"], force=True)["assets"] is not None
        waiting = shop.lineage_send()
        assert (waiting["sent"], taken) == (0, [])
        assert waiting["waiting"] >= 4


def test_others_events_stand_in_our_lineage(assets: Assets, tmp_path: Path) -> None:
    steps(assets)
    field = {"namespace": "shopkeeper", "name": "clean.a", "field": "x"}
    told = {
        "eventType": "COMPLETE", "eventTime": "2026-11-01T00:00:00Z", "producer": "https://other",
        "schemaURL": f"{openlineage.CORE}#/$defs/RunEvent",
        "run": {"runId": "0191f0ac-6bd5-7a1c-8c1e-000000000001"},
        "job": {"namespace": "airflow", "name": "export"},
        "inputs": [{"namespace": "shopkeeper", "name": "clean.a"}],
        "outputs": [{"namespace": "warehouse", "name": "sales", "facets": {"columnLineage": {
            "fields": {"amount": {"inputFields": [field]}}}}}],
    }  # fmt: skip
    file = tmp_path / "others.jsonl"
    file.write_text(json.dumps(told) + "\n")
    counts = {"events": 1, "assets": 2, "edges": 1, "columns": 1}
    assert openlineage.take(assets.catalog, file) == counts
    assert openlineage.take(assets.catalog, file) == counts  # told again: the same edges
    assert len(lineage.external(assets.catalog)) == 1
    assert ("clean.a", "warehouse:sales") in lineage.asset_edges(assets.catalog, "raw.a", "down")
    edges = lineage.column_walk(assets.catalog, "raw.a", "x", direction="down")
    assert ("warehouse:sales", "amount") in {edge.target for edge in edges}
    up = lineage.column_lineage(assets.catalog, "warehouse:sales", "amount")
    assert {"asset": "raw.a", "column": "x"} in up["nodes"]


def test_a_file_that_is_no_lineage_is_told_by_its_line(assets: Assets, tmp_path: Path) -> None:
    file = tmp_path / "others.jsonl"
    file.write_text('\n{"eventTime": "2026-11-01T00:00:00Z"}\n')
    with pytest.raises(InputError, match=r"others\.jsonl:2.*wanted an OpenLineage run event"):
        openlineage.take(assets.catalog, file)
    assert lineage.external(assets.catalog) == []
