"""What the commands share: options of one spelling, progress bars, tables, JSON."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from shopkeeper.errors import NotFound

ShopDir = Annotated[Path, typer.Option("--shop", help="The workspace.", show_default="here")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Rows = Annotated[int, typer.Option("--n", "-n", min=1, help="So many rows.")]
HERE = Path()
NARROWEST = 7  # a column of a table that can still be read

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def needs_workspace(folder: Path) -> None:
    if not (folder / "shop.toml").exists() and not (folder / "store").exists():
        raise NotFound(
            "no workspace here", where=str(folder), next=f"make one: shopkeeper init {folder}"
        )


@contextmanager
def bars(*, quiet: bool) -> Iterator[Callable[[str, float, float, str], None]]:
    """Progress on standard error: bars on a terminal, a line a finished step otherwise."""
    if quiet:
        yield lambda step, done, total, text: None
        return
    if not err.is_terminal:

        def line(step: str, done: float, total: float, text: str) -> None:
            if text in ("done", "fresh"):
                err.print(f"{step}: {text}")

        yield line
        return
    columns = (SpinnerColumn(), TextColumn("{task.fields[step]:<22}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=err) as progress:
        tasks: dict[str, Any] = {}

        def draw(step: str, done: float, total: float, text: str) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=None, step=step, text="")
            if text in ("done", "fresh"):
                progress.update(tasks[step], total=1, completed=1, text=text)
                progress.stop_task(tasks[step])
            else:
                progress.update(tasks[step], total=total or None, completed=done, text=text)

        yield draw


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C in the loop is no failure: say what became of the work."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("stopped; what was finished is kept: the same command goes on from there")
        raise


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows below their headings; what is too long for the terminal goes on in the next line.

    More columns than fit side by side stand below each other, row by row.
    """
    names = list(headings)
    if len(names) * NARROWEST > out.width:
        wide = max(map(len, names))
        for row in rows:
            out.rule(style="dim")
            for name, cell in zip(names, row, strict=True):
                if cell:
                    out.print(f"{name:<{wide}}  {cell}", soft_wrap=True, markup=False)
        return
    table = Table(box=None)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def say(text: str, *, indent: int = 0) -> None:
    """A line as it is; on a terminal its continuation is indented alike."""
    if out.is_terminal:
        out.print(Padding(Text(text, overflow="fold"), (0, 0, 0, indent)))
    else:
        out.print(" " * indent + text, soft_wrap=True, markup=False)


def tell(value: Any, as_json: bool, text: str) -> None:
    if as_json:
        print_json(value)
    else:
        out.print(text, soft_wrap=True, markup=False)
