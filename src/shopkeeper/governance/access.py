"""Who reads and why: every read of the lake carries a principal and a purpose.

Until roles exist there is one local owner, who may read everything for every purpose; anybody
else is refused (deny by default).
"""

from dataclasses import dataclass

from shopkeeper.errors import Denied
from shopkeeper.words import Purpose


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody or something that acts: a person, a service, a step of the loop."""

    name: str
    roles: frozenset[str] = frozenset()


OWNER = Principal("local-owner", frozenset({"owner"}))


def check_read(principal: Principal, purpose: Purpose, asset: str) -> None:
    """Raise Denied unless `principal` may read `asset` for `purpose`."""
    if "owner" not in principal.roles:
        raise Denied(
            f"{principal.name} may not read {asset} for {purpose}",
            where=asset,
            next="ask the owner of the workspace for a role that allows it",
        )
