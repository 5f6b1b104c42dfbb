"""Shop: opens a workspace; the Python face of everything the command line and the API do.

    with Shop.open("myshop") as shop:
        shop.run()
        answer = shop.service.recommend(user_id="u1")

What it returns is plain: dicts and lists that can go out as JSON.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import polars as pl

from shopkeeper import config, pipeline
from shopkeeper.analysis.sql import Limits, Result, query
from shopkeeper.assets import (
    about,
    backup,
    contracts,
    durable,
    journal,
    lineage,
    mirror,
    openlineage,
    search,
    upgrade,
    usage,
)
from shopkeeper.assets.catalog import Version
from shopkeeper.assets.contracts import edit as contract_edit
from shopkeeper.assets.contracts import guard, infer
from shopkeeper.assets.diff import column_grades, promised_grades
from shopkeeper.assets.lineage import DEPTH
from shopkeeper.assets.objects import open_store
from shopkeeper.assets.openlineage import Teller
from shopkeeper.assets.store import Assets
from shopkeeper.clean import alerts, identity, repairs
from shopkeeper.clean import quarantine as rejected
from shopkeeper.clean.report import explain
from shopkeeper.collect import webhook
from shopkeeper.collect.environment import filled
from shopkeeper.collect.look import rows_of
from shopkeeper.collect.sources import kinds_of
from shopkeeper.engine.steps import Outcome, Report, Step, run_steps, select, silent
from shopkeeper.errors import Conflict, InputError, NotFound, NotReady
from shopkeeper.evaluation import value, workbench
from shopkeeper.evaluation.trial import asset_name
from shopkeeper.evaluation.tuning import Method
from shopkeeper.governance.access import OWNER
from shopkeeper.models import registry
from shopkeeper.models.export import Bits
from shopkeeper.serving import loop, releases, trace
from shopkeeper.serving.service import Service
from shopkeeper.words import KINDS, TABLES, VISIT, Grade, Purpose

# models in this group wait for [schedule] retrain_minutes in a scheduled run
TRAIN = "train"
MAIN_ONLY = ("collect", "release")  # groups that no branch runs
CACHE_BYTES = 32 << 20  # of pictures shown last
CACHE_PICTURES = 5_000
_SUMMARY = ("kind", "description", "owner", "grade", "contract", "version", "number", "rows", "bytes",
            "created_at", "quality")  # fmt: skip
WRITTEN = (".csv", ".parquet", ".jsonl", ".ndjson")  # suffixes of tables that go out


class Shop:
    """The shop in `folder`."""

    def __init__(self, folder: Path, settings: config.Settings, assets: Assets) -> None:
        self.folder = folder
        self.settings = settings
        self.assets = assets
        self._service: Service | None = None
        self._opening = Lock()
        self._looking = Lock()
        self._pictures: OrderedDict[tuple[str, str], tuple[str, bytes] | None] = OrderedDict()

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open the workspace in `folder`.

        A folder with user_behavior.* and item_data.* needs no shop.toml. NotFound without either.
        """
        home = Path(folder).resolve()
        if not home.is_dir():
            raise NotFound(
                "no such folder", where=str(folder), next=f"make one: shopkeeper init {folder}"
            )
        settings = config.Settings(name=home.name)
        if (home / "shop.toml").exists() or not _plain(home):
            settings = config.load(home)
        with durable.full_disk_told(home):
            url = settings.catalog and filled(settings.catalog, "shop.toml", "catalog")
            copies = int(settings.lake_copies_gb * 2**30)
            assets = Assets(
                home, buckets=settings.buckets, catalog=url, lake=settings.lake, copies=copies
            )
        assets.teller = Teller(settings.lineage.targets, settings.lineage.namespace)
        return cls(home, settings, assets)

    @classmethod
    def upgrade(
        cls, folder: Path | str, *, whole: bool = False, report: Report = silent
    ) -> dict[str, Any]:
        """Bring a workspace of an older version up to date; look whether all its files are there.

        Before the catalogue is changed a copy of it is kept in store/.

        Args:
            whole: read every byte of what is current and compare it with its digest.
        Returns:
            {"from", "to": schema of the catalogue, "copy": of the old one or None, "versions",
            "files", "bytes", "damaged": [{"version", "file", "what"}], "stale": [step], "release"}
        Raises:
            NotReady: nothing has run here yet. Conflict: a run is at work. InputError: a key of
            shop.toml or a contract is not known any more; the catalogue is untouched then.
        """
        home = Path(folder).resolve()
        catalog = home / "store" / "catalog.db"
        url = None
        if (home / "shop.toml").exists():
            settings = config.load(home)
            url = settings.catalog and filled(settings.catalog, "shop.toml", "catalog")
        found = upgrade.found_schema(catalog, url)
        if found is None:
            raise NotReady("nothing has run here yet", where=str(home), next="shopkeeper run")
        contracts.load(home)
        with durable.lock(home / "store" / "run.lock", wait=False, holder="a run"):
            copy = upgrade.keep_copy(catalog, url)
            with cls.open(home) as shop:
                checked = upgrade.verify(
                    shop.assets,
                    whole=whole,
                    progress=lambda done, total, text: report("check", done, total, text),
                )
                steps = shop.status()
        return {
            "from": found,
            "to": upgrade.found_schema(catalog, url),
            "copy": str(copy) if copy else None,
            **checked,
            "stale": [s["step"] for s in steps["steps"] if s["state"] in ("stale", "missing")],
            "release": steps["release"],
        }

    @classmethod
    def move_lake(cls, folder: Path | str, *, report: Report = silent) -> dict[str, Any]:
        """Move the tables, every version, to where `lake` of shop.toml says; see `mirror.move`.

        Nothing reads or writes meanwhile: stop the server first. Conflict: a run is at work.
        """
        home = Path(folder).resolve()
        settings = config.load(home)
        url = settings.catalog and filled(settings.catalog, "shop.toml", "catalog")
        lake = mirror.below(home / "store")
        here = Assets(home, buckets=settings.buckets, catalog=url, lake=mirror.place(lake))
        with (
            closing(here),
            durable.lock(home / "store" / "run.lock", wait=False, holder="a run"),
            here.alone("move-lake", {"from": here.lake, "to": settings.lake}),
            here.committing(),
        ):
            return mirror.move(
                lake,
                settings.lake.rstrip("/"),
                here._workspace(),
                lambda done, total, text: report("move", done, total, text),
            )

    def lake(self) -> dict[str, Any]:
        """Where the tables lie; see `mirror.about`."""
        return mirror.about(mirror.below(self.assets.root), self.assets.lake)

    def close(self) -> None:
        if self._service is not None:
            self._service.close()
        self.assets.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # the loop

    @property
    def steps(self) -> tuple[Step, ...]:
        there = {*kinds_of(self.settings, self.folder)}
        there |= {table for table in KINDS if self.assets.exists(f"raw.{table}")}
        return pipeline.steps(self.settings, sorted(there))

    def run(
        self,
        names: Sequence[str] = (),
        *,
        force: bool = False,
        scheduled: bool = False,
        accept_change: bool = False,
        report: Report = silent,
    ) -> dict[str, Any]:
        """Run the loop, or the steps or groups named; only what is not fresh.

        Args:
            force: run the named steps even when fresh, and read raw files from the start.
            scheduled: leave models alone that are younger than [schedule] retrain_minutes.
            accept_change: breaking changes of contracts are meant; see `contracts.guard`.
        Raises:
            InputError: a contract has changed so that it breaks, told before the first step.
            Conflict: another run is at work here. NotFound, InputError: a name in shop.toml's
                `models` is none, told before the first step.
        """
        chosen = select(self.steps, names)
        for model in self.settings.models:
            registry.resolve(model, self.folder)
        if scheduled:
            chosen = [step for step in chosen if not (step.group == TRAIN and self._young(step))]
        started = time.monotonic()
        catalog, main = self.assets.catalog, self.assets.catalog.branch is None
        cleaned = [step.name.partition(".")[2] for step in chosen if step.group == "clean"]
        try:
            with durable.full_disk_told(self.assets.root), self._alone():
                changed = guard.stop_breaking(
                    catalog, self.folder, cleaned, accept=accept_change or not main
                )
                outcomes = run_steps(
                    chosen, self.folder, self.settings, self.assets, force=force, report=report
                )
                if scheduled and self._values_due():
                    outcomes += self._measure(report)
        finally:
            if main and self.assets.teller.targets:
                openlineage.deliver(catalog, self.folder)
            if main:
                alerts.after_run(catalog, self.settings.alerts, self.settings.name, self.folder)
        if self._service is not None:
            self._service.reload()
        told = self._told(outcomes, time.monotonic() - started)
        return told | {"contracts": changed}

    def do(self, steps: Sequence[Step], report: Report = silent) -> dict[str, Any]:
        """Run these steps, in this order, as `run` does its own; for what is no part of the loop.

        Conflict: a run is at work here.
        """
        started = time.monotonic()
        try:
            with durable.full_disk_told(self.assets.root), self._alone():
                outcomes = run_steps(steps, self.folder, self.settings, self.assets, report=report)
        finally:
            if self.assets.teller.targets:
                openlineage.deliver(self.assets.catalog, self.folder)
        if self._service is not None:
            self._service.reload()
        return self._told(outcomes, time.monotonic() - started)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside, no other run is at work here. Conflict: one is."""
        path, holder = self.assets.root / "run.lock", "another run"
        with (
            durable.lock(path, wait=False, holder=holder),
            self.assets.catalog.lock("run", wait=False, holder=holder, shared=False),
        ):
            yield

    def _young(self, step: Step) -> bool:
        """Whether all that the step makes is there and younger than it may be."""
        limit = self.settings.schedule.retrain_minutes * 60
        for name in step.makes:
            version = self.assets.catalog.current(name)
            if version is None or _age_seconds(version) > limit:
                return False
        return True

    def _told(self, outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
        made = {}
        for outcome in outcomes:
            for version in outcome.made:
                made[version.asset] = {
                    "version": version.id,
                    "rows": version.rows,
                    "seconds": round(outcome.seconds, 3),
                }
        board = self.leaderboard()
        now = releases.pointer(self.assets.root / "releases")
        last = [v.run_id for outcome in outcomes for v in outcome.made]
        return {
            "run_id": last[-1] if last else None,
            "assets": made,
            "steps": [
                {"step": o.step, "state": o.state, "seconds": round(o.seconds, 3), "notes": o.notes}
                for o in outcomes
            ],
            "leaderboard": board["leaderboard"] if board else [],
            "release": now.release if now else None,
            "seconds": round(seconds, 3),
        }

    def status(self) -> dict[str, Any]:
        """What is fresh, stale, missing or failed, and what to do next."""
        catalog = self.assets.catalog
        told = []
        for step in self.steps:
            last = next(iter(catalog.runs(step=step.name, limit=1)), None)
            told.append(
                {
                    "step": step.name,
                    "state": self._state(step, last),
                    "last_run": last["started_at"] if last else None,
                    "seconds": last["seconds"] if last else None,
                    "error": last["error"] if last and last["outcome"] == "failed" else None,
                }
            )
        states = {row["state"] for row in told}
        promises = about.freshness(catalog)
        overdue = [{"asset": name, **one} for name, one in promises.items() if one["overdue"]]
        now = releases.pointer(self.assets.root / "releases")
        if "failed" in states:
            bad = next(row for row in told if row["state"] == "failed")
            error = str(bad["error"]).removeprefix("shopkeeper.errors.")
            following = f"{bad['step']} failed: {error}; put it right, then: shopkeeper run"
        elif states & {"stale", "missing"}:
            following = "bring it up to date with: shopkeeper run"
        elif now is None:
            following = "no release serves yet: shopkeeper run"
        elif overdue:
            late = overdue[0]
            following = (
                f"{late['asset']} is {late['age_hours'] or 0:,.1f} h old and promised to be no older "
                f"than {late['fresh_hours']:g} h: shopkeeper run, or bring newer data"
            )
        else:
            following = "all is fresh; serve it with: shopkeeper serve"
        return {
            "shop": self.settings.name,
            "release": now.release if now else None,
            "steps": told,
            "overdue": overdue,
            "next": following,
            "schedule": self._schedule(),
        }

    def _state(self, step: Step, last: dict[str, Any] | None) -> str:
        if last is not None and last["outcome"] == "failed":
            stopped = (last["error"] or "").startswith("KeyboardInterrupt")
            return "stale" if stopped else "failed"  # Ctrl-C is no failure
        if any(not self.assets.exists(name) for name in step.needs):
            return "idle" if last is None else "missing"
        if step.outside:
            return "missing" if last is None else "looks each time"
        reads = [name for name in step.reads if self.assets.exists(name)]
        key = self.assets.run_key(
            step.name,
            reads,
            dict(step.parameters(self.settings, self.folder)),
            step.code,
        )
        if self.assets.fresh(key) is not None:
            return "fresh"
        return "missing" if last is None else "stale"

    def _schedule(self) -> dict[str, Any] | None:
        """What the last scheduled run left behind (store/schedule.json), or None."""
        path = self.assets.root / "schedule.json"
        if not path.exists():
            return None
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return told

    # what there is

    def assets_list(self, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Assets, all or those named: name, layer, kind, description, owner, grade, current version."""
        return self.assets.catalog.listed(names)

    def asset(self, name: str) -> dict[str, Any]:
        """One asset with schema, history and the runs around it. NotFound names the nearest."""
        self._record(name)
        history = self.assets.catalog.history(name)
        current = history[0] if history else None
        grades = column_grades(self.assets, name, list(current.schema if current else {}))
        told = about.about(self.assets.catalog, name, grades)
        return {
            **self.assets.catalog.listed([name])[0],
            **{key: told[key] for key in ("tags", "terms", "columns", "freshness")},
            "schema": current.schema if current else {},
            "quality_report": current.quality if current else None,
            "notes": current.notes if current else {},
            "history": [_version(v) for v in history[:50]],
            "made_from": self.assets.catalog.made_from(current.id) if current else [],
            "used_by": self.assets.catalog.used_by(current.id) if current else [],
            "run": self.assets.catalog.run(current.run_id) if current else None,
        }

    def lineage(
        self, name: str | None = None, *, depth: int = DEPTH, direction: str = "both"
    ) -> dict[str, Any]:
        """{"nodes": [...], "edges": [{"from", "to"}]} of current versions; around `name`, or all.

        Edges are what runs really read when they made the current versions, and what other systems
        told of theirs (`lineage import`; layer "external").

        Args:
            direction: "up" to what `name` was made from, "down" to what was made from it, or "both".
            depth: so many hops.
        """
        catalog = self.assets.catalog
        if name is None:
            edges = lineage.all_asset_edges(catalog)
            records = catalog.listed()
        else:
            edges = set()
            for way in lineage.ways(direction):
                edges |= lineage.asset_edges(catalog, name, way, depth)
            records = catalog.listed({name, *(end for edge in edges for end in edge)})
        nodes = {r["name"]: r for r in records if r["version"] is not None}
        others = {end for edge in edges for end in edge} - nodes.keys()
        if name is not None and name not in nodes and name not in others:
            self._record(name)
        nodes |= {n: dict.fromkeys(_SUMMARY) | {"name": n, "layer": "external"} for n in others}
        return {
            "nodes": [{**nodes[n], "focus": n == name} for n in sorted(nodes)],
            "edges": [{"from": a, "to": b} for a, b in sorted(edges)],
        }

    def column_lineage(
        self,
        name: str,
        column: str | None = None,
        *,
        depth: int = DEPTH,
        direction: str = "up",
        rows: bool = False,
    ) -> dict[str, Any]:
        """{"nodes": [{"asset", "column"}], "edges": [{"from", "to", "how"}]}; see assets.lineage.

        Args:
            column: None: all columns of the asset, and what decided on its rows.
            rows: follow what decided which rows there are, not values alone.
        """
        return lineage.column_lineage(
            self.assets.catalog, name, column, direction=direction, depth=depth, rows=rows
        )

    def lineage_send(self) -> dict[str, Any]:
        """Send the OpenLineage events that wait: {"sent", "waiting", "errors": {target: why}}."""
        return openlineage.deliver(self.assets.catalog, self.folder)

    def lineage_import(self, file: Path) -> dict[str, Any]:
        """Take in others' OpenLineage events, one a line; {"events", "assets", "edges", "columns"}."""
        return openlineage.take(self.assets.catalog, file, self.settings.lineage.namespace)

    def trace_answer(self, answer_id: str) -> dict[str, Any]:
        """From an answer to its release, models, training snapshot and raw rows; see serving.trace."""
        answers = None if self._service is None else self._service.answers
        return trace.trace_answer(self.assets, self.settings, answer_id, answers)

    def trace_row(self, file: str, line: int) -> dict[str, Any]:
        """From a raw row to every version, model and release that it reached; see serving.trace."""
        return trace.trace_row(self.assets, file, line)

    def trace_event(self, event_id: str) -> dict[str, Any]:
        """As `trace_row`, of all rows with that event id."""
        return trace.trace_event(self.assets, event_id)

    def preview(self, name: str, n: int = 20) -> dict[str, Any]:
        """The first rows of a table, or the files of an asset that is a folder."""
        self._record(name)
        version = self.assets.current(name)
        if version.delta_version is None:
            folder = self.assets.folder(name, by=OWNER, purpose=Purpose.ANALYSE)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            rows = [
                {"file": str(path.relative_to(folder)), "bytes": path.stat().st_size}
                for path in files[:n]
            ]
            return {"columns": ["file", "bytes"], "rows": rows}
        rows_ = self.assets.scan(name, by=OWNER, purpose=Purpose.ANALYSE).head(n)
        frame = rows_.drop(pl.selectors.binary()).collect()
        return {"columns": frame.columns, "rows": json.loads(frame.write_json())}

    def runs(self, limit: int = 100, step: str | None = None) -> list[dict[str, Any]]:
        """The newest runs first, of one step or of all.

        Returns:
            [{"id", "step", "outcome", "started_at", "seconds", "cpu_seconds", "peak_rss_mb", "error",
            "inputs", "outputs", "driver", "workers", "retried": tasks that were tried again}]
        """
        catalog = self.assets.catalog
        kept = ("id", "step", "outcome", "started_at", "seconds", "cpu_seconds", "peak_rss_mb", "error")  # fmt: skip
        return [
            {
                **{key: run[key] for key in kept},
                "inputs": catalog.inputs(run["id"]),
                "outputs": catalog.outputs(run["id"]),
                "driver": run["notes"].get("driver", "local"),
                "workers": run["notes"].get("workers", 1),
                "retried": run["notes"].get("retried", 0),
            }
            for run in catalog.runs(step=step, limit=limit)
        ]

    def find(
        self,
        query: str,
        limit: int = 20,
        *,
        kind: str | None = None,
        layer: str | None = None,
        tag: str | None = None,
    ) -> list[dict[str, Any]]:
        """Assets for a query in English or Chinese, best first; see `assets.search.find`."""
        return search.find(self.assets.catalog, query, limit, kind=kind, layer=layer, tag=tag)

    def profile(self, name: str, version: str | int | None = None) -> dict[str, Any]:
        """What stands in the columns of a table; see `Assets.profile`."""
        self._record(name)
        return self.assets.profile(name, version, by=OWNER, purpose=Purpose.ANALYSE)

    def describe(
        self,
        name: str,
        column: str | None = None,
        *,
        description: str | None = None,
        owner: str | None = None,
        tags: Sequence[str] | None = None,
        terms: Sequence[str] | None = None,
        grade: str | None = None,
        fresh_hours: float | None = None,
    ) -> dict[str, Any]:
        """Say something of an asset or a column; see `assets.about.describe`. As `about` then."""
        record = self._record(name)
        if column is None:
            plain = self.assets.catalog.asset(name, told=False) or record
            promised = Grade(plain["grade"])
        else:
            promised = promised_grades(self.assets, name, [column])[column]
        about.describe(
            self.assets.catalog, name, column, description=description, owner=owner, tags=tags,
            terms=terms, grade=grade, fresh_hours=fresh_hours, promised=promised,
        )  # fmt: skip
        return self.about(name)

    def about(self, name: str) -> dict[str, Any]:
        """What is said of an asset and its columns; see `assets.about.about`."""
        version = self._record(name)["version"]
        grades = column_grades(self.assets, name, list(version.schema if version else {}))
        return about.about(self.assets.catalog, name, grades)

    def glossary(self) -> list[dict[str, Any]]:
        """All terms: {"term", "definition", "definition_zh", "synonyms", "built_in", "used_by"}."""
        return about.listed(self.assets.catalog)

    def define(self, term: str, definition: str, synonyms: Sequence[str] = ()) -> dict[str, Any]:
        """Put a term into the glossary, or in the place of the one that is called so."""
        return about.define(self.assets.catalog, term, definition, synonyms)

    def undefine(self, term: str) -> None:
        """Take a term of the workspace out of the glossary."""
        about.undefine(self.assets.catalog, term)

    def usage(self, name: str) -> dict[str, Any]:
        """Who read an asset, for what, how often; see `assets.usage.used`."""
        self._record(name)
        self.assets.reads.flush()
        return usage.used(self.assets.catalog, name)

    def cost(self, name: str) -> dict[str, Any]:
        """CPU, time, memory and bytes that an asset took; see `assets.usage.cost`."""
        self._record(name)
        return usage.cost(self.assets.catalog, name)

    def history(self, name: str) -> list[dict[str, Any]]:
        """All versions of an asset, newest first."""
        self._record(name)
        return [_version(version) for version in self.assets.catalog.history(name)]

    def export_asset(self, name: str, out: Path, version: str | None = None) -> dict[str, Any]:
        """Write a table to `out` (.csv, .parquet or .jsonl by its suffix)."""
        frame = self.assets.scan(name, by=OWNER, purpose=Purpose.ANALYSE, version=version)
        write_table(frame.collect(), out)
        return {"asset": self.assets.version(name, version).id, "out": str(out)}

    def diff(
        self, name: str, a: int, b: int | None = None, keys: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """What version `b` (default: the current one) has that `a` has not; see `Assets.diff`."""
        self._record(name)
        return self.assets.diff(name, a, b, by=OWNER, purpose=Purpose.ANALYSE, keys=keys)

    def restore(self, name: str, version: int) -> dict[str, Any]:
        """Make an old version current again; see `Assets.restore`."""
        self._record(name)
        with self._alone():
            return _version(self.assets.restore(name, version))

    def tidy(
        self, *, keep_last: int = 10, days: float = 30, dry_run: bool = False
    ) -> dict[str, Any]:
        """Give up old versions that nothing stands on, merge small files, delete what is unneeded.

        Versions that a release on disk was made of are never given up.

        Returns:
            {"dry_run", "removed": [{"version", "rows", "bytes", "created_at"}], "kept": {reason:
            versions}, "merged_files", "deleted_files", "deleted_bytes", "deleted_deliveries": rows of
            webhooks, collected and older than `days`}
        """
        pinned = releases.versions_of(self.releases)
        with self._alone():
            told = self.assets.retain(
                keep_last=keep_last, days=days, pinned=pinned, dry_run=dry_run
            )
            merged = 0
            for record in self.assets.catalog.assets():
                if record["kind"] == "table" and record["version"] is not None and not dry_run:
                    files = self.assets.compact(record["name"])["files"]
                    merged += files["before"] - files["after"]
            gone = self.assets.vacuum(dry_run=dry_run)
            taken = webhook.prune(
                self.assets, self.settings, self.folder, days=days, dry_run=dry_run
            )
        return {
            **told,
            "merged_files": merged,
            "deleted_files": len(gone["files"]),
            "deleted_bytes": gone["bytes"],
            "deleted_deliveries": taken,
        }

    # branches: runs that change nothing until they are promoted

    @contextmanager
    def branch(self, name: str) -> Iterator["Shop"]:
        """The shop as the branch `name` sees it, a new one where there is none.

        What it runs writes versions that only the branch sees, until `promote` or `drop`. Its steps
        are those from cleaning to the index: raw data is collected, and a release made, on the main
        line alone.
        """
        with self.assets.branch(name) as view:
            yield _Branch(self.folder, self.settings, view)

    def branches(self) -> list[dict[str, Any]]:
        """Open branches; see `Assets.branches`."""
        return self.assets.branches()

    def branch_diff(self, name: str) -> list[dict[str, Any]]:
        """For each asset that the branch wrote, how it differs from main's; `Assets.branch_diff`."""
        return self.assets.branch_diff(name, by=OWNER, purpose=Purpose.ANALYSE)

    def promote(self, name: str) -> list[str]:
        """Make all that the branch wrote current on main, whole or not at all: their ids.

        Conflict: main has moved on since the branch wrote. NotFound: no such branch.
        """
        with self._alone():
            return [version.id for version in self.assets.promote(name)]

    def drop_branch(self, name: str) -> list[str]:
        """Give up the branch and the versions only it has: their ids. NotFound: no such branch."""
        return self.assets.drop(name)

    def dry_run(
        self, names: Sequence[str] = (), *, force: bool = False, report: Report = silent
    ) -> dict[str, Any]:
        """Run steps in a branch of their own, tell what would change, and drop it.

        Returns:
            What `run` tells, and "changes": see `branch_diff`.
        """
        name = f"dry-run-{uuid4().hex[:12]}"
        try:
            with self.branch(name) as view:
                told = view.run(names, force=force, report=report)
            return {**told, "changes": self.branch_diff(name)}
        finally:
            self.assets.drop(name)

    def backup(
        self, to: str, *, verify: bool = True, progress: backup.Progress = backup.silent
    ) -> dict[str, Any]:
        """Keep the whole workspace at `to`, a folder or a bucket; see `assets.backup`."""
        about = {"shop": self.settings.name, "shopkeeper": metadata.version("shopkeeper")}
        return backup.backup(
            self.assets, self.folder, open_store(to), about=about, verify=verify, progress=progress
        )

    def _record(self, name: str) -> dict[str, Any]:
        found = self.assets.catalog.asset(name)
        if found is None:
            near = search.find(self.assets.catalog, name, limit=1)
            known = f"; did you mean {near[0]['name']!r}?" if near else ""
            raise NotFound(
                f"no asset {name!r}{known}",
                where="catalogue",
                next="see them with: shopkeeper assets ls",
            )
        return found

    # identity

    def identities(self, user_id: str) -> dict[str, Any]:
        """All ids of a user's person, with the evidence of each link; see `clean.identity`."""
        return identity.identities(self.assets, user_id)

    def unlink(self, a: str, b: str, why: str, by: str = OWNER.name) -> dict[str, Any]:
        """Say for good that two user ids are two people; the next run parts them."""
        return identity.decide(self.assets, a, b, identity.APART, why, by)

    def relink(self, a: str, b: str, why: str, by: str = OWNER.name) -> dict[str, Any]:
        """Take an `unlink` back: what the keys say counts again from the next run on."""
        return identity.decide(self.assets, a, b, identity.FREE, why, by)

    # quality

    def quality(self) -> list[dict[str, Any]]:
        """The quality report of every cleaned table: counts, score, and every rule."""
        told = []
        for table in TABLES:
            version = self.assets.catalog.current(f"quality.{table}")
            if version is not None:
                unread = self.assets.catalog.current(f"unread.{table}")
                told.append(
                    {
                        "table": table,
                        "version": version.id,
                        "created_at": version.created_at,
                        "unread": unread.rows if unread else 0,
                        **version.notes,
                    }
                )
        return told

    def values(self, name: str | None = None) -> list[dict[str, Any]]:
        """What each asset (or one) and its columns are worth, and what they cost; most worth first.

        Returns:
            [{"asset", "column" (null: all of it), "metric", "gain", "low", "high", "worth", "base",
            "method", "people", "fits", "cpu_seconds", "bytes", "measured_at"}]; none before
            `measure_values`
        """
        if not self.assets.exists(value.ASSET):
            return []
        rows = self.assets.read(value.ASSET, by=OWNER, purpose=Purpose.ANALYSE)
        return rows.filter(pl.col("asset") == name).to_dicts() if name else rows.to_dicts()

    def measure_values(self, report: Report = silent) -> dict[str, Any]:
        """Measure what assets are worth, within [value] max_minutes; see evaluation.value.

        Returns:
            {"measured", "left_for_later"}: things left out one by one, and those the time did not reach.
        """
        with durable.full_disk_told(self.assets.root), self._alone():
            done = self._measure(report)
        if done[0].state == "idle":
            raise NotReady("there is nothing to measure yet", next="shopkeeper run")
        return done[0].notes

    def _measure(self, report: Report) -> list[Outcome]:
        step = pipeline.values(self.settings)
        return run_steps([step], self.folder, self.settings, self.assets, force=True, report=report)

    def _values_due(self) -> bool:
        """Whether the last measuring is older than [value] every_hours, and somebody can be asked."""
        hours = self.settings.value.every_hours
        if not hours or not self.leaderboard():
            return False
        last = self.assets.catalog.current(value.ASSET)
        return last is None or _age_seconds(last) > 3600 * hours

    def loop_quality(self) -> list[dict[str, Any]]:
        """Is what comes back from serving fit to learn from: every check, worst first, with its history.

        Returns:
            [{"check", "level", "value", "low", "high", "wanted", "reason", "detail", "at", "history":
            [{"at", "level", "value"}]}]; no rows before the first run
        """
        if not self.assets.exists(loop.ASSET):
            return []
        return loop.told(self.assets.read(loop.ASSET, by=OWNER, purpose=Purpose.ANALYSE))

    def quarantine(self) -> list[dict[str, Any]]:
        """Quarantined rows by table and rule: count, and where the first one stands."""
        told = []
        for table in TABLES:
            name = f"quarantine.{table}"
            if self.assets.exists(name):
                rows = self.assets.read(name, by=OWNER, purpose=Purpose.ANALYSE)
                told += [{"table": table, **row} for row in explain(rows).to_dicts()]
            name = f"unread.{table}"
            if self.assets.exists(name):
                rows = self.assets.read(name, by=OWNER, purpose=Purpose.ANALYSE)
                told += [{"table": table, **row} for row in explain(rows).to_dicts()]
        return told

    def quarantined_rows(
        self, table: str, rule: str | None = None, n: int = 20
    ) -> list[dict[str, Any]]:
        """Rows in quarantine, whole, with rule and detail."""
        if table not in TABLES:
            raise InputError(f"no table {table!r}", next=f"there are: {', '.join(TABLES)}")
        told: list[dict[str, Any]] = []
        for name in (f"quarantine.{table}", f"unread.{table}"):
            if self.assets.exists(name):
                rows = self.assets.scan(name, by=OWNER, purpose=Purpose.ANALYSE)
                rows = rows.filter(pl.col("rule") == rule) if rule else rows
                frame = rows.drop(pl.selectors.binary()).head(n - len(told)).collect()
                told += json.loads(frame.write_json())
        return told

    def quality_history(self, asset: str | None = None) -> list[dict[str, Any]]:
        """The quality of a table, or of all, over time; see `assets.journal.history`.

        Returns:
            [{"asset", "version", "created_at", "rows", "score", "stopped", "watched", "rules": [{
            "rule", "column", "level", "count", "rows", "value"}]}], oldest first
        """
        names = [asset] if asset is not None else [f"clean.{table}" for table in TABLES]
        table = names[0].rpartition(".")[2]
        if asset is not None and table not in TABLES:
            raise NotFound(f"no table {asset!r}", next=f"there are: {', '.join(TABLES)}")
        found = [one for name in names for one in journal.history(self.assets.catalog, name)]
        return sorted(found, key=lambda one: str(one["created_at"]))

    def quarantine_repair(
        self, table: str, rule: str, set: str | Sequence[str], why: str = "", by: str = OWNER.name
    ) -> dict[str, Any]:
        """Have cleaning put rows right that it quarantines under `rule`; see `clean.repairs`.

        Args:
            set: "column=text", "column=" (no value) or "column:=SQL over the row's own columns".
            why: the reason; it is kept with the decision, and needed.
        Returns:
            the decision, {"rows", "examples"} it was tried on, and what to do next
        """
        repair, tried = rejected.propose(self.assets, table, rule, rejected.spelt(set))
        told = repairs.decide(self.assets, table, repair, repairs.MADE, why, by)
        return {**told, **tried, "next": f"shopkeeper quarantine replay {table} --rule {rule}"}

    def quarantine_try(self, table: str, rule: str, set: str | Sequence[str]) -> dict[str, Any]:
        """{"rows", "examples"}: what a repair would set; nothing is kept."""
        return rejected.propose(self.assets, table, rule, rejected.spelt(set))[1]

    def quarantine_undo(
        self, table: str, repair: str, why: str, by: str = OWNER.name
    ) -> dict[str, Any]:
        """Take a repair back; from the next run on its rows are in quarantine again."""
        told = repairs.undo(self.assets, table, repair, why, by)
        return {**told, "next": f"shopkeeper quarantine replay {table}"}

    def quarantine_repairs(self, table: str | None = None) -> list[dict[str, Any]]:
        """[{"table", "repair", "rule", "set", "why", "by", "at", "undone", "repaired"}], oldest first."""
        return rejected.listed(self.assets, table)

    def quarantine_replay(
        self, table: str, rule: str | None = None, report: Report = silent
    ) -> dict[str, Any]:
        """Clean `table` again as its repairs, its contract and what it refers to are now.

        Returns:
            {"replayed": rows that were in quarantine (under `rule`), "clean", "merged", "still"};
            clean + merged + still = replayed
        """
        before = rejected.in_quarantine(self.assets, table)
        if rule is not None:
            before = before.filter(pl.col("rule") == rule)
        self.run([f"clean.{table}"], force=True, report=report)
        return rejected.became(self.assets, table, before)

    # contracts

    def contracts(self) -> list[dict[str, Any]]:
        """Every table's contract: {"table", "version", "origin", "built_in"}."""
        return contract_edit.listed(self.folder)

    def contract(self, table: str) -> dict[str, Any]:
        """{"table", "yaml", "origin", "columns"} of one contract. NotFound names those there are."""
        return contract_edit.document(self.folder, table)

    def contract_check(self, text: str, table: str | None = None) -> dict[str, Any]:
        """What is wrong with a contract, by line, and what it would change; see contracts.edit."""
        return contract_edit.check(text, self.folder, table)

    def contract_diff(self, a: str, b: str) -> list[dict[str, Any]]:
        """What contract `b` promises otherwise than `a`: [{"change", "column", "breaking", "detail"}].

        Each is a file, or a table's: "events", "events@built-in", "clean.events@3"; see `contracts.guard`.
        """
        old, new = (guard.named(one, self.folder, self.assets.catalog) for one in (a, b))
        return contract_edit.compare(old, new)

    def contract_infer(self, what: str, rows: int = 1_000_000) -> str:
        """A first contract of a file or of an asset, drafted from at most `rows` of its rows, as YAML."""
        path = Path(what)
        if path.is_file() or not self.assets.exists(what):
            name = path.name.partition(".")[0]
            return infer.draft(rows_of(path, rows), name)
        version = self.assets.current(what)
        scan = self.assets.scan(what, by=OWNER, purpose=Purpose.ANALYSE)
        frame = scan.drop(pl.selectors.binary()).head(rows).collect()
        table = what.partition(".")[2]
        known = contracts.load(self.folder)[table] if table in TABLES else None
        return infer.draft(frame, table, known=known, rows=version.rows)

    def contract_pending(self, table: str) -> dict[str, Any] | None:
        """What changed in a contract since its table was last cleaned, and whether the next run
        stops for it; see `contracts.guard.pending`. None: nothing, or the contract is not valid."""
        self.contract(table)
        try:
            return guard.pending(self.assets.catalog, self.folder, table)
        except InputError:
            return None

    def contract_accept(self, table: str, digest: str, by: str = OWNER.name) -> dict[str, Any]:
        """Say that the pending change of a contract is meant; see `contracts.guard.accept`."""
        self.contract(table)
        return guard.accept(self.assets.catalog, self.folder, table, digest, by)

    def contract_save(self, table: str, text: str) -> dict[str, Any]:
        """Make `text` the contract of `table`, keeping the file before it; InputError: not valid."""
        return contract_edit.save(text, self.folder, table)

    def sql(self, text: str, limits: Limits = Limits(), *, apart: bool = True) -> Result:
        """One SELECT over assets, such as "SELECT count(*) FROM clean.events"; see analysis.sql.

        Args:
            apart: in a process of its own; False is for queries that are our own, not somebody's.
        """
        return query(
            self.assets, text, by=OWNER, limits=limits, timezone=self.settings.timezone, apart=apart
        )

    # models and releases

    def leaderboard(self) -> dict[str, Any] | None:
        """{"leaderboard", "groups", "split", "curves", "cards", …}, or None before the first."""
        if not self.assets.exists("reports.leaderboard"):
            return None
        told: dict[str, Any] = json.loads(
            (self.report_folder() / "leaderboard.json").read_text(encoding="utf-8")
        )
        return told

    def card(self, model: str) -> dict[str, Any]:
        """The run card of a trained model; see evaluation.cards."""
        return workbench.card(self.assets, asset_name(model))

    def export_model(self, model: str, out: Path, bits: Bits = "float") -> dict[str, Any]:
        """Write a trained model as ONNX into the folder `out`; see evaluation.workbench."""
        return workbench.export(self.assets, self.folder, asset_name(model), out, bits)

    def compress(self, model: str, report: Report = silent) -> list[dict[str, Any]]:
        """Measure every smaller form of a trained model: bytes, milliseconds, quality."""
        self._asked_for(workbench.compression(asset_name(model)), report)
        return workbench.read_compression(self.assets, asset_name(model))

    def tune(
        self, model: str, *, space: Sequence[str] = (), method: Method = "tpe", trials: int = 20,
        minutes: float = 0.0, workers: int = 1, ray: str | None = None, report: Report = silent,
    ) -> dict[str, Any]:  # fmt: skip
        """Search a model's settings on validation; a search that was stopped goes on."""
        registry.resolve(model, self.folder)
        step = workbench.tuning_step(
            model, space=space, method=method, trials=trials, minutes=minutes, workers=workers, ray=ray
        )  # fmt: skip
        self._asked_for(step, report)
        return workbench.read_tuning(self.assets, asset_name(model))

    def _asked_for(self, step: Step, report: Report) -> None:
        """Run a step that is no part of the loop."""
        with durable.full_disk_told(self.assets.root), self._alone():
            (done,) = run_steps(
                [step], self.folder, self.settings, self.assets, force=True, report=report
            )
        if done.state == "idle":
            raise NotReady(
                "there is nothing to work on yet", where=step.name, next="run: shopkeeper run"
            )

    def report_folder(self) -> Path:
        """Where the leaderboard's files are: leaderboard.<lang>.svg, curves.<lang>.svg, .csv."""
        return self.assets.folder("reports.leaderboard", by=OWNER, purpose=Purpose.ANALYSE)

    @property
    def releases(self) -> Path:
        """The folder of releases, for serving.releases."""
        return self.assets.root / "releases"

    @property
    def service(self) -> Service:
        """The service over the current release, opened once. NotReady without a release."""
        if self._service is None:
            with self._opening:
                if self._service is None:
                    self._service = Service.open(self.folder, self.settings)
        return self._service

    def recommend_all(
        self, out: Path, k: int = 10, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Write k recommendations for every user to `out` (.csv, .parquet, .jsonl); the users.

        Visits of people who are nobody's user are left out: they cannot be reached any more.
        Batch answers explore nothing and are no answers that feedback could join to.
        """
        users = self.assets.scan("features.sequences", by=OWNER, purpose=Purpose.SERVE)
        known = ~pl.col("user_id").str.starts_with(VISIT)
        ids = users.select("user_id").filter(known).collect()["user_id"].sort().to_list()
        rows: list[tuple[str, int, str, float, str]] = []
        for place, (user, hits) in enumerate(self.service.batch(ids, k)):
            rows += [(user, hit.position, hit.item_id, hit.score, hit.source) for hit in hits]
            if progress is not None and place % 100 == 0:
                progress(place, len(ids))
        names = ["user_id", "position", "item_id", "score", "source"]
        write_table(pl.DataFrame(rows, schema=names, orient="row"), out)
        return len(ids)

    def image(self, item_id: str) -> tuple[str, bytes] | None:
        """(format, bytes) of the item's picture, or None."""
        version = self.assets.catalog.current("clean.images")
        if version is None:
            return None
        key = (version.id, item_id)
        with self._looking:
            if key not in self._pictures:
                scan = self.assets.scan(
                    "clean.images", by=OWNER, purpose=Purpose.SERVE, version=version.id
                )
                found = scan.filter(pl.col("item_id") == item_id).collect().sort("file_path")
                told = found.select("format", "content").row(-1) if found.height else None
                self._pictures[key] = told
                while (
                    sum(len(one[1]) for one in self._pictures.values() if one) > CACHE_BYTES
                    or len(self._pictures) > CACHE_PICTURES
                ):
                    self._pictures.popitem(last=False)
                return told
            self._pictures.move_to_end(key)
            return self._pictures[key]


class _Branch(Shop):
    """The shop as a branch sees it."""

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for step in super().steps if step.group not in MAIN_ONLY)

    def run(self, names: Sequence[str] = (), **options: Any) -> dict[str, Any]:
        """See `Shop.run`. InputError: a step that only the main line runs."""
        if main_only := [name for name in names if name.partition(".")[0] in MAIN_ONLY]:
            raise InputError(
                f"{main_only[0]} is run on the main line only, not in a branch",
                where="branch",
                next="leave it out: a branch runs what comes after collecting, up to the index",
            )
        return super().run(names, **options)


def write_table(frame: pl.DataFrame, out: Path) -> None:
    """Write a table as its suffix says, making its folder.

    InputError: a suffix we do not write, or a place that cannot be written.
    """
    try:
        if out.suffix in WRITTEN:
            out.parent.mkdir(parents=True, exist_ok=True)
        _write(frame, out)
    except OSError as error:
        raise InputError(
            f"cannot write here: {error.strerror or error}",
            where=str(out),
            next="name a file in a folder that you may write to",
        ) from error


def _write(frame: pl.DataFrame, out: Path) -> None:
    if out.suffix == ".csv":
        nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
        frame = frame.drop(pl.selectors.binary())
        frame.with_columns(
            pl.col(name).map_elements(lambda v: json.dumps(v.to_list()), pl.String)
            for name in nested
        ).write_csv(out)
    elif out.suffix == ".parquet":
        frame.write_parquet(out)
    elif out.suffix in WRITTEN:
        frame.drop(pl.selectors.binary()).write_ndjson(out)
    else:
        raise InputError(
            f"cannot write {out.suffix or 'a file without a suffix'}",
            where=str(out),
            next="name a file that ends in .csv, .parquet or .jsonl",
        )


def _plain(folder: Path) -> bool:
    """Whether the plain shape's files are here, so that no shop.toml is needed."""
    places: Iterator[Path] = (
        path
        for base in (folder, folder / "raw")
        for pattern in ("user_behavior*", "item_data*", "events*")
        for path in base.glob(pattern)
    )
    return any(places)


def _age_seconds(version: Version) -> float:
    from datetime import UTC, datetime

    return (datetime.now(UTC) - datetime.fromisoformat(version.created_at)).total_seconds()


def _version(version: Version) -> dict[str, Any]:
    return {
        "version": version.id,
        "number": version.number,
        "digest": version.digest,
        "rows": version.rows,
        "bytes": version.bytes,
        "created_at": version.created_at,
        "run_id": version.run_id,
        "quality": version.quality,
    }


__all__ = ["Conflict", "NotReady", "Shop", "write_table"]
