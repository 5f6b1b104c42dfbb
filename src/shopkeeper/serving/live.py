"""One release in service: its models within their deadline, its catalogue with live writes."""

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from shopkeeper.config import Settings
from shopkeeper.features.sequences import Floats, pack
from shopkeeper.models.protocol import Model
from shopkeeper.recommend import retrieve
from shopkeeper.serving import items as writes
from shopkeeper.serving.events import EventLog
from shopkeeper.serving.items import ItemLog
from shopkeeper.serving.live_search import LiveSearch
from shopkeeper.serving.releases import Release
from shopkeeper.serving.scoring import Scorer
from shopkeeper.serving.state import Histories, Rules

ITEM_MODELS = ("item_knn", "ease", "sequence_knn")  # who knows what goes with one item, best first
NEIGHBOURS = 50  # of an item, for reasons
NEIGHBOURHOODS = 50_000  # kept in memory
RECENT = 200  # newest answers that tell whether the release holds
ENOUGH = 100  # of them, before they tell anything


def rules(settings: Settings) -> Rules:
    """How events become histories, as the settings have it."""
    return Rules(
        kinds=frozenset(settings.features.kinds),
        limit=settings.serving.history,
        same_event_ms=int(settings.clean.same_event_seconds * 1000),
        future_ms=int(settings.clean.future_minutes * 60_000),
    )


class Live:
    """What an answer needs, opened; safe to share."""

    def __init__(
        self, release: Release, log: EventLog, items: ItemLog, settings: Settings, scratch: Path
    ) -> None:
        self.release = release
        self.catalogue = release.catalogue
        self.histories = Histories(log, release.snapshot, rules(settings), release.persons)
        self.scorer = Scorer(
            release.models, settings.serving.deadline_ms / 1000.0, settings.serving.threads
        )
        self.neighbours = Neighbours(release)
        self._items = items
        self._items_seen = release.manifest.positions["items"]
        self._items_lock = threading.Lock()
        self.catch_up()
        self.search: LiveSearch | None = None
        self.search_error = "the release has no search index"
        if release.manifest.search:
            try:
                self.search = LiveSearch(release, items, scratch, lambda: self._items_seen)
            except Exception as error:  # the floor answers searches, and says so
                self.search_error = f"{type(error).__name__}: {error}"
        self.answered = 0
        self.failed = 0
        self._recent: deque[bool] = deque(maxlen=RECENT)  # of each answer: did it fail
        self._count_lock = threading.Lock()
        self._using = 0
        self._retired = False
        self._use_lock = threading.Lock()

    def catch_up(self) -> None:
        """Apply item writes of any worker."""
        if self._items.last() <= self._items_seen:
            return
        with self._items_lock:
            while some := self._items.read(self._items_seen):
                for write in some:
                    writes.apply(write, self.catalogue)
                    self._items_seen = write.seq

    def note(self, *, failed: bool, bearable: float) -> str:
        """Count an answer. How many of the newest failed, where their share is over `bearable`,
        told once; else empty."""
        with self._count_lock:
            self.answered += 1
            self.failed += failed
            self._recent.append(failed)
            failures, of = sum(self._recent), len(self._recent)
            if not failed or of < ENOUGH or failures <= bearable * of:
                return ""
            self._recent.clear()
            return f"{failures} of {of} answers failed"

    def search_fails(self) -> bool:
        """Does search fail at the plainest questions too? Then it is the release, not the request."""
        if self.search is None:
            return True
        titles = [self.catalogue.card(row)["title"] for row in self.release.popular[:3].tolist()]
        try:
            for query in ("", *filter(None, titles)):
                self.search.search(query, 1, page=1, filters=None, sort="relevance", boost=None)
        except Exception:
            return True
        return False

    def use(self) -> bool:
        """Take hold for one answer; False where another release has taken over for good."""
        with self._use_lock:
            if self._retired:
                return False
            self._using += 1
            return True

    def done(self) -> None:
        """Let go after `use`."""
        with self._use_lock:
            self._using -= 1
            last = self._retired and self._using == 0
        if last:
            self._close()

    def retire(self) -> None:
        """No new answers; files are let go with the last one under way."""
        with self._use_lock:
            if self._retired:
                return
            self._retired = True
            last = self._using == 0
        if last:
            self._close()

    def _close(self) -> None:
        self.scorer.close()
        if self.search is not None:
            self.search.close()


class Neighbours:
    """Which items stand near which, by an item model; looked up once, kept."""

    def __init__(self, release: Release) -> None:
        self.model = next((name for name in ITEM_MODELS if name in release.models), None)
        self._model = None if self.model is None else release.models[self.model]
        self._kept: OrderedDict[int, frozenset[int]] = OrderedDict()
        self._lock = threading.Lock()
        self._base: Floats | None = None
        self._items = release.catalogue.model_items

    def of(self, rows: Sequence[int]) -> list[frozenset[int]]:
        """Of each row, those that the model proposes because of it, not by popularity alone."""
        with self._lock:
            known = {row: self._kept[row] for row in rows if row in self._kept}
        unknown = [row for row in dict.fromkeys(rows) if row not in known and row < self._items]
        if unknown and self._model is not None:
            # a reason is a courtesy; the page stands without it
            with suppress(Exception):
                known |= self._look_up(self._model, unknown)
        return [known.get(row, frozenset()) for row in rows]

    def _look_up(self, model: Model, rows: list[int]) -> dict[int, frozenset[int]]:
        if self._base is None:
            self._base = np.asarray(model.scores(pack([""], [0], np.zeros(0))))[0]
        every = np.asarray(model.scores(pack([""] * len(rows), [1] * len(rows), rows)))
        found = {}
        for row, scores in zip(rows, every, strict=True):
            gained = scores > self._base + 1e-6
            gained[row] = False
            found[row] = frozenset(retrieve.best("", scores, gained, NEIGHBOURS).rows.tolist())
        with self._lock:
            self._kept |= found
            while len(self._kept) > NEIGHBOURHOODS:
                self._kept.popitem(last=False)
        return found
