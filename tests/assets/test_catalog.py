"""The list of assets: what `assets` tells, in short."""

from typing import Any

from shopkeeper.assets import about
from shopkeeper.assets.catalog import Catalog
from shopkeeper.assets.store import Assets
from small_tables import rows, write


def in_short(catalog: Catalog) -> list[dict[str, Any]]:
    found = []
    for record in catalog.assets():
        version = record["version"]
        own = ("name", "kind", "description", "owner", "grade", "contract")
        of = ("number", "rows", "bytes", "created_at", "quality")
        found.append(
            {name: record[name] for name in own}
            | {name: version and getattr(version, name) for name in of}
            | {"version": version and version.id, "layer": record["name"].partition(".")[0]}
        )
    return found


def test_a_list_tells_the_same_as_the_whole_records_on_main_and_in_a_branch(
    assets: Assets,
) -> None:
    write(assets, "raw.events", rows("a"))
    write(assets, "raw.items", rows("a", "b"))
    with assets.run("train") as run:
        run.files("models.m", lambda folder: (folder / "w").write_text("1") and None, kind="model")
    about.describe(assets.catalog, "raw.items", description="商品", owner="me", grade="personal")
    assert assets.catalog.listed() == in_short(assets.catalog)
    assert [one["name"] for one in assets.catalog.listed(["raw.items", "raw.none"])] == [
        "raw.items"
    ]
    with assets.branch("trial") as branch:
        write(branch, "raw.items", rows("c"))
        write(branch, "clean.items", rows("c"))
        assert branch.catalog.listed() == in_short(branch.catalog)
        assert {one["name"]: one["rows"] for one in branch.catalog.listed()}["raw.items"] == 1
    assert assets.catalog.listed() == in_short(assets.catalog)
