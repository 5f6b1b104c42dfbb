"""Versions: restored, compared, opened; nothing of it writes an old row anew."""

import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from shopkeeper.assets.store import Assets
from shopkeeper.errors import Denied, InputError, NotFound
from shopkeeper.governance.access import OWNER, Principal
from shopkeeper.words import Purpose
from small_tables import read, rows, write


def write_file(assets: Assets, name: str, text: str, kind: str = "model") -> None:
    with assets.run("fill") as run:
        run.files(name, lambda folder: (folder / "w").write_text(text) and None, kind=kind)


def data_files(assets: Assets) -> list[Path]:
    return sorted(assets.root.glob("lake/*/*/bucket=*/*.parquet"))


# restore


def test_a_restored_version_is_new_has_the_old_digest_and_no_new_files(assets: Assets) -> None:
    write(assets, "raw.events", rows("a", "b"))
    write(assets, "raw.events", rows("c").with_columns(kind=pl.lit("view")))
    before = data_files(assets)
    made = assets.restore("raw.events", 1)
    assert (made.number, made.digest) == (3, assets.version("raw.events", 1).digest)
    assert read(assets, "raw.events") == ["a", "b"]
    assert read(assets, "raw.events", 2) == ["c"]
    assert data_files(assets) == before
    table = DeltaTable(str(assets._store("raw.events").root))
    assert pl.scan_delta(table).collect()["user_id"].sort().to_list() == ["a", "b"]
    run = assets.catalog.run(made.run_id)
    assert run is not None
    assert (run["step"], assets.catalog.inputs(run["id"])) == ("restore", ["raw.events@1"])


def test_what_is_current_already_is_not_restored_again(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    assert assets.restore("raw.events", 1).number == 1
    with pytest.raises(NotFound, match=r"raw\.events has no version 9; it has \[1\]"):
        assets.restore("raw.events", 9)


def test_a_restored_model_is_the_old_folder_made_of_the_old_inputs(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    for text in ("one", "two"):
        with assets.run("train", reads=["raw.events"]) as run:
            run.read("raw.events")
            run.files("models.x", lambda folder, t=text: (folder / "w").write_text(t) and None)
    assets.restore("models.x", 1)
    folder = assets.folder("models.x", by=OWNER, purpose=Purpose.SERVE)
    assert (folder / "w").read_text() == "one"
    assert assets.catalog.made_from("models.x@3") == ["raw.events@1"]


def test_steps_on_a_restored_version_are_stale_and_the_step_that_made_it_is_not(
    assets: Assets,
) -> None:
    def clean() -> None:
        with assets.run("clean", reads=["raw.events"]) as run:
            run.table("clean.events").put(run.read("raw.events"))

    def count() -> None:
        with assets.run("count", reads=["clean.events"]) as run:
            run.table("features.n").put(run.read("clean.events").select(pl.len()))

    def fresh(step: str, reads: str) -> bool:
        return assets.fresh(assets.run_key(step, [reads], {}, "")) is not None

    for frame in (rows("a"), rows("b", "c")):
        write(assets, "raw.events", frame)
        clean()
        count()
    assert fresh("clean", "raw.events")
    assert fresh("count", "clean.events")
    assets.restore("clean.events", 1)
    assert not fresh("count", "clean.events")
    assert fresh("clean", "raw.events")  # or the next run would undo what was restored
    count()
    assert fresh("count", "clean.events")
    write(assets, "raw.events", rows("d"))
    assert not fresh("clean", "raw.events")  # what it is made of changed: the restoring is over


CHILD = """
import sys
from pathlib import Path
from shopkeeper.assets.store import Assets
assets = Assets(Path(sys.argv[1]), buckets=4)
print("ready", flush=True)
while True:
    assets.restore("clean.events", 1 + assets.catalog.current("clean.events").number % 2)
"""


@pytest.mark.slow
def test_killed_while_restoring_a_version_is_whole_or_not_there(
    tmp_path: Path, killed_at: Any
) -> None:
    assets = Assets(tmp_path, buckets=4)
    wanted = {1: ["a"], 2: ["b", "c"]}
    for names in wanted.values():
        write(assets, "clean.events", rows(*names))
    digests = {number: assets.version("clean.events", number).digest for number in wanted}
    dice = random.Random(5)
    for _ in range(10):
        killed_at(CHILD, tmp_path, dice.uniform(0.0, 0.3))
        current = assets.current("clean.events")
        assert read(assets, "clean.events") in wanted.values()
        assert current.digest in digests.values()
    for version in assets.catalog.history("clean.events"):
        number = next(n for n, digest in digests.items() if digest == version.digest)
        assert read(assets, "clean.events", version.number) == wanted[number]
    assert len(assets.catalog.history("clean.events")) > 10
    assets.restore("clean.events", 1)
    write(assets, "clean.events", rows("d"), "append")
    assert "d" in read(assets, "clean.events")


# open


@pytest.mark.parametrize(
    ("form", "needed"), [("pandas", "pandas and pyarrow"), ("arrow", "pyarrow")]
)
def test_what_a_form_needs_is_said_when_it_is_missing(
    assets: Assets, monkeypatch: pytest.MonkeyPatch, form: Any, needed: str
) -> None:
    write(assets, "raw.events", rows("a"))
    monkeypatch.setattr("shopkeeper.assets.store.find_spec", lambda module: None)
    with pytest.raises(InputError, match=rf"as {form}, {needed} must be installed; pip install"):
        assets.open("raw.events", form, by=OWNER, purpose=Purpose.ANALYSE)
    with pytest.raises(InputError, match="polars, pandas or arrow"):
        assets.open("raw.events", "excel", by=OWNER, purpose=Purpose.ANALYSE)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["polars", "pandas", "arrow"])
def test_a_table_opens_in_every_form_with_the_same_rows(assets: Assets, form: Any) -> None:
    for module in {"pandas": ("pandas", "pyarrow"), "arrow": ("pyarrow",)}.get(form, ()):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    write(assets, "raw.events", rows("a", "b"))
    write(assets, "raw.events", rows("c"))
    opened = assets.open("raw.events", form, by=OWNER, purpose=Purpose.ANALYSE, version=1)
    names = opened["user_id"].to_pylist() if form == "arrow" else list(opened["user_id"])
    assert names == ["a", "b"]
    with pytest.raises(Denied):
        assets.open("raw.events", form, by=Principal("stranger"), purpose=Purpose.ANALYSE)
