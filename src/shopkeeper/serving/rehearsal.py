"""A release tried before it serves: what people of the test would have been shown, and whether its
models and its search answer at all.

Models in a release have learned from the test as well, so the candidates are the lists of each trial,
whose models had not; what makes a page of them is the function that answers (`pages.ordered`).
Stock is left aside (it is today's, the test is of the past), and popularity is that of the past.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.config import Settings
from shopkeeper.features.sequences import Sequences
from shopkeeper.recommend.catalogue import Catalogue
from shopkeeper.recommend.retrieve import Candidates, by_popularity
from shopkeeper.serving import pages
from shopkeeper.serving.events import Act, EventLog
from shopkeeper.serving.items import ItemLog
from shopkeeper.serving.live import Live
from shopkeeper.serving.pages import Request
from shopkeeper.serving.releases import Release
from shopkeeper.serving.state import STRANGER, History
from shopkeeper.words import KIND_CODES, Scene

PAGE = 20  # items of a page; the longest list that metrics look at
ASKED = 5  # people whom the release's own models answer
TITLES = 20  # items looked for by their titles
FOUND = 0.8  # share of them that search has to find: two items may share a title
FIRST = 20  # hits among which an item counts as found

Lists = Mapping[str, npt.NDArray[np.int32]]  # source -> (E, C) rows, best first, -1 where fewer
_KINDS = {code: kind for kind, code in KIND_CODES.items()}


@contextmanager
def rehearsal(folder: Path, settings: Settings, workspace: Path) -> Iterator[Live]:
    """The release in `folder`, open as a server opens it, over logs of its own."""
    with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=folder.parent) as scratch:
        place = Path(scratch)
        events, items = EventLog(place / "events.db"), ItemLog(place / "items.db")
        live = Live(Release(folder, workspace), events, items, settings, place / "search")
        try:
            yield live
        finally:
            live.retire()
            events.close()
            items.close()


def problems(live: Live, people: Sequences) -> list[str]:
    """Why this release cannot serve, whatever its metrics; none where it can."""
    found = [f"model {name} cannot be opened: {why}" for name, why in live.release.broken.items()]
    users = [people.users[row] for row in range(min(ASKED, len(people)))]
    asked = [_request(user) for user in users]
    plans = [
        pages.plan(live, request, history(live, people, row), None)
        for row, request in enumerate(asked)
    ]
    try:
        empty = sum(not len(page.rows) for page in pages.many(live, plans))
    except Exception as error:  # a model may be a user's own: whatever it raises
        found.append(f"its models do not answer: {type(error).__name__}: {error}")
    else:
        if empty:
            found.append(f"{empty} of {len(plans)} people would get an empty page")
    if live.release.manifest.search:
        found.extend(_search_problems(live))
    return found


def _search_problems(live: Live) -> list[str]:
    if live.search is None:
        return [f"the search index cannot be opened: {live.search_error}"]
    cards = pl.read_parquet(live.release.folder / "items.parquet")
    titled = cards.filter(pl.col("title").str.strip_chars().str.len_chars() > 0)
    some = titled.gather_every(max(1, titled.height // TITLES)).head(TITLES)
    if not some.height:
        return []
    titles = dict(titled.select("item_id", "title").iter_rows())
    found = 0
    for item, title in some.select("item_id", "title").iter_rows():
        try:
            result = live.search.search(
                title, FIRST, page=1, filters=None, sort="relevance", boost=None
            )
        except Exception as error:  # whatever a damaged index raises
            return [f"the search index cannot be read: {type(error).__name__}: {error}"]
        shown = [hit for hit, _ in result.hits] if result.stage != "popular" else []
        found += item in shown or any(titles.get(hit) == title for hit in shown)
    if found < FOUND * some.height:
        return [f"search finds {found} of {some.height} items by their titles"]
    return []


def shown(
    live: Live, people: Sequences, lists: Lists, contenders: Sequence[Mapping[str, float]]
) -> list[npt.NDArray[np.int32]]:
    """What each of `people` would be shown, for each way to weigh the sources: (E, PAGE), -1 padded.

    Args:
        people: histories as of the test.
        lists: what each source proposed to them, in their order.
    """
    pages_of = [np.full((len(people), PAGE), -1, dtype=np.int32) for _ in contenders]
    for row, user in enumerate(people.users):
        plan = pages.plan(live, _request(user), history(live, people, row), None)
        candidates = {}
        for name, listed in lists.items() if len(plan.whole.items) else ():
            rows = listed[row][listed[row] >= 0].astype(np.int64)
            rows = rows[plan.allowed[rows]]
            candidates[name] = Candidates(name, rows, np.zeros(len(rows), np.float32))
        for weights, page in zip(contenders, pages_of, strict=True):
            found = [candidates[name] for name in weights if name in candidates]
            made = pages.ordered(live, plan, found, weights)
            page[row, : len(made.page)] = made.ranked.rows[made.page]
    return pages_of


def as_of_then(live: Live, counts: npt.NDArray[np.int64]) -> None:
    """Put the release back to the instant of the test: everything in stock, (M,) `counts` popular."""
    release, known = live.release, live.catalogue.model_items
    items = pl.read_parquet(release.folder / "items.parquet")
    sold = {"stock": pl.lit(None, dtype=pl.Int64), "alive": pl.lit(True)}
    live.catalogue = release.catalogue = Catalogue(
        release.catalogue.ids[:known], items.with_columns(**sold)
    )
    release.popular = by_popularity(counts.astype(np.float32))


def history(live: Live, people: Sequences, row: int) -> History:
    """The history of one of `people` as the server would have it; a stranger's for who opted out."""
    if people.users[row] in live.release.opted_out:
        return STRANGER
    ids, part = live.catalogue.ids, people.user(row)
    acts = [
        Act(0, time, ids[item], _KINDS[kind], None, None, None, 0)
        for item, kind, time in zip(
            people.items[part].tolist(),
            people.kinds[part].tolist(),
            people.times[part].tolist(),
            strict=True,
        )
    ]
    return History(tuple(acts[-live.histories.rules.limit :]), (0, 0))


def _request(user: str) -> Request:
    return Request(user, None, Scene.HOME, None, None, PAGE, (), "")
