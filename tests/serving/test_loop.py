"""quality.loop on a real shop: unknown before anything is served, then measured on what was served."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopkeeper.evaluation import loop
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

STEPS = ["collect", "clean", "features", "quality.loop"]
LOOKED = np.array([1.0, 0.7, 0.5, 0.35, 0.25])  # how often each place is looked at


def _checks(shop: Shop) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in shop.loop_quality()}


def test_before_anything_is_served_checks_of_answers_are_unknown_and_say_why(folder: Path) -> None:
    with Shop.open(folder) as shop:
        told = _checks(shop)
        assert told["bots"]["level"] == "ok"
        assert told["bots"]["value"] == 0.0
        for name in ("examination.recommend", "exposure_gini", "unjoined", "skew", "drift.price"):
            assert told[name]["level"] == "unknown"
            assert told[name]["detail"]["why"]
            assert told[name]["next"].startswith("serve answers")
        assert {one["wanted"] for one in told.values()} >= {"at least 0.2; below 0.05 is an error"}
        assert not any(s["state"] != "fresh" for s in shop.run(["quality.loop"])["steps"])


@pytest.fixture(scope="module")
def used(ran_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop that served 400 lists, read as LOOKED says; every fifth reader sent nothing back."""
    folder = tmp_path_factory.mktemp("used") / "corner"
    shutil.copytree(ran_shop, folder)
    rng = np.random.default_rng(5)
    toml = folder / "shop.toml"
    toml.write_text(
        toml.read_text("utf-8").replace("exploration = 0.0", "exploration = 0.5"), "utf-8"
    )
    with Shop.open(folder) as shop:
        for n in range(400):
            user = f"u{rng.integers(60):02d}"
            answer = shop.service.recommend(user_id=user, k=5)
            if n % 5 == 4:
                continue
            events = [{"user_id": user, "kind": "search", "answer_id": answer.answer_id}]
            for hit, look in zip(answer.items, LOOKED, strict=True):
                likes = 0.2 + 0.6 * (int(hit.item_id[1:]) % 2)
                if rng.random() < look * likes:
                    events.append(
                        {
                            "user_id": user,
                            "item_id": hit.item_id,
                            "kind": "view",
                            "answer_id": answer.answer_id,
                            "dwell_ms": 5_000,
                            "price_minor": 1_999,
                        }
                    )
            shop.service.record(events)
        shop.service.answers.flush()
        shop.run(STEPS)
    return folder


def test_answers_become_an_asset_with_places_and_stay_when_the_log_forgets(used: Path) -> None:
    with Shop.open(used) as shop:
        rows = shop.assets.read("raw.answers", by=OWNER, purpose=Purpose.ANALYSE)
        assert rows.height == 400
        assert rows["positions"].to_list()[0] == [1, 2, 3, 4, 5]
        assert shop.asset("raw.answers")["grade"] == "personal"
        shop.service.answers.forget(2**60)
        shop.run(["collect.answers"], force=True)
        assert shop.assets.current("raw.answers").rows == 400


def test_every_check_is_measured_on_what_was_served(used: Path) -> None:
    with Shop.open(used) as shop:
        told = _checks(shop)
    assert told["unjoined"]["value"] == pytest.approx(0.2)
    assert told["unjoined"]["level"] == "ok"
    assert told["skew"]["value"] == 0.0
    assert told["skew"]["level"] == "ok"
    assert told["skew"]["detail"]["answers"] == 100
    assert told["exposure_gini"]["detail"]["shown"] == 2_000
    places = told["examination.recommend"]["detail"]["places"]
    assert told["examination.search"]["level"] == "unknown"
    truth = {n + 1: value for n, value in enumerate(LOOKED)}
    assert [one["place"] for one in places] == [1, 2, 3, 4, 5]
    for one in places[1:]:
        # 320 short lists with a capped category hardly move: near, no more (test_examination has more)
        assert one["low"] - 0.2 <= truth[one["place"]] <= one["high"] + 0.2
    assert told["drift.kind"]["value"] is not None
    assert told["drift.kind"]["detail"]["requests"] == 400


def test_history_grows_with_each_new_state_and_a_planted_fault_is_seen(used: Path) -> None:
    with Shop.open(used) as shop:
        before = _checks(shop)["unjoined"]
        assert len(before["history"]) == 2  # the first run, and after serving
        for _ in range(400):
            shop.service.recommend(user_id="u01", k=5)  # nothing comes back
        shop.service.answers.flush()
        shop.run(STEPS)
        after = _checks(shop)["unjoined"]
    assert after["level"] == "warning"
    assert "answer_id" in after["next"]
    assert before["next"] is None
    assert [one["level"] for one in after["history"]] == ["unknown", "ok", "warning"]
    assert after["history"][-1]["value"] == pytest.approx(0.6)


def test_search_and_recommendation_count_clicks_by_the_places_looked_at(used: Path) -> None:
    with Shop.open(used) as shop:
        shop.run(["index", "release"])
        read = shop.assets.read
        seen = loop.curves(read(loop.ASSET, by=OWNER, purpose=Purpose.ANALYSE))["recommend"]
        assert seen.weights([5])[0] > 1.5
        did = read("clean.events", by=OWNER, purpose=Purpose.ANALYSE).filter(
            pl.col("kind") != "impression", pl.col("item_id").is_not_null()
        )
        release = used / "store" / "releases" / shop.service.health()["release"]
    stood = did["answer_id"].is_not_null() & did["position"].is_not_null()
    each = np.where(stood, seen.weights(did["position"].fill_null(1).to_numpy()), 1.0)
    did = did.with_columns(each=each)
    assert did["each"].sum() > 1.05 * did.height
    wanted = dict(did.group_by("item_id").agg(pl.col("each").sum()).iter_rows())
    card = json.loads((release / "search" / "search.json").read_text("utf-8"))
    assert card["max_popularity"] == round(max(wanted.values()))
    days = (did["ts"].max() - did["ts"]).dt.total_seconds().to_numpy() / 86_400  # type: ignore[operator]
    did = did.with_columns(each=did["each"].to_numpy() * 0.5 ** (days / 30))
    wanted = dict(did.group_by("item_id").agg(pl.col("each").sum()).iter_rows())
    items = pl.read_parquet(release / "vocabulary.parquet")["item_id"]
    counted = np.load(release / "popularity.npy")
    assert counted == pytest.approx([wanted.get(item, 0.0) for item in items], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("language", "title", "step"),
    [
        ("en", "Places looked at: recommendations", "Next:"),
        ("zh", "各位置被看到：推荐", "下一步："),
    ],
)
def test_the_page_shows_the_places_looked_at_and_what_to_do_next(
    used: Path, serving, language: str, title: str, step: str
) -> None:
    with serving(used) as running:
        headers = {"accept": "text/html", "accept-language": language}
        page = running.http.get("/console/loop", headers=headers)
    assert page.status_code == 200
    assert f"<h2>{title}</h2>" in page.text
    assert step in page.text
    assert "loop.next" not in page.text
