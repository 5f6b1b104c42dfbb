"""Public benchmarks under their published protocols, on a folder that the caller has.

Every protocol ranks the whole catalogue (no sampled negatives), chooses on validation and scores
the test once. Published numbers are quoted only for the very files they were measured on, known by
their digest; another data set of the same form runs under the protocol with nothing to quote.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopkeeper.errors import NotFound
from shopkeeper.evaluation import sequence_files
from shopkeeper.evaluation.leaderboard import validator
from shopkeeper.evaluation.metrics import measure
from shopkeeper.models import registry
from shopkeeper.models.protocol import Progress, TrainingData, no_progress
from shopkeeper.training.trainer import peak_rss_mb

Published = Mapping[str, Mapping[str, float]]
KS = (5, 10, 20)
VALIDATION_USERS = 6000  # asked after an epoch: enough to tell .001 apart, a second of work


@dataclass(frozen=True)
class Protocol:
    """How a folder of a known form is read and scored."""

    what: str
    first_item_column: int  # 1 where a line of the file starts with the user's id
    digest: str  # of the data set that `published` speaks of
    published: Published
    settings: Mapping[str, Any]  # of the [training] section, chosen on validation


def _hr_ndcg(hr: float, ndcg: float) -> dict[str, float]:
    return {"HR@10": hr, "NDCG@10": ndcg}


PROTOCOLS: dict[str, Protocol] = {
    "amazon_beauty": Protocol(
        what="Amazon Beauty 2014 5-core (S3-Rec's file), leave-one-out, full ranking",
        first_item_column=1,
        digest="226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
        published={
            "PopRec (S3-Rec repository)": _hr_ndcg(0.0152, 0.0068),
            "GRU4Rec (S3-Rec repository)": _hr_ndcg(0.0283, 0.0137),
            "Caser (S3-Rec repository)": _hr_ndcg(0.0347, 0.0176),
            "SASRec, BCE (S3-Rec repository)": _hr_ndcg(0.0605, 0.0318),
            "S3-Rec (its repository)": _hr_ndcg(0.0647, 0.0327),
            "SASRec, sampled softmax (eSASRec repository)": _hr_ndcg(0.0921, 0.0531),
            "eSASRec (its repository)": _hr_ndcg(0.0928, 0.0523),
            "BSARec (its repository's log)": _hr_ndcg(0.1008, 0.0611),
        },
        settings={
            "options": {
                "transformer": {
                    "dropout": 0.4,
                    "order_noise": 2.0,
                    "max_epochs": 44,
                    "validate_every": 4,
                    "validate_from": 20,
                    "patience": 2,
                }
            }
        },
    ),
    "ml1m_sequences": Protocol(
        what="MovieLens-1M as sequences (gSASRec's file), leave-one-out, full ranking",
        first_item_column=0,
        digest="97f1c3ada0c6c6171417e5ada55ad6f89d16475e348c035a378eab0cbad8024a",
        published={
            "SASRec, BCE (gSASRec repository)": _hr_ndcg(0.2392, 0.1259),
            "BERT4Rec (Turning Dross repository)": _hr_ndcg(0.2843, 0.1537),
            "gSASRec (its repository)": _hr_ndcg(0.3003, 0.1726),
            "SASRec, full cross-entropy (Turning Dross repository)": _hr_ndcg(0.3152, 0.1821),
            "SASRec, 3000 sampled negatives (Turning Dross repository)": _hr_ndcg(0.3159, 0.1857),
        },
        settings={
            "options": {
                "transformer": {
                    "max_length": 200,
                    "dropout": 0.2,
                    "max_epochs": 60,
                    "validate_every": 4,
                    "validate_from": 12,
                    "patience": 2,
                }
            }
        },
    ),
}


def protocol(name: str) -> Protocol:
    """The protocol called `name`; NotFound lists the known ones."""
    if name not in PROTOCOLS:
        known = "; ".join(f"{key}: {value.what}" for key, value in PROTOCOLS.items())
        known += "; chorus_icecat: product search on human ratings"
        raise NotFound(
            f"no benchmark {name!r}",
            where="bench",
            next=f"there are: {known}",
        )
    return PROTOCOLS[name]


def run_benchmark(
    name: str,
    data: Path,
    model: str,
    seed: int = 42,
    progress: Progress = no_progress,
    *,
    threads: int = 2,
    settings: Mapping[str, Any] | None = None,
    inspect: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train `model` on the training part of `data`, choose on validation, score the test once.

    Args:
        name: a key of PROTOCOLS.
        data: a folder of that protocol's form.
        model: a built-in name or "package.module:Class".
        settings: replaces the protocol's settings of the [training] section (ablations).
        inspect: called with the trained model's card.
    Returns:
        {"benchmark", "model", "seed", "metrics", "epochs", "train_cpu_seconds", "peak_rss_mb",
        "published"}; metrics over all users at K = 5, 10, 20 and top 1; epochs 0 for rules.
    Raises:
        NotFound: no such benchmark, folder or model; InputError: the files cannot be read.
    """
    how = protocol(name)
    kind = registry.resolve(model)
    files = sequence_files.read(data, first_item_column=how.first_item_column)
    split = sequence_files.leave_one_out(files.sequences)
    trained = kind()
    cpu = time.process_time()
    trained.fit(
        TrainingData(
            sequences=split.train,
            items=files.items,
            seed=seed,
            threads=threads,
            settings=dict(how.settings if settings is None else settings),
            validate=validator(split.validation, exclude_seen=True, sample_size=VALIDATION_USERS),
            progress=progress,
        )
    )
    cpu = time.process_time() - cpu
    if inspect is not None:
        inspect(trained.card)
    found = measure(
        trained.scores, split.test, KS, exclude_seen=True, groups=False, progress=progress
    )
    return {
        "benchmark": name,
        "model": model,
        "seed": seed,
        "metrics": {key: round(value, 6) for key, value in found.metrics.items()},
        "epochs": len(trained.card.get("curve", [])),
        "train_cpu_seconds": round(cpu, 1),
        "peak_rss_mb": peak_rss_mb(),
        "published": dict(how.published) if files.digest == how.digest else {},
    }
