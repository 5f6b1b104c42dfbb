"""What docs/collecting.md promises."""

import re
import tomllib
from pathlib import Path

from shopkeeper.collect.sources import find_sources
from shopkeeper.config import Settings

PAGE = Path(__file__).parents[2] / "docs" / "collecting.md"
SOURCES = Path(__file__).parents[2] / "src" / "shopkeeper" / "collect"


def test_the_example_is_a_valid_shop_toml(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    settings = Settings.model_validate(tomllib.loads(block))
    assert len(find_sources(settings, tmp_path)) == 4


def test_every_rule_of_the_page_is_in_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8").split("## Lines that cannot be read")[1]
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCES.glob("*.py"))
    rules = re.findall(r"`([a-z_]+)`", page)
    assert len(rules) >= 10
    assert all(f'"{rule}"' in code for rule in rules)
