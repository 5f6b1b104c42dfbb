"""What is an asset, or one of its columns, worth? What the shop's answers lose without it.

On the leaderboard's protocol (its split, its people, its targets), with everything and without one
thing, the same people both times:

    retrain: fast ranker      the column (or all columns of an asset) is left out and the ranker of
                              probe.py is fitted again; floors are the same
    retrain: floors + ranker  events of a kind are left out, or their order is shuffled, and everything
                              is fitted again on what is left
    nothing left              without events there is no model at all: the whole result is their worth
    permutation: <model>      a neural model is not trained again: the column is shuffled over the
                              events it is asked with. Told is what the model leans on; columns that
                              stand in for each other can all seem worthless. The model asked is the
                              trial's own, which never saw the test

A gain is the mean over people of result(with) - result(without): NDCG@10, and revenue@10: what the
purchases of the test that stand among the first 10 cost, minor units a person. Its interval is a
percentile bootstrap over people and over fits (each fit on people drawn anew), so it knows both how
people differ and how much a fit varies. `worth` says it in a word: none where the interval holds 0, likely
where it lies above. As many things are looked at, one in forty of those worth nothing lies above by
chance; valuable (and harmful) are only those of which that cannot be said: their interval stays on one
side of 0 when all rows share the one error rate (Bonferroni).

Why columns are left out with a refit where that is cheap, and shuffled only where it is not: Hooker,
Mentch & Zhou, "Unrestricted Permutation Forces Extrapolation: Variable Importance Requires at Least
One More Model", Statistics and Computing 2021.
"""

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
from PIL import Image

from shopkeeper.assets import usage
from shopkeeper.assets.store import Run
from shopkeeper.config import Settings
from shopkeeper.engine.steps import Context
from shopkeeper.errors import NotReady
from shopkeeper.evaluation import probe
from shopkeeper.evaluation.leaderboard import FLOORS
from shopkeeper.evaluation.metrics import measure
from shopkeeper.evaluation.probe import Column, Stack
from shopkeeper.evaluation.splits import Split, sample
from shopkeeper.evaluation.trial import MEASURED, asset_name, excludes_seen, split_of
from shopkeeper.features.sequences import Examples, Floats, Sequences
from shopkeeper.features.steps import load
from shopkeeper.models import registry
from shopkeeper.models.protocol import top
from shopkeeper.words import KIND_CODES, Kind

Doubles = npt.NDArray[np.float64]
Key = tuple[str, str | None, str]  # asset, column, method

ASSET = "reports.value"
READS = ("clean.events", "clean.items", "clean.users", "clean.images", "features.items", "features.sequences")  # fmt: skip
METRICS = ("NDCG@10", "revenue@10")
RANKER, REBUILT = "retrain: fast ranker", "retrain: floors + ranker"
NOTHING, SHUFFLED = "nothing left", "permutation"
DRAWS = 2_000
FEW = 1_000  # values of a column; more, and each is too rare to have a popularity
PICTURES = 20_000  # that are looked at
QUERIES = 3  # newest searches of a person
NO_COLUMNS = (
    "item_id",
    "user_id",
    "seq",
    "source",
    "file",
    "line",
    "image",
    "updated_at",
    "attributes",
)
TEXTS = ("title", "title_zh", "description")

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "asset": pl.String,
    "column": pl.String,  # null: the whole asset
    "metric": pl.String,
    "gain": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "worth": pl.String,  # valuable | likely | none | harmful
    "base": pl.Float64,  # the result with everything
    "method": pl.String,
    "people": pl.Int64,
    "fits": pl.Int64,
    "cpu_seconds": pl.Float64,
    "bytes": pl.Int64,
    "measured_at": pl.String,
}


@dataclass(frozen=True)
class Protocol:
    """Who is asked what; the leaderboard's split, people drawn where there are more than `people`."""

    split: Split
    fit: Examples
    test: Examples
    items: list[str]
    exclude_seen: bool
    money: sp.csr_array  # (E, M) paid in the test by the test people
    seed: int


@dataclass(frozen=True)
class Gain:
    """What is lost without something; mean over people, its interval, and the verdict."""

    gain: float
    low: float
    high: float
    worth: str
    base: float


def gained(
    whole: Doubles, without: Doubles, *, confidence: float, tests: int = 1, seed: int = 0
) -> Gain:
    """The gain of (S, E) results of S fits for E people, paired, with its bootstrap interval.

    Args:
        tests: how many things are judged together, for `worth`.
    """
    apart = whole - without
    fits, people = apart.shape
    rng = np.random.default_rng(seed)
    drawn = np.empty(DRAWS)
    for draw in range(DRAWS):
        mean = apart[rng.integers(0, fits, fits)].mean(axis=0)
        drawn[draw] = mean[rng.integers(0, people, people)].mean()
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(drawn, [tail, 1 - tail]))
    mean_gain = float(apart.mean())
    sure = NormalDist().inv_cdf(1 - tail / max(tests, 1)) * float(drawn.std())
    worth = "none"
    if low > 0:
        worth = "valuable" if mean_gain > sure else "likely"
    elif high < 0 and mean_gain < -sure:
        worth = "harmful"
    return Gain(mean_gain, low, high, worth, float(whole.mean()))


class Bench:
    """The fast ranker with all columns, and the same without some of them."""

    def __init__(
        self,
        protocol: Protocol,
        columns: Sequence[Column],
        *,
        seeds: int,
        stack: Stack | None = None,
    ) -> None:
        self.protocol = protocol
        self.columns = columns
        self.seeds = seeds
        self.stack = stack or self._stack(protocol)
        self.said = [probe.said(self.stack, column) for column in columns]
        self.paid = probe.gathered(protocol.money, self.stack.test.pool)
        self.start: list[Doubles | None] = [None] * seeds
        self.whole = self.without(())

    def _stack(self, protocol: Protocol) -> Stack:
        return probe.build(
            protocol.split.train, protocol.fit, protocol.test, len(protocol.items),
            exclude_seen=protocol.exclude_seen, seed=protocol.seed,
        )  # fmt: skip

    def without(self, columns: Sequence[int]) -> dict[str, Doubles]:
        """metric -> (S, E) results of the ranker fitted without these columns, by place."""
        kept = [place for place in range(len(self.columns)) if place not in columns]
        own = [*self.stack.fit.base, *(one for place in kept for one in self.said[place][0])]
        asked = [*self.stack.test.base, *(one for place in kept for one in self.said[place][1])]
        people = len(self.stack.fit.pool)
        made: dict[str, list[Doubles]] = {metric: [] for metric in METRICS}
        for seed in range(self.seeds):
            rng = np.random.default_rng([self.protocol.seed, seed])
            weight = rng.multinomial(people, np.full(people, 1 / people)).astype(np.float64)
            start = self._start(seed, kept) if columns else None
            fitted = probe.fit(own, self.stack.fit, weight, start)
            if not columns:
                self.start[seed] = fitted.weights
            scored = probe.scores(asked, fitted, self.stack.test)
            found = probe.results(scored, self.stack.test, self.paid)
            for metric, values in zip(METRICS, found, strict=True):
                made[metric].append(values)
        return {metric: np.stack(values) for metric, values in made.items()}

    def _start(self, seed: int, kept: Sequence[int]) -> Doubles | None:
        """The weights of the whole fit, of the features that are left."""
        whole = self.start[seed]
        if whole is None:
            return None
        at, parts = len(self.stack.fit.base), [whole[: len(self.stack.fit.base)]]
        for place in range(len(self.columns)):
            size = len(self.said[place][0])
            if place in kept:
                parts.append(whole[at : at + size])
            at += size
        return np.concatenate(parts)


def measure_values(context: Context) -> None:
    """The step: measure every asset and column within the budget -> reports.value.

    What the budget left out keeps its last measuring, and comes first the next time.
    """
    run, settings = context.run, context.settings.value
    until = time.monotonic() + 60 * settings.max_minutes
    before = _before(context)
    protocol = protocol_of(run, context.settings)
    columns = columns_of(run, protocol, context.settings)
    bench = Bench(protocol, columns, seeds=settings.seeds)
    todo = _todo(context, protocol, columns, bench)
    age = {(row["asset"], row["column"], row["method"]): row["measured_at"] for row in before}
    todo.sort(key=lambda one: age.get(one[0], ""))
    found: dict[Key, tuple[dict[str, Doubles], dict[str, Doubles]]] = {}
    for done, (key, work) in enumerate(todo):
        if found and time.monotonic() > until:
            break
        context.progress(done, len(todo), f"without {key[0]} {key[1] or ''}")
        found[key] = work()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    costs = _costs(context, run)
    rows = [
        row
        for key, (whole, without) in found.items()
        for row in _rows(key, whole, without, len(todo), context.settings, at, costs)
    ]
    known = {key for key, _ in todo}
    rows += [
        row
        for row in before
        if (key := (row["asset"], row["column"], row["method"])) in known and key not in found
    ]
    rows.sort(key=lambda row: (METRICS.index(row["metric"]), -row["gain"]))
    table = run.table(ASSET, description="what each asset and column is worth, and what it costs")
    table.notes = {"measured": len(found), "left_for_later": len(todo) - len(found)}
    table.put(pl.DataFrame(rows, schema=SCHEMA))
    for name, value in table.notes.items():
        run.note(name, value)


def protocol_of(run: Run, settings: Settings) -> Protocol:
    """The leaderboard's split with at most [value] people on each side. NotReady: nothing to learn from."""
    sequences, items = load(run)
    if not len(sequences.items):
        raise NotReady("there are no events to learn from", next="see: shopkeeper quarantine ls")
    split = split_of(settings, sequences)
    width, people = settings.features.max_length, settings.value.people
    if not len(split.validation) or not len(split.test):
        raise NotReady("nobody can be asked about", next="collect events over a longer time")
    seed = settings.training.seed
    fit, test = (
        replace(one, histories=one.histories.last(width))
        for one in (sample(split.validation, people, seed), sample(split.test, people, seed))
    )
    ids = items.vocabulary.ids
    split = replace(split, train=split.train.last(width))
    return Protocol(
        split,
        fit,
        test,
        ids,
        excludes_seen(settings, split.by),
        _money(run, split, test, ids),
        seed,
    )


def columns_of(run: Run, protocol: Protocol, settings: Settings) -> list[Column]:
    """Every column that the fast ranker can read, of items, pictures, people and events."""
    found = [*_event_columns(run, protocol)]
    if run.has("clean.items"):
        found += _item_columns(run.read("clean.items"), protocol)
    if run.has("clean.images"):
        found += _pictures(run, protocol)
    if run.has("clean.users"):
        found += _user_columns(run.read("clean.users"))
    return found


def _todo(
    context: Context, protocol: Protocol, columns: Sequence[Column], bench: Bench
) -> list[tuple[Key, Callable[[], tuple[dict[str, Doubles], dict[str, Doubles]]]]]:
    """Everything that can be left out, and how."""
    todo: list[tuple[Key, Callable[[], tuple[dict[str, Doubles], dict[str, Doubles]]]]] = []

    def dropped(places: list[int]) -> tuple[dict[str, Doubles], dict[str, Doubles]]:
        return bench.whole, bench.without(places)

    def rebuilt(other: Protocol) -> tuple[dict[str, Doubles], dict[str, Doubles]]:
        return bench.whole, Bench(other, columns, seeds=bench.seeds).whole

    nothing = {metric: np.zeros_like(values) for metric, values in bench.whole.items()}
    todo.append((("clean.events", None, NOTHING), lambda: (bench.whole, nothing)))
    for asset in dict.fromkeys(column.asset for column in columns):
        places = [n for n, column in enumerate(columns) if column.asset == asset]
        if asset != "clean.events":
            todo.append(((asset, None, RANKER), lambda some=places: dropped(some)))  # type: ignore[misc]
        for place in places:
            name = columns[place].name
            todo.append(((asset, name, RANKER), lambda n=place: dropped([n])))  # type: ignore[misc]
    for kind in context.settings.features.kinds:
        less = without_kind(protocol, KIND_CODES[kind])
        if less is not None:
            todo.append((("clean.events", f"kind={kind}", REBUILT), lambda p=less: rebuilt(p)))  # type: ignore[misc]
    if protocol.split.by == "time":
        todo.append((("clean.events", "ts", REBUILT), lambda: rebuilt(shuffled(protocol))))
    for spelling in context.settings.models:
        name = asset_name(spelling)
        if name in FLOORS or not context.assets.exists(f"evaluations.{name}"):
            continue
        folder = context.run.folder(f"evaluations.{name}") / MEASURED
        if folder.exists():
            model = registry.load(folder, context.folder)
            for field, column in PERMUTED.items():
                key = ("clean.events", column, f"{SHUFFLED}: {name}")
                todo.append((key, lambda f=field, m=model: _permuted(protocol, m, f, bench.seeds)))  # type: ignore[misc]
    return todo


PERMUTED = {"kinds": "kind", "dwell": "dwell_ms", "times": "ts", "prices": "price_minor"}


def _permuted(
    protocol: Protocol, model: Any, field: str, seeds: int
) -> tuple[dict[str, Doubles], dict[str, Doubles]]:
    """A model asked with its test histories, and with one field of theirs shuffled."""
    whole = _asked(protocol, model, protocol.test)
    made: dict[str, list[Doubles]] = {metric: [] for metric in METRICS}
    for seed in range(seeds):
        rng = np.random.default_rng([protocol.seed, seed])
        histories = protocol.test.histories
        if field == "times":
            other = _order_shuffled(histories, rng)
        else:
            moved: dict[str, Any] = {field: rng.permutation(getattr(histories, field))}
            other = replace(histories, **moved)
        for metric, values in _asked(
            protocol, model, replace(protocol.test, histories=other)
        ).items():
            made[metric].append(values)
    without = {metric: np.stack(values) for metric, values in made.items()}
    return {
        metric: np.repeat(values[None], seeds, axis=0) for metric, values in whole.items()
    }, without


def _asked(protocol: Protocol, model: Any, test: Examples) -> dict[str, Doubles]:
    """Both results of a model for every person."""
    paid: list[Doubles] = []
    at = 0

    def score(histories: Sequences) -> Floats:
        nonlocal at
        found: Floats = model.scores(histories)
        told = np.array(found)
        if protocol.exclude_seen:
            owner = np.repeat(np.arange(len(histories)), histories.lengths)
            told[owner, histories.items] = -np.inf
        best, _ = top(told, 10)
        money = protocol.money[at : at + len(histories)].toarray()
        paid.append(
            (np.take_along_axis(money, np.maximum(best, 0), axis=1) * (best >= 0)).sum(axis=1)
        )
        at += len(histories)
        return found

    measured = measure(score, test, (10,), exclude_seen=protocol.exclude_seen, groups=False)
    return {
        "NDCG@10": measured.per_user["NDCG@10"].astype(np.float64),
        "revenue@10": np.concatenate(paid),
    }


def without_kind(protocol: Protocol, code: int) -> Protocol | None:
    """The same people and targets, events of a kind left out of all that is known; None: all are of it,
    or none is."""
    train = _filtered(protocol.split.train, protocol.split.train.kinds != code)
    if len(train.items) in (0, len(protocol.split.train.items)):
        return None
    fit, test = (
        replace(one, histories=_filtered(one.histories, one.histories.kinds != code))
        for one in (protocol.fit, protocol.test)
    )
    some = train.take(np.flatnonzero(train.lengths))
    return replace(protocol, split=replace(protocol.split, train=some), fit=fit, test=test)


def shuffled(protocol: Protocol) -> Protocol:
    """The same people and targets, each person's past in no order."""
    rng = np.random.default_rng(protocol.seed)
    train = _order_shuffled(protocol.split.train, rng)
    fit, test = (
        replace(one, histories=_order_shuffled(one.histories, rng))
        for one in (protocol.fit, protocol.test)
    )
    return replace(protocol, split=replace(protocol.split, train=train), fit=fit, test=test)


def _filtered(some: Sequences, kept: npt.NDArray[np.bool_]) -> Sequences:
    owner = np.repeat(np.arange(len(some)), some.lengths)
    lengths = np.bincount(owner[kept], minlength=len(some))
    return _flat(some, np.flatnonzero(kept), lengths)


def _order_shuffled(some: Sequences, rng: np.random.Generator) -> Sequences:
    """Events change places within their person; the times stay where they are."""
    owner = np.repeat(np.arange(len(some)), some.lengths)
    order = np.lexsort((rng.random(len(owner)), owner))
    return replace(_flat(some, order, some.lengths), times=some.times)


def _flat(some: Sequences, flat: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> Sequences:
    values = {
        one.name: getattr(some, one.name)[flat]
        for one in fields(Sequences)
        if one.name not in ("users", "offsets")
    }
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(users=some.users, offsets=offsets, **values)


def _item_columns(items: pl.DataFrame, protocol: Protocol) -> list[Column]:
    """Each column of the catalogue and each attribute. Numbers of a state newer than the test's first
    instant are unknown, as the leaderboard has it."""
    order = pl.DataFrame({"item_id": protocol.items})
    rows = order.join(
        items.unique("item_id", keep="last"), on="item_id", how="left", maintain_order="left"
    )
    stale = np.zeros(rows.height, dtype=np.bool_)
    if protocol.split.test_from is not None and "updated_at" in rows.columns:
        at = rows["updated_at"].dt.epoch("ms")
        stale = (at > protocol.split.test_from).fill_null(False).to_numpy()
    told: dict[str, list[Any]] = {
        name: rows[name].to_list() for name in rows.columns if name not in NO_COLUMNS
    }
    for row, text in enumerate(
        rows["attributes"].to_list() if "attributes" in rows.columns else []
    ):
        for name, value in (json.loads(text) if text else {}).items():
            told.setdefault(f"attributes.{name}", [None] * rows.height)[row] = value
    made = [_item_column(name, values, stale) for name, values in told.items()]
    return [column for column in made if column is not None]


def _item_column(name: str, values: list[Any], stale: npt.NDArray[np.bool_]) -> Column | None:
    """A column of items as numbers, words or labels; None where nothing is known."""
    known = [value for value in values if value is not None and value != ""]
    if not known:
        return None
    asset = "clean.items"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        numbers[stale | ~np.isfinite(numbers)] = np.nan
        return Column(asset, name, numbers=numbers)
    texts = [" ".join(map(str, v)) if isinstance(v, list) else str(v or "") for v in values]
    distinct = len(set(texts))
    if name in TEXTS or distinct > max(FEW, len(values) // 2):
        return Column(asset, name, labels=probe.words(texts))
    rows, told = [], []
    for row, value in enumerate(values):
        for part in value if isinstance(value, list) else [value]:
            if part is not None and part != "":
                rows.append(row)
                told.append(str(part))
    return Column(asset, name, labels=probe.labels(rows, told, len(values)), few=distinct <= FEW)


def _pictures(run: Run, protocol: Protocol) -> list[Column]:
    """What colours a picture has: shares of 64 colours that cover a twentieth or more."""
    place = {item: row for row, item in enumerate(protocol.items)}
    some = run.scan("clean.images").select("item_id", "content").head(PICTURES).collect()
    rows, colours, shares = [], [], []
    for item, content in some.unique("item_id", keep="first", maintain_order=True).iter_rows():
        if item not in place or content is None:
            continue
        with Image.open(io.BytesIO(content)) as picture:
            picture.draft("RGB", (32, 32))
            pixels = np.asarray(picture.convert("RGB").resize((32, 32))) // 64
        code = (pixels.reshape(-1, 3) @ np.array([16, 4, 1])).astype(np.int64)
        share = np.bincount(code, minlength=64) / len(code)
        for colour in np.flatnonzero(share >= 0.05).tolist():
            rows.append(place[item])
            colours.append(colour)
            shares.append(float(share[colour]))
    if not rows:
        return []
    matrix = sp.csr_array(sp.coo_array((shares, (rows, colours)), shape=(len(protocol.items), 64)))
    return [Column("clean.images", "content", labels=matrix)]


def _user_columns(users: pl.DataFrame) -> list[Column]:
    """Each column of users and each attribute, as kinds of people; numbers and times cut at fifths."""
    told: dict[str, pl.Series] = {n: users[n] for n in users.columns if n not in NO_COLUMNS}
    if "attributes" in users.columns:
        parsed = [json.loads(text) if text else {} for text in users["attributes"].to_list()]
        for name in dict.fromkeys(key for one in parsed for key in one):
            values = [one.get(name) for one in parsed]
            numeric = all(
                v is None or (isinstance(v, int | float) and not isinstance(v, bool))
                for v in values
            )
            told[f"attributes.{name}"] = pl.Series(
                values if numeric else [None if v is None else str(v) for v in values],
                dtype=pl.Float64 if numeric else pl.String, strict=False,
            )  # fmt: skip
    made = []
    for name, series in told.items():
        kinds = series
        if series.dtype.is_numeric() or series.dtype.is_temporal():
            rank = series.to_physical().cast(pl.Float64).rank("average") / max(series.count(), 1)
            kinds = (rank * 5).ceil().cast(pl.Int64)
        pairs = zip(users["user_id"].to_list(), kinds.cast(pl.String).to_list(), strict=True)
        segments = {user: value for user, value in pairs if value is not None}
        if len(set(segments.values())) > 1:
            made.append(Column("clean.users", name, segments=segments))
    return made


def _event_columns(run: Run, protocol: Protocol) -> list[Column]:
    """What events carry beside who, what and when."""
    train = protocol.split.train
    made = [
        Column("clean.events", name, events=field)
        for field, name in (("dwell", "dwell_ms"), ("prices", "price_minor"))
        if (getattr(train, field) > 0).any()
    ]
    cut = protocol.split.validation_from
    if cut is None:
        return made
    events = run.scan("clean.events")
    ms = pl.col("ts").dt.epoch("ms")
    for name in ("channel", "region"):
        seen = events.filter(pl.col(name).is_not_null() & (ms < cut))
        most = seen.group_by("user_id", name).len().sort("len", name).group_by("user_id").last()
        segments = dict(most.select("user_id", name).collect().iter_rows())
        if len(set(segments.values())) > 1:
            made.append(Column("clean.events", name, segments=segments))
    place = {item: row for row, item in enumerate(protocol.items)}
    instants = (cut, protocol.split.test_from)
    asked = [*zip((protocol.fit, protocol.test), instants, strict=True)]
    shown = events.filter(pl.col("kind") == Kind.IMPRESSION.value).select(
        "user_id", "item_id", at=ms
    )
    seen_rows = shown.collect()
    if seen_rows.height:
        pairs = [_counted(seen_rows.filter(pl.col("at") < at), one, place) for one, at in asked]
        made.append(Column("clean.events", "kind=impression", shown=(pairs[0], pairs[1])))
    queries = events.filter(pl.col("query").is_not_null()).select("user_id", "query", at=ms)
    searched = queries.sort("at").collect()
    if searched.height and run.has("clean.items"):
        text = _texts(run, protocol)
        both = [_sought(searched.filter(pl.col("at") < at), one, text) for one, at in asked]
        made.append(Column("clean.events", "query", shown=(both[0], both[1])))
    return made


def _texts(run: Run, protocol: Protocol) -> list[str]:
    items = run.read("clean.items").unique("item_id", keep="last")
    rows = pl.DataFrame({"item_id": protocol.items}).join(
        items, on="item_id", how="left", maintain_order="left"
    )
    named = [name for name in TEXTS[:2] if name in rows.columns]
    return rows.select(pl.concat_str(named, separator=" ", ignore_nulls=True)).to_series().to_list()


def _counted(rows: pl.DataFrame, people: Examples, place: Mapping[str, int]) -> sp.csr_array:
    """(E, M) how often each item was shown to each person."""
    who = pl.DataFrame({"user_id": people.histories.users}).with_row_index("row")
    what = pl.DataFrame({"item_id": list(place)}).with_row_index("item")
    kept = rows.join(who, on="user_id").join(what, on="item_id").group_by("row", "item").len()
    parts = (
        kept["len"].to_numpy().astype(np.float64),
        (kept["row"].to_numpy().astype(np.int64), kept["item"].to_numpy().astype(np.int64)),
    )
    return sp.csr_array(sp.coo_array(parts, shape=(len(people), len(place))))


def _sought(rows: pl.DataFrame, people: Examples, texts: list[str]) -> sp.csr_array:
    """(E, M) how much of a person's newest searches the item's title says, rare words counting more."""
    newest = rows.group_by("user_id", maintain_order=True).agg(pl.col("query").tail(QUERIES))
    said = {user: " ".join(some) for user, some in newest.iter_rows()}
    asked = [said.get(user, "") for user in people.histories.users]
    together = probe.words([*texts, *asked])
    counts = np.asarray((together > 0).sum(axis=0)).ravel()
    rare = np.log((together.shape[0] + 1) / (counts + 1))
    items = sp.csr_array(together[: len(texts)] @ sp.diags_array(rare))
    return sp.csr_array(together[len(texts) :] @ items.T)


def _money(run: Run, split: Split, test: Examples, ids: list[str]) -> sp.csr_array:
    """(E, M) minor units that each test person paid for each target in the test."""
    who = pl.DataFrame({"user_id": test.histories.users}).with_row_index("row")
    what = pl.DataFrame({"item_id": ids}).with_row_index("item")
    bought = run.scan("clean.events").filter(
        (pl.col("kind") == Kind.PURCHASE.value) & pl.col("price_minor").is_not_null()
    )
    if split.test_from is not None:
        bought = bought.filter(pl.col("ts").dt.epoch("ms") >= split.test_from)
    paid = pl.col("price_minor") * pl.col("quantity").fill_null(1)
    found = (
        bought.select("user_id", "item_id", "seq", paid=paid)
        .join(who.lazy(), on="user_id")
        .join(what.lazy(), on="item_id")
        .sort("seq")
        .group_by("row", "item")
        .agg(pl.col("paid").sum() if split.test_from is not None else pl.col("paid").last())
        .collect()
    )
    shape = (len(test), len(ids))
    parts = (
        found["paid"].to_numpy().astype(np.float64),
        (found["row"].to_numpy().astype(np.int64), found["item"].to_numpy().astype(np.int64)),
    )
    owner = np.repeat(np.arange(len(test)), np.diff(test.target_offsets))
    wanted = sp.csr_array(
        (np.ones(len(owner)), (owner, test.target_items.astype(np.int64))), shape=shape
    )
    return sp.csr_array(sp.csr_array(sp.coo_array(parts, shape=shape)).multiply(wanted))


def _rows(
    key: Key,
    whole: Mapping[str, Doubles],
    without: Mapping[str, Doubles],
    tests: int,
    settings: Settings,
    at: str,
    costs: Callable[[str, str | None], tuple[float | None, int | None]],
) -> list[dict[str, Any]]:
    asset, column, method = key
    cpu, size = costs(asset, column)
    made = []
    for metric in METRICS:
        found = gained(
            whole[metric], without[metric], confidence=settings.value.confidence, tests=tests
        )
        made.append(
            {
                "asset": asset, "column": column, "metric": metric, "gain": found.gain,
                "low": found.low, "high": found.high, "worth": found.worth, "base": found.base,
                "method": method, "people": whole[metric].shape[1], "fits": whole[metric].shape[0],
                "cpu_seconds": cpu, "bytes": size, "measured_at": at,
            }
        )  # fmt: skip
    return made


def _costs(
    context: Context, run: Run
) -> Callable[[str, str | None], tuple[float | None, int | None]]:
    """(asset, column) -> CPU seconds of all its runs, bytes of its current version. A column has its
    share by the size of its values in memory; a kind of events by its share of rows."""
    shares: dict[str, dict[str, float]] = {}

    def share(asset: str, column: str) -> float:
        if asset not in shares:
            frame = run.scan(asset).collect()
            total = max(frame.estimated_size(), 1)
            shares[asset] = {name: frame[name].estimated_size() / total for name in frame.columns}
            if "kind" in frame.columns:
                counted = frame["kind"].value_counts(normalize=True)
                shares[asset] |= {f"kind={k}": float(part) for k, part in counted.iter_rows()}
            if "attributes" in frame.columns:
                told: dict[str, int] = {}
                for text in frame["attributes"].drop_nulls().to_list():
                    for name, value in json.loads(text).items():
                        size = len(json.dumps({name: value}, ensure_ascii=False).encode())
                        told[name] = told.get(name, 0) + size
                own = shares[asset]["attributes"] / max(sum(told.values()), 1)
                shares[asset] |= {f"attributes.{name}": own * size for name, size in told.items()}
        return shares[asset].get(column, 0.0)

    def cost(asset: str, column: str | None) -> tuple[float | None, int | None]:
        told = usage.cost(context.assets.catalog, asset)
        part = 1.0 if column is None else share(asset, column)
        return float(told["cpu_seconds"] or 0.0) * part, int((told["bytes"] or 0) * part)

    return cost


def _before(context: Context) -> list[dict[str, Any]]:
    """The rows of the last measuring."""
    if not context.assets.exists(ASSET):
        return []
    run = context.run
    return context.assets.read(ASSET, by=run.by, purpose=run.purpose).to_dicts()
