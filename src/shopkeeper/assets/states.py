"""What a step must know of a version to add to it: kept beside the newest version of a table.

A state is plain data (JSON), compressed. It is a shortcut and never the truth: without one a step makes
its table whole, and gets the same rows.
"""

import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from shopkeeper.assets.schema import version_states

if TYPE_CHECKING:
    from shopkeeper.assets.catalog import Catalog


def keep(
    connection: sa.Connection, version_id: str, state: Mapping[str, Any], *, alone: bool
) -> None:
    """Store the state of a version; `alone`: and give up those of all other versions of its asset."""
    gone = version_states.c.version_id == version_id
    if alone:
        gone = version_states.c.version_id.startswith(version_id.rpartition("@")[0] + "@")
    connection.execute(version_states.delete().where(gone))
    packed = zlib.compress(json.dumps(state, ensure_ascii=False).encode(), level=1)
    connection.execute(version_states.insert().values(version_id=version_id, state=packed))


def kept(catalog: "Catalog", version_id: str) -> dict[str, Any] | None:
    """The state of a version, or None."""
    query = sa.select(version_states.c.state).where(version_states.c.version_id == version_id)
    with catalog.reader.connect() as connection:
        packed: bytes | None = connection.execute(query).scalar()
    if packed is None:
        return None
    found: dict[str, Any] = json.loads(zlib.decompress(packed))
    return found
