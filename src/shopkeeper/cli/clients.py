"""API keys."""

from typing import Annotated

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, needs_workspace, print_json, table, tell

clients_app = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(clients_app, name="clients")


@clients_app.command("add")
def clients_add(
    name: str,
    publishable: Annotated[
        bool, typer.Option(help="For a web page: may send browser events only.")
    ] = False,
    origin: Annotated[list[str] | None, typer.Option(help="Web origin that may use it.")] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Make an API key; it is shown this once."""
    from shopkeeper.governance.clients import Clients, KeyType

    needs_workspace(shop)
    with Clients.of(shop.resolve()) as clients:
        kind = KeyType.PUBLISHABLE if publishable else KeyType.SECRET
        client, key = clients.add(name, kind, origins=origin or [])
    tell(
        {"client": client.as_dict(), "key": key},
        as_json,
        f"{key}\nkeep it: only its digest is stored",
    )


@clients_app.command("ls")
def clients_ls(shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All API clients; no keys."""
    from shopkeeper.governance.clients import Clients

    needs_workspace(shop)
    with Clients.of(shop.resolve()) as clients:
        told = [client.as_dict() for client in clients.all()]
    if as_json:
        print_json(told)
        return
    if told:
        table(list(told[0]), (["" if v is None else str(v) for v in row.values()] for row in told))


@clients_app.command("revoke")
def clients_revoke(name: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """End a key, by its client's name or id; servers refuse it within seconds."""
    from shopkeeper.governance.clients import Clients

    needs_workspace(shop)
    with Clients.of(shop.resolve()) as clients:
        client = clients.revoke(name)
    tell({"client": client.as_dict()}, as_json, f"{client.name} is revoked")
