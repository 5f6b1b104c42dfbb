from dataclasses import dataclass

import pytest

from shopkeeper.errors import InputError
from shopkeeper.models.options import configure


@dataclass(frozen=True)
class Config:
    dim: int = 64
    decay: float = 0.5
    tags: bool = True
    grid: tuple[float, ...] = (0.0, 1.0)


def test_own_options_win_over_the_training_section() -> None:
    settings = {"dim": 32, "threads": 2, "options": {"mine": {"dim": 16}, "other": {"x": 1}}}
    assert configure(Config, "mine", settings).dim == 16


def test_keys_of_other_models_are_passed_over() -> None:
    assert configure(Config, "mine", {"threads": 2, "seed": 1}) == Config()


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"training\.options\.mine: unknown key 'decoy'.*'decay'"):
        configure(Config, "mine", {"options": {"mine": {"decoy": 1.0}}})


def test_an_option_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(InputError, match="dim = 'wide' is no int"):
        configure(Config, "mine", {"options": {"mine": {"dim": "wide"}}})


def test_a_list_becomes_a_tuple() -> None:
    made = configure(Config, "mine", {"options": {"mine": {"grid": [1.0, 2.0]}}})
    assert made.grid == (1.0, 2.0)
