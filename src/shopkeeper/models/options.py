"""A model's own settings: a frozen dataclass, filled from shop.toml's [training.options.NAME]."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from shopkeeper.errors import InputError

T = TypeVar("T")


def configure(config: type[T], name: str, settings: Mapping[str, Any]) -> T:
    """`config` filled from the [training] settings, then from `settings["options"][name]`.

    Keys of [training] that the model does not have are other models' and are passed over; an
    unknown key of the model's own options is an InputError that names the nearest known one.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    values = {
        key: tuple(value) if isinstance(fields[key].default, tuple) else value
        for key, value in settings.items()
        if key in fields
    }
    where = f"shop.toml: training.options.{name}"
    for key, value in dict(settings.get("options", {})).get(name, {}).items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(fields))}"
            raise InputError(f"unknown key {key!r}; {hint}", where=where)
        default = fields[key].default
        if not _fits(value, default):
            wanted = type(default).__name__
            raise InputError(f"{key} = {value!r} is no {wanted} (default {default!r})", where=where)
        values[key] = tuple(value) if isinstance(default, tuple) else value
    return config(**values)


def as_chosen(settings: Mapping[str, Any], model: str, card: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` under which a fit of `model` without validation repeats what validation chose.

    Args:
        card: of the model that was fitted with validation. `repeat` in it is settings by model.
    """
    chosen: dict[str, dict[str, Any]] = {}
    if card.get("best_epoch"):
        chosen[model] = {"max_epochs": card["best_epoch"]}
    if card.get("local"):
        chosen.setdefault(model, {})["local_weights"] = [card["local"]["weight"]]
    for name, own in card.get("repeat", {}).items():
        chosen[name] = chosen.get(name, {}) | own
    if not chosen:
        return dict(settings)
    options = dict(settings.get("options", {}))
    for name, own in chosen.items():
        options[name] = dict(options.get(name, {})) | own
    return {**settings, "options": options}


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, tuple):
        return isinstance(value, list | tuple)
    return isinstance(value, type(default))
