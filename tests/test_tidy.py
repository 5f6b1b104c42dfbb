"""Tidying a shop: what a release, a model, a branch, a restored version or a backup needs stays."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from shopkeeper.assets import backup
from shopkeeper.assets.objects import open_store
from shopkeeper.governance.access import OWNER
from shopkeeper.serving import releases
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

FEW = ["collect", "clean", "features"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "shop.toml").write_text('models = ["popularity", "item_knn"]\nbuckets = 2\n')
    rows = [f"u{n % 9},i{n * 7 % 11},2026-01-{1 + n % 28:02}" for n in range(99)]
    (shop / "user_behavior.csv").write_text("\n".join(["user_id,item_id,ts", *rows]) + "\n")
    items = [f"i{n},lamp {n}" for n in range(11)]
    (shop / "item_data.csv").write_text("\n".join(["item_id,title", *items]) + "\n")
    return shop


def more(folder: Path, shop: Shop, steps: Sequence[str] = FEW) -> None:
    """Some behaviour that was not there before goes through these steps."""
    path = folder / "user_behavior.csv"
    day = len(path.read_text().splitlines()) % 28 + 1
    with path.open("a") as file:
        file.write(f"u1,i3,2026-02-{day:02}\n")
    shop.run(steps)


def clean_out(shop: Shop) -> set[str]:
    """Tidy as hard as one may, with the hour of grace over; ids of what was given up."""
    told = shop.tidy(keep_last=1, days=0)
    shop.assets.vacuum(grace=timedelta(0))
    return {one["version"] for one in told["removed"]}


def whole(shop: Shop, *version_ids: str) -> None:
    """Fails unless every byte of these versions is there."""
    for version_id in version_ids:
        name, _, number = version_id.rpartition("@")
        version = shop.assets.version(name, int(number))
        how = {"by": OWNER, "purpose": Purpose.ANALYSE, "version": int(number)}
        if version.is_table:
            assert shop.assets.read(name, **how).height == version.rows, version_id
        else:
            files = [p for p in shop.assets.folder(name, **how).rglob("*") if p.is_file()]
            assert sum(path.stat().st_size for path in files) == version.bytes, version_id


@pytest.mark.slow
def test_every_release_keeps_what_it_was_made_of_and_serves_on(folder: Path) -> None:
    with Shop.open(folder) as shop:
        shop.run()
        for _ in range(2):
            more(folder, shop)
        gone = clean_out(shop)
        made_of = releases.versions_of(shop.releases)
        assert "clean.events@1" in made_of
        assert "clean.events@2" in gone  # of no release, and not current
        assert not gone & made_of
        whole(shop, *made_of)
    with Shop.open(folder) as shop:
        assert shop.service.recommend(user_id="u1").items


def test_a_model_keeps_what_it_was_trained_on_though_no_release_serves_it(folder: Path) -> None:
    with Shop.open(folder) as shop:
        shop.run(["collect", "clean", "features", "train"])
        assert releases.listed(shop.releases) == []
        snapshot = [
            version
            for version in shop.assets.catalog.made_from("models.item_knn@1")
            if version.startswith("features.")
        ]
        assert snapshot
        for _ in range(2):
            more(folder, shop)
        gone = clean_out(shop)
        assert not gone & {*snapshot, "models.item_knn@1"}
        assert "clean.events@2" in gone
        whole(shop, *snapshot, "models.item_knn@1")


def test_an_open_branch_keeps_what_it_stands_on_and_what_it_wrote(folder: Path) -> None:
    with Shop.open(folder) as shop:
        shop.run(FEW)
        (folder / "shop.toml").write_text(
            (folder / "shop.toml").read_text() + '[clean]\nearliest = "2026-01-10"\n'
        )
    with Shop.open(folder) as shop:
        with shop.branch("trial") as branch:
            branch.run(["clean", "features"])
            catalog = shop.assets.catalog
            own = {head["version_id"] for head in catalog.heads(catalog.branches()[0]["id"])}
        held = shop.assets.catalog.held_by_branches()
        assert {"raw.events@1", "clean.events@1"} <= held
        for _ in range(2):
            more(folder, shop, ["collect"])
        gone = clean_out(shop)
        assert "raw.events@2" in gone
        assert not gone & (held | own)
        with shop.branch("trial") as branch:
            whole(branch, *held, *own)
        shop.promote("trial")
        whole(shop, *(row["version"] for row in shop.assets_list() if row["version"]))


def test_a_restored_version_and_a_backup_stand_without_what_they_came_from(folder: Path) -> None:
    with Shop.open(folder) as shop:
        shop.run(FEW)
        kept = shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        shop.backup(str(folder.parent / "kept"))
        more(folder, shop)
        restored = shop.assets.restore("clean.events", 1)
        gone = clean_out(shop)
        assert {"clean.events@1", "clean.events@2"} <= gone
        whole(shop, restored.id)
        assert shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE).equals(kept)
    backup.restore(open_store(str(folder.parent / "kept")), folder.parent / "again")
    with Shop.open(folder.parent / "again") as shop:
        whole(shop, *(row["version"] for row in shop.assets_list() if row["version"]))
        assert shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE).equals(kept)
