"""Logged answers, computed again from the same release and the same state (see evaluation.replay)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shopkeeper.config import Settings
from shopkeeper.errors import NotFound, NotReady
from shopkeeper.evaluation.replay import Computed, Report, from_log, replay
from shopkeeper.features.sequences import Sequences
from shopkeeper.models.protocol import Progress, no_progress
from shopkeeper.serving import pages
from shopkeeper.serving.answers import AnswerLog
from shopkeeper.serving.events import EventLog
from shopkeeper.serving.live import rules
from shopkeeper.serving.pages import NEAR, Request
from shopkeeper.serving.releases import Release
from shopkeeper.serving.service import readable
from shopkeeper.serving.state import STRANGER, Histories, History, digest, features

PAGE = 1_000


class Replayer:
    """Recomputes what answers were made from; opens the releases that they name."""

    def __init__(self, folder: Path, settings: Settings, log: EventLog) -> None:
        self._folder = folder
        self._settings = settings
        self._log = log
        self._open: dict[str, tuple[Release, Histories] | None] = {}

    def recompute(self, answer: dict[str, Any]) -> Computed | None:
        """Features and scores of a logged answer; None where its release is gone."""
        asked = self._asked(answer)
        if asked is None:
            return None
        release, request, history, whole = asked
        catalogue = release.catalogue
        index, width = catalogue.index, catalogue.model_items
        items = answer["candidates"]["item_ids"]
        rows = np.array([index.get(item, width) for item in items])
        known = rows < width
        scores = {}
        for name in answer["candidates"]["models"]:
            before = whole
            if name.endswith(NEAR):
                anchors = pages.anchors_of(catalogue, request, history)
                near = [row for row in anchors if row < width]
                before = pages.near_history(catalogue, request, near)
            values = release.models[name.removesuffix(NEAR)].scores(before)[0]
            said = known & np.isfinite(values[np.minimum(rows, width - 1)])  # as `readable` has it
            kept = [item for item, there in zip(items, said, strict=True) if there]
            scores[name] = kept, values[rows[said]].tolist()
        return Computed(digest(whole), scores)

    def history(self, answer: dict[str, Any]) -> tuple[Release, Sequences] | None:
        """The release that answered and the history as its models saw it; None where it is gone."""
        asked = self._asked(answer)
        return None if asked is None else (asked[0], asked[3])

    def _asked(self, answer: dict[str, Any]) -> tuple[Release, Request, History, Sequences] | None:
        opened = self._release(answer["release"])
        if opened is None:
            return None
        release, histories = opened
        request = Request.from_log(answer["request"])
        history = request.given()
        if request.user_id in release.opted_out:
            history = STRANGER
        elif history is None:
            version = (answer["state"][0], answer["state"][1])
            history = histories.at(request.user_id, request.session_id, version)
        catalogue = release.catalogue
        whole = features(
            history.acts, catalogue.index, catalogue.model_items, histories.rules.limit
        )
        return release, request, history, whole

    def _release(self, name: str) -> tuple[Release, Histories] | None:
        if name not in self._open:
            try:
                release = Release(self._folder / "store" / "releases" / name, self._folder)
            except (NotReady, NotFound):
                self._open[name] = None
            else:
                known = rules(self._settings)
                histories = Histories(self._log, release.snapshot, known, release.persons)
                self._open[name] = release, histories
        return self._open[name]


def check(
    folder: Path,
    settings: Settings,
    *,
    after: int = 0,
    limit: int = 10_000,
    progress: Progress = no_progress,
) -> Report:
    """Replay up to `limit` logged recommendations of a workspace, from answer seq `after` on."""
    log = EventLog(folder / "store" / "online" / "events.db")
    answers = AnswerLog(folder / "store" / "online" / "answers.db")
    try:
        replayer = Replayer(folder, settings, log)
        kept: dict[str, dict[str, Any]] = {}

        def logged() -> Iterator[tuple[str, Computed]]:
            at, left = after, limit
            while left > 0 and (batch := answers.read(at, min(PAGE, left))):
                at = batch[-1]["seq"]
                for answer in batch:
                    if answer["kind"] == "recommend":
                        left -= 1
                        kept[answer["answer_id"]] = answer
                        yield answer["answer_id"], from_log(readable(answer))

        return replay(
            logged(),
            lambda answer_id: replayer.recompute(kept.pop(answer_id)),
            total=limit,
            progress=progress,
        )
    finally:
        answers.close()
        log.close()
