"""The thinnest whole loop: two CSV files in, an answer out, an event in, another answer out."""

import json
import random
from importlib.resources import files
from pathlib import Path

import polars as pl
import pytest

from shopkeeper.errors import Conflict, InputError
from shopkeeper.governance.access import OWNER
from shopkeeper.models import registry
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

TOML = """
models = ["popularity", "item_knn"]
buckets = 4
[serving]
exploration = 0.0
"""


def write_plain_shop(folder: Path) -> None:
    """The plain shape: user_id, item_id and item_id, item_feature, nothing more."""
    dice = random.Random(5)
    lines = ["user_id,item_id"]
    for _ in range(1200):
        user = dice.randrange(100)
        lines.append(f"u{user},i{user % 5 * 10 + dice.randrange(10)}")
    folder.mkdir(exist_ok=True)
    (folder / "user_behavior.csv").write_text("\n".join(lines) + "\n")
    items = [f"i{n},{n / 10}" for n in range(50)]
    (folder / "item_data.csv").write_text("\n".join(["item_id,item_feature", *items]) + "\n")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    write_plain_shop(folder)
    (folder / "shop.toml").write_text(TOML)
    return folder


def test_the_two_plain_files_need_no_settings_at_all(tmp_path: Path) -> None:
    write_plain_shop(tmp_path / "plain")
    with Shop.open(tmp_path / "plain") as shop:
        told = shop.run(["collect", "clean", "features"])
        assert told["assets"]["clean.events"]["rows"] == 1200
        events = shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        assert events["ts"].null_count() == 1200
        assert events["kind"].unique().to_list() == ["view"]
        items = shop.assets.read("features.items", by=OWNER, purpose=Purpose.ANALYSE)
        assert items.filter(pl.col("item_id") == "i7")["values"][0].to_list() == pytest.approx(
            [0.7]
        )


def test_an_event_changes_the_next_answer_and_comes_back_as_data(shop: Path) -> None:
    with Shop.open(shop) as opened:
        told = opened.run()
        assert told["release"] is not None
        assert {line["model"] for line in told["leaderboard"]} == {"popularity", "item_knn"}
        before = opened.service.recommend(user_id="newcomer", k=5)
        clicked = "i42"
        opened.service.record(
            [
                {
                    "user_id": "newcomer",
                    "item_id": clicked,
                    "kind": "view",
                    "answer_id": before.answer_id,
                }
            ]
        )
        after = opened.service.recommend(user_id="newcomer", k=5)
        assert [hit.item_id for hit in after.items] != [hit.item_id for hit in before.items]
        near = {f"i{n}" for n in range(40, 50)}
        assert len({hit.item_id for hit in after.items} & near) >= 3
        opened.run()
        events = opened.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        assert events.height == 1201
        assert events.filter(pl.col("user_id") == "newcomer")["answer_id"].to_list() == [
            before.answer_id
        ]
        assert opened.run(["collect", "clean"])["assets"] == {}  # taken in exactly once


def test_what_visitors_do_is_learned_from_and_is_no_bad_row(shop: Path, tmp_path: Path) -> None:
    with Shop.open(shop) as opened:
        opened.run()
        visit = {"session_id": "s1", "kind": "view"}
        opened.service.record([{**visit, "item_id": item} for item in ("i41", "i42", "i43")])
        opened.run()
        events = opened.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        done = events.filter(pl.col("session_id") == "s1").sort("seq")
        assert done["item_id"].to_list() == ["i41", "i42", "i43"]
        assert set(done["user_id"]) == {"session:s1"}
        assert opened.quarantine() == []
        out = tmp_path / "all.csv"
        opened.recommend_all(out, k=2)
        assert "session:" not in out.read_text()


def test_models_that_come_out_the_same_from_new_features_are_released(shop: Path) -> None:
    with Shop.open(shop) as opened:
        opened.run()
        items = shop / "item_data.csv"
        items.write_text(items.read_text().replace("0.7", "0.75", 1))  # no rule looks at it
        told = opened.run()
        assert "features.items" in told["assets"]
        assert "models.popularity" not in told["assets"]
        assert told["assets"]["releases.main"]["version"] == "releases.main@2"


def test_nothing_runs_twice_and_a_grown_file_adds_only_what_is_new(shop: Path) -> None:
    with Shop.open(shop) as opened:
        opened.run()
        again = opened.run()
        looked = {"collect", "report"}
        states = {s["step"]: s["state"] for s in again["steps"]}
        assert {
            state for step, state in states.items() if step.partition(".")[0] not in looked
        } <= {"fresh", "idle"}
        assert again["assets"] == {}
        with (shop / "user_behavior.csv").open("a") as file:
            file.write("u1,i3\nu1,i4\n")
        grown = opened.run(["collect", "clean"])
        assert grown["assets"]["raw.events"]["rows"] == 1202
        notes = {s["step"]: s["notes"] for s in grown["steps"]}
        assert notes["collect.events"]["rows"] == 2


def test_a_second_run_at_the_same_time_is_refused_with_the_next_step(shop: Path) -> None:
    from shopkeeper.assets import durable

    with (
        Shop.open(shop) as opened,
        durable.lock(opened.assets.root / "run.lock", wait=False),
        pytest.raises(Conflict, match=r"another run is at work here.*wait until it is done"),
    ):
        opened.run(["collect"])


def test_an_unknown_step_is_refused_with_the_known_ones(shop: Path) -> None:
    with Shop.open(shop) as opened, pytest.raises(InputError, match=r"no step 'clena'.*clean"):
        opened.run(["clena"])


def test_a_changed_contract_cleans_its_table_again(shop: Path) -> None:
    kind = Path(str(files("shopkeeper") / "assets" / "contracts" / "events.odcs.yaml"))
    head = kind.read_text(encoding="utf-8").partition("\nschema:")[0]
    narrow = "  - {name: user_id, logicalType: string, required: true, logicalTypeOptions: {pattern: ^u1}}"
    with Shop.open(shop) as opened:
        opened.run(["collect", "clean"])
        before = opened.assets.current("clean.events").rows or 0
        (shop / "contracts").mkdir()
        (shop / "contracts" / "events.odcs.yaml").write_text(
            f"{head}\nschema:\n- name: events\n  properties:\n{narrow}\n"
        )
        told = opened.run(["clean"], accept_change=True)
        states = {s["step"]: s["state"] for s in told["steps"]}
        assert (states["clean.events"], states["clean.items"]) == ("done", "fresh")
        assert 0 < (opened.assets.current("clean.events").rows or 0) < before
        (shop / "contracts" / "events.odcs.yaml").write_text("name: [")
        assert opened.status()["steps"]  # a contract that is not valid hides nothing
        with pytest.raises(InputError, match="not valid YAML"):
            opened.run(["clean"])
        assert "not valid YAML" in opened.status()["next"]


def test_an_edited_model_of_ones_own_is_trained_again(shop: Path) -> None:
    source = (
        "from shopkeeper.models.popularity import Popularity\n\nclass Mine(Popularity):\n"
        '    name = "mine"\n'
    )
    (shop / "shop.toml").write_text('models = ["my_shop_models.mine:Mine"]\nbuckets = 2\n')
    (shop / "my_shop_models").mkdir()
    (shop / "my_shop_models" / "helpers.py").write_text("SHARE = 1\n")
    (shop / "my_shop_models" / "mine.py").write_text(source)

    def train() -> str:
        registry.source_digest.cache_clear()  # as a new process does
        with Shop.open(shop) as opened:
            return str(opened.run(["collect", "clean", "features", "train"])["steps"][-1]["state"])

    assert [train(), train()] == ["done", "fresh"]
    for name in ("mine.py", "helpers.py"):
        with (shop / "my_shop_models" / name).open("a") as file:
            file.write("# tried another way\n")
        assert [train(), train()] == ["done", "fresh"], name


def test_what_is_measured_does_not_know_how_often_an_item_will_be_sold(tmp_path: Path) -> None:
    folder = tmp_path / "dated"
    folder.mkdir()
    (folder / "shop.toml").write_text('models = ["popularity"]\nbuckets = 2\n')
    lines = [f"u{n % 9},i{n % 7},2026-01-{n % 28 + 1:02d}T00:00:00Z" for n in range(200)]
    (folder / "user_behavior.csv").write_text("\n".join(["user_id,item_id,ts", *lines]) + "\n")
    dates = ["2026-01-01T00:00:00Z"] * 3 + ["2026-02-01T00:00:00Z"] * 2 + [""] * 2
    items = [f"i{n},{n * 10},{date}" for n, date in enumerate(dates)]
    (folder / "item_data.csv").write_text(
        "\n".join(["item_id,sold_count,updated_at", *items]) + "\n"
    )
    with Shop.open(folder) as shop:
        shop.run(["collect", "clean", "features", "train"])
        card = shop.assets.folder("evaluations.popularity", by=OWNER, purpose=Purpose.ANALYSE)
        told = json.loads((card / "evaluation.json").read_text())["item_attributes"]
    assert (told["items_with_numbers"], told["left_out"], told["undated"]) == (7, 2, 2)
    assert told["as_of"] is not None


def test_lineage_leads_from_the_release_back_to_the_raw_files(shop: Path) -> None:
    with Shop.open(shop) as opened:
        opened.run()
        lineage = opened.lineage("releases.main")
        names = {node["name"] for node in lineage["nodes"]}
        assert {"raw.events", "clean.events", "features.sequences", "models.item_knn"} <= names
        run = opened.asset("models.item_knn")["run"]
        assert run["outcome"] == "done"
        assert run["code_digest"]


def test_a_tiny_shop_with_all_floors_still_gets_a_release(tmp_path: Path) -> None:
    """Where too few examples let the fusion fall below a floor, that floor serves."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "shop.toml").write_text(
        'models = ["popularity", "item_knn", "sequence_knn", "ease"]\nbuckets = 2\n'
    )
    dice = random.Random(1)
    lines = [f"u{n % 6},i{dice.randrange(9)}" for n in range(60)]
    (folder / "user_behavior.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    with Shop.open(folder) as shop:
        told = shop.run()
        assert told["release"] is not None
        assert len(shop.service.recommend(user_id="u1", k=3).items) == 3
