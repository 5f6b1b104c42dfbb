"""A history and a request -> a page: retrieve, rank, rerank, and why each item stands there.

`plan` says whom to ask what, `finish` makes the page of the scores; what is asked in between can be
one user's questions or a thousand users' at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.features.sequences import Floats, Sequences
from shopkeeper.recommend import rank, rerank, retrieve
from shopkeeper.recommend.catalogue import Bools, Catalogue, Filters, Rows
from shopkeeper.recommend.reasons import reason
from shopkeeper.recommend.retrieve import Candidates, without
from shopkeeper.serving.answers import packed
from shopkeeper.serving.live import Live
from shopkeeper.serving.releases import Release
from shopkeeper.serving.scoring import Question
from shopkeeper.serving.state import History, digest, features, given
from shopkeeper.words import Kind, Scene

CANDIDATES = 100  # of each source; as many as weights were chosen on
LOGGED = 50  # fused candidates whose scores go into the answer log
POOL = 50  # unranked candidates that exploration draws from
REASONED = 3  # newest history items that reasons look at
FLOORS = ("sequence_knn", "item_knn", "ease", "popularity")  # who steps in for a failed model
OWN_HISTORY = 0.5  # weight of the user's own taste on an item or cart page
SAME_CATEGORY = 0.3  # weight of the item's category on its page
ALIKE = ("brand", "shop_id")  # what an item page keeps diverse; its category is its point
CART = 50  # items of a cart that are looked at
NEAR = "/near"  # what a question about the page's own items is called, after the model's name


@dataclass(frozen=True)
class Request:
    """What was asked, checked; part of the key of cached pages."""

    user_id: str | None
    session_id: str | None
    scene: Scene
    item_id: str | None
    history: tuple[str, ...] | None  # in place of what is known of the user
    k: int
    exclude: tuple[str, ...]
    filters: str  # canonical text

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `from_log` reads it back."""
        return {name: value for name, value in self.__dict__.items() if value not in (None, "")}

    @classmethod
    def from_log(cls, logged: Mapping[str, Any]) -> "Request":
        """The request of a logged answer."""
        history = logged.get("history")
        return cls(
            user_id=logged.get("user_id"),
            session_id=logged.get("session_id"),
            scene=Scene(logged["scene"]),
            item_id=logged.get("item_id"),
            history=None if history is None else tuple(history),
            k=logged["k"],
            exclude=tuple(logged.get("exclude", ())),
            filters=logged.get("filters", ""),
        )

    def given(self) -> History | None:
        """The history that came with the request."""
        if self.history is None:
            return None
        kind = Kind.CART if self.scene is Scene.CART else Kind.VIEW
        return History(given(self.history, kind.value), (-1, -1))

    def for_anybody(self) -> "Request":
        """The same of nobody in particular: people without a history share one page."""
        return Request(
            None,
            None,
            self.scene,
            self.item_id,
            self.history,
            self.k,
            self.exclude,
            self.filters,
        )


@dataclass(frozen=True)
class Page:
    """A ranked page before exploration; the same for every request with the same key."""

    rows: Rows
    scores: npt.NDArray[np.float64]
    sources: list[str]
    reasons: list[dict[str, Any]]
    pool: Rows  # what exploration may show
    degraded: bool
    log: dict[str, Any]  # what the answer log says of it


@dataclass(frozen=True)
class Plan:
    """What is known before any model is asked."""

    request: Request
    history: History
    allowed: Bools  # (N,) rows that may be shown
    anchors: list[int]  # rows that the page is about: the item, or the cart
    whole: Sequences  # the history as models see it
    questions: list[Question]
    weights: dict[str, float]


def plan(live: Live, request: Request, history: History, filters: Filters | None) -> Plan:
    """Rules that need no model, and the questions for those that do. NotFound: no such item."""
    catalogue, release = live.catalogue, live.release
    index, width = catalogue.index, catalogue.model_items
    allowed = allowed_rows(catalogue, filters)
    bought = [i for i in history.items([Kind.PURCHASE.value]) if i in index]
    hidden = [index[item] for item in request.exclude if item in index]
    hidden += [index[i] for i in bought if not (index[i] < width and release.repeatable[index[i]])]
    anchors = anchors_of(catalogue, request, history)
    hidden += anchors
    allowed[[row for row in hidden if row < len(allowed)]] = False
    whole = features(history.acts, index, width, live.histories.rules.limit)
    questions, weights = questions_of(release, live.neighbours.model, request, anchors, whole)
    return Plan(request, history, allowed, anchors, whole, questions, weights)


def allowed_rows(catalogue: Catalogue, filters: Filters | None) -> Bools:
    """(N,) rows that can be sold and pass the filters; the caller's own copy."""
    allowed = catalogue.available()
    matching = catalogue.matching(filters)
    if matching is None:
        return allowed
    width = min(len(allowed), len(matching))
    return allowed[:width] & matching[:width]


def anchors_of(catalogue: Catalogue, request: Request, history: History) -> list[int]:
    """Rows that the page is about; none at home."""
    if request.scene is Scene.ITEM and request.item_id is not None:
        return [catalogue.row(request.item_id)]
    if request.scene is Scene.CART:
        return [catalogue.index[item] for item in cart(history) if item in catalogue.index]
    return []


def questions_of(
    release: Release,
    item_model: str | None,
    request: Request,
    anchors: list[int],
    whole: Sequences,
) -> tuple[list[Question], dict[str, float]]:
    """Whom to ask what, and how much each answer weighs."""
    chosen = release.manifest.weights
    if chosen is None:
        names = [name for name in release.manifest.models if name != "popularity"]
    else:
        names = list(chosen)
    questions: list[Question] = []
    weights: dict[str, float] = {}
    known = [row for row in anchors if row < release.catalogue.model_items]
    near = item_model or (names[0] if names else None)
    if known and near is not None:
        name = near + NEAR
        questions.append(Question(name, near, near_history(release.catalogue, request, known)))
        weights[name] = 1.0
    if len(whole.items):
        share = OWN_HISTORY if known else 1.0
        for name in names:
            questions.append(Question(name, name, whole))
            weights[name] = share * (1.0 if chosen is None else chosen[name])
    return questions, weights


def near_history(catalogue: Catalogue, request: Request, known: list[int]) -> Sequences:
    """The page's own items as a history of their own."""
    kind = Kind.CART if request.scene is Scene.CART else Kind.VIEW
    acts = given([catalogue.ids[row] for row in known], kind.value)
    return features(acts, catalogue.index, catalogue.model_items, len(acts))


def stand_ins(release: Release, plan: Plan, failed: Mapping[str, str]) -> list[Question]:
    """The best floor that has not failed, where no model answered."""
    if not len(plan.whole.items):
        return []
    left = [name for name in FLOORS if name in release.models and name not in failed]
    return [Question(name, name, plan.whole) for name in left[:1]]


@dataclass(frozen=True)
class Order:
    """Candidates in the order of the fusion, and which of them fill the page."""

    ranked: rank.Ranked  # C of them, best first, before the rules
    scores: npt.NDArray[np.float64]  # (C,) after the rules
    page: npt.NDArray[np.int64]  # places in `ranked`, best first, at most k


def ordered(
    live: Live, plan: Plan, found: Sequence[Candidates], weights: Mapping[str, float]
) -> Order:
    """What the sources found -> the page: rank, then the rules. The gate judges this very function."""
    catalogue, release, request = live.catalogue, live.release, plan.request
    ranked = rank.fuse(found, weights, release.manifest.constant)
    wanted = CANDIDATES + POOL
    ranked = filled(ranked, retrieve.popular(release.popular, plan.allowed, wanted))
    final = ranked.scores
    if request.scene is Scene.HOME:
        viewed = plan.history.just_viewed()
        index = catalogue.index
        final = rerank.demote(final, ranked.rows, [index[item] for item in viewed if item in index])
    by = ALIKE if request.scene is Scene.ITEM else tuple(rerank.DECAY)
    return Order(ranked, final, rerank.diversify(ranked.rows, final, request.k, catalogue, by))


def finish(live: Live, plan: Plan, scores: Mapping[str, Floats], failed: Mapping[str, str]) -> Page:
    """The page of what the models said.

    Args:
        scores: question -> (M,) scores; sources without a weight in the plan weigh 1.
        failed: model -> why it said nothing; any makes the page degraded.
    """
    catalogue, release, request = live.catalogue, live.release, plan.request
    width = catalogue.model_items
    weights = dict.fromkeys(scores, 1.0) | {
        name: weight for name, weight in plan.weights.items() if name in scores
    }
    found = [
        retrieve.best(name, values, plan.allowed, CANDIDATES) for name, values in scores.items()
    ]
    if plan.anchors and request.scene is Scene.ITEM:
        found.append(same_category(catalogue, release, plan.anchors[0], plan.allowed))
        weights["same_category"] = SAME_CATEGORY
    made = ordered(live, plan, found, weights)
    ranked, order = made.ranked, made.page
    rows = ranked.rows[order]
    unshown = np.ones(len(ranked.rows), dtype=np.bool_)
    unshown[order] = False
    left = ranked.rows[unshown][:POOL]
    fresh = width + np.flatnonzero(plan.allowed[width:])  # written live: no model knows them yet
    fresh = without(without(fresh, rows), left)[-POOL:]
    sources = [ranked.sources[place].removesuffix(NEAR) for place in order]
    logged = ranked.rows[:LOGGED]
    known = np.minimum(logged, width - 1)
    return Page(
        rows=rows,
        scores=made.scores[order],
        sources=sources,
        reasons=reasons(live, plan, rows, sources),
        pool=np.concatenate([left, fresh]).astype(np.int64),
        degraded=bool(failed),
        log={
            "history_digest": digest(plan.whole),
            "history_length": len(plan.whole.items),
            "candidates": {
                "item_ids": [catalogue.ids[row] for row in logged],
                "fused": packed(ranked.scores[:LOGGED]),
                "models": {
                    name: packed(np.where(logged < width, values[known], np.nan))
                    for name, values in scores.items()
                },
            },
            "weights": weights,
            "failed": dict(failed),
        },
    )


def many(live: Live, plans: Sequence[Plan]) -> Iterator[Page]:
    """Pages of many home requests: each model is asked once for all of them."""
    asked: dict[str, list[int]] = {}
    for place, plan in enumerate(plans):
        for question in plan.questions:
            asked.setdefault(question.name, []).append(place)
    rows: dict[str, dict[int, Floats]] = {}
    for name, places in asked.items():
        together = joined([plans[place].whole for place in places])
        scores = live.release.models[name].scores(together)
        rows[name] = dict(zip(places, scores, strict=True))
    for place, plan in enumerate(plans):
        mine = {name: found[place] for name, found in rows.items() if place in found}
        yield finish(live, plan, mine, {})


def joined(several: Sequence[Sequences]) -> Sequences:
    """Several packed histories as one, in order."""
    lengths = np.concatenate([one.lengths for one in several])
    flat = {
        f.name: np.concatenate([getattr(one, f.name) for one in several])
        for f in fields(Sequences)
        if f.name not in ("users", "offsets")
    }
    return Sequences(
        users=[user for one in several for user in one.users],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        **flat,
    )


def filled(ranked: rank.Ranked, floor: Candidates) -> rank.Ranked:
    """Ranked candidates, then the floor's that are not among them, below all of them."""
    rows = without(floor.rows, ranked.rows)
    least = float(ranked.scores.min()) if len(ranked.scores) else 1.0
    scores = least * 0.5 / np.arange(1.0, len(rows) + 1)
    return rank.Ranked(
        np.concatenate([ranked.rows, rows]),
        np.concatenate([ranked.scores, scores]),
        [*ranked.sources, *["popularity"] * len(rows)],
    )


def same_category(catalogue: Catalogue, release: Release, row: int, allowed: Bools) -> Candidates:
    """The popular items of an item's category."""
    codes = catalogue.codes("category")[: len(allowed)]
    if codes[row] < 0:
        return Candidates("same_category", np.zeros(0, np.int64), np.zeros(0, np.float32))
    same = allowed & (codes == codes[row])
    found = retrieve.popular(release.popular, same, CANDIDATES)
    return Candidates("same_category", found.rows, found.scores)


def cart(history: History) -> list[str]:
    """What is in the cart: put in, and not bought since; newest first."""
    bought: set[str] = set()
    inside: dict[str, None] = {}
    for act in reversed(history.acts):
        if act.kind == Kind.PURCHASE.value:
            bought.add(act.item_id)
        elif act.kind == Kind.CART.value and act.item_id not in bought:
            inside.setdefault(act.item_id)
    return list(inside)[:CART]


def reasons(live: Live, plan: Plan, rows: Rows, sources: list[str]) -> list[dict[str, Any]]:
    """Why each row stands there; only what is true is said (see recommend.reasons)."""
    catalogue, scene = live.catalogue, plan.request.scene
    recent: dict[int, str] = {}
    for act in reversed(plan.history.acts):
        row = catalogue.index.get(act.item_id)
        if row is not None:
            recent.setdefault(row, act.kind)
        if len(recent) == REASONED:
            break
    around = live.neighbours.of([*recent, *plan.anchors[:REASONED]])
    near = list(zip(recent, recent.values(), around, strict=False))
    anchored = around[len(recent) :]
    names = cache(lambda row: names_of(catalogue, row))
    anchor = plan.anchors[0] if scene is Scene.ITEM and plan.anchors else None
    out = []
    for row, source in zip(rows.tolist(), sources, strict=True):
        because = next(((r, kind) for r, kind, near_it in near if row in near_it), None)
        if anchored and any(row in near_it for near_it in anchored):
            if anchor is not None:
                out.append(reason("similar", **names(anchor)))
            else:
                out.append(reason("goes_with"))
        elif source == "same_category" and anchor is not None:
            card = catalogue.card(anchor)
            english = str(card["category"])
            chinese = str((card["attributes"] or {}).get("category_zh") or english)
            out.append(reason("same_category", category=english, category_zh=chinese))
        elif because is not None:
            out.append(reason(f"because_{because[1]}", **names(because[0])))
        elif source == "popularity" or not plan.history.acts:
            out.append(reason("popular"))
        else:
            out.append(reason("for_you"))
    return out


def names_of(catalogue: Catalogue, row: int) -> dict[str, str]:
    """What a reason calls an item: {"item", "item_zh"}."""
    card = catalogue.card(row)
    english = str(card["title"] or card["title_zh"] or card["item_id"])
    return {"item": english, "item_zh": str(card["title_zh"] or english)}
