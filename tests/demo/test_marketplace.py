"""The demo marketplace: same seed, same bytes; big enough; what it writes can be read."""

import hashlib
from pathlib import Path

import pytest

from shopkeeper import config, demo
from shopkeeper.errors import InputError


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
    assert first.keys() == other.keys()
    changed = {name for name in first if first[name] != other[name]}
    assert {"raw/items.csv", "raw/users.csv"} <= changed


def test_shop_toml_is_a_valid_configuration(tmp_path: Path) -> None:
    demo.write(tmp_path / "shop", users=60, items=150, days=14)
    settings = config.load(tmp_path / "shop")
    assert {source.table for source in settings.sources} >= {"events", "items", "users", "shops"}


def test_an_existing_shop_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="there is a shop here already"):
        demo.write(tmp_path)
