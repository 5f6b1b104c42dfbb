"""Settings of a model, searched for on validation: grid, random or TPE, by Optuna.

A trial fits the model on the past with some settings and is worth what validation says of it; one
that is clearly behind the others after as many epochs is stopped (median rule). Nothing of the test
is read here. Every trial goes into a journal as it happens, so that a search that was killed goes
on from its last trial, and several workers (processes, or Ray tasks on machines that share the
folder) can search together. Optuna is an extra: pip install 'shopkeeper[tune]'.

Sources: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011 (TPE); Bergstra
& Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 2012; Akiba et al., "Optuna", KDD 2019.
"""

import importlib
import json
import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from shopkeeper.assets.durable import make_folder, write_bytes
from shopkeeper.errors import InputError, NotReady
from shopkeeper.evaluation.leaderboard import validator
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Examples, Sequences
from shopkeeper.models import registry
from shopkeeper.models.protocol import Model, Progress, TrainingData, no_progress

Method = Literal["grid", "random", "tpe"]
METHODS: tuple[Method, ...] = ("grid", "random", "tpe")
JOURNAL, LOG = "journal.log", "trials.json"
STARTUP = 5  # trials before the median rule stops any, and before TPE stops drawing at random
WARM = 2  # validations of a trial before it can be stopped
GRID_CUTS = 3  # values a range is cut into for a grid


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; whole ones where both are whole, on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def cuts(self) -> list[float]:
        """Values for a grid, both ends among them."""
        steps = [place / (GRID_CUTS - 1) for place in range(GRID_CUTS)]
        if self.log:
            found = [self.low * (self.high / self.low) ** step for step in steps]
        else:
            found = [self.low + (self.high - self.low) * step for step in steps]
        return sorted({round(one) for one in found}) if self.whole else found


Space = Mapping[str, "Range | tuple[Any, ...]"]

_SEQUENCES: dict[str, Range | tuple[Any, ...]] = {
    "dim": (32, 64, 96, 128),
    "dropout": Range(0.1, 0.6),
    "learning_rate": Range(3e-4, 3e-3, log=True),
    "order_noise": (1.0, 1.5, 2.0),
    "full_items": (0, 3000, 1_000_000),  # the loss: sampled softmax, or over the whole catalogue
    "negatives": (512, 1024, 2048, 4096),
    "average": (0.99, 0.998),
}
SPACES: dict[str, Space] = {
    "transformer": {
        **_SEQUENCES,
        "layers": Range(1, 3),
        "decoder_layers": (0, 1),
        "heads": (1, 2, 4),
        "wide": (2, 4),
    },
    "rnn": {**_SEQUENCES, "cell": ("gru", "lstm"), "hidden": (64, 128, 256), "layers": (1, 2)},
    "sequence_cnn": {
        **_SEQUENCES,
        "layers": Range(2, 4),
        "width": (3, 4, 5),
        "dilation": (2, 3, 4),
    },
    "gcn": {
        "dim": (64, 128),
        "layers": Range(1, 3),
        "temperature": Range(0.08, 0.25, log=True),
        "learning_rate": Range(1e-3, 2e-2, log=True),
        "hidden": (0.3, 0.5, 0.8),
    },
    "ease": {"penalty": Range(10.0, 2000.0, log=True), "decay": (0.8, 0.9, 1.0)},
    "sequence_knn": {"window": Range(2, 10), "backward": Range(0.2, 1.0), "decay": Range(0.4, 1.0)},
}


@dataclass(frozen=True)
class Search:
    """All that a worker has to know; it can be sent to another process or machine."""

    model: str
    train: Sequences
    items: ItemTable
    validation: Examples
    exclude_seen: bool
    folder: str  # of the journal and the log, seen by all workers at this path
    space: dict[str, Any]
    method: Method = "tpe"
    trials: int = 20
    seed: int = 42
    threads: int = 1
    primary: str = "NDCG@10"
    k: int = 10
    settings: dict[str, Any] = field(default_factory=dict)
    workspace: str | None = None
    minutes: float = 0.0  # a worker begins no trial after so long; 0: no limit


def space_of(model: str, told: Sequence[str] = ()) -> dict[str, Range | tuple[Any, ...]]:
    """The built-in space of `model`, or the one told: "dropout=0.1:0.5", "rate=1e-4:1e-2:log", "heads=1|2".

    InputError: no space is known and none is told, or one cannot be read.
    """
    if not told:
        if model not in SPACES:
            raise InputError(
                f"no search space is known for {model!r}; known: {', '.join(SPACES)}",
                where="tune",
                next='tell one: --space "dropout=0.1:0.5" --space "heads=1|2|4"',
            )
        return dict(SPACES[model])
    found: dict[str, Range | tuple[Any, ...]] = {}
    for text in told:
        name, _, values = text.partition("=")
        try:
            if not name or not values:
                raise ValueError
            if "|" in values or ":" not in values:
                found[name] = tuple(_value(one) for one in values.split("|"))
            else:
                low, high, *log = values.split(":")
                if log not in ([], ["log"]):
                    raise ValueError
                found[name] = Range(_number(low), _number(high), bool(log))
                if not float(low) < float(high):
                    raise ValueError
        except ValueError as error:
            raise InputError(
                f"{text!r} is no search space",
                where="--space",
                next='write name=low:high, name=low:high:log or name=a|b|c, e.g. "dropout=0.1:0.5"',
            ) from error
    return found


def search(
    one: Search, *, workers: int = 1, ray: str | None = None, progress: Progress = no_progress
) -> dict[str, Any]:
    """Run the trials that are left and return what was found.

    Args:
        workers: processes here, or Ray tasks with `ray` ("auto", or a cluster's address).
    Returns:
        {"model", "method", "primary", "best": {"trial", "value", "settings"} or None, "trials": [{"trial",
        "state", "value", "settings", "seconds", "epochs"}], "space", "machine"}; also in LOG.
    Raises:
        InputError: the folder holds a search of something else. NotReady: Optuna is not installed.
    """
    _optuna()
    folder = Path(one.folder)
    make_folder(folder)
    _same(folder, one)
    for stale in folder.glob(f"{JOURNAL}.lock*"):  # of a worker that was killed
        stale.unlink()
    study = _study(one)
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():  # was killed while it ran
            study.tell(trial.number, state=_optuna().trial.TrialState.FAIL)
    if workers <= 1 and ray is None:
        _work(one, progress=progress)
    elif ray is None:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for done in [pool.submit(_work, one, place) for place in range(workers)]:
                done.result()
    else:
        _on_ray(one, workers, ray)
    told = account(one)
    write_bytes(folder / LOG, (json.dumps(told, indent=1, default=str) + "\n").encode())
    return told


def account(one: Search) -> dict[str, Any]:
    """What all trials so far came to."""
    trials = []
    for trial in _study(one).get_trials(deepcopy=False):
        took = trial.duration.total_seconds() if trial.duration else None
        trials.append(
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "settings": trial.params,
                "seconds": took and round(took, 2),
                "epochs": len(trial.intermediate_values),
                "cpu_seconds": trial.user_attrs.get("cpu_seconds"),
            }
        )
    done = [row for row in trials if row["state"] == "complete"]
    best = max(done, key=lambda row: (row["value"], -row["trial"]), default=None)
    return {
        "model": one.model,
        "method": one.method,
        "primary": one.primary,
        "best": best and {key: best[key] for key in ("trial", "value", "settings")},
        "trials": trials,
        "space": {
            key: asdict(value) if isinstance(value, Range) else list(value)
            for key, value in one.space.items()
        },
        "seed": one.seed,
        "machine": {"cores": os.cpu_count(), "threads": one.threads},
    }


def as_toml(model: str, settings: Mapping[str, Any]) -> str:
    """Lines for shop.toml."""
    rows = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([f"[training.options.{model}]", *rows])


def _work(one: Search, worker: int = 0, progress: Progress = no_progress) -> None:
    """Trials until there are enough, in this process."""
    optuna = _optuna()
    study, until = _study(one, worker), time.monotonic() + 60.0 * one.minutes
    counted = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    most = one.trials if one.method != "grid" else min(one.trials, _grid_size(one.space))
    while True:
        there = study.get_trials(deepcopy=False)
        if sum(t.state in counted or not t.state.is_finished() for t in there) >= most:
            return
        if one.minutes and time.monotonic() > until:
            return
        progress(len(there), most, f"trial {len(there) + 1}")
        with _quiet():
            study.optimize(lambda trial: _trial(one, trial), n_trials=1)


def _trial(one: Search, trial: Any) -> float:
    """What validation says of the model under the settings that `trial` draws."""
    optuna, began = _optuna(), time.process_time()
    settings = {key: _draw(trial, key, space) for key, space in one.space.items()}
    check = validator(one.validation, exclude_seen=one.exclude_seen, k=one.k, sample_size=6000)
    steps, learned = 0, True

    def validate(model: Model) -> dict[str, float]:
        nonlocal steps, learned
        found = check(model)
        if learned:  # an epoch passed since; what is chosen after learning is no epoch
            steps, learned = steps + 1, False
            trial.report(found[one.primary], steps)
            if trial.should_prune():
                raise optuna.TrialPruned
        return found

    def progress(done: float, total: float, text: str) -> None:
        nonlocal learned
        learned = True

    workspace = Path(one.workspace) if one.workspace else None
    model = registry.resolve(one.model, workspace)()
    options = dict(one.settings.get("options", {}))
    name = type(model).name
    options[name] = {**options.get(name, {}), **settings}
    try:
        model.fit(
            TrainingData(
                sequences=one.train,
                items=one.items,
                seed=one.seed,
                threads=one.threads,
                settings={**one.settings, "options": options},
                validate=validate,
                primary=one.primary,
                validation=one.validation,
                exclude_seen=one.exclude_seen,
                progress=progress,
            )
        )
        return check(model)[one.primary]
    finally:
        trial.set_user_attr("cpu_seconds", round(time.process_time() - began, 2))


def _draw(trial: Any, name: str, space: Any) -> Any:
    if not isinstance(space, Range):
        return trial.suggest_categorical(name, list(space))
    if space.whole:
        return trial.suggest_int(name, int(space.low), int(space.high), log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def _study(one: Search, worker: int = 0) -> Any:
    """The journal's search; what is drawn next depends on the seed, the trials so far and the worker."""
    optuna = _optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(Path(one.folder) / JOURNAL)))
    there = optuna.get_all_study_summaries(storage)
    seed = one.seed + 1_000_003 * worker + sum(study.n_trials for study in there)
    with _quiet():
        if one.method == "grid":
            cuts = {
                key: space.cuts() if isinstance(space, Range) else list(space)
                for key, space in one.space.items()
            }
            sampler: Any = optuna.samplers.GridSampler(cuts, seed=one.seed)
        elif one.method == "random":
            sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
        return optuna.create_study(
            storage=storage,
            sampler=sampler,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARM),
            study_name="search",
            direction="maximize",
            load_if_exists=True,
        )


def _grid_size(space: Mapping[str, Any]) -> int:
    size = 1
    for one in space.values():
        size *= len(one.cuts() if isinstance(one, Range) else one)
    return size


def _same(folder: Path, one: Search) -> None:
    """InputError where the folder's journal is of another search."""
    space = {key: repr(value) for key, value in one.space.items()}
    data = [int(one.train.items.sum()), len(one.train.items)]
    told = json.dumps([one.model, one.method, one.primary, space, data, one.seed])
    path = folder / "search.json"
    if path.exists() and path.read_text(encoding="utf-8") != told:
        raise InputError(
            "another search (model, method, space, seed or data) was begun here",
            where=str(folder),
            next="use another folder, or remove this one to begin anew",
        )
    write_bytes(path, told.encode())


def _on_ray(one: Search, workers: int, address: str) -> None:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise NotReady("Ray is not installed", next="pip install 'shopkeeper[cluster]'") from error
    began = not ray.is_initialized()
    if began:
        ray.init(
            address=None if address == "auto" else address,
            num_cpus=workers if address == "auto" else None,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        lent = ray.put(one)
        work: Any = ray.remote(num_cpus=1, max_retries=0)(_work)
        ray.get([work.remote(lent, place) for place in range(workers)])
    finally:
        if began:
            ray.shutdown()


def _optuna() -> Any:
    try:
        return importlib.import_module("optuna")
    except ModuleNotFoundError as error:
        raise NotReady(
            "Optuna is not installed", where="tune", next="pip install 'shopkeeper[tune]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Optuna says of every trial, and of parts that it calls experimental."""
    optuna = _optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return _number(text)
    except ValueError:
        return text
