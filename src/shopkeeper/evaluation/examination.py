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
              for Unbiased Learning to Rank in Personal Search", WSDM 2018. Unlike the paper,
              relevance is a distribution over a grid, learned for each place at which contexts stood
              first: so a list that puts the better higher, or moves an item because it was clicked,
              is allowed for. For recommendations, whose context is a user and an item.

Intervals are percentiles of a bootstrap over whole answers (or `cluster`: users).
"""

from dataclasses import dataclass
from typing import Any, Literal

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
GRID = np.geomspace(1e-3, 0.98, 24)  # of relevance
NEAR = 1e-4  # a smaller change of the curve ends a search
LEAST = 0.05  # of examination: clicks are weighed by at most 1 / LEAST


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
        """What a click at each of `places` counts: 1 / examination, at most 1 / `least`."""
        return 1.0 / np.maximum(self.at(places), least)

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
    owner: Ints  # (C,) cluster of the first row of each
    clusters: int

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
            (from 1), clicked (bool); optional `cluster` (text) to resample by instead of answers.
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
    learn = _Em(shown, clicks, cells.first) if method == "em" else None
    ones = np.ones(cells.contexts)
    curve = learn.curve(ones, None) if learn else _harvest(shown, clicks, None)
    rng = np.random.default_rng(seed)
    drawn = np.full((draws, int(known.sum())), np.nan)
    for draw in range(draws):
        weight = rng.multinomial(cells.clusters, np.full(cells.clusters, 1 / cells.clusters))
        if learn:  # whole contexts, each with its first reader
            drawn[draw] = learn.curve(weight[cells.owner].astype(np.float64), curve)
        else:
            again, hits = cells.tables(weight.astype(np.float64))
            drawn[draw] = _harvest(again[:, known], hits[:, known], curve)
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


def exposures(answers: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """What `estimate` reads, of logged answers and the events that followed.

    Args:
        answers: answer_id, user_id, query, explored (place from 0, or null), items, positions (lists of
            one length).
        events: answer_id, item_id; each says that the item of the answer was clicked. Impressions
            are no clicks and are not to be among them.
    Returns:
        answer_id, item_id, position, context, clicked. The context of a search is its words and the
        item, of a recommendation the user and the item: the same person's interest at two places.
        What exploration showed is one context: any item, at any place, is as likely as another.
    """
    lists = ["items", "positions"]
    flat = answers.select("answer_id", "user_id", "query", "explored", *lists).explode(lists)
    flat = flat.rename({"items": "item_id", "positions": "position"}).drop_nulls("item_id")
    flat = flat.unique(["answer_id", "item_id"], keep="first", maintain_order=True)
    hits = events.select("answer_id", "item_id").drop_nulls().unique()
    flat = flat.join(
        hits.with_columns(clicked=True), on=["answer_id", "item_id"], how="left"
    ).with_columns(pl.col("clicked").fill_null(False))
    asked = pl.when(pl.col("query").is_null()).then(pl.format("u:{}", "user_id"))
    own = pl.concat_str(asked.otherwise(pl.format("q:{}", "query")), pl.lit("\t"), "item_id")
    drawn = pl.col("position") == pl.col("explored") + 1
    context = pl.when(drawn).then(pl.lit("explored")).otherwise(own)
    return flat.select("answer_id", "item_id", "position", context.alias("context"), "clicked")


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
    first = np.zeros(int(context.max()) + 1, dtype=np.int64)
    first[context[::-1]] = place[::-1]
    by = _codes(log["cluster"] if "cluster" in log.columns else log["answer_id"])
    owner = np.zeros(len(first), dtype=np.int64)
    owner[context[::-1]] = by[::-1]
    return _Cells(
        places=places,
        cell=context * len(places) + place,
        contexts=len(first),
        first=first,
        clicked=log["clicked"].to_numpy().astype(np.float64),
        cluster=by,
        owner=owner,
        clusters=int(by.max()) + 1,
    )


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


class _Em:
    """Contexts that look alike (same showings, same clicks, same first place) are counted, not repeated."""

    def __init__(self, shown: Doubles, clicks: Doubles, first: Ints) -> None:
        places = shown.shape[1]
        table = np.concatenate([shown, clicks, first[:, None]], axis=1)
        rows, self.row_of = np.unique(table, axis=0, return_inverse=True)
        self.clicks = rows[:, places:-1]
        self.shown = rows[:, :places]
        _, self.group = np.unique(rows[:, -1], return_inverse=True)

    def curve(self, weight: Doubles, start: Doubles | None) -> Doubles:
        """(P,) theta by expectation maximisation, relative to the first place.

        Args:
            weight: (C,) of each context.
            start: where a draw begins, which then needs fewer rounds.
        """
        many = np.bincount(self.row_of, weight, len(self.shown))
        kept = (many > 0) & (self.shown.sum(axis=1) > 0)
        if not kept.any():
            return np.full(self.shown.shape[1], 1.0) if start is None else start
        shown, clicks, group = self.shown[kept], self.clicks[kept], self.group[kept]
        missed, many = shown - clicks, many[kept]
        of_group = np.zeros((int(group.max()) + 1, len(group)))
        of_group[group, np.arange(len(group))] = many
        total = np.maximum(of_group.sum(axis=1, keepdims=True), 1e-12)
        prior = np.full((len(of_group), len(GRID)), 1 / len(GRID))
        theta = np.full(shown.shape[1], 0.6)
        if start is not None:
            theta = 0.9 * start / max(float(start.max()), 1.0)
        for _ in range(ROUNDS if start is None else ROUNDS // 8):
            before = theta / theta[0]
            missing = 1.0 - np.outer(theta, GRID)  # (P, G) chance of no click
            likely = clicks @ np.log(np.outer(theta, GRID)) + missed @ np.log(missing)
            likely += np.log(prior + 1e-12)[group]
            relevance = np.exp(likely - likely.max(axis=1, keepdims=True))
            relevance /= relevance.sum(axis=1, keepdims=True)  # (C, G)
            looked = theta[:, None] * (1.0 - GRID) / missing  # given that there was no click
            seen = many @ (clicks + missed * (relevance @ looked.T))
            theta = np.clip(seen / np.maximum(many @ shown, 1e-12), 1e-6, 1 - 1e-6)
            prior = of_group @ relevance / total
            if np.abs(theta / theta[0] - before).max() < NEAR:
                break
        curve: Doubles = theta / theta[0]
        return curve
