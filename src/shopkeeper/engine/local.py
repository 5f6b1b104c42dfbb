"""Workers that are processes of this machine: `engine = "local"`, `workers` above 1.

Each is an interpreter of its own (`engine.worker`) at the other end of a socket. Forking is no
choice beside Polars' threads, and the standard pools give up all their work when one process dies;
here its bucket is handed to another. Workers end when the socket does, so none outlives a kill -9.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from shopkeeper.engine.kernels import (
    AHEAD,
    TRIES,
    Done,
    Kernel,
    R,
    S,
    T,
    given_up,
    threads,
)


class Worker:
    """One process, and the task it is at; SQL that people type is answered in one, too."""

    def __init__(self, polars_threads: int) -> None:
        self.connection, theirs = Pipe()
        command = [sys.executable, "-m", "shopkeeper.engine.worker", str(theirs.fileno())]
        environment = {**os.environ, "POLARS_MAX_THREADS": str(polars_threads)}
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment
        )
        theirs.close()
        self.connection.send(sys.path)
        self.at: tuple[int, Any, int] | None = None  # number, task, which try
        self.begun: bytes | None = None  # the map it knows kernel and shared values of

    def do(self, begin: bytes, number: int, task: Any, tries: int) -> None:
        """Hand it a task. OSError: it is dead."""
        self.at = number, task, tries
        if self.begun is not begin:
            self.connection.send_bytes(begin)
            self.begun = begin
        self.connection.send(("task", task))

    def end(self) -> int:
        """Stop it, whatever it is at; its exit status."""
        self.connection.close()
        if self.at is not None:
            self.process.kill()
        return self.process.wait()


class LocalDriver:
    """`workers` processes, each with its share of the cores."""

    name = "local"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._workers: list[Worker] = []

    def map(self, kernel: Kernel[S, T, R], shared: S, tasks: Iterable[T]) -> Iterator[Done[R]]:
        begin = pickle.dumps(("begin", kernel, shared), protocol=pickle.HIGHEST_PROTOCOL)
        coming = iter(enumerate(tasks))
        again: list[tuple[int, Any, int]] = []  # tasks of workers that died
        done: dict[int, Done[R]] = {}
        due, more = 0, True
        try:
            while True:
                while due in done:
                    yield done.pop(due)
                    due += 1
                # what is tried again is what the others wait for: never put it off
                while again or (more and len(done) < AHEAD * self.workers):
                    worker = self._idle()
                    if worker is None:
                        break
                    if again:
                        number, task, tries = again.pop()
                    elif (following := next(coming, None)) is not None:
                        (number, task), tries = following, 1
                    else:
                        more = False
                        break
                    try:
                        worker.do(begin, number, task, tries)
                    except OSError:
                        again.append(self._lost(worker))
                busy = {w.connection: w for w in self._workers if w.at is not None}
                if not busy:
                    if not again and not done:
                        return
                    continue
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    worker = busy[ready]
                    try:
                        state, told = ready.recv()
                    except (EOFError, OSError):
                        again.append(self._lost(worker))
                        continue
                    assert worker.at is not None
                    number, _, tries = worker.at
                    worker.at = None
                    if state == "failed":
                        raise told
                    value, cpu_seconds, peak_rss_mb = told
                    done[number] = Done(value, cpu_seconds, peak_rss_mb, tries)
        finally:
            for worker in [w for w in self._workers if w.at is not None]:
                self._workers.remove(worker)
                worker.end()

    def _idle(self) -> Worker | None:
        """A worker without a task, a new one if there may be more; None where all are busy."""
        for worker in self._workers:
            if worker.at is None:
                return worker
        if len(self._workers) == self.workers:
            return None
        self._workers.append(Worker(threads(self.workers)))
        return self._workers[-1]

    def _lost(self, worker: Worker) -> tuple[int, Any, int]:
        """Bury a worker; its task, to be tried again. SourceError: that was the last try."""
        assert worker.at is not None
        number, task, tries = worker.at
        self._workers.remove(worker)
        status = worker.end()
        if tries == TRIES:
            raise given_up(task, f"signal {-status}" if status < 0 else f"exit status {status}")
        return number, task, tries + 1

    def close(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()
