"""Logged answers computed again: the same features, the same scores, bit for bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shopkeeper.config import Settings
from shopkeeper.serving import Service, releases
from shopkeeper.serving.replay import check


@pytest.mark.parametrize("answers", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_replaying_logged_answers_gives_equal_features_and_scores(
    tmp_path: Path, release: Callable[..., str], answers: int
) -> None:
    settings = Settings.model_validate({"serving": {"exploration": 0.1, "history": 20}})
    store = tmp_path / "store" / "releases"
    models = ("sequence_knn", "item_knn", "popularity")
    releases.swap(store, release(tmp_path, models=models), reason="test")
    service = Service.open(tmp_path, settings)
    draw = np.random.default_rng(3)
    kinds = ["view", "cart", "purchase", "impression"]
    for n in range(answers):
        user = f"u{draw.integers(0, 100):02}"
        item = f"{draw.choice(['tea', 'lamp'])}{draw.integers(0, 12)}"
        if draw.random() < 0.5:
            event = {
                "user_id": user,
                "session_id": f"s{n % 7}",
                "item_id": item,
                "kind": str(draw.choice(kinds)),
                "dwell_ms": int(draw.integers(0, 10**6)),
                "price_minor": int(draw.integers(0, 10**5)),
            }
            if draw.random() < 0.2:
                del event["user_id"]
            service.record([event])
        if draw.random() < 0.02:
            service.put_items([{"item_id": f"new{n % 5}", "category": "tea", "stock": n % 3}])
        if n == answers // 2:  # answers of a release that serves no more are replayed too
            releases.swap(store, release(tmp_path, models=models), reason="test")
            service.reload()
        session = f"s{n % 7}" if draw.random() < 0.3 else None
        scene = str(draw.choice(["home", "item", "cart"]))
        given = [item, "tea1"] if draw.random() < 0.1 else None
        service.recommend(
            user_id=user, session_id=session, scene=scene, item_id=item, history=given, k=8
        )
    service.close()
    report = check(tmp_path, settings, limit=answers)
    assert report.passed, report.as_dict()
    assert (report.answers, report.max_difference) == (answers, 0.0)
    assert report.scores_compared > 10 * answers


def test_a_changed_log_does_not_replay_equal(service: Service, tmp_path: Path) -> None:
    service.record([{"user_id": "u01", "item_id": "tea1", "event_id": "e"}])
    service.recommend(user_id="u01")
    service.events.file.write(
        lambda writer: writer.execute("UPDATE events SET item_id = 'tea2' WHERE event_id = 'e'")
    )
    service.answers.flush()
    report = check(tmp_path, service.settings)
    assert not report.passed
    assert report.kinds == {"features": 1}
