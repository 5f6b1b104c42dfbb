"""A breaking change of a contract stops the run before its first step, and says what would break.

The contracts that tables were last cleaned by are kept in the catalogue. Where one has changed since,
the difference is told; a breaking one goes through when it is accepted (for the run, or before it by
`accept`), or when the contract's version says so by a higher major number.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from shopkeeper.assets.catalog import Catalog, now
from shopkeeper.assets.contracts import (
    Contract,
    _override,
    built_in,
    built_in_text,
    compose,
    load,
    own_text,
    parse,
)
from shopkeeper.assets.contracts.edit import compare
from shopkeeper.assets.schema import contract_accepted, contract_texts
from shopkeeper.errors import Conflict, InputError, NotFound
from shopkeeper.words import TABLES

SHOWN = 12  # changes that the error names


def stop_breaking(
    catalog: Catalog, folder: Path, tables: Sequence[str], *, accept: bool = False
) -> list[dict[str, Any]]:
    """What changed since each table was last cleaned; see the module.

    Returns:
        [{"table", "from", "to": versions, "accepted", "changes"}] of the tables whose contract changed
    Raises:
        InputError: a change is breaking and nobody said that it is meant; each is named.
    """
    told, broken = [], []
    try:
        found = load(folder)
    except InputError:  # one is not valid: the first step that needs it says so, and is recorded
        return []
    for table, contract in found.items():
        if table not in tables:
            continue
        _keep(catalog, folder, contract)
        change = _changed(catalog, contract)
        if change is None:
            continue
        meant = accept or change["accepted"]
        about = {key: change[key] for key in ("table", "from", "to", "changes")}
        told.append({**about, "accepted": meant})
        if not meant:
            broken += [(table, one) for one in change["changes"] if one["breaking"]]
    if broken:
        lines = [
            f"{table}: " + " ".join(filter(None, (one["column"], one["change"], one["detail"])))
            for table, one in broken
        ]
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise InputError(
            f"{len(lines)} breaking change{'s' * (len(lines) > 1)} of contracts: "
            + "; ".join(lines[:SHOWN]) + more,
            where="contracts",
            next="if it is meant: shopkeeper run --accept-change, or raise the contract's version to "
            f"{_major(contract_version(folder, broken[0][0])) + 1}.0.0; else take it back",
        )  # fmt: skip
    return told


def pending(catalog: Catalog, folder: Path, table: str) -> dict[str, Any] | None:
    """What has changed in the contract of `table` since it was last cleaned; None: nothing.

    Returns:
        {"table", "from", "to": versions, "digest": of the contract as it is now, "accepted", "by",
        "at": who accepted it and when, "stops": the next run stops for it, "changes"}
    """
    return _changed(catalog, load(folder)[table])


def accept(catalog: Catalog, folder: Path, table: str, digest: str, by: str) -> dict[str, Any]:
    """Say that the change of `table`'s contract is meant: the next run goes through with it.

    Args:
        digest: of the contract whose difference was looked at (`pending`).
    Returns:
        `pending`, accepted; kept in the catalogue, on disk when this returns
    Raises:
        Conflict: the contract is another by now. NotFound: nothing has changed.
    """
    change = pending(catalog, folder, table)
    if change is None:
        raise NotFound(
            f"the contract of {table} is as it was when the table was last cleaned",
            where="contracts",
        )
    if change["digest"] != digest:
        raise Conflict(
            f"the contract of {table} was changed meanwhile", where="contracts",
            next="look at the difference again, then accept it",
        )  # fmt: skip
    if not change["accepted"]:
        before = last_of(catalog, table)
        assert before is not None
        values = {"name": table, "before": before.digest, "after": digest, "by": by, "at": now()}
        with catalog.write() as connection:
            connection.execute(contract_accepted.insert().values(**values))
    return pending(catalog, folder, table) or change


def _changed(catalog: Catalog, contract: Contract) -> dict[str, Any] | None:
    """See `pending`. Changes that a newer Shopkeeper made to its own contracts are none."""
    before = last_of(catalog, contract.name)
    if before is None or before.digest == contract.digest:
        return None
    if before.origin == contract.origin == "built-in":
        return None
    key = contract_accepted.c
    query = sa.select(key.by, key.at).where(
        key.name == contract.name, key.before == before.digest, key.after == contract.digest
    )
    said = next(iter(catalog._rows(query)), None)
    accepted = said is not None or _major(contract.version) > _major(before.version)
    changes = compare(before, contract)
    return {
        "table": contract.name,
        "from": before.version,
        "to": contract.version,
        "digest": contract.digest,
        "accepted": accepted,
        "by": said["by"] if said else None,
        "at": said["at"] if said else None,
        "stops": not accepted and any(one["breaking"] for one in changes),
        "changes": changes,
    }


def contract_version(folder: Path, table: str) -> str:
    """The version that the contract of a table says it has."""
    return load(folder)[table].version


def last_of(catalog: Catalog, table: str) -> Contract | None:
    """The contract that `table` was last cleaned by; None where that is not known any more."""
    done = (
        run for run in catalog.runs(step=f"clean.{table}", limit=50) if run["outcome"] == "done"
    )
    run = next(done, None)
    return None if run is None else _of(catalog, table, run["parameters"].get("contract"))


def of_version(catalog: Catalog, asset: str, number: str) -> Contract:
    """The contract that a version was cleaned by. NotFound: not known."""
    version = catalog.version(f"{asset}@{number}")
    run = catalog.run(version.run_id) if version else None
    found = (
        _of(catalog, asset.partition(".")[2], run["parameters"].get("contract")) if run else None
    )
    if found is None:
        raise NotFound(
            f"the contract of {asset}@{number} is not known", where="contracts",
            next=f"see the versions with: shopkeeper assets history {asset}",
        )  # fmt: skip
    return found


def named(what: str, folder: Path, catalog: Catalog) -> Contract:
    """A contract by what people call it.

    Args:
        what: a file; "events" (what holds now), "events@built-in", or "clean.events@3" (what that
            version was cleaned by).
    Raises:
        NotFound: nothing is called so. InputError: it is no valid contract.
    """
    name, _, state = what.partition("@")
    table = name.rpartition(".")[2]
    if table in TABLES and not Path(what).is_file():
        if state == "built-in":
            return built_in(table)
        return of_version(catalog, f"clean.{table}", state) if state else load(folder)[table]
    if not Path(what).is_file():
        raise NotFound(
            f"no contract {what!r}", where="contracts",
            next="name a file, a table, or a state of one: events, events@built-in, clean.events@3",
        )  # fmt: skip
    made = parse(Path(what).read_text("utf-8"), what, partial=True)
    whole = made.name not in TABLES or set(made.names) >= set(built_in(made.name).names)
    return made if whole else _override(built_in(made.name), made)


def _of(catalog: Catalog, table: str, digest: str | None) -> Contract | None:
    where = (contract_texts.c.digest == digest, contract_texts.c.name == table)
    found = catalog._rows(sa.select(contract_texts).where(*where))
    if not found:
        return None
    try:
        return compose(table, found[0]["base"], found[0]["own"], f"contract of {table} before")
    except InputError:  # written for an older Shopkeeper
        return None


def _keep(catalog: Catalog, folder: Path, contract: Contract) -> None:
    key = {"digest": contract.digest, "name": contract.name}
    found = catalog._rows(
        sa.select(contract_texts.c.digest).where(
            contract_texts.c.digest == contract.digest, contract_texts.c.name == contract.name
        )
    )
    if found:
        return
    texts = {"base": built_in_text(contract.name), "own": own_text(folder, contract)}
    with catalog.write() as connection:
        connection.execute(contract_texts.insert().values(**key, **texts, first_at=now()))


def _major(version: str) -> int:
    head = version.lstrip("vV").partition(".")[0]
    return int(head) if head.isdigit() else 0
