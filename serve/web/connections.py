"""Connections within limits: how many, and how long until a request is there."""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # from the start of a connection, or the last answer, to the end of a head
READ_SECONDS = 60.0  # for a client that stopped reading its answer
MOST = 1000


def most_connections() -> int:
    """How many connections fit beside the other files of the process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft * 3 // 4)


def limited_protocol(
    most: int, head_seconds: float = HEAD_SECONDS, read_seconds: float = READ_SECONDS
) -> type[H11Protocol]:
    """Uvicorn's protocol for a server that holds at most this many connections.

    A connection beyond them takes the place of the one that has waited longest without a whole
    request, so that many of those do not keep visitors out.
    """
    waiting: dict[H11Protocol, asyncio.TimerHandle] = {}  # in the order in which they began to

    class Limited(H11Protocol):
        stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()
            if len(self.connections) > most:
                longest = next(iter(waiting))
                waiting.pop(longest).cancel()
                longest.transport.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.response_complete:  # else the next request was there already
                self._stop_waiting()
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.stalled = self.loop.call_later(read_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.stalled is not None:
                self.stalled.cancel()
                self.stalled = None

        def _wait(self) -> None:
            waiting[self] = self.loop.call_later(head_seconds, self.transport.abort)

        def _stop_waiting(self) -> None:
            timer = waiting.pop(self, None)
            if timer is not None:
                timer.cancel()

    return Limited
