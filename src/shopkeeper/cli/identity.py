"""Who is whom: ids of one person, and decisions about them."""

import getpass
from typing import Annotated, Any

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import HERE, Json, ShopDir, tell

identity = typer.Typer(no_args_is_help=True, help="Which user ids are one person, and why.")
app.add_typer(identity, name="identity")

Why = Annotated[str, typer.Option("--why", help="The reason; it is kept with the decision.")]


@identity.command()
def show(user_id: str, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """All ids of USER_ID's person, and the evidence for and against each link."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.identities(user_id)
    others = len(told["users"]) > 1
    lines = [f"{user_id} is {told['person']}: {', '.join(told['users'])}" if others else
             f"{user_id}: no other id is known to be the same person"]  # fmt: skip
    lines += [_line(link) for link in told["links"]]
    lines += [
        f"{one['at'][:19]} {one['by']}: {one['a']} {one['b']} {one['decision']}: {one['why']}"
        for one in told["decisions"]
    ]
    tell(told, as_json, "\n".join(lines))


@identity.command()
def unlink(a: str, b: str, why: Why, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Say that user ids A and B are two people; every later run keeps them apart."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.unlink(a, b, why, getpass.getuser())
    tell(told, as_json, f"{told['a']} and {told['b']} are apart; {told['next']}")


@identity.command()
def relink(a: str, b: str, why: Why, shop: ShopDir = HERE, as_json: Json = False) -> None:
    """Take an unlink of A and B back: from the next run on the keys decide again."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.relink(a, b, why, getpass.getuser())
    tell(told, as_json, f"{told['a']} and {told['b']} may be one person again; {told['next']}")


def _line(link: dict[str, Any]) -> str:
    """One piece of evidence: who, by which key, where both stand, and what came of it."""
    sides = [link["evidence"][side] for side in "ab"]
    stood = " and ".join(f"{side['file']}:{side['line']}" for side in sides)
    became = link["outcome"] + (f" ({link['detail']})" if link["detail"] else "")
    value = link["evidence"]["value_hash"]
    return f"  {link['a']} = {link['b']} by {link['key']} {value}, {stood}; score {link['score']:g}: {became}"
