"""How likely is a place of a list looked at? The one model of position and exposure bias.

The position-based model: a click at place k on an item is examination times relevance,

    P(click | context, k) = theta_k * gamma_context

theta_k depends on the place alone, gamma on the context alone: whatever decides how welcome the
item is (a query and an item, say). Only theta's ratios can be known, so the curve is told relative
to its first place: 1 there, 0.5 where half as many look. Clicks weighed by 1 / theta are unbiased.

Both ways to learn it need contexts that stood at several places (rankings changed, a slot explored),
and neither disturbs anybody; places that no such context links cannot be compared and are left out:

    harvest   those contexts are natural experiments. All pairs of places are used at once: given a
              context's clicks, where they fell says theta, and gamma cancels out, so there is none
              to estimate and none to get wrong, however many contexts there are. Idea: Agarwal et al., "Estimating Position Bias without Intrusive Interventions",
              WSDM 2019 (AllPairs); unlike the paper, the pairs' likelihood is the conditional one of
              fixed effects (Wooldridge, "Distribution-Free Estimation of Some Nonlinear Panel Data
              Models", Journal of Econometrics 1999), which is concave, without weights to choose.
              It wants places that do not follow from earlier clicks on the same context: search.
    em        regression-EM: examination and relevance by turns; Wang et al., "Position Bias Estimation
              for Unbiased Learning to Rank in Personal Search", WSDM 2018. Unlike the paper, relevance
              is no function of features but a random effect in two layers: contexts of one `group` (a
              person and a category, say) share a class of how much is wanted there, and within a class
              each context has a relevance of its own, both with a distribution for each place at which
              they first stood. For recommendations, and the default of the check.

Why the groups. A list that learns puts an item higher because *other* items of its kind were clicked.
Where it stands then follows from the past; the past's likelihood allows for that without more ado (the
choice of place cancels out of it) provided that relevance is described as the list learns it: alike
within a group. Described as independent, what the list knew is taken for examination, and the curve
comes out too steep. Idea: correlated random effects, Mundlak, "On the Pooling of Time Series and Cross
Section Data", Econometrica 1978.

Intervals are percentiles of a bootstrap over whole answers (or `cluster`: users).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shopkeeper.errors import InputError, NotReady
from shopkeeper.evaluation.metrics import gini

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Method = Literal["harvest", "em"]
PLACES = 20  # of a list that are looked at
DRAWS = 200
CONFIDENCE = 0.95
ROUNDS = 200  # of a search at most
FURTHEST = 32.0  # of a long step
CLASSES = 6  # of groups, by how much is wanted there
GRID = np.geomspace(1e-3, 0.98, 24)  # of relevance
NEAR = 1e-4  # a smaller change of the curve ends a search
LEAST = (
    1 / 3
)  # of examination: clicks are weighed by at most 3; above, chance grows faster than bias falls


@dataclass(frozen=True)
class Examination:
    """The examination of P places, relative to the first of them."""

    places: Ints  # (P,) from 1, rising
    curve: Doubles  # (P,) 1 at the first
    low: Doubles  # (P,) 95% interval
    high: Doubles  # (P,)
    shown: Ints  # (P,) items that stood there
    clicks: Ints  # (P,) of them clicked
    method: str  # "harvest" or "em"
    answers: int

    def at(self, places: npt.ArrayLike) -> Doubles:
        """Examination at `places`; beyond the known ones that of the nearest known place."""
        asked = np.asarray(places, dtype=np.float64)
        return np.asarray(np.interp(asked, self.places, self.curve), dtype=np.float64)

    def weights(self, places: npt.ArrayLike, least: float = LEAST) -> Doubles:
        """What a click at each of `places` counts: 1 / examination, at most 1 / `least`.

        The upper end of the interval is taken for it, where there is one: what few clicks tell is
        made up for in part, and all of it as more come in.
        """
        sure = np.where(np.isnan(self.high), self.curve, self.high)
        asked = np.asarray(places, dtype=np.float64)
        return 1.0 / np.maximum(np.interp(asked, self.places, sure), least)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """What `as_dict` told."""
        columns = {
            name: np.array([place[name] for place in told["places"]])
            for name in ("place", "examination", "low", "high", "shown", "clicks")
        }
        return cls(
            places=columns["place"],
            curve=columns["examination"],
            low=columns["low"],
            high=columns["high"],
            shown=columns["shown"],
            clicks=columns["clicks"],
            method=told["method"],
            answers=told["answers"],
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON."""
        return {
            "method": self.method,
            "answers": self.answers,
            "places": [
                {
                    "place": int(place),
                    "examination": round(float(value), 4),
                    "low": round(float(low), 4),
                    "high": round(float(high), 4),
                    "shown": int(shown),
                    "clicks": int(clicks),
                }
                for place, value, low, high, shown, clicks in zip(
                    self.places, self.curve, self.low, self.high, self.shown, self.clicks,
                    strict=True,
                )
            ],
        }  # fmt: skip


@dataclass(frozen=True)
class _Cells:
    """C contexts by P places; row r of the log is in cell `cell[r]` and of cluster `cluster[r]`."""

    places: Ints
    cell: Ints  # (R,) context * P + place
    contexts: int
    first: Ints  # (C,) the place of each in its first row
    clicked: Doubles  # (R,)
    cluster: Ints  # (R,)
    clusters: int
    group: Ints  # (C,)
    group_first: Ints  # (N,) the place of each in its first row
    owner: Ints  # (N,) cluster of the first row of each

    def tables(self, weight: Doubles | None = None) -> tuple[Doubles, Doubles]:
        """(C, P) shown and clicked, each answer counted `weight` times."""
        rows = np.ones(len(self.cell)) if weight is None else weight[self.cluster]
        size, shape = self.contexts * len(self.places), (self.contexts, len(self.places))
        shown = np.bincount(self.cell, rows, size).astype(np.float64)
        clicks = np.bincount(self.cell, rows * self.clicked, size).astype(np.float64)
        return shown.reshape(shape), clicks.reshape(shape)


def estimate(
    log: pl.DataFrame,
    *,
    method: Method = "harvest",
    places: int = PLACES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Examination:
    """The examination curve of logged answers.

    Args:
        log: a row an item of an answer, oldest answer first: answer_id, context (text; what decides relevance), position
            (from 1), clicked (bool); optional `group` (text; contexts whose relevance is alike, for em)
            and `cluster` (text) to resample by instead of answers.
        places: of a list; deeper ones are left out.
        draws: of the bootstrap; 0 for no intervals (NaN).
    Raises:
        InputError: a column is missing. NotReady: no clicks, or no place that can be compared with
            another.
    """
    missing = {"answer_id", "context", "position", "clicked"} - set(log.columns)
    if missing:
        raise InputError(f"the log lacks {sorted(missing)}; found {log.columns}")
    kept = log.filter(pl.col("position").is_between(1, places)).drop_nulls(["context", "answer_id"])
    if not kept.height or not kept["clicked"].any():
        raise NotReady(
            "no click on any shown item is known, so nothing says which places are looked at",
            next="send events with the answer_id and position of the answer they follow from "
            "(docs/send-events.md)",
        )
    cells = _cells(kept)
    shown, clicks = cells.tables()
    known = _comparable(shown, clicks)
    if known.sum() < 2:
        raise NotReady(
            "no clicked context stood at two places, so nothing compares places",
            next="let more answers be logged; exploration ([serving] exploration) compares places",
        )
    shown, clicks = shown[:, known], clicks[:, known]
    rng = np.random.default_rng(seed)
    drawn = np.full((draws, int(known.sum())), np.nan)
    weights = (
        rng.multinomial(cells.clusters, np.full(cells.clusters, 1 / cells.clusters)).astype(
            np.float64
        )
        for _ in range(draws)
    )
    if method == "em":
        em = _Em(shown, clicks, cells)
        state = em.learn(np.ones(len(em.owner)), em.begin())
        curve = state.theta / state.theta[0]
        for draw, weight in enumerate(weights):  # whole groups, each with its first reader
            again = em.learn(weight[em.owner], state).theta
            drawn[draw] = again / again[0]
    else:
        curve = _harvest(shown, clicks, None)
        for draw, weight in enumerate(weights):
            some, hits = cells.tables(weight)
            drawn[draw] = _harvest(some[:, known], hits[:, known], curve)
    tail = (1 - CONFIDENCE) / 2
    bounds = (
        np.nanquantile(drawn, [tail, 1 - tail], axis=0)
        if draws
        else np.full((2, len(curve)), np.nan)
    )
    return Examination(
        places=cells.places[known],
        curve=curve,
        low=bounds[0],
        high=bounds[1],
        shown=shown.sum(axis=0).astype(np.int64),
        clicks=clicks.sum(axis=0).astype(np.int64),
        method=method,
        answers=kept["answer_id"].n_unique(),
    )


def exposures(
    answers: pl.DataFrame, events: pl.DataFrame, categories: pl.DataFrame | None = None
) -> pl.DataFrame:
    """What `estimate` reads, of logged answers and the events that followed.

    Args:
        answers: answer_id, user_id, query, explored (place from 0, or null), items, positions (lists of
            one length).
        events: answer_id, item_id; each says that the item of the answer was clicked. Impressions
            are no clicks and are not to be among them.
        categories: item_id, category (null where unknown); None: no item has one.
    Returns:
        answer_id, item_id, position, context, group, clicked. The context of a search is its words
        and the item, of a recommendation the user and the item: the same person's interest at two
        places; its group is the words, or the user, and the item's category. What exploration showed
        is one context: any item, at any place, is as likely as another.
    """
    lists = ["items", "positions"]
    flat = answers.select("answer_id", "user_id", "query", "explored", *lists).explode(lists)
    flat = flat.rename({"items": "item_id", "positions": "position"}).drop_nulls("item_id")
    flat = flat.unique(["answer_id", "item_id"], keep="first", maintain_order=True)
    hits = events.select("answer_id", "item_id").drop_nulls().unique()
    flat = flat.join(
        hits.with_columns(clicked=True), on=["answer_id", "item_id"], how="left"
    ).with_columns(pl.col("clicked").fill_null(False))
    if categories is None:
        flat = flat.with_columns(category=pl.lit(None, pl.String))
    else:
        kinds = categories.select("item_id", "category").unique("item_id")
        flat = flat.join(kinds, on="item_id", how="left", maintain_order="left")
    asked = pl.when(pl.col("query").is_null()).then(pl.format("u:{}", "user_id"))
    by = asked.otherwise(pl.format("q:{}", "query"))
    drawn = pl.col("position") == pl.col("explored") + 1
    return flat.select(
        "answer_id",
        "item_id",
        "position",
        *(
            pl.when(drawn)
            .then(pl.lit("explored"))
            .otherwise(pl.concat_str(by, pl.lit("\t"), of))
            .alias(name)
            for name, of in (
                ("context", pl.col("item_id")),
                ("group", pl.col("category").fill_null("")),
            )
        ),
        "clicked",
    )


def weighed(
    events: pl.LazyFrame, answers: pl.LazyFrame, curves: Mapping[str, Examination]
) -> pl.LazyFrame:
    """`events` with `weight`: what each counts when every place is looked at alike.

    1 / examination of the place at which an answer showed the item; 1 where no answer did, and
    where nothing is known of the places of such answers.

    Args:
        events: answer_id, position (from 1), and more; order and rows are kept.
        answers: answer_id, kind.
        curves: kind of answer -> its examination.
    """
    if not curves:
        return events.with_columns(weight=pl.lit(1.0))
    known = [
        pl.LazyFrame({"of": kind, "place": places, "weight": curve.weights(places)})
        for kind, curve in curves.items()
        for places in [np.arange(1, int(curve.places[-1]) + 1)]
    ]
    last = {kind: int(curve.places[-1]) for kind, curve in curves.items()}
    kinds = answers.select("answer_id", of="kind").unique("answer_id")
    deepest = pl.col("of").replace_strict(last, default=None, return_dtype=pl.Int64)
    place = pl.min_horizontal(pl.col("position").cast(pl.Int64).clip(lower_bound=1), deepest)
    return (
        events.join(kinds, on="answer_id", how="left", maintain_order="left")
        .with_columns(place=pl.when(pl.col("position").is_not_null()).then(place))
        .join(pl.concat(known), on=["of", "place"], how="left", maintain_order="left")
        .with_columns(pl.col("weight").fill_null(1.0))
        .drop("of", "place")
    )


def exposure(shown: pl.Series, catalogue: int) -> dict[str, float]:
    """How evenly items are shown.

    Args:
        shown: an item id a showing.
        catalogue: items that could be shown; never fewer than were.
    Returns:
        gini over the catalogue (0 all alike), and the share of it that was never shown.
    """
    counts = shown.drop_nulls().value_counts()["count"].to_numpy()
    items = max(catalogue, len(counts))
    amounts = np.zeros(items)
    amounts[: len(counts)] = counts
    return {
        "gini": gini(amounts),
        "never_shown": 1.0 - len(counts) / items if items else 0.0,
    }


def _cells(log: pl.DataFrame) -> _Cells:
    places, place = np.unique(log["position"].to_numpy().astype(np.int64), return_inverse=True)
    context = _codes(log["context"])
    first = _first(context, place)
    by = _codes(log["cluster"] if "cluster" in log.columns else log["answer_id"])
    group = _codes(log["group"].fill_null(log["context"])) if "group" in log.columns else context
    return _Cells(
        places=places,
        cell=context * len(places) + place,
        contexts=len(first),
        first=first,
        clicked=log["clicked"].to_numpy().astype(np.float64),
        cluster=by,
        clusters=int(by.max()) + 1,
        group=_first(context, group),
        group_first=_first(group, place),
        owner=_first(group, by),
    )


def _first(codes: Ints, values: Ints) -> Ints:
    """(distinct codes,) the value of each code's first row."""
    found = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    found[codes[::-1]] = values[::-1]
    return found


def _codes(texts: pl.Series) -> Ints:
    """0 .. distinct - 1, in order of first appearance."""
    return (texts.rank("dense") - 1).to_numpy().astype(np.int64)


def _comparable(shown: Doubles, clicks: Doubles) -> npt.NDArray[np.bool_]:
    """(P,) the largest set of places that clicked contexts link with each other, each with clicks."""
    told = shown[clicks.sum(axis=1) > 0] > 0
    told = told[told.sum(axis=1) > 1]
    clicked = clicks.sum(axis=0) > 0
    together = (told.T.astype(np.float64) @ told) * np.outer(clicked, clicked)
    _, part = connected_components(coo_array(together), directed=False)
    sizes = np.bincount(part, weights=clicked)
    found: npt.NDArray[np.bool_] = (part == int(sizes.argmax())) & clicked
    return found


def _harvest(shown: Doubles, clicks: Doubles, start: Doubles | None) -> Doubles:
    """(P,) theta that makes most likely where the clicks of each context fell; Newton's method.

    Given a context's clicks, the share of place k is shown_k theta_k / sum_j shown_j theta_j.
    """
    total = clicks.sum(axis=1)
    says = (total > 0) & ((shown > 0).sum(axis=1) > 1)
    shown, clicks, total = shown[says], clicks[says], total[says]
    places = shown.shape[1]
    log = np.zeros(places) if start is None else np.log(start)
    for _ in range(ROUNDS):
        odds = shown * np.exp(log)
        share = odds / odds.sum(axis=1, keepdims=True)
        slope = clicks.sum(axis=0) - total @ share
        bend = np.diag(total @ share) - (share * total[:, None]).T @ share
        # the first place stays; 0.01 of a click pulls places that a draw left without any
        step = np.linalg.solve(bend[1:, 1:] + 0.01 * np.eye(places - 1), slope[1:] - 0.01 * log[1:])
        step = np.clip(step, -1.0, 1.0)
        log[1:] += step
        if np.abs(step).max() < NEAR:
            break
    return np.exp(log)


@dataclass(frozen=True)
class _State:
    """What em has learned so far."""

    theta: Doubles  # (P,) examination, absolute
    prior: Doubles  # (P, K, G) relevance of contexts by the place where they first stood, and class
    classes: Doubles  # (P, K) classes of groups by the place where they first stood


class _Em:
    """Contexts that look alike (same showings, same clicks, same first place) are counted, not repeated.

    R kinds of contexts, N groups, K classes, G grid points of relevance.
    """

    def __init__(self, shown: Doubles, clicks: Doubles, cells: _Cells) -> None:
        places = shown.shape[1]
        seen = np.flatnonzero(shown.sum(axis=1) > 0)
        table = np.concatenate([shown, clicks, cells.first[:, None]], axis=1)[seen]
        rows, row_of = np.unique(table, axis=0, return_inverse=True)
        self.shown, self.clicks = rows[:, :places], rows[:, places:-1]
        self.first = rows[:, -1].astype(np.int64)  # (R,)
        self.group_first = cells.group_first  # (N,)
        self.owner = cells.owner  # (N,) cluster
        ones = np.ones(len(seen))
        shape = (len(self.owner), len(rows))
        self.parts = coo_array((ones, (cells.group[seen], row_of)), shape=shape).tocsr()  # (N, R)
        self.whole = self.parts.T.tocsr()
        self.at = [
            np.flatnonzero(self.first == place) for place in range(int(self.first.max()) + 1)
        ]

    def begin(self) -> _State:
        """Before anything is learned: classes around rising relevances, of equal shares."""
        middle = np.linspace(np.log(GRID[1]), np.log(GRID[-2]), CLASSES)
        bell = np.exp(-0.5 * (np.log(GRID)[None, :] - middle[:, None]) ** 2)
        bell /= bell.sum(axis=1, keepdims=True)
        many = int(max(self.first.max(), self.group_first.max())) + 1
        return _State(
            np.full(self.shown.shape[1], 0.6),
            np.repeat(bell[None], many, axis=0),
            np.full((many, CLASSES), 1 / CLASSES),
        )

    def learn(self, weight: Doubles, state: _State) -> _State:
        """Expectation maximisation from `state` on, with long steps where its rounds go one way.

        Source of the steps: Varadhan & Roland, "Simple and Globally Convergent Methods for
        Accelerating the Convergence of Any EM Algorithm", Scandinavian Journal of Statistics 2008
        (SqS3). One that makes the data less likely is not taken.

        Args:
            weight: (N,) of each group.
        """
        many = np.asarray(self.whole @ weight)  # (R,)
        for _ in range(ROUNDS):
            one, _ = self._round(weight, many, state)
            two, reached = self._round(weight, many, one)
            after, likely = self._round(weight, many, _leap(state, one, two))
            if likely < reached:
                after = two
            moved = after.theta / after.theta[0] - state.theta / state.theta[0]
            state = after
            if np.abs(moved).max() < NEAR:
                break
        return state

    def _round(self, weight: Doubles, many: Doubles, state: _State) -> tuple[_State, float]:
        """One round, and the log likelihood of the state it began with."""
        theta, prior = state.theta, state.prior.copy()
        missed = self.shown - self.clicks
        missing = 1.0 - np.outer(theta, GRID)  # (P, G) chance of no click
        likely = self.clicks @ np.log(np.outer(theta, GRID)) + missed @ np.log(missing)
        top = likely.max(axis=1, keepdims=True)
        likely = np.exp(likely - top)  # (R, G)
        by_class = np.empty((len(likely), CLASSES))  # (R, K)
        for place, rows in enumerate(self.at):
            by_class[rows] = likely[rows] @ prior[place].T
        by_class = np.maximum(by_class, 1e-300)
        told: Doubles = np.asarray(self.parts @ np.log(by_class))
        of_group = told + np.log(state.classes)[self.group_first]
        most = of_group.max(axis=1, keepdims=True)
        of_group = np.exp(of_group - most)
        total = of_group.sum(axis=1, keepdims=True)
        reached = weight @ (most + np.log(total))[:, 0] + many @ top[:, 0]
        of_group *= weight[:, None] / total  # (N, K)
        share = np.asarray(self.whole @ of_group) / by_class  # (R, K)
        relevance = np.empty_like(likely)  # (R, G), each row adds up to `many`
        for place, rows in enumerate(self.at):
            relevance[rows] = likely[rows] * (share[rows] @ prior[place])
            prior[place] = prior[place] * (share[rows].T @ likely[rows]) + 1e-3
        prior /= prior.sum(axis=2, keepdims=True)
        classes = np.full_like(state.classes, 1e-3)
        np.add.at(classes, self.group_first, of_group)
        classes /= classes.sum(axis=1, keepdims=True)
        looked = theta[:, None] * (1.0 - GRID) / missing  # given that there was no click
        seen = many @ self.clicks + (missed * (relevance @ looked.T)).sum(axis=0)
        theta = np.clip(seen / np.maximum(many @ self.shown, 1e-12), 1e-6, 1 - 1e-6)
        return _State(theta, prior, classes), float(reached)


def _leap(start: _State, one: _State, two: _State) -> _State:
    """Where two rounds point to: further on their way, in logarithms."""
    parts = [
        [np.log(getattr(state, field.name)) for field in fields(_State)]
        for state in (start, one, two)
    ]
    way = [after - before for before, after in zip(parts[0], parts[1], strict=True)]
    bend = [last - after - step for last, after, step in zip(parts[2], parts[1], way, strict=True)]
    far = float(np.linalg.norm(way[0]) / max(float(np.linalg.norm(bend[0])), 1e-12))
    far = min(max(far, 1.0), FURTHEST)
    theta, prior, classes = (
        np.exp(np.clip(before + 2 * far * step + far * far * turn, -50.0, 5.0))
        for before, step, turn in zip(parts[0], way, bend, strict=True)
    )
    return _State(
        np.clip(theta, 1e-6, 1 - 1e-6),
        prior / prior.sum(axis=2, keepdims=True),
        classes / classes.sum(axis=1, keepdims=True),
    )
