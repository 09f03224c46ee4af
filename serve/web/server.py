"""A listening socket, and a uvicorn server that ends with exit code 0 when it is asked to."""

import errno
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from gensynth.errors import OutputError, UsageError
from gensynth_serve.web.connections import limited_protocol, most_connections

GRACE_SECONDS = 2  # for streams that never end by themselves
# Connections accepted at once, before any of them can be counted.
BACKLOG = 100


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OutputError: the port is in use or not allowed.
        UsageError: there is no such address.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(f"cannot listen on {host}, port {port}: {error}.") from error
    listening = socket.socket(family, kind, proto)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # to restart at once
    try:
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise OutputError(_why_not(host, port, error)) from error
    return listening


def run(app: FastAPI, listening: socket.socket, what: str, host: str) -> None:
    """Serves until SIGINT or SIGTERM. Prints one line when ready: what, and where."""
    where = f"[{host}]" if ":" in host else host
    ready = f"{what} at http://{where}:{listening.getsockname()[1]}  (Ctrl-C stops)"
    config = uvicorn.Config(
        app,
        http=limited_protocol(most_connections()),
        ws="none",  # the page needs none, and they would escape the limits
        backlog=BACKLOG,
        log_level="error",  # strangers can cause any number of warnings
        proxy_headers=False,  # web/access.py knows whom to believe
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    with _signals_that_end_quietly():
        _Server(config, ready).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: str):
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self.ready, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # First, so that the streams of running jobs end by themselves.
        self.config.app.state.engine.close()
        await super().shutdown(sockets)


@contextmanager
def _signals_that_end_quietly() -> Iterator[None]:
    """Uvicorn raises the signal that ended it once more; here that does nothing."""
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: None) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _why_not(host: str, port: int, error: OSError) -> str:
    other = port + 1 if port < 65535 else 7860
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use. "
            f"Stop the other program or choose another: --port {other}"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs the rights of an administrator. Choose another: --port 7860"
    return f"cannot listen on {host}, port {port}: {error.strerror}. Choose another --host."
