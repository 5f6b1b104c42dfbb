"""The server: one or several worker processes on one port, stopped gracefully by SIGTERM."""

import errno
import gc
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from shopkeeper.errors import InputError, NotReady
from shopkeeper.governance.clients import Clients, may_bind

GRACE_SECONDS = 20  # requests under way may finish within this after SIGTERM
_FOLDER = "SHOPKEEPER_SERVE_FOLDER"
_HOST = "SHOPKEEPER_SERVE_HOST"
_LOG = "SHOPKEEPER_SERVE_LOG_REQUESTS"


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8800,
    workers: int = 1,
    *,
    log_requests: bool = False,
) -> None:
    """Serve the workspace in `folder` until SIGTERM or Ctrl-C.

    Raises:
        InputError: the port is taken or may not be used, or the address is not loopback and no
            API key exists.
    """
    with Clients.of(folder) as clients:
        may_bind(host, clients)
    check_port(host, port)
    os.environ[_FOLDER] = str(folder.resolve())
    os.environ[_HOST] = host
    os.environ[_LOG] = "1" if log_requests else ""
    with _shared_counts(workers):
        uvicorn.run(
            "shopkeeper.api.server:app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            access_log=False,  # edge.py logs, without what people searched for
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=64 * 1024,
        )


def app() -> FastAPI:
    """One worker's app, for the workspace named by the environment (set by `serve`)."""
    from shopkeeper.api.app import create_app
    from shopkeeper.shop import Shop

    configure_logs()
    folder = Path(os.environ[_FOLDER])
    shop = Shop.open(folder)
    made = create_app(
        shop,
        clients=Clients.of(folder),
        host=os.environ[_HOST],
        log_requests=bool(os.environ[_LOG]),
    )
    with suppress(NotReady):  # /readyz tells
        shop.service.health()  # the release is opened now, not by the first request
    gc.collect()
    gc.freeze()  # or looking through a quarter of a million objects would halt requests for 0.1 s
    return made


def check_port(host: str, port: int) -> None:
    """InputError when nothing can listen on `host`:`port`, with the reason and the next step."""
    where = f"{host}:{port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise InputError(f"no such address: {error.strerror}", where=where) from error
    except OSError as error:
        following = {
            errno.EADDRINUSE: f"stop what listens there, or take another: --port {port + 1}",
            errno.EACCES: "ports below 1024 need root; take another: --port 8800",
            errno.EADDRNOTAVAIL: "this machine has no such address; --host 127.0.0.1 always works",
        }
        raise InputError(
            f"cannot listen here: {error.strerror}",
            where=where,
            next=following.get(error.errno or 0, "take another with --host and --port"),
        ) from error


def configure_logs() -> None:
    """One JSON object a line on stderr, ours and uvicorn's."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(ensure_ascii=False)],
        logger_factory=structlog.WriteLoggerFactory(file=sys.__stderr__),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False


@contextmanager
def _shared_counts(workers: int) -> Iterator[None]:
    """With several workers, a folder in which prometheus-client adds their counts up."""
    if workers < 2:
        yield
        return
    folder = tempfile.mkdtemp(prefix="shopkeeper-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield
    finally:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
        shutil.rmtree(folder, ignore_errors=True)
