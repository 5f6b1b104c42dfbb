"""Recommendations and search, and where every item of an answer came from."""

from pathlib import Path
from typing import Annotated, Any

import typer

from shopkeeper.cli.root import app
from shopkeeper.cli.terminal import (
    HERE,
    Json,
    ShopDir,
    bars,
    number,
    out,
    print_json,
    say,
    table,
    tell,
)
from shopkeeper.errors import InputError


@app.command()
def recommend(
    user: Annotated[str | None, typer.Option(help="A user id; unknown ones are newcomers.")] = None,
    k: Annotated[int, typer.Option("-k")] = 10,
    explain: bool = False,
    all_users: Annotated[bool, typer.Option("--all", help="For every user, to --out.")] = False,
    to: Annotated[Path | None, typer.Option("--out", help=".csv, .parquet or .jsonl")] = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Recommendations for a user, or for all users into a file."""
    from shopkeeper.shop import Shop

    if all_users == (user is not None):
        raise InputError("name a user with --user, or take --all --out FILE", where="recommend")
    with Shop.open(shop) as opened:
        if user is None:
            if to is None:
                raise InputError("--all needs --out FILE", where="recommend", next="e.g. --out recommendations.csv")  # fmt: skip
            with bars(quiet=as_json) as report:
                users = opened.recommend_all(to, k, lambda done, total: report("recommend", done, total, ""))  # fmt: skip
            tell({"users": users, "out": str(to)}, as_json, f"{users:,} users -> {to}")
            return
        answer = opened.service.recommend(user_id=user, k=k)
        told = answer.as_dict()
        if explain:
            told["trace"] = opened.service.trace(answer.answer_id)
        if as_json:
            print_json(told)
            return
        _say_hits(opened, told)
        if explain:
            _say_trace(told["trace"])


@app.command()
def search(
    query: str,
    k: Annotated[int, typer.Option("-k")] = 10,
    user: str | None = None,
    shop: ShopDir = HERE,
    as_json: Json = False,
) -> None:
    """Search the catalogue, in Chinese or English."""
    from shopkeeper.shop import Shop

    with Shop.open(shop) as opened:
        told = opened.service.search(query, user_id=user, k=k).as_dict()
        if as_json:
            print_json(told)
            return
        corrected = f", corrected to {told['corrected']!r}" if told.get("corrected") else ""
        out.print(f"{told['total']:,} items, stage {told['stage']}{corrected}")
        _say_hits(opened, told)


def _say_hits(opened: Any, told: dict[str, Any]) -> None:
    units = opened.settings.minor_units
    rows = []
    for hit in told["items"]:
        card = opened.service.item(hit["item_id"])
        price = card.get("price_minor")
        title = card.get("title") or card.get("title_zh") or ""
        shown = "" if price is None else f"{price / units:,.2f}"
        why = hit.get("reason") or {}
        rows.append((str(hit["position"]), hit["item_id"], title[:40], shown, hit.get("source") or "", why.get("en", "")))  # fmt: skip
    table(("", "item", "title", "price", "source", "why"), rows)
    if told["degraded"]:
        out.print("degraded: a floor answered in place of a model that failed")


def _say_trace(trace: dict[str, Any]) -> None:
    """Where every item of an answer came from: what each source said of it, and what moved it."""
    models = trace["candidates"]["models"]
    rows = moves(trace)
    page = [place for place, row in enumerate(rows, start=1) if row["position"] is not None]
    shown = rows[: max(page, default=0)]
    out.print()
    table(
        ("item", *models, "fused", "final", "position", "chance", "moved by"),
        (
            (
                row["item_id"], *(number(score, ".3f") for score in row["models"]),
                number(row["fused"], ".4f"), number(row["final"], ".4f"),
                str(row["position"] or "-"), number(row["propensity"], ".4f"), row["moved_by"],
            )
            for row in shown
        ),
    )  # fmt: skip
    if len(shown) < len(rows):
        say(f"and {len(rows) - len(shown)} candidates below, in their order; all with --json")
    versions, policy, request = trace["versions"], trace["policy"], trace["request"]
    for name, weight in trace["weights"].items():
        say(f"model     {versions.get(f'models.{name}', name)}, weight {weight:g}")
    for name, why in trace["failed"].items():
        say(f"failed    {versions.get(f'models.{name}', name)}: {why}")
    say(f"snapshot  release {trace['release']}: {versions['features.sequences']}, {versions['clean.items']}")  # fmt: skip
    say(f"user      {request['user_id']}, scene {request['scene']}, {trace['history_length']} acts known")  # fmt: skip
    share = f"{policy['exploration']:.1%} of answers show one of {policy['pool']} further candidates in one slot"  # fmt: skip
    say(f"policy    {share}; not in the first {policy['first_slot']}; chance = propensity of the item in its slot")  # fmt: skip
    say(f"answer    {trace['answer_id']}")
    say("moved by  viewed: seen before, so its score is halved; variety: alike to what stands above; others: these stepped back; exploration: shown to learn")  # fmt: skip


def moves(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """The candidates of an answer's trace, best fused score first, each with the rule that moved it.

    A row: item_id, models (scores, one a source), fused; final, position, propensity (None off the
    page); moved_by: "" where the item stands as the fusion ranked it.
    """
    candidates, explored = trace["candidates"], trace["policy"]["explored"]
    at = {item: place for place, item in enumerate(trace["items"])}
    ids = candidates["item_ids"]
    rows = []
    ranked = [(item, candidates["fused"][n], [s[n] for s in candidates["models"].values()]) for n, item in enumerate(ids)]  # fmt: skip
    ranked += [(item, None, [None] * len(candidates["models"])) for item in at if item not in ids]
    for rank, (item, fused, scores) in enumerate(ranked, start=1):
        place = at.get(item)
        final = None if place is None else trace["scores"][place]
        if place is not None and place == explored:
            why = "exploration"
        elif place is None:
            why = "" if rank > len(at) else "viewed or variety"
        elif fused is not None and final < fused * 0.99:
            why = "viewed"
        elif place + 1 > rank:
            why = "variety"
        else:
            why = "" if place + 1 == rank else "others"
        rows.append(
            {
                "item_id": item,
                "models": scores,
                "fused": fused,
                "final": final,
                "position": None if place is None else trace["positions"][place],
                "propensity": None if place is None else trace["propensity"][place],
                "moved_by": why,
            }
        )
    return rows
