"""A calibrated blend of any models, rules included, taken by name; never worse than its best member.

Each member's scores become probabilities (sharpness, mixture with popularity: calibration.py; of the
scores or of their logarithm, whichever makes held-out events likelier), and these are pooled

    log      sum of w log p      Genest & Zidek, "Combining Probability Distributions", 1986
    linear   log sum of w p

Weights and form are chosen by coordinate ascent on one half of the validation examples. The blend is
kept where it beats the best single member on the other half and on the whole validation; otherwise
the model is that member, unchanged. Searching looks at the `POOL` best items of every member only;
what decides looks at the whole catalogue.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from shopkeeper.errors import InputError
from shopkeeper.features.sequences import Examples, Floats, Ints, Sequences
from shopkeeper.models import calibration, weights
from shopkeeper.models.calibration import Calibration
from shopkeeper.models.options import as_chosen, configure
from shopkeeper.models.protocol import Model, TrainingData, top

RULES = (
    "sequence_knn",
    "item_knn",
    "ease",
    "popularity",
)  # members where none are named or trained
STEPS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # weights tried of one member
ROUNDS = 3
POOL = 100  # best items of each member that the search looks at
CELLS = 8_000_000  # of a score matrix held at a time
FORMS = ("log", "linear")
SMALLEST = 1e-12  # a probability below this counts as this


@dataclass(frozen=True)
class Config:
    members: tuple[str, ...] = ()  # names of models; none: all that the shop trains
    examples: int = 2000  # of the validation, that weights are chosen on
    # what validation chose; a fit that is given these repeats it and chooses nothing
    form: str = ""  # log or linear
    weights: tuple[float, ...] = ()  # of `members`, in their order
    sharpness: tuple[float, ...] = ()  # each member's calibration
    mix: tuple[float, ...] = ()
    logarithm: tuple[bool, ...] = ()  # whether the logarithm of a member's scores is calibrated


@dataclass(frozen=True)
class Voice:
    """A member, its weight, and how its scores become probabilities."""

    name: str
    model: Model
    weight: float
    calibration: Calibration
    logarithm: bool

    def logits(self, scores: Floats) -> Floats:
        return _logits(scores, self.logarithm)


class Ensemble:
    name: ClassVar[str] = "ensemble"
    takes_members: ClassVar[bool] = True

    def __init__(self, config: Config = Config()) -> None:
        self.config = config
        self.card: dict[str, Any] = {}
        self.shares: Floats = np.zeros(0, dtype=np.float32)  # (M,)
        self.calibration = Calibration()
        self.form = "log"
        self.voices: list[Voice] = []

    def fit(self, data: TrainingData) -> None:
        self.config = config = configure(Config, self.name, data.settings)
        names = config.members or tuple(data.members) or RULES
        if self.name in names:
            raise InputError(
                "an ensemble cannot be a member of itself",
                where="shop.toml: training.options.ensemble.members",
            )
        counts = np.bincount(data.sequences.items, minlength=len(data.items))
        self.shares = calibration.shares(counts)
        if config.weights:
            self._repeat(names, data)
            return
        if data.validation is not None:
            voices, asked, told = _fitted(names, data), data.validation, "validation"
        else:
            shorter, users = calibration.hold_out(data.sequences, data.seed)
            ends = data.sequences.offsets[1:][users]
            asked = Examples(
                shorter.take(users),
                np.arange(len(users) + 1, dtype=np.int64),
                data.sequences.items[ends - 1],
            )
            voices, told = _fitted(names, replace(data, sequences=shorter)), "held-out events"
        self._choose(voices, asked, data, told)
        if data.validation is None:  # members that were fitted here have not seen these events yet
            kept = [voice.name for voice in self.voices if voice.name not in data.members]
            whole = _fitted(kept, data)
            self.voices = [replace(v, model=whole.get(v.name, v.model)) for v in self.voices]

    def _repeat(self, names: Sequence[str], data: TrainingData) -> None:
        """The blend that validation chose, of members as they are now."""
        config = self.config
        told = (config.weights, config.sharpness, config.mix, config.logarithm)
        if config.form not in FORMS or any(len(one) != len(names) for one in told):
            raise InputError(
                f"form is {config.form!r} and weights, sharpness, mix and logarithm have "
                f"{[len(one) for one in told]} values for {len(names)} members",
                where="shop.toml: training.options.ensemble",
                next="leave them out: validation chooses them",
            )
        self.form = config.form
        kept = [place for place, weight in enumerate(config.weights) if weight > 0]
        fitted = _fitted([names[place] for place in kept], data)
        self.voices = [
            Voice(
                names[place],
                fitted[names[place]],
                config.weights[place],
                Calibration(config.sharpness[place], config.mix[place]),
                config.logarithm[place],
            )
            for place in kept
        ]
        self.card = self._card(data, {"why": "repeats what validation chose"})

    def _choose(
        self, members: Mapping[str, Model], asked: Examples, data: TrainingData, told: str
    ) -> None:
        """Calibrate the members, choose form and weights, and keep the blend only where it wins."""
        rng = np.random.default_rng(data.seed)
        rows = np.sort(rng.permutation(len(asked))[: self.config.examples])
        some = asked.histories.take(rows)
        lengths = np.diff(asked.target_offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        starts = np.repeat(asked.target_offsets[:-1][rows] - offsets[:-1], lengths)
        targets = asked.target_items[np.arange(offsets[-1]) + starts]
        few = np.sort(rng.permutation(len(rows))[: max(16, min(500, CELLS // len(self.shares)))])
        voices = [
            _calibrated(name, model, some.take(few), targets[offsets[:-1][few]], self.shares)
            for name, model in members.items()
        ]
        pool = _Pool.of(voices, some, offsets, targets, self.shares, data)
        first = np.arange(len(rows)) % 2 == 0
        alone = np.eye(len(voices))
        singles = [pool.reached("log", one) for one in alone]
        best = max(range(len(voices)), key=lambda j: (singles[j].mean(), -j))
        found = [
            _climb(lambda w, form=form: float(pool.reached(form, w)[first].mean()), start)  # type: ignore[misc]
            for form in FORMS
            for start in (alone[best], np.full(len(voices), 1.0 / len(voices)))
        ]
        forms = [form for form in FORMS for _ in range(2)]
        which = max(range(len(found)), key=lambda i: (found[i][0], -i))
        form, chosen = forms[which], found[which][1]
        blended = pool.reached(form, chosen)
        gain = float((blended - singles[best])[~first].mean()) if (~first).any() else 0.0
        table = {
            voices[j].name: {
                "alone": round(float(singles[j].mean()), 6),
                "weight": round(float(chosen[j]), 4),
            }
            for j in range(len(voices))
        }
        choice = {
            "on": told,
            "examples": len(rows),
            "primary": data.primary,
            "form": form,
            "members": table,
            "blend": round(float(blended.mean()), 6),
            "gain_on_the_other_half": round(gain, 6),
            "best_member": voices[best].name,
        }
        self.form = form
        self.voices = [
            replace(voice, weight=float(chosen[j])) for j, voice in enumerate(voices) if chosen[j]
        ]
        why = "it beats its best member on the half of the examples it was not chosen on"
        single = replace(voices[best], weight=1.0)
        if len(self.voices) > 1 and gain <= 0:
            self.voices = [single]
            why = f"the blend did not beat {single.name} on the examples it was not chosen on"
        elif len(self.voices) == 1:
            self.voices = [single]
            why = f"no blend beat {single.name}"
        if len(self.voices) > 1 and data.validate is not None:
            reached = data.validate(self)[data.primary]
            of_best = data.validate(single.model)[data.primary]
            choice |= {"on_validation": {"blend": reached, single.name: of_best}}
            if reached < of_best:
                self.voices = [single]
                why = f"on the whole validation the blend is below {single.name}"
        scores = self.scores(some.take(few))
        self.calibration = calibration.fit(scores, targets[offsets[:-1][few]], self.shares)
        self.card = self._card(data, {"why": why, **choice})

    def _card(self, data: TrainingData, choice: dict[str, Any]) -> dict[str, Any]:
        members = [voice.name for voice in self.voices]
        repeat: dict[str, Any] = {
            "members": members,
            "form": self.form,
            "weights": [voice.weight for voice in self.voices],
            "sharpness": [voice.calibration.sharpness for voice in self.voices],
            "mix": [voice.calibration.mix for voice in self.voices],
            "logarithm": [voice.logarithm for voice in self.voices],
        }
        options: dict[str, Any] = {self.name: repeat}
        for voice in self.voices:
            if voice.name not in data.members:  # fitted here: it has to be repeated here as well
                settings = as_chosen({}, voice.name, voice.model.card)
                options |= settings.get("options", {})
        return {
            "what": "a calibrated blend of " + ", ".join(members)
            if len(members) > 1
            else f"{members[0]} alone: no blend was better",
            "chosen": asdict(self.config) | repeat,
            "choice": choice,
            "repeat": options,
            "calibration": self.calibration.as_dict(),
            "members": {voice.name: voice.model.card for voice in self.voices},
            "parameters": sum(int(v.model.card.get("parameters", 0)) for v in self.voices),
            "seed": data.seed,
        }

    def scores(self, histories: Sequences) -> Floats:
        if len(self.voices) == 1:
            return self.voices[0].model.scores(histories)
        out = np.empty((len(histories), len(self.shares)), dtype=np.float32)
        step = max(1, CELLS // max(1, len(self.shares)))
        for start in range(0, len(histories), step):
            rows = np.arange(start, min(start + step, len(histories)))
            part = histories.take(rows)
            pooled = np.zeros((len(rows), len(self.shares)), dtype=np.float32)
            for voice in self.voices:
                logits = voice.logits(voice.model.scores(part))
                likely = voice.calibration.probabilities(logits, self.shares)
                np.maximum(likely, SMALLEST, out=likely)
                pooled += np.float32(voice.weight) * (
                    np.log(likely, out=likely) if self.form == "log" else likely
                )
            out[rows] = pooled if self.form == "log" else np.log(pooled, out=pooled)
        return out

    def predict(self, histories: Sequences, items: npt.NDArray[np.int32]) -> Floats:
        if len(self.voices) == 1:
            return self.voices[0].model.predict(histories, items)
        out = np.empty(len(items), dtype=np.float32)
        step = max(1, CELLS // max(1, len(self.shares)))
        for start in range(0, len(items), step):
            rows = np.arange(start, min(start + step, len(items)))
            scores = self.scores(histories.take(rows))
            likely = self.calibration.probabilities(scores, self.shares)
            out[rows] = likely[np.arange(len(rows)), items[rows]]
        return out

    def save(self, folder: Path) -> None:
        from shopkeeper.models import registry  # which knows this file: by name, when it is needed

        told = []
        for place, voice in enumerate(self.voices):
            own = folder / "members" / str(place)
            own.mkdir(parents=True, exist_ok=True)
            registry.save(voice.model, own)
            told.append(
                {
                    "name": voice.name,
                    "weight": voice.weight,
                    "calibration": voice.calibration.as_dict(),
                    "logarithm": voice.logarithm,
                }
            )
        about = {
            "config": asdict(self.config),
            "calibration": self.calibration.as_dict(),
            "form": self.form,
            "members": told,
            "card": self.card,
        }
        weights.write(folder, {"shares": self.shares}, about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        from shopkeeper.models import registry

        arrays, about = weights.read(folder)
        config: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in about["config"].items()
        }
        model = cls(Config(**config))
        model.card, model.form = about["card"], about["form"]
        model.calibration = Calibration(**about["calibration"])
        model.shares = arrays["shares"]
        model.voices = [
            Voice(
                told["name"],
                registry.load(folder / "members" / str(place)),
                told["weight"],
                Calibration(**told["calibration"]),
                told["logarithm"],
            )
            for place, told in enumerate(about["members"])
        ]
        return model


@dataclass(frozen=True)
class _Pool:
    """What the search looks at: of each example the best items of every member, and its targets."""

    likely: list[Floats]  # of each member: (E, P) probabilities
    logs: list[Floats]  # their logarithms
    none: npt.NDArray[np.bool_]  # (E, P) no item, or one that is no candidate
    places: Ints  # (T,) where each target stands in its example's row
    owner: Ints  # (T,) its example
    lengths: Ints  # (E,) targets
    primary: str

    @classmethod
    def of(
        cls, voices: Sequence[Voice], histories: Sequences, offsets: Ints,
        targets: npt.NDArray[np.int32], shares: Floats, data: TrainingData,
    ) -> "_Pool":  # fmt: skip
        items, width = len(shares), min(POOL, len(shares))
        kept: list[list[Floats]] = [[] for _ in voices]
        places = np.full(len(targets), -1, dtype=np.int64)
        lengths = np.diff(offsets)
        step = max(1, CELLS // (items * len(voices)))
        most = width * len(voices) + int(lengths.max(initial=1))
        for start in range(0, len(histories), step):
            rows = np.arange(start, min(start + step, len(histories)))
            part = histories.take(rows)
            every = []
            for voice in voices:
                logits = voice.logits(voice.model.scores(part))
                likely = voice.calibration.probabilities(logits, shares)
                np.maximum(likely, SMALLEST, out=likely)
                if data.exclude_seen:
                    owner = np.repeat(np.arange(len(rows)), part.lengths)
                    likely[owner, part.items] = 0.0
                every.append(likely)
            best = np.concatenate([top(likely, width)[0] for likely in every], axis=1)
            chosen = np.full((len(rows), most), -1, dtype=np.int64)
            for row in range(len(rows)):
                at = slice(int(offsets[start + row]), int(offsets[start + row + 1]))
                found = np.union1d(best[row][best[row] >= 0], targets[at])
                chosen[row, : len(found)] = found
                places[at] = np.searchsorted(found, targets[at])
            for own, likely in zip(kept, every, strict=True):
                there = np.take_along_axis(likely, np.maximum(chosen, 0), axis=1)
                own.append(np.where(chosen >= 0, there, np.float32(0.0)))
        owner = np.repeat(np.arange(len(histories)), lengths)
        whole = [np.concatenate(own) for own in kept]
        none = whole[0] == 0.0
        logs = [np.log(np.maximum(one, SMALLEST)) for one in whole]
        return cls(whole, logs, none, places, owner, lengths, data.primary)

    def reached(self, form: str, chosen: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(E,) the primary metric of each example under these weights."""
        told = self.logs if form == "log" else self.likely
        pooled = np.zeros_like(told[0])
        for weight, one in zip(chosen, told, strict=True):
            if weight:
                pooled += np.float32(weight) * one
        pooled[self.none] = -np.inf
        own = pooled[self.owner, self.places]
        name, depth = _named(self.primary)
        best = -np.partition(-pooled, min(depth, pooled.shape[1] - 1), axis=1)[:, : depth + 1]
        rank = (best[self.owner] >= own[:, None]).sum(axis=1).astype(np.float64)  # ties: against
        rank[np.isneginf(own) | (rank > depth)] = np.inf
        return _metric(name, depth, rank, self.owner, self.lengths)


def _named(primary: str) -> tuple[str, int]:
    """ "NDCG@10" -> ("NDCG", 10)."""
    name, _, k = primary.partition("@")
    return name, int(k) if k.isdigit() else 10


def _metric(
    name: str, depth: int, rank: npt.NDArray[np.float64], owner: Ints, lengths: Ints
) -> npt.NDArray[np.float64]:
    """(E,) NDCG@K, MRR@K or HR@K from the targets' ranks; another metric counts as NDCG."""
    out = np.zeros(len(lengths))
    if name in ("MRR", "HR"):
        best = np.full(len(lengths), np.inf)
        np.minimum.at(best, owner, rank)
        within = best <= depth
        out[within] = 1.0 if name == "HR" else 1.0 / best[within]
        return out
    within = rank <= depth
    np.add.at(out, owner[within], 1.0 / np.log2(rank[within] + 1.0))
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, depth + 2)))
    return np.asarray(out / ideal[np.minimum(lengths, depth) - 1])


def _climb(
    value: Callable[[npt.NDArray[np.float64]], float], start: npt.NDArray[np.float64]
) -> tuple[float, npt.NDArray[np.float64]]:
    """Coordinate ascent over STEPS: (what was reached, the weights)."""
    best, reached = start.copy(), value(start)
    for _ in range(ROUNDS):
        before = reached
        for place in range(len(best)):
            for step in STEPS:
                tried = best.copy()
                tried[place] = step
                if tried.sum() == 0 or step == best[place]:
                    continue
                if (got := value(tried)) > reached:
                    best, reached = tried, got
        if reached == before:
            break
    return reached, best / best.sum()


def _fitted(names: Sequence[str], data: TrainingData) -> dict[str, Model]:
    """The members: as handed over, else fitted here on the same data."""
    from shopkeeper.models import registry

    found: dict[str, Model] = {}
    for name in names:
        if name in data.members:
            found[name] = data.members[name]()
            continue
        found[name] = registry.resolve(name)()
        own = None if data.checkpoint is None else data.checkpoint / name.replace(":", ".")
        found[name].fit(replace(data, checkpoint=own))
    return found


def _logits(scores: Floats, logarithm: bool) -> Floats:
    if not logarithm:
        return scores
    return np.log(np.maximum(scores, 0.0) + 1e-4).astype(np.float32)


def _calibrated(
    name: str, model: Model, histories: Sequences, targets: npt.NDArray[np.int32], shares: Floats
) -> Voice:
    """The member with the calibration under which `targets` are likeliest."""
    scores = model.scores(histories)
    rows = np.arange(len(targets))
    best, found = -np.inf, Voice(name, model, 1.0, Calibration(), False)
    for logarithm in (False, True):
        logits = _logits(scores, logarithm)
        fitted = calibration.fit(logits, targets, shares)
        hit = fitted.probabilities(logits, shares)[rows, targets]
        likelihood = float(np.log(hit).mean()) if len(hit) else 0.0
        if likelihood > best:
            best, found = likelihood, Voice(name, model, 1.0, fitted, logarithm)
    return found
