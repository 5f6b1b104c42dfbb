"""Broken stores are told with the next step, and the next step mends them."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from shopkeeper.assets import durable
from shopkeeper.errors import InputError, NotReady
from shopkeeper.models import registry
from shopkeeper.shop import Shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text('models = ["popularity"]\nbuckets = 2\n')
    lines = [f"u{n % 7},i{n % 5}" for n in range(70)]
    (tmp_path / "user_behavior.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    (tmp_path / "item_data.csv").write_text("item_id\ni0\ni1\ni2\ni3\ni4\n")
    with Shop.open(tmp_path) as shop:
        shop.run()
    return tmp_path


def test_a_damaged_data_file_is_named_and_made_anew(folder: Path) -> None:
    damaged = next((folder / "store" / "lake" / "clean" / "events").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:30])
    with Shop.open(folder) as shop:
        with pytest.raises(NotReady, match=r"is damaged: it has 30 bytes.*shopkeeper run --force"):
            shop.preview("clean.events")
        shop.run(force=True)
        assert len(shop.preview("clean.events", 100)["rows"]) == 70


def test_an_unreadable_pointer_is_told_and_mended(folder: Path) -> None:
    pointer = folder / "store" / "releases" / "current.json"
    pointer.write_text("{")
    with Shop.open(folder) as shop, pytest.raises(NotReady, match=r"delete this file, then"):
        shop.service.recommend(user_id="u1")
    pointer.unlink()
    with Shop.open(folder) as shop:
        shop.run(["release"], force=True)
        assert shop.service.recommend(user_id="u1", k=3).items


def test_events_without_rows_are_told_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "user_behavior.csv").write_text("user_id,item_id\n")
    (tmp_path / "item_data.csv").write_text("item_id\ni0\n")
    with (
        Shop.open(tmp_path) as shop,
        pytest.raises(InputError, match=r"no rows below the header in user_behavior\.csv; export"),
    ):
        shop.run()


def test_events_that_are_all_in_quarantine_are_told_with_the_way_there(tmp_path: Path) -> None:
    (tmp_path / "user_behavior.csv").write_text("user_id,item_id\nu1,gone\nu2,gone\n")
    (tmp_path / "item_data.csv").write_text("item_id\ni0\n")
    with Shop.open(tmp_path) as shop:
        with pytest.raises(InputError, match=r"no event is left to learn from.*quarantine ls"):
            shop.run()
        assert shop.quarantine()[0]["rule"] == "reference:item_id"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_wherever_it_is_met(tmp_path: Path) -> None:
    says = "the disk is full, so this could not be written; free some space and run again"
    with (
        pytest.raises(InputError, match=says),
        durable.full_disk_told(tmp_path),
        open("/dev/full", "w") as file,
    ):
        file.write("a")
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(InputError, match=says), durable.full_disk_told(tmp_path):
            connection.exec_driver_sql("CREATE TABLE a (b)")
    engine.dispose()
    with pytest.raises(ValueError, match="else"), durable.full_disk_told(tmp_path):
        raise ValueError("something else")


def test_a_shop_without_events_is_told_what_to_put_where(tmp_path: Path) -> None:
    (tmp_path / "item_data.csv").write_text("item_id\ni0\n")
    with Shop.open(tmp_path) as shop:
        with pytest.raises(
            NotReady, match=r"no model to compare.*put user_behavior\.csv into raw/"
        ):
            shop.run()
        shop.run(["collect", "clean"])


def test_a_wrong_model_is_told_before_anything_is_collected(folder: Path) -> None:
    for wrong, says in (("populrity", "did you mean 'popularity'?"), ("no.such:Mine", "no module")):
        (folder / "shop.toml").write_text(f'models = ["popularity", "{wrong}"]\nbuckets = 2\n')
        with Shop.open(folder) as shop:
            before = shop.assets.catalog.runs(limit=1)
            with pytest.raises(InputError, match=re.escape(says)):
                shop.run()
            assert shop.assets.catalog.runs(limit=1) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'name = "a"\nmodels popularity\n', "shop.toml:2: no valid TOML: Expected '='"),
        (b'name = "a"\nmodels popularity\n', "the line is: models popularity; correct it, then"),
        (b'models = ["ease"', "shop.toml:1: no valid TOML: Unclosed array, where the file ends"),
        (
            'buckets = 2\nname = "掌柜"'.encode("gb18030"),
            "shop.toml:2: this line is not utf-8; save",
        ),
        (b'currency = "EURO"', 'currency = "EURO": string should have at most 3 characters; cor'),
        (
            b'timezone = "Asia/Shangai"',
            "no time zone 'Asia/Shangai'; did you mean 'Asia/Shanghai'?",
        ),
    ],
)
def test_a_broken_shop_toml_is_told_with_its_line(tmp_path: Path, text: bytes, says: str) -> None:
    (tmp_path / "shop.toml").write_bytes(text)
    with pytest.raises(InputError, match=re.escape(says)):
        Shop.open(tmp_path)


def test_a_users_model_that_is_no_python_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "brokenmodel.py").write_text("class Mine:\n    def (\n")
    with pytest.raises(
        InputError, match=r"brokenmodel\.py:2: the module of model .* no valid Python"
    ):
        registry.resolve("brokenmodel:Mine", tmp_path)
