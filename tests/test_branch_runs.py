"""A change is tried in a branch or a dry run; what is current changes by a promotion alone."""

import json
from pathlib import Path

import pytest

from shopkeeper.errors import Conflict, InputError, NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

TOML = 'models = ["popularity", "item_knn"]\nbuckets = 2\n'
STRICT = TOML + '[clean]\nearliest = "2026-01-15"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text(TOML)
    rows = [
        f"u{n % 9},i{n * 7 % 11},purchase,{1 + n % 2},2026-01-{1 + n % 28:02}" for n in range(99)
    ]
    head = "user_id,item_id,kind,quantity,ts"
    (tmp_path / "user_behavior.csv").write_text("\n".join([head, *rows]) + "\n")
    items = [f"i{n},lamp {n}" for n in range(11)]
    (tmp_path / "item_data.csv").write_text("\n".join(["item_id,title", *items]) + "\n")
    with Shop.open(tmp_path) as shop:
        shop.run()
    return tmp_path


def state(folder: Path) -> dict[str, str]:
    with Shop.open(folder) as shop:
        return {row["name"]: row["version"] for row in shop.assets_list()}


def test_a_dry_run_tells_what_would_change_and_changes_nothing(folder: Path) -> None:
    before = state(folder)
    (folder / "shop.toml").write_text(STRICT)
    with Shop.open(folder) as shop:
        told = shop.dry_run(["clean", "features"])
        assert shop.branches() == []
    changes = {change["asset"]: change for change in told["changes"]}
    assert changes["clean.events"]["rows"]["removed"] == 56
    assert changes["quarantine.events"]["rows"]["added"] == 56
    assert not changes["features.sequences"]["same"]
    assert changes["clean.items"]["same"] if "clean.items" in changes else True
    assert state(folder) == before


def test_a_dry_run_that_fails_leaves_no_branch(folder: Path) -> None:
    with Shop.open(folder) as shop:
        with pytest.raises(InputError, match="no step 'claen'"):
            shop.dry_run(["claen"])
        assert shop.branches() == []


def test_what_a_branch_made_is_current_once_promoted(folder: Path) -> None:
    (folder / "shop.toml").write_text(STRICT)
    with Shop.open(folder) as shop:
        with shop.branch("late-start") as view:
            view.run()
            inside = view.leaderboard()
        assert shop.branches()[0]["branch"] == "late-start"
        events = shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        assert events.height == 99
        assert shop.leaderboard() != inside
        made = shop.promote("late-start")
        assert any(version.startswith("clean.events@") for version in made)
        events = shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        assert events.height == 43
        assert shop.leaderboard() == inside
        states = {step["step"]: step["state"] for step in shop.run()["steps"]}
        assert states["clean.events"] == states["train.item_knn"] == "fresh"


def test_a_branch_neither_collects_nor_releases(folder: Path) -> None:
    with Shop.open(folder) as shop, shop.branch("trial") as view:
        assert {"collect", "release"}.isdisjoint(step.group for step in view.steps)
        for name in ("collect", "collect.events", "release"):
            with pytest.raises(InputError, match="run on the main line only"):
                view.run([name])


def test_a_branch_whose_ground_moved_is_refused_and_can_be_dropped(folder: Path) -> None:
    (folder / "shop.toml").write_text(STRICT)
    with Shop.open(folder) as shop:
        for name in ("late", "first"):
            with shop.branch(name) as view:
                view.run(["clean"])
        shop.promote("first")
        with pytest.raises(Conflict, match="main has"):
            shop.promote("late")
        assert shop.drop_branch("late")
        with pytest.raises(NotFound, match="no branch 'late'"):
            shop.branch_diff("late")


def test_the_same_from_a_shell(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from shopkeeper import cli

    def shopkeeper(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["shopkeeper", *arguments, "--shop", str(folder)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return capsys.readouterr().out

    (folder / "shop.toml").write_text(STRICT)
    told = shopkeeper("run", "clean", "--dry-run")
    assert "clean.events@1 -> clean.events@2: not the same" in told
    assert "nothing was changed" in told
    assert "branch promote strict" in shopkeeper("run", "clean", "--branch", "strict")
    assert "clean.events" in shopkeeper("branch", "ls")
    assert "removed 56" in shopkeeper("branch", "diff", "strict")
    assert json.loads(shopkeeper("branch", "diff", "strict", "--json"))
    assert "next: shopkeeper run" in shopkeeper("branch", "promote", "strict")
    assert json.loads(shopkeeper("branch", "ls", "--json")) == []
