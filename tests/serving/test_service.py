"""The service as a client sees it."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopkeeper.config import Settings
from shopkeeper.errors import InputError, NotFound
from shopkeeper.features.sequences import Floats, Sequences
from shopkeeper.serving import Service, releases
from shopkeeper.serving.answers import joined


def ids(answer: object) -> list[str]:
    return [hit.item_id for hit in answer.items]  # type: ignore[attr-defined]


def opened(tmp_path: Path, release: Callable[..., str], **serving: object) -> Service:
    """A service of its own with other settings."""
    releases.swap(tmp_path / "store" / "releases", release(tmp_path), reason="test")
    return Service.open(tmp_path, Settings.model_validate({"serving": serving}))


def test_an_event_changes_the_same_users_next_answer_and_nobody_elses(service: Service) -> None:
    before = service.recommend(user_id="new", k=5)
    other = service.recommend(user_id="other", k=5)
    receipt = service.record([{"user_id": "new", "item_id": "tea3", "kind": "view"}])
    after = service.recommend(user_id="new", k=5)
    assert receipt.accepted == 1
    assert ids(after) != ids(before)
    assert all(item.startswith("tea") for item in ids(after)[:2])
    assert after.items[0].reason["key"] == "because_view"
    assert "tea3" in str(after.items[0].reason["en"])
    assert service.recommend(user_id="other", k=5).items == other.items


def test_a_stranger_gets_what_is_popular_and_it_is_not_degraded(service: Service) -> None:
    answer = service.recommend(user_id="stranger", k=24)
    assert not answer.degraded
    assert len(set(ids(answer))) == 24
    assert {hit.source for hit in answer.items} == {"popularity"}
    assert [hit.position for hit in answer.items] == list(range(1, 25))


def test_a_history_in_the_request_stands_for_what_is_known(service: Service) -> None:
    answer = service.recommend(user_id="u00", history=["tea1", "tea2"], k=4)
    assert all(item.startswith("tea") for item in ids(answer)[:3])


def test_what_was_bought_is_not_offered_again_unless_people_buy_it_again(
    service: Service, tmp_path: Path, release: Callable[..., str], behaviour: pl.DataFrame
) -> None:
    service.record([{"user_id": "x", "item_id": "tea3", "kind": "purchase"}])
    assert "tea3" not in ids(service.recommend(user_id="x", k=24))
    again = behaviour.head(20).with_columns(
        pl.lit("tea3").alias("item_id"),
        pl.lit("purchase").alias("kind"),
        pl.format("b{}", pl.int_range(20) // 2).alias("user_id"),
        pl.col("ts") + pl.duration(days=pl.int_range(20) % 2 * 7),
    )
    marked = releases.repeatable(pl.concat([behaviour, again]), ["tea3", "tea4"])
    assert marked.tolist() == [True, False]


def test_what_was_viewed_steps_back_at_home(service: Service) -> None:
    first = ids(service.recommend(user_id="y", history=["tea1"], k=1))[0]
    both = service.recommend(history=["tea1", first], k=24)
    assert ids(both)[0] != first
    assert first in ids(both)


def test_exclusions_and_filters_hold_whatever_the_models_say(service: Service) -> None:
    asked = {"user_id": "u50", "k": 24}
    answer = service.recommend(**asked, exclude=["tea1", "nobody"], filters={"category": "tea"})  # type: ignore[arg-type]
    assert "tea1" not in ids(answer)
    assert all(item.startswith("tea") for item in ids(answer))
    assert service.recommend(filters={"category": "no such"}).items == []
    dear = service.recommend(**asked, filters={"price": {"min": 3000}})  # type: ignore[arg-type]
    assert all(service.item(item)["price_minor"] >= 3000 for item in ids(dear))


def test_an_item_page_shows_its_neighbours_and_not_itself(service: Service) -> None:
    answer = service.similar("lamp3", k=5)
    assert "lamp3" not in ids(answer)
    assert all(item.startswith("lamp") for item in ids(answer)[:3])
    assert answer.items[0].reason["key"] == "similar"
    with pytest.raises(NotFound, match="no item 'nope'"):
        service.similar("nope")


def test_an_item_that_no_model_knows_has_neighbours_of_its_category(service: Service) -> None:
    service.put_items([{"item_id": "fresh", "title": "fresh", "category": "tea"}])
    answer = service.similar("fresh", k=4)
    assert all(item.startswith("tea") for item in ids(answer))
    assert answer.items[0].reason["key"] == "same_category"


def test_a_cart_page_goes_with_the_cart_and_leaves_out_what_is_in_it(service: Service) -> None:
    service.record([{"user_id": "z", "item_id": i, "kind": "cart"} for i in ("tea1", "tea5")])
    answer = service.recommend(user_id="z", scene="cart", k=5)
    assert not {"tea1", "tea5"} & set(ids(answer))
    assert all(item.startswith("tea") for item in ids(answer)[:3])
    assert answer.items[0].reason["key"] == "goes_with"
    given = service.recommend(scene="cart", history=["lamp1"], k=3)
    assert all(item.startswith("lamp") for item in ids(given)[:2])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"k": 0}, "k is 0, wanted 1 to 100"),
        ({"k": 101}, "k is 101, wanted 1 to 100"),
        ({"scene": "moon"}, "scene is 'moon'; scenes are: home, item, cart"),
        ({"scene": "item"}, "scene item needs item_id"),
        ({"filters": {"colour": "red"}}, "unknown filter 'colour'"),
        ({"exclude": ["\ud800"]}, "is no valid UTF-8"),
        ({"user_id": "\ud800"}, "is no valid UTF-8"),
        ({"history": ["\ud800"]}, "is no valid UTF-8"),
        ({"exclude": ["x"] * 1001}, "1001 items to exclude, at most 1000"),
    ],
)
def test_a_wrong_request_says_what_was_wanted(
    service: Service, asked: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as error:
        service.recommend(**asked)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_repeated_request_is_answered_from_the_cache_as_a_new_answer(service: Service) -> None:
    first = service.recommend(user_id="u01", k=5)
    again = service.recommend(user_id="u01", k=5)
    assert first.items == again.items
    assert first.answer_id != again.answer_id
    assert service.counters()["counts"]["cache_hits"] == 1
    service.record([{"user_id": "u02", "item_id": "tea1"}])
    service.recommend(user_id="u01", k=5)
    assert service.counters()["counts"]["cache_hits"] == 2
    service.record([{"user_id": "u01", "item_id": "tea1"}])
    service.recommend(user_id="u01", k=5)
    assert service.counters()["counts"]["cache_hits"] == 2


def test_the_cache_is_bounded_and_can_be_off(tmp_path: Path, release: Callable[..., str]) -> None:
    service = opened(tmp_path, release, cache_answers=3)
    for n in range(10):
        service.recommend(user_id=f"u{n:02}", k=3)
    assert service.counters()["cached_answers"] == 3
    service.close()
    service = opened(tmp_path, release, cache_answers=0)
    service.recommend(user_id="u01")
    assert service.counters()["cached_answers"] == 0
    service.close()


@pytest.mark.parametrize("failing", ["nothing", "the model", "search"])
def test_a_trace_is_json_where_a_model_has_no_score(
    service: Service, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    live = service._live
    model = live.release.models["item_knn"]

    def scores(histories: Sequences) -> Floats:
        if failing == "the model":
            raise RuntimeError("out of order")
        values = np.zeros((len(histories), 24), dtype=np.float32)
        values[:, 3:] = -np.inf  # "no proposal", as a user's own model may say it
        return values

    monkeypatch.setattr(model, "scores", scores)
    if failing == "search":
        live.search = None
    service.put_items([{"item_id": "new1"}])  # no model knows it
    answers = [service.recommend(user_id=user, k=24) for user in ("u01", "stranger")]
    answers += [service.recommend(scene="item", item_id="new1"), service.search("nothing here")]
    for known in (service, flushed(service)):
        for answer in answers:
            json.dumps(answer.as_dict(), allow_nan=False)
            json.dumps(known.trace(answer.answer_id), allow_nan=False)
    if failing == "nothing":
        candidates = service.trace(answers[0].answer_id)["candidates"]
        said = dict(zip(candidates["item_ids"], candidates["models"]["item_knn"], strict=True))
        assert (said["lamp0"], said["tea11"], said["new1"]) == (0.0, None, None)


def test_a_trace_tells_sources_scores_versions_and_what_followed(service: Service) -> None:
    answer = service.recommend(user_id="u50", k=3)
    hit = answer.items[1]
    service.record(
        [
            {
                "user_id": "u50",
                "item_id": hit.item_id,
                "kind": "cart",
                "answer_id": answer.answer_id,
            }
        ]
    )
    for trace in (service.trace(answer.answer_id), flushed(service).trace(answer.answer_id)):
        assert trace["items"] == ids(answer)
        assert trace["release"] == answer.release
        assert trace["versions"] == {"models.item_knn": "v1", "clean.events": "v1"}
        assert trace["propensity"] == [1.0, 1.0, 1.0]
        assert trace["request"]["user_id"] == "u50"
        assert hit.item_id in trace["candidates"]["item_ids"]
        assert set(trace["candidates"]["models"]) == {"item_knn"}
        assert [event["kind"] for event in trace["events"]] == ["cart"]
    with pytest.raises(NotFound, match="no answer 'nope'"):
        service.trace("nope")
    assert service.recommend(user_id="u50", explain=True).as_dict()["explanation"]["state"]


def flushed(service: Service) -> Service:
    service.answers.flush()
    return service


def test_an_event_joins_the_answer_that_showed_its_item(service: Service) -> None:
    answer = service.recommend(user_id="u50", k=3)
    events = [
        {"user_id": "u50", "item_id": answer.items[2].item_id, "answer_id": answer.answer_id},
        {"user_id": "u50", "item_id": "lamp0", "answer_id": "unknown", "position": 9},
    ]
    service.record(events)
    service.answers.flush()
    table = joined(service.events.frame(), service.answers)
    assert table.select("position", "propensity").rows() == [("3", "1.0"), ("9", None)]
    assert table.columns == service.events.frame().columns


def test_exploration_is_logged_with_the_propensity_of_what_was_shown(
    tmp_path: Path, release: Callable[..., str]
) -> None:
    service = opened(tmp_path, release, exploration=0.5)
    explored = 0
    for _ in range(200):
        answer = service.recommend(user_id="u50", k=5)
        trace = service.trace(answer.answer_id)
        slot = trace["policy"]["explored"]
        usual = [1.0] + [1.0 - 0.5 / 4] * 4
        if slot is not None:
            explored += 1
            usual[slot] = 0.5 / (4 * trace["policy"]["pool"])
            assert answer.items[slot].source == "exploration"
        assert trace["propensity"] == pytest.approx(usual)
        assert len(set(ids(answer))) == 5
    assert 60 < explored < 140
    service.close()


def test_who_switched_personalisation_off_gets_what_a_stranger_gets(
    tmp_path: Path, release: Callable[..., str], settings: Settings
) -> None:
    made = release(tmp_path, opted_out=["u50"])
    releases.swap(tmp_path / "store" / "releases", made, reason="test")
    service = Service.open(tmp_path, settings)
    service.record([{"user_id": "u50", "item_id": "tea2"}])
    stranger = service.recommend(user_id="stranger", k=10)
    assert service.recommend(user_id="u50", k=10).items == stranger.items
    assert service.recommend(user_id="u51", k=10).items != stranger.items
    found = service.search("number", user_id="u50", k=10)
    assert found.items == service.search("number", k=10).items
    service.close()


def test_a_batch_answers_every_user_as_one_by_one(service: Service) -> None:
    users = [f"u{n:02}" for n in range(80)] + ["stranger"]
    together = dict(service.batch(users, k=6))
    assert list(together) == users
    for user in users[::16]:
        assert together[user] == service.recommend(user_id=user, k=6).items


def test_search_is_answered_by_the_floor_when_the_index_is_broken(
    service: Service, tmp_path: Path, release: Callable[..., str]
) -> None:
    assert service.search("lamp", k=3).items[0].item_id.startswith("lamp")
    made = release(tmp_path)
    index = tmp_path / "store" / "releases" / made / "search" / "search.json"
    index.unlink()
    releases.swap(tmp_path / "store" / "releases", made, reason="test")
    service.reload()
    answer = service.search("lamp", k=3, filters={"category": "tea"})
    assert answer.degraded
    assert answer.stage == "floor"
    assert len(answer.items) == 3
    assert all(item.startswith("tea") for item in ids(answer))


def test_many_threads_at_once_get_their_own_answers(service: Service) -> None:
    problems: list[str] = []

    def ask(thread: int) -> None:
        taste = "tea" if thread % 2 else "lamp"
        for n in range(30):
            user = f"t{thread}-{n}"
            service.record([{"user_id": user, "item_id": f"{taste}{n % 12}"}])
            answer = service.recommend(user_id=user, k=3)
            if answer.degraded or not ids(answer)[0].startswith(taste):
                problems.append(str(answer))

    threads = [threading.Thread(target=ask, args=(t,)) for t in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_counters_tell_what_was_done(service: Service) -> None:
    service.record([{"user_id": "u", "item_id": "tea1", "event_id": "a"}] * 2)
    service.recommend(user_id="u")
    service.search("tea")
    told = service.counters()
    assert told["counts"] == {
        "events_accepted": 1,
        "events_duplicate": 1,
        "recommendations": 1,
        "searches": 1,
    }
    assert told["latency"]["recommend"]["count"] == 1
    assert sum(told["latency"]["recommend"]["counts"]) == 1
    assert told["events_logged"] == 1
