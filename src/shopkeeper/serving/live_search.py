"""The release's search index with live item writes applied, one private copy a worker.

An index has one writer; so every worker hard-links the release's files into a folder of its own
(index files are never changed in place) and applies the item log there, before the next search.
"""

import os
import shutil
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shopkeeper.search import Searcher, SearchResult
from shopkeeper.serving.items import ItemLog
from shopkeeper.serving.releases import Release, link_tree


class LiveSearch:
    """Searcher of one release; a write is seen by the next search."""

    def __init__(self, release: Release, log: ItemLog, scratch: Path) -> None:
        self._catalogue = release.catalogue
        self._log = log
        self._seen = release.manifest.positions["items"]
        self._lock = threading.Lock()
        _sweep(scratch)
        self._folder = scratch / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        link_tree(release.folder / "search", self._folder)
        self._searcher = Searcher.open(self._folder)

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
        if self._log.last() <= self._seen:
            return
        with self._lock:
            writes = self._log.read(self._seen)
            if not writes:
                return
            gone: set[str] = set()
            rows: dict[str, dict[str, Any]] = {}
            for write in writes:
                row = self._catalogue.index.get(write.item_id)
                if write.mode == "delete" or row is None:
                    gone.add(write.item_id)
                    rows.pop(write.item_id, None)
                else:
                    gone.discard(write.item_id)
                    rows[write.item_id] = self._catalogue.card(row)
            if rows:
                self._searcher.upsert(list(rows.values()))
            if gone:
                self._searcher.delete(sorted(gone))
            self._seen = writes[-1].seq

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
