"""The demo marketplace: same seed, same bytes; big enough; what it writes can be read."""

import hashlib
import io
import json
import tomllib
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from shopkeeper import config, demo
from shopkeeper.errors import InputError
from shopkeeper.words import KIND_CODES


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        demo.write(tmp_path / name, users=60, items=150, days=14, seed=seed)
    first, same, other = (digests(tmp_path / name) for name in "abc")
    assert first == same
    changed = {name for name in first if first[name] != other.get(name)}
    assert {"raw/items/items.csv", "raw/users.csv", "raw/events/app.parquet"} <= changed
    assert "shop.toml" not in changed


def test_shop_toml_is_valid_explains_every_line_and_names_only_files_that_exist(
    small: Path,
) -> None:
    settings = config.load(small)
    assert {source.table for source in settings.sources} == {
        "events",
        "items",
        "users",
        "shops",
        "images",
    }
    for source in settings.sources:
        assert source.path is not None
        assert list(small.glob(source.path)), source.path
    lines = (small / "shop.toml").read_text(encoding="utf-8").splitlines()
    mapped = {
        f'{name} = "{value}"'.replace('"', "")
        for source in tomllib.loads("\n".join(lines))["sources"]
        for part in ("columns", "kinds")
        for name, value in source.get(part, {}).items()
    }
    after = ""
    for line in lines:
        if line and "#" not in line and line.replace('"', "") not in mapped:
            assert line.startswith(("path", "table")), line
            assert "#" in after or after.startswith("table"), line
        after = line or after


def test_an_existing_shop_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="there is a shop here already"):
        demo.write(tmp_path)


def test_too_small_a_marketplace_is_refused_with_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="take at least 20 users, 120 items and 7 days"):
        demo.write(tmp_path, users=3)


def test_progress_is_told_and_ends_at_its_total(tmp_path: Path) -> None:
    told: list[tuple[float, float, str]] = []
    demo.write(tmp_path, users=500, items=200, days=7, progress=lambda *heard: told.append(heard))
    assert {text for _, _, text in told} == {"users", "pictures"}
    assert all(0 < done <= total for done, total, _ in told)


def test_every_file_reads_with_plain_polars_and_has_the_canonical_columns(small: Path) -> None:
    app = pl.read_parquet(small / "raw/events/app.parquet")
    assert app.schema["ts"] == pl.Datetime("us", "UTC")
    assert app.schema["price_minor"] == pl.Int64
    wanted = app.columns
    for path in sorted((small / "raw/events").glob("web-*.csv")):
        header = path.read_text(encoding="utf-8", errors="replace").splitlines()[0]
        assert header.split(",") == wanted
    legacy = (small / "raw/events/legacy.csv").read_bytes().decode("gb18030", errors="replace")
    assert legacy.splitlines()[0].startswith("会员号,访问号,商品编号,店铺,行为,时间")
    items = pl.read_csv(small / "raw/items/items.csv", infer_schema_length=0)
    lines = (small / "raw/items/ink-and-paper.jsonl").read_text(encoding="utf-8").splitlines()
    ids = set(items["item_id"].drop_nulls()) | {json.loads(line).get("item_id") for line in lines}
    assert len(ids - {None}) == 300
    users = pl.read_csv(small / "raw/users.csv", infer_schema_length=0)
    assert users["user_id"].n_unique() == 400 + 5 + 2  # and robots and busy people
    shops = pl.read_excel(small / "raw/shops.xlsx")
    assert shops.columns == ["shop_id", "name", "name_zh", "region", "rating"]
    assert shops["name_zh"][0] == "数码街"
    assert shops.schema["rating"] == pl.Float64


def test_pictures_are_named_by_item_and_small_and_all_but_the_spoiled_ones_open(
    small: Path, dirt: pl.DataFrame
) -> None:
    spoiled = set(dirt.filter(pl.col("table") == "images")["file"])
    assert len(spoiled) == 2
    seen = set()
    for path in sorted((small / "raw/images").iterdir()):
        if path.relative_to(small).as_posix() in spoiled:
            continue
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (256, 256)
            seen.add(image.format)
        assert len(data) < 16_000
    assert seen == {"JPEG", "PNG", "WEBP"}


def test_both_languages_are_filled_and_no_title_stands_twice_by_accident(small: Path) -> None:
    items = pl.read_csv(small / "raw/items/items.csv", infer_schema_length=0)
    items = items.unique("item_id")
    for column in ("title", "title_zh", "description", "description_zh", "category_zh"):
        assert items[column].null_count() == 0
    assert items["title_zh"].str.contains(r"\p{Han}").all()
    assert not items["title"].str.contains(r"\p{Han}").any()
    assert items["title"].n_unique() > 0.97 * items.height


@pytest.mark.slow
def test_the_default_marketplace_is_as_large_as_promised(tmp_path: Path) -> None:
    made = demo.write(tmp_path / "shop")
    assert made["users"] >= 5_000
    assert made["items"] >= 2_000
    assert made["events"] >= 200_000
    pictures = list((tmp_path / "shop/raw/images").iterdir())
    assert made["pictures"] == len(pictures) >= 2_000
    assert sum(path.stat().st_size for path in pictures) < 15_000_000
    app = pl.read_parquet(tmp_path / "shop/raw/events/app.parquet")
    assert set(app["kind"]) <= set(KIND_CODES) | {"hover"}
