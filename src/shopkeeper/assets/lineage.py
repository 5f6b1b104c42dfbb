"""Lineage of versions and of columns, recorded as runs read and wrote; walked in SQL, hop by hop.

Of every version the catalogue keeps the run that made it (of several, the newest), with the versions
this read, and one map: from which columns of those each of its columns was made. Equal maps are stored
once, so a table of twenty versions that were made alike costs one map. A map is a set of edges

    (asset, column) -> (asset, column), how

    how   copied     the very value
          computed   from the value: converted, repaired, aggregated
          read       it was read, and nobody said for what: it may be in every column that was made
          rows       to the column "*": which rows there are, and in which order

What a run read is what it asked for (`Run.scan`, `Run.read`, `Run.folder`); what of it went where, its
step says beside its code, as a `Derivation`. What is said is held against what was read and written;
where nothing is said, everything made may hold something of everything read.

"*" of a table stands for its rows, of an asset that is files for what is in it. A walk of a column
follows values alone; with `rows` it follows what decided on the rows as well.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import sqlalchemy as sa

from shopkeeper.assets.catalog import Catalog, upsert
from shopkeeper.assets.schema import (
    assets,
    branch_heads,
    column_edges,
    column_maps,
    external_edges,
    run_inputs,
    run_outputs,
    versions,
)
from shopkeeper.errors import InputError, NotFound

Direction = Literal["up", "down"]
Column = tuple[str, str]  # (asset, column)
ROWS = "*"  # as a column: which rows there are; of an asset that is files: what is in it
DEPTH = 100  # hops, where nobody asks for fewer
EXTERNAL = "@0"  # the version of an asset of another system, which tells us none
RANK = {"copied": 0, "computed": 1, "read": 2, "rows": 3}  # the more exact word counts
_EDGE = [
    column_edges.c[name] for name in ("from_asset", "from_column", "to_asset", "to_column", "how")
]


@dataclass(frozen=True)
class Edge:
    """One column made from another."""

    from_asset: str
    from_column: str
    to_asset: str
    to_column: str
    how: str

    @property
    def source(self) -> Column:
        return self.from_asset, self.from_column

    @property
    def target(self) -> Column:
        return self.to_asset, self.to_column

    def as_dict(self) -> dict[str, Any]:
        """{"from": [asset, column], "to": [asset, column], "how"}."""
        return {"from": list(self.source), "to": list(self.target), "how": self.how}


@dataclass(frozen=True)
class Derivation:
    """What a step says of one asset that it makes: column -> the input columns it was made from.

    `columns` names inputs as (asset, column), none for a constant; columns it leaves out count as made
    from all that was read. `rows` are those that decide which rows there are, and in which order.
    `copied` are columns that take the value as it stands.
    """

    columns: Mapping[str, Collection[Column]] = field(default_factory=dict)
    rows: Collection[Column] = ()
    copied: Collection[str] = ()

    def edges(self, asset: str) -> list[Edge]:
        """The edges of this derivation."""
        made = [
            Edge(*source, asset, column, "copied" if column in self.copied else "computed")
            for column, sources in self.columns.items()
            for source in sources
        ]
        return made + [Edge(*source, asset, ROWS, "rows") for source in self.rows]


def everything(
    asset: str, columns: Collection[str], read: Mapping[str, Collection[str]]
) -> list[Edge]:
    """Where nothing finer was said: every column made may hold something of every column read."""
    return [
        Edge(source, column, asset, made, "rows" if made == ROWS and columns else "read")
        for source, names in read.items()
        for column in names
        for made in (*columns, ROWS)
    ]


def told(
    asset: str,
    columns: Collection[str],
    derivation: Derivation | None,
    read: Mapping[str, Collection[str]],
) -> list[Edge]:
    """What a run knows of the columns (none: it is files) of an asset that it made.

    Args:
        read: asset -> columns of it that the run read.
    Raises:
        ValueError: the derivation names a column that was not read, or one that was not made.
    """
    if derivation is None:
        return everything(asset, columns, read)
    found = checked(derivation.edges(asset), columns, read)
    silent = [name for name in columns or [ROWS] if name not in derivation.columns]
    rest = [edge for edge in everything(asset, columns, read) if edge.to_column in silent]
    if columns and not derivation.rows:
        rest += [edge for edge in everything(asset, columns, read) if edge.to_column == ROWS]
    return found + rest


def checked(
    edges: Iterable[Edge], columns: Collection[str], read: Mapping[str, Collection[str]]
) -> list[Edge]:
    """Edges that hold against what the run did: what it read (asset -> columns) and wrote.

    ValueError: an edge begins at a column that was not read, or ends at one that was not made.
    """
    found = list(edges)
    for edge in found:
        if edge.from_column not in read.get(edge.from_asset, ()):
            raise ValueError(
                f"lineage says that {edge.to_asset}.{edge.to_column} is made from "
                f"{edge.from_asset}.{edge.from_column}, which the run did not read; correct the "
                "derivation beside the step's code"
            )
        if edge.to_column != ROWS and edge.to_column not in columns:
            raise ValueError(
                f"lineage tells where {edge.to_asset}.{edge.to_column} is from, but there is no such "
                "column; correct the derivation beside the step's code"
            )
    return found


# recording


class Recorder:
    """What one run read, and what its step said of what it made of that."""

    def __init__(self) -> None:
        self.read: dict[str, set[str]] = {}  # asset -> columns
        self.said: dict[str, Derivation] = {}

    def reading(self, asset: str, columns: Iterable[str]) -> None:
        """Columns of an input were read; "*" of one that is files."""
        self.read.setdefault(asset, set()).update(columns)

    def keep(
        self, connection: sa.Connection, version_id: str, run_id: str, columns: Collection[str]
    ) -> list[Edge]:
        """Keep the map of a version that the run made, of these columns (none: it is files)."""
        asset = version_id.rpartition("@")[0]
        read = {name: sorted(some) for name, some in self.read.items() if name != asset}
        edges = told(asset, columns, self.said.get(asset), read)
        record(connection, version_id, run_id, edges)
        return edges


def record(
    connection: sa.Connection, version_id: str, run_id: str, edges: Collection[Edge]
) -> None:
    """Keep who made a version and its map; the newest run that made it counts."""
    asset = version_id.rpartition("@")[0]
    best: dict[tuple[str, str, str], str] = {}
    for edge in sorted(edges, key=lambda edge: RANK[edge.how]):
        best.setdefault((edge.to_column, edge.from_asset, edge.from_column), edge.how)
    rows = sorted((*key, how) for key, how in best.items())
    digest = hashlib.sha256(json.dumps([asset, rows]).encode()).hexdigest()[:32]
    known = sa.select(column_edges.c.map).where(column_edges.c.map == digest).limit(1)
    if rows and connection.execute(known).first() is None:
        names = ("to_column", "from_asset", "from_column", "how")
        connection.execute(
            column_edges.insert(),
            [
                {"map": digest, "to_asset": asset, **dict(zip(names, row, strict=True))}
                for row in rows
            ],
        )
    values = {"asset": asset, "run_id": run_id, "map": digest}
    upsert(connection, column_maps, {"version_id": version_id}, values)


def record_same(connection: sa.Connection, version_id: str, old_id: str) -> None:
    """A version that was restored is made as the old one was."""
    query = sa.select(column_maps).where(column_maps.c.version_id == old_id)
    if (row := connection.execute(query).mappings().first()) is not None:
        values = {name: row[name] for name in ("asset", "run_id", "map")}
        upsert(connection, column_maps, {"version_id": version_id}, values)


def edges_of(catalog: Catalog, version_id: str) -> list[Edge]:
    """The edges into the columns of one version; none where it was made before maps were kept."""
    query = (
        sa.select(*_EDGE)
        .join(column_maps, column_maps.c.map == column_edges.c.map)
        .where(column_maps.c.version_id == version_id)
    )
    with catalog.reader.connect() as connection:
        return _edges(connection, query)


# walks


def walk(
    catalog: Catalog,
    version_ids: Collection[str],
    direction: Direction = "up",
    depth: int = DEPTH,
    *,
    every: bool = False,
) -> dict[str, Any]:
    """Versions that these were made from ("up") or that were made from these ("down").

    Args:
        every: where several runs made the very same version, what any of them read; else the newest.

    Returns:
        {"nodes": [{"version", "depth"}], "edges": [{"from", "to"}]}, nearest first; ids of versions.
    """
    makers = run_outputs if every else column_maps
    made, read = makers.c.version_id, run_inputs.c.version_id
    depths: dict[str, int] = dict.fromkeys(version_ids, 0)
    edges: set[tuple[str, str]] = set()
    frontier = sorted(depths)
    with catalog.reader.connect() as connection:
        given, (version,) = _given(connection, 1)
        query = sa.select(read, made).select_from(given)
        if direction == "up":
            query = query.join(makers, made == version)
            query = query.join(run_inputs, run_inputs.c.run_id == makers.c.run_id)
        else:
            query = query.join(run_inputs, read == version)
            query = query.join(makers, makers.c.run_id == run_inputs.c.run_id)
        query = query.join(versions, versions.c.id == made)
        query = query.where(catalog._visible(versions), read != made)
        for hop in range(1, depth + 1):
            found = {(str(a), str(b)) for a, b in _asked(connection, query, frontier)}
            edges |= found
            reached = {source if direction == "up" else target for source, target in found}
            frontier = sorted(reached - depths.keys())
            depths |= dict.fromkeys(frontier, hop)
            if not frontier:
                break
    nodes = sorted(depths.items(), key=lambda pair: (pair[1], pair[0]))
    return {
        "nodes": [{"version": version, "depth": hop} for version, hop in nodes],
        "edges": [{"from": source, "to": target} for source, target in sorted(edges)],
    }


def readers(catalog: Catalog, version_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Runs that read any of these versions: {"run", "reads": ids, "makes": ids}, the newest first."""
    read = sa.select(run_inputs.c.run_id).where(run_inputs.c.version_id.in_(list(version_ids)))
    made = (
        sa.select(run_outputs.c.run_id, run_outputs.c.version_id)
        .join(versions, versions.c.id == run_outputs.c.version_id)
        .where(run_outputs.c.run_id.in_(read), catalog._visible(versions))
        .order_by(versions.c.created_at.desc())
    )
    found: dict[str, dict[str, Any]] = {}
    with catalog.reader.connect() as connection:
        for run, version in connection.execute(made):
            told = found.setdefault(str(run), {"run": str(run), "reads": [], "makes": []})
            told["makes"].append(str(version))
        also = sa.select(run_inputs.c.run_id, run_inputs.c.version_id)
        for run, version in connection.execute(also.where(run_inputs.c.run_id.in_(list(found)))):
            found[str(run)]["reads"].append(str(version))
    return list(found.values())


def asset_edges(
    catalog: Catalog, asset: str, direction: Direction, depth: int = DEPTH
) -> set[tuple[str, str]]:
    """(from, to) between assets around the current version of one, in one direction; those that
    other systems told of are among them."""
    edges: set[tuple[str, str]] = set()
    seen, frontier = {asset}, [asset]
    with catalog.reader.connect() as connection:
        queries = list(_asset_hop(connection, catalog, direction))
        for _ in range(depth):
            found = {
                (str(a), str(b))
                for query in queries
                for a, b in _asked(connection, query, frontier)
                if a != b
            }
            edges |= found
            frontier = sorted({a if direction == "up" else b for a, b in found} - seen)
            seen |= set(frontier)
            if not frontier:
                break
    return edges


def _asset_hop(
    connection: sa.Connection, catalog: Catalog, direction: Direction
) -> Iterator[sa.Select[Any]]:
    """What current versions of given assets were made from, or what current ones read them."""
    given, (asset,) = _given(connection, 1)
    ends = sa.select(versions.c.asset, column_maps.c.asset).distinct().select_from(given)
    if direction == "up":  # from the version that is current to what its run read
        yield (
            ends.join(column_maps, column_maps.c.version_id == _head(catalog, asset))
            .join(run_inputs, run_inputs.c.run_id == column_maps.c.run_id)
            .join(versions, versions.c.id == run_inputs.c.version_id)
        )
    else:
        yield (
            ends.join(versions, versions.c.asset == asset)
            .join(run_inputs, run_inputs.c.version_id == versions.c.id)
            .join(column_maps, column_maps.c.run_id == run_inputs.c.run_id)
            .where(column_maps.c.version_id == _head(catalog, column_maps.c.asset))
        )
    told_from, told_to = external_edges.c.from_asset, external_edges.c.to_asset
    side = told_to if direction == "up" else told_from
    told = sa.select(told_from, told_to).distinct().select_from(given)
    yield told.join(external_edges, side == asset)


def all_asset_edges(catalog: Catalog) -> set[tuple[str, str]]:
    """(from, to) of all assets, between current versions and as other systems told."""
    query = (
        sa.select(versions.c.asset, column_maps.c.asset)
        .distinct()
        .select_from(column_maps)
        .join(run_inputs, run_inputs.c.run_id == column_maps.c.run_id)
        .join(versions, versions.c.id == run_inputs.c.version_id)
        .where(column_maps.c.version_id == _head(catalog, column_maps.c.asset))
    )
    others = sa.select(external_edges.c.from_asset, external_edges.c.to_asset).distinct()
    with catalog.reader.connect() as connection:
        found = chain(connection.execute(query), connection.execute(others))
        return {(str(a), str(b)) for a, b in found if a != b}


def column_walk(
    catalog: Catalog,
    asset: str,
    column: str | None = None,
    *,
    direction: Direction = "up",
    depth: int = DEPTH,
    rows: bool = False,
) -> set[Edge]:
    """Edges between columns of current versions, from `asset` (or one column of it) on.

    Args:
        column: None walks from all columns, and from what decided on the rows.
        direction: "up" to what it was made from, "down" to what was made from it.
        rows: follow what decided which rows there are as well.
    """
    edges: set[Edge] = set()
    seen: set[Column] = set()
    with catalog.reader.connect() as connection:
        frontier = {(asset, column)} if column is not None else _ends(connection, asset)
        query = _hop(connection, catalog, direction)
        for _ in range(depth):
            tables = {name for name, one in frontier if one == ROWS or direction == "up"}
            if rows and direction == "up":  # which rows there are is in each of a table's columns
                frontier |= {(name, ROWS) for name in tables}
            elif rows:  # and other rows are other values in all of them
                frontier = frontier.union(*(_ends(connection, name) for name in tables))
            todo = sorted(frontier - seen)
            seen |= frontier
            if not todo:
                break
            found = [Edge(*row) for row in _asked(connection, query, todo)]
            followed = [edge for edge in found if rows or edge.how != "rows"]
            edges.update(found if column is None else followed)
            frontier = {edge.source if direction == "up" else edge.target for edge in followed}
    return edges


def column_lineage(
    catalog: Catalog,
    asset: str,
    column: str | None = None,
    *,
    direction: str = "up",
    depth: int = DEPTH,
    rows: bool = False,
) -> dict[str, Any]:
    """{"nodes": [{"asset", "column"}], "edges": [{"from", "to", "how"}]} of current versions.

    Raises:
        NotFound: no such asset, or no such column in its current version.
    """
    _there(catalog, asset, column)
    found: set[Edge] = set()
    for way in ways(direction):
        found |= column_walk(catalog, asset, column, direction=way, depth=depth, rows=rows)
    nodes = {edge.source for edge in found} | {edge.target for edge in found}
    if column is not None:
        nodes.add((asset, column))
    order = sorted(found, key=lambda e: (e.to_asset, e.to_column, e.from_asset, e.from_column))
    return {
        "nodes": [{"asset": name, "column": one} for name, one in sorted(nodes)],
        "edges": [edge.as_dict() for edge in order],
    }


def external(catalog: Catalog) -> list[dict[str, Any]]:
    """Edges between assets that other systems told of: {"from", "to", "job", "told_at"}."""
    with catalog.reader.connect() as connection:
        found = connection.execute(sa.select(external_edges)).mappings().all()
    return [
        {"from": r["from_asset"], "to": r["to_asset"], "job": r["job"], "told_at": r["told_at"]}
        for r in sorted(found, key=lambda r: (r["from_asset"], r["to_asset"], r["job"]))
    ]


def ways(direction: str) -> tuple[Direction, ...]:
    """ "up", "down" or "both" as the walks it stands for. InputError: another word."""
    known: dict[str, tuple[Direction, ...]] = {
        "up": ("up",),
        "down": ("down",),
        "both": ("up", "down"),
    }
    if direction not in known:
        raise InputError(f"no direction {direction!r}", next=f"one of: {', '.join(known)}")
    return known[direction]


def _there(catalog: Catalog, asset: str, column: str | None) -> None:
    """NotFound unless there is such an asset, with such a column (or "*", its rows)."""
    version = catalog.current(asset)
    with catalog.reader.connect() as connection:
        known = {name for _, name in _ends(connection, asset)}
        if version is None and not known:
            told = sa.select(external_edges.c.job).where(
                (external_edges.c.from_asset == asset) | (external_edges.c.to_asset == asset)
            )
            if connection.execute(told.limit(1)).first() is None:
                raise NotFound(
                    f"no asset {asset!r}",
                    where="catalogue",
                    next="see them with: shopkeeper assets ls",
                )
    known |= set(version.schema) if version is not None else set()
    if column is not None and column != ROWS and column not in known:
        names = ", ".join(sorted(known - {ROWS})) or "none"
        raise NotFound(f"{asset} has no column {column!r}; it has {names}", where=asset)


def _hop(connection: sa.Connection, catalog: Catalog, direction: Direction) -> sa.Select[Any]:
    """Edges of current versions that end (upwards) or begin at given columns."""
    side = "to" if direction == "up" else "from"
    given, (asset, column) = _given(connection, 2)
    here = (column_edges.c[f"{side}_asset"] == asset) & (column_edges.c[f"{side}_column"] == column)
    query = sa.select(*_EDGE).select_from(given)
    if direction == "up":  # asset -> its current version -> its map -> edges
        head = _head(catalog, asset)
        return query.join(column_maps, column_maps.c.version_id == head).join(
            column_edges, (column_edges.c.map == column_maps.c.map) & here
        )
    head = _head(catalog, column_edges.c.to_asset)  # edges -> those in the map of what is current
    return query.join(column_edges, here).join(
        column_maps, (column_maps.c.version_id == head) & (column_maps.c.map == column_edges.c.map)
    )


def _given(
    connection: sa.Connection, width: int
) -> tuple[sa.FromClause, tuple[sa.ColumnElement[str], ...]]:
    """A relation of so many columns of text whose rows come with the question (`_asked`).

    One parameter, however many rows: a long list of values in the statement makes SQLite think that
    an index of its own over all edges pays, and is parsed anew at each hop.
    """
    sqlite = connection.dialect.name == "sqlite"
    rows = (sa.func.json_each if sqlite else sa.func.json_array_elements)(
        sa.bindparam("given", type_=sa.JSON)
    )
    given = rows.table_valued(sa.column("value", sa.JSON), name="given")
    return given, tuple(given.c.value[n].as_string() for n in range(width))


def _asked(connection: sa.Connection, query: sa.Select[Any], some: Sequence[Any]) -> Iterable[Any]:
    """What is found for these names, or tuples of them."""
    given = [[one] if isinstance(one, str) else list(one) for one in some]
    return connection.execute(query, {"given": given})


def _head(catalog: Catalog, asset: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The id of the version of an asset that is current, as this catalogue's branch sees it."""
    main = sa.select(assets.c.current).where(assets.c.name == asset).scalar_subquery()
    current: list[sa.ColumnElement[Any]] = [main, asset + EXTERNAL]
    if catalog.branch is not None:
        own = branch_heads
        head = sa.select(own.c.version_id).where(
            own.c.asset == asset, own.c.branch == catalog.branch
        )
        current.insert(0, head.scalar_subquery())
    return sa.func.coalesce(*current)


def _ends(connection: sa.Connection, asset: str) -> set[tuple[str, str]]:
    """All ends of edges at an asset: columns that were made, and columns that others were made from."""
    made = (
        sa.select(column_edges.c.to_column)
        .join(column_maps, column_maps.c.map == column_edges.c.map)
        .where(column_maps.c.asset == asset)
    )
    used = sa.select(column_edges.c.from_column).where(column_edges.c.from_asset == asset)
    return {(asset, str(name)) for (name,) in connection.execute(made.union(used))}


def _edges(connection: sa.Connection, query: sa.Select[Any]) -> list[Edge]:
    return [Edge(*map(str, row)) for row in connection.execute(query)]


__all__ = ["Derivation", "Edge", "column_lineage", "column_walk", "edges_of", "record", "walk"]
