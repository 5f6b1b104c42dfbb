import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopkeeper.errors import InputError
from shopkeeper.evaluation.splits import leave_one_out
from shopkeeper.evaluation.tuning import JOURNAL, LOG, Range, Search, search, space_of
from shopkeeper.features.items import bare
from shopkeeper.features.sequences import pack

pytest.importorskip("optuna", reason="the extra [tune] is not installed")

ITEMS, USERS = 30, 200


def make(folder: Path, **options: Any) -> Search:
    rng = np.random.default_rng(1)
    walked = (rng.integers(0, ITEMS, USERS)[:, None] + np.arange(5) * 3) % ITEMS
    split = leave_one_out(pack([f"u{n}" for n in range(USERS)], [5] * USERS, walked.ravel()))
    told: dict[str, Any] = {
        "model": "sequence_knn",
        "space": {"window": Range(1, 4), "decay": Range(0.4, 1.0)},
        "trials": 6,
    }
    return Search(
        train=split.train,
        items=bare([str(n) for n in range(ITEMS)]),
        validation=split.validation,
        exclude_seen=True,
        folder=str(folder),
        **{**told, **options},
    )


@pytest.mark.parametrize("method", ["grid", "random", "tpe"])
def test_every_method_finds_settings_on_validation_and_keeps_every_trial(
    method: Any, tmp_path: Path
) -> None:
    told = search(make(tmp_path, method=method))
    assert len(told["trials"]) == 6
    assert told["best"]["value"] == max(row["value"] for row in told["trials"])
    assert json.loads((tmp_path / LOG).read_text())["best"] == told["best"]
    if method == "grid":
        drawn = {tuple(row["settings"].values()) for row in told["trials"]}
        assert len(drawn) == 6


def test_a_search_goes_on_from_its_last_trial_and_ends_as_one_that_was_not_stopped(
    tmp_path: Path,
) -> None:
    whole = search(make(tmp_path / "whole"))
    search(make(tmp_path / "parts", trials=3))
    parts = search(make(tmp_path / "parts"))
    assert [row["trial"] for row in parts["trials"]] == list(range(6))
    assert [row["settings"] for row in parts["trials"]][:3] == [
        row["settings"] for row in whole["trials"]
    ][:3]


def test_a_killed_search_keeps_its_trials_and_counts_the_one_that_ran_as_failed(
    tmp_path: Path,
) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_tuning import make; from shopkeeper.evaluation.tuning import search\n"
        f"from pathlib import Path; search(make(Path({str(tmp_path)!r}), trials=100_000))"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    journal, until = tmp_path / JOURNAL, time.monotonic() + 60
    while time.monotonic() < until and (
        not journal.exists() or journal.read_bytes().count(b"decay") < 4
    ):
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    there = journal.read_bytes().count(b'"param_name":"decay"')
    told = search(make(tmp_path, trials=there + 3))
    assert sum(row["state"] == "complete" for row in told["trials"]) == there + 3
    assert all(row["state"] in ("complete", "fail") for row in told["trials"])


@pytest.mark.slow
def test_a_trial_that_is_clearly_behind_is_stopped(tmp_path: Path) -> None:
    own = {"local": False, "batch_tokens": 400, "dim": 16, "max_epochs": 6, "patience": 6}
    told = search(
        make(
            tmp_path,
            model="rnn",
            method="random",
            trials=9,
            space={"learning_rate": (1e-6, 0.03)},
            settings={"options": {"rnn": own}},
        )
    )
    pruned = [row for row in told["trials"] if row["state"] == "pruned"]
    assert pruned
    assert all(row["settings"]["learning_rate"] == 1e-6 for row in pruned)
    assert told["best"]["settings"]["learning_rate"] == 0.03


@pytest.mark.slow
def test_two_workers_share_the_trials(tmp_path: Path) -> None:
    told = search(make(tmp_path, trials=6), workers=2)
    assert 6 <= sum(row["state"] == "complete" for row in told["trials"]) <= 7


def test_another_search_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    search(make(tmp_path, trials=1))
    with pytest.raises(InputError, match="another search"):
        search(make(tmp_path, trials=1, seed=7))


def test_spaces_are_read_and_wrong_ones_told() -> None:
    told = space_of("own", ["layers=1:3", "rate=1e-4:1e-2:log", "cell=gru|lstm", "tags=true|false"])
    assert told == {
        "layers": Range(1, 3),
        "rate": Range(1e-4, 1e-2, log=True),
        "cell": ("gru", "lstm"),
        "tags": (True, False),
    }
    for wrong in ("layers", "layers=3:1", "rate=a:b", "rate=1:2:linear"):
        with pytest.raises(InputError, match="is no search space"):
            space_of("own", [wrong])
    with pytest.raises(InputError, match="no search space is known for 'own'"):
        space_of("own")
