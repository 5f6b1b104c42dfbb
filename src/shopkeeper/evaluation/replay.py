"""Logged answers, computed again: are the features and the scores those that were served?

This checks point-in-time correctness over the whole path: what the live service computed for a
request, from its event log and its release, must be what the same code computes later from the
same state. `replay` is a pure function of what was logged and of a function that recomputes; the
service, which knows the state, is that function's owner (`serving/`).

What an answer's log must hold for this, and what `recompute` must return:

    features   text: digest of the history as the models saw it (every feature of every event)
    scores     source -> (item ids or rows, scores): each source's candidates, before fusion

`from_log` reads both from an answer as `Service.trace` gives it.

Features must be equal. Scores must be equal within `tolerance`, and must be of the same items in
the same order; items whose logged scores differ by no more than `tolerance` may change places.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shopkeeper.errors import InputError
from shopkeeper.models.protocol import Progress, no_progress

EXAMPLES = 10  # of differing answers named in a report

Scored = tuple[Sequence[Any], Sequence[float]]  # items and their scores, best first


@dataclass(frozen=True)
class Computed:
    """What an answer was made from."""

    features: str
    scores: Mapping[str, Scored]


@dataclass(frozen=True)
class Difference:
    """One answer that did not come out the same."""

    answer_id: str
    what: str  # "features", "sources", "items", "scores" or "not replayable"
    detail: str


@dataclass(frozen=True)
class Report:
    """answers = equal + different + those that cannot be replayed (`missing`)."""

    answers: int
    equal_features: int
    equal_scores: int  # features, items and scores are equal
    missing: int
    max_difference: float  # largest absolute difference of any compared score
    scores_compared: int
    kinds: dict[str, int]  # what differed -> answers
    differences: tuple[Difference, ...]  # the first few

    @property
    def passed(self) -> bool:
        """Every answer was replayed and came out equal, and there was at least one."""
        return 0 < self.answers == self.equal_scores

    def as_dict(self) -> dict[str, Any]:
        """JSON."""
        return {
            "answers": self.answers,
            "equal_features": self.equal_features,
            "equal_scores": self.equal_scores,
            "missing": self.missing,
            "max_difference": self.max_difference,
            "scores_compared": self.scores_compared,
            "kinds": self.kinds,
            "passed": self.passed,
            "differences": [
                {"answer_id": one.answer_id, "what": one.what, "detail": one.detail}
                for one in self.differences
            ],
        }


def replay(
    logged: Iterable[tuple[str, Computed]],
    recompute: Callable[[str], Computed | None],
    *,
    tolerance: float = 0.0,
    total: int = 0,
    progress: Progress = no_progress,
) -> Report:
    """Recompute each logged answer and compare.

    Args:
        logged: answer ids with what was logged; ids are distinct.
        recompute: answer id -> the same computed again, or None where that cannot be done any more
            (its release is gone, say): counted as missing, never as equal.
        tolerance: largest absolute difference between equal scores; 0 asks for the same bits.
        total: how many there are, for the progress bar only.
    Raises:
        InputError: an answer id comes twice, or a negative tolerance.
    """
    if not tolerance >= 0:
        raise InputError(f"tolerance = {tolerance}; wanted 0 or more")
    kinds: Counter[str] = Counter()
    differences: list[Difference] = []
    seen: set[str] = set()
    equal_features = equal_scores = compared = 0
    largest = 0.0
    for answer_id, before in logged:
        if answer_id in seen:
            raise InputError(f"answer {answer_id!r} stands twice in what was logged")
        seen.add(answer_id)
        after = recompute(answer_id)
        if after is None:
            found: tuple[str, str] | None = ("not replayable", "it cannot be computed again")
        elif before.features != after.features:
            found = ("features", f"logged {before.features}, now {after.features}")
        else:
            equal_features += 1
            found, count, apart = _scores_differ(before.scores, after.scores, tolerance)
            compared += count
            largest = max(largest, apart)
            equal_scores += found is None
        if found is not None:
            kinds[found[0]] += 1
            if len(differences) < EXAMPLES:
                differences.append(Difference(answer_id, *found))
        progress(len(seen), max(total, len(seen)), "replaying")
    return Report(
        answers=len(seen),
        equal_features=equal_features,
        equal_scores=equal_scores,
        missing=kinds["not replayable"],
        max_difference=largest,
        scores_compared=compared,
        kinds={kind: count for kind, count in sorted(kinds.items()) if count},
        differences=tuple(differences),
    )


def from_log(answer: Mapping[str, Any]) -> Computed:
    """What was logged of an answer, from the shape of `Service.trace`.

    Reads history_digest and candidates: {item_ids, models: {name: a score an item}}. An item that a
    model does not know has no score (NaN or null) there, and none here.

    Raises:
        InputError: the answer holds no candidates (a search, or a log from before they were kept).
    """
    found = answer.get("candidates")
    if not found or "history_digest" not in answer:
        raise InputError(
            "no candidates are logged, so there is nothing to replay",
            where=f"answer {answer.get('answer_id', '?')}",
        )
    scores: dict[str, Scored] = {}
    for name, values in found["models"].items():
        known = [
            (item, float(value))
            for item, value in zip(found["item_ids"], values, strict=True)
            if value is not None and not math.isnan(value)
        ]
        scores[name] = [item for item, _ in known], [value for _, value in known]
    return Computed(str(answer["history_digest"]), scores)


def _scores_differ(
    before: Mapping[str, Scored], after: Mapping[str, Scored], tolerance: float
) -> tuple[tuple[str, str] | None, int, float]:
    """What differs (None: nothing), how many scores were compared, the largest difference."""
    if set(before) != set(after):
        return ("sources", f"logged {sorted(before)}, now {sorted(after)}"), 0, 0.0
    compared, largest = 0, 0.0
    first: tuple[str, str] | None = None
    for source in sorted(before):
        (items, values), (items_now, values_now) = before[source], after[source]
        old = np.asarray(values, dtype=np.float64)
        new = np.asarray(values_now, dtype=np.float64)
        if len(items) != len(items_now) or len(old) != len(new):
            first = first or (
                "items",
                f"{source}: {len(items)} candidates logged, {len(items_now)} now",
            )
            continue
        apart = np.where(old == new, 0.0, np.abs(old - new))  # equal infinities are equal
        apart = np.where(np.isnan(apart), np.inf, apart)  # NaN is equal to nothing
        compared += len(old)
        largest = max(largest, float(apart.max(initial=0.0)))
        if (apart > tolerance).any():
            place = int(np.argmax(apart > tolerance))
            first = first or (
                "scores",
                f"{source}, place {place + 1}: logged {old[place]:.9g}, now {new[place]:.9g}",
            )
        elif wrong := _moved(items, items_now, old, tolerance):
            first = first or ("items", f"{source}, {wrong}")
    return first, compared, largest


def _moved(
    items: Sequence[Any], items_now: Sequence[Any], scores: np.ndarray[Any, Any], tolerance: float
) -> str:
    """Where an item stands at a place whose score is not its own; "" where nowhere."""
    own = {item: float(score) for item, score in zip(items, scores, strict=True)}
    for place, (old, new) in enumerate(zip(items, items_now, strict=True)):
        if old == new:
            continue
        score = float(scores[place])
        if new not in own or not (own[new] == score or abs(own[new] - score) <= tolerance):
            return f"place {place + 1}: logged item {old}, now {new}"
    return ""
