"""shop.toml: what is wrong is told with its key, what was found and what to write."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shopkeeper import config
from shopkeeper.config import CleanSettings
from shopkeeper.errors import InputError
from shopkeeper.template import write_workspace


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('[clean]\nearliest = "soon"', "clean.earliest.*'soon' is no date; write e.g. '2020-01-31'"),
        ('[features]\nkinds = ["veiw"]', "features.kinds.*'veiw' is no event kind; did you mean 'view'"),
        ('[features]\nkinds = ["xyz"]', "'xyz' is no event kind; known: view, impression, "),
        ('[[sources]]\ntable = "events"\npath = "x"\nkinds = { pv = "purchas" }', "did you mean 'purchase'"),
    ],
)  # fmt: skip
def test_a_setting_nobody_can_use_is_told_when_it_is_read(
    tmp_path: Path, toml: str, told: str
) -> None:
    (tmp_path / "shop.toml").write_text(toml)
    with pytest.raises(InputError, match=told):
        config.load(tmp_path)


def test_the_earliest_time_may_carry_an_offset() -> None:
    first = CleanSettings(earliest="2026-01-02T00:00:00+08:00").first
    assert first == datetime(2026, 1, 1, 16, tzinfo=UTC)
    assert CleanSettings(earliest="2026-01-02").first == datetime(2026, 1, 2, tzinfo=UTC)


def test_a_new_workspace_bears_the_name_of_its_folder_whatever_it_is(tmp_path: Path) -> None:
    for name in ("plain", 'my "shop"', "back\\slash", "{curly} 掌柜"):
        write_workspace(tmp_path / name)
        assert config.load(tmp_path / name).name == name
