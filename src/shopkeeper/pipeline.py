"""The loop, on one page: which step makes which asset from which.

    collect → clean → features → train → compare → index → release → (serve) → feedback → collect

Read top to bottom: a step's `reads` are what steps above it (or a server) made. `raw.feedback` and
`raw.item_writes` are how the loop closes: what happened while serving comes in as data again.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from shopkeeper.analysis import promises
from shopkeeper.analysis import steps as reports
from shopkeeper.assets import contracts
from shopkeeper.clean import apply, arrivals, identity, kinds, repairs
from shopkeeper.collect.land import land
from shopkeeper.config import Settings
from shopkeeper.engine.steps import Step
from shopkeeper.evaluation import value
from shopkeeper.evaluation.compare import compare
from shopkeeper.evaluation.picture_trial import given_files, learn_pictures
from shopkeeper.evaluation.trial import asset_name, run_trial
from shopkeeper.features.steps import IMAGE_ENCODER, make_items, make_sequences
from shopkeeper.features.ties import FOLLOWS
from shopkeeper.models.image_encoder import OPTIONS as OF_PICTURES
from shopkeeper.models.registry import (
    reads_pictures,
    reads_ties,
    source_digest,
    takes_members,
)
from shopkeeper.search.step import index
from shopkeeper.serving import loop
from shopkeeper.serving.feedback import land_answers, land_events, land_items
from shopkeeper.serving.publish import publish
from shopkeeper.words import CORE, KINDS

# how often each place is looked at, and in which answers
PLACES = (loop.ASSET, "raw.answers")


def steps(settings: Settings, also: Sequence[str] = ()) -> tuple[Step, ...]:
    """Every step of the shop's loop, in an order in which each finds what it reads.

    Args:
        also: those of the optional tables (`words.KINDS`) that the shop has.
    """
    more = tuple(table for table in KINDS if table in also)
    return (
        *(_collect(table) for table in ("events", "shops", "items", "users", "images", *more)),
        Step("collect.feedback", (), ("raw.feedback",), land_events, outside=True),
        Step("collect.answers", (), ("raw.answers",), land_answers, outside=True),
        Step("collect.item_writes", ("raw.items",), ("raw.item_writes",), land_items, outside=True),
        _clean("shops", apply.shops_step),
        _clean("items", apply.items_step, ("raw.item_writes", "clean.shops"), needs=()),
        _clean("users", apply.users_step),
        _clean("images", apply.images_step),
        *(_kind(table, more) for table in more),
        *_identity(settings),
        _clean("events", arrivals.events_step, ("raw.feedback", "raw.item_writes", "clean.items", "quarantine.items", "clean.shops", *_stitched(settings)), needs=()),
        *reports.steps(more),
        Step(
            "features.items", ("clean.items", "clean.events"), ("features.items",),
            make_items, needs=("clean.events",),
        ),
        Step(
            "features.sequences", ("clean.events",), ("features.sequences",),
            make_sequences, lambda s, _: {"kinds": s.features.kinds}, needs=("clean.events",),
        ),
        Step(
            "quality.loop", loop.READS, (loop.ASSET,),
            loop.check_loop, lambda s, _: {"loop": s.loop}, needs=("clean.events", "features.sequences"),
        ),
        *_pictures(settings),
        *(_train(spelling, settings, more) for spelling in _in_order(settings.models)),
        Step(
            "report.leaderboard", tuple(f"evaluations.{m}" for m in _names(settings)),
            ("reports.leaderboard",), compare, _compared,
        ),
        Step("index.search", ("clean.items", "clean.events", "features.items", "raw.item_writes", *PLACES), ("indexes.search",), index, needs=("features.items",)),
        Step(
            "release", _served(settings), ("releases.main",), publish,
            lambda s, _: {"models": s.models, "gate": s.gate, "serving": s.serving, "split": s.split},
            needs=("features.sequences", *(f"models.{m}" for m in _names(settings))),
        ),
    )  # fmt: skip


def values(settings: Settings) -> Step:
    """What each asset and column is worth: no part of the loop, as it takes minutes; asked for, or nightly."""
    models = tuple(f"evaluations.{name}" for name in _names(settings))
    return Step(
        "value.assets", (*value.READS, *models), (value.ASSET,), value.measure_values,
        lambda s, _: {"value": s.value, "split": s.split, "features": s.features},
        needs=("clean.events", "features.items", "features.sequences"),
    )  # fmt: skip


def _collect(table: str) -> Step:
    makes = (f"raw.{table}", f"unread.{table}")
    return Step(f"collect.{table}", (), makes, partial(land, table=table), outside=True)


def _clean(table: str, work: Any, also: tuple[str, ...] = (), needs: Any = None) -> Step:
    reads = (f"raw.{table}", *also, repairs.name_of(table))
    makes = (f"clean.{table}", f"quarantine.{table}", f"quality.{table}")
    needs = (f"raw.{table}",) if needs is None else needs

    def parameters(settings: Settings, folder: Path) -> Mapping[str, Any]:
        return {"clean": settings.clean, "contract": contracts.digest(folder, table)}

    check, watch = partial(promises.check, table=table), partial(promises.watch, table=table)
    return Step(f"clean.{table}", reads, makes, work, parameters, needs, check=check, watch=watch)


def _kind(table: str, there: Sequence[str]) -> Step:
    """Cleaning of a table that its contract describes whole."""
    named = kinds.refers_to(contracts.built_in(table))
    also = [f"clean.{one}" for one in named if one in CORE or one in there]
    if "clean.items" in also:
        also.append("quarantine.items")
    return _clean(table, partial(kinds.table_step, table=table), tuple(also))


def _identity(settings: Settings) -> tuple[Step, ...]:
    """Who is whom, before events are cleaned: only where shop.toml declares keys."""
    if not settings.identity.keys:
        return ()
    return (
        Step(
            "clean.identity", ("clean.users", "raw.events", "raw.feedback", identity.DECISIONS),
            (identity.IDENTITIES, identity.LINKS, identity.MOVED),
            identity.identity_step, lambda s, _: {"identity": s.identity},
        ),
    )  # fmt: skip


def _stitched(settings: Settings) -> tuple[str, ...]:
    return (identity.IDENTITIES, identity.MOVED) if settings.identity.keys else ()


def _in_order(models: Sequence[str]) -> list[str]:
    """Models that are made of others after all others."""
    return sorted(models, key=takes_members)


def _train(spelling: str, shop: Settings, more: tuple[str, ...]) -> Step:
    name = asset_name(spelling)
    members = [] if not takes_members(spelling) else [
        asset_name(one) for one in shop.models if not takes_members(one)
    ]  # fmt: skip
    parts = [f"{layer}.{one}" for one in members for layer in ("models", "evaluations")]

    def parameters(settings: Settings, folder: Path) -> Mapping[str, Any]:
        told = ("features", "split", "training")
        own = {"model": spelling, "source": source_digest(spelling, folder)}
        return {**own, **{part: getattr(settings, part) for part in told}}

    needs = ("features.items", "features.sequences")
    makes = (f"models.{name}", f"evaluations.{name}")
    if reads_pictures(spelling):
        parts.append(IMAGE_ENCODER)
    if reads_ties(spelling) and "follows" in more:
        parts.append(FOLLOWS)
    return Step(
        f"train.{name}",
        (*needs, *parts),
        makes,
        partial(run_trial, spelling=spelling),
        parameters,
        needs=needs,
    )


def _pictures(settings: Settings) -> tuple[Step, ...]:
    """The image encoder: only where a model looks at what it saw."""
    if not any(map(reads_pictures, settings.models)):
        return ()
    reads = ("clean.images", "features.items", "features.sequences")

    def parameters(shop: Settings, folder: Path) -> Mapping[str, Any]:
        told = {"seed": shop.training.seed, "split": shop.split}
        options = shop.training.options.get(OF_PICTURES, {})
        return {**told, "options": options, "files": given_files(options, folder)}

    return (
        Step("train.image_encoder", reads, (IMAGE_ENCODER,), learn_pictures, parameters, reads),
    )


def _compared(settings: Settings, _: Path) -> Mapping[str, Any]:
    return {"models": settings.models, "metric": settings.gate.metric}


def _names(settings: Settings) -> tuple[str, ...]:
    return tuple(asset_name(spelling) for spelling in settings.models)


def _served(settings: Settings) -> tuple[str, ...]:
    made = ((f"models.{name}", f"evaluations.{name}") for name in _names(settings))
    base = (
        "clean.items",
        "clean.events",
        "clean.users",
        "raw.item_writes",
        *PLACES,
        "features.items",
        "features.sequences",
        "indexes.search",
        *((identity.IDENTITIES,) if settings.identity.keys else ()),
        *((IMAGE_ENCODER,) if any(map(reads_pictures, settings.models)) else ()),
    )
    return (*base, *(asset for pair in made for asset in pair))


def mermaid(settings: Settings) -> str:
    """The loop as a Mermaid flowchart, one box a group of steps, one arrow an asset handed over."""
    made_by = {asset: step.group for step in steps(settings) for asset in step.makes}
    arrows: dict[tuple[str, str], set[str]] = {}
    for step in steps(settings):
        for asset in step.reads:
            if (giver := made_by.get(asset, "")) not in ("", step.group):
                layer = asset.partition(".")[0] + ".*"
                arrows.setdefault((giver, step.group), set()).add(layer)
    lines = ["flowchart LR", "  files[(files, SQL, streams, hooks)] --> collect"]
    lines += [
        f"  {giver} -->|{', '.join(sorted(assets))}| {taker}"
        for (giver, taker), assets in arrows.items()
    ]
    lines += [
        "  release --> serve([serve: search, recommend])",
        "  serve -->|events, item writes| collect",
    ]
    return "\n".join(lines)
