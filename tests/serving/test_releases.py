"""Releases: built whole, gated, swapped without a failed request, rolled back."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from shopkeeper.assets.durable import lock
from shopkeeper.config import Settings
from shopkeeper.errors import Conflict, InputError, NotFound, NotReady
from shopkeeper.features.items import bare
from shopkeeper.features.sequences import Sequences
from shopkeeper.models import registry
from shopkeeper.serving import Service, releases

Build = Callable[..., str]
MAY_LACK = ("models", "search")  # folders of a release without which the rest serves


def test_the_gate_refuses_what_is_below_a_floor_or_the_current_release() -> None:
    def asked(new: float, floor: float, current: float | None) -> releases.Decision:
        return releases.gate(
            {"NDCG@10": new},
            floors={"popularity": {"NDCG@10": floor}},
            current=None if current is None else {"NDCG@10": current},
            metric="NDCG@10",
            tolerance=0.02,
        )

    assert asked(0.10, 0.10, None).passed
    assert not asked(0.0999, 0.10, None).passed
    assert "below the floor popularity 0.1000" in asked(0.05, 0.10, None).reason
    assert asked(0.0981, 0.01, 0.10).passed
    refused = asked(0.0979, 0.01, 0.10)
    assert not refused.passed
    assert refused.numbers == {"new": 0.0979, "floor popularity": 0.01, "current": 0.10}
    assert not asked(float("nan"), 0.0, None).passed


def test_the_gate_forgives_chance_and_refuses_what_is_broken() -> None:
    def asked(**more: Any) -> releases.Decision:
        floors = {"ease": {"NDCG@10": 0.11}}
        return releases.gate(
            {"NDCG@10": 0.10}, floors=floors, current=None, metric="NDCG@10", tolerance=0.0, **more
        )

    assert not asked().passed
    assert asked(noise={"ease": 0.0101}).passed
    refused = asked(noise={"ease": 0.0101}, broken=["search finds nothing"])
    assert (refused.passed, refused.reason) == (False, "search finds nothing")


def test_a_service_without_a_release_says_what_to_run(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(NotReady, match="no release serves yet; run: shopkeeper run"):
        Service.open(tmp_path, settings)


def test_what_cannot_be_built_leaves_nothing_behind(tmp_path: Path) -> None:
    store = tmp_path / "store" / "releases"
    with pytest.raises(FileNotFoundError):
        releases.build(
            store,
            models={"item_knn": tmp_path / "nothing here"},
            item_table=bare(["a"]),
            items=pl.DataFrame({"item_id": ["a"]}),
            events=pl.DataFrame(),
        )
    assert [path for path in store.iterdir() if path.is_dir()] == []
    assert releases.listed(store) == []


def test_a_model_of_another_catalogue_is_refused(
    tmp_path: Path, fitted: dict[str, Path], release: Build, behaviour: pl.DataFrame
) -> None:
    store = tmp_path / "store" / "releases"
    made = releases.Release(store / release(tmp_path))
    folder = store / made.id
    with pytest.raises(InputError, match="model item_knn scores 24 items, the vocabulary has 23"):
        releases.build(
            store,
            models={"item_knn": fitted["item_knn"]},
            item_table=bare(made.catalogue.ids[:23]),
            items=pl.read_parquet(folder / "items.parquet"),
            events=behaviour,
        )


def test_a_pinned_release_stays_until_unpinned(tmp_path: Path, release: Build) -> None:
    store = tmp_path / "store" / "releases"
    first, second = release(tmp_path), release(tmp_path)
    assert releases.swap(store, first, reason="x")
    releases.pin(store, first)
    assert not releases.swap(store, second, reason="x")
    releases.pin(store, None)
    assert releases.swap(store, second, reason="x")
    assert [d["what"] for d in releases.decisions(store)] == [
        "swap",
        "pin",
        "refused",
        "unpin",
        "swap",
    ]
    with pytest.raises(NotFound, match="no release 'nope'"):
        releases.pin(store, "nope")


def test_a_rollback_serves_the_one_before_and_stays(
    tmp_path: Path, release: Build, settings: Settings
) -> None:
    store = tmp_path / "store" / "releases"
    first, second = release(tmp_path), release(tmp_path)
    releases.swap(store, first, reason="x")
    service = Service.open(tmp_path, settings)
    with pytest.raises(NotReady, match="no earlier release"):
        service.rollback()
    releases.swap(store, second, reason="x")
    assert service.reload()
    assert service.recommend(k=1).release == second
    assert service.rollback() == first
    assert service.recommend(k=1).release == first
    assert not releases.swap(store, second, reason="the next run")
    service.close()


def test_old_releases_go_but_never_the_current_or_the_one_before(
    tmp_path: Path, release: Build
) -> None:
    store = tmp_path / "store" / "releases"
    made = sorted(release(tmp_path, models=()) for _ in range(6))
    releases.swap(store, made[0], reason="x")
    releases.swap(store, made[1], reason="x")
    gone = releases.retain(store, keep=2)
    assert sorted(gone) == made[2:4]
    assert sorted(r["release"] for r in releases.listed(store)) == [*made[:2], *made[4:]]


def test_a_swap_under_load_fails_no_request(
    service: Service, tmp_path: Path, release: Build
) -> None:
    store = tmp_path / "store" / "releases"
    problems: list[str] = []
    served: set[str] = set()
    stop = threading.Event()

    def ask(thread: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            try:
                answer = service.recommend(user_id=f"u{(n * 7 + thread) % 80:02}", k=5)
                found = service.search("lamp", k=3)
                if n % 10 == 0:
                    service.record([{"user_id": f"u{n % 80:02}", "item_id": "tea1"}])
            except Exception as error:
                problems.append(repr(error))
                continue
            served.add(answer.release)
            if answer.degraded or found.degraded or len(answer.items) != 5 or not found.items:
                problems.append(f"{answer} {found}")

    threads = [threading.Thread(target=ask, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    made = []
    for _ in range(4):
        made.append(release(tmp_path))
        releases.swap(store, made[-1], reason="test")
        service.reload()
        assert service.recommend(k=1).release == made[-1]
        until = time.monotonic() + 30
        while made[-1] not in served and time.monotonic() < until:
            time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert set(made) <= served
    assert service.recommend(k=1).release == made[-1]


def test_a_worker_follows_a_swap_by_another_process(
    service: Service, tmp_path: Path, release: Build
) -> None:
    second = release(tmp_path)
    releases.swap(tmp_path / "store" / "releases", second, reason="test")
    until = time.monotonic() + 10
    while service.recommend(k=1).release != second and time.monotonic() < until:
        time.sleep(0.05)
    assert service.recommend(k=1).release == second


def test_a_release_that_cannot_be_opened_is_told_and_tried_again(
    service: Service, tmp_path: Path, release: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopkeeper.serving.service.AGAIN_S", 0.05)
    store = tmp_path / "store" / "releases"
    second = release(tmp_path)
    (store / second / "vocabulary.parquet").rename(tmp_path / "away")
    releases.swap(store, second, reason="test")
    until = time.monotonic() + 10
    while not service.health()["reload_failed"] and time.monotonic() < until:
        assert service.recommend(k=1).release != second
        time.sleep(0.02)
    assert "vocabulary.parquet" in service.health()["reload_failed"]
    (tmp_path / "away").rename(store / second / "vocabulary.parquet")
    while service.recommend(k=1).release != second and time.monotonic() < until:
        time.sleep(0.02)
    assert service.recommend(k=1).release == second
    assert service.health()["reload_failed"] == ""


def test_without_its_pointer_a_running_server_goes_on(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopkeeper.serving.service.POINTER_S", 0.0)
    (tmp_path / "store" / "releases" / "current.json").unlink()
    for _ in range(3):
        time.sleep(0.3)
        assert service.recommend(k=1).items
    assert not service.reload()


def test_a_closed_service_says_so(service: Service) -> None:
    service.close()
    with pytest.raises(NotReady, match="the service is closed"):
        service.recommend(k=1)
    assert not service.reload()


class Breaks:
    """A model that learns nothing and fails when asked about anybody."""

    name: ClassVar[str] = "breaks"

    def __init__(self) -> None:
        self.card: dict[str, Any] = {}

    def fit(self, data: object) -> None:
        self.card = {"what": "fails on purpose"}

    def scores(self, histories: Sequences) -> np.ndarray[Any, Any]:
        if len(histories.items):
            raise RuntimeError("out of order")
        return np.zeros((len(histories), 24), dtype=np.float32)

    def predict(self, histories: Sequences, items: object) -> np.ndarray[Any, Any]:
        return np.zeros(len(histories), dtype=np.float32)

    def save(self, folder: Path) -> None:
        (folder / "breaks.json").write_text(json.dumps(self.card))

    @classmethod
    def load(cls, folder: Path) -> "Breaks":
        return cls()


@pytest.fixture
def with_broken(
    tmp_path: Path, release: Build, fitted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> str:
    """A release whose first model fails, in the workspace; its id."""
    monkeypatch.setitem(registry.MODELS, "breaks", Breaks)
    (tmp_path / "breaks").mkdir()
    registry.save(Breaks(), tmp_path / "breaks")
    monkeypatch.setitem(fitted, "breaks", tmp_path / "breaks")
    return release(tmp_path, models=("breaks", "item_knn", "popularity"))


def test_a_release_that_fails_too_often_is_rolled_back_by_itself(
    service: Service, tmp_path: Path, with_broken: str
) -> None:
    store = tmp_path / "store" / "releases"
    good = service.recommend(k=1).release
    releases.swap(store, with_broken, reason="it passed the gate")
    service.reload()
    for n in range(120):
        answer = service.recommend(
            user_id=f"u{n % 80:02}", history=[f"tea{n % 12}"], exclude=[str(n)]
        )
        assert len(answer.items) > 0
        assert answer.degraded or answer.release == good
    until = time.monotonic() + 10
    while service.recommend(k=1).release != good and time.monotonic() < until:
        time.sleep(0.02)
    assert service.recommend(k=1).release == good
    last = releases.decisions(store)[-1]
    assert (last["what"], last["release"]) == ("rollback", good)
    assert "answers failed" in last["reason"]


def test_requests_that_search_cannot_take_are_no_fault_of_the_release(
    service: Service, tmp_path: Path, release: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases.swap(tmp_path / "store" / "releases", release(tmp_path), reason="test")
    service.reload()
    with pytest.raises(InputError, match="price_minor = "):
        service.search("lamp", filters={"price_minor": {"min": 1, "max": 10**20}})
    live = service._live
    assert live.search is not None
    whole = live.search.search

    def choosy(query: str, k: int, **asked: Any) -> object:
        if query == "odd":
            raise ValueError("tantivy does not take this")
        return whole(query, k, **asked)

    monkeypatch.setattr(live.search, "search", choosy)
    for _ in range(150):
        assert service.search("odd", k=1).degraded
    assert service._live is live
    assert (live.answered, live.failed) == (0, 0)


def test_failures_after_a_long_good_time_count_too(service: Service) -> None:
    live = service._live
    for _ in range(100_000):
        assert live.note(failed=False, bearable=0.05) == ""
    told = [live.note(failed=True, bearable=0.05) for _ in range(150)]
    assert [why for why in told if why] == ["11 of 200 answers failed", "100 of 100 answers failed"]


def test_two_workers_that_roll_back_at_once_go_back_once(
    service: Service, tmp_path: Path, release: Build, settings: Settings
) -> None:
    store = tmp_path / "store" / "releases"
    good, bad = service.recommend(k=1).release, release(tmp_path)
    releases.swap(store, bad, reason="it passed the gate")
    service.reload()
    other = Service.open(tmp_path, settings)
    with lock(store / ".lock", wait=True):  # both have seen enough failures of `bad`
        for worker in (service, other):
            worker._roll_back_by_itself(worker._live, "100 of 100 failed")
    until = time.monotonic() + 10
    while any(thread.name == "rollback" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
    now = releases.pointer(store)
    assert now is not None
    assert (now.release, now.previous) == (good, bad)
    assert [d["what"] for d in releases.decisions(store)].count("rollback") == 1
    with pytest.raises(Conflict, match="serves no more, or is pinned"):
        releases.rollback(store, only_from=good)  # pinned since
    other.close()


def test_a_broken_model_costs_its_own_voice_only(
    service: Service, tmp_path: Path, with_broken: str
) -> None:
    whole = service.recommend(user_id="u01", k=5)
    releases.swap(tmp_path / "store" / "releases", with_broken, reason="test")
    service.reload()
    answer = service.recommend(user_id="u01", k=5)
    assert answer.degraded
    assert [hit.item_id for hit in answer.items] == [hit.item_id for hit in whole.items]
    failed = service.trace(answer.answer_id)["failed"]
    assert failed == {"breaks": "RuntimeError: out of order"}
    assert service.counters()["counts"]["degraded"] == 1


def test_a_model_that_cannot_be_opened_leaves_the_others_serving(
    service: Service, tmp_path: Path, release: Build
) -> None:
    made = release(tmp_path)
    folder = tmp_path / "store" / "releases" / made / "models" / "item_knn"
    for file in folder.iterdir():
        file.unlink()  # other hard links of it stay
    releases.swap(tmp_path / "store" / "releases", made, reason="test")
    service.reload()
    answer = service.recommend(user_id="u01", k=5)
    assert answer.degraded
    assert len(answer.items) == 5
    assert "item_knn" in service.health()["broken"]


def test_a_release_without_any_one_of_its_files_says_what_to_do_or_serves_degraded(
    tmp_path: Path, release: Build, settings: Settings
) -> None:
    store = tmp_path / "store" / "releases"
    made = release(tmp_path)
    releases.swap(store, made, reason="test")
    files = [path for path in (store / made).rglob("*") if path.is_file()]
    needed = [path for path in files if path.relative_to(store / made).parts[0] not in MAY_LACK]
    assert {"opted_out.parquet", "manifest.json", "users.parquet"} <= {p.name for p in needed}
    for path in files:
        for damage in (b"", path.read_bytes()[: path.stat().st_size // 2], None):
            away = path.rename(tmp_path / "away")  # other hard links of it stay as they are
            if damage is not None:
                path.write_bytes(damage)
            if path in needed:
                with pytest.raises(NotReady, match=r"shopkeeper (run|release rollback)"):
                    Service.open(tmp_path, settings)
            else:
                service = Service.open(tmp_path, settings)
                assert len(service.recommend(user_id="u01", k=5).items) == 5, path
                assert len(service.search("lamp", k=3).items) == 3, path
                service.close()
            away.replace(path)
