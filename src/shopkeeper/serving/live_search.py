"""The release's search index with live item writes applied, one private copy a worker.

An index has one writer; so every worker hard-links the release's files into a folder of its own
(index files are never changed in place) and applies the item log there, before the next search.
"""

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shopkeeper.search import Searcher, SearchResult
from shopkeeper.serving.items import ItemLog
from shopkeeper.serving.releases import Release, link_tree


class LiveSearch:
    """Searcher of one release; a write is seen by the next search.

    Args:
        applied: seq of the newest write that the catalogue holds; the index reads no further.
    """

    def __init__(
        self, release: Release, log: ItemLog, scratch: Path, applied: Callable[[], int]
    ) -> None:
        self._catalogue = release.catalogue
        self._log = log
        self._applied = applied
        self._seen = release.manifest.positions["items"]
        self._lock = threading.Lock()
        _sweep(scratch)
        self._folder = scratch / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        link_tree(release.folder / "search", self._folder)
        self._searcher = Searcher.open(self._folder)
        self._catch_up()  # here, and not in somebody's search

    def search(
        self,
        query: str,
        k: int,
        *,
        page: int,
        filters: Mapping[str, Any] | None,
        sort: str,
        boost: dict[str, float] | None,
    ) -> SearchResult:
        """As `Searcher.search`, over what is in the catalogue now."""
        self._catch_up()
        return self._searcher.search(query, k, page=page, filters=filters, sort=sort, boost=boost)

    def suggest(self, prefix: str, k: int) -> list[str]:
        """As `Searcher.suggest`."""
        return self._searcher.suggest(prefix, k)

    def _catch_up(self) -> None:
        if self._applied() <= self._seen:
            return
        with self._lock:
            upto = self._applied()
            while self._seen < upto:
                writes = [write for write in self._log.read(self._seen) if write.seq <= upto]
                cards = {write.item_id: self._catalogue.find(write.item_id) for write in writes}
                if rows := [card for card in cards.values() if card is not None]:
                    self._searcher.upsert(rows)
                if gone := sorted(item for item, card in cards.items() if card is None):
                    self._searcher.delete(gone)
                self._seen = writes[-1].seq if writes else upto

    def close(self) -> None:
        """Let go of the private copy."""
        self._searcher.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _sweep(scratch: Path) -> None:
    """Delete copies of workers that are gone."""
    for folder in scratch.glob("*-*"):
        try:
            os.kill(int(folder.name.split("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            continue
