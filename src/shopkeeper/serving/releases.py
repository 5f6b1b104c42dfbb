"""Releases: the asset versions that serve together. Built whole, gated, swapped in one rename.

store/releases/<id>/   manifest.json, models/<name>/, search/, items.parquet, vocabulary.parquet,
                       looks/ (where an image encoder was learned), opted_out.parquet, popularity.npy, repeatable.npy, histories/,
                       persons.parquet (where user ids were stitched)
store/releases/current.json      which one serves, which one before it, and why
store/releases/decisions.jsonl   every gate, swap and rollback, with its numbers
"""

import json
import math
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.assets.durable import lock, make_folder, sync_folder, sync_tree, write_bytes
from shopkeeper.errors import Conflict, InputError, NotFound, NotReady
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import pack
from shopkeeper.models import registry
from shopkeeper.models.protocol import Model
from shopkeeper.recommend.catalogue import Catalogue
from shopkeeper.recommend.rank import CONSTANT
from shopkeeper.recommend.retrieve import by_popularity
from shopkeeper.search.looks import Looks
from shopkeeper.serving import snapshot
from shopkeeper.words import INTEREST_KINDS, Kind

FORMAT = 1
LOOKS = "looks"  # folder of a release
KEEP = 5  # releases on disk; the current, the one before it and a pinned one always stay
REPEATABLE = 0.1  # share of buyers who bought an item again, at which it is offered again
PRIOR_BUYERS = 5.0


@dataclass(frozen=True)
class Manifest:
    """What a release is made of; written last, so a folder without one is no release."""

    id: str
    created_at: str
    models: list[str]
    weights: dict[str, float] | None  # of the fused order; None: all models weigh the same
    constant: float
    metrics: dict[str, dict[str, float]]  # model (and "fused") -> metrics on the primary split
    versions: dict[str, str]  # asset name -> version id, for the trace
    positions: dict[str, int]  # "events", "items": seq of the online logs that is inside
    items: int
    users: int
    search: bool
    format: int = FORMAT

    def as_bytes(self) -> bytes:
        """As it stands in its file."""
        return (json.dumps(self.__dict__, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """NotReady where there is no (readable) release."""
        path = folder / "manifest.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise NotReady(
                "no release here", where=str(folder), next="run: shopkeeper run"
            ) from None
        except (ValueError, TypeError) as error:
            raise NotReady(
                f"the release's manifest cannot be read: {error}",
                where=str(path),
                next="go back with: shopkeeper release rollback",
            ) from error


@dataclass(frozen=True)
class Decision:
    """Whether a release may serve, and the numbers that say so."""

    passed: bool
    reason: str
    numbers: dict[str, float] = field(default_factory=dict)


def build(
    store: Path,
    *,
    models: Mapping[str, Path],
    item_table: ItemTable,
    items: pl.DataFrame,
    events: pl.DataFrame,
    search: Path | None = None,
    looks: Path | None = None,
    weights: Mapping[str, float] | None = None,
    constant: float = CONSTANT,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    versions: Mapping[str, str] | None = None,
    events_position: int = 0,
    items_position: int = 0,
    history: int = 200,
    opted_out: Sequence[str] = (),
    persons: pl.DataFrame | None = None,
    workspace: Path | None = None,
) -> str:
    """Make a release folder below `store` (the workspace's store/releases); returns its id.

    It does not serve yet: `gate`, then `swap`. Files of models and index are hard-linked where the
    file system allows it, else copied. Everything is on disk before the folder has its name.

    Args:
        models: name -> folder written by `models.registry.save`.
        item_table: whose vocabulary the models were trained with.
        items: clean.items.
        events: clean.events (any kinds), sorted by user_id, ts, seq; `weight` where places are known.
        search: folder written by `search.build`.
        looks: folder of the image encoder and its vectors (`models.image_encoder`).
        weights: source -> weight of the fused order, from `recommend.rank.choose_weights`.
        metrics: model (and "fused") -> metrics on the primary split, for gate and trace.
        versions: asset name -> version id of everything that went in.
        events_position: seq of the online event log up to which `events` holds it; likewise items.
        history: newest events kept of each user.
        opted_out: users without personalisation: they get what any stranger gets.
        persons: user_id, person: users who are one person with others; events have the person.
        workspace: where a user's own model classes are looked for.
    Raises:
        InputError: a model scores another number of items than the vocabulary has.
    """
    vocabulary = item_table.vocabulary.ids
    now = datetime.now(UTC)
    release = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    making = store / f".making-{release}"
    make_folder(store)
    try:
        for name, folder in models.items():
            link_tree(folder, making / "models" / name)
        if search is not None:
            link_tree(search, making / "search")
        if looks is not None:
            link_tree(looks, making / LOOKS)
        (making / "histories").mkdir(parents=True)
        items.write_parquet(making / "items.parquet")
        pl.DataFrame({"item_id": vocabulary}, schema={"item_id": pl.String}).write_parquet(
            making / "vocabulary.parquet"
        )
        interest = events.filter(pl.col("kind").is_in([kind.value for kind in INTEREST_KINDS]))
        users = snapshot.write(interest, making / "histories", history)
        pl.DataFrame({"user_id": list(opted_out)}, schema={"user_id": pl.String}).write_parquet(
            making / "opted_out.parquet"
        )
        if persons is not None and persons.height:
            persons.write_parquet(making / "persons.parquet")
        np.save(making / "popularity.npy", popularity(interest, vocabulary), allow_pickle=False)
        np.save(making / "repeatable.npy", repeatable(events, vocabulary), allow_pickle=False)
        manifest = Manifest(
            id=release,
            created_at=now.isoformat(timespec="seconds"),
            models=list(models),
            weights=None if weights is None else dict(weights),
            constant=constant,
            metrics={name: dict(values) for name, values in (metrics or {}).items()},
            versions=dict(versions or {}),
            positions={"events": events_position, "items": items_position},
            items=len(vocabulary),
            users=users,
            search=search is not None,
        )
        (making / "manifest.json").write_bytes(manifest.as_bytes())
        for name in models:
            _check_width(name, registry.load(making / "models" / name, workspace), len(vocabulary))
        sync_tree(making)
        making.rename(store / release)
        sync_folder(store)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return release


def _check_width(name: str, model: Model, items: int) -> None:
    width = model.scores(pack([""], [0], np.zeros(0))).shape[1]
    if width != items:
        raise InputError(
            f"model {name} scores {width:,} items, the vocabulary has {items:,}",
            where="release",
            next="train the models again: shopkeeper train",
        )


def settle(
    store: Path,
    release: str,
    *,
    weights: Mapping[str, float],
    metrics: Mapping[str, Mapping[str, float]],
) -> None:
    """Write into the manifest of a release that has not served yet what its rehearsal found."""
    folder = _known(store, release)
    settled = replace(
        Manifest.read(folder),
        weights=dict(weights),
        metrics={name: dict(values) for name, values in metrics.items()},
    )
    write_bytes(folder / "manifest.json", settled.as_bytes())


def link_tree(source: Path, target: Path) -> None:
    def link(here: str, there: str) -> None:
        try:
            os.link(here, there)
        except OSError:
            shutil.copy2(here, there)

    shutil.copytree(source, target, copy_function=link)


def popularity(events: pl.DataFrame, vocabulary: list[str]) -> npt.NDArray[np.float32]:
    """(M,) events of each item; an event of a day counts twice one of a month earlier.

    Args:
        events: item_id, ts; optional `weight` (examination.weighed) for what each counts.
    """
    if not events.height:
        return np.zeros(len(vocabulary), dtype=np.float32)
    weight = pl.lit(1.0)
    newest = events["ts"].max()
    if newest is not None:
        days = (pl.lit(newest) - pl.col("ts")).dt.total_seconds() / 86_400.0
        weight = (-math.log(2.0) / 30.0 * days).exp().fill_null(0.0)
    if "weight" in events.columns:
        weight = weight * pl.col("weight")
    counts = events.group_by("item_id").agg(weight.sum().alias("count"))
    joined = pl.DataFrame({"item_id": vocabulary}, schema={"item_id": pl.String}).join(
        counts, on="item_id", how="left", maintain_order="left"
    )
    return joined["count"].fill_null(0.0).cast(pl.Float32).to_numpy()


def repeatable(events: pl.DataFrame, vocabulary: list[str]) -> npt.NDArray[np.bool_]:
    """(M,) items that people buy again: at least `REPEATABLE` of the buyers, on another day.

    Few buyers say little: the share is drawn to that of all items by `PRIOR_BUYERS` buyers.
    """
    bought = events.filter(
        (pl.col("kind") == Kind.PURCHASE.value)
        & pl.col("user_id").is_not_null()
        & pl.col("item_id").is_not_null()
    )
    if not bought.height:
        return np.zeros(len(vocabulary), dtype=np.bool_)
    times = pl.col("ts").dt.date().n_unique() if bought["ts"].null_count() == 0 else pl.len()
    pairs = bought.group_by("user_id", "item_id").agg(times.alias("times"))
    again = pairs.group_by("item_id").agg(
        (pl.col("times") > 1).sum().alias("again"), pl.len().alias("buyers")
    )
    overall = float((pairs["times"] > 1).sum()) / pairs.height
    share = (pl.col("again") + PRIOR_BUYERS * overall) / (pl.col("buyers") + PRIOR_BUYERS)
    joined = pl.DataFrame({"item_id": vocabulary}, schema={"item_id": pl.String}).join(
        again.select("item_id", (share >= REPEATABLE).alias("repeatable")),
        on="item_id",
        how="left",
        maintain_order="left",
    )
    return joined["repeatable"].fill_null(False).to_numpy().astype(np.bool_)


class Release:
    """An open release: everything an answer needs, read only (the catalogue takes live writes)."""

    def __init__(self, folder: Path, workspace: Path | None = None) -> None:
        """NotReady where a file is missing or damaged; models alone may be (`broken`)."""
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.id = self.manifest.id
        try:
            vocabulary = pl.read_parquet(folder / "vocabulary.parquet")["item_id"].to_list()
            self.catalogue = Catalogue(vocabulary, pl.read_parquet(folder / "items.parquet"))
            popularity = np.load(folder / "popularity.npy", allow_pickle=False)
            self.popular = by_popularity(popularity)  # rows, most popular first
            self.repeatable = np.load(folder / "repeatable.npy", allow_pickle=False)
            self.snapshot = snapshot.read(folder / "histories", self.manifest.positions["events"])
            self.opted_out = frozenset(pl.read_parquet(folder / "opted_out.parquet")["user_id"])
            self.persons: dict[str, str] = {}  # user id -> its person's, where it is another's
            if (folder / "persons.parquet").exists():
                self.persons = dict(pl.read_parquet(folder / "persons.parquet").iter_rows())
        except (OSError, ValueError, KeyError, EOFError, pl.exceptions.PolarsError) as error:
            raise NotReady(
                f"a file of the release is missing or damaged: {error}",
                where=str(folder),
                next="make a new one: shopkeeper run release --force; "
                "or go back with: shopkeeper release rollback",
            ) from error
        self.models: dict[str, Model] = {}
        self.broken: dict[str, str] = {}  # model -> why it could not be opened
        for name in self.manifest.models:
            try:
                self.models[name] = registry.load(folder / "models" / name, workspace)
            except Exception as error:  # the floor serves without it, and says so
                self.broken[name] = f"{type(error).__name__}: {error}"
        self.looks: Looks | None = None
        if (folder / LOOKS).is_dir():
            try:
                self.looks = Looks(folder / LOOKS, self.catalogue.index)
            except Exception as error:  # what looks alike is not told; all else serves
                self.broken[LOOKS] = f"{type(error).__name__}: {error}"


def gate(
    new: Mapping[str, float],
    *,
    floors: Mapping[str, Mapping[str, float]],
    current: Mapping[str, float] | None,
    metric: str,
    tolerance: float,
    noise: Mapping[str, float] | None = None,
    broken: Sequence[str] = (),
) -> Decision:
    """May a release serve? Not below any floor or the current one by more than noise, nor broken.

    Args:
        new: metrics on the primary split of what the release would show.
        floors: floor -> its metrics on the same split.
        current: what the current release's weights would show the same people; None: there is none.
        tolerance: share of the current value that counts as noise.
        noise: floor or "current" -> how far below it chance alone may leave the release.
        broken: what does not work in it, whatever the metrics.
    """
    if metric not in new or not math.isfinite(new[metric]):
        return Decision(False, "; ".join([*broken, f"the release has no {metric}"]))
    value = new[metric]
    numbers = {"new": value}
    problems = list(broken)
    for name, values in floors.items():
        if metric in values:
            numbers[f"floor {name}"] = values[metric]
            if value < values[metric] - (noise or {}).get(name, 0.0):
                problems.append(
                    f"{metric} {value:.4f} is below the floor {name} {values[metric]:.4f}"
                )
    if current is not None and metric in current:
        numbers["current"] = current[metric]
        least = current[metric] - max(
            current[metric] * tolerance, (noise or {}).get("current", 0.0)
        )
        if value < least:
            problems.append(
                f"{metric} {value:.4f} is below the current release's {current[metric]:.4f} "
                f"by more than {tolerance:.0%}"
            )
    if problems:
        return Decision(False, "; ".join(problems), numbers)
    return Decision(True, f"{metric} {value:.4f} is not below floors and current", numbers)


@dataclass(frozen=True)
class Pointer:
    """store/releases/current.json."""

    release: str
    previous: str | None = None
    pinned: bool = False
    at: str = ""
    reason: str = ""


def pointer(store: Path) -> Pointer | None:
    """Which release serves; None before the first swap."""
    try:
        return Pointer(**json.loads((store / "current.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise NotReady(
            f"cannot tell which release serves: {error}",
            where=str(store / "current.json"),
            next="delete this file, then: shopkeeper run release --force",
        ) from error


def swap(store: Path, release: str, *, reason: str, decision: Decision | None = None) -> bool:
    """Let `release` serve from now on. False where another one is pinned. Servers follow by `reload`.

    NotFound where there is no such release.
    """
    Manifest.read(_known(store, release))
    with lock(store / ".lock", wait=True):
        now = pointer(store)
        if now is not None and now.pinned and now.release != release:
            log_decision(store, "refused", release, f"{now.release} is pinned", decision)
            return False
        previous = now.previous if now and now.release == release else now and now.release
        _point(store, Pointer(release, previous or None, bool(now and now.pinned), "", reason))
        log_decision(store, "swap", release, reason, decision)
    return True


def rollback(
    store: Path, to: str | None = None, *, reason: str = "by hand", only_from: str | None = None
) -> str:
    """Serve `to`, or the release before the current one; it becomes pinned. Returns its id.

    Raises NotReady where there is nothing to go back to, NotFound for an unknown `to`, Conflict
    where `only_from` is given and another release serves by now, or this one is pinned.
    """
    with lock(store / ".lock", wait=True):
        now = pointer(store)
        if only_from is not None and (now is None or now.pinned or now.release != only_from):
            raise Conflict(f"{only_from} serves no more, or is pinned", where=str(store))
        target = to or (now.previous if now else None)
        if target is None:
            raise NotReady(
                "there is no earlier release to go back to",
                where=str(store),
                next="see what there is with: shopkeeper release ls",
            )
        Manifest.read(_known(store, target))
        current = now.release if now else None
        _point(store, Pointer(target, current, True, "", f"rollback {reason}"))
        log_decision(store, "rollback", target, reason, None)
    return target


def pin(store: Path, release: str | None) -> None:
    """Keep serving `release` whatever passes the gate; None: let the gate decide again."""
    if release is not None:
        Manifest.read(_known(store, release))
    with lock(store / ".lock", wait=True):
        now = pointer(store)
        if release is None:
            if now is not None:
                _point(store, Pointer(now.release, now.previous, False, "", "unpinned"))
                log_decision(store, "unpin", now.release, "by hand", None)
            return
        previous = now.previous if now and now.release == release else now and now.release
        _point(store, Pointer(release, previous or None, True, "", "pinned"))
        log_decision(store, "pin", release, "by hand", None)


def versions_of(store: Path) -> set[str]:
    """Ids of the asset versions that the releases on disk were made of."""
    made = (Manifest.read(path.parent).versions for path in store.glob("*/manifest.json"))
    return {version for versions in made for version in versions.values()}


def listed(store: Path) -> list[dict[str, Any]]:
    """All releases, newest first, with which one serves."""
    now = pointer(store)
    found = []
    for folder in sorted(store.glob("*/manifest.json"), reverse=True):
        manifest = Manifest.read(folder.parent)
        found.append(
            {
                "release": manifest.id,
                "created_at": manifest.created_at,
                "current": bool(now and now.release == manifest.id),
                "pinned": bool(now and now.pinned and now.release == manifest.id),
                "models": manifest.models,
                "weights": manifest.weights,
                "metrics": manifest.metrics,
                "items": manifest.items,
                "users": manifest.users,
                "versions": manifest.versions,
            }
        )
    return found


def retain(store: Path, keep: int = KEEP) -> list[str]:
    """Delete all but the newest `keep` releases, never the current or the one before; their ids."""
    with lock(store / ".lock", wait=True):
        now = pointer(store)
        safe = {now.release, now.previous} if now else set()
        folders = sorted((path.parent for path in store.glob("*/manifest.json")), reverse=True)
        gone = [folder for folder in folders[keep:] if folder.name not in safe]
        for folder in gone:
            shutil.rmtree(folder)
        return [folder.name for folder in gone]


def decisions(store: Path) -> list[dict[str, Any]]:
    """Every gate, swap, rollback and pin, oldest first."""
    try:
        lines = (store / "decisions.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def log_decision(
    store: Path, what: str, release: str, reason: str, decision: Decision | None
) -> None:
    """Append one line to decisions.jsonl, on disk before returning."""
    make_folder(store)
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": what,
        "release": release,
        "reason": reason,
        "passed": None if decision is None else decision.passed,
        "numbers": {} if decision is None else decision.numbers,
    }
    with (store / "decisions.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _point(store: Path, to: Pointer) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    write_bytes(store / "current.json", json.dumps(to.__dict__ | {"at": at}, indent=1).encode())


def _known(store: Path, release: str) -> Path:
    folder = store / release
    if "/" in release or not (folder / "manifest.json").exists():
        raise NotFound(
            f"no release {release!r}", where=str(store), next="see them with: shopkeeper release ls"
        )
    return folder
