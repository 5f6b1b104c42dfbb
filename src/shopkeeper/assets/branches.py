"""Branches: runs whose versions are current in the branch only, until it is promoted or dropped.

Data files of a branch lie beside those of the main line, named by their digest; no Delta commit is
made before the promotion, so plain Delta readers never see a branch. What a branch did not write
it reads from the main line, as that is at the moment.
"""

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import sqlalchemy as sa

from shopkeeper.assets import schema as tables
from shopkeeper.assets.catalog import Catalog, Version, make_current, now
from shopkeeper.assets.lake import schema_from
from shopkeeper.errors import Conflict, InputError, NotFound
from shopkeeper.governance.access import Principal
from shopkeeper.words import Purpose

if TYPE_CHECKING:
    from shopkeeper.assets.store import Assets

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def identify(catalog: Catalog, name: str) -> str:
    """The id of the branch `name`, made where it does not exist."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name for a branch",
            where="branch",
            next="use up to 64 small letters, digits, '.', '_' and '-', e.g. stricter-prices",
        )
    with catalog.write() as connection:
        query = sa.select(tables.branches.c.id).where(tables.branches.c.name == name)
        found = connection.execute(query).scalar()
        if found is None:
            found = uuid4().hex
            row = tables.branches.insert().values(id=found, name=name, created_at=now())
            connection.execute(row)
    return str(found)


def _find(catalog: Catalog, name: str) -> str:
    opened = {row["name"]: row["id"] for row in catalog.branches()}
    if name not in opened:
        known = ", ".join(opened) or "none"
        raise NotFound(f"no branch {name!r}", where="branch", next=f"open branches: {known}")
    return str(opened[name])


def still_open(catalog: Catalog) -> None:
    """Conflict: the branch that `catalog` sees was promoted or dropped meanwhile."""
    if catalog.branch is not None and all(b["id"] != catalog.branch for b in catalog.branches()):
        raise Conflict(
            "this branch was promoted or dropped meanwhile",
            where="branch",
            next="open a new branch and run again",
        )


def listed(catalog: Catalog) -> list[dict[str, Any]]:
    """See `Assets.branches`."""
    told = []
    for branch in catalog.branches():
        heads = [
            {
                "asset": head["asset"],
                "version": head["version_id"],
                "base": head["base_id"],
                "moved": _moved(catalog, head),
            }
            for head in catalog.heads(branch["id"])
        ]
        told.append({"branch": branch["name"], "created_at": branch["created_at"], "assets": heads})
    return told


def _moved(catalog: Catalog, head: dict[str, Any]) -> bool:
    current = catalog.main_current(head["asset"])
    return bool((current.id if current else None) != head["base_id"])


def compare(
    assets: "Assets", name: str, *, by: Principal, purpose: Purpose, examples: int
) -> list[dict[str, Any]]:
    """See `Assets.branch_diff`."""
    _find(assets.catalog, name)
    told = []
    with assets.branch(name) as view:
        for head in view.catalog.heads(view.catalog.branch or ""):
            asset, made = head["asset"], view.version(head["asset"], head["version_id"])
            if head["base_id"] is None:
                about = {"kind": head["about"]["kind"], "rows": made.rows}
                told.append({"asset": asset, "a": None, "b": made.id, **about})
            else:
                told.append(
                    view.diff(
                        asset, head["base_id"], made.id, by=by, purpose=purpose, examples=examples
                    )
                )
    return told


def promote(assets: "Assets", name: str) -> list[Version]:
    """See `Assets.promote`. Delta commits come first; the catalogue's one transaction decides."""
    on_main(assets)
    catalog = assets.catalog
    with (
        assets.writing(),
        assets.committing(),
    ):
        branch = _find(catalog, name)
        heads = catalog.heads(branch)
        for head in heads:
            if _moved(catalog, head):
                current = catalog.main_current(head["asset"])
                raise Conflict(
                    f"branch {name} stands on {head['base_id'] or 'nothing'}, "
                    f"main has {current.id if current else 'nothing'} by now",
                    where=head["asset"],
                    next="drop the branch and run its steps again in a new one",
                )
        made = [version for version in catalog.every_version() if version.branch == branch]
        delta = {}
        known = {version.asset: assets.known_delta_version(version.asset) for version in made}
        for version in made:
            if version.is_table:
                delta[version.id] = known[version.asset] = assets._store(version.asset).commit(
                    assets._data_files(version),
                    schema_from(version.schema),
                    version.number,
                    {"run_id": version.run_id, "digest": version.digest},
                    known[version.asset],
                )
        with catalog.write() as connection:
            for version in made:
                row = tables.versions.update().where(tables.versions.c.id == version.id)
                values = {"branch": None, "files": None, "delta_version": delta.get(version.id)}
                connection.execute(row.values(values))
            current_ids = {head["version_id"]: head["about"] for head in heads}
            for version in made:
                if version.id in current_ids:
                    make_current(connection, version, current_ids[version.id])
            runs = tables.runs.update().where(tables.runs.c.branch == branch)
            connection.execute(runs.values(branch=None))
            _close(connection, branch)
    return [assets.current(head["asset"]) for head in heads]


def drop(assets: "Assets", name: str) -> list[str]:
    """See `Assets.drop`."""
    on_main(assets)
    with assets.committing():
        branch = _find(assets.catalog, name)
        gone = [v.id for v in assets.catalog.every_version() if v.branch == branch]
        with assets.catalog.write() as connection:
            mine = tables.versions.update().where(tables.versions.c.branch == branch)
            connection.execute(mine.values(removed_at=now()))
            _close(connection, branch)
    return gone


def _close(connection: sa.Connection, branch: str) -> None:
    heads, opened = tables.branch_heads, tables.branches
    connection.execute(heads.delete().where(heads.c.branch == branch))
    connection.execute(opened.delete().where(opened.c.id == branch))


def on_main(assets: "Assets") -> None:
    """InputError in a branch: what is asked concerns all branches."""
    if assets.catalog.branch is not None:
        raise InputError(
            "this is done on the main line, not in a branch",
            where="branch",
            next="leave the branch first",
        )
