"""Workers that are Ray tasks: `engine = "ray"` (this machine, or the cluster that RAY_ADDRESS names)
or `engine = "ray://host:port"` (a cluster, through its Ray Client port).

Workers read and write the lake themselves, so every node must see the workspace at the same path
(one machine, or a shared file system) and run the same Shopkeeper; both are checked by every task.
Ray's own retries are off: a lost worker or node is seen here, counted, and its bucket alone goes out
again.
"""

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shopkeeper.assets.provenance import code_digest
from shopkeeper.engine.kernels import (
    AHEAD,
    TRIES,
    Done,
    Kernel,
    R,
    S,
    T,
    attempt,
    given_up,
)
from shopkeeper.errors import InputError, SourceError

STORE_BYTES = 200 << 20  # of the object store of a Ray started here: what travels is small


class RayDriver:
    """At most `workers` Ray tasks at a time, one CPU each."""

    name = "ray"

    def __init__(self, address: str, workers: int, root: Path) -> None:
        if find_spec("ray") is None:
            raise InputError(
                f'engine = "{address}", and Ray is not installed',
                where="shop.toml",
                next='pip install "shopkeeper[cluster]", or write engine = "local"',
            )
        self.address = address
        self.workers = workers
        self.root = root
        self._began: bool | None = None  # whether Ray was begun here; None: not yet looked

    def map(self, kernel: Kernel[S, T, R], shared: S, tasks: Iterable[T]) -> Iterator[Done[R]]:
        import ray
        from ray.exceptions import RayError, RayTaskError

        self._begin()
        remote: Any = ray.remote(num_cpus=1, max_retries=0)(on_node)
        here = str(self.root), kernel.__module__, code_digest(kernel.__module__)
        lent = ray.put(shared)
        coming = iter(enumerate(tasks))
        at: dict[Any, tuple[int, Any, int]] = {}  # reference -> number, task, which try
        done: dict[int, Done[R]] = {}
        due, more = 0, True
        try:
            while True:
                while due in done:
                    yield done.pop(due)
                    due += 1
                while more and len(at) < self.workers and len(done) < AHEAD * self.workers:
                    following = next(coming, None)
                    if following is None:
                        more = False
                    else:
                        number, task = following
                        at[remote.remote(here, kernel, lent, task)] = number, task, 1
                if not at:
                    return
                ready, _ = ray.wait(list(at), num_returns=1)
                number, task, tries = at.pop(ready[0])
                try:
                    told = ray.get(ready[0])
                except RayTaskError as error:
                    raise error.cause from None
                except RayError as error:  # its worker or its node is gone
                    if tries == TRIES:
                        raise given_up(task, type(error).__name__) from error
                    at[remote.remote(here, kernel, lent, task)] = number, task, tries + 1
                    continue
                done[number] = Done(told.value, told.cpu_seconds, told.peak_rss_mb, tries)
        finally:
            for reference in at:
                ray.cancel(reference, force=True)

    def _begin(self) -> None:
        """Connect, unless this process is connected already."""
        import ray

        if self._began is not None:
            return
        self._began = not ray.is_initialized()
        if not self._began:
            return
        environment = {"POLARS_MAX_THREADS": "1"}  # a task has one CPU
        more: dict[str, Any] = {}
        if self.address != "ray":
            _listening(self.address)
            more["address"] = self.address
        elif "RAY_ADDRESS" not in os.environ:
            more |= {"num_cpus": self.workers, "object_store_memory": STORE_BYTES}
            more |= {"include_dashboard": False}
        for left in reversed(range(TRIES)):
            try:
                ray.init(
                    **more,
                    runtime_env={"env_vars": environment},
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
                return
            except (ConnectionError, RuntimeError, TimeoutError, ImportError) as error:
                # a busy head may fail to start this client's server in time; the next try finds it
                if left and isinstance(error, ConnectionAbortedError):
                    continue
                where = os.environ.get("RAY_ADDRESS", "ray")
                where = self.address if self.address != "ray" else where
                raise _silent(where, error) from error

    def close(self) -> None:
        """Leave Ray; one that was started here ends."""
        if self._began:
            import ray

            ray.shutdown()
        self._began = None


def _listening(address: str) -> None:
    """SourceError where nobody listens at ray://host:port; Ray itself waits half a minute for it."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise _silent(address, error) from error


def _silent(where: str, error: Exception) -> SourceError:
    return SourceError(
        f"no Ray answers: {str(error).splitlines()[0][:200]}",
        where=where,
        next='start it with: ray start --head, or write engine = "local"',
        retryable=True,
    )


def on_node(
    here: tuple[str, str, str], kernel: Kernel[Any, Any, R], shared: Any, task: Any
) -> Done[R]:
    """`attempt` on whatever node this is, which must see the store and run the same code."""
    root, module, code = here
    node = socket.gethostname()
    if not Path(root).is_dir():
        raise InputError(
            f"node {node} does not see the workspace",
            where=root,
            next="put it on a file system that every node mounts at this path",
        )
    if code_digest(module) != code:
        raise InputError(
            f"node {node} runs another Shopkeeper",
            where=module,
            next="install the same version on every node, then run again",
        )
    return attempt(kernel, shared, task)
