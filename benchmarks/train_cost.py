"""CPU seconds of learning to an NDCG@10: our transformer beside RecTools' SASRec.

One thread each, the same split, the same validation users and metric (full ranking, history
dropped), the same width, layers and heads; time spent on validating is counted for neither.
RecTools lives in an environment of its own, because its pins are not ours:

    python -m venv /tmp/rectools
    /tmp/rectools/bin/pip install "rectools[torch]==0.19.*" "torch==2.13.0"
    python benchmarks/train_cost.py --data DIR --rectools /tmp/rectools/bin/python --epochs 12

DIR holds the S3-Rec form of Amazon Beauty (sequences.txt.gz). Without --rectools only our side is
run. RecTools learns with sampled softmax over 256 negatives, the loss and number of negatives its
authors report as their best SASRec on this file. `--epochs` bounds it; the report says what it had
reached by then and never guesses beyond.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VALIDATION_USERS = 6000
K = 10


def cpu_seconds() -> float:
    """CPU seconds of this process and of children that have ended."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def ours(data: Path, seed: int, split_file: Path) -> list[dict[str, Any]]:
    """Rows {epoch, cpu_seconds, NDCG@10, HR@10} of our transformer; writes the split for others."""
    import numpy as np

    from shopkeeper.evaluation.benchmarks import PROTOCOLS
    from shopkeeper.evaluation.leaderboard import validator
    from shopkeeper.evaluation.splits import sample
    from shopkeeper.models.protocol import TrainingData
    from shopkeeper.models.transformer import Transformer

    how = PROTOCOLS["amazon_beauty"]
    split = how.read(data)
    asked = sample(split.validation, VALIDATION_USERS, 0)
    names = {name: row for row, name in enumerate(split.train.users)}
    np.savez(
        split_file,
        offsets=split.train.offsets,
        items=split.train.items,
        users=np.array([names[name] for name in asked.histories.users]),
        targets=asked.first_targets,
    )
    options = dict(how.settings["options"]["transformer"])
    options |= {"validate_every": 2, "validate_from": 2}
    model = Transformer()
    model.fit(
        TrainingData(
            sequences=split.train,
            items=split.items,
            seed=seed,
            threads=1,
            settings={"options": {"transformer": options}},
            validate=validator(
                split.validation, exclude_seen=True, sample_size=VALIDATION_USERS, seed=0
            ),
            progress=lambda done, total, text: print(text, file=sys.stderr, flush=True),
        )
    )
    rows = [
        {
            "epoch": row["epoch"],
            "cpu_seconds": row["learning_cpu_seconds"],
            "NDCG@10": row["NDCG@10"],
            "HR@10": row["HR@10"],
        }
        for row in model.card["curve"]
        if "NDCG@10" in row
    ]
    blend = model.card["local"]
    rows.append(
        {
            "epoch": model.card["best_epoch"],
            "cpu_seconds": model.card["curve"][-1]["learning_cpu_seconds"]
            + model.card["local"]["cpu_seconds"],
            "NDCG@10": max(blend["tried"].values()),
            "with": "the local rule added",
        }
    )
    return rows


def rectools(split_file: Path, seed: int, epochs: int) -> None:
    """Runs in RecTools' environment; prints one JSON row an epoch."""
    import logging
    import warnings

    import numpy as np
    import pandas as pd
    import rectools as library
    import torch
    from pytorch_lightning import Trainer, seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    seed_everything(seed, verbose=False)
    with np.load(split_file) as split:
        offsets, items = split["offsets"], split["items"]
        users, targets = split["users"], split["targets"]
    lengths = np.diff(offsets)
    place = np.arange(len(items)) - np.repeat(offsets[:-1], lengths)
    known = Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: np.repeat(np.arange(len(lengths)), lengths),
                Columns.Item: items,
                Columns.Weight: 1.0,
                Columns.Datetime: pd.Timestamp("2020-01-01") + pd.to_timedelta(place, unit="h"),
            }
        )
    )

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=epochs,
            min_epochs=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            accelerator="cpu",
            devices=1,
        )

    model = SASRecModel(
        n_blocks=2,
        n_heads=2,
        n_factors=64,
        dropout_rate=0.5,
        session_max_len=50,
        loss="sampled_softmax",
        n_negatives=256,
        lr=1e-3,
        batch_size=128,
        epochs=epochs,
        recommend_batch_size=512,
        get_trainer_func=trainer,
    )
    spent = 0.0
    for epoch in range(1, epochs + 1):
        before = cpu_seconds()
        model.fit_partial(known, min_epochs=1, max_epochs=1)
        spent += cpu_seconds() - before
        lists = model.recommend(
            users, known, k=K, filter_viewed=True, on_unsupported_targets="ignore"
        )
        wanted = pd.Series(targets, index=users)
        hit = lists[Columns.Item].to_numpy() == wanted[lists[Columns.User]].to_numpy()
        gain = hit / np.log2(lists[Columns.Rank].to_numpy() + 1.0)
        row = {
            "epoch": epoch,
            "cpu_seconds": round(spent, 1),
            "NDCG@10": round(float(gain.sum()) / len(users), 6),
            "HR@10": round(float(hit.sum()) / len(users), 6),
            "version": library.__version__,
        }
        print(json.dumps(row), flush=True)


def _first_at(rows: list[dict[str, Any]], wanted: float) -> dict[str, Any] | None:
    return next((row for row in rows if row["NDCG@10"] >= wanted), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="folder with sequences.txt.gz")
    parser.add_argument("--rectools", help="python of an environment with RecTools 0.19")
    parser.add_argument("--epochs", type=int, default=12, help="bound on RecTools' epochs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split-file", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.split_file is not None:
        rectools(asked.split_file, asked.seed, asked.epochs)
        return
    if asked.data is None:
        parser.error("--data DIR names the folder that holds sequences.txt.gz")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    with tempfile.TemporaryDirectory() as folder:
        split_file = Path(folder) / "split.npz"
        mine = ours(asked.data, asked.seed, split_file)
        theirs: list[dict[str, Any]] = []
        if asked.rectools:
            command = [asked.rectools, __file__, "--split-file", str(split_file)]
            command += ["--epochs", str(asked.epochs), "--seed", str(asked.seed)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
                for line in running.stdout or ():
                    theirs.append(json.loads(line))
                    print(f"RecTools {line.strip()}", file=sys.stderr, flush=True)
            if running.returncode:
                raise SystemExit(f"RecTools ended with status {running.returncode}")
    result: dict[str, Any] = {"ours": mine, "rectools": theirs}
    if theirs:
        best = max(theirs, key=lambda row: row["NDCG@10"])
        level = _first_at(mine, best["NDCG@10"])
        result["rectools_best_within_bound"] = best
        result["rectools_still_rising"] = best is theirs[-1]
        result["ours_at_that_level"] = level
        if level:
            result["times_fewer_cpu_seconds"] = round(best["cpu_seconds"] / level["cpu_seconds"], 1)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
