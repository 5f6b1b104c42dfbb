"""Public benchmarks under their published protocols, on a folder that the caller has.

Every protocol ranks the whole catalogue (no sampled negatives), chooses on validation and scores
the test once. Published numbers are quoted only for the very files they were measured on, known by
their digest; another data set of the same form runs under the protocol with nothing to quote.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shopkeeper.errors import NotFound
from shopkeeper.evaluation import graph_files, sequence_files, session_files
from shopkeeper.evaluation.leaderboard import validator
from shopkeeper.evaluation.metrics import Evaluation, measure
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Examples, Sequences
from shopkeeper.models import registry
from shopkeeper.models.options import as_chosen
from shopkeeper.models.protocol import Progress, TrainingData, no_progress
from shopkeeper.training.trainer import peak_rss_mb

Published = Mapping[str, Mapping[str, float]]
KS = (5, 10, 20)
VALIDATION_USERS = 6000  # asked after an epoch: enough to tell .001 apart, a second of work


@dataclass(frozen=True)
class Cut:
    """A folder, read and cut as its protocol says."""

    train: Sequences
    items: ItemTable
    validation: Examples  # cut off from what may be learned from; nothing of it is in `train`
    test: Examples
    digest: str  # of the files: says which data set this is
    whole: Sequences | None = None  # `train` and validation, for a last fit where papers do so


@dataclass(frozen=True)
class Protocol:
    """How a folder of a known form is read and scored."""

    what: str
    read: Callable[[Path], Cut]
    digest: str  # of the data set that `published` speaks of
    published: Published
    settings: Mapping[str, Any]  # of the [training] section, chosen on validation
    exclude_seen: bool = True
    exclude_kinds: tuple[int, ...] = ()  # what the history has by these kinds is no candidate
    k: int = 10  # of the lists by which is chosen
    primary: str = "NDCG@10"
    also: Mapping[str, str] = field(default_factory=dict)  # the papers' name -> ours


def _leave_one_out(folder: Path, *, first_item_column: int) -> Cut:
    files = sequence_files.read(folder, first_item_column=first_item_column)
    split = sequence_files.leave_one_out(files.sequences)
    return Cut(split.train, files.items, split.validation, split.test, files.digest)


def _sessions(folder: Path) -> Cut:
    """Every training session's last click of a tenth of them, drawn once, is validation."""
    files = session_files.read(folder)
    train, validation = session_files.hold_out(files.train)
    return Cut(train, files.items, validation, files.test, files.digest, whole=files.train)


def _graph(folder: Path) -> Cut:
    """A tenth of every user's training items, drawn once, is validation: the papers have none."""
    files = graph_files.read(folder)
    train, validation = graph_files.hold_out(files.train)
    return Cut(train, files.items, validation, files.test, files.digest, whole=files.train)


def _behaviours(folder: Path) -> Cut:
    """One purchase of every user who has two in training, drawn once, is validation."""
    files = graph_files.read_behaviours(folder)
    train, validation = graph_files.hold_out_purchase(files.train)
    return Cut(train, files.items, validation, files.test, files.digest, whole=files.train)


def _hr_ndcg(hr: float, ndcg: float) -> dict[str, float]:
    return {"HR@10": hr, "NDCG@10": ndcg}


def _session(p: float, mrr: float) -> dict[str, float]:
    return {"P@20": p, "MRR@20": mrr}


def _recall_ndcg(recall: float, ndcg: float) -> dict[str, float]:
    return {"recall@20": recall, "NDCG@20": ndcg}


SESSION_NAMES = {"P@20": "HR@20"}  # what the session papers call it


PROTOCOLS: dict[str, Protocol] = {
    "amazon_beauty": Protocol(
        what="Amazon Beauty 2014 5-core (S3-Rec's file), leave-one-out, full ranking",
        read=partial(_leave_one_out, first_item_column=1),
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
                },
                "rnn": {
                    "dropout": 0.4,
                    "order_noise": 2.0,
                    "max_epochs": 44,
                    "validate_every": 4,
                    "validate_from": 20,
                    "patience": 2,
                },
                "ensemble": {"members": ("transformer", "rnn", "sequence_knn", "ease")},
            }
        },
    ),
    "ml1m_sequences": Protocol(
        what="MovieLens-1M as sequences (gSASRec's file), leave-one-out, full ranking",
        read=partial(_leave_one_out, first_item_column=0),
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
    "gowalla": Protocol(
        what="Gowalla check-ins (LightGCN's split), full ranking",
        read=_graph,
        digest="dfa299b38d46b9205db14b21e3d043e8e1a131beb876e6e0c5176b1db4b383f9",
        published={
            "GAT (BARS)": _recall_ndcg(0.1501, 0.1233),
            "NGCF (BARS)": _recall_ndcg(0.1570, 0.1327),
            "EASE (BARS)": _recall_ndcg(0.1765, 0.1467),
            "LightGCN (paper)": _recall_ndcg(0.1830, 0.1554),
            "GF-CF (BARS)": _recall_ndcg(0.1849, 0.1518),
            "SimpleX (RecZoo)": _recall_ndcg(0.1872, 0.1557),
            "NESCL (its repository)": _recall_ndcg(0.1917, 0.1617),
            "BSPM-EM (paper)": _recall_ndcg(0.1920, 0.1597),
        },
        settings={
            "options": {
                name: {
                    "item_dropout": 0.0,
                    "learning_rate": 0.02,
                    "temperature": 0.12,
                    "batch_users": 1024,
                    "learning_users": 10_000,
                    "max_epochs": 8,
                    "validate_from": 4,
                    "local_weights": [0.0, 0.5, 1.0, 2.0],
                }
                for name in ("gcn", "gat", "gtn")
            }
        },
        k=20,
        primary="NDCG@20",
    ),
    "taobao_multibehavior": Protocol(
        what="Taobao views, carts and purchases (MB-CGCN's split), the purchase held out, full ranking",
        read=_behaviours,
        digest="5475e87f11e4b6b84986c3198d74dfad22f40d0b9e6a6de7f7e496d32bdcd3f9",
        published={
            "LightGCN, purchases alone (MuLe repository)": _hr_ndcg(0.0411, 0.0240),
            "MB-CGCN (MuLe repository)": _hr_ndcg(0.1233, 0.0677),
            "MB-HGCN (MuLe repository)": _hr_ndcg(0.1299, 0.0690),
            "PKEF (MuLe repository)": _hr_ndcg(0.1385, 0.0785),
            "MuLe (its repository)": _hr_ndcg(0.1918, 0.1103),
        },
        settings={
            "options": {
                name: {
                    "asked": "purchase",
                    "item_dropout": 0.0,
                    "learning_rate": 0.002,
                    "temperature": 0.4,
                    "hidden": 0.2,
                    "batch_users": 1024,
                    "learning_users": 6_000,
                    "max_epochs": 4,
                    "validate_from": 3,
                    "validate_every": 1,
                    "local": False,
                }
                for name in ("gcn", "gat", "gtn")
            }
        },
        exclude_seen=False,
        exclude_kinds=(graph_files.BOUGHT,),
    ),
    "diginetica_sessions": Protocol(
        what="Diginetica sessions (GCE-GNN's files), next item, repeats count, full ranking",
        read=_sessions,
        digest="444b8c01adebf7d2467e697435fdeb5f8f99ba7779227f0d82d7595ce4f62e3e",
        published={
            "SR-GNN (paper)": _session(0.5073, 0.1759),
            "DHCN (paper, from memory)": _session(0.5318, 0.1844),
            "GCE-GNN (paper, from memory)": _session(0.5422, 0.1904),
            "SGNN-HN (paper, from memory)": _session(0.5567, 0.1945),
        },
        settings={},
        exclude_seen=False,
        k=20,
        primary="MRR@20",
        also=SESSION_NAMES,
    ),
    "retailrocket_sessions": Protocol(
        what="RetailRocket sessions (COTREC's files), next item, repeats count, full ranking",
        read=_sessions,
        digest="09159234b977961f361837430d7b3361c3fa128bbb6a165304076f707568857d",
        published={
            "S2-DHCN (paper, from memory)": _session(0.5366, 0.2730),
            "COTREC (paper, from memory)": _session(0.5617, 0.2997),
        },
        settings={},
        exclude_seen=False,
        k=20,
        primary="MRR@20",
        also=SESSION_NAMES,
    ),
}


def protocol(name: str) -> Protocol:
    """The protocol called `name`; NotFound lists the known ones."""
    if name not in PROTOCOLS:
        known = "; ".join(f"{key}: {value.what}" for key, value in PROTOCOLS.items())
        known += "; chorus_icecat: product search on human ratings; clothing: pictures in classes"
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
    cut = how.read(data)
    chosen = dict(how.settings if settings is None else settings)
    learn = partial(TrainingData, items=cut.items, seed=seed, threads=threads, progress=progress)
    trained = kind()
    cpu = time.process_time()
    trained.fit(
        learn(
            sequences=cut.train,
            settings=chosen,
            primary=how.primary,
            validate=validator(
                cut.validation,
                exclude_seen=how.exclude_seen,
                exclude_kinds=how.exclude_kinds,
                sample_size=VALIDATION_USERS,
                k=how.k,
            ),
            validation=cut.validation,
            exclude_seen=how.exclude_seen,
        )
    )
    epochs = len(trained.card.get("curve", []))
    if cut.whole is not None:  # as the papers do: once more on all training data, as long as chosen
        chosen = as_chosen(chosen, model, trained.card)
        trained = kind()
        trained.fit(learn(sequences=cut.whole, settings=chosen))
    cpu = time.process_time() - cpu
    if inspect is not None:
        inspect(trained.card)
    found = measure(
        trained.scores, cut.test, KS, exclude_seen=how.exclude_seen,
        exclude_kinds=how.exclude_kinds, groups=False, progress=progress,
    )  # fmt: skip
    metrics = found.metrics | {name: found.metrics[ours] for name, ours in how.also.items()}
    if how.exclude_kinds:
        metrics |= _seen_and_unseen(cut.test, found)
    return {
        "benchmark": name,
        "model": model,
        "seed": seed,
        "metrics": {key: round(value, 6) for key, value in metrics.items()},
        "epochs": epochs,
        "train_cpu_seconds": round(cpu, 1),
        "peak_rss_mb": peak_rss_mb(),
        "published": dict(how.published) if cut.digest == how.digest else {},
    }


def _seen_and_unseen(test: Examples, found: Evaluation) -> dict[str, float]:
    """HR@10 and NDCG@10 of targets that the history has by another kind, and of those it has not."""
    histories = test.histories
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    met = histories.items == test.first_targets[owner]
    seen = np.bincount(owner[met], minlength=len(test)) > 0
    return {
        f"{name}, {part} targets": float(np.mean(found.per_user[name][rows], dtype=np.float64))
        for name in ("HR@10", "NDCG@10")
        for part, rows in (("seen", seen), ("unseen", ~seen))
        if rows.any()
    }
