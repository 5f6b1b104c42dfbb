"""The service: opens the current release and answers. Knows nothing of HTTP; safe to share.

request -> history (snapshot + log) -> retrieve -> rank -> rerank -> page (cached)
        -> exploration -> answer (logged)
"""

import hashlib
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.config import Settings
from shopkeeper.errors import InputError, NotFound, NotReady, ShopkeeperError
from shopkeeper.features.sequences import Floats, Sequences, pack
from shopkeeper.recommend import rank, rerank, retrieve
from shopkeeper.recommend.catalogue import Bools, Catalogue, Filters, Rows
from shopkeeper.recommend.reasons import reason
from shopkeeper.recommend.retrieve import Candidates
from shopkeeper.serving import items as live
from shopkeeper.serving import releases
from shopkeeper.serving.answers import AnswerLog, Cache, packed, unpacked
from shopkeeper.serving.counters import Counters
from shopkeeper.serving.events import EventLog, Receipt
from shopkeeper.serving.items import ItemLog
from shopkeeper.serving.live_search import LiveSearch
from shopkeeper.serving.scoring import Question, Scorer
from shopkeeper.serving.state import Histories, History, Rules, digest, features, given
from shopkeeper.words import Kind, Scene

CANDIDATES = 200  # of each source
LOGGED = 50  # fused candidates whose scores go into the answer log
POOL = 50  # unranked candidates that exploration draws from
NEIGHBOURS = 50  # of an item, for reasons
REASONED = 3  # newest history items that reasons look at
ITEM_MODELS = ("item_knn", "ease", "sequence_knn")  # who knows what goes with one item, best first
FLOORS = ("sequence_knn", "item_knn", "ease", "popularity")  # who steps in for a failed model
OWN_HISTORY = 0.5  # weight of the user's own taste on an item or cart page
SAME_CATEGORY = 0.3  # weight of the item's category on its page
MAX_GIVEN = 200
MAX_EXCLUDE = 1000


@dataclass(frozen=True, slots=True)
class Hit:
    item_id: str
    score: float
    position: int  # from 1
    source: str
    reason: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    answer_id: str
    items: list[Hit]
    degraded: bool
    release: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "answer_id": self.answer_id,
            "items": [
                {
                    "item_id": hit.item_id,
                    "score": hit.score,
                    "position": hit.position,
                    "source": hit.source,
                    "reason": hit.reason,
                }
                for hit in self.items
            ],
            "degraded": self.degraded,
            "release": self.release,
        }


@dataclass(frozen=True)
class SearchAnswer(Answer):
    total: int = 0
    facets: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    corrected: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return super().as_dict() | {
            "total": self.total,
            "facets": self.facets,
            "stage": self.stage,
            "corrected": self.corrected,
        }


@dataclass(frozen=True)
class _Request:
    user_id: str | None
    session_id: str | None
    scene: Scene
    item_id: str | None
    history: tuple[str, ...] | None
    k: int
    exclude: tuple[str, ...]
    filters: str  # canonical text, for the cache key

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if value not in (None, (), "")}


@dataclass(frozen=True)
class _Page:
    """A ranked page before exploration; the same for every request with the same key."""

    rows: Rows
    scores: npt.NDArray[np.float64]
    sources: list[str]
    reasons: list[dict[str, Any]]
    pool: Rows
    degraded: bool
    log: dict[str, Any]  # what the answer log says of it


class _Live:
    """One release in service."""

    def __init__(
        self,
        release: releases.Release,
        log: EventLog,
        items: ItemLog,
        settings: Settings,
        scratch: Path,
    ) -> None:
        self.release = release
        self.catalogue = release.catalogue
        self.histories = Histories(
            log,
            release.snapshot,
            Rules(
                kinds=frozenset(settings.features.kinds),
                limit=settings.serving.history,
                same_event_ms=int(settings.clean.same_event_seconds * 1000),
                future_ms=int(settings.clean.future_minutes * 60_000),
            ),
        )
        self.scorer = Scorer(
            release.models, settings.serving.deadline_ms / 1000.0, settings.serving.threads
        )
        self.neighbours = _Neighbours(release)
        self.items = items
        self.items_seen = release.manifest.positions["items"]
        self._items_lock = threading.Lock()
        self.search = LiveSearch(release, items, scratch) if release.manifest.search else None
        self.answered = 0
        self.failed = 0
        self.catch_up()

    def catch_up(self) -> None:
        """Apply item writes of any worker."""
        if self.items.last() <= self.items_seen:
            return
        with self._items_lock:
            for write in self.items.read(self.items_seen):
                live.apply(write, self.catalogue)
                self.items_seen = write.seq

    def close(self) -> None:
        self.scorer.close()
        if self.search is not None:
            self.search.close()


class _Neighbours:
    """Which items stand near which, by an item model; looked up once, kept."""

    def __init__(self, release: releases.Release) -> None:
        self._model = next(
            (release.models[name] for name in ITEM_MODELS if name in release.models), None
        )
        self._kept: OrderedDict[int, frozenset[int]] = OrderedDict()
        self._lock = threading.Lock()
        self._base: Floats | None = None
        self._items = release.catalogue.model_items

    def of(self, row: int) -> frozenset[int]:
        """Rows that the model proposes because of `row` (not by popularity alone)."""
        if self._model is None or row >= self._items:
            return frozenset()
        with self._lock:
            known = self._kept.get(row)
        if known is not None:
            return known
        try:
            if self._base is None:
                self._base = np.asarray(self._model.scores(pack([""], [0], np.zeros(0))))[0]
            scores = np.asarray(self._model.scores(pack([""], [1], [row])))[0]
        except Exception:  # a reason is a courtesy; the page stands without it
            return frozenset()
        gained = scores > self._base + 1e-6
        gained[row] = False
        found = frozenset(retrieve.best("", scores, gained, NEIGHBOURS).rows.tolist())
        with self._lock:
            self._kept[row] = found
            while len(self._kept) > 100_000:
                self._kept.popitem(last=False)
        return found


class Service:
    """Answers from the current release of a workspace; every method may be called from any thread."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.counts = Counters()
        self._store = folder / "store" / "releases"
        self._scratch = folder / "store" / "online" / "search"
        now = releases.pointer(self._store)
        if now is None:
            raise NotReady("no release serves yet", where=str(folder), next="run: shopkeeper run")
        online = folder / "store" / "online"
        self.events = EventLog(online / "events.db")
        self.item_log = ItemLog(online / "items.db")
        self.answers = AnswerLog(online / "answers.db")
        self._pages: Cache[_Page] = Cache(settings.serving.cache_answers)
        self._swap_lock = threading.Lock()
        self._live = self._open(now.release)
        self._pointer_seen = self._pointer_stamp()
        self._checked = time.monotonic()

    @classmethod
    def open(cls, folder: Path, settings: Settings, assets: object = None) -> "Service":
        """Serve the workspace `folder`. NotReady where no release has been made."""
        return cls(folder, settings)

    # -- answers

    def recommend(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        scene: Scene | str = Scene.HOME,
        item_id: str | None = None,
        history: Sequence[str] | None = None,
        k: int = 20,
        exclude: Sequence[str] = (),
        filters: Filters | None = None,
        explain: bool = False,
    ) -> Answer:
        """The best `k` items for a user, an item page or a cart.

        Args:
            history: item ids, oldest first, in place of what is known of the user; in a cart scene,
                what is in the cart.
            filters: see `Catalogue.matching`.
        Raises:
            InputError: a bad argument; NotFound: `item_id` is unknown.
        """
        began = time.perf_counter()
        live_ = self._current()
        request = self._request(user_id, session_id, scene, item_id, history, k, exclude, filters)
        page, state = self._page(live_, request, filters)
        answer = self._answer(live_, request, page, state)
        self.counts.add("recommendations")
        self.counts.took("recommend", time.perf_counter() - began)
        return answer

    def similar(self, item_id: str, k: int = 20) -> Answer:
        """Items that go with `item_id`, for nobody in particular."""
        return self.recommend(scene=Scene.ITEM, item_id=item_id, k=k)

    def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        k: int = 20,
        page: int = 1,
        filters: Filters | None = None,
        sort: str = "relevance",
    ) -> SearchAnswer:
        """Items for a query; never none while some item passes the filters."""
        began = time.perf_counter()
        self._check_k(k)
        if page < 1:
            raise InputError(f"page is {page}, wanted 1 or more", where="search")
        live_ = self._current()
        allowed = self._allowed(live_.catalogue, filters)
        degraded = False
        found: list[tuple[int, float]] = []
        total, facets, stage, corrected = 0, {}, "", None
        try:
            if live_.search is None:
                raise NotReady("the release has no search index")
            boost = self._boost(live_, user_id, session_id) if sort == "relevance" else None
            result = live_.search.search(
                query, k, page=page, filters=filters, sort=sort, boost=boost
            )
            index = live_.catalogue.index
            found = [(index[item], score) for item, score in result.hits if item in index]
            total, facets = result.total, result.facets
            stage, corrected = result.stage, result.corrected
        except InputError:
            raise
        except Exception as error:  # search is down: the floor answers, and says so
            degraded = True
            self.counts.add("search_failed")
            self._note(live_, failed=True)
            total, stage = int(allowed.sum()), "floor"
            floor = retrieve.popular(live_.release.popularity, allowed, page * k)
            rows = floor.rows[(page - 1) * k : page * k].tolist()
            found = [
                (row, float(score))
                for row, score in zip(rows, floor.scores[(page - 1) * k :], strict=False)
            ]
            self._last_error = error
        answer_id = uuid.uuid4().hex
        why = reason("popular" if stage in ("popular", "floor") else "match")
        hits = [
            Hit(live_.catalogue.ids[row], score, (page - 1) * k + place, stage or "search", why)
            for place, (row, score) in enumerate(found, 1)
        ]
        self.answers.add(
            answer_id,
            {
                "kind": "search",
                "release": live_.release.id,
                "request": {
                    "query": query,
                    "user_id": user_id,
                    "session_id": session_id,
                    "k": k,
                    "page": page,
                    "filters": filters or {},
                    "sort": sort,
                },
                "items": [hit.item_id for hit in hits],
                "scores": [hit.score for hit in hits],
                "sources": [hit.source for hit in hits],
                "positions": [hit.position for hit in hits],
                "propensity": [1.0] * len(hits),
                "stage": stage,
                "corrected": corrected,
                "degraded": degraded,
                "versions": live_.release.manifest.versions,
            },
        )
        self.counts.add("searches")
        if degraded:
            self.counts.add("degraded")
        self.counts.took("search", time.perf_counter() - began)
        return SearchAnswer(
            answer_id, hits, degraded, live_.release.id, total, facets, stage, corrected
        )

    def suggest(self, prefix: str, k: int = 10) -> list[str]:
        """Queries and names that begin with `prefix`; none where search is down."""
        live_ = self._current()
        if live_.search is None:
            return []
        return live_.search.suggest(prefix, k)

    def item(self, item_id: str) -> dict[str, Any]:
        """The card of one item; NotFound for an unknown or deleted one."""
        catalogue = self._current().catalogue
        return catalogue.card(catalogue.row(item_id))

    # -- feedback

    def record(self, events: Sequence[Mapping[str, Any]]) -> Receipt:
        """Make events durable; they count from the next answer on. All or none of a batch."""
        began = time.perf_counter()
        receipt = self.events.record(events)
        self.counts.add("events_accepted", receipt.accepted)
        self.counts.add("events_duplicate", receipt.duplicates)
        self.counts.took("record", time.perf_counter() - began)
        return receipt

    def put_items(self, items: Sequence[Mapping[str, Any]], mode: str = "put") -> int:
        """Write items, durably, visible in the next answer and search; returns how many."""
        if mode not in ("put", "patch"):
            raise InputError(f"mode is {mode!r}, wanted put or patch")
        self.item_log.write(items, "put" if mode == "put" else "patch")
        self._live.catch_up()
        self.counts.add("items_written", len(items))
        return len(items)

    def delete_item(self, item_id: str) -> None:
        """Take an item out of every answer; NotFound where there is none."""
        catalogue = self._current().catalogue
        catalogue.row(item_id)
        self.item_log.write([{"item_id": item_id}], "delete")
        self._live.catch_up()
        self.counts.add("items_deleted")

    # -- looking in

    def trace(self, answer_id: str) -> dict[str, Any]:
        """What an answer showed, why, from which versions, and what followed. NotFound: unknown id."""
        body = self.answers.find(answer_id)
        if body is None:
            raise NotFound(f"no answer {answer_id!r}", next="answers are kept for a limited time")
        out = dict(body)
        candidates = out.pop("candidates", None)
        if candidates is not None:
            out["candidates"] = {
                "item_ids": candidates["item_ids"],
                "fused": unpacked(candidates["fused"], "<f4").tolist(),
                "models": {
                    name: unpacked(scores, "<f4").tolist()
                    for name, scores in candidates["models"].items()
                },
            }
        return out | {"answer_id": answer_id, "events": self.events.following(answer_id)}

    def counters(self) -> dict[str, Any]:
        """Counts and latencies since this worker started; see `Counters.as_dict`."""
        live_ = self._live
        return self.counts.as_dict() | {
            "release": live_.release.id,
            "cached_answers": len(self._pages),
            "events_logged": self.events.last(),
        }

    def health(self) -> dict[str, Any]:
        """What serves, and what is wrong with it, if anything."""
        live_ = self._live
        return {
            "ok": True,
            "release": live_.release.id,
            "created_at": live_.release.manifest.created_at,
            "models": sorted(live_.release.models),
            "broken": live_.release.broken,
            "items": len(live_.catalogue),
            "users": len(live_.release.snapshot),
            "search": live_.search is not None,
            "answered": live_.answered,
            "failed": live_.failed,
        }

    # -- releases

    def reload(self) -> bool:
        """Serve what `current.json` names; answers under way finish on the old one. True: changed."""
        with self._swap_lock:
            now = releases.pointer(self._store)
            self._pointer_seen = self._pointer_stamp()
            if now is None or now.release == self._live.release.id:
                return False
            fresh = self._open(now.release)
            old, self._live = self._live, fresh
            self.counts.add("swaps")
        old.close()
        return True

    def rollback(self, to: str | None = None, *, reason: str = "by hand") -> str:
        """Go back to the release before (or to `to`) and stay there; returns its id."""
        target = releases.rollback(self._store, to, reason=reason)
        self.counts.add("rollbacks")
        self.reload()
        return target

    def close(self) -> None:
        """Write what is pending and let go of all files."""
        self._live.close()
        self.answers.close()
        self.item_log.close()
        self.events.close()

    # -- inside

    def _open(self, release: str) -> _Live:
        opened = releases.Release(self._store / release, self.folder)
        return _Live(opened, self.events, self.item_log, self.settings, self._scratch)

    def _pointer_stamp(self) -> tuple[int, int]:
        stat = (self._store / "current.json").stat()
        return stat.st_mtime_ns, stat.st_ino

    def _current(self) -> _Live:
        now = time.monotonic()
        if now - self._checked > 0.5:
            self._checked = now
            if self._pointer_stamp() != self._pointer_seen:
                threading.Thread(target=self.reload, name="reload", daemon=True).start()
                self._pointer_seen = self._pointer_stamp()
        live_ = self._live
        live_.catch_up()
        return live_

    def _check_k(self, k: int) -> None:
        if not 1 <= k <= self.settings.serving.max_k:
            raise InputError(f"k is {k}, wanted 1 to {self.settings.serving.max_k}")

    def _request(
        self,
        user_id: str | None,
        session_id: str | None,
        scene: Scene | str,
        item_id: str | None,
        history: Sequence[str] | None,
        k: int,
        exclude: Sequence[str],
        filters: Filters | None,
    ) -> _Request:
        self._check_k(k)
        try:
            where = Scene(scene)
        except ValueError:
            raise InputError(
                f"scene is {scene!r}", next=f"scenes are: {', '.join(s.value for s in Scene)}"
            ) from None
        if where is Scene.ITEM and item_id is None:
            raise InputError("scene item needs item_id")
        if history is not None and len(history) > MAX_GIVEN:
            history = history[-MAX_GIVEN:]
        if len(exclude) > MAX_EXCLUDE:
            raise InputError(f"{len(exclude)} items to exclude, at most {MAX_EXCLUDE}")
        return _Request(
            user_id,
            session_id,
            where,
            item_id,
            None if history is None else tuple(history),
            k,
            tuple(sorted(exclude)),
            repr(sorted(filters.items())) if filters else "",
        )

    def _allowed(self, catalogue: Catalogue, filters: Filters | None) -> Bools:
        allowed = catalogue.available()
        matching = catalogue.matching(filters)
        return allowed if matching is None else allowed & matching

    def _page(
        self, live_: _Live, request: _Request, filters: Filters | None
    ) -> tuple[_Page, History]:
        if request.history is not None:
            kind = Kind.CART if request.scene is Scene.CART else Kind.VIEW
            state = History(given(request.history, kind.value), (-1, -1))
        else:
            state = live_.histories.of(request.user_id, request.session_id)
        stranger = not state.acts
        key = (
            live_.release.id,
            live_.catalogue.version,
            state.version,
            request if not stranger else _anonymous(request),
        )
        page = self._pages.get(key)
        if page is not None:
            self.counts.add("cache_hits")
            return page, state
        page = self._make_page(live_, request, state, filters)
        if not page.degraded:
            self._pages.put(key, page)
        return page, state

    def _make_page(
        self, live_: _Live, request: _Request, state: History, filters: Filters | None
    ) -> _Page:
        catalogue, release = live_.catalogue, live_.release
        index, width = catalogue.index, catalogue.model_items
        allowed = self._allowed(catalogue, filters)
        for item in request.exclude:
            row = index.get(item)
            if row is not None and row < len(allowed):
                allowed[row] = False
        bought = [index[i] for i in state.items([Kind.PURCHASE.value]) if i in index]
        for row in bought:
            if row < len(allowed) and not (row < width and release.repeatable[row]):
                allowed[row] = False
        anchors: list[int] = []
        if request.scene is Scene.ITEM and request.item_id is not None:
            anchors = [catalogue.row(request.item_id)]
        elif request.scene is Scene.CART:
            anchors = [index[i] for i in _cart(state) if i in index]
        for row in anchors:
            if row < len(allowed):
                allowed[row] = False
        limit = self.settings.features.max_length
        whole = features(state.acts, index, width, limit)
        questions, weights = self._questions(live_, request, state, anchors, whole)
        outcome = live_.scorer.ask(questions)
        degraded = bool(outcome.failed)
        if degraded:
            self.counts.add("model_failures", len(outcome.failed))
            stand_ins = [
                Question(name, name, whole)
                for name in FLOORS
                if name in release.models
                and name not in outcome.failed
                and name not in outcome.scores
            ][:1]
            if stand_ins and len(whole.items) and not outcome.scores:
                more = live_.scorer.ask(stand_ins)
                outcome.scores.update(more.scores)
                weights = weights | dict.fromkeys(more.scores, 1.0)
        self._note(live_, failed=degraded)
        found = [
            retrieve.best(name, scores[0], allowed, CANDIDATES)
            for name, scores in outcome.scores.items()
        ]
        if anchors and request.scene is Scene.ITEM:
            found.append(_same_category(catalogue, release.popularity, anchors[0], allowed))
            weights = weights | {"same_category": SAME_CATEGORY}
        ranked = rank.fuse(found, weights, release.manifest.constant)
        floor = retrieve.popular(release.popularity, allowed, CANDIDATES)
        ranked = _filled(ranked, floor)
        scores = ranked.scores
        if request.scene is Scene.HOME:
            viewed = [index[i] for i in state.items([Kind.VIEW.value]) if i in index]
            scores = rerank.demote(scores, ranked.rows, viewed)
        order = rerank.diversify(ranked.rows, scores, request.k, catalogue)
        rows = ranked.rows[order]
        shown = set(rows.tolist())
        pool = np.array([r for r in ranked.rows.tolist() if r not in shown][:POOL], dtype=np.int64)
        fresh = np.arange(width, len(allowed))
        pool = np.concatenate(
            [pool, [r for r in fresh if allowed[r] and r not in shown and r not in pool]]
        )
        sources = [ranked.sources[place] for place in order]
        logged = ranked.rows[:LOGGED]
        inside = np.minimum(logged, width - 1)
        return _Page(
            rows=rows,
            scores=scores[order],
            sources=sources,
            reasons=self._reasons(live_, request, state, anchors, rows, sources),
            pool=pool.astype(np.int64),
            degraded=degraded,
            log={
                "history_digest": digest(whole),
                "candidates": {
                    "item_ids": [catalogue.ids[row] for row in logged],
                    "rows": packed(logged),
                    "fused": packed(ranked.scores[:LOGGED]),
                    "models": {
                        name: packed(np.where(logged < width, scores[0][inside], np.nan))
                        for name, scores in outcome.scores.items()
                    },
                },
                "weights": weights,
                "failed": outcome.failed,
            },
        )

    def _questions(
        self,
        live_: _Live,
        request: _Request,
        state: History,
        anchors: list[int],
        whole: Sequences,
    ) -> tuple[list[Question], dict[str, float]]:
        """Whom to ask what, and how much each answer weighs."""
        release, width = live_.release, live_.catalogue.model_items
        chosen = release.manifest.weights
        names = release.manifest.models if chosen is None else list(chosen)
        names = [name for name in names if name != "popularity"]
        questions: list[Question] = []
        weights: dict[str, float] = {}
        known = [row for row in anchors if row < width]
        if known:
            item_model = next((n for n in ITEM_MODELS if n in release.models), None)
            if item_model is None and names:
                item_model = names[0]
            if item_model is not None:
                kind = Kind.CART if request.scene is Scene.CART else Kind.VIEW
                acts = given([live_.catalogue.ids[row] for row in known], kind.value)
                near = features(acts, live_.catalogue.index, width, MAX_GIVEN)
                questions.append(Question(f"{item_model}/near", item_model, near))
                weights[f"{item_model}/near"] = 1.0
        if len(whole.items):
            share = OWN_HISTORY if known else 1.0
            for name in names:
                questions.append(Question(name, name, whole))
                weights[name] = share * (1.0 if chosen is None else chosen[name])
        return questions, weights

    def _answer(self, live_: _Live, request: _Request, page: _Page, state: History) -> Answer:
        answer_id = uuid.uuid4().hex
        share = self.settings.serving.exploration
        seed = int.from_bytes(hashlib.sha256(answer_id.encode()).digest()[:8], "little")
        shown = rerank.explore(
            page.rows, page.pool, share, np.random.Generator(np.random.PCG64(seed))
        )
        ids = live_.catalogue.ids
        hits = []
        for place, row in enumerate(shown.rows.tolist()):
            if place == shown.explored:
                hits.append(Hit(ids[row], 0.0, place + 1, "exploration", reason("new")))
            else:
                hits.append(
                    Hit(
                        ids[row],
                        float(page.scores[place]),
                        place + 1,
                        page.sources[place],
                        page.reasons[place],
                    )
                )
        manifest = live_.release.manifest
        self.answers.add(
            answer_id,
            {
                "kind": "recommend",
                "release": live_.release.id,
                "request": request.as_dict(),
                "state": list(state.version),
                "items": [hit.item_id for hit in hits],
                "scores": [hit.score for hit in hits],
                "sources": [hit.source for hit in hits],
                "positions": [hit.position for hit in hits],
                "propensity": shown.propensity.tolist(),
                "policy": {
                    "exploration": share,
                    "explored": shown.explored,
                    "pool": len(page.pool),
                    "first_slot": 1,
                },
                "degraded": page.degraded,
                "versions": manifest.versions,
                **page.log,
            },
        )
        if page.degraded:
            self.counts.add("degraded")
        return Answer(answer_id, hits, page.degraded, live_.release.id)

    def _reasons(
        self,
        live_: _Live,
        request: _Request,
        state: History,
        anchors: list[int],
        rows: Rows,
        sources: list[str],
    ) -> list[dict[str, Any]]:
        catalogue = live_.catalogue
        recent: list[tuple[int, str]] = []
        for act in reversed(state.acts):
            row = catalogue.index.get(act.item_id)
            if row is not None and row not in [known for known, _ in recent]:
                recent.append((row, act.kind))
            if len(recent) == REASONED:
                break
        near = [(row, kind, live_.neighbours.of(row)) for row, kind in recent]
        anchor = anchors[0] if anchors else None
        anchored = live_.neighbours.of(anchor) if anchor is not None else frozenset()
        out = []
        for row, source in zip(rows.tolist(), sources, strict=True):
            because = next(((r, kind) for r, kind, around in near if row in around), None)
            if request.scene is Scene.ITEM and anchor is not None and row in anchored:
                out.append(reason("similar", item=self._name(catalogue, anchor)))
            elif request.scene is Scene.CART and any(
                row in live_.neighbours.of(a) for a in anchors[:REASONED]
            ):
                out.append(reason("goes_with"))
            elif because is not None:
                out.append(reason(f"because_{because[1]}", item=self._name(catalogue, because[0])))
            elif source == "same_category" and anchor is not None:
                category = catalogue.card(anchor)["category"]
                out.append(reason("same_category", category=str(category)))
            elif source == "popularity":
                out.append(reason("popular"))
            else:
                out.append(reason("for_you" if state.acts else "popular"))
        return out

    def _name(self, catalogue: Catalogue, row: int) -> str:
        card = catalogue.card(row)
        return str(card["title"] or card["title_zh"] or card["item_id"])

    def _boost(
        self, live_: _Live, user_id: str | None, session_id: str | None
    ) -> dict[str, float] | None:
        """What the user's own page would show, as a gentle push in search: 1 for its best item."""
        if user_id is None and session_id is None:
            return None
        request = self._request(
            user_id, session_id, Scene.HOME, None, None, self.settings.serving.max_k, (), None
        )
        page, state = self._page(live_, request, None)
        if not state.acts or not len(page.rows):
            return None
        top = float(page.scores.max()) or 1.0
        return {
            live_.catalogue.ids[row]: float(score) / top
            for row, score in zip(page.rows.tolist(), page.scores, strict=True)
        }

    def _note(self, live_: _Live, *, failed: bool) -> None:
        live_.answered += 1
        if not failed:
            return
        live_.failed += 1
        rate = self.settings.serving.rollback_error_rate
        if live_.answered >= 100 and live_.failed / live_.answered > rate:
            self._roll_back_by_itself(live_)

    def _roll_back_by_itself(self, live_: _Live) -> None:
        failed, answered = live_.failed, live_.answered
        live_.answered = live_.failed = 0
        now = releases.pointer(self._store)
        if now is None or now.release != live_.release.id or now.previous is None or now.pinned:
            return

        def back() -> None:
            try:
                self.rollback(reason=f"{failed} of {answered} answers failed")
            except ShopkeeperError:
                self.counts.add("rollback_failed")

        threading.Thread(target=back, name="rollback", daemon=True).start()


def _anonymous(request: _Request) -> _Request:
    """Without a history every user gets the same page: one cache entry for all of them."""
    return _Request(
        None,
        None,
        request.scene,
        request.item_id,
        request.history,
        request.k,
        request.exclude,
        request.filters,
    )


def _cart(state: History) -> list[str]:
    """What is in the cart: put in, and not bought since; newest first."""
    bought: set[str] = set()
    cart: list[str] = []
    for act in reversed(state.acts):
        if act.kind == Kind.PURCHASE.value:
            bought.add(act.item_id)
        elif act.kind == Kind.CART.value and act.item_id not in bought and act.item_id not in cart:
            cart.append(act.item_id)
    return cart[:MAX_GIVEN]


def _same_category(
    catalogue: Catalogue, popularity: npt.NDArray[np.float32], row: int, allowed: Bools
) -> Candidates:
    codes = catalogue.codes("category")[: len(allowed)]
    if codes[row] < 0:
        return Candidates("same_category", np.zeros(0, np.int64), np.zeros(0, np.float32))
    found = retrieve.popular(popularity, allowed & (codes == codes[row]), CANDIDATES)
    return Candidates("same_category", found.rows, found.scores)


def _filled(ranked: rank.Ranked, floor: Candidates) -> rank.Ranked:
    """Ranked candidates, then the floor's that are not among them, below all of them."""
    new = ~np.isin(floor.rows, ranked.rows)
    rows = floor.rows[new]
    least = float(ranked.scores.min()) if len(ranked.scores) else 1.0
    scores = least * 0.5 / np.arange(1.0, len(rows) + 1)
    return rank.Ranked(
        np.concatenate([ranked.rows, rows]),
        np.concatenate([ranked.scores, scores]),
        [*ranked.sources, *["popularity"] * len(rows)],
    )
