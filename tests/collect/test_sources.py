"""Which files a source stands for."""

from pathlib import Path
from typing import Any

import pytest

from shopkeeper.collect.sources import files_of, find_sources, format_of
from shopkeeper.config import Settings, Source
from shopkeeper.errors import InputError


def _files(folder: Path, path: str, **keys: Any) -> list[str]:
    return [name for name, _ in files_of(Source(table="events", path=path, **keys), folder)]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    for name in (
        "a-10.csv",
        "a-9.csv",
        "b.jsonl",
        ".hidden.csv",
        "~$lock.xlsx",
        "c.csv.part",
        "n.md",
    ):
        (tmp_path / "logs" / name).write_text("x")
    return tmp_path


def test_a_file_a_folder_and_a_glob_name_files_in_natural_order(shop: Path) -> None:
    assert _files(shop, "logs/b.jsonl") == ["logs/b.jsonl"]
    assert _files(shop, "logs") == ["logs/a-9.csv", "logs/a-10.csv", "logs/b.jsonl"]
    assert _files(shop, "logs/*.csv") == ["logs/a-9.csv", "logs/a-10.csv"]
    assert _files(shop, str(shop / "logs" / "*.csv")) == ["logs/a-9.csv", "logs/a-10.csv"]


def test_a_path_that_is_not_there_names_the_nearest(shop: Path) -> None:
    with pytest.raises(
        InputError, match=r"no file matches path = 'logs/b.json'; did you mean 'b.jsonl'"
    ):
        _files(shop, "logs/b.json")


def test_an_unknown_suffix_needs_a_format(shop: Path) -> None:
    source = Source(table="events", path="logs/n.md")
    with pytest.raises(InputError, match="cannot tell the format") as error:
        format_of(source, shop / "logs/n.md")
    assert 'format = "csv"' in error.value.next


def test_files_whose_names_count_the_same_have_one_order_all_the_same(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["p-01.csv", "p-1.csv", "p-001.csv", "p-2.csv"]
    for listed in (names, names[::-1]):
        monkeypatch.setattr(Path, "glob", lambda *_: [shop / name for name in listed])  # noqa: B023
        for name in names:
            (shop / name).write_text("x")
        found = files_of(Source(table="events", path="p-*.csv"), shop)
        assert [name for name, _ in found] == ["p-001.csv", "p-01.csv", "p-1.csv", "p-2.csv"]


def test_two_sources_of_one_name_and_table_are_refused(shop: Path) -> None:
    one = Source(table="events", path="logs/a-9.csv")
    with pytest.raises(InputError, match=r"two sources are called 'logs/a-9.csv'"):
        find_sources(Settings(sources=(one, one)), shop)
    items = Source(table="items", path="logs/a-9.csv")
    assert len(find_sources(Settings(sources=(one, items)), shop)) == 2


def test_a_skipped_source_is_not_read(shop: Path) -> None:
    one = Source(table="events", path="logs/a-9.csv", skip=True)
    two = Source(table="events", path="logs/a-10.csv")
    assert find_sources(Settings(sources=(one, two)), shop) == (two,)


def test_a_delimiter_of_two_signs_is_refused(shop: Path) -> None:
    with pytest.raises(InputError, match="'::' is not one byte"):
        find_sources(Settings(sources=(Source(table="events", path="x", delimiter="::"),)), shop)


def test_plain_files_of_tables_that_no_source_names_are_read_too(shop: Path) -> None:
    (shop / "item_data.csv").write_text("x")
    (shop / "users.csv").write_text("x")
    events = Source(table="events", path="logs")
    users = Source(table="users", path="old.csv", skip=True)
    found = find_sources(Settings(sources=(events, users)), shop)
    assert [source.path for source in found] == ["logs", "item_data.csv"]
