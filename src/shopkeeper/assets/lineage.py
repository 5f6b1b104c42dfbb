"""Lineage of versions and of columns, recorded as runs read and wrote; walked in SQL.

Of every version the catalogue keeps the runs that made it with the versions these read, and one map:
from which columns of those each of its columns was made. Equal maps are stored once, so a table of
twenty versions that were made alike costs one map. A map is a set of edges

    (asset, column) -> (asset, column), how

    how   copied     the very value
          computed   from the value: converted, repaired, aggregated
          rows       to the column "*" of the made asset: which rows there are, and in which order
          read       it was read, and nobody said for what: it may be in every column that was made

"*" of an asset stands for its rows; what is made of an asset at all stands on the "*" of it. A walk
of a column follows values alone; with `rows` it follows what decided on the rows as well.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
)
from shopkeeper.errors import InputError, NotFound

Direction = Literal["up", "down"]
How = Literal["copied", "computed", "rows", "read"]
ROWS = "*"  # as a column: which rows there are
DEPTH = 100  # hops, where nobody asks for fewer
EXTERNAL = "@0"  # the version of an asset of another system, which tells us none


@dataclass(frozen=True)
class Edge:
    """One column made from another."""

    from_asset: str
    from_column: str
    to_asset: str
    to_column: str
    how: str

    def as_dict(self) -> dict[str, Any]:
        """{"from": [asset, column], "to": [asset, column], "how"}."""
        return {
            "from": [self.from_asset, self.from_column],
            "to": [self.to_asset, self.to_column],
            "how": self.how,
        }


@dataclass
class Derivation:
    """What a step says of one asset that it makes: column -> the input columns it was made from.

    `columns` names inputs as (asset, column); `rows` those that decide which rows there are, and in
    which order. `copied` are columns that take the value as it stands.
    """

    columns: Mapping[str, Collection[tuple[str, str]]] = field(default_factory=dict)
    rows: Collection[tuple[str, str]] = ()
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
        Edge(source, column, asset, made, "read")
        for source, names in read.items()
        for column in (*names, ROWS)
        for made in (*columns, ROWS)
    ]


def checked(
    edges: Iterable[Edge], columns: Collection[str], read: Mapping[str, Collection[str]]
) -> list[Edge]:
    """Edges that hold against what the run did: what it read (asset -> columns) and wrote.

    InputError: a derivation names a column that was not read, or leaves out one that was written.
    """
    found = list(edges)
    for edge in found:
        if edge.from_column != ROWS and edge.from_column not in read.get(edge.from_asset, ()):
            raise InputError(
                f"lineage says that {edge.to_asset}.{edge.to_column} is made from "
                f"{edge.from_asset}.{edge.from_column}, which the run did not read",
                where=edge.to_asset,
                next="correct the derivation beside the step's code",
            )
        if edge.to_column != ROWS and edge.to_column not in columns:
            raise InputError(
                f"lineage tells where {edge.to_asset}.{edge.to_column} is from, but there is no such "
                "column",
                where=edge.to_asset,
                next="correct the derivation beside the step's code",
            )
    return found


def record(connection: sa.Connection, version_id: str, run_id: str, edges: Sequence[Edge]) -> None:
    """Keep the map of a version; the newest run that made it counts."""
    asset = version_id.rpartition("@")[0]
    rows = sorted({(e.to_column, e.from_asset, e.from_column, e.how) for e in edges})
    digest = hashlib.sha256(json.dumps([asset, rows]).encode()).hexdigest()[:32]
    known = sa.select(column_edges.c.map).where(column_edges.c.map == digest).limit(1)
    if rows and connection.execute(known).first() is None:
        best: dict[tuple[str, str, str], str] = {}
        for to_column, from_asset, from_column, how in rows:  # "copied" before "computed" before …
            best.setdefault((to_column, from_asset, from_column), how)
        names = ("to_column", "from_asset", "from_column")
        connection.execute(
            column_edges.insert(),
            [
                {"map": digest, "to_asset": asset, "how": how, **dict(zip(names, key, strict=True))}
                for key, how in best.items()
            ],
        )
    values = {"asset": asset, "run_id": run_id, "map": digest}
    upsert(connection, column_maps, {"version_id": version_id}, values)


def edges_of(catalog: Catalog, version_id: str) -> list[Edge]:
    """The edges into the columns of one version; none where it was made before maps were kept."""
    query = (
        sa.select(column_edges)
        .join(column_maps, column_maps.c.map == column_edges.c.map)
        .where(column_maps.c.version_id == version_id)
    )
    return [_edge(row) for row in _fetch(catalog, query)]


def walk(
    catalog: Catalog, version_id: str, direction: Direction = "up", depth: int = DEPTH
) -> dict[str, Any]:
    """Versions that `version_id` was made from ("up") or that were made from it ("down").

    Returns:
        {"nodes": [{"version", "depth"}], "edges": [{"from", "to"}]}, nearest first; ids of versions.
    """
    start = sa.select(
        sa.literal(version_id, sa.String).label("version"), sa.literal(0).label("depth")
    )
    reached = start.cte("reached", recursive=True)
    here, there = (run_outputs, run_inputs) if direction == "up" else (run_inputs, run_outputs)
    step = (
        sa.select(there.c.version_id, reached.c.depth + 1)
        .join_from(reached, here, here.c.version_id == reached.c.version)
        .join(there, there.c.run_id == here.c.run_id)
        .where(reached.c.depth < depth, there.c.version_id != reached.c.version)
    )
    reached = reached.union(step)
    nearest = sa.func.min(reached.c.depth).label("depth")
    near = sa.select(reached.c.version, nearest).group_by(reached.c.version).cte("near")
    ends = (there.c.version_id, here.c.version_id)
    source, target = ends if direction == "up" else ends[::-1]
    pairs = (
        sa.select(source.label("from"), target.label("to"))
        .distinct()
        .join_from(near, here, here.c.version_id == near.c.version)
        .join(there, there.c.run_id == here.c.run_id)
        .where(near.c.depth < depth, there.c.version_id != here.c.version_id)
    )
    nodes = _fetch(catalog, sa.select(near).order_by(near.c.depth, near.c.version))
    edges = sorted(_fetch(catalog, pairs), key=lambda edge: (edge["from"], edge["to"]))
    return {"nodes": nodes, "edges": edges}


def column_walk(
    catalog: Catalog,
    asset: str,
    column: str | None = None,
    *,
    direction: Direction = "up",
    depth: int = DEPTH,
    rows: bool = False,
) -> list[Edge]:
    """Edges between columns of current versions, from `asset` (or one column of it) on.

    Args:
        column: None walks from all columns, and from what decided on the rows.
        direction: "up" to what it was made from, "down" to what was made from it.
        rows: follow what decided which rows there are as well.
    """
    start = (
        sa.select(
            sa.literal(asset, sa.String).label("asset"),
            sa.literal(column, sa.String).label("column"),
            sa.literal(0).label("depth"),
        )
        if column is not None
        else _all_columns(asset)
    )
    reached = start.cte("reached", recursive=True)
    side = "from" if direction == "up" else "to"
    ends = [column_edges.c[f"{side}_{what}"] for what in ("asset", "column")]
    met = _met(catalog, reached, direction, rows)
    step = sa.select(*ends, reached.c.depth + 1).select_from(met).where(reached.c.depth < depth)
    reached = reached.union(step)
    met = _met(catalog, reached, direction, rows)
    query = sa.select(column_edges).distinct().select_from(met).where(reached.c.depth < depth)
    return sorted(
        {_edge(row) for row in _fetch(catalog, query)},
        key=lambda e: (e.to_asset, e.to_column, e.from_asset, e.from_column),
    )


def column_lineage(
    catalog: Catalog,
    asset: str,
    column: str | None = None,
    *,
    direction: Direction | Literal["both"] = "up",
    depth: int = DEPTH,
    rows: bool = False,
) -> dict[str, Any]:
    """{"nodes": [{"asset", "column"}], "edges": [{"from", "to", "how"}]} of current versions.

    Raises:
        NotFound: no such asset, or no such column in its current version.
    """
    _there(catalog, asset, column)
    ways: tuple[Direction, ...] = ("up", "down") if direction == "both" else (direction,)
    found: set[Edge] = set()
    for way in ways:
        found |= set(column_walk(catalog, asset, column, direction=way, depth=depth, rows=rows))
    nodes = {(e.from_asset, e.from_column) for e in found}
    nodes |= {(e.to_asset, e.to_column) for e in found}
    if column is not None:
        nodes.add((asset, column))
    order = sorted(found, key=lambda e: (e.to_asset, e.to_column, e.from_asset, e.from_column))
    return {
        "nodes": [{"asset": name, "column": one} for name, one in sorted(nodes)],
        "edges": [edge.as_dict() for edge in order],
    }


def external(catalog: Catalog) -> list[dict[str, Any]]:
    """Edges between assets that other systems told of: {"from", "to", "job", "told_at"}."""
    found = _fetch(catalog, sa.select(external_edges))
    return [
        {"from": r["from_asset"], "to": r["to_asset"], "job": r["job"], "told_at": r["told_at"]}
        for r in sorted(found, key=lambda r: (r["from_asset"], r["to_asset"], r["job"]))
    ]


def _there(catalog: Catalog, asset: str, column: str | None) -> None:
    """NotFound unless there is such an asset, with such a column (or "*", its rows)."""
    if catalog.asset(asset) is None:
        raise NotFound(
            f"no asset {asset!r}", where="catalogue", next="see them with: shopkeeper assets ls"
        )
    if column is None or column == ROWS:
        return
    version = catalog.current(asset)
    known = set(version.schema) if version is not None else set()
    told = column_edges.select().where(column_edges.c.to_asset == asset)
    known |= {row["to_column"] for row in _fetch(catalog, told)} - {ROWS}
    if column not in known:
        raise NotFound(
            f"{asset} has no column {column!r}; it has {', '.join(sorted(known)) or 'none'}",
            where=asset,
        )


def _met(catalog: Catalog, reached: sa.CTE, direction: Direction, rows: bool) -> sa.Join:
    """Columns that were reached, joined with the edges that end (upwards) or begin at them.

    Only edges in the map of the version that is current, as this catalogue's branch sees it.
    """
    maps, edges = column_maps, column_edges
    if direction == "up":
        columns = [reached.c.column, sa.literal(ROWS)] if rows else [reached.c.column]
        on = (edges.c.map == maps.c.map) & edges.c.to_column.in_(columns)
        if not rows:
            on = on & (edges.c.from_column != ROWS)
        joined, head = _with_heads(catalog, reached, reached.c.asset)
        return joined.join(maps, maps.c.version_id == head).join(edges, on)
    on = (edges.c.from_asset == reached.c.asset) & (edges.c.from_column == reached.c.column)
    if not rows:
        on = on & (edges.c.to_column != ROWS)
    joined, head = _with_heads(catalog, reached.join(edges, on), edges.c.to_asset)
    return joined.join(maps, (maps.c.version_id == head) & (maps.c.map == edges.c.map))


def _with_heads(
    catalog: Catalog, left: sa.FromClause, asset: sa.ColumnElement[str]
) -> tuple[sa.Join, sa.ColumnElement[str]]:
    """`left` joined with what is current of `asset`, and the id of that version."""
    joined = left.join(assets, assets.c.name == asset, isouter=True)
    current = [assets.c.current, asset + EXTERNAL]
    if catalog.branch is not None:
        own = branch_heads
        joined = joined.join(
            own, (own.c.asset == asset) & (own.c.branch == catalog.branch), isouter=True
        )
        current.insert(0, own.c.version_id)
    return joined, sa.func.coalesce(*current)


def _all_columns(asset: str) -> sa.Select[Any]:
    """All ends of edges at an asset: columns that were made, and columns that others were made from."""
    made = sa.select(column_edges.c.to_column).where(column_edges.c.to_asset == asset)
    used = sa.select(column_edges.c.from_column).where(column_edges.c.from_asset == asset)
    both = made.union(used).subquery()
    name = sa.literal(asset, sa.String).label("asset")
    return sa.select(name, both.c[0].label("column"), sa.literal(0).label("depth"))


def _edge(row: Mapping[str, Any]) -> Edge:
    names = ("from_asset", "from_column", "to_asset", "to_column", "how")
    return Edge(**{name: row[name] for name in names})


def _fetch(catalog: Catalog, query: sa.Select[Any]) -> list[dict[str, Any]]:
    with catalog.reader.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


__all__ = ["Derivation", "Edge", "column_lineage", "column_walk", "edges_of", "record", "walk"]
