"""Which files a source stands for, and the plain shape that needs no shop.toml."""

import difflib
import re
from contextlib import suppress
from pathlib import Path
from typing import cast

from shopkeeper.assets.objects import is_url
from shopkeeper.collect import remote
from shopkeeper.collect.tables import COLUMNS
from shopkeeper.config import Format, Settings, Source, TableName
from shopkeeper.errors import InputError
from shopkeeper.words import KINDS, WHOLE_FILES

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".csv.gz": "csv",
    ".tsv.gz": "csv",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl",
}

# The plain shape: a file (or a folder of files) of this name goes to this table.
PLAIN: dict[str, tuple[str, ...]] = {
    "events": ("user_behavior", "events"),
    "items": ("item_data", "items"),
    "users": ("user_data", "users"),
    "shops": ("shop_data", "shops"),
    "images": ("images", "item_images"),
} | {table: (table,) for table in KINDS}


def find_sources(settings: Settings, folder: Path) -> tuple[Source, ...]:
    """The sources of the shop in `folder`: those of shop.toml, and for tables that these do not
    name (skipped ones do) the plain shape's files.

    The plain shape is looked for in `folder`/raw and in `folder` itself. InputError where nothing
    is found, where a table has two candidates of one name, or where a source names an unknown
    column.
    """
    if settings.sources:
        found = tuple(source for source in settings.sources if not source.skip)
        for source in found:
            _check(source)
        names = [name_of(source) + " " + source.table for source in found]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(
                f"two sources are called {twice[0].rsplit(' ', 1)[0]!r}",
                where="shop.toml",
                next="give each [[sources]] block its own `name`",
            )
        named = {source.table for source in settings.sources}
        used = {source.path for source in settings.sources}
        plain = (source for source in _plain(folder) if source.table not in named)
        return *found, *(source for source in plain if source.path not in used)
    found = tuple(_plain(folder))
    if not found:
        seen = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        raise InputError(
            "no data found: looked for user_behavior.csv and item_data.csv (also .xlsx, .parquet, "
            f".jsonl) here and in raw/; found {', '.join(seen[:12]) or 'nothing'}",
            where=str(folder),
            next="put the files there, or name yours by a [[sources]] block in shop.toml",
        )
    return found


def kinds_of(settings: Settings, folder: Path) -> tuple[str, ...]:
    """Which of the optional tables (`words.KINDS`) the shop in `folder` hands over."""
    named = {source.table for source in settings.sources}
    here = {source.table for source in settings.sources if not source.skip}
    with suppress(InputError):  # two files could be one table: whoever reads it says so
        here |= {source.table for source in _plain(folder) if source.table not in named}
    return tuple(table for table in KINDS if table in here)


def name_of(source: Source) -> str:
    """How lineage and quarantine call the source."""
    return source.name or source.path or source.sql_table or source.stream or ""


def block_of(source: Source, **keys: str) -> str:
    """How to write one more key into the source's block: the end of many a next step."""
    more = ", ".join(f"{key} = {value}" for key, value in keys.items())
    keys_of = ("path", "sql_table", "stream")
    place = next(f'{key} = "{value}"' for key in keys_of if (value := getattr(source, key)))
    return (
        f'write into shop.toml, under [[sources]] with table = "{source.table}" and {place}: {more}'
    )


def format_of(source: Source, path: Path) -> Format:
    """The format of one file: as shop.toml says, else by its suffix."""
    if source.format is not None:
        return source.format
    if source.table == "images":
        return "images"
    if source.table == "audio":
        return "audio"
    if guessed := _format_by_suffix(path):
        return guessed
    raise InputError(
        f"cannot tell the format of {path.name!r} from its suffix",
        where=name_of(source),
        next='say it in shop.toml: format = "csv" (or xlsx, parquet, jsonl, images)',
    )


def files_of(source: Source, folder: Path) -> list[tuple[str, Path]]:
    """(name, path) of every file of a source, in reading order.

    Order is by name with numbers as numbers (part-2 before part-10): without times, file order is
    the order of events. A folder stands for the files of a known format in it; an image folder
    is one "file". Names are relative to the workspace. Those of a bucket are addresses, and their
    paths lead nowhere: remote.spooled fetches what they stand for.
    """
    assert source.path is not None
    if is_url(source.path):
        return [(one.name, Path(one.name)) for one in objects_of(source)]
    path = folder / source.path
    if source.format in WHOLE_FILES or source.table in WHOLE_FILES:
        found = [path] if path.is_dir() else []
    elif path.is_file():
        found = [path]
    elif path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and _format_by_suffix(p)]
    elif any(sign in source.path for sign in "*?["):
        base = Path(source.path).anchor or folder
        pattern = source.path.removeprefix(Path(source.path).anchor)
        found = [p for p in Path(base).glob(pattern) if p.is_file()]
    else:
        found = []
    found = [p for p in found if not _unfinished(p)]
    if not found:
        raise InputError(
            f"no file matches path = {source.path!r}{_nearby(path)}",
            where=str(folder),
            next="correct `path` in shop.toml or put the file there; "
            "`skip = true` keeps the block without reading it",
        )
    named = [(_relative(p, folder), p) for p in found]
    return sorted(named, key=lambda pair: (_natural(pair[0]), pair[0]))


def objects_of(source: Source) -> list[remote.Remote]:
    """The objects of a source in a bucket, in reading order."""
    found = remote.find(str(source.path), lambda name: _format_by_suffix(Path(name)) is not None)
    return sorted(found, key=lambda one: (_natural(one.name), one.name))


def _check(source: Source) -> None:
    """InputError where a source maps to a column its table does not have."""
    known = COLUMNS[source.table]
    keys = [
        *((key, "columns") for key in source.columns),
        *((key, "units") for key in source.units),
        *((key, "constants") for key in source.constants),
        *((key, "when") for rule in source.when for key in rule.set),
    ]
    for key, where in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise InputError(
                f"{where} names {key!r}, which {source.table} do not have"
                + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"),
                where=f"shop.toml, source {name_of(source)!r}",
                next=f"write the canonical name on the left: {where} = {{ ours = theirs }}",
            )
    if len(source.delimiter.encode()) != 1:
        raise InputError(
            f"delimiter = {source.delimiter!r} is not one byte",
            where=f"shop.toml, source {name_of(source)!r}",
            next='use a single sign such as "," ";" "\\t" "|"',
        )


def _plain(folder: Path) -> list[Source]:
    found: list[Source] = []
    for table, stems in PLAIN.items():
        for stem in stems:
            places = [
                place
                for base in (folder / "raw", folder)
                for place in sorted(base.glob(f"{stem}*"))
                if _is_plain(place, stem, table)
            ]
            if len(places) > 1:
                names = " and ".join(_relative(place, folder) for place in places)
                raise InputError(
                    f"{names} could both be the shop's {table}",
                    where=str(folder),
                    next="keep one, or name both by [[sources]] blocks in shop.toml",
                )
            found += [
                Source(table=cast(TableName, table), path=_relative(place, folder))
                for place in places
            ]
    return found


def _is_plain(place: Path, stem: str, table: str) -> bool:
    if place.is_dir():
        if place.name != stem or place.name == "raw":
            return False
        return table in WHOLE_FILES or any(_format_by_suffix(p) for p in place.rglob("*"))
    return (
        table not in WHOLE_FILES
        and place.name.lower().removeprefix(stem) in SUFFIXES
        and place.is_file()
    )


def _format_by_suffix(path: Path) -> Format | None:
    name = path.name.lower()
    if _unfinished(path):
        return None
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return SUFFIXES[suffix]
    return None


def _unfinished(path: Path) -> bool:
    """Hidden files, locks of office programs, and what a copy or download has not finished."""
    name = path.name
    return name.startswith((".", "~$")) or name.endswith((".tmp", ".part", ".crdownload", "~"))


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return path.as_posix()


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def _nearby(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f" (there is no folder {parent})"
    names = sorted(p.name for p in parent.iterdir())
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
