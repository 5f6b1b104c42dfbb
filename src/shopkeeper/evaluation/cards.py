"""Run cards: what a model learned from, what it cost, how good it is and for whom, and its limits.

Written for people who did not train it. Everything on a card was measured in the run that made the
model, but for energy, which is CPU seconds times `WATTS` and says so.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shopkeeper.evaluation.leaderboard import interval
from shopkeeper.evaluation.metrics import Evaluation
from shopkeeper.training.trainer import peak_rss_mb

WATTS = 10.0  # of one busy core with its share of memory and power supply; no meter was read
SHOWN = ("NDCG@10", "HR@10", "recall@20", "MRR@10", "MAP@10", "precision@10", "f1@10")
SEGMENTS = {
    "users_new": "people without a history",
    "users_returning": "people with a history",
    "items_head": "the fifth of the items with most events",
    "items_tail": "the other items",
    "items_cold": "items without any event in training",
    "targets_seen": "what the person had before",
    "targets_unseen": "what the person had not had",
}
FEW = 100  # people in a segment; its figure is then hardly more than chance


@dataclass
class Cost:
    """CPU and wall-clock seconds since it was made, of this process."""

    began: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def told(self) -> dict[str, Any]:
        cpu = time.process_time() - self.cpu
        return {
            "seconds": round(time.perf_counter() - self.began, 2),
            "cpu_seconds": round(cpu, 2),
            "peak_memory_mb": peak_rss_mb(),
            "energy_wh_estimate": round(cpu * WATTS / 3600.0, 3),
            "energy_note": f"{WATTS:g} W a busy core, assumed",
        }


def run_card(
    name: str,
    *,
    evaluation: Evaluation,
    card: Mapping[str, Any],
    split: Mapping[str, Any],
    versions: Mapping[str, str],
    cost: Mapping[str, Any],
    attributes: Mapping[str, Any],
    refit: bool,
    seed: int,
) -> dict[str, Any]:
    """The card as JSON.

    Args:
        card: the model's own, of the fit that was measured.
        split: `Split.card()`.
        versions: asset -> version id of what was learned from.
        cost: `Cost.told()` of the measured fit.
        attributes: `items_as_of`'s account.
        refit: whether what serves was fitted again on all events.
    """
    metrics = {}
    for key in SHOWN:
        if key in evaluation.per_user:
            found = interval(evaluation.per_user[key])
            metrics[key] = {
                "value": round(found.mean, 6),
                "low": round(found.low, 6),
                "high": round(found.high, 6),
            }
    segments = {
        key: {"what": what, **{k: round(float(v), 6) for k, v in evaluation.groups[key].items() if k in ("count", "users", *SHOWN)}}
        for key, what in SEGMENTS.items()
        if key in evaluation.groups
    }  # fmt: skip
    return {
        "model": name,
        "what": card.get("what", "a model of the shop's own"),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": dict(versions),
        "split": dict(split),
        "seen_items": "excluded" if evaluation.exclude_seen else "allowed",
        "seed": seed,
        "parameters": card.get("parameters"),
        "settings": card.get("chosen", {}),
        "learning": {k: card[k] for k in ("best_epoch", "stopped", "loss", "device", "threads", "teacher") if card.get(k) is not None},
        "cost": dict(cost),
        "metrics": metrics,
        "examples": evaluation.examples,
        "items": evaluation.items,
        "segments": segments,
        "item_attributes": dict(attributes),
        "serves": "fitted again on all events" if refit else "as measured",
        "limits": limits(evaluation, card, split, attributes, refit=refit),
    }  # fmt: skip


def limits(
    evaluation: Evaluation,
    card: Mapping[str, Any],
    split: Mapping[str, Any],
    attributes: Mapping[str, Any],
    *,
    refit: bool,
) -> list[str]:
    """What a reader should not take from the figures, as found in this run."""
    told = []
    if split["by"] == "leave_one_out":
        told.append(
            "Split by each user's last event: some of what was learned from is newer than what is "
            "asked, so figures look better than they would in service."
        )
    if refit:
        told.append(
            "The figures are of the model fitted on the past; what serves was fitted again on all "
            "events, with the same settings, and could not be measured."
        )
    for key, group in evaluation.groups.items():
        people = group.get("users", group["count"])
        if key in SEGMENTS and 0 < people < FEW:
            told.append(f"Only {people:.0f} examples with {SEGMENTS[key]}: that figure is mostly chance.")  # fmt: skip
        if key in SEGMENTS and not group["count"]:
            told.append(f"Nobody in the test is asked about {SEGMENTS[key]}: nothing is known of them.")  # fmt: skip
    if attributes.get("undated"):
        told.append(
            f"{attributes['undated']:,} items with numbers have no updated_at: their numbers may be "
            "newer than the test."
        )
    if str(card.get("stopped", "")).startswith("max_minutes"):
        told.append("Learning was stopped by max_minutes; more time may have made it better.")
    for what, why in dict(card.get("switched_off", {})).items():
        told.append(f"It does not use {what}: {why}.")
    told.append(
        "Measured on what people did when shown other lists; what they would do with these is known "
        "only from serving."
    )
    return told


def as_markdown(card: Mapping[str, Any]) -> str:
    """The card for people, as Markdown."""
    cost, split = card["cost"], card["split"]
    lines = [
        f"# {card['model']}",
        "",
        f"{_sentence(card['what'])} Made {card['made_at']}; {card['serves']} to serve.",
        "",
        "## Data",
        *(f"- {name}: version {version}" for name, version in card["data"].items()),
        f"- split by {split['by']}: learned from {split['train_events']:,} events of "
        f"{split['train_users']:,} users, chosen on {split['validation_users']:,}, tested on "
        f"{split['test_users']:,} ({split['test_new_users']:,} of them new); seen items {card['seen_items']}",
        "",
        "## Cost",
        f"{cost['cpu_seconds']:,} CPU s, {cost['seconds']:,} s by the clock, at most "
        f"{cost['peak_memory_mb']:,} MB of memory, about {cost['energy_wh_estimate']} Wh ({cost['energy_note']}); "
        + (f"{card['parameters']:,} parameters" if card["parameters"] else "no count of parameters"),
        "",
        f"## How good, over {card['examples']:,} examples and {card['items']:,} items",
        "| metric | value | 95% interval |",
        "|---|---|---|",
        *(
            f"| {key} | {one['value']:.4f} | {one['low']:.4f}–{one['high']:.4f} |"
            for key, one in card["metrics"].items()
        ),
        "",
        "## For whom",
        "| segment | examples | NDCG@10 | HR@10 |",
        "|---|---|---|---|",
        *(
            f"| {one['what']} | {one.get('users', one['count']):,.0f} | {_number(one, 'NDCG@10')} | {_number(one, 'HR@10')} |"
            for one in card["segments"].values()
        ),
        "",
        "## Settings",
        ", ".join(f"{key} = {value}" for key, value in {**card["settings"], **card["learning"], "seed": card["seed"]}.items()),
        "",
        "## Limits",
        *(f"- {text}" for text in card["limits"]),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _number(one: Mapping[str, Any], key: str) -> str:
    return f"{one[key]:.4f}" if key in one else "–"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
