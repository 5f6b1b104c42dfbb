"""The gate judges the pages that people would get, and search as it is packed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopkeeper.config import Settings
from shopkeeper.features.sequences import Sequences, pack
from shopkeeper.models.protocol import rank
from shopkeeper.search import build
from shopkeeper.serving import Service, rehearsal, releases
from shopkeeper.shop import Shop
from shopkeeper.words import KIND_CODES

Build = Callable[..., str]


def people(release: Path, behaviour: pl.DataFrame, users: list[str]) -> Sequences:
    """What these users have done, in the rows of the release."""
    ids = pl.read_parquet(release / "vocabulary.parquet")["item_id"].to_list()
    theirs = behaviour.filter(pl.col("user_id").is_in(users))
    return pack(
        users,
        [6] * len(users),
        [ids.index(item) for item in theirs["item_id"]],
        kinds=[KIND_CODES[kind] for kind in theirs["kind"]],
        times=theirs["ts"].dt.epoch("ms").to_numpy(),
    )


def test_what_is_judged_is_what_the_server_answers(
    service: Service, tmp_path: Path, behaviour: pl.DataFrame, settings: Settings
) -> None:
    folder = tmp_path / "store" / "releases" / service.health()["release"]
    users = ["u00", "u10", "u41", "u77"]  # the first two have bought something
    asked = people(folder, behaviour, users)
    with rehearsal.rehearsal(folder, settings, tmp_path) as live:
        lists = {"item_knn": rank(live.release.models["item_knn"], asked, 100)[0]}
        (pages,) = rehearsal.shown(live, asked, lists, [{"item_knn": 1.0}])
        ids = live.catalogue.ids
        for user, page in zip(users, pages, strict=True):
            answer = service.recommend(user_id=user, k=rehearsal.PAGE)
            assert [ids[row] for row in page if row >= 0] == [hit.item_id for hit in answer.items]
    assert list(folder.parent.glob(".rehearsal-*")) == []


def test_people_who_opted_out_are_shown_what_strangers_are(
    tmp_path: Path, release: Build, behaviour: pl.DataFrame, settings: Settings
) -> None:
    folder = tmp_path / "store" / "releases" / release(tmp_path, opted_out=["u50"])
    asked = people(folder, behaviour, ["u50"])
    with rehearsal.rehearsal(folder, settings, tmp_path) as live:
        lists = {"item_knn": rank(live.release.models["item_knn"], asked, 100)[0]}
        rehearsal.as_of_then(live, np.arange(24))
        (page,) = rehearsal.shown(live, asked, lists, [{"item_knn": 1.0}])
    assert page[0, 0] == 23  # what was most popular then


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("emptied", "search finds 0 of 20 items by their titles"),
        ("cut short", "the search index cannot be "),
        ("gone", "no search index; build it again with: shopkeeper run --force"),
    ],
)
def test_a_damaged_search_index_is_a_problem(
    tmp_path: Path,
    release: Build,
    behaviour: pl.DataFrame,
    settings: Settings,
    damage: str,
    told: str,
) -> None:
    folder = tmp_path / "store" / "releases" / release(tmp_path)
    asked = people(folder, behaviour, ["u00", "u41"])
    with rehearsal.rehearsal(folder, settings, tmp_path) as live:
        assert rehearsal.problems(live, asked) == []
    packed = folder / "search"
    if damage == "emptied":
        shutil.rmtree(packed)
        build(pl.read_parquet(folder / "items.parquet").clear(), packed)
    elif damage == "cut short":
        for file in (packed / "index").iterdir():
            content = file.read_bytes()
            file.unlink()  # other hard links of it stay
            file.write_bytes(content[: len(content) // 2])
    else:
        (packed / "search.json").unlink()
    with rehearsal.rehearsal(folder, settings, tmp_path) as live:
        (problem,) = rehearsal.problems(live, asked)
    assert told in problem


def test_a_model_that_does_not_answer_is_a_problem(
    tmp_path: Path,
    release: Build,
    behaviour: pl.DataFrame,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def scores(histories: Sequences) -> None:
        raise RuntimeError("out of order")

    folder = tmp_path / "store" / "releases" / release(tmp_path)
    asked = people(folder, behaviour, ["u00"])
    with rehearsal.rehearsal(folder, settings, tmp_path) as live:
        monkeypatch.setattr(live.release.models["item_knn"], "scores", scores)
        (problem,) = rehearsal.problems(live, asked)
    assert problem == "its models do not answer: RuntimeError: out of order"


def test_a_release_that_cannot_search_is_refused_and_the_reason_logged(folder: Path) -> None:
    store = folder / "store" / "releases"
    serves = releases.pointer(store)
    (index,) = (folder / "store" / "files" / "indexes" / "search").iterdir()
    (index / "search.json").chmod(0o644)
    (index / "search.json").unlink()
    (index / "search.json").write_text("{}")
    with Shop.open(folder) as shop:
        shop.run(["release"], force=True)
    assert releases.pointer(store) == serves
    last = releases.decisions(store)[-1]
    assert last["what"] == "refused"
    assert "damaged search index" in last["reason"]
