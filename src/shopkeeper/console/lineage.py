"""Lineage as it is drawn: every node has a column and a row, so that all arrows point to the right."""

from collections.abc import Collection
from typing import Any

from shopkeeper.assets.lineage import DEPTH
from shopkeeper.console.layers import place
from shopkeeper.shop import Shop

Edges = list[dict[str, str]]


def placed(lineage: dict[str, Any]) -> dict[str, Any]:
    """Nodes with a column (how many steps from the raw data) and a row; edges as they are.

    The column is the longest way from any source, so every edge points to the right.
    """
    parents: dict[str, list[str]] = {node["name"]: [] for node in lineage["nodes"]}
    for edge in lineage["edges"]:
        if edge["from"] in parents and edge["to"] in parents:
            parents[edge["to"]].append(edge["from"])
    depth: dict[str, int] = {}

    def far(name: str, on_the_way: frozenset[str] = frozenset()) -> int:
        if name not in depth:
            before = [p for p in parents[name] if p not in on_the_way]
            depth[name] = max((far(p, on_the_way | {name}) + 1 for p in before), default=0)
        return depth[name]

    nodes = sorted(
        lineage["nodes"], key=lambda node: (far(node["name"]), place(node["layer"]), node["name"])
    )
    filled: dict[int, int] = {}
    drawn = []
    for node in nodes:
        column = depth[node["name"]]
        filled[column] = filled.get(column, -1) + 1
        drawn.append(
            {
                "name": node["name"],
                "layer": node["layer"],
                "rows": node["rows"],
                "version": node["version"],
                "focus": node["focus"],
                "column": column,
                "row": filled[column],
            }
        )
    return {
        "nodes": drawn,
        "edges": lineage["edges"],
        "columns": max(filled, default=-1) + 1,
        "tallest": max(filled.values(), default=-1) + 1,
    }


def around(lineage: dict[str, Any], name: str, up: int, down: int) -> dict[str, Any]:
    """The part of a lineage within `up` steps before `name` and `down` steps after it.

    Returns:
        {"nodes", "edges", "more": {"up", "down"}}; `more` counts what lies beyond on either side.
    """
    forth: dict[str, set[str]] = {}
    back: dict[str, set[str]] = {}
    for edge in lineage["edges"]:
        forth.setdefault(edge["from"], set()).add(edge["to"])
        back.setdefault(edge["to"], set()).add(edge["from"])
    near: set[str] = {name}
    more = {}
    for side, steps, links in (("up", up, back), ("down", down, forth)):
        whole = _reach(name, links)
        within = _reach(name, links, steps)
        near |= within
        more[side] = len(whole) - len(within)
    return {
        "nodes": [
            {**node, "focus": node["name"] == name}
            for node in lineage["nodes"]
            if node["name"] in near
        ],
        "edges": [e for e in lineage["edges"] if e["from"] in near and e["to"] in near],
        "more": more,
    }


def _reach(name: str, links: dict[str, set[str]], steps: int | None = None) -> set[str]:
    """What can be reached from `name`, itself left out, in at most `steps` steps."""
    found: set[str] = set()
    at = {name}
    while at and (steps is None or steps > 0):
        at = {to for start in at for to in links.get(start, ())} - found - {name}
        found |= at
        steps = None if steps is None else steps - 1
    return found


def columns_of(
    shop: Shop, name: str, column: str | None, order: Collection[str]
) -> list[dict[str, Any]]:
    """Columns of an asset with what each was made from and what was made from it.

    Args:
        column: one of them, followed as far as it goes; None: all, one step each way.
        order: the asset's columns as they stand.
    Returns:
        [{"name", "from": [edge end], "to": [edge end]}], an end {"asset", "column", "how", "more"}.
        Of a column that is followed, every line is one column on the way.
    """
    depth = 1 if column is None else DEPTH
    told = shop.column_lineage(name, column, direction="both", depth=depth)["edges"]
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    if column is None:
        for one in (*order, "*"):
            lines[name, one] = {"asset": name, "name": one, "from": [], "to": []}
    for edge in told:
        for end, other, side in (("to", "from", "from"), ("from", "to", "to")):
            at = tuple(edge[end])
            if column is None and at[0] != name:
                continue
            line = lines.setdefault(at, {"asset": at[0], "name": at[1], "from": [], "to": []})
            line[side].append(
                {"asset": edge[other][0], "column": edge[other][1], "how": edge["how"]}
            )
    return [line for line in lines.values() if line["from"] or line["to"]]
