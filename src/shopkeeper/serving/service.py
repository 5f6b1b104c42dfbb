"""The service: opens the current release and answers. Knows nothing of HTTP; safe to share.

request -> history (snapshot + log) -> retrieve -> rank -> rerank -> page (cached)
        -> exploration -> answer (logged)
"""

import hashlib
import math
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from shopkeeper.config import Settings
from shopkeeper.errors import Conflict, InputError, NotFound, NotReady, ShopkeeperError
from shopkeeper.features.sequences import Floats
from shopkeeper.recommend import rerank, retrieve
from shopkeeper.recommend.catalogue import Filters
from shopkeeper.recommend.reasons import reason
from shopkeeper.search import SearchResult
from shopkeeper.search.looks import Looks
from shopkeeper.serving import pages, releases
from shopkeeper.serving.answers import AnswerLog, Cache, unpacked
from shopkeeper.serving.counters import Counters
from shopkeeper.serving.events import EventLog, Receipt
from shopkeeper.serving.items import ItemLog, refuse_unknown
from shopkeeper.serving.live import Live
from shopkeeper.serving.pages import Page, Request
from shopkeeper.serving.state import STRANGER, History
from shopkeeper.words import Scene

MAX_GIVEN = 200  # items of a history that comes with a request; the newest count
MAX_EXCLUDE = 1000
BATCH_BYTES = 64 * 2**20  # of one model's scores in a batch
POINTER_S = 0.25  # how often a worker looks whether another release serves
AGAIN_S = 5.0  # before a release that could not be opened is tried again

BOOST = 0.2  # share by which the user's best item is lifted in search

log = structlog.get_logger()


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
    explanation: dict[str, Any] | None = field(default=None, kw_only=True)

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
            **({} if self.explanation is None else {"explanation": self.explanation}),
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
        self._pages: Cache[Page] = Cache(settings.serving.cache_answers)
        self._swap_lock = threading.Lock()
        self._closed = False
        self._pointer_seen = (0, 0)  # stamp of the pointer that was followed last
        self._reload_failed = ""  # why the release it names does not serve here
        self._pointer_seen = self._pointer_stamp()
        try:
            self._live = self._open(now.release)
        except ShopkeeperError:
            self._close_logs()
            raise
        self._look_at = time.monotonic() + POINTER_S

    @classmethod
    def open(cls, folder: Path, settings: Settings) -> "Service":
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
            explain: add the trace of the answer.
        Raises:
            InputError: a bad argument; NotFound: `item_id` is unknown.
        """
        began = time.perf_counter()
        request = self._request(user_id, session_id, scene, item_id, history, k, exclude, filters)
        with self._current() as live:
            page, state = self._page(live, request, filters)
            answer = self._answer(live, request, page, state)
        self.counts.add("recommendations")
        if answer.degraded:
            self.counts.add("degraded")
        self.counts.took("recommend", time.perf_counter() - began)
        return replace(answer, explanation=self.trace(answer.answer_id)) if explain else answer

    def similar(self, item_id: str, k: int = 20) -> Answer:
        """Items that go with `item_id`, for nobody in particular."""
        return self.recommend(scene=Scene.ITEM, item_id=item_id, k=k)

    def batch(self, user_ids: Sequence[str], k: int = 20) -> Iterator[tuple[str, list[Hit]]]:
        """The home page of every user, in order. Explores nothing and logs nothing: these are no
        answers that feedback could join to."""
        self._check_k(k)
        with self._current() as live:
            width = max(1, min(256, BATCH_BYTES // (4 * max(1, live.catalogue.model_items))))
            for start in range(0, len(user_ids), width):
                users = user_ids[start : start + width]
                requests = [
                    self._request(user, None, Scene.HOME, None, None, k, (), None) for user in users
                ]
                plans = [
                    pages.plan(live, request, self._history(live, request), None)
                    for request in requests
                ]
                for user, page in zip(users, pages.many(live, plans), strict=True):
                    yield user, _hits(live, page)

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
        _check_texts(query, user_id, session_id)
        if page < 1:
            raise InputError(f"page is {page}, wanted 1 or more", where="search")
        with self._current() as live:
            answer = self._search(live, query, user_id, session_id, k, page, filters, sort)
        self.counts.add("searches")
        if answer.degraded:
            self.counts.add("degraded")
        self.counts.took("search", time.perf_counter() - began)
        return answer

    def looks_like(self, item_id: str, k: int = 20, *, filters: Filters | None = None) -> Answer:
        """Items whose pictures look like that of `item_id`, for nobody in particular.

        NotFound: no such item, or it has no picture. NotReady: no pictures were looked at.
        """
        with self._current() as live:
            row = live.catalogue.row(item_id)
            asked = {"item_id": item_id}
            return self._alike(live, _looks(live).of_item(row), asked, k, filters, without=row)

    def search_picture(
        self, content: bytes, k: int = 20, *, filters: Filters | None = None
    ) -> Answer:
        """Items that look like a picture; the picture itself is not kept.

        InputError: the bytes are no picture. NotReady: no pictures were looked at.
        """
        with self._current() as live:
            seen = _looks(live).of_picture(content)
            asked = {"picture": hashlib.sha256(content).hexdigest()}
            return self._alike(live, seen, asked, k, filters)

    def _alike(
        self,
        live: Live,
        seen: Floats,
        asked: dict[str, Any],
        k: int,
        filters: Filters | None,
        without: int | None = None,
    ) -> Answer:
        began = time.perf_counter()
        self._check_k(k)
        allowed = pages.allowed_rows(live.catalogue, filters)
        if without is not None and without < len(allowed):
            allowed[without] = False
        found = _looks(live).nearest(seen, allowed, k)
        hits = [
            Hit(live.catalogue.ids[row], near, place, "looks", reason("looks"))
            for place, (row, near) in enumerate(found, 1)
        ]
        answer_id = uuid.uuid4().hex
        body = _logged("search", live, hits, degraded=False) | {
            "request": asked | {"k": k} | ({"filters": filters} if filters else {}),
            "propensity": [1.0] * len(hits),
            "stage": "looks",
            "corrected": None,
            "failed": {},
        }
        self.answers.add(answer_id, body)
        self.counts.add("searches")
        self.counts.took("looks", time.perf_counter() - began)
        return Answer(answer_id, hits, False, live.release.id)

    def suggest(self, prefix: str, k: int = 10) -> list[str]:
        """Queries and names that begin with `prefix`; none where search is down."""
        with self._current() as live:
            return [] if live.search is None else live.search.suggest(prefix, k)

    def item(self, item_id: str) -> dict[str, Any]:
        """The card of one item; NotFound for an unknown or deleted one."""
        with self._current() as live:
            return live.catalogue.card(live.catalogue.row(item_id))

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
        """Write items, durably, visible in the next answer and search; returns how many.

        NotFound: a patch of an item that is deleted or has no card. All or none of a batch.
        """
        if mode not in ("put", "patch"):
            raise InputError(f"mode is {mode!r}, wanted put or patch")
        if mode == "patch":
            with self._current() as live:
                refuse_unknown(items, live.catalogue)
        self.item_log.write(items, "put" if mode == "put" else "patch")
        self.counts.add("items_written", len(items))
        return len(items)

    def delete_item(self, item_id: str) -> None:
        """Take an item out of every answer; NotFound where there is none."""
        with self._current() as live:
            live.catalogue.row(item_id)
        self.item_log.write([{"item_id": item_id}], "delete")
        self.counts.add("items_deleted")

    # -- looking in

    def trace(self, answer_id: str) -> dict[str, Any]:
        """What an answer showed, why, from which versions, and what followed. NotFound: unknown id."""
        body = self.answers.find(answer_id)
        if body is None:
            raise NotFound(f"no answer {answer_id!r}", next="answers are kept for a limited time")
        return readable(body) | {
            "answer_id": answer_id,
            "events": self.events.following(answer_id),
        }

    def counters(self) -> dict[str, Any]:
        """Counts and latencies since this worker started; see `Counters.as_dict`."""
        live = self._live
        return self.counts.as_dict() | {
            "release": live.release.id,
            "cached_answers": len(self._pages),
            "events_logged": self.events.last(),
            "reload_failed": self._reload_failed,
        }

    def health(self) -> dict[str, Any]:
        """What serves, and what is wrong with it, if anything."""
        live = self._live
        return {
            "ok": True,
            "release": live.release.id,
            "created_at": live.release.manifest.created_at,
            "models": sorted(live.release.models),
            "broken": live.release.broken,
            "items": len(live.catalogue),
            "users": len(live.release.snapshot),
            "search": live.search is not None,
            "answered": live.answered,
            "failed": live.failed,
            "reload_failed": self._reload_failed,
        }

    # -- releases

    def reload(self) -> bool:
        """Serve what `current.json` names; answers under way finish on the old one. True: changed."""
        with self._swap_lock:
            if self._closed:
                return False
            old = fresh = self._live
            stamp = self._pointer_stamp()
            try:
                now = releases.pointer(self._store)
                if now is not None and now.release != old.release.id:
                    fresh = self._open(now.release)
            except Exception as error:
                self._reload_failed = str(error) or type(error).__name__
                raise
            self._live, self._pointer_seen, self._reload_failed = fresh, stamp, ""
        if fresh is old:
            return False
        self.counts.add("swaps")
        old.retire()
        return True

    def rollback(
        self, to: str | None = None, *, reason: str = "by hand", only_from: str | None = None
    ) -> str:
        """Go back to the release before (or to `to`) and stay there; see `releases.rollback`."""
        target = releases.rollback(self._store, to, reason=reason, only_from=only_from)
        self.counts.add("rollbacks")
        self.reload()
        return target

    def close(self) -> None:
        """Write what is pending and let go of all files."""
        with self._swap_lock:  # no release opens from now on
            self._closed = True
        self._live.retire()
        self._close_logs()

    def _close_logs(self) -> None:
        self.answers.close()
        self.item_log.close()
        self.events.close()

    # -- inside

    def _open(self, release: str) -> Live:
        opened = releases.Release(self._store / release, self.folder)
        if "torch" in sys.modules:
            import torch

            torch.set_num_threads(1)  # answers run side by side; one of them is small
        return Live(opened, self.events, self.item_log, self.settings, self._scratch)

    def _pointer_stamp(self) -> tuple[int, int]:
        try:
            stat = (self._store / "current.json").stat()
        except FileNotFoundError:  # what serves goes on
            return self._pointer_seen
        return stat.st_mtime_ns, stat.st_ino

    @contextmanager
    def _current(self) -> Iterator[Live]:
        now = time.monotonic()
        if now > self._look_at:
            self._look_at = now + POINTER_S
            if self._pointer_stamp() != self._pointer_seen:  # another process swapped
                self._look_at = math.inf  # not before this try is over
                threading.Thread(target=self._follow, name="reload", daemon=True).start()
        live = self._live
        while not live.use():
            if self._closed:
                raise NotReady("the service is closed", where=str(self.folder))
            live = self._live
        try:
            live.catch_up()
            yield live
        finally:
            live.done()

    def _follow(self) -> None:
        pause = POINTER_S
        try:
            self.reload()
        except Exception as error:  # keep serving what serves
            pause = AGAIN_S
            self.counts.add("reload_failed")
            log.error("cannot open the new release, the old one goes on", error=str(error))
        finally:
            self._look_at = time.monotonic() + pause

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
    ) -> Request:
        self._check_k(k)
        try:
            where = Scene(scene)
        except ValueError:
            raise InputError(
                f"scene is {scene!r}", next=f"scenes are: {', '.join(s.value for s in Scene)}"
            ) from None
        if where is Scene.ITEM and item_id is None:
            raise InputError("scene item needs item_id")
        if len(exclude) > MAX_EXCLUDE:
            raise InputError(f"{len(exclude)} items to exclude, at most {MAX_EXCLUDE}")
        _check_texts(user_id, session_id, item_id, *(history or ()), *exclude)
        return Request(
            user_id,
            session_id,
            where,
            item_id if where is Scene.ITEM else None,
            None if history is None else tuple(history[-MAX_GIVEN:]),
            k,
            tuple(sorted(set(exclude))),
            repr(sorted(filters.items())) if filters else "",
        )

    def _history(self, live: Live, request: Request) -> History:
        if request.user_id in live.release.opted_out:
            return STRANGER
        return request.given() or live.histories.of(request.user_id, request.session_id)

    def _page(self, live: Live, request: Request, filters: Filters | None) -> tuple[Page, History]:
        history = self._history(live, request)
        key = (
            live.release.id,
            live.catalogue.version,
            history.version if history.acts else (0, 0),
            request if history.acts else request.for_anybody(),
        )
        page = self._pages.get(key)
        if page is not None:
            self.counts.add("cache_hits")
            return page, history
        plan = pages.plan(live, request, history, filters)
        outcome = live.scorer.ask(plan.questions)
        if outcome.failed:
            self.counts.add("model_failures", len(outcome.failed))
            if not outcome.scores:
                more = live.scorer.ask(pages.stand_ins(live.release, plan, outcome.failed))
                outcome.scores.update(more.scores)
        scores = {name: rows[0] for name, rows in outcome.scores.items()}
        page = pages.finish(live, plan, scores, outcome.failed)
        self._note(live, failed=page.degraded)
        if not page.degraded:
            self._pages.put(key, page)
        return page, history

    def _answer(self, live: Live, request: Request, page: Page, history: History) -> Answer:
        answer_id = uuid.uuid4().hex
        share = self.settings.serving.exploration
        seed = int.from_bytes(hashlib.sha256(answer_id.encode()).digest()[:8], "little")
        draw = np.random.Generator(np.random.PCG64(seed))
        shown = rerank.explore(page.rows, page.pool, share, draw)
        hits = _hits(live, page)
        if shown.explored is not None:
            place = shown.explored
            item = live.catalogue.ids[int(shown.rows[place])]
            hits[place] = Hit(item, 0.0, place + 1, "exploration", reason("new"))
        body = _logged("recommend", live, hits, page.degraded) | {
            "request": request.as_dict(),
            "state": list(history.version),
            "propensity": shown.propensity.tolist(),
            "policy": {
                "exploration": share,
                "explored": shown.explored,
                "pool": len(page.pool),
                "first_slot": rerank.FIRST_SLOT,
            },
            **page.log,
        }
        self.answers.add(answer_id, body)
        return Answer(answer_id, hits, page.degraded, live.release.id)

    def _search(
        self,
        live: Live,
        query: str,
        user_id: str | None,
        session_id: str | None,
        k: int,
        page: int,
        filters: Filters | None,
        sort: str,
    ) -> SearchAnswer:
        failed, at_fault = "", False
        try:
            if live.search is None:
                raise NotReady(live.search_error)
            boost = self._boost(live, user_id, session_id) if sort == "relevance" else None
            found = live.search.search(query, k, page=page, filters=filters, sort=sort, boost=boost)
        except InputError:
            raise
        except Exception as error:  # search is down: the floor answers, and says so
            failed, at_fault = f"{type(error).__name__}: {error}", live.search_fails()
            self.counts.add("search_failed")
            log.warning("search failed, the floor answers", error=failed)
            allowed = pages.allowed_rows(live.catalogue, filters)
            popular = retrieve.popular(live.release.popular, allowed, page * k)
            shown = popular.rows[(page - 1) * k :].tolist()
            scores = popular.scores[(page - 1) * k :].tolist()
            pairs = [(live.catalogue.ids[r], s) for r, s in zip(shown, scores, strict=True)]
            found = SearchResult(pairs, int(allowed.sum()), {}, "floor")
        if at_fault or not failed:
            self._note(live, failed=at_fault)
        why = reason("popular" if found.stage in ("popular", "floor") else "match")
        hits = [
            Hit(item, float(score), (page - 1) * k + place, found.stage, why)
            for place, (item, score) in enumerate(found.hits, 1)
        ]
        answer_id = uuid.uuid4().hex
        asked = {
            "query": query,
            "user_id": user_id,
            "session_id": session_id,
            "k": k,
            "page": page,
            "filters": filters or {},
            "sort": sort,
        }
        body = _logged("search", live, hits, bool(failed)) | {
            "request": {name: value for name, value in asked.items() if value not in (None, {})},
            "propensity": [1.0] * len(hits),
            "stage": found.stage,
            "corrected": found.corrected,
            "failed": {"search": failed} if failed else {},
        }
        self.answers.add(answer_id, body)
        return SearchAnswer(
            answer_id,
            hits,
            bool(failed),
            live.release.id,
            found.total,
            found.facets,
            found.stage,
            found.corrected,
        )

    def _boost(
        self, live: Live, user_id: str | None, session_id: str | None
    ) -> dict[str, float] | None:
        """What the user's own page would show, as a gentle push in search."""
        if user_id is None and session_id is None:
            return None
        most = self.settings.serving.max_k
        request = self._request(user_id, session_id, Scene.HOME, None, None, most, (), None)
        page, history = self._page(live, request, None)
        if not history.acts or not len(page.rows):
            return None
        top = float(page.scores.max())
        return {
            live.catalogue.ids[row]: BOOST * float(score) / top
            for row, score in zip(page.rows.tolist(), page.scores, strict=True)
        }

    def _note(self, live: Live, *, failed: bool) -> None:
        why = live.note(failed=failed, bearable=self.settings.serving.rollback_error_rate)
        if why:
            self._roll_back_by_itself(live, why)

    def _roll_back_by_itself(self, live: Live, why: str) -> None:
        def back() -> None:
            try:
                self.rollback(reason=why, only_from=live.release.id)
            except (Conflict, NotReady):  # another worker was first, or there is nowhere to go
                return
            except ShopkeeperError as error:
                self.counts.add("rollback_failed")
                log.error("cannot roll back", error=str(error))

        threading.Thread(target=back, name="rollback", daemon=True).start()


def _check_texts(*texts: str | None) -> None:
    """InputError for half a character: no log and no database could keep it."""
    for text in texts:
        if text is None:
            continue
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{text[:40]!r} is no valid UTF-8") from None


def _looks(live: Live) -> Looks:
    if live.release.looks is None:
        raise NotReady(
            live.release.broken.get(releases.LOOKS, "the release has looked at no pictures"),
            where=live.release.id,
            next='name a model that reads pictures, models = [..., "fusion"], then: shopkeeper run',
        )
    return live.release.looks


def _hits(live: Live, page: Page) -> list[Hit]:
    ids = live.catalogue.ids
    return [
        Hit(ids[row], score, place, source, why)
        for place, (row, score, source, why) in enumerate(
            zip(page.rows.tolist(), page.scores.tolist(), page.sources, page.reasons, strict=True),
            1,
        )
    ]


def _logged(kind: str, live: Live, hits: list[Hit], degraded: bool) -> dict[str, Any]:
    """What is logged of every answer."""
    return {
        "kind": kind,
        "release": live.release.id,
        "items": [hit.item_id for hit in hits],
        "scores": [hit.score for hit in hits],
        "sources": [hit.source for hit in hits],
        "positions": [hit.position for hit in hits],
        "degraded": degraded,
        "versions": live.release.manifest.versions,
    }


def readable(body: Mapping[str, Any]) -> dict[str, Any]:
    """A logged answer with its candidates' scores as numbers; None where a model has no score, or
    one (infinity, NaN) that JSON has no word for."""
    out = dict(body)
    candidates = out.get("candidates")
    if candidates is not None:
        out["candidates"] = {
            "item_ids": candidates["item_ids"],
            "fused": _numbers(candidates["fused"]),
            "models": {name: _numbers(scores) for name, scores in candidates["models"].items()},
        }
    return out


def _numbers(scores: str) -> list[float | None]:
    return [s if math.isfinite(s) else None for s in unpacked(scores, "<f4").tolist()]
