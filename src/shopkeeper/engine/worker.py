"""One worker process of `engine.local`: does the tasks it is sent until the socket is closed."""

import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from shopkeeper.engine.kernels import attempt


def main(descriptor: int) -> None:
    """Serve the socket at `descriptor`: ("begin", kernel, shared) and ("task", task) come in,
    ("done", (value, cpu_seconds, peak_rss_mb)) and ("failed", error) go out."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is the coordinator's, who closes the socket
    connection: Connection[Any, Any] = Connection(descriptor)
    kernel: Any = None
    shared: Any = None
    try:
        sys.path[:] = connection.recv()
        while True:
            what, *told = connection.recv()
            if what == "begin":
                kernel, shared = told
                continue
            connection.send_bytes(_done(kernel, shared, told[0]))
    except (EOFError, ConnectionError):
        return


def _done(kernel: Any, shared: Any, task: Any) -> bytes:
    try:
        done = attempt(kernel, shared, task)
        return pickle.dumps(
            ("done", (done.value, done.cpu_seconds, done.peak_rss_mb)), pickle.HIGHEST_PROTOCOL
        )
    except Exception as error:
        error.add_note("in a worker:\n" + traceback.format_exc())
        try:
            told = pickle.dumps(("failed", error))
            pickle.loads(told)  # an error may go in and not come out
        except Exception:
            told = pickle.dumps(("failed", RuntimeError(traceback.format_exc())))
        return told


if __name__ == "__main__":
    main(int(sys.argv[1]))
