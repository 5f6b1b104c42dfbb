"""Writes docs/cli.md and docs/shop-toml.md from the code they describe: python docs/reference.py

tests/test_docs.py compares what is written with what this would write.
"""

from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from shopkeeper.cli import app
from shopkeeper.config import IdentityKey, Settings, Signature, Source, When

HERE = Path(__file__).parent


def cli() -> str:
    """Every command with its arguments and options."""
    lines = [
        "# Commands",
        "",
        "Written from the code by `docs/reference.py`. All take `--shop DIR` (default: the current folder) and",
        "`--json` where there is output. Exit codes: 0 done, 2 the caller can fix it, 3 a step has to run first,",
        "4 an outside system failed, 1 our defect.",
        "",
    ]
    for path, command in sorted(_commands(typer.main.get_command(app), "").items()):
        lines += [f"## shopkeeper {path}", "", (command.help or "").strip(), ""]
        for parameter in command.params:
            if parameter.name in ("help", "shop", "as_json"):
                continue
            names = (
                ", ".join(parameter.opts)
                if parameter.param_type_name == "option"
                else str(parameter.name).upper()
            )
            text = getattr(parameter, "help", None) or ""
            default = parameter.default
            told = (
                "" if default in (None, False, ()) or callable(default) else f" (default {default})"
            )
            lines.append(f"- `{names}` {text}{told}".rstrip())
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def shop_toml() -> str:
    """Every key of shop.toml with its default and reason."""
    lines = [
        "# shop.toml",
        "",
        "Written from the code by `docs/reference.py`. Every key has a default; an unknown key is an error that names",
        "the nearest known one.",
        "",
        "## At the top",
        "",
    ]
    sections = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections[name] = field.annotation
        elif name != "sources":
            lines.append(_key(Settings, name))
    lines += ["", "## `[[sources]]`", "", (Source.__doc__ or "").strip(), ""]
    lines += [_key(Source, name) for name in Source.model_fields]
    lines += ["", "### `when` rules of a source", "", (When.__doc__ or "").strip(), ""]
    lines += [_key(When, name) for name in When.model_fields]
    lines += ["", "### `signature` of a webhook", "", (Signature.__doc__ or "").strip(), ""]
    lines += [_key(Signature, name) for name in Signature.model_fields]
    for name, section in sections.items():
        lines += ["", f"## `[{name}]`", ""]
        if section.__doc__:
            lines += [section.__doc__.strip(), ""]
        lines += [_key(section, key) for key in section.model_fields]
        if name == "identity":
            lines += ["", "### `[identity.keys.NAME]`", "", (IdentityKey.__doc__ or "").strip(), ""]
            lines += [_key(IdentityKey, key) for key in IdentityKey.model_fields]
    return "\n".join(lines) + "\n"


def _key(section: type[BaseModel], name: str) -> str:
    field = section.model_fields[name]
    default = field.get_default(call_default_factory=True)
    told = "required" if field.is_required() else f"`{default!r}`"
    text = " ".join((field.description or "").split())
    return f"- `{field.alias or name}` ({told}) {text}".rstrip()


def _commands(command: Any, path: str) -> dict[str, Any]:
    children = getattr(command, "commands", None)
    if children is None:
        return {path: command}
    found: dict[str, Any] = {}
    for name, child in children.items():
        found |= _commands(child, f"{path} {name}".strip())
    return found


if __name__ == "__main__":
    (HERE / "cli.md").write_text(cli(), encoding="utf-8")
    (HERE / "shop-toml.md").write_text(shop_toml(), encoding="utf-8")
