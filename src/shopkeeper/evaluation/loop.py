"""Is what comes back from serving fit to learn from? The loop's own data quality, as plain functions.

    examination.*   of searches, of recommendations: how often the deepest known place of a list is looked
                    at, relative to the first: where it is small, clicks there are rare and are
                    weighed (examination.py) where clicks are counted
    exposure_gini   how unevenly items are shown: 0 all alike, near 1 a few have everything
    never_shown     share of the catalogue that no answer showed
    unjoined        share of answers that no event came back for: what became of them is unknown
    bots            share of events that robots made (clean/bots.py finds them, cleaning keeps them out)
    skew            share of logged answers whose features or scores come out otherwise when computed
                    again (replay.py): 0, or training and serving do not see the same
    drift.<name>    population stability index of one feature, training beside live requests

The index is sum (live - trained) ln(live / trained) over ten classes of the training values; below 0.1
nothing moved, above 0.25 much did. Source: Siddiqi, "Credit Risk Scorecards", Wiley 2006.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.assets.store import Run
from shopkeeper.evaluation.examination import Examination, weighed
from shopkeeper.features.sequences import NO_TIME, Sequences

Values = npt.NDArray[np.float64]

ASSET = "quality.loop"  # the checks, measured
EXAMINATION = "examination"
PLACE = ("answer_id", "position")  # where an event's item stood
SURFACES = (
    "recommend",
    "search",
)  # kinds of answers, whose places are looked at each in its own way
NEXT = {
    EXAMINATION: "show fewer places, or raise [serving] exploration: what nobody looks at teaches nothing",
    "exposure_gini": "raise [serving] exploration: more items get a chance to be clicked",
    "never_shown": "raise [serving] exploration; items without title or category are hard to find: "
    "shopkeeper quality items",
    "unjoined": "send impressions and clicks with answer_id (docs/send-events.md); detail.kinds says "
    "which answers get none back",
    "bots": "see by which rule: shopkeeper quarantine ls; refuse them before they reach the shop",
    "skew": "look at one of detail.differences (--json): shopkeeper trace answer ID; "
    "a new release begins anew: shopkeeper run --force",
    "drift": "train on what is new: shopkeeper run; if it stays, look at what the page sends",
}
"""what to do about a check that is not ok"""
MEASURE_NEXT = (
    "serve answers, send events with their answer_id (docs/send-events.md), then: shopkeeper run"
)

OK, WARNING, ERROR, UNKNOWN = "ok", "warning", "error", "unknown"
WORST = (ERROR, WARNING, UNKNOWN, OK)
CLASSES = 10
LEAST_VALUES = 200  # on each side; fewer and chance alone looks like a shift
SMALLEST = 1e-4  # share of an empty class


@dataclass(frozen=True)
class Check:
    """One check of the loop, measured once."""

    check: str
    value: float | None  # None: nothing to measure it on
    low: float | None = None  # 95% interval, where there is one
    high: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)  # JSON

    def level(self, bounds: tuple[float, float]) -> str:
        """ok, warning, error; unknown without a value."""
        if self.value is None:
            return UNKNOWN
        return judged(self.value, bounds)


def curves(rows: pl.DataFrame) -> dict[str, Examination]:
    """Kind of answer -> its examination, as `quality.loop` measured it last; without what is unknown."""
    name = pl.col("check")
    newest = rows.filter(
        name.str.starts_with(f"{EXAMINATION}."), pl.col("at") == pl.col("at").max()
    )
    return {
        check.partition(".")[2]: Examination.from_dict(json.loads(detail))
        for check, value, detail in newest.select("check", "value", "detail").iter_rows()
        if value is not None
    }


def fair(run: Run, events: pl.LazyFrame) -> pl.LazyFrame:
    """`events` with `weight`, so that a click counts the more the less its place is looked at.

    Search and recommendation count what people want by this (examination.weighed). As they are,
    without `weight`, where no examination is known yet.

    Args:
        run: reads `quality.loop` and `raw.answers`.
        events: the columns of `PLACE`, and more.
    """
    known = curves(run.read(ASSET)) if run.has(ASSET) else {}
    if not known:
        return events
    return weighed(events, run.scan("raw.answers", columns=["answer_id", "kind"]), known)


def judged(value: float, bounds: tuple[float, float]) -> str:
    """The level of a value. `bounds`: where a warning begins and where an error does; an error bound
    below the warning's means that small values are bad. A value on a bound is still good."""
    warning, error = bounds
    if error >= warning:
        return ERROR if value > error else WARNING if value > warning else OK
    return ERROR if value < error else WARNING if value < warning else OK


def wanted(bounds: tuple[float, float]) -> str:
    """The bounds in words."""
    warning, error = bounds
    if error >= warning:
        return f"at most {warning:g}; above {error:g} is an error"
    return f"at least {warning:g}; below {error:g} is an error"


def stability(trained: Values, live: Values, *, classes: bool = False) -> float | None:
    """Population stability index of live values against those of training; None: too few values.

    Args:
        classes: the values are codes, each its own class, and not numbers to cut at their tenths.
    """
    if min(len(trained), len(live)) < LEAST_VALUES:
        return None
    if classes:
        _, codes = np.unique(np.concatenate([trained, live]), return_inverse=True)
        before, after = codes[: len(trained)], codes[len(trained) :]
        size = int(codes.max()) + 1
    else:
        cuts = np.unique(np.quantile(trained, np.arange(1, CLASSES) / CLASSES))
        before, after = (np.searchsorted(cuts, some, side="left") for some in (trained, live))
        size = len(cuts) + 1
    old = np.maximum(np.bincount(before, minlength=size) / len(trained), SMALLEST)
    new = np.maximum(np.bincount(after, minlength=size) / len(live), SMALLEST)
    return float(((new - old) * np.log(new / old)).sum())


def drifts(trained: Sequences, live: Sequences, items: int) -> dict[str, float | None]:
    """The stability index of every feature that models read, by name.

    Args:
        trained: the histories of training.
        live: those of requests, one a request; empty ones (strangers) say nothing and count nothing.
        items: M; popularity is told by an item's rank among the events of training.
    """
    counts = np.bincount(trained.items, minlength=items)
    rank = np.empty(items)
    rank[np.argsort(-counts, kind="stable")] = np.arange(items)
    said = [(_features(one), rank[one.items].astype(np.float64)) for one in (trained, live)]
    (before, popular), (after, popular_now) = said
    told = {name: stability(before[name], after[name], classes=name == "kind") for name in before}
    return {**told, "popularity": stability(popular, popular_now)}


def _features(some: Sequences) -> dict[str, Values]:
    """Values of events by feature, unknown ones left out."""
    lengths = some.lengths[some.lengths > 0].astype(np.float64)
    timed = some.times != NO_TIME
    gaps = some.gaps[timed]
    return {
        "length": lengths,
        "kind": some.kinds.astype(np.float64),
        "dwell": some.dwell[some.dwell > 0].astype(np.float64),
        "gap": gaps[gaps > 0].astype(np.float64),
        "price": some.prices[some.prices > 0].astype(np.float64),
    }
