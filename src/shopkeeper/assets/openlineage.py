"""Runs told as OpenLineage events (openlineage.io, core 2-0-2), and others' events taken in.

What a run is to tell is queued in the catalogue in the very transaction that records it, so nothing is
lost while an endpoint is down or the program is killed; `deliver` sends what waits, oldest first, and
leaves the rest for the next time at the first failure. Nobody waits for an endpoint: runs are over when
their events go out. An event may arrive twice (a crash after sending); it is the same event then, of the
same run and time.

Only names, types, counts and rules go out: no value of any row.
"""

import json
import os
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from shopkeeper.assets import durable, lineage, profile
from shopkeeper.assets.catalog import Catalog, Version, now, upsert
from shopkeeper.assets.lineage import EXTERNAL, ROWS, Edge
from shopkeeper.assets.schema import external_edges, lineage_outbox
from shopkeeper.errors import InputError

CORE = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
FACETS = "https://openlineage.io/spec/facets/"
PRODUCER = "https://pypi.org/project/shopkeeper/" + metadata.version("shopkeeper")
SECONDS = 3.0  # that an endpoint has to answer
TOGETHER = 500  # events sent in one round
ERROR = 500  # characters of a failure that are kept
_SEVERITY = {"WARN": "warn", "FAIL": "error"}
_KINDS = {"copied": "IDENTITY", "computed": "TRANSFORMATION", "read": "TRANSFORMATION"}


def event(
    kind: str, run_id: str, step: str, at: str, namespace: str, **more: Any
) -> dict[str, Any]:
    """A RunEvent: kind START, COMPLETE or FAIL. `more`: inputs, outputs, run_facets."""
    facets = more.get("run_facets", {})
    return {
        "eventType": kind,
        "eventTime": at,
        "producer": PRODUCER,
        "schemaURL": f"{CORE}#/$defs/RunEvent",
        "run": {"runId": str(UUID(hex=run_id)), "facets": facets},
        "job": {
            "namespace": namespace,
            "name": step,
            "facets": {
                "jobType": _facet(
                    "2-0-4/JobTypeJobFacet",
                    processingType="BATCH",
                    integration="SHOPKEEPER",
                    jobType="STEP",
                )
            },
        },
        "inputs": more.get("inputs", []),
        "outputs": more.get("outputs", []),
    }


def failure(error: str) -> dict[str, Any]:
    """Run facets of a failed run: the kind of failure alone, as its text may quote a cell."""
    error = error.partition(":")[0]
    return {
        "errorMessage": _facet(
            "1-0-1/ErrorMessageRunFacet", message=error, programmingLanguage="PYTHON"
        )
    }


def dataset(version_id: str, version: Version | None, namespace: str, about: Mapping[str, Any] | None = None) -> dict[str, Any]:  # fmt: skip
    """A dataset with the facets that are known of a version: version, schema, owner."""
    asset = version_id.rpartition("@")[0]
    facets = {"version": _facet("1-0-1/DatasetVersionDatasetFacet", datasetVersion=version_id)}
    if version is not None and version.schema:
        fields = [{"name": name, "type": kind} for name, kind in version.schema.items()]
        facets["schema"] = _facet("1-2-0/SchemaDatasetFacet", fields=fields)
    if about and about.get("owner"):
        owners = [{"name": about["owner"], "type": "OWNER"}]
        facets["ownership"] = _facet("1-0-1/OwnershipDatasetFacet", owners=owners)
    return {"namespace": namespace, "name": asset, "facets": facets}


def output(
    version: Version, namespace: str, about: Mapping[str, Any], edges: Iterable[Edge]
) -> dict[str, Any]:
    """As `dataset`, of a version that a run made: its columns' lineage, counts and checks as well."""
    made = dataset(version.id, version, namespace, about)
    fields: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rows = []
    for edge in edges:
        end = {"namespace": namespace, "name": edge.from_asset, "field": edge.from_column}
        if edge.how == "rows":
            kind = {"type": "INDIRECT", "subtype": "FILTER", "description": "", "masking": False}
            rows.append({**end, "transformations": [kind]})
        elif edge.from_column != ROWS and edge.to_column != ROWS:
            kind = {
                "type": "DIRECT",
                "subtype": _KINDS[edge.how],
                "description": "",
                "masking": False,
            }
            fields[edge.to_column].append({**end, "transformations": [kind]})
    if fields or rows:
        made["facets"]["columnLineage"] = _facet(
            "1-2-0/ColumnLineageDatasetFacet",
            fields={name: {"inputFields": found} for name, found in fields.items()},
            dataset=rows,
        )
    if version.rows is not None:
        made["outputFacets"] = {
            "outputStatistics": _facet(
                "1-0-2/OutputStatisticsOutputDatasetFacet",
                rowCount=version.rows,
                size=version.bytes,
            )
        }
    return made


def checked(inputs: Iterable[dict[str, Any]], quality: Version) -> None:
    """Put what was found in raw.<table>, as quality.<table> tells it, on that input."""
    layer, _, table = quality.asset.partition(".")
    rules = quality.notes.get("rules")
    if layer != "quality" or not isinstance(rules, list):
        return
    assertions = [
        {
            "assertion": str(rule["rule"]).partition(":")[0],
            "name": str(rule["rule"]),
            "success": rule["level"] == "PASS",
            "actual": f"{rule.get('count', 0)} of {rule.get('rows', 0)} rows",
        }
        | ({"column": rule["column"]} if rule.get("column") else {})
        | ({"severity": _SEVERITY[rule["level"]]} if rule["level"] in _SEVERITY else {})
        for rule in rules
    ]
    for one in inputs:
        if one["name"] == f"raw.{table}":
            one.setdefault("inputFacets", {})["dataQualityAssertions"] = _facet(
                "1-1-0/DataQualityAssertionsDatasetFacet", assertions=assertions
            )


def measured(told: Mapping[str, Any], version: Version, facet: str) -> dict[str, Any]:
    """A profile of a version (`profile.finish`) as a facet: rows, and of each column nulls, values and
    how many of them are distinct. Least and greatest would be values of rows: they stay here."""
    columns: dict[str, dict[str, Any]] = {}
    for column in told["columns"]:
        counts = {"nullCount": column["nulls"], "count": float(told["rows"] - column["nulls"])}
        if column["distinct"] is not None:
            counts["distinctCount"] = column["distinct"]
        columns[column["column"]] = counts
    return _facet(facet, rowCount=told["rows"], bytes=version.bytes, columnMetrics=columns)


def _facet(schema: str, **values: Any) -> dict[str, Any]:
    name = schema.partition("/")[2]
    return {"_producer": PRODUCER, "_schemaURL": f"{FACETS}{schema}.json#/$defs/{name}", **values}


# what waits, and where it goes


class Teller:
    """What runs of a workspace tell, and to whom.

    Args:
        targets: "http://…" or "https://…", an endpoint that takes POSTed events; else a file, one
            JSON object a line.
        namespace: what jobs and datasets are called under.
    """

    def __init__(self, targets: Sequence[str] = (), namespace: str = "shopkeeper") -> None:
        self.targets = tuple(targets)
        self.namespace = namespace

    def queue(self, connection: sa.Connection, told: Mapping[str, Any]) -> None:
        """Keep an event for every target, in the transaction of what it tells."""
        text = json.dumps(told, ensure_ascii=False)
        for target in self.targets:
            values = {"target": target, "event": text, "queued_at": now(), "tries": 0}
            connection.execute(lineage_outbox.insert().values(**values))

    def start(self, connection: sa.Connection, run_id: str, step: str, at: str) -> None:
        if self.targets:
            self.queue(connection, event("START", run_id, step, at, self.namespace))

    def fail(self, connection: sa.Connection, run_id: str, step: str, error: str) -> None:
        if self.targets:
            facets = failure(error)
            told = event("FAIL", run_id, step, now(), self.namespace, run_facets=facets)
            self.queue(connection, told)

    def complete(
        self,
        connection: sa.Connection,
        catalog: Catalog,
        run_id: str,
        step: str,
        inputs: Iterable[str],
        made: Sequence[tuple[Version, Mapping[str, Any], list[Edge]]],
        profiles: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Args:
        made: versions, what is said of their assets, and the edges of their columns.
        profiles: of versions that were made, by id; those of inputs are in the catalogue.
        """
        if self.targets:
            read = []
            for version_id in sorted(inputs):
                version = catalog.version(version_id)
                read.append(dataset(version_id, version, self.namespace))
                if version is not None and (told := profile.kept(catalog, version_id)):
                    facet = measured(told, version, "1-0-3/DataQualityMetricsInputDatasetFacet")
                    read[-1]["inputFacets"] = {"dataQualityMetrics": facet}
            wrote = []
            for version, about, edges in made:
                checked(read, version)
                wrote.append(output(version, self.namespace, about, edges))
                if (own := profiles.get(version.id)) is not None:
                    facet = measured(own, version, "1-0-1/DataQualityMetricsDatasetFacet")
                    wrote[-1]["facets"]["dataQualityMetrics"] = facet
            ended = event(
                "COMPLETE", run_id, step, now(), self.namespace, inputs=read, outputs=wrote
            )
            self.queue(connection, ended)


def deliver(catalog: Catalog, root: Path) -> dict[str, Any]:
    """Send what waits; {"sent", "waiting", "errors": {target: why}}. Never raises for an endpoint.

    Args:
        root: what file targets are relative to.
    """
    sent, errors = 0, {}
    with durable.lock(root / "store" / ".lineage.lock", wait=True):
        with catalog.reader.connect() as connection:
            targets = (
                connection.execute(sa.select(lineage_outbox.c.target).distinct()).scalars().all()
            )
        for target in sorted(targets):
            done, why = _to(catalog, target, root)
            sent += done
            if why:
                errors[target] = why
    with catalog.reader.connect() as connection:
        waiting = connection.execute(
            sa.select(sa.func.count()).select_from(lineage_outbox)
        ).scalar()
    return {"sent": sent, "waiting": int(waiting or 0), "errors": errors}


def _to(catalog: Catalog, target: str, root: Path) -> tuple[int, str]:
    """How many events of one target went out, and why not more."""
    box, sent = lineage_outbox, 0
    query = sa.select(box.c.seq, box.c.event).where(box.c.target == target).order_by(box.c.seq)
    while True:
        with catalog.reader.connect() as connection:
            waiting = connection.execute(query.limit(TOGETHER)).all()
        if not waiting:
            return sent, ""
        done, why = _send(target, [str(text) for _, text in waiting], root)
        sent += done
        with catalog.write() as connection:
            gone = [seq for seq, _ in waiting[:done]]
            connection.execute(box.delete().where(box.c.seq.in_(gone)))
            if why:
                failed = box.update().where(box.c.seq == waiting[done][0])
                connection.execute(failed.values(tries=box.c.tries + 1, error=why[:ERROR]))
        if why:
            return sent, why


def _send(target: str, events: Sequence[str], root: Path) -> tuple[int, str]:
    if not target.startswith(("http://", "https://")):
        try:
            path = root / target
            durable.make_folder(path.parent)
            with path.open("a", encoding="utf-8") as file:
                file.writelines(text + "\n" for text in events)
                file.flush()
                os.fsync(file.fileno())
            durable.sync_folder(path.parent)
        except OSError as error:
            return 0, str(error)
        return len(events), ""
    for done, text in enumerate(events):
        request = urllib.request.Request(
            target, text.encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            urllib.request.urlopen(request, timeout=SECONDS).close()
        except (urllib.error.URLError, OSError, ValueError) as error:
            return done, f"{type(error).__name__}: {error}"
    return len(events), ""


# from other systems


def take(catalog: Catalog, path: Path, namespace: str = "shopkeeper") -> dict[str, Any]:
    """Take in the lineage that others' events tell; {"events", "assets", "edges", "columns"}.

    A dataset of our own `namespace` is the asset of that name; another is called "<namespace>:<name>".
    The newest event of a job counts for what it made.

    Raises:
        InputError: the file cannot be read, or a line is no OpenLineage run event; nothing is taken.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error
    told = [_checked(text, f"{path}:{n}") for n, text in enumerate(lines, 1) if text.strip()]
    edges: set[tuple[str, str, str]] = set()
    columns: dict[str, list[Edge]] = {}
    ran: dict[str, str] = {}
    for one in sorted(told, key=lambda e: str(e["eventTime"])):
        if one.get("eventType") not in (None, "COMPLETE", "RUNNING", "OTHER"):
            continue
        job = f"{one['job']['namespace']}:{one['job']['name']}"
        inputs = [_name(some, namespace) for some in one.get("inputs") or ()]
        for made in one.get("outputs") or ():
            target = _name(made, namespace)
            fields = ((made.get("facets") or {}).get("columnLineage") or {}).get("fields") or {}
            found = [
                Edge(_name(end, namespace), str(end["field"]), target, str(column), _how(end))
                for column, about in fields.items()
                for end in about.get("inputFields") or ()
            ]
            if found:
                columns[target] = found
            sources = {*inputs, *(edge.from_asset for edge in found)} - {target}
            edges |= {(source, target, job) for source in sources}
            ran[target] = str(one["run"]["runId"])
    ours = set(catalog.asset_names())
    with catalog.write() as connection:
        for source, target, job in sorted(edges):
            key = {"from_asset": source, "to_asset": target, "job": job}
            upsert(connection, external_edges, key, {"run": ran[target], "told_at": now()})
        for target, found in columns.items():
            if target not in ours:  # of ours, our own runs know better
                lineage.record(connection, target + EXTERNAL, ran[target], found)
    names = {name for source, target, _ in edges for name in (source, target)}
    return {
        "events": len(told),
        "assets": len(names),
        "edges": len(edges),
        "columns": sum(map(len, columns.values())),
    }


def _checked(text: str, where: str) -> dict[str, Any]:
    wanted = "wanted an OpenLineage run event: an object with eventTime, run.runId, job.namespace and job.name"  # fmt: skip
    try:
        told = json.loads(text)
        for value in (told["eventTime"], told["run"]["runId"], told["job"]["namespace"], told["job"]["name"]):  # fmt: skip
            if not isinstance(value, str):
                raise TypeError(f"{value!r} is no text")
        for some in (*(told.get("inputs") or ()), *(told.get("outputs") or ())):
            _name(some, "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{wanted}; found {type(error).__name__}: {error}", where=where) from error
    found: dict[str, Any] = told
    return found


def _name(some: Mapping[str, Any], namespace: str) -> str:
    return str(some["name"]) if some["namespace"] == namespace else f"{some['namespace']}:{some['name']}"  # fmt: skip


def _how(end: Mapping[str, Any]) -> str:
    kinds = {(str(t.get("type")), str(t.get("subtype"))) for t in end.get("transformations") or ()}
    if kinds == {("DIRECT", "IDENTITY")}:
        return "copied"
    return "rows" if kinds and all(kind == "INDIRECT" for kind, _ in kinds) else "computed"
