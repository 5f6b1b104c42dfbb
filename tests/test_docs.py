"""What the docs promise is there."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from shopkeeper.clean import repairs
from shopkeeper.config import Settings, load
from shopkeeper.pipeline import mermaid, steps
from shopkeeper.template import write_workspace
from shopkeeper.words import TABLES

ROOT = Path(__file__).parents[1]


def test_the_picture_of_the_loop_is_that_of_the_pipeline() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert mermaid(Settings()) in text


def test_every_step_reads_what_a_step_makes() -> None:
    made = {asset for step in steps(Settings()) for asset in step.makes}
    made |= {repairs.name_of(table) for table in TABLES}  # decisions of people
    for step in steps(Settings()):
        assert set(step.reads) <= made, step.name
        assert set(step.needs) <= set(step.reads), step.name


def reference() -> ModuleType:
    """docs/reference.py."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_written_references_are_what_the_code_says_now() -> None:
    """If this fails: python docs/reference.py"""
    module = reference()
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == module.cli()
    assert (ROOT / "docs" / "shop-toml.md").read_text("utf-8") == module.shop_toml()


def test_every_command_that_a_readme_names_exists() -> None:
    known = re.findall(r"^## shopkeeper (\w+)", (ROOT / "docs" / "cli.md").read_text("utf-8"), re.M)
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        for word in re.findall(r"^\s*(?:\S*bin/)?shopkeeper ([a-z]+)", text, re.M):
            assert word in known, f"{path.name} names shopkeeper {word}, which is no command"


def test_every_relative_link_of_the_docs_leads_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_written_shop_toml_is_valid(tmp_path: Path) -> None:
    write_workspace(tmp_path / "shop")
    assert load(tmp_path / "shop").name == "shop"


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_every_page_of_the_docs_is_linked(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    pages = sorted((ROOT / "docs").glob("*.md"))
    assert [page.name for page in pages if f"(docs/{page.name})" not in text] == []


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_readme_starts_with_the_two_commands(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.index("make demo") < 1500
    assert text.index("make test") < 1500
