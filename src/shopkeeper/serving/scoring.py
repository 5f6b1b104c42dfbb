"""Asking models within a deadline: one that is slow, broken or missing costs its own voice only."""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shopkeeper.features.sequences import Floats, Sequences
from shopkeeper.models.protocol import Model

FAILURES = 3  # in a row, before a model is left alone for a while
PAUSE_S = 30.0


@dataclass
class Outcome:
    """What came back in time."""

    scores: dict[str, Floats] = field(default_factory=dict)  # question -> (B, M)
    failed: dict[str, str] = field(default_factory=dict)  # model -> why


@dataclass(frozen=True)
class Question:
    """`histories` for one model; `name` tells two questions to the same model apart."""

    name: str
    model: str
    histories: Sequences


class Scorer:
    """Runs models in threads of its own, so that a caller can stop waiting.

    A model that did not come back is not asked again until it has; one that failed `FAILURES` times
    in a row rests for `PAUSE_S`.

    Args:
        at_once: askers that may compute at the same time; others wait their turn, and their
            deadline starts when it comes.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        deadline_s: float,
        at_once: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.models = models
        self.deadline_s = deadline_s
        self._turns = threading.BoundedSemaphore(at_once)
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._stuck: set[str] = set()
        self._failures: dict[str, int] = {}
        self._rests_until: dict[str, float] = {}
        self._closed = False

    def ask(self, questions: Sequence[Question]) -> Outcome:
        """Scores of every model that answered in time, and why the others did not."""
        outcome = Outcome()
        usable: list[Question] = []
        with self._lock:
            now = self._clock()
            for question in questions:
                if question.model not in self.models:
                    outcome.failed[question.model] = "not in the release"
                elif question.model in self._stuck:
                    outcome.failed[question.model] = "has not come back from an earlier question"
                elif self._rests_until.get(question.model, 0.0) > now:
                    outcome.failed[question.model] = "rests after repeated failures"
                else:
                    usable.append(question)
        if not usable:
            return outcome
        with self._turns:
            job = _Job(self, usable)
            self._worker().give(job)
            job.wait(self.deadline_s)
        for name, scores in job.scores.items():
            outcome.scores[name] = scores
        outcome.failed.update(job.failed)
        return outcome

    def _worker(self) -> "_Worker":
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Worker(self._back)

    def _back(self, worker: "_Worker") -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
                return
        worker.give(None)

    def note(self, model: str, *, failed: bool, stuck: bool = False) -> None:
        """Remember how a model did."""
        if not failed and model not in self._failures:
            return
        with self._lock:
            if not failed:
                self._failures.pop(model, None)
                return
            if stuck:
                self._stuck.add(model)
            count = self._failures[model] = self._failures.get(model, 0) + 1
            if count >= FAILURES:
                self._rests_until[model] = self._clock() + PAUSE_S

    def unstick(self, model: str) -> None:
        """A model that was given up on has come back."""
        with self._lock:
            self._stuck.discard(model)

    def close(self) -> None:
        """Let threads end, busy ones when they are done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.give(None)


class _Job:
    def __init__(self, scorer: Scorer, questions: Sequence[Question]) -> None:
        self.scorer = scorer
        self.questions = questions
        self.scores: dict[str, Floats] = {}
        self.failed: dict[str, str] = {}
        self._done = threading.Lock()
        self._done.acquire()
        self._guard = threading.Lock()
        self._over = False
        self._current: str | None = None

    def run(self) -> None:
        for question in self.questions:
            with self._guard:
                if self._over:
                    break
                self._current = question.model
            scores, why = None, ""
            try:
                scores = self.scorer.models[question.model].scores(question.histories)
                if np.isnan(scores).any():
                    scores, why = None, "scores that are not numbers"
            except Exception as error:  # a model may be a user's own: whatever it raises
                why = f"{type(error).__name__}: {error}"
            with self._guard:
                self._current = None
                if self._over:
                    self.scorer.unstick(question.model)
                    break
                if scores is None:
                    self.failed[question.model] = why
                else:
                    self.scores[question.name] = scores
            self.scorer.note(question.model, failed=scores is None)
        self._done.release()

    def wait(self, seconds: float) -> None:
        if self._done.acquire(timeout=seconds):
            return
        with self._guard:
            self._over = True
            for question in self.questions:
                if question.name not in self.scores and question.model not in self.failed:
                    self.failed[question.model] = f"no answer within {seconds * 1000:.0f} ms"
            if self._current is not None:
                self.scorer.note(self._current, failed=True, stuck=True)


class _Worker:
    def __init__(self, back: "Callable[[_Worker], None]") -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._back = back
        threading.Thread(target=self._loop, name="models", daemon=True).start()

    def give(self, job: _Job | None) -> None:
        self._jobs.put(job)

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            self._back(self)
